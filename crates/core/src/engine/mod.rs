//! One configured instance: the pools, the tasks, the lifecycle. A value, not a global: a test makes
//! several of them in one process to act as several instances.
//!
//! ```text
//! submit -> queue -> worker (one batch, one round trip) -> settled
//!                        \-> a task per request that must wait, load, or write
//! ```
//!
//! Invariant: every request that was accepted is settled exactly once, by its answer, its deadline or
//! the end of the engine.

mod analytics;
mod authorize;
mod build;
mod cold;
mod contexts;
mod dashboard;
mod datasource;
mod fallbacks;
mod gather;
mod health;
mod hot;
mod leads;
mod payloads;
mod ratelimits;
mod rbac;
mod refreshes;
mod sampler;
mod standing;
mod tail;
mod tokens;
mod users;
mod values;
mod warming;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::cache::tiered::LoadRight;
use crate::cache::{Cache, Invalidation};
use crate::config::{Settings, WarmingLevel, WarmingSettings};
use crate::dashboard::Whose;
use crate::datasource::Wish;
use crate::limiter::{AllTold, Told};
use crate::source::{Revocation, Source};
use crate::telemetry::Telemetry;

pub use analytics::{AnalyticsAsk, AnalyticsOrder, AnalyticsWarmOrder, AnswerForm};
pub use authorize::{Authorize, Authorized};
pub use build::migration_sql;
pub use contexts::Consistency;
pub use dashboard::DashboardAsk;
pub use health::{Component, Health};
pub use ratelimits::{LimitChange, LimitCheck};
pub use rbac::{RbacInvalidation, RbacTarget};
pub use refreshes::RefreshRequest;
pub use values::ValueRequest;
pub use warming::{WarmOrder, WarmStop, WarmTurn};
pub use worker::Ticket;

/// What the surface may ask for.
#[derive(Clone, Debug)]
pub enum Request {
    /// `isTokenBlacklisted`.
    TokenIsBlacklisted {
        jti: String,
    },
    /// `getCachedTokenBlacklistStatus`.
    TokenStatus {
        jti: String,
    },
    /// `cacheTokenBlacklistStatus`.
    CacheTokenStatus {
        jti: String,
        revoked: bool,
    },
    /// `invalidateTokenCache`.
    InvalidateToken {
        jti: String,
    },
    /// `blacklistToken`.
    BlacklistToken(Box<Revocation>),
    /// `invalidateAllUserTokens`.
    InvalidateUserTokens {
        user_id: String,
    },
    /// `getUserById`.
    UserById {
        user_id: String,
        full: bool,
    },
    /// `getUserByEmail`.
    UserByEmail {
        email: String,
    },
    /// `getCachedUserBasic`.
    CachedUser {
        user_id: String,
        full: bool,
    },
    /// `cacheUserBasic`.
    CacheUser {
        user_id: String,
        json: String,
    },
    /// `getCachedJWTPayload`.
    CachedJwt {
        token: String,
        full: bool,
    },
    /// `cacheJWTPayload`.
    CacheJwt {
        token: String,
        json: String,
    },
    /// `invalidateJWTPayload`.
    InvalidateJwt {
        jti: String,
    },
    /// First half of `verifyTokenCached`.
    BeginJwt {
        token: String,
        env: u64,
        full: bool,
    },
    /// First half of `getOrSet`.
    BeginValue {
        key: String,
        ttl_ms: u64,
        env: u64,
        full: bool,
    },
    /// First half of `queryDataSourceWithCache`; `raw` = the text for a response.
    /// First half of a value that several layers can answer; `scope` is a digest, empty = one value for all.
    BeginLayered {
        key: String,
        scope: String,
        ttl_ms: u64,
        env: u64,
        full: bool,
    },
    BeginResult {
        source: String,
        hash: String,
        ttl_ms: u64,
        wish: Wish,
        env: u64,
        full: bool,
        raw: bool,
    },
    /// Second half of them: what was loaded, or that the loader failed.
    EndLead {
        lead: u64,
        json: Option<String>,
    },
    /// Instead of it, when the caller went away before the loader had ended: nobody gets what it brings.
    DropLead {
        lead: u64,
    },
    /// The right to run the query of a result again that is still answered.
    BeginRefresh(Box<RefreshRequest>),
    /// `get` of the generic cache.
    CachedValue {
        key: String,
        full: bool,
    },
    /// The rest of the generic cache.
    Value(Box<ValueRequest>),
    /// `invalidateDataSourceCache`.
    InvalidateResult {
        source: String,
        hash: String,
    },
    /// `invalidateDataSourceCaches`.
    InvalidateResults {
        source: String,
    },
    /// Voids values of several layers.
    InvalidateLayered {
        key: String,
        whose: Whose,
    },
    /// What the configured dashboard's view and queries say.
    Dashboard(DashboardAsk),
    /// `getCachedUserContext`.
    UserContext {
        user_id: String,
        consistency: Consistency,
        full: bool,
    },
    /// `getCachedRolePermissions`.
    RolePermissions {
        role_id: String,
        full: bool,
    },
    /// `authorizeRequest`, without what only JavaScript can do.
    Authorize(Box<Authorize>),
    /// The invalidations of users, contexts and their parts.
    InvalidateRbac(Box<RbacInvalidation>),
    /// `checkRateLimit`; `charge` = not `peekRateLimit`.
    Limit {
        check: LimitCheck,
        charge: bool,
    },
    /// `checkRateLimits`: of several limits.
    Limits {
        checks: Vec<LimitCheck>,
        charge: bool,
    },
    /// `resetRateLimit`, `blockRateLimit`, `rewardRateLimit`.
    ChangeLimit {
        check: Box<LimitCheck>,
        change: LimitChange,
    },
    /// `bcos-cache migrate`.
    Migrate {
        remove: bool,
    },
    /// What became of a warm-up, once that is another version than `seen`.
    Warming {
        job: u64,
        seen: u64,
    },
    /// Questions about data sources.
    Analytics(Box<AnalyticsAsk>),
    /// What else is asked about them.
    AnalyticsOrder(AnalyticsOrder),
    /// `getHealth`.
    Health,
}

impl Request {
    /// Whether the text of an object is wanted even when the asking side should know the object.
    fn full(&self) -> bool {
        match self {
            Request::UserById { full, .. }
            | Request::CachedUser { full, .. }
            | Request::CachedJwt { full, .. }
            | Request::RolePermissions { full, .. }
            | Request::CachedValue { full, .. }
            | Request::BeginValue { full, .. }
            | Request::BeginResult { full, .. }
            | Request::BeginLayered { full, .. }
            | Request::UserContext { full, .. }
            | Request::BeginJwt { full, .. } => *full,
            Request::Authorize(asked) => asked.full,
            _ => false,
        }
    }
}

/// A request that was made and not handed over yet.
pub struct Submission<T>(worker::Job<T>);

fn refuse<T: Ticket>(jobs: Vec<worker::Job<T>>, code: Code, message: &str) {
    for job in jobs {
        job.ticket.settle(Outcome::Failed(Error::new(code, message)));
    }
}

/// What a request ends with.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// `null`.
    Nothing,
    /// A boolean.
    Bool(bool),
    /// A whole number that JavaScript can tell from its neighbour.
    Number(i64),
    /// An object. `text` is its JSON, unless the asking side is expected to know number `serial`.
    Object { serial: u64, text: Option<Bytes> },
    /// An object that another call has just loaded, and whether it is stored.
    Shared { text: Bytes, stored: bool },
    /// JSON text that JavaScript shall not parse.
    Raw(Bytes),
    /// An answer whose age its caller is to know: whether it is past its time, and which version to refresh.
    Aged { found: Box<Outcome>, stale: bool, refresh: Option<u64> },
    /// The caller must run its loader and end it under this number.
    Lead(u64),
    /// Somebody else's loader failed; its error is kept under this number.
    LoaderFailed(u64),
    /// What became of an invalidation, and whether a row was inserted.
    Invalidated(Invalidation, Option<bool>),
    /// What is known about one request to the application.
    Authorized(Box<Authorized>),
    /// What the limit of a check says.
    Limit(Told),
    /// What each limit of a check says.
    Limits(AllTold),
    /// JSON text.
    Json(String),
    /// An error.
    Failed(Error),
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Outcome::Failed(error)
    }
}

impl<T: Into<Outcome>> From<Result<T, Error>> for Outcome {
    fn from(result: Result<T, Error>) -> Self {
        result.map_or_else(Outcome::Failed, Into::into)
    }
}

impl From<Invalidation> for Outcome {
    fn from(done: Invalidation) -> Self {
        Outcome::Invalidated(done, None)
    }
}

/// When a request was handed over: for its latency, and for what it may share.
#[derive(Clone, Copy, Debug)]
struct Started {
    us: u64,
    moment: u64,
}

/// A load that the JS side runs.
struct JsLead {
    right: LoadRight,
    read: hot::Read,
    env: u64,
    started: Started,
    /// When it was handed out.
    begun_ms: u64,
}

/// Everything but the queue: shared by the worker and the tasks.
pub struct Core {
    /// The two cached tiers.
    pub cache: Cache,
    /// The third tier.
    pub source: Source,
    /// What was configured.
    pub settings: Settings,
    /// Counts.
    pub telemetry: Arc<Telemetry>,
    /// Loads that the JS side runs, by number.
    leads: Mutex<HashMap<u64, JsLead, ahash::RandomState>>,
    next_lead: AtomicU64,
    /// Of their numbers, those of results that are answered meanwhile.
    refreshes: refreshes::Refreshes,
    /// Requests in the queue, which bounds turns and not requests.
    waiting: AtomicUsize,
    rbac: contexts::Rbac,
    tail: tail::TailState,
    fallbacks: fallbacks::Fallbacks,
    warming: warming::Warming,
    analytics: analytics::Analytics,
    started_ms: u64,
    source_found: standing::Found,
    closing: AtomicBool,
    /// Turns true when the engine has ended: whoever still waits is told so.
    ended: watch::Sender<bool>,
}

/// Longest time that `close` waits for each of its last steps.
const CLOSING_MS: u64 = 500;

/// A running engine. `T` is how the surface hears of a settled request.
pub struct Engine<T: Ticket> {
    core: Arc<Core>,
    queue: mpsc::Sender<Vec<worker::Job<T>>>,
    runtime: Handle,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl<T: Ticket> Engine<T> {
    /// Starts an engine on `runtime`. Connects in the background; nothing is awaited.
    pub fn start(settings: Settings, runtime: &Handle) -> Result<Self, Error> {
        let core = Arc::new(build::core(settings, runtime)?);
        Ok(Self::run(core, runtime))
    }

    /// Starts the tasks of a core that was put together elsewhere: for tests.
    pub fn run(core: Arc<Core>, runtime: &Handle) -> Self {
        let (queue, jobs) = mpsc::channel(limits::SUBMIT_QUEUE);
        let guard = core.clone();
        let work = core.clone();
        let mut tasks = vec![
            runtime.spawn(async move { guard.cache.guard().await }),
            runtime.spawn(worker::run(work, jobs)),
        ];
        let listener = core.clone();
        tasks.push(runtime.spawn(async move { build::listen(&listener).await }));
        let sampler = core.clone();
        tasks.push(runtime.spawn(async move { sampler.compare_samples().await }));
        if core.settings.tail.enabled {
            let tail = core.clone();
            tasks.push(runtime.spawn(async move { tail.follow_outbox().await }));
        }
        Self { core, queue, runtime: runtime.clone(), tasks: Mutex::new(tasks) }
    }

    /// What the engine is made of.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A request that begins now, to be handed over with others.
    pub fn prepare(&self, request: Request, deadline_ms: u64, ticket: T) -> Submission<T> {
        let cache = &self.core.cache;
        let started = Started { us: cache.clock.now_us(), moment: cache.flights.moment() };
        Submission(worker::Job { request, deadline_ms, started, ticket })
    }

    /// Hands requests over that were made at the same moment and travel together; their tickets hear of the
    /// outcome. Never blocks.
    pub fn submit(&self, together: impl IntoIterator<Item = Submission<T>>) {
        let mut jobs: Vec<_> = together.into_iter().map(|Submission(job)| job).collect();
        if self.core.closing.load(Ordering::SeqCst) {
            return refuse(jobs, Code::Closed, "the engine is closed");
        }
        let waiting = self.core.waiting.fetch_add(jobs.len(), Ordering::SeqCst);
        let room = limits::SUBMIT_QUEUE.saturating_sub(waiting);
        let surplus = jobs.split_off(jobs.len().min(room));
        if !surplus.is_empty() {
            self.core.waiting.fetch_sub(surplus.len(), Ordering::SeqCst);
            self.core.telemetry.overloaded.add(surplus.len() as u64);
            let message = format!("{} requests wait already; nothing was started", limits::SUBMIT_QUEUE);
            refuse(surplus, Code::Overloaded, &message);
        }
        if jobs.is_empty() {
            return;
        }
        let count = jobs.len();
        // Before they are sent: whoever settles one must find it counted.
        self.core.telemetry.submitted.add(count as u64);
        // There is room for as many turns as for requests, so only a closed queue refuses.
        if let Err(mpsc::error::TrySendError::Closed(jobs) | mpsc::error::TrySendError::Full(jobs)) =
            self.queue.try_send(jobs)
        {
            self.core.waiting.fetch_sub(count, Ordering::SeqCst);
            self.core.telemetry.settled.add(count as u64);
            refuse(jobs, Code::Closed, "the engine is closed");
        }
    }

    /// Takes no more requests, lets those under way finish for at most `drain_ms`, then ends every task
    /// and connection. May be called again.
    pub async fn close(&self, drain_ms: u64) {
        self.core.closing.store(true, Ordering::SeqCst);
        let drained = async {
            while self.core.telemetry.settled.get() < self.core.telemetry.submitted.get()
                || !self.core.cache.pending.is_empty()
                || self.core.cache.available() && !self.core.cache.limits.is_settled()
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(drain_ms), drained).await;
        // Told before the loads are given up: whoever waits for one must not become its leader.
        self.core.ended.send_replace(true);
        let told = async {
            while self.core.telemetry.settled.get() < self.core.telemetry.submitted.get() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(CLOSING_MS), told).await;
        self.core.forget_all(|_| true).await;
        self.core.resign_tail().await;
        self.core.end_analytics_warms().await;
        self.end();
        let _ = tokio::time::timeout(Duration::from_millis(CLOSING_MS), self.core.source.close()).await;
    }

    /// Ends what runs in the background and drops the connections to the store.
    fn end(&self) {
        self.core.closing.store(true, Ordering::SeqCst);
        self.core.ended.send_replace(true);
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        self.core.cache.store.close();
    }

    /// Ends the loads that a gone environment was to run.
    pub fn abandon(&self, env: u64) {
        self.core.stop_warming_of(env);
        self.core.stop_analytics_warms_of(env);
        let core = self.core.clone();
        self.runtime.spawn(async move { core.forget_all(|of| of == env).await });
    }

    /// Begins a warm-up, or finds the one that runs: its number, and whose it is. Never blocks.
    pub fn warm(&self, order: WarmOrder) -> (u64, WarmTurn) {
        let _inside = self.runtime.enter();
        self.core.begin_warming(order)
    }

    /// Begins to warm a data source: the number of the job. Never blocks.
    pub fn warm_analytics(&self, order: AnalyticsWarmOrder) -> u64 {
        let _inside = self.runtime.enter();
        self.core.begin_analytics_warm(order)
    }

    /// Warms what the configuration says, if it says so.
    pub fn warm_by_itself(&self) {
        let WarmingSettings { by_itself, level } = self.core.settings.warming;
        if by_itself && level > WarmingLevel::None {
            self.warm(WarmOrder::by_itself(level));
        }
    }

    /// The runtime this engine lives on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl<T: Ticket> Drop for Engine<T> {
    /// An engine that nobody holds any more: its tasks would keep it, and its connections, for ever.
    fn drop(&mut self) {
        self.end();
    }
}

impl Core {
    /// Whether `close` was called.
    pub fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// The time budget of a call that did not bring its own: one wait for another process, one for its
    /// successor, one statement, and the commands around them.
    pub fn default_deadline_ms(&self) -> u64 {
        let store = &self.settings.store;
        2 * store.flight_wait_ms + self.settings.source.deadline_ms + 10 * store.deadline_ms
    }
}
