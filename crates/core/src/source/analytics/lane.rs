//! The way of a statement to the analytics database: whether it may go, when its turn has come, in which transaction, on which
//! thread.
//!
//! A question about a million rows may take a thousand times as long as the read of a user. Therefore it has connections and a
//! bulkhead of its own, also where the database is the application's: authorization never waits behind a chart. It has a gate
//! of its own where the database is another one; and a thread of its own, because reading a million values would keep
//! everybody else's I/O waiting.
//!
//! Invariant: every transaction here is read-only, is ended by the server when nobody waits for it any longer, and leaves a
//! connection in the pool only if it ended well.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::base::error::{Code, Error};
use crate::base::limits;

use super::super::gate::Gate;
use super::super::statements::Statement;
use super::super::{ENDING_MS, Options, Source, unavailable};
use super::failed::{Failed, Failure};

pub(super) type Working<'c, T> = Pin<Box<dyn Future<Output = Result<T, Failed>> + Send + 'c>>;

/// What statements to the analytics database share.
pub(in crate::source) struct Lane {
    /// Of a database of its own; otherwise the application's gate counts.
    gate: Option<Mutex<Gate>>,
    questions: Arc<Semaphore>,
    waiting: AtomicUsize,
    exports: Arc<Semaphore>,
    /// Set when the source closes: what runs would keep it open for minutes.
    closed: watch::Sender<bool>,
}

impl Lane {
    pub(in crate::source) fn new(options: &Options) -> Self {
        Self {
            gate: options.analytics_url.is_some().then(Mutex::default),
            questions: Arc::new(Semaphore::new(questions(options) as usize)),
            waiting: AtomicUsize::new(0),
            exports: Arc::new(Semaphore::new(limits::ANALYTICS_EXPORTS)),
            closed: watch::Sender::new(false),
        }
    }

    /// Connections that are used at most.
    pub(in crate::source) fn connections(options: &Options) -> u32 {
        questions(options) + limits::ANALYTICS_EXPORTS as u32
    }

    /// Ends whatever runs.
    pub(in crate::source) fn close(&self) {
        self.closed.send_replace(true);
    }
}

/// Questions at a time: each may keep the database busy with a whole table.
fn questions(options: &Options) -> u32 {
    (options.pool_max / 2).max(1)
}

/// One transaction to be.
pub(super) struct Errand {
    pub(super) statement: Statement,
    /// For waiting and working together.
    pub(super) within_ms: u64,
    /// Whether it is an export.
    pub(super) export: bool,
}

impl Source {
    /// Runs a short statement, which reads no rows of a data source.
    pub(super) async fn short<T, F>(&self, statement: Statement, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> Working<'c, T> + Send + 'static,
    {
        // A question waits for it, and for no longer.
        let within_ms = self.options.analytics.query_ms;
        let failed =
            self.transact(Errand { statement, within_ms, export: false }, std::future::pending(), work).await;
        failed.map_err(|failed| self.analytics_error(failed))
    }

    /// Runs `work` in a read-only transaction, on a thread of its own, until `stop` is ready.
    pub(super) async fn transact<T, F, S>(&self, errand: Errand, stop: S, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> Working<'c, T> + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let Some(pool) = self.analytics.clone() else {
            return Err(
                unavailable("no database is configured: set DATABASE_URL or ANALYTICS_DATABASE_URL").into()
            );
        };
        if !self.analytics_gate().lock().enter(self.clock.now_ms()) {
            return Err(unavailable("the analytics database did not answer a moment ago").into());
        }
        let until = Instant::now() + Duration::from_millis(errand.within_ms);
        let closed = told(self.lane.closed.subscribe());
        let mut stop = Box::pin(async move {
            tokio::select! {
                () = stop => {}
                () = closed => {}
            }
        });
        let permit = tokio::select! {
            permit = self.turn(&errand, until) => permit?,
            () = &mut stop => return Err(Failed::Stopped.into()),
        };
        self.counted(errand.statement);
        let left_ms = until.saturating_duration_since(Instant::now()).as_millis() as u64;
        let begin = begin(left_ms);
        // The server ends what is late; the connection of what it did not end is given up.
        let longest = until + Duration::from_millis(ENDING_MS);
        let answer = apart(async move {
            let _permit = permit;
            transaction(pool, begin, longest, stop, work).await
        })?;
        match timeout_at(until, answer).await {
            Ok(Ok(Ok(value))) => {
                self.analytics_gate().lock().answered(self.clock.now_ms());
                Ok(value)
            }
            Ok(Ok(Err(failed))) => Err(failed.into()),
            Ok(Err(_)) => Err(Error::new(Code::Internal, "a statement's thread failed").into()),
            Err(_) => {
                self.telemetry.source_errors.up();
                self.telemetry.source_timeouts.up();
                // Of the application's own database slow questions say nothing.
                if let Some(gate) = &self.lane.gate {
                    gate.lock().late(self.clock.now_ms());
                }
                Err(unavailable("the analytics database did not answer in time").into())
            }
        }
    }

    async fn turn(
        &self,
        errand: &Errand,
        until: Instant,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, Error> {
        let lane = &self.lane;
        let turns = if errand.export { &lane.exports } else { &lane.questions };
        if let Ok(permit) = turns.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _waits = Waits::begin(&lane.waiting, self.options.queue)?;
        match timeout_at(until, turns.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::new(Code::Closed, "the engine is closed")),
            Err(_) => Err(unavailable("other statements kept the analytics database busy for too long")),
        }
    }

    pub(super) fn analytics_gate(&self) -> &Mutex<Gate> {
        self.lane.gate.as_ref().unwrap_or(&self.gate)
    }
}

/// Counted among those who wait, until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize, most: usize) -> Result<Self, Error> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let waits = Self(waiting);
        if before < most {
            return Ok(waits);
        }
        Err(Error::new(Code::Overloaded, "too many questions wait for the analytics database already"))
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limits are the transaction's own, as a transaction pooler requires. Values that are cast to text must not depend on what
/// somebody set for the database or the role.
fn begin(left_ms: u64) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL jit = off; SET LOCAL statement_timeout = {}; \
         SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, MDY'; \
         SET LOCAL IntervalStyle = 'postgres'; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1",
        left_ms + 500,
        limits::ANALYTICS_IDLE_MS,
    )
}

/// Runs a future on a thread of its own. Its I/O is the runtime's, its computing is not.
fn apart<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<oneshot::Receiver<T>, Error> {
    let (tell, told) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::Builder::new().name("bcos-cache-analytics".into()).stack_size(1 << 20);
    let future = Box::pin(future);
    let started = thread.spawn(move || {
        // Nobody may be waiting any longer.
        let _ = tell.send(runtime.block_on(future));
    });
    match started {
        Ok(_) => Ok(told),
        Err(error) => Err(Error::new(
            Code::Overloaded,
            format!("no thread for a statement could be started ({})", error.kind()),
        )),
    }
}

async fn transaction<T, F, S>(
    pool: PgPool,
    begin: String,
    longest: Instant,
    stop: S,
    work: F,
) -> Result<T, Failed>
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> Working<'c, T> + Send,
    S: Future<Output = ()> + Send,
{
    let mut connection = pool.acquire().await?;
    let answer = async {
        let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
        let value = work(&mut transaction).await?;
        transaction.commit().await?;
        Ok(value)
    };
    let result = tokio::select! {
        result = timeout_at(longest, answer) => result.unwrap_or(Err(Failed::Database(sqlx::Error::PoolTimedOut))),
        () = stop => Err(Failed::Stopped),
    };
    if result.is_err() {
        // Rows may be on their way still, and whoever got it next would have to read them.
        drop(connection.detach());
    }
    result
}

/// Ready when `stop` says so; never when nobody can say so any more.
pub(super) async fn told(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
