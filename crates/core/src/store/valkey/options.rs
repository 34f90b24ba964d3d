//! What is needed to reach a Valkey. Not configuration: that is checked and resolved elsewhere.

use std::fmt;

/// Which kind of server is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ask the server.
    Auto,
    /// One server, one link.
    Standalone,
    /// Slots spread over nodes.
    Cluster,
}

/// How the server's certificate is checked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM of the authorities to trust instead of the built-in ones.
    pub ca_pem: Option<Vec<u8>>,
}

/// Address, credentials and time limits.
#[derive(Clone)]
pub struct Options {
    /// `host:port`, tried in order until one answers.
    pub seeds: Vec<(String, u16)>,
    /// ACL user; `None` is the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Database number, standalone only.
    pub db: i64,
    /// TLS, when wanted.
    pub tls: Option<Tls>,
    /// Expected kind of server.
    pub mode: Mode,
    /// Time limit of one round trip.
    pub deadline_ms: u64,
    /// Time limit of making one connection, handshakes included.
    pub connect_timeout_ms: u64,
}

impl fmt::Debug for Options {
    /// Shows no password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Options")
            .field("seeds", &self.seeds)
            .field("username", &self.username)
            .field("tls", &self.tls.is_some())
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
