//! One statement on its way: over which connection, how often, for how long. Not whether it may go: that is decided by
//! the gate and the bulkhead before.
//!
//! What reads goes at once, and once more over another connection when the server had closed the first one: it has no
//! effect, so it does not matter whether it ran. What writes goes over a connection that has just answered.
//!
//! Invariant: what writes is sent at most once, what reads at most twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection as _, Postgres};
use tokio::time::timeout;

use crate::telemetry::Telemetry;

use super::idle::{Idle, closed, unasked};
use super::statements::Statement;
use super::{Prepared, Reading};

/// How often each statement was sent.
pub(super) type Counts = Arc<[AtomicUsize; Statement::ALL.len()]>;

/// A statement and what it takes to send it.
pub(super) struct Line {
    pub(super) statement: Statement,
    pub(super) text: Arc<str>,
    /// What its transaction begins with, where it needs one.
    pub(super) begin: Option<Arc<str>>,
    pub(super) pool: PgPool,
    pub(super) idle: Arc<Idle>,
    /// How long its connection is waited for.
    pub(super) longest: Duration,
    pub(super) counts: Counts,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Line {
    /// Sends what only reads.
    pub(super) async fn read<T, F>(&self, query: &F) -> sqlx::Result<T>
    where
        F: for<'c> Fn(&'c mut PgConnection, Prepared<'c>) -> Reading<'c, T>,
    {
        match self.send(unasked(&self.pool).await?, query).await {
            Err(error) if closed(&error) => {
                self.idle.doubt();
                self.send(self.pool.acquire().await?, query).await
            }
            result => result,
        }
    }

    /// Sends what may have an effect.
    pub(super) async fn write<T, F>(&self, query: F) -> sqlx::Result<T>
    where
        F: for<'c> FnOnce(&'c mut PgConnection, Prepared<'c>) -> Reading<'c, T>,
    {
        self.send(self.pool.acquire().await?, query).await
    }

    async fn send<T, F>(&self, mut connection: PoolConnection<Postgres>, query: F) -> sqlx::Result<T>
    where
        F: for<'c> FnOnce(&'c mut PgConnection, Prepared<'c>) -> Reading<'c, T>,
    {
        self.telemetry.statements.up();
        self.counts[self.statement as usize].fetch_add(1, Ordering::Relaxed);
        // Behind a transaction pooler the next statement may meet another server, which has no such name.
        let text = sqlx::AssertSqlSafe(self.text.clone());
        let prepared = sqlx::query(text).persistent(self.begin.is_none());
        let answer = async {
            let Some(begin) = &self.begin else { return query(&mut connection, prepared).await };
            // A statement goes in two steps, and outside a transaction the pooler may hand each of them to
            // another server: the second would meet somebody else's statement.
            let mut transaction = connection.begin_with(sqlx::AssertSqlSafe(begin.clone())).await?;
            let value = query(&mut transaction, prepared).await?;
            transaction.commit().await?;
            Ok(value)
        };
        let result = timeout(self.longest, answer).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if let Err(error) = &result
            && (closed(error) || matches!(error, sqlx::Error::PoolTimedOut))
        {
            // The server has closed it, or did not even end the statement: not fit for use any more.
            drop(connection.detach());
        }
        result
    }
}
