//! Why the index did not do what it was asked for. The one error type of this folder.
//!
//! Invariant: `Corrupt` and `Beyond` are never answers. Whoever asked goes to the source with the whole question.

use std::fmt;

use crate::base::error::{Code, Error};

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A table cannot be described like this.
    Schema {
        /// The column.
        column: String,
        /// What is accepted.
        because: &'static str,
    },
    /// A value of the source cannot be kept exactly. The data source stays with the source.
    Value {
        /// The column.
        column: String,
        /// What it held, and what is kept.
        because: &'static str,
    },
    /// A question that SQL would not understand either.
    Question {
        /// The argument or the column.
        field: String,
        /// What is accepted.
        because: String,
    },
    /// Bytes that were not written by this format, or are no longer what was written.
    Corrupt(&'static str),
    /// Only the source can answer this exactly: a sum of more than 38 digits, a float beyond its range, more distinct
    /// values than are counted in memory.
    Beyond {
        /// The column.
        column: String,
    },
    /// A frame held rows that its manifest did not announce: the generation must not be served.
    Scope,
}

impl Refused {
    pub(super) fn question(field: impl Into<String>, because: impl Into<String>) -> Self {
        Refused::Question { field: field.into(), because: because.into() }
    }

    pub(super) fn value(column: &str, because: &'static str) -> Self {
        Refused::Value { column: column.to_owned(), because }
    }

    /// Whether the source may be asked instead.
    pub fn source_may_answer(&self) -> bool {
        matches!(self, Refused::Corrupt(_) | Refused::Beyond { .. })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Schema { column, because } => {
                write!(out, "column {column} cannot be indexed: {because}")
            }
            Refused::Value { column, because } => {
                write!(out, "a value of column {column} cannot be kept exactly: {because}")
            }
            Refused::Question { field, because } => write!(out, "{field} is not accepted: {because}"),
            Refused::Corrupt(what) => write!(out, "stored analytics data cannot be read: {what}"),
            Refused::Beyond { column } => {
                write!(out, "column {column} holds more than can be answered exactly from memory")
            }
            Refused::Scope => write!(out, "stored analytics data holds rows that were not announced"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let (code, field) = match &refused {
            Refused::Schema { column, .. } | Refused::Value { column, .. } => (Code::Config, Some(column)),
            Refused::Question { field, .. } => (Code::InvalidArgument, Some(field)),
            Refused::Beyond { column } => (Code::InvalidArgument, Some(column)),
            Refused::Corrupt(_) | Refused::Scope => (Code::Internal, None),
        };
        let field = field.cloned().map(Into::into);
        Error { code, message: refused.to_string().into(), field, reason: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_field_and_says_who_can_help() {
        let error: Error = Refused::question("measure_value", "a number").into();
        assert_eq!((error.code, error.field.as_deref()), (Code::InvalidArgument, Some("measure_value")));
        assert_eq!(&*error.message, "measure_value is not accepted: a number");
        assert!(Refused::Corrupt("a checksum").source_may_answer());
        assert!(Refused::Beyond { column: "a".to_owned() }.source_may_answer());
        assert!(!Refused::Scope.source_may_answer(), "rows that were not announced are an alarm, not a miss");
    }
}
