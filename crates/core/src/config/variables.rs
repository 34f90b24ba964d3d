//! The one table of every configuration variable.
//!
//! Not what a value means together with others: that is `settings`.
//!
//! Invariant: a variable that is not in this table does not exist; one that is has a meaning in
//! `settings` (a test compares).

use super::kind::{Bounds, Kind, UrlForm};
use super::ratelimits::ON_STORE_FAILURE;

#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// The environment variable.
    pub name: &'static str,
    /// The same name in camel case.
    pub option: &'static str,
    pub kind: Kind,
    /// As it would be typed; absent means "unset".
    pub default: Option<&'static str>,
    /// One sentence for the reference.
    pub doc: &'static str,
    /// Never printed. URLs are secret because they may hold a password.
    pub secret: bool,
}

impl Variable {
    pub fn accepted(&self) -> String {
        self.kind.accepted()
    }
}

/// An option that is an object and therefore has no variable.
#[derive(Debug, Clone, Copy)]
pub struct OptionOnly {
    pub option: &'static str,
    pub accepted: &'static str,
    pub doc: &'static str,
}

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const MINUTE_MS: u64 = 60_000;
const DAY_S: u64 = 86_400;

/// The levels of `REDIS_LOG`, quietest first.
pub(crate) const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// The levels of `CACHE_WARMING_LEVEL`, least first.
pub(crate) const WARMING_LEVELS: &[&str] = &["none", "minimal", "aggressive"];

/// One row per variable, in the order of the reference.
#[rustfmt::skip] // a row is read as a row
pub const VARIABLES: &[Variable] = &[
    // The shared store.
    var("CACHE_STORE", "cacheStore", Kind::Enum(&["valkey", "embedded", "none"]), None,
        "Which store is used; unset means valkey when a server is named and none otherwise."),
    var("REDIS_URL", "redisUrl", Kind::Url(UrlForm::Server), None,
        "The server in one piece; special characters in user and password are percent-encoded."),
    var("REDIS_HOST", "redisHost", Kind::Host, None,
        "The server's host, when REDIS_URL is not used."),
    var("REDIS_PORT", "redisPort", Kind::Port, Some("6379"), "The server's port."),
    var("REDIS_USERNAME", "redisUsername", Kind::Text, None,
        "The ACL user; unset means the server's default user."),
    var("REDIS_PASSWORD", "redisPassword", Kind::Secret, None, "The password of the user."),
    var("REDIS_TLS", "redisTls", Kind::Bool, Some("false"), "Whether the connection is encrypted."),
    var("REDIS_TLS_CA", "redisTlsCa", Kind::Path, None,
        "A PEM file of certificates to trust instead of the public authorities."),
    var("REDIS_MODE", "redisMode", Kind::Enum(&["auto", "standalone", "cluster"]), Some("auto"),
        "Whether the server is a cluster; auto asks it."),
    var("REDIS_CLUSTER_NODES", "redisClusterNodes", Kind::Nodes, None,
        "Further nodes to learn the cluster from when the first one is down."),
    var("REDIS_KEY_PREFIX", "redisKeyPrefix", Kind::Prefix, Some(""),
        "Goes in front of every key, so that several applications can share one server."),
    var("UPSTASH_REDIS_REST_URL", "upstashRedisRestUrl", Kind::Url(UrlForm::Rest), None,
        "Names an Upstash database, reached as rediss://default:TOKEN@HOST:6379 unless REDIS_URL \
         or REDIS_HOST is set."),
    var("UPSTASH_REDIS_REST_TOKEN", "upstashRedisRestToken", Kind::Secret, None,
        "The token of that database, used as its password unless REDIS_PASSWORD is set."),
    var("CACHE_EMBEDDED_BYTES", "cacheEmbeddedBytes", bytes(4 * KIB, 64 * GIB), Some("268435456"),
        "The memory budget of the embedded store."),
    var("CACHE_DEADLINE_MS", "cacheDeadlineMs", ms(1, MINUTE_MS), Some("50"),
        "How long one store command for an entry may take before the source is asked."),
    var("CACHE_CONNECT_TIMEOUT_MS", "cacheConnectTimeoutMs", ms(1, MINUTE_MS), Some("1000"),
        "How long one attempt to connect to the store may take."),
    var("CACHE_LEASE_MS", "cacheLeaseMs", ms(100, 10 * MINUTE_MS), Some("10000"),
        "How long one process keeps the right to fill an entry."),
    var("CACHE_FLIGHT_WAIT_MS", "cacheFlightWaitMs", ms(0, MINUTE_MS), Some("1000"),
        "How long to wait for another process that is loading the same entry."),
    // The source.
    var("DATABASE_URL", "databaseUrl", Kind::Url(UrlForm::Database), None,
        "The application's Postgres."),
    var("ANALYTICS_DATABASE_URL", "analyticsDatabaseUrl", Kind::Url(UrlForm::Database), None,
        "The Postgres of the analytics tables; unset means the one of DATABASE_URL."),
    var("DATABASE_POOL_MAX", "databasePoolMax", count(1, 1_000), Some("8"),
        "Connections per process for everything but analytics tables; questions about those may use half as many \
         beside them, and an export one."),
    var("DATABASE_PGBOUNCER", "databasePgbouncer", Kind::Bool, Some("false"),
        "Whether a transaction pooler stands in front: no named prepared statements, no startup \
         parameters."),
    var("CACHE_SOURCE_DEADLINE_MS", "cacheSourceDeadlineMs", ms(1, 10 * MINUTE_MS), Some("2000"),
        "How long one load from Postgres may take, waiting for its turn included."),
    var("CACHE_BULKHEAD", "cacheBulkhead", count(1, 1_000), Some("16"),
        "How many loads run against Postgres at a time."),
    var("CACHE_BULKHEAD_QUEUE", "cacheBulkheadQueue", count(0, 1_000_000), Some("1024"),
        "How many loads may wait for their turn before further ones are refused."),
    var("CACHE_SCHEMA_ALLOW", "cacheSchemaAllow", Kind::Identifiers, Some("ih,public"),
        "The database schemas that configured table names may lie in."),
    // The near cache.
    var("CACHE_NEAR_BYTES", "cacheNearBytes", bytes(0, 64 * GIB), Some("67108864"),
        "The memory budget of the near cache; 0 switches it off."),
    // Results of data sources.
    var("CACHE_DATASOURCE_MAX_BYTES", "cacheDatasourceMaxBytes", bytes(KIB, 256 * KIB * KIB), Some("8388608"),
        "The largest result of a data source, as JSON, that is stored; larger ones are only returned."),
    // Analytics and warming.
    var("CACHE_TTL", "cacheTtl", Kind::Seconds(Bounds { min: 1, max: 30 * DAY_S }), Some("86400"),
        "How long a warmed data source is served; longer than the pause between two warms, or it is cold in between."),
    var("CACHE_BATCH_SIZE", "cacheBatchSize", count(1, 100_000), Some("5000"),
        "Read and checked because applications set it; a warm streams all rows of a table, so it changes nothing."),
    var("ANALYTICS_NEAR_BYTES", "analyticsNearBytes", bytes(0, 64 * GIB), Some("134217728"),
        "The memory budget of frames and manifests of warmed data sources in this process; 0 keeps none."),
    var("CACHE_QUERY_TIMEOUT", "cacheQueryTimeout", ms(1, 10 * MINUTE_MS), Some("10000"),
        "How long one analytics query may take."),
    var("ANALYTICS_SCHEMAS", "analyticsSchemas", Kind::Identifiers, None,
        "The database schemas that tables of data sources may lie in; unset means those of CACHE_SCHEMA_ALLOW."),
    var("ANALYTICS_MEASURE_COLUMNS", "analyticsMeasureColumns", Kind::Identifiers, Some("measure"),
        "The columns that may say what is measured; the first one that a table has is used."),
    var("ANALYTICS_EXPORT_TIMEOUT", "analyticsExportTimeout", ms(1_000, 360 * MINUTE_MS), Some("600000"),
        "How long the export of one data source's rows may take, waiting for its turn included."),
    var("ENABLE_CACHE_WARMING", "enableCacheWarming", Kind::Bool, Some("false"),
        "Whether the default engine warms the cache in the background when it is first used."),
    var("CACHE_WARMING_LEVEL", "cacheWarmingLevel", Kind::Enum(WARMING_LEVELS), Some("minimal"),
        "What is warmed: nothing (none), system roles and organizations (minimal), or also the most recently \
         active users and the data sources that warmCache is given (aggressive)."),
    var("CACHE_METRICS_ENABLED", "cacheMetricsEnabled", Kind::Bool, Some("true"),
        "Whether answers are counted and timed; statements, round trips, loads, errors and rate limits are counted \
         in any case."),
    // Tokens.
    var("JWT_USER_CLAIMS", "jwtUserClaims", Kind::Names, Some("user_id,userId,sub"),
        "The claims that may hold the user's id; the first one present is used."),
    // Roles and organizations.
    var("RBAC_SUPER_ADMIN_ROLES", "rbacSuperAdminRoles", Kind::Names, Some("super_admin"),
        "The system roles that make a super administrator."),
    var("RBAC_ORGANIZATION_ADMIN_ROLES", "rbacOrganizationAdminRoles", Kind::Names,
        Some("practice_admin,organization_admin"),
        "The system roles that make an administrator of the organization they are assigned in."),
    var("RBAC_BOUNDED_MS", "rbacBoundedMs", ms(1, MINUTE_MS), Some("1000"),
        "How old a context may be when it is asked for with consistency bounded."),
    var("RBAC_SAMPLE_PER_MILLION", "rbacSamplePerMillion", count(0, 1_000_000), None,
        "How many of a million served contexts are compared with the source; unset means 1000 when \
         NODE_ENV is production and 0 otherwise."),
    // Rate limits.
    var("RATE_LIMIT_TRUSTED_PROXIES", "rateLimitTrustedProxies", Kind::Proxies, None,
        "How many proxies stand in front of the application, or which; needed by applyRateLimit to find the \
         address of a client."),
    var("RATE_LIMIT_ON_STORE_FAILURE", "rateLimitOnStoreFailure", Kind::Enum(ON_STORE_FAILURE), Some("local"),
        "Who decides while the store is away: every process within its share (local), nobody and all are \
         admitted (open), or nobody and all are denied (closed)."),
    // The tail: writes by anybody.
    var("CACHE_TAIL_ENABLED", "cacheTailEnabled", Kind::Bool, Some("false"),
        "Whether committed writes of anybody void what they change; needs the SQL of bcos-cache \
         migrate."),
    var("CACHE_TAIL_POLL_MS", "cacheTailPollMs", ms(20, 10_000), Some("200"),
        "How often the outbox is looked at when no notification arrives."),
    // Process.
    var("NODE_ENV", "nodeEnv", Kind::Text, None,
        "The mode of the process; production switches the sampling of contexts on."),
    var("CACHE_WORKER_THREADS", "cacheWorkerThreads", count(1, 4), Some("1"),
        "Threads that do the work beside the JavaScript thread, for all engines of a process: the first one decides."),
    var("CACHE_SPIN_US", "cacheSpinUs", Kind::Microseconds(Bounds { min: 0, max: 200 }), Some("0"),
        "How long an idle worker keeps looking for work before it sleeps; costs CPU."),
    var("REDIS_LOG", "redisLog", Kind::Enum(LOG_LEVELS), Some("warn"),
        "The least important log records that are still handed out."),
];

const OPTION_ONLY: &[OptionOnly] = &[
    OptionOnly {
        option: "dashboard",
        accepted: "{ view, schema?, key?, ttl?, lastRefreshedColumn?, maxAgeSeconds?, queries: { [group]: sql }, \
                   scopeColumn?, refreshTimeoutMs? }",
        doc: "The materialized view of getDashboardMetrics, with one column per group, and the queries that answer \
              when it cannot.",
    },
    OptionOnly {
        option: "near",
        accepted: "{ [namespace]: { mode: 'validated' | 'bounded' | 'off', maxAgeMs? } }",
        doc: "How the near cache treats a namespace; maxAgeMs belongs to bounded and is required there.",
    },
    OptionOnly {
        option: "rateLimits",
        accepted: "{ [name]: { limit, windowSeconds, onStoreFailure?: 'local' | 'open' | 'closed' } }",
        doc: "Named limits for applyRateLimit, beside auth, mfa, upload, api, session_read, admin_cli, warming \
              and invalidate, which it may change.",
    },
    OptionOnly {
        option: "schema",
        accepted: "{ [table]: { schema?, table?, columns?: { [column]: name } } }",
        doc: "What the application calls the tables and columns that are read.",
    },
];

/// Options without a variable, for the reference and for the check of option names.
pub fn option_only() -> &'static [OptionOnly] {
    OPTION_ONLY
}

/// The environment variables to hand over, in the order of the table.
pub fn variable_names() -> Vec<&'static str> {
    VARIABLES.iter().map(|variable| variable.name).collect()
}

/// The table's entry for a name that the product's own code asks for.
pub(crate) fn variable(name: &str) -> &'static Variable {
    VARIABLES
        .iter()
        .find(|variable| variable.name == name)
        .expect("product code asks only for variables of the table; resolving asks for all of them")
}

const fn var(
    name: &'static str,
    option: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Variable {
    let secret = matches!(kind, Kind::Secret | Kind::Url(_));
    Variable { name, option, kind, default, doc, secret }
}

const fn ms(min: u64, max: u64) -> Kind {
    Kind::Milliseconds(Bounds { min, max })
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Bytes(Bounds { min, max })
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count(Bounds { min, max })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::parse::parse;

    fn camel_case(name: &str) -> String {
        let mut words = name.split('_');
        let mut option = words.next().unwrap_or_default().to_lowercase();
        for word in words {
            option.push_str(&word[..1]);
            option.push_str(&word[1..].to_lowercase());
        }
        option
    }

    #[test]
    fn every_row_is_sound() {
        let mut seen = BTreeSet::new();
        for row in VARIABLES {
            assert_eq!(row.option, camel_case(row.name));
            assert!(seen.insert(row.name), "{} twice", row.name);
            assert!(row.doc.ends_with('.') && !row.doc.contains("  "), "{}", row.name);
            if let Some(default) = row.default {
                assert!(parse(&row.kind, default).is_ok(), "default of {}", row.name);
                assert!(!row.secret, "{} would show a secret default", row.name);
            }
        }
    }

    #[test]
    fn secrets_are_marked() {
        let secret: Vec<_> = VARIABLES.iter().filter(|row| row.secret).map(|row| row.name).collect();
        assert_eq!(
            secret,
            [
                "REDIS_URL",
                "REDIS_PASSWORD",
                "UPSTASH_REDIS_REST_URL",
                "UPSTASH_REDIS_REST_TOKEN",
                "DATABASE_URL",
                "ANALYTICS_DATABASE_URL",
            ]
        );
    }
}
