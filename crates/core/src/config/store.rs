//! Which store is used, and everything needed to reach it.
//!
//! Not a client: nothing here connects or reads a file.
//!
//! Invariant: nothing configured means no store, and every other outcome was asked for by name.

use super::endpoint::Endpoint;
use super::error::ConfigError;
use super::place::{Named, Place, resolve_place};
use super::secret::Secret;
use super::values::Values;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    pub kind: StoreKind,
    /// Goes in front of every key; may be empty.
    pub key_prefix: String,
    pub deadline_ms: u64,
    pub connect_timeout_ms: u64,
    pub lease_ms: u64,
    pub flight_wait_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    None,
    Embedded { bytes: u64 },
    Valkey(ValkeySettings),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValkeySettings {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// Present only together with a password.
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub tls: Option<TlsSettings>,
    pub mode: ConnectionMode,
    /// Not 0 only in [`ConnectionMode::Standalone`].
    pub database: u32,
    /// Further nodes to learn the cluster from; without `host` itself.
    pub seeds: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Path of a PEM file to trust instead of the public authorities.
    pub ca_path: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionMode {
    Auto,
    Standalone,
    Cluster,
}

pub(crate) fn resolve_store(
    values: &Values<'_>,
    errors: &mut Vec<ConfigError>,
    notices: &mut Vec<String>,
) -> StoreSettings {
    StoreSettings {
        kind: resolve_kind(values, errors, notices),
        key_prefix: values.owned("REDIS_KEY_PREFIX").unwrap_or_default(),
        deadline_ms: values.number("CACHE_DEADLINE_MS"),
        connect_timeout_ms: values.number("CACHE_CONNECT_TIMEOUT_MS"),
        lease_ms: values.number("CACHE_LEASE_MS"),
        flight_wait_ms: values.number("CACHE_FLIGHT_WAIT_MS"),
    }
}

fn resolve_kind(values: &Values<'_>, errors: &mut Vec<ConfigError>, notices: &mut Vec<String>) -> StoreKind {
    match values.text("CACHE_STORE") {
        Some("none") => return StoreKind::None,
        Some("embedded") => {
            return StoreKind::Embedded { bytes: values.number("CACHE_EMBEDDED_BYTES") };
        }
        _ if values.is_unusable("CACHE_STORE") => return StoreKind::None,
        _ => {}
    }
    match resolve_place(values, errors) {
        Named::At(place) => StoreKind::Valkey(valkey(values, place, errors)),
        Named::Unusable => StoreKind::None,
        Named::Nowhere => {
            nowhere(values, errors, notices);
            StoreKind::None
        }
    }
}

/// No server is named. That is fine, unless somebody clearly meant one.
fn nowhere(values: &Values<'_>, errors: &mut Vec<ConfigError>, notices: &mut Vec<String>) {
    let fix = "Set REDIS_HOST or REDIS_URL.";
    if values.is_given("CACHE_STORE") {
        let accepted = "valkey only together with a server";
        errors.push(values.conflict("CACHE_STORE", accepted, fix));
    } else if values.is_given("REDIS_CLUSTER_NODES") {
        let accepted = "further nodes only together with a first one";
        errors.push(values.conflict("REDIS_CLUSTER_NODES", accepted, fix));
    } else {
        let companions = ["REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_TLS", "REDIS_TLS_CA"];
        let given: Vec<&str> = companions.into_iter().filter(|name| values.is_given(name)).collect();
        if !given.is_empty() {
            notices.push(format!(
                "No server is named, so there is no store; not used: {}. {fix}",
                given.join(", ")
            ));
        }
    }
}

fn valkey(values: &Values<'_>, place: Place, errors: &mut Vec<ConfigError>) -> ValkeySettings {
    let mode = match values.text("REDIS_MODE") {
        Some("standalone") => ConnectionMode::Standalone,
        Some("cluster") => ConnectionMode::Cluster,
        _ => ConnectionMode::Auto,
    };
    let mode_is_known = !values.is_unusable("REDIS_MODE");
    if place.database != 0 && mode != ConnectionMode::Standalone && mode_is_known {
        let accepted = format!("database {} only with REDIS_MODE=standalone", place.database);
        let hint = "A cluster has database 0 only; use REDIS_KEY_PREFIX to keep applications apart.";
        errors.push(values.conflict(place.named_by, accepted, hint));
    }
    if values.is_given("REDIS_CLUSTER_NODES") && mode == ConnectionMode::Standalone {
        let accepted = "further nodes only with REDIS_MODE=auto or cluster";
        let hint = "REDIS_MODE=standalone uses one server; remove one of the two.";
        errors.push(values.conflict("REDIS_CLUSTER_NODES", accepted, hint));
    }
    let tls = tls(values, place.tls, errors);
    let mut seeds = values.nodes("REDIS_CLUSTER_NODES");
    seeds.retain(|seed| seed.host != place.host || seed.port != place.port);
    ValkeySettings {
        host: place.host,
        port: place.port,
        username: place.username,
        password: place.password,
        tls,
        mode,
        database: place.database,
        seeds,
    }
}

fn tls(values: &Values<'_>, on: bool, errors: &mut Vec<ConfigError>) -> Option<TlsSettings> {
    let settings = TlsSettings { ca_path: values.owned("REDIS_TLS_CA") };
    if on {
        return Some(settings);
    }
    // Whoever named a certificate believes that the connection is encrypted.
    if !values.is_unusable("REDIS_TLS") && values.is_given("REDIS_TLS_CA") {
        let hint = "The connection is not encrypted; set REDIS_TLS=true or use rediss://.";
        errors.push(values.conflict("REDIS_TLS_CA", "only together with TLS", hint));
    }
    None
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
