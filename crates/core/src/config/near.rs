//! How the near cache treats each namespace.
//!
//! Not the near cache.
//!
//! Invariant: unless an application asks for `bounded` by name and says how old an answer may be,
//! nothing is served from memory without asking the store.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::error::ConfigError;
use super::kind::one_of;
use super::raw::type_of;
use super::suggest::did_you_mean;

/// The namespaces whose near mode can be chosen.
pub const NEAR_NAMESPACES: &[&str] = &[
    "token_bl",
    "user_basic",
    "user_email",
    "jwt_payload",
    "user_context",
    "role_perms",
    "org_tree",
    "cache",
    "datasource",
];

const MODES: &[&str] = &["validated", "bounded", "off"];

/// Older than the shortest lifetime of an entry would make the store's expiry meaningless.
const MAX_AGE_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NearMode {
    /// Kept in memory, its etag checked against the store at every read.
    #[default]
    Validated,
    /// Served without a round trip while younger than this.
    Bounded {
        max_age_ms: u64,
    },
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NearSettings {
    pub bytes: u64,
    /// Namespaces not in here are [`NearMode::Validated`].
    pub modes: BTreeMap<&'static str, NearMode>,
}

impl NearSettings {
    pub fn mode(&self, namespace: &str) -> NearMode {
        if self.bytes == 0 {
            return NearMode::Off;
        }
        self.modes.get(namespace).copied().unwrap_or_default()
    }
}

pub(crate) fn resolve_near(
    bytes: u64,
    typed: &Map<String, Json>,
    errors: &mut Vec<ConfigError>,
) -> NearSettings {
    let mut modes = BTreeMap::new();
    for (namespace, json) in typed {
        let path = format!("near.{namespace}");
        match NEAR_NAMESPACES.iter().find(|known| *known == namespace) {
            None => {
                let hint = did_you_mean(namespace, NEAR_NAMESPACES.iter().copied());
                errors.push(ConfigError::option(path, None, one_of(NEAR_NAMESPACES), hint));
            }
            Some(known) => {
                if let Some(mode) = resolve_mode(&path, json, errors) {
                    modes.insert(*known, mode);
                }
            }
        }
    }
    NearSettings { bytes, modes }
}

fn resolve_mode(path: &str, json: &Json, errors: &mut Vec<ConfigError>) -> Option<NearMode> {
    let Json::Object(fields) = json else {
        errors.push(ConfigError::option(path, Some(type_of(json)), "an object with mode", ""));
        return None;
    };
    for field in fields.keys().filter(|field| !matches!(field.as_str(), "mode" | "maxAgeMs")) {
        let hint = did_you_mean(field, ["mode", "maxAgeMs"]);
        errors.push(ConfigError::option(format!("{path}.{field}"), None, "mode or maxAgeMs", hint));
    }
    let age_path = format!("{path}.maxAgeMs");
    let age = fields.get("maxAgeMs");
    let mode = fields.get("mode").and_then(Json::as_str).filter(|mode| MODES.contains(mode));
    match mode {
        Some("bounded") => bounded(age_path, age, errors),
        Some(mode) => {
            if let Some(age) = age {
                let hint = format!("It has no meaning in mode {mode}.");
                let shown = age.to_string();
                errors.push(ConfigError::option(age_path, Some(&shown), "only mode bounded has one", hint));
            }
            Some(if mode == "off" { NearMode::Off } else { NearMode::Validated })
        }
        None => {
            let shown = fields.get("mode").map(|json| json.as_str().unwrap_or(type_of(json)));
            let hint = shown.map(|typed| did_you_mean(typed, MODES.iter().copied())).unwrap_or_default();
            errors.push(ConfigError::option(format!("{path}.mode"), shown, one_of(MODES), hint));
            None
        }
    }
}

fn bounded(path: String, age: Option<&Json>, errors: &mut Vec<ConfigError>) -> Option<NearMode> {
    if let Some(max_age_ms) = age.and_then(Json::as_u64).filter(|ms| (1..=MAX_AGE_MS).contains(ms)) {
        return Some(NearMode::Bounded { max_age_ms });
    }
    let shown = age.map(Json::to_string);
    let accepted = format!("a whole number of milliseconds between 1 and {MAX_AGE_MS}");
    let hint = "Mode bounded needs to know how old an answer may be.";
    errors.push(ConfigError::option(path, shown.as_deref(), accepted, hint));
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(typed: Json) -> (NearSettings, Vec<String>) {
        let mut errors = Vec::new();
        let near = resolve_near(1, typed.as_object().expect("a case is an object"), &mut errors);
        (near, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn modes() {
        let (near, errors) = read(json!({
            "user_basic": { "mode": "bounded", "maxAgeMs": 1000 },
            "jwt_payload": { "mode": "off" },
            "token_bl": { "mode": "validated" },
        }));
        assert_eq!(errors, [""; 0]);
        for (namespace, expected) in [
            ("user_basic", NearMode::Bounded { max_age_ms: 1000 }),
            ("jwt_payload", NearMode::Off),
            ("token_bl", NearMode::Validated),
            ("user_email", NearMode::Validated),
        ] {
            assert_eq!(near.mode(namespace), expected);
        }
        assert_eq!(NearSettings { bytes: 0, ..near }.mode("user_basic"), NearMode::Off);
    }

    #[test]
    fn mistakes() {
        let age = "a whole number of milliseconds between 1 and 60000. Mode bounded needs to know how old an answer may be.";
        for (typed, expected) in [
            (
                json!({ "user": {} }),
                "option near.user is not accepted: token_bl, user_basic, user_email, jwt_payload, user_context, role_perms, org_tree, cache or datasource.".to_owned(),
            ),
            (
                json!({ "userBasic": {} }),
                "option near.userBasic is not accepted: token_bl, user_basic, user_email, jwt_payload, user_context, role_perms, org_tree, cache or datasource. Did you mean user_basic?".into(),
            ),
            (
                json!({ "user_basic": "off" }),
                "option near.user_basic=\"a string\" is not accepted: an object with mode.".into(),
            ),
            (
                json!({ "user_basic": {} }),
                "option near.user_basic.mode is not accepted: validated, bounded or off.".into(),
            ),
            (
                json!({ "user_basic": { "mode": "bound" } }),
                "option near.user_basic.mode=\"bound\" is not accepted: validated, bounded or off.".into(),
            ),
            (
                json!({ "user_basic": { "mode": 1 } }),
                "option near.user_basic.mode=\"a number\" is not accepted: validated, bounded or off.".into(),
            ),
            (
                json!({ "user_basic": { "mode": "bounded" } }),
                format!("option near.user_basic.maxAgeMs is not accepted: {age}"),
            ),
            (
                json!({ "user_basic": { "mode": "bounded", "maxAgeMs": 0.5 } }),
                format!("option near.user_basic.maxAgeMs=\"0.5\" is not accepted: {age}"),
            ),
            (
                json!({ "user_basic": { "mode": "off", "maxAgeMs": 5 } }),
                "option near.user_basic.maxAgeMs=\"5\" is not accepted: only mode bounded has one. It has no meaning in mode off.".into(),
            ),
            (
                json!({ "user_basic": { "mode": "off", "maxAge": 5 } }),
                "option near.user_basic.maxAge is not accepted: mode or maxAgeMs. Did you mean maxAgeMs?".into(),
            ),
        ] {
            assert_eq!(read(typed).1, [expected]);
        }
    }
}
