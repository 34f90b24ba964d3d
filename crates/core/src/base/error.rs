//! The one error type that leaves the engine. Layers below have their own enums and convert here.
//!
//! Invariant: `code` is stable and tested against the list of the TypeScript surface.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What went wrong, as a stable code that callers switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// A configuration value is not accepted.
    Config,
    /// The source could not be asked: unreachable, overloaded, or not configured.
    SourceUnavailable,
    /// The store could not be asked and no other tier may answer.
    StoreUnavailable,
    /// The call's time budget ended first.
    Deadline,
    /// An argument is not accepted; `field` names it.
    InvalidArgument,
    /// The scope does not allow it.
    Scope,
    /// What was asked for does not exist.
    NotFound,
    /// The call contradicts the current state.
    Conflict,
    /// A rate limit refused the call.
    RateLimited,
    /// The engine is closed or closing.
    Closed,
    /// A bounded queue is full; nothing was started.
    Overloaded,
    /// A defect of this package.
    Internal,
}

impl Code {
    /// Every code with its text, for the test that compares both languages.
    pub const ALL: [Code; 12] = [
        Code::Config,
        Code::SourceUnavailable,
        Code::StoreUnavailable,
        Code::Deadline,
        Code::InvalidArgument,
        Code::Scope,
        Code::NotFound,
        Code::Conflict,
        Code::RateLimited,
        Code::Closed,
        Code::Overloaded,
        Code::Internal,
    ];

    /// The text users see as `error.code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Config => "E_CONFIG",
            Code::SourceUnavailable => "E_SOURCE_UNAVAILABLE",
            Code::StoreUnavailable => "E_STORE_UNAVAILABLE",
            Code::Deadline => "E_DEADLINE",
            Code::InvalidArgument => "E_INVALID_ARGUMENT",
            Code::Scope => "E_SCOPE",
            Code::NotFound => "E_NOT_FOUND",
            Code::Conflict => "E_CONFLICT",
            Code::RateLimited => "E_RATE_LIMITED",
            Code::Closed => "E_CLOSED",
            Code::Overloaded => "E_OVERLOADED",
            Code::Internal => "E_INTERNAL",
        }
    }
}

/// An error with its code, a sentence for people, and the field it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Stable code.
    pub code: Code,
    /// One sentence; never contains a token, an e-mail address or a password.
    pub message: Arc<str>,
    /// The offending argument or variable, when there is one.
    pub field: Option<Cow<'static, str>>,
    /// Which of several causes, as a word that callers may switch on.
    pub reason: Option<&'static str>,
}

impl Error {
    /// An error without a field.
    pub fn new(code: Code, message: impl Into<Arc<str>>) -> Self {
        Self { code, message: message.into(), field: None, reason: None }
    }

    /// `E_INVALID_ARGUMENT` for `field`; the message says what is accepted.
    pub fn argument(field: &'static str, accepted: &str) -> Self {
        Self {
            code: Code::InvalidArgument,
            message: format!("{field} is not accepted: {accepted}").into(),
            field: Some(field.into()),
            reason: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Error {}
