//! Which idle connections are used without asking them first. A connection was fit for use when it was given back (the pool
//! asks it then). Who can bear that it has ended since takes it at its word, so that a statement is one round trip and not
//! two; for everybody else the pool asks it again. When one turns out to have been closed, as by a restart of the database,
//! all that were idle then are asked, whoever wants them.
//!
//! Invariant: a connection that was given back before the last doubt, or that is wanted by somebody who did not say that it
//! may have ended, is asked before it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection as _, Postgres};

use crate::base::clock::Clock;

tokio::task_local! {
    /// Set while a connection is wanted that may have ended. The pool's callback is told nothing else by its caller.
    static UNASKED: ();
}

/// A connection that may have ended while it was idle.
pub(super) async fn unasked(pool: &PgPool) -> sqlx::Result<PoolConnection<Postgres>> {
    UNASKED.scope((), pool.acquire()).await
}

/// The idle connections of one pool.
pub(super) struct Idle {
    clock: Clock,
    /// When they were doubted last; 0 = never.
    doubted_ms: AtomicU64,
}

impl Idle {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, doubted_ms: AtomicU64::new(0) })
    }

    /// The server has closed one of them.
    pub(super) fn doubt(&self) {
        self.doubted_ms.fetch_max(self.clock.now_ms(), Ordering::SeqCst);
    }

    /// Whether a connection that has been idle for so long is asked first. A tie counts as before the doubt.
    fn doubts(&self, idle_ms: u64) -> bool {
        self.clock.now_ms().saturating_sub(idle_ms) <= self.doubted_ms.load(Ordering::SeqCst)
    }

    /// Makes a pool ask whom it must.
    pub(super) fn watch(self: Arc<Self>, options: PgPoolOptions) -> PgPoolOptions {
        options.test_before_acquire(false).before_acquire(move |connection, idle| {
            let trusted = UNASKED.try_with(|()| ()).is_ok();
            if trusted && !self.doubts(idle.idle_for.as_millis() as u64) {
                return std::future::ready(Ok(true)).boxed();
            }
            // Not passed on as an error: a connection that ended is no news.
            async move { Ok(connection.ping().await.is_ok()) }.boxed()
        })
    }
}

/// Whether the server has closed the connection instead of answering: its end, or a word of farewell (shutting down,
/// crashed, idle for too long).
pub(super) fn closed(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        sqlx::Error::Io(io) => {
            matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        }
        sqlx::Error::Database(told) => {
            told.code().is_some_and(|code| ["57P01", "57P02", "57P05"].contains(&code.as_ref()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_that_were_idle_at_the_last_doubt_are_asked() {
        let clock = Clock::fake(10_000);
        let idle = Idle::new(clock.clone());
        assert!(!idle.doubts(0) && !idle.doubts(9_999), "nothing was doubted yet");
        idle.doubt();
        assert!(idle.doubts(0) && idle.doubts(5_000));
        clock.advance_ms(100);
        assert!(idle.doubts(100) && idle.doubts(101), "given back before");
        assert!(!idle.doubts(99), "given back afterwards");
        idle.doubt();
        assert!(idle.doubts(99));
    }

    #[test]
    fn a_refusal_is_not_an_end() {
        let io = |kind: std::io::ErrorKind| sqlx::Error::Io(kind.into());
        assert!(
            closed(&io(std::io::ErrorKind::UnexpectedEof)) && closed(&io(std::io::ErrorKind::BrokenPipe))
        );
        for other in [
            io(std::io::ErrorKind::ConnectionRefused),
            io(std::io::ErrorKind::TimedOut),
            sqlx::Error::PoolTimedOut,
            sqlx::Error::RowNotFound,
        ] {
            assert!(!closed(&other), "{other}");
        }
    }
}
