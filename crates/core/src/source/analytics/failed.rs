//! Why there is no answer from the analytics database, and what that means for whoever asked.
//!
//! Invariant: a refusal that says something about a data source names its table; no error holds a value, a host or a name that
//! was not configured.

use crate::analytics::Refused;
use crate::base::error::{Code, Error};

use super::super::Source;
use super::DataSource;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The database, or the way to it.
    Database(sqlx::Error),
    /// The answer was not in the form that was asked for.
    Unreadable(&'static str),
    /// A value that cannot be kept, or an answer that is too large.
    Refused(Refused),
    /// Whoever wanted it does not any more.
    Stopped,
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Failed::Database(error)
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Failed::Refused(refused)
    }
}

/// An error that says all there is to say, or one whose meaning depends on what was asked.
pub(super) enum Failure {
    Known(Error),
    Unknown(Failed),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Known(error)
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Failure::Unknown(failed)
    }
}

impl Source {
    /// As everybody sees it.
    pub(super) fn analytics_error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Known(error) => error,
            Failure::Unknown(Failed::Database(error)) => self.failed_at(self.analytics_gate(), &error),
            Failure::Unknown(Failed::Unreadable(what)) => {
                self.telemetry.source_errors.up();
                Error::new(
                    Code::SourceUnavailable,
                    format!("the analytics database sent what cannot be read: {what}"),
                )
            }
            Failure::Unknown(Failed::Refused(refused)) => refused.into(),
            Failure::Unknown(Failed::Stopped) => Error::new(Code::Closed, "it was stopped before its end"),
        }
    }

    /// As `analytics_error`, where the database's refusal says something about the data source. What was described is forgotten
    /// then: the table is another one.
    pub(super) fn error_about(&self, of: &DataSource, failure: Failure) -> Error {
        let code = match &failure {
            Failure::Unknown(Failed::Database(sqlx::Error::Database(error))) => {
                error.code().unwrap_or_default()
            }
            _ => return self.analytics_error(failure),
        };
        let name = format!("{}.{}", of.table_schema, of.table);
        let message = match code.as_ref() {
            "42P01" | "3F000" => format!("the table {name} does not exist in the analytics database"),
            "42501" => {
                format!("the table {name} may not be read; grant SELECT on it and USAGE on its schema")
            }
            "42703" | "42804" | "42846" | "42883" => format!("the columns of {name} have changed; ask again"),
            _ => {
                // A value that does not fit its cast.
                if code.starts_with("22") {
                    self.forget_data_source(of.id);
                }
                return self.analytics_error(failure);
            }
        };
        self.telemetry.source_errors.up();
        self.analytics_gate().lock().answered(self.clock.now_ms());
        self.forget_data_source(of.id);
        Error {
            code: Code::Config,
            message: format!("data source {}: {message}", of.id).into(),
            field: Some("table_name".into()),
            reason: None,
        }
    }
}
