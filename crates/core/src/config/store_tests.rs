//! Which store, where it is and who we are there: variables and options in, a place or sentences out.

use serde_json::{Value as Json, json};

use super::*;
use crate::config::testing::{mistakes, settings};

fn valkey(vars: &str, options: Json) -> ValkeySettings {
    match settings(vars, options).store.kind {
        StoreKind::Valkey(valkey) => valkey,
        other => panic!("{vars}: {other:?}"),
    }
}

#[test]
fn which_store() {
    let embedded = StoreKind::Embedded { bytes: 4_096 };
    for (vars, expected) in [
        ("CACHE_STORE=none REDIS_HOST=a", StoreKind::None),
        // What is switched off need not be complete.
        ("CACHE_STORE=none REDIS_HOST=a REDIS_URL=redis://b", StoreKind::None),
        ("CACHE_STORE=none UPSTASH_REDIS_REST_TOKEN=t", StoreKind::None),
        ("CACHE_STORE=embedded CACHE_EMBEDDED_BYTES=4096 REDIS_HOST=a", embedded),
        ("REDIS_HOST=", StoreKind::None),
        ("REDIS_PORT=6380", StoreKind::None),
    ] {
        assert_eq!(settings(vars, Json::Null).store.kind, expected, "{vars}");
    }
    assert_eq!(valkey("CACHE_STORE=valkey REDIS_HOST=a", Json::Null).host, "a");
}

/// user, password, TLS, host, port as one text, to compare whole places at a glance.
fn place(v: &ValkeySettings) -> String {
    let scheme = if v.tls.is_some() { "rediss" } else { "redis" };
    let user = v.username.as_deref().unwrap_or("");
    let password = v.password.as_ref().map_or("", Secret::expose);
    format!("{scheme} {user}:{password} {}:{}/{}", v.host, v.port, v.database)
}

#[test]
fn where_the_server_is() {
    let upstash = "UPSTASH_REDIS_REST_URL=https://x.upstash.io UPSTASH_REDIS_REST_TOKEN=tok";
    for (vars, options, expected) in [
        ("REDIS_HOST=a", json!({}), "redis : a:6379/0"),
        (
            "REDIS_HOST=a REDIS_PORT=6380 REDIS_USERNAME=u REDIS_PASSWORD=p@ REDIS_TLS=true",
            json!({}),
            "rediss u:p@ a:6380/0",
        ),
        ("REDIS_URL=rediss://u:p%40@a:1", json!({}), "rediss u:p@ a:1/0"),
        ("REDIS_URL=redis://a REDIS_PASSWORD=p REDIS_PORT=7", json!({}), "redis :p a:7/0"),
        ("REDIS_URL=redis://a:6379 REDIS_PORT=6379 REDIS_TLS=false", json!({}), "redis : a:6379/0"),
        ("REDIS_URL=redis://a/2 REDIS_MODE=standalone", json!({}), "redis : a:6379/2"),
        (upstash, json!({}), "rediss default:tok x.upstash.io:6379/0"),
        (&format!("{upstash} REDIS_PASSWORD=p REDIS_PORT=7"), json!({}), "rediss default:p x.upstash.io:7/0"),
        (&format!("{upstash} REDIS_URL=redis://a"), json!({}), "redis : a:6379/0"),
        (&format!("{upstash} REDIS_HOST=a"), json!({}), "redis : a:6379/0"),
        // Options win, the server as a whole.
        ("REDIS_HOST=a REDIS_PORT=7", json!({ "redisUrl": "redis://b" }), "redis : b:6379/0"),
        ("REDIS_URL=redis://u:p@a:7", json!({ "redisHost": "b" }), "redis : b:6379/0"),
        ("REDIS_URL=redis://u:p@a:7", json!({ "redisPassword": "q", "redisPort": 8 }), "redis u:q a:8/0"),
        ("REDIS_PASSWORD=p REDIS_TLS=true", json!({ "redisUrl": "redis://:q@b" }), "redis :q b:6379/0"),
        (
            "REDIS_HOST=a UPSTASH_REDIS_REST_URL=https://x.upstash.io",
            json!({ "upstashRedisRestToken": "t" }),
            "rediss default:t x.upstash.io:6379/0",
        ),
    ] {
        assert_eq!(place(&valkey(vars, options.clone())), expected, "{vars} {options}");
    }
}

#[test]
fn how_the_server_is_reached() {
    let v = valkey(
        "REDIS_HOST=a REDIS_TLS=on REDIS_TLS_CA=/etc/ca.pem REDIS_MODE=Cluster",
        json!({ "redisClusterNodes": ["a:6379", "c:7000", "[::1]:7001", "c:7000"] }),
    );
    let tls = TlsSettings { ca_path: Some("/etc/ca.pem".into()) };
    assert_eq!((v.tls, v.mode), (Some(tls), ConnectionMode::Cluster));
    let node = |host: &str, port| Endpoint { host: host.into(), port };
    assert_eq!(v.seeds, [node("c", 7000), node("::1", 7001)]);
}

#[test]
fn what_does_not_go_together() {
    let both = "REDIS_URL=\"***\" is not accepted: either REDIS_URL or REDIS_HOST, not both. REDIS_HOST names a server as well; remove one of the two.";
    let nowhere = "CACHE_STORE=\"valkey\" is not accepted: valkey only together with a server. Set REDIS_HOST or REDIS_URL.";
    for (vars, options, expected) in [
        ("REDIS_URL=redis://a REDIS_HOST=a", json!({}), both),
        ("CACHE_STORE=valkey", json!({}), nowhere),
        ("CACHE_STORE=valkey REDIS_HOST=", json!({}), nowhere),
        (
            "REDIS_URL=redis://a:1 REDIS_PORT=2",
            json!({}),
            "REDIS_PORT=\"2\" is not accepted: the same as in REDIS_URL, or unset. REDIS_URL says something else; remove one of the two.",
        ),
        (
            "",
            json!({ "redisUrl": "rediss://a", "redisTls": false }),
            "REDIS_TLS=\"false\" (option redisTls) is not accepted: the same as in REDIS_URL, or unset. REDIS_URL says something else; remove one of the two.",
        ),
        (
            "REDIS_URL=redis://:p@a REDIS_PASSWORD=q",
            json!({}),
            "REDIS_PASSWORD=\"***\" is not accepted: the same as in REDIS_URL, or unset. REDIS_URL says something else; remove one of the two.",
        ),
        (
            "REDIS_URL=redis://a/3",
            json!({}),
            "REDIS_URL=\"***\" is not accepted: database 3 only with REDIS_MODE=standalone. A cluster has database 0 only; use REDIS_KEY_PREFIX to keep applications apart.",
        ),
        (
            "UPSTASH_REDIS_REST_URL=https://x.io",
            json!({}),
            "UPSTASH_REDIS_REST_URL=\"***\" is not accepted: only together with UPSTASH_REDIS_REST_TOKEN. Set UPSTASH_REDIS_REST_TOKEN too, or remove UPSTASH_REDIS_REST_URL.",
        ),
        (
            "UPSTASH_REDIS_REST_TOKEN=t REDIS_HOST=a",
            json!({}),
            "UPSTASH_REDIS_REST_TOKEN=\"***\" is not accepted: only together with UPSTASH_REDIS_REST_URL. Set UPSTASH_REDIS_REST_URL too, or remove UPSTASH_REDIS_REST_TOKEN.",
        ),
        (
            "UPSTASH_REDIS_REST_URL=https://x.io UPSTASH_REDIS_REST_TOKEN=t REDIS_TLS=no",
            json!({}),
            "REDIS_TLS=\"no\" is not accepted: true, because Upstash is reached by TLS only. UPSTASH_REDIS_REST_URL names the server; use REDIS_URL for one without TLS.",
        ),
        (
            "REDIS_HOST=a REDIS_USERNAME=u",
            json!({}),
            "REDIS_USERNAME=\"u\" is not accepted: a user together with a password. Set REDIS_PASSWORD.",
        ),
        (
            "REDIS_HOST=a REDIS_TLS_CA=/ca.pem",
            json!({}),
            "REDIS_TLS_CA=\"/ca.pem\" is not accepted: only together with TLS. The connection is not encrypted; set REDIS_TLS=true or use rediss://.",
        ),
        (
            "REDIS_CLUSTER_NODES=a:1",
            json!({}),
            "REDIS_CLUSTER_NODES=\"a:1\" is not accepted: further nodes only together with a first one. Set REDIS_HOST or REDIS_URL.",
        ),
        (
            "REDIS_HOST=a REDIS_CLUSTER_NODES=a:1 REDIS_MODE=standalone",
            json!({}),
            "REDIS_CLUSTER_NODES=\"a:1\" is not accepted: further nodes only with REDIS_MODE=auto or cluster. REDIS_MODE=standalone uses one server; remove one of the two.",
        ),
    ] {
        assert_eq!(mistakes(vars, options.clone()), [expected], "{vars} {options}");
    }
}
