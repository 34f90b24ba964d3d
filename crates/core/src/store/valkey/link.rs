//! One multiplexed connection to one node. It never reconnects by itself: a broken link is replaced.
//!
//! Invariant: `exec` returns by its deadline, whatever the server does.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates, Value,
};
use tokio::time::Instant;

use crate::store::{Op, StoreError};

use super::options::Options;
use super::wire::{self, Answer};
use super::{Able, Step};

/// A live connection.
pub(super) struct Link {
    address: String,
    connection: MultiplexedConnection,
    role: Role,
    identity: Option<String>,
    msetex: bool,
}

/// What the server says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Role {
    /// Cluster mode is on.
    pub(super) clustered: bool,
    /// It takes no writes.
    pub(super) replica: bool,
}

impl Link {
    pub(super) async fn connect(options: &Options, address: &str) -> Result<Self, StoreError> {
        let limit = Duration::from_millis(options.connect_timeout_ms);
        tokio::time::timeout(limit, Self::open(options, address))
            .await
            .map_err(|_| StoreError::Timeout)?
            .map_err(|error| StoreError::Unavailable(describe(&error)))
    }

    async fn open(options: &Options, address: &str) -> redis::RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        let mut connection =
            client(options, address)?.get_multiplexed_async_connection_with_config(&config).await?;
        let role = match redis::cmd("HELLO").query_async::<Value>(&mut connection).await {
            Ok(reply) => role(&reply),
            // A server without HELLO, or a user who may not say it, is taken as it comes. Anything else (a
            // wrong password, a server that still loads its data) is a reason to try again later.
            Err(error) if matches!(error.code(), Some("ERR" | "NOPERM")) => Role::default(),
            Err(error) => return Err(error),
        };
        // Restricted servers do not say who they are: they are taken for others every time.
        let mut about = redis::cmd("INFO");
        about.arg("server").arg("replication");
        let mut known = redis::cmd("COMMAND");
        known.arg("INFO").arg("MSETEX");
        let mut other = connection.clone();
        let (about, known) =
            tokio::join!(about.query_async::<Value>(&mut connection), known.query_async::<Value>(&mut other));
        let identity = about.as_ref().ok().and_then(wire::text).and_then(identity);
        let msetex = known.is_ok_and(|reply| described(&reply));
        Ok(Self { address: address.to_owned(), connection, role, identity, msetex })
    }

    /// Changes when the process at the other end is another one, or when it became the master anew: what it
    /// acknowledged under this name it still has. `None` = not known.
    pub(super) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn clustered(&self) -> bool {
        self.role.clustered
    }

    pub(super) fn replica(&self) -> bool {
        self.role.replica
    }

    /// Whether the server says that it has `MSETEX`.
    pub(super) fn msetex(&self) -> bool {
        self.msetex
    }

    /// One command outside the batch path.
    pub(super) async fn command(&self, command: &redis::Cmd, limit: Duration) -> Result<Value, StoreError> {
        let mut connection = self.connection.clone();
        match tokio::time::timeout(limit, connection.send_packed_command(command)).await {
            Err(_) => Err(StoreError::Timeout),
            Ok(Err(error)) => Err(StoreError::Unavailable(describe(&error))),
            Ok(Ok(Value::ServerError(error))) => Err(StoreError::Refused(error.code().into())),
            Ok(Ok(value)) => Ok(value),
        }
    }

    /// Sends `steps` as one pipeline.
    pub(super) async fn exec(&self, ops: &[Op], steps: &[Step], until: Instant, able: Able) -> Vec<Answer> {
        let batch = wire::Batch::new(ops, steps, able);
        let mut connection = self.connection.clone();
        let sent = connection.send_packed_commands(batch.pipeline(), 0, batch.len());
        match tokio::time::timeout_at(until, sent).await {
            Err(_) => fail(steps, &StoreError::Timeout),
            Ok(Err(error)) => fail(steps, &StoreError::Unavailable(describe(&error))),
            Ok(Ok(values)) => batch.answers(ops, steps, values),
        }
    }
}

fn fail(steps: &[Step], error: &StoreError) -> Vec<Answer> {
    steps.iter().map(|_| Answer::Final(Err(error.clone()))).collect()
}

/// A client for pub/sub and links alike.
pub(super) fn client(options: &Options, address: &str) -> redis::RedisResult<Client> {
    let (host, port) = split(address).unwrap_or((address.to_owned(), 6379));
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    let mut redis = RedisConnectionInfo::default().set_db(options.db).set_skip_set_lib_name();
    if let Some(username) = &options.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &options.password {
        redis = redis.set_password(password);
    }
    let addr = match &options.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let info: ConnectionInfo = addr
        .into_connection_info()?
        .set_redis_settings(redis)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true).set_keepalive(keepalive));
    match options.tls.as_ref().and_then(|tls| tls.ca_pem.clone()) {
        Some(ca) => Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(ca) }),
        None => Client::open(info),
    }
}

/// `host:port`, with IPv6 hosts as the server writes them.
pub(super) fn split(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
}

/// Never contains a password: the library puts only server text and I/O errors into its messages.
fn describe(error: &redis::RedisError) -> Arc<str> {
    error.to_string().into()
}

/// Whether the reply to `COMMAND INFO` describes the command: an unknown one is an empty element.
fn described(reply: &Value) -> bool {
    matches!(reply, Value::Array(items) if matches!(&items[..], [Value::Array(parts)] if !parts.is_empty()))
}

fn identity(info: &str) -> Option<String> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(format!("{} {}", field("run_id:")?, field("master_replid:")?))
}

fn role(hello: &Value) -> Role {
    let pairs: Vec<(&Value, &Value)> = match hello {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        Value::Array(items) => items.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        _ => Vec::new(),
    };
    let text = |name: &str| {
        pairs
            .iter()
            .find(|(key, _)| wire::text(key) == Some(name))
            .and_then(|(_, value)| wire::text(value))
            .unwrap_or_default()
            .to_owned()
    };
    Role {
        clustered: text("mode") == "cluster",
        replica: matches!(text("role").as_str(), "replica" | "slave"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_when_the_server_describes_it() {
        let described = |items: Vec<Value>| super::described(&Value::Array(items));
        assert!(described(vec![Value::Array(vec![Value::BulkString(b"msetex".to_vec())])]));
        assert!(!described(vec![Value::Nil]), "as most servers say it");
        assert!(!described(vec![Value::Array(Vec::new())]), "as others say it");
        assert!(!described(Vec::new()));
        assert!(!super::described(&Value::Okay));
    }

    #[test]
    fn a_server_is_known_by_its_process_and_its_history() {
        let info =
            "# Server\r\nrun_id:abc\r\n\r\n# Replication\r\nmaster_replid:def\r\nmaster_replid2:000\r\n";
        assert_eq!(identity(info).as_deref(), Some("abc def"));
        assert_eq!(identity("run_id:abc"), None);
        assert_eq!(identity(""), None);
    }
}
