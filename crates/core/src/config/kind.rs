//! The kinds a value can have: their bounds and how the accepted form reads.
//!
//! Not the reading itself, that is `parse`.
//!
//! Invariant: the accepted text comes from the same bounds the parser checks.

/// Inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub min: u64,
    pub max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlForm {
    /// `redis://` or `rediss://`, the native protocol.
    Server,
    /// `https://`, of which only the host is used.
    Rest,
    /// `postgres://` or `postgresql://`.
    Database,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Secret,
    Path,
    Host,
    /// Goes in front of every key.
    Prefix,
    Port,
    Bool,
    Enum(&'static [&'static str]),
    Seconds(Bounds),
    Milliseconds(Bounds),
    Microseconds(Bounds),
    Count(Bounds),
    Bytes(Bounds),
    Url(UrlForm),
    /// Comma separated `host:port`.
    Nodes,
    /// Comma separated SQL identifiers.
    Identifiers,
    /// Comma separated names.
    Names,
    /// A number of proxies, or comma separated addresses and networks.
    Proxies,
}

impl Kind {
    /// Completes "... is not accepted:".
    pub fn accepted(&self) -> String {
        match self {
            Self::Text => "a text without control characters or outer white space".into(),
            Self::Secret => "a text without control characters".into(),
            Self::Path => "a file path".into(),
            Self::Host => "a host name or an IP address, without scheme and port".into(),
            Self::Prefix => "at most 64 printable ASCII characters without spaces, braces, brackets, \
                 backslash, * and ?"
                .into(),
            Self::Port => "a port between 1 and 65535".into(),
            Self::Bool => "true or false (also 1, 0, yes, no, on, off)".into(),
            Self::Enum(words) => one_of(words),
            Self::Seconds(bounds) => amount(" of seconds", bounds),
            Self::Milliseconds(bounds) => amount(" of milliseconds", bounds),
            Self::Microseconds(bounds) => amount(" of microseconds", bounds),
            Self::Count(bounds) => amount("", bounds),
            Self::Bytes(bounds) => amount(" of bytes", bounds),
            Self::Url(UrlForm::Server) => {
                "redis://[user[:password]@]host[:port][/database], or rediss:// for TLS".into()
            }
            Self::Url(UrlForm::Rest) => "https://host".into(),
            Self::Url(UrlForm::Database) => {
                "postgres://[user[:password]@]host[:port]/database (or postgresql://)".into()
            }
            Self::Nodes => "host:port, several separated by commas".into(),
            Self::Identifiers => {
                "SQL identifiers (letters, digits, underscore, at most 63, no leading digit), \
                 separated by commas"
                    .into()
            }
            Self::Names => "names without spaces, separated by commas".into(),
            Self::Proxies => "a number of proxies between 0 and 16, or their addresses and CIDR blocks, \
                 separated by commas"
                .into(),
        }
    }

    /// The JSON type an option of this kind must have.
    pub fn json_type(&self) -> &'static str {
        match self {
            Self::Bool => "a boolean",
            Self::Nodes | Self::Identifiers | Self::Names => "a string or an array of strings",
            Self::Proxies => "a number, a string or an array of strings",
            _ if self.bounds().is_some() => "a number",
            _ => "a string",
        }
    }

    /// The bounds of a kind that is a number.
    pub fn bounds(&self) -> Option<Bounds> {
        match self {
            Self::Port => Some(Bounds { min: 1, max: 65_535 }),
            Self::Seconds(bounds)
            | Self::Milliseconds(bounds)
            | Self::Microseconds(bounds)
            | Self::Count(bounds)
            | Self::Bytes(bounds) => Some(*bounds),
            _ => None,
        }
    }
}

/// "a, b or c".
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

fn amount(unit: &str, bounds: &Bounds) -> String {
    format!("a whole number{unit} between {} and {}", bounds.min, bounds.max)
}
