//! Statements about the outbox: what was committed since the last look, by anybody.
//!
//! Invariant: an event is read exactly when its transaction has become visible. The cursor is a snapshot, not a
//! number: rows of a transaction that was still open at the last look are found at the next, however small
//! their numbers, and an open transaction holds back nobody else's.

use sqlx::Row;
use sqlx::postgres::PgListener;

use crate::base::error::{Code, Error};

use super::Source;
use super::statements::Statement;

/// What was committed since the last look; the text says what it takes and answers.
pub(super) const POLL: &str = include_str!("poll.sql");

/// Removes what everybody has seen.
pub(super) const PRUNE: &str = include_str!("prune.sql");

/// What is kept about entries that no epoch voids: for somebody who does not know what was missed.
pub(super) const KEPT: &str = "SELECT kind, ref FROM bcos_cache.outbox WHERE kind IN ('user', 'token') \
    GROUP BY kind, ref ORDER BY max(id) DESC LIMIT 100000";

/// For how long events are kept at least, in milliseconds.
pub const KEPT_MS: u64 = 3_600_000;
/// Wakes whoever follows the outbox.
const CHANNEL: &str = "bcos_cache";

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A user, their assignments or memberships.
    User,
    /// A role or its permissions.
    Role,
    /// An organization.
    Tree,
    /// A row of the blacklist.
    Token,
    /// A whole table.
    All,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What changed.
    pub kind: EventKind,
    /// Whose.
    pub id: String,
}

/// Up to where the outbox was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// What was visible then.
    pub snapshot: String,
    /// Of which server: a restart or a failover may have lost transactions.
    pub server: String,
}

/// What one look found.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where the next look begins.
    pub cursor: Cursor,
    /// Events may be missing: nobody knows what was changed.
    pub reset: bool,
    /// Age of the oldest event, in milliseconds.
    pub lag_ms: i64,
    /// Each once.
    pub events: Vec<Event>,
}

impl Source {
    /// What was committed since `cursor`.
    pub async fn committed_since(&self, cursor: Option<Cursor>) -> Result<Batch, Error> {
        let row = self
            .read(Statement::TailPoll, move |connection, query| {
                let (snapshot, server) = cursor.clone().map(|at| (at.snapshot, at.server)).unzip();
                Box::pin(async move { query.bind(snapshot).bind(server).fetch_one(connection).await })
            })
            .await?;
        let snapshot: Option<String> = row.try_get("snapshot").map_err(unreadable)?;
        let Some(snapshot) = snapshot else {
            return Err(Error::new(
                Code::SourceUnavailable,
                "a replica does not tell which transactions are open",
            ));
        };
        let server = row.try_get("server").map_err(unreadable)?;
        let kinds: Vec<String> = row.try_get("kinds").map_err(unreadable)?;
        let refs: Vec<String> = row.try_get("refs").map_err(unreadable)?;
        Ok(Batch {
            cursor: Cursor { snapshot, server },
            reset: row.try_get("reset").map_err(unreadable)?,
            lag_ms: row.try_get("lag_ms").map_err(unreadable)?,
            events: kinds.iter().zip(refs).map(|(kind, id)| Event { kind: kind_of(kind), id }).collect(),
        })
    }

    /// Events of users and tokens that are still kept, the newest first.
    pub async fn kept_events(&self) -> Result<Vec<Event>, Error> {
        let rows = self
            .read(Statement::TailKept, |connection, query| {
                Box::pin(async move { query.fetch_all(connection).await })
            })
            .await?;
        let event = |row: &sqlx::postgres::PgRow| -> sqlx::Result<Event> {
            Ok(Event { kind: kind_of(row.try_get("kind")?), id: row.try_get("ref")? })
        };
        rows.iter().map(|row| event(row).map_err(unreadable)).collect()
    }

    /// Removes events that everybody has seen.
    pub async fn prune_outbox(&self) -> Result<(), Error> {
        self.run(Statement::TailPrune, |connection, query| {
            Box::pin(async move { query.execute(connection).await.map(drop) })
        })
        .await
    }

    /// A connection that is told of commits; `None` where that cannot work: behind a transaction pooler, or
    /// when it would take the only connection.
    pub async fn notifications(&self) -> Option<Notifications> {
        let pool = self.application.as_ref().filter(|_| !self.options.pooled && self.options.pool_max > 1)?;
        let mut listener = PgListener::connect_with(pool).await.ok()?;
        listener.listen(CHANNEL).await.ok()?;
        Some(Notifications(listener))
    }
}

/// A subscription to commits.
pub struct Notifications(PgListener);

impl Notifications {
    /// Waits for the next one; false = the connection is gone.
    pub async fn next(&mut self) -> bool {
        matches!(self.0.try_recv().await, Ok(Some(_)))
    }
}

/// An unknown kind is one of a later version: everything is void.
fn kind_of(word: &str) -> EventKind {
    match word {
        "user" => EventKind::User,
        "role" => EventKind::Role,
        "tree" => EventKind::Tree,
        "token" => EventKind::Token,
        _ => EventKind::All,
    }
}

fn unreadable(_: sqlx::Error) -> Error {
    Error::new(Code::Internal, "the outbox could not be read")
}
