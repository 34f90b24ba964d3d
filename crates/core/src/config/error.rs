//! What is wrong with a configuration, in sentences that name the variable and the fix.
//!
//! Not a general error type: everything here becomes `E_CONFIG`.
//!
//! Invariant: a value is masked when the error is made, not when it is printed.

use std::fmt;

use super::raw::{Origin, Typed};
use super::secret::MASK;
use super::variables::Variable;

/// Longer values are cut: an error is read in a log line.
const SHOWN_CHARS: usize = 80;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The environment variable, or the path of an option that has none (`near.user_basic.mode`).
    pub variable: String,
    /// The option's name when the value came from an option.
    pub option: Option<String>,
    /// What was typed, fit to print; absent when there is nothing that may be shown.
    pub value: Option<String>,
    /// What would be accepted.
    pub accepted: String,
    /// What to do about it, whole sentences; may be empty.
    pub hint: String,
}

impl ConfigError {
    /// A value of `variable` that cannot be read.
    pub(crate) fn of(variable: &Variable, typed: &Typed, hint: impl Into<String>) -> Self {
        Self::conflict(variable, typed, variable.accepted(), hint)
    }

    /// A readable value of `variable` that does not go together with the others.
    pub(crate) fn conflict(
        variable: &Variable,
        typed: &Typed,
        accepted: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            variable: variable.name.to_owned(),
            option: (typed.origin == Origin::Option).then(|| variable.option.to_owned()),
            value: Some(shown(&typed.text, variable.secret)),
            accepted: accepted.into(),
            hint: hint.into(),
        }
    }

    /// Something inside an option that no variable stands for.
    pub(crate) fn option(
        path: impl Into<String>,
        value: Option<&str>,
        accepted: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let path = shown(&path.into(), false);
        Self {
            variable: path.clone(),
            option: Some(path),
            value: value.map(|text| shown(text, false)),
            accepted: accepted.into(),
            hint: hint.into(),
        }
    }
}

/// No accepted public value holds an `@`, but a URL pasted into the wrong variable does, and it has
/// a password in front of it.
fn shown(text: &str, secret: bool) -> String {
    if secret || text.contains('@') {
        return MASK.to_owned();
    }
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_path = self.option.as_deref() == Some(self.variable.as_str());
        if is_path {
            f.write_str("option ")?;
        }
        f.write_str(&self.variable)?;
        if let Some(value) = &self.value {
            write!(f, "=\"{value}\"")?;
        }
        if let Some(option) = self.option.as_deref().filter(|_| !is_path) {
            write!(f, " (option {option})")?;
        }
        write!(f, " is not accepted: {}.", self.accepted)?;
        if !self.hint.is_empty() {
            write!(f, " {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Every mistake found; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_value_is_fit_to_print() {
        for (text, secret, expected) in [
            ("70000", false, "70000"),
            ("70000", true, "***"),
            ("redis://:pw@cache", false, "***"),
            ("a\nb\"c", false, "a\\nb\\\"c"),
            (&"x".repeat(80), false, &"x".repeat(80)),
            (&"é".repeat(81), false, &format!("{}...", "é".repeat(80))),
        ] {
            assert_eq!(shown(text, secret), expected);
        }
    }
}
