//! The configuration as an application sees it: variables and options in, meaning or sentences out.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::*;
use crate::config::testing::{env, mistakes, settings};
use crate::config::variables::{VARIABLES, variable_names};
use crate::config::{NearMode, StoreKind, load};

#[test]
fn nothing_configured_is_no_store_and_the_documented_defaults() {
    let s = settings("", Json::Null);
    assert_eq!(s.store.kind, StoreKind::None);
    assert_eq!(s.store.key_prefix, "");
    let store = (s.store.deadline_ms, s.store.connect_timeout_ms, s.store.lease_ms, s.store.flight_wait_ms);
    assert_eq!(store, (50, 1_000, 10_000, 1_000));
    assert_eq!((s.source.url, s.source.analytics_url, s.source.pgbouncer), (None, None, false));
    let source = (s.source.pool_max, s.source.deadline_ms, s.source.bulkhead, s.source.bulkhead_queue);
    assert_eq!(source, (8, 2_000, 16, 1_024));
    assert_eq!((s.near.bytes, s.near.mode("user_basic")), (67_108_864, NearMode::Validated));
    let a = s.analytics;
    assert_eq!((a.ttl_s, a.batch_rows, a.query_timeout_ms), (86_400, 5_000, 10_000));
    assert_eq!((a.export_timeout_ms, &a.schemas[..]), (600_000, &["ih".to_owned(), "public".to_owned()][..]));
    assert_eq!(a.measure_columns, ["measure"]);
    assert_eq!((s.warming.by_itself, s.warming.level), (false, WarmingLevel::Minimal));
    assert_eq!((s.runtime.worker_threads, s.runtime.spin_us), (1, 0));
    assert_eq!(s.jwt.user_claims, ["user_id", "userId", "sub"]);
    assert_eq!(s.schema.allow, ["ih", "public"]);
    assert_eq!((s.log, s.metrics, s.notices), (LogLevel::Warn, true, vec![]));
}

#[test]
fn a_bad_value_names_variable_value_accepted_form_and_fix() {
    for (vars, options, expected) in [
        (
            "REDIS_PORT=70000",
            json!({}),
            "REDIS_PORT=\"70000\" is not accepted: a port between 1 and 65535. Leave it out for the default, 6379.",
        ),
        (
            "",
            json!({ "redisPort": 70000 }),
            "REDIS_PORT=\"70000\" (option redisPort) is not accepted: a port between 1 and 65535. Leave it out for the default, 6379.",
        ),
        (
            "CACHE_DEADLINE_MS=50ms",
            json!({}),
            "CACHE_DEADLINE_MS=\"50ms\" is not accepted: a whole number of milliseconds between 1 and 60000. Write digits only, without sign, fraction or unit.",
        ),
        (
            "REDIS_LOG=warning",
            json!({}),
            "REDIS_LOG=\"warning\" is not accepted: off, error, warn, info, debug or trace. Leave it out for the default, warn.",
        ),
        (
            "REDIS_HOST=a:1",
            json!({}),
            "REDIS_HOST=\"a:1\" is not accepted: a host name or an IP address, without scheme and port. The port belongs into REDIS_PORT, a whole URL into REDIS_URL.",
        ),
        // A URL with a password, in the wrong place.
        (
            "REDIS_HOST=redis://:hunter2@a",
            json!({}),
            "REDIS_HOST=\"***\" is not accepted: a host name or an IP address, without scheme and port. The port belongs into REDIS_PORT, a whole URL into REDIS_URL.",
        ),
        // Reported once: the missing server is a consequence.
        (
            "CACHE_STORE=valkey",
            json!({ "redisHost": 5 }),
            "REDIS_HOST=\"5\" (option redisHost) is not accepted: a host name or an IP address, without scheme and port. The option must be a string, not a number.",
        ),
    ] {
        assert_eq!(mistakes(vars, options.clone()), [expected], "{vars} {options}");
    }
}

#[test]
fn all_mistakes_are_reported_together() {
    let errors = mistakes(
        "REDIS_PORT=0 CACHE_TTL=x REDIS_URL=redis://a REDIS_HOST=b",
        json!({
            "cacheTTL": 5,
            "cacheBulkhead": "16",
            "near": { "user_basic": { "mode": "no" } },
            "schema": { "users": { "table": "" } },
        }),
    );
    let starts = [
        "option cacheTTL ",
        "CACHE_BULKHEAD=",
        "REDIS_PORT=",
        "CACHE_TTL=",
        "REDIS_URL=",
        "option near.user_basic.mode=",
        "option schema.users.table=",
    ];
    let names: BTreeSet<&str> = starts.into_iter().collect();
    assert_eq!(errors.len(), starts.len(), "{errors:#?}");
    for start in names {
        assert!(errors.iter().any(|error| error.starts_with(start)), "{start} in {errors:#?}");
    }
}

#[test]
fn what_is_accepted_but_hardly_meant_is_noticed() {
    for (vars, expected) in [
        (
            "REDIS_PASSWORD=p REDIS_PORT=1",
            "No server is named, so there is no store; not used: REDIS_PORT, REDIS_PASSWORD. Set",
        ),
        ("CACHE_LEASE_MS=2000", "CACHE_LEASE_MS is not longer than CACHE_SOURCE_DEADLINE_MS"),
    ] {
        let notices = settings(vars, Json::Null).notices;
        assert!(notices.len() == 1 && notices[0].starts_with(expected), "{notices:?}");
    }
    assert!(settings("CACHE_STORE=none REDIS_PORT=1", Json::Null).notices.is_empty());
}

#[test]
fn levels_of_warming_are_words() {
    for (word, level) in [
        ("none", WarmingLevel::None),
        ("minimal", WarmingLevel::Minimal),
        ("aggressive", WarmingLevel::Aggressive),
    ] {
        assert_eq!(settings(&format!("CACHE_WARMING_LEVEL={word}"), Json::Null).warming.level, level);
    }
    assert!(WarmingLevel::None < WarmingLevel::Minimal && WarmingLevel::Minimal < WarmingLevel::Aggressive);
    assert_eq!(mistakes("CACHE_WARMING_LEVEL=all", Json::Null).len(), 1);
}

#[test]
fn contexts_are_sampled_in_production_unless_told_otherwise() {
    for (vars, expected) in [
        ("", 0),
        ("NODE_ENV=test", 0),
        ("NODE_ENV=production", 1_000),
        ("NODE_ENV=production RBAC_SAMPLE_PER_MILLION=0", 0),
        ("NODE_ENV=production RBAC_SAMPLE_PER_MILLION=7", 7),
        ("RBAC_SAMPLE_PER_MILLION=7", 7),
    ] {
        assert_eq!(settings(vars, Json::Null).rbac.sample_per_million, expected, "{vars}");
    }
}

#[test]
fn analytics_falls_back_to_the_application_database() {
    for (vars, expected) in [
        ("", None),
        ("DATABASE_URL=postgres://a/x", Some("postgres://a/x")),
        ("DATABASE_URL=postgres://a/x ANALYTICS_DATABASE_URL=postgres://b/x", Some("postgres://b/x")),
        ("ANALYTICS_DATABASE_URL=postgres://b/x", Some("postgres://b/x")),
    ] {
        let source = settings(vars, Json::Null).source;
        assert_eq!(source.analytics().map(Secret::expose), expected, "{vars}");
    }
}

#[test]
fn no_secret_is_printed() {
    let vars = "REDIS_URL=redis://app:hunter2@a DATABASE_URL=postgres://u:hunter2@db/x \
                ANALYTICS_DATABASE_URL=postgres://u:hunter2@db/y";
    assert!(!format!("{:?}", settings(vars, Json::Null)).contains("hunter2"));
    let upstash = "UPSTASH_REDIS_REST_URL=https://x.io UPSTASH_REDIS_REST_TOKEN=hunter2 REDIS_TLS=true";
    assert!(!format!("{:?}", settings(upstash, Json::Null)).contains("hunter2"));
    // A wrong type, a wrong text and a wrong place of every secret.
    for row in VARIABLES.iter().filter(|row| row.secret) {
        for typed in [json!(["hunter2"]), json!({ "a": "hunter2" }), json!("hunter2\n")] {
            let mut options = Map::new();
            options.insert(row.option.to_owned(), typed);
            let errors = load(&[], &Json::Object(options)).expect_err("a mistake");
            assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
        }
    }
}

#[test]
fn bounds_of_every_number_fit_and_hold() {
    for row in VARIABLES {
        let Some(bounds) = row.kind.bounds() else {
            continue;
        };
        let try_with = |number: u64| {
            let vars = vec![(row.name.to_owned(), number.to_string())];
            // Every store is tried, so that every number is read into its field.
            ["redis://a", ""].map(|url| {
                let store = if url.is_empty() {
                    json!({ "cacheStore": "embedded" })
                } else {
                    json!({ "redisUrl": url })
                };
                load(&vars, &store).is_ok()
            })
        };
        assert_eq!(try_with(bounds.max), [true; 2], "{}", row.name);
        assert_eq!(try_with(bounds.min), [true; 2], "{}", row.name);
        assert_eq!(try_with(bounds.max + 1), [false; 2], "{}", row.name);
        if bounds.min > 0 {
            assert_eq!(try_with(bounds.min - 1), [false; 2], "{}", row.name);
        }
    }
}

#[test]
fn every_variable_has_a_meaning() {
    let mut asked = BTreeSet::new();
    for vars in [
        "REDIS_URL=rediss://a",
        "REDIS_HOST=a",
        "UPSTASH_REDIS_REST_URL=https://a UPSTASH_REDIS_REST_TOKEN=t",
        "CACHE_STORE=embedded",
    ] {
        let raw = Raw::from_parts(&env(vars), &Json::Null).expect("sound");
        let values = Values::read(&raw, &mut Vec::new());
        meaning(&values, &raw, &mut Vec::new());
        asked.extend(values.asked.take());
    }
    assert_eq!(asked, variable_names().into_iter().collect());
}
