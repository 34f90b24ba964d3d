//! The source: Postgres through sqlx. Pools, bulkhead, deadlines, and every SQL text of the product.
//! Not a cache, and not a retry of what failed; see `line` for what happens to a statement whose connection is gone.
//!
//! Invariant: every statement is counted, runs under the bulkhead, and ends by its deadline.

pub mod analytics;
mod dashboard;
mod gate;
mod idle;
mod line;
pub mod migration;
pub mod outbox;
mod rbac;
mod rbac_texts;
pub mod statements;
mod token;
mod user;
mod warm;

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::base::clock::Clock;
use crate::base::error::{Code, Error};
use crate::telemetry::Telemetry;

use gate::Gate;
use idle::Idle;
use line::{Counts, Line};
use statements::{Statement, Statements};

pub use outbox::{Batch, Event, EventKind};
pub use rbac::{Denied, PartJson, Parts, Wanted, Whole};
pub use token::Revocation;
pub use user::User;
pub use warm::WarmIds;

/// How much longer than the caller a statement may take before its connection is given up: the server ends it
/// 500 ms after the deadline by itself.
const ENDING_MS: u64 = 1_500;

/// How the source is reached.
pub struct Options {
    /// Application database; `None` = every read that needs it is `E_SOURCE_UNAVAILABLE`.
    pub url: Option<String>,
    /// Analytics database; falls back to the first.
    pub analytics_url: Option<String>,
    /// Connections of the application's pool; half as many, and those of exports, are used for data sources.
    pub pool_max: u32,
    /// Behind a transaction pooler: no named prepared statements and no startup parameters.
    pub pooled: bool,
    /// Time limit of one statement, waiting for a connection included.
    pub deadline_ms: u64,
    /// Statements that may run at once.
    pub bulkhead: usize,
    /// Statements that may wait for their turn.
    pub queue: usize,
    /// What data sources may be.
    pub analytics: analytics::Rules,
}

/// The source of one engine.
pub struct Source {
    application: Option<PgPool>,
    analytics: Option<PgPool>,
    lane: analytics::Lane,
    described: analytics::Described,
    /// Of the application database.
    idle: Arc<Idle>,
    statements: Statements,
    counts: Counts,
    options: Options,
    /// Behind a transaction pooler every statement is a transaction of its own, which begins with this.
    begin: Option<Arc<str>>,
    permits: Arc<Semaphore>,
    queued: AtomicUsize,
    gate: Mutex<Gate>,
    clock: Clock,
    telemetry: Arc<Telemetry>,
}

/// A statement without its arguments.
type Prepared<'c> = sqlx::query::Query<'c, Postgres, PgArguments>;
type Reading<'c, T> = Pin<Box<dyn Future<Output = sqlx::Result<T>> + Send + 'c>>;

impl Source {
    /// Does not connect: the first statement does. Must be called inside a runtime.
    pub fn new(
        options: Options,
        statements: Statements,
        clock: Clock,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, Error> {
        let idle = Idle::new(clock.clone());
        let reach = |url: &str, variable, most, idle| pool(&options, url, variable, most, idle);
        let application = options
            .url
            .as_deref()
            .map(|url| reach(url, "DATABASE_URL", options.pool_max, idle.clone()))
            .transpose()?;
        let (analytics, variable) = match &options.analytics_url {
            Some(url) => (Some(url), "ANALYTICS_DATABASE_URL"),
            None => (options.url.as_ref(), "DATABASE_URL"),
        };
        let most = analytics::Lane::connections(&options);
        let analytics =
            analytics.map(|url| reach(url, variable, most, Idle::new(clock.clone()))).transpose()?;
        Ok(Self {
            application,
            analytics,
            lane: analytics::Lane::new(&options),
            described: Default::default(),
            idle,
            statements,
            counts: Default::default(),
            permits: Arc::new(Semaphore::new(options.bulkhead)),
            queued: AtomicUsize::new(0),
            gate: Mutex::new(Gate::default()),
            begin: options.pooled.then(|| begin(options.deadline_ms)),
            options,
            clock,
            telemetry,
        })
    }

    /// Whether an application database is configured.
    pub fn configured(&self) -> bool {
        self.application.is_some()
    }

    /// Whether the last statements reached the database; true before the first one.
    pub fn reachable(&self) -> bool {
        self.gate.lock().is_up()
    }

    /// When the database stopped or began again to answer, in monotonic milliseconds; `None` when it always did.
    pub fn since_ms(&self) -> Option<u64> {
        self.gate.lock().changed_ms()
    }

    /// Statements running now and waiting for their turn.
    pub fn load(&self) -> (usize, usize) {
        let running = self.options.bulkhead - self.permits.available_permits().min(self.options.bulkhead);
        (running, self.queued.load(Ordering::Relaxed))
    }

    /// How often each statement was sent, by its name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        Statement::ALL.iter().map(|one| (one.name(), self.counts[*one as usize].load(Ordering::Relaxed)))
    }

    /// Asks the database for nothing, to see whether it answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.read(Statement::Ping, |connection, query| {
            Box::pin(async move { query.execute(connection).await.map(drop) })
        })
        .await
    }

    /// Whether the analytics database can be reached, where it is another one.
    pub async fn reach_analytics(&self) -> Result<(), Error> {
        let (Some(_), Some(pool)) = (&self.options.analytics_url, &self.analytics) else { return Ok(()) };
        let unreachable = |error: sqlx::Error| {
            unavailable(&format!("the analytics database is not reachable ({})", kind(&error)))
        };
        pool.acquire().await.map(drop).map_err(unreachable)
    }

    /// Closes both pools.
    pub async fn close(&self) {
        self.lane.close();
        for pool in [&self.application, &self.analytics].into_iter().flatten() {
            pool.close().await;
        }
    }

    /// Runs one statement on the application database, which is sent at most once: over a connection that has just
    /// answered, therefore in two round trips.
    async fn run<T, F>(&self, statement: Statement, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection, Prepared<'c>) -> Reading<'c, T> + Send + 'static,
    {
        let (line, permit, until) = self.line(statement).await?;
        let work = tokio::spawn(async move {
            let _permit = permit;
            line.write(query).await
        });
        self.ended(until, work).await
    }

    /// As `run`, for what has no effect: one round trip.
    async fn read<T, F>(&self, statement: Statement, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection, Prepared<'c>) -> Reading<'c, T> + Send + Sync + 'static,
    {
        let (line, permit, until) = self.line(statement).await?;
        let work = tokio::spawn(async move {
            let _permit = permit;
            line.read(&query).await
        });
        self.ended(until, work).await
    }

    /// The way of one statement, when it may go and its turn has come; and until when it is waited for.
    async fn line(&self, statement: Statement) -> Result<(Line, OwnedSemaphorePermit, Instant), Error> {
        let Some(pool) = self.application.clone() else {
            return Err(unavailable("no database is configured: set DATABASE_URL"));
        };
        if !self.gate.lock().enter(self.clock.now_ms()) {
            return Err(unavailable("the database did not answer a moment ago"));
        }
        let until = Instant::now() + Duration::from_millis(self.options.deadline_ms);
        let permit = self.permit(until).await?;
        let line = Line {
            statement,
            text: self.statements.text(statement),
            begin: self.begin.clone(),
            pool,
            idle: self.idle.clone(),
            longest: Duration::from_millis(self.options.deadline_ms + ENDING_MS),
            counts: self.counts.clone(),
            telemetry: self.telemetry.clone(),
        };
        Ok((line, permit, until))
    }

    /// What came of a statement. It goes on in its task when the caller's time is over: its connection is busy until the
    /// server has ended it, and must count as such.
    async fn ended<T>(&self, until: Instant, work: JoinHandle<sqlx::Result<T>>) -> Result<T, Error> {
        match tokio::time::timeout_at(until, work).await {
            Ok(Ok(Ok(value))) => {
                self.gate.lock().answered(self.clock.now_ms());
                Ok(value)
            }
            Ok(Ok(Err(error))) => Err(self.failed(&error)),
            Ok(Err(_)) => Err(Error::new(Code::Internal, "a statement's task failed")),
            Err(_) => {
                self.telemetry.source_errors.up();
                self.telemetry.source_timeouts.up();
                self.gate.lock().late(self.clock.now_ms());
                Err(unavailable("the database did not answer in time"))
            }
        }
    }

    /// A statement that does not go through `run`.
    fn counted(&self, statement: Statement) {
        self.telemetry.statements.up();
        self.counts[statement as usize].fetch_add(1, Ordering::Relaxed);
    }

    async fn permit(&self, until: Instant) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        if self.queued.fetch_add(1, Ordering::Relaxed) >= self.options.queue {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(Code::Overloaded, "too many reads wait for the database already"));
        }
        let permit = tokio::time::timeout_at(until, self.permits.clone().acquire_owned()).await;
        self.queued.fetch_sub(1, Ordering::Relaxed);
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::new(Code::Closed, "the engine is closed")),
            Err(_) => Err(unavailable("no database connection became free in time")),
        }
    }

    fn failed(&self, error: &sqlx::Error) -> Error {
        self.failed_at(&self.gate, error)
    }

    fn failed_at(&self, gate: &Mutex<Gate>, error: &sqlx::Error) -> Error {
        if matches!(error, sqlx::Error::Database(_)) {
            // The database is there and refused the statement: its answer, not an outage.
            gate.lock().answered(self.clock.now_ms());
            self.telemetry.source_errors.up();
            let code =
                error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
            // Shutting down, out of resources, no connection, no such login, no such database.
            if ["57P", "53", "08", "28", "3D"].iter().any(|class| code.starts_with(class)) {
                return self.unreachable(gate, error);
            }
            tracing::error!(component = "source", sqlstate = %code, "a statement was refused");
            return unavailable(&format!("the database refused the statement (SQLSTATE {code})"));
        }
        self.unreachable(gate, error)
    }

    fn unreachable(&self, gate: &Mutex<Gate>, error: &sqlx::Error) -> Error {
        self.telemetry.source_errors.up();
        if gate.lock().failed(self.clock.now_ms()) {
            tracing::warn!(component = "source", reason = %kind(error), "the database is not reachable");
        }
        unavailable(&format!("the database is not reachable ({})", kind(error)))
    }
}

/// Startup parameters do not pass a transaction pooler, so each transaction sets its own limits: the server
/// ends a statement that nobody waits for any longer, and a transaction whose process is frozen.
fn begin(deadline_ms: u64) -> Arc<str> {
    format!(
        "BEGIN; SET LOCAL jit = off; SET LOCAL statement_timeout = {}; \
         SET LOCAL idle_in_transaction_session_timeout = {}",
        deadline_ms + 500,
        deadline_ms + ENDING_MS
    )
    .into()
}

fn unavailable(message: &str) -> Error {
    Error::new(Code::SourceUnavailable, message)
}

/// A short cause without host names, parameters or values.
fn kind(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(io) => format!("{:?}", io.kind()),
        sqlx::Error::PoolTimedOut => "no connection in time".into(),
        sqlx::Error::PoolClosed => "closed".into(),
        sqlx::Error::Tls(_) => "TLS".into(),
        sqlx::Error::Database(database) => format!("SQLSTATE {}", database.code().unwrap_or_default()),
        _ => "protocol error".into(),
    }
}

fn pool(
    options: &Options,
    url: &str,
    variable: &'static str,
    most: u32,
    idle: Arc<Idle>,
) -> Result<PgPool, Error> {
    let mut connect = PgConnectOptions::from_str(url).map_err(|_| Error {
        code: Code::Config,
        message: format!("{variable} is not accepted: postgres://user:password@host:port/database").into(),
        field: Some(variable.into()),
        reason: None,
    })?;
    connect = if options.pooled {
        connect.statement_cache_capacity(0).extra_float_digits(None)
    } else {
        // The server ends a statement that nobody waits for any longer.
        connect.application_name("bcos-cache").options([
            ("statement_timeout", format!("{}ms", options.deadline_ms + 500)),
            // Short statements: compiling one takes longer than running it.
            ("jit", "off".to_owned()),
        ])
    };
    let deadline = Duration::from_millis(options.deadline_ms);
    let pool = PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(deadline)
        .idle_timeout(Duration::from_secs(300));
    Ok(idle.watch(pool).connect_lazy_with(connect))
}
