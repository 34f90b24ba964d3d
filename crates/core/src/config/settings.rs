//! What the configuration means.
//!
//! Not where it came from: after this step nothing asks for a variable again.
//!
//! Invariant: resolving is pure and total; it reports every mistake, and settings that exist are
//! sound.

use super::dashboard::{DashboardSettings, resolve_dashboard};
use super::error::{ConfigError, ConfigErrors};
use super::near::{NearSettings, resolve_near};
use super::ratelimits::{RateLimitSettings, resolve_named};
use super::raw::Raw;
use super::schema::{SchemaMapping, resolve_schema};
use super::secret::Secret;
use super::store::{StoreSettings, resolve_store};
use super::values::Values;
use super::variables::WARMING_LEVELS;

/// One served context in a thousand.
const PRODUCTION_SAMPLE_PER_MILLION: u64 = 1_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub store: StoreSettings,
    pub source: SourceSettings,
    pub near: NearSettings,
    pub datasource: DataSourceSettings,
    pub analytics: AnalyticsSettings,
    pub warming: WarmingSettings,
    pub runtime: RuntimeSettings,
    pub jwt: JwtSettings,
    pub rbac: RbacSettings,
    pub tail: TailSettings,
    pub rate_limits: RateLimitSettings,
    pub schema: SchemaMapping,
    pub dashboard: Option<DashboardSettings>,
    pub log: LogLevel,
    pub metrics: bool,
    /// Accepted, but probably not meant: one sentence each, to be logged as a warning.
    pub notices: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    pub url: Option<Secret>,
    /// Only when it is configured separately; see [`SourceSettings::analytics`].
    pub analytics_url: Option<Secret>,
    pub pool_max: u32,
    pub pgbouncer: bool,
    pub deadline_ms: u64,
    pub bulkhead: usize,
    pub bulkhead_queue: usize,
}

impl SourceSettings {
    /// The analytics database, which is the application's unless told otherwise.
    pub fn analytics(&self) -> Option<&Secret> {
        self.analytics_url.as_ref().or(self.url.as_ref())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSourceSettings {
    pub max_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalyticsSettings {
    pub ttl_s: u64,
    pub batch_rows: usize,
    pub query_timeout_ms: u64,
    /// Bytes of frames and manifests that are kept in this process.
    pub near_bytes: u64,
    pub export_timeout_ms: u64,
    /// The schemas that tables of data sources may lie in.
    pub schemas: Vec<String>,
    /// Columns that may say what is measured, in the order they are tried.
    pub measure_columns: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmingSettings {
    /// Whether the default engine warms without being asked.
    pub by_itself: bool,
    pub level: WarmingLevel,
}

/// Ordered: a level warms what those before it warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarmingLevel {
    None,
    Minimal,
    Aggressive,
}

impl WarmingLevel {
    pub fn name(self) -> &'static str {
        WARMING_LEVELS[self as usize]
    }

    /// Reads such a name.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::Minimal, Self::Aggressive].into_iter().find(|level| level.name() == word)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    pub worker_threads: usize,
    /// Somebody asked for this number.
    pub worker_threads_given: bool,
    pub spin_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSettings {
    /// In the order they are tried; never empty.
    pub user_claims: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RbacSettings {
    pub super_admin_roles: Vec<String>,
    pub organization_admin_roles: Vec<String>,
    pub bounded_ms: u64,
    pub sample_per_million: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailSettings {
    pub enabled: bool,
    pub poll_ms: u64,
}

/// Ordered: a record is handed out when its level is not above the configured one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

pub fn resolve(raw: &Raw) -> Result<Settings, ConfigErrors> {
    resolve_after(raw, Vec::new())
}

/// `resolve`, with the mistakes that were found before.
pub(crate) fn resolve_after(raw: &Raw, mut errors: Vec<ConfigError>) -> Result<Settings, ConfigErrors> {
    let values = Values::read(raw, &mut errors);
    let settings = meaning(&values, raw, &mut errors);
    if errors.is_empty() { Ok(settings) } else { Err(ConfigErrors(errors)) }
}

fn meaning(values: &Values<'_>, raw: &Raw, errors: &mut Vec<ConfigError>) -> Settings {
    let mut notices = Vec::new();
    let store = resolve_store(values, errors, &mut notices);
    let source = source(values);
    if store.lease_ms <= source.deadline_ms {
        notices.push(
            "CACHE_LEASE_MS is not longer than CACHE_SOURCE_DEADLINE_MS: a slow load loses the right to \
             store what it read."
                .to_owned(),
        );
    }
    Settings {
        store,
        source,
        near: resolve_near(values.number("CACHE_NEAR_BYTES"), &raw.near, errors),
        datasource: DataSourceSettings { max_bytes: values.number("CACHE_DATASOURCE_MAX_BYTES") },
        analytics: analytics(values),
        warming: WarmingSettings {
            by_itself: values.flag("ENABLE_CACHE_WARMING"),
            level: values
                .text("CACHE_WARMING_LEVEL")
                .and_then(WarmingLevel::parse)
                .unwrap_or(WarmingLevel::Minimal),
        },
        runtime: RuntimeSettings {
            worker_threads: values.number("CACHE_WORKER_THREADS"),
            worker_threads_given: values.is_given("CACHE_WORKER_THREADS"),
            spin_us: values.number("CACHE_SPIN_US"),
        },
        jwt: JwtSettings { user_claims: values.list("JWT_USER_CLAIMS") },
        rbac: rbac(values),
        tail: TailSettings {
            enabled: values.flag("CACHE_TAIL_ENABLED"),
            poll_ms: values.number("CACHE_TAIL_POLL_MS"),
        },
        rate_limits: RateLimitSettings {
            named: resolve_named(&raw.rate_limits, errors),
            on_store_failure: on_store_failure(values.text("RATE_LIMIT_ON_STORE_FAILURE")),
            proxies: values.proxies("RATE_LIMIT_TRUSTED_PROXIES"),
        },
        schema: resolve_schema(values.list("CACHE_SCHEMA_ALLOW"), &raw.schema, errors),
        dashboard: resolve_dashboard(&values.list("CACHE_SCHEMA_ALLOW"), raw.dashboard.as_ref(), errors),
        log: log_level(values.text("REDIS_LOG")),
        metrics: values.flag("CACHE_METRICS_ENABLED"),
        notices,
    }
}

fn source(values: &Values<'_>) -> SourceSettings {
    SourceSettings {
        url: values.secret("DATABASE_URL"),
        analytics_url: values.secret("ANALYTICS_DATABASE_URL"),
        pool_max: values.number("DATABASE_POOL_MAX"),
        pgbouncer: values.flag("DATABASE_PGBOUNCER"),
        deadline_ms: values.number("CACHE_SOURCE_DEADLINE_MS"),
        bulkhead: values.number("CACHE_BULKHEAD"),
        bulkhead_queue: values.number("CACHE_BULKHEAD_QUEUE"),
    }
}

fn analytics(values: &Values<'_>) -> AnalyticsSettings {
    let own = values.list("ANALYTICS_SCHEMAS");
    AnalyticsSettings {
        ttl_s: values.number("CACHE_TTL"),
        batch_rows: values.number("CACHE_BATCH_SIZE"),
        query_timeout_ms: values.number("CACHE_QUERY_TIMEOUT"),
        near_bytes: values.number("ANALYTICS_NEAR_BYTES"),
        export_timeout_ms: values.number("ANALYTICS_EXPORT_TIMEOUT"),
        schemas: if own.is_empty() { values.list("CACHE_SCHEMA_ALLOW") } else { own },
        measure_columns: values.list("ANALYTICS_MEASURE_COLUMNS"),
    }
}

fn rbac(values: &Values<'_>) -> RbacSettings {
    let production = values.text("NODE_ENV") == Some("production");
    let usual = if production { PRODUCTION_SAMPLE_PER_MILLION } else { 0 };
    let typed = values.number("RBAC_SAMPLE_PER_MILLION");
    let sample_per_million = if values.is_given("RBAC_SAMPLE_PER_MILLION") { typed } else { usual };
    RbacSettings {
        super_admin_roles: values.list("RBAC_SUPER_ADMIN_ROLES"),
        organization_admin_roles: values.list("RBAC_ORGANIZATION_ADMIN_ROLES"),
        bounded_ms: values.number("RBAC_BOUNDED_MS"),
        sample_per_million,
    }
}

fn on_store_failure(word: Option<&str>) -> &'static str {
    match word {
        Some("open") => "open",
        Some("closed") => "closed",
        _ => "local",
    }
}

fn log_level(word: Option<&str>) -> LogLevel {
    match word {
        Some("off") => LogLevel::Off,
        Some("error") => LogLevel::Error,
        Some("info") => LogLevel::Info,
        Some("debug") => LogLevel::Debug,
        Some("trace") => LogLevel::Trace,
        _ => LogLevel::Warn,
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
