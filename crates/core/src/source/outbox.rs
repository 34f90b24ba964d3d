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

/// The snapshot, the database's clock, the age of the oldest event, and the events, each once. `$1` is the
/// snapshot of the last look; NULL = everything that is kept.
pub(super) const POLL: &str = "SELECT pg_current_snapshot()::text, \
    (extract(epoch FROM clock_timestamp()) * 1000)::double precision, \
    COALESCE((extract(epoch FROM clock_timestamp() - min(e.at)) * 1000)::double precision, 0), \
    COALESCE(json_agg(json_build_array(e.kind, e.ref)), '[]'::json)::text \
    FROM (SELECT kind, ref, min(at) AS at FROM bcos_cache.outbox \
          WHERE xid >= COALESCE(pg_snapshot_xmin($1::text::pg_snapshot), '0'::xid8) \
          AND ($1::text IS NULL OR NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)) \
          GROUP BY kind, ref) e";

/// Everybody has looked within this time, or starts anew.
pub(super) const PRUNE: &str = "DELETE FROM bcos_cache.outbox WHERE id IN (SELECT id FROM bcos_cache.outbox \
    WHERE at < now() - interval '1 hour' ORDER BY id LIMIT 10000)";

/// For how long events are kept, in milliseconds; as in the statement above.
pub const KEPT_MS: f64 = 3_600_000.0;
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

/// What one look found.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The cursor of the next look.
    pub snapshot: String,
    /// The database's clock, Unix milliseconds.
    pub at_ms: f64,
    /// Age of the oldest event, in milliseconds.
    pub lag_ms: f64,
    /// Each once.
    pub events: Vec<Event>,
}

impl Source {
    /// What was committed since `snapshot`.
    pub async fn committed_since(&self, snapshot: Option<String>) -> Result<Batch, Error> {
        let row = self
            .run(Statement::TailPoll, |connection, query| {
                Box::pin(async move { query.bind(snapshot).fetch_one(connection).await })
            })
            .await?;
        let bad = |_| Error::new(Code::Internal, "the outbox could not be read");
        let json: String = row.try_get(3).map_err(bad)?;
        let pairs: Vec<(String, String)> = serde_json::from_str(&json)
            .map_err(|_| Error::new(Code::Internal, "the outbox could not be read"))?;
        Ok(Batch {
            snapshot: row.try_get(0).map_err(bad)?,
            at_ms: row.try_get(1).map_err(bad)?,
            lag_ms: row.try_get(2).map_err(bad)?,
            events: pairs.into_iter().map(|(kind, id)| Event { kind: kind_of(&kind), id }).collect(),
        })
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

/// The first and the last transaction number of a snapshot: `xmin:xmax:list`.
pub fn bounds(snapshot: &str) -> Option<(u64, u64)> {
    let mut parts = snapshot.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
