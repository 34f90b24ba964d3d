//! The named rate limits, and how the address of a client is found.
//!
//! Not the limiter.
//!
//! Invariant: a name is in here with a limit that can be enforced, or it does not exist.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Map, Value as Json, json};

use super::error::ConfigError;
use super::kind::one_of;
use super::raw::type_of;
use super::suggest::did_you_mean;

/// What becomes of a check that the store cannot answer.
pub(crate) const ON_STORE_FAILURE: &[&str] = &["local", "open", "closed"];

/// Names that every application has, with their limits and windows in seconds.
const USUAL: &[(&str, u32, f64)] = &[
    ("auth", 20, 900.0),
    ("mfa", 5, 900.0),
    ("upload", 300, 60.0),
    ("api", 500, 60.0),
    ("session_read", 500, 60.0),
    ("admin_cli", 1, 60.0),
    ("warming", 10, 3_600.0),
    ("invalidate", 20, 3_600.0),
];

const NAME_BYTES: usize = 64;
const LIMIT_MAX: u64 = 1_000_000_000;
const WINDOW_S_MAX: f64 = 2_147_483.0;
const FIELDS: [&str; 3] = ["limit", "windowSeconds", "onStoreFailure"];

#[derive(Debug, Clone, PartialEq)]
pub struct NamedLimit {
    pub limit: u32,
    pub window_s: f64,
    /// One of `local`, `open`, `closed`; absent means the default of all.
    pub on_store_failure: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RateLimitSettings {
    pub named: BTreeMap<String, NamedLimit>,
    pub on_store_failure: &'static str,
    pub proxies: Proxies,
}

/// Who stands between the clients and the application.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Proxies {
    /// Nobody said.
    #[default]
    Unknown,
    /// So many.
    Hops(u32),
    /// These addresses and networks.
    Networks(Vec<String>),
}

impl RateLimitSettings {
    /// For the TypeScript side.
    pub fn json(&self) -> Json {
        let named: Map<String, Json> = self
            .named
            .iter()
            .map(|(name, one)| {
                let policy = one.on_store_failure.unwrap_or(self.on_store_failure);
                let limit =
                    json!({ "limit": one.limit, "windowSeconds": one.window_s, "onStoreFailure": policy });
                (name.clone(), limit)
            })
            .collect();
        let proxies = match &self.proxies {
            Proxies::Unknown => Json::Null,
            Proxies::Hops(hops) => json!(hops),
            Proxies::Networks(networks) => json!(networks),
        };
        json!({ "named": named, "onStoreFailure": self.on_store_failure, "trustedProxies": proxies })
    }
}

/// A number of proxies, or their addresses and networks; the error is a hint.
pub(crate) fn parse_proxies(text: &str) -> Result<Proxies, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(hops @ 0..=16) => Ok(Proxies::Hops(hops)),
            _ => Err("More than 16 proxies in a row are hardly meant.".into()),
        };
    }
    let networks: Vec<&str> = text.split(',').map(str::trim).collect();
    match networks.iter().position(|network| !is_network(network)) {
        Some(at) => Err(format!("Entry {} is not one, or it is everybody.", at + 1)),
        None => Ok(Proxies::Networks(networks.into_iter().map(str::to_owned).collect())),
    }
}

/// An address, or a CIDR block that is not everybody: the rule of `lib/limiter/address.ts`, which reads it.
fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let Some(bits) = bits else { return true };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let plain = bits.len() <= 3 && !bits.starts_with('0') && bits.bytes().all(|byte| byte.is_ascii_digit());
    // A block of embedded IPv4 is one of IPv4, so of this length it is all of them.
    let everybody = matches!(address, IpAddr::V6(address) if embeds_ipv4(address)) && bits == "96";
    plain && !everybody && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// The mapped addresses, and the well-known prefix of translators (RFC 6052).
fn embeds_ipv4(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..])
}

pub(crate) fn resolve_named(
    typed: &Map<String, Json>,
    errors: &mut Vec<ConfigError>,
) -> BTreeMap<String, NamedLimit> {
    let usual = |(name, limit, window_s): &(&str, u32, f64)| {
        let one = NamedLimit { limit: *limit, window_s: *window_s, on_store_failure: None };
        ((*name).to_owned(), one)
    };
    let mut named: BTreeMap<String, NamedLimit> = USUAL.iter().map(usual).collect();
    for (name, json) in typed {
        let path = format!("rateLimits.{name}");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(plain) {
            let accepted = "a name of at most 64 characters of A-Z, a-z, 0-9 and _.:-";
            errors.push(ConfigError::option(path, None, accepted, ""));
        } else if let Some(limit) = resolve_one(&path, json, errors) {
            named.insert(name.clone(), limit);
        }
    }
    named
}

fn resolve_one(path: &str, json: &Json, errors: &mut Vec<ConfigError>) -> Option<NamedLimit> {
    let Json::Object(fields) = json else {
        let accepted = "an object with limit and windowSeconds";
        errors.push(ConfigError::option(path, Some(type_of(json)), accepted, ""));
        return None;
    };
    let before = errors.len();
    for field in fields.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
        let hint = did_you_mean(field, FIELDS);
        errors.push(ConfigError::option(format!("{path}.{field}"), None, one_of(&FIELDS), hint));
    }
    let mut refuse = |field: &str, accepted: String| {
        let shown = fields.get(field).map(Json::to_string);
        errors.push(ConfigError::option(format!("{path}.{field}"), shown.as_deref(), accepted, ""));
    };
    let limit = fields.get("limit").and_then(Json::as_u64).filter(|limit| (1..=LIMIT_MAX).contains(limit));
    if limit.is_none() {
        refuse("limit", format!("a whole number between 1 and {LIMIT_MAX}"));
    }
    let inside = |seconds: &f64| (0.001..=WINDOW_S_MAX).contains(seconds);
    let window = fields.get("windowSeconds").and_then(Json::as_f64).filter(inside);
    if window.is_none() {
        refuse("windowSeconds", format!("a number of seconds between 0.001 and {WINDOW_S_MAX}"));
    }
    let policy = fields.get("onStoreFailure").map(|json| {
        let word = json.as_str();
        ON_STORE_FAILURE.iter().copied().find(|known| Some(*known) == word)
    });
    if policy == Some(None) {
        refuse("onStoreFailure", one_of(ON_STORE_FAILURE));
    }
    if errors.len() > before {
        return None;
    }
    Some(NamedLimit { limit: limit? as u32, window_s: window?, on_store_failure: policy.flatten() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_a_number_or_networks() {
        assert_eq!(parse_proxies("2"), Ok(Proxies::Hops(2)));
        let networks = vec!["10.0.0.0/8".to_owned(), "::1".to_owned()];
        assert_eq!(parse_proxies("10.0.0.0/8, ::1"), Ok(Proxies::Networks(networks)));
        for bad in
            ["17", "99999999999", "10.0.0/8", "10.0.0.0/33", "::1/129", "10.0.0.0/+8", "proxy", "1,,2", "-1"]
        {
            assert!(parse_proxies(bad).is_err(), "{bad}");
        }
        for everybody in ["0.0.0.0/0", "::/0", "10.0.0.0/08", "10.0.0.0/", "::ffff:0:0/96", "64:ff9b::/96"] {
            assert!(parse_proxies(everybody).is_err(), "{everybody}");
        }
        for half in ["0.0.0.0/1", "::/1", "::ffff:0:0/97", "::ffff:10.0.0.1", "64:ff9b::/95"] {
            assert!(parse_proxies(half).is_ok(), "{half}");
        }
    }

    #[test]
    fn named_limits_are_added_to_the_usual_ones() {
        let read = |typed: Json| {
            let mut errors = Vec::new();
            let named = resolve_named(typed.as_object().expect("an object"), &mut errors);
            (named, errors.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let (named, errors) = read(json!({
            "api": { "limit": 9, "windowSeconds": 0.5, "onStoreFailure": "closed" },
            "export": { "limit": 3, "windowSeconds": 60 },
        }));
        assert_eq!(errors, [""; 0]);
        assert_eq!(named["api"], NamedLimit { limit: 9, window_s: 0.5, on_store_failure: Some("closed") });
        assert_eq!((named["export"].limit, named["mfa"].limit, named.len()), (3, 5, 9));
        for (typed, expected) in [
            (
                json!({ "a b": {} }),
                "option rateLimits.a b is not accepted: a name of at most 64 characters of A-Z, a-z, 0-9 and _.:-.",
            ),
            (
                json!({ "a": 5 }),
                "option rateLimits.a=\"a number\" is not accepted: an object with limit and windowSeconds.",
            ),
            (
                json!({ "a": { "limit": 0, "windowSeconds": 1 } }),
                "option rateLimits.a.limit=\"0\" is not accepted: a whole number between 1 and 1000000000.",
            ),
            (
                json!({ "a": { "limit": 1 } }),
                "option rateLimits.a.windowSeconds is not accepted: a number of seconds between 0.001 and 2147483.",
            ),
            (
                json!({ "a": { "limit": 1, "windowSeconds": 1, "onStoreFailure": "allow" } }),
                "option rateLimits.a.onStoreFailure=\"\\\"allow\\\"\" is not accepted: local, open or closed.",
            ),
            (
                json!({ "a": { "limit": 1, "windowSeconds": 1, "window": 1 } }),
                "option rateLimits.a.window is not accepted: limit, windowSeconds or onStoreFailure.",
            ),
        ] {
            let (named, errors) = read(typed);
            assert_eq!((errors, named.len()), (vec![expected.to_owned()], 8));
        }
    }
}
