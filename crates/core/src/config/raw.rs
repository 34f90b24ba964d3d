//! What was typed: texts and where each came from.
//!
//! Not what they mean, and not whether they are in bounds: only names and JSON types are checked.
//!
//! Invariant: an option hides the environment variable of the same name, even when the option is
//! wrong; a rejected option never falls back to the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value as Json};

use super::error::{ConfigError, ConfigErrors};
use super::kind::Kind;
use super::suggest::did_you_mean;
use super::variables::{VARIABLES, Variable, option_only};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Environment,
    Option,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Typed {
    pub text: String,
    pub origin: Origin,
}

impl fmt::Debug for Typed {
    /// The text may be a secret and this type does not know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Raw {
    /// By environment variable; unset ones are absent.
    pub values: BTreeMap<&'static str, Typed>,
    /// `options.dashboard`, as typed; absent means that there is none.
    pub dashboard: Option<Map<String, Json>>,
    /// `options.near`, as typed.
    pub near: Map<String, Json>,
    /// `options.rateLimits`, as typed.
    pub rate_limits: Map<String, Json>,
    /// `options.schema`, as typed.
    pub schema: Map<String, Json>,
    /// Variables that were given in a form that could not even be kept.
    pub(crate) rejected: BTreeSet<&'static str>,
}

impl Raw {
    pub fn from_parts(env: &[(String, String)], options: &Json) -> Result<Self, ConfigErrors> {
        let (raw, errors) = Self::read(env, options);
        if errors.is_empty() { Ok(raw) } else { Err(ConfigErrors(errors)) }
    }

    /// What could be kept, and what was wrong with the rest.
    pub(crate) fn read(env: &[(String, String)], options: &Json) -> (Self, Vec<ConfigError>) {
        let mut raw = Self::default();
        let mut errors = Vec::new();
        for (name, text) in env {
            // An empty variable is how a shell or a compose file says "unset".
            if let Some(row) = VARIABLES.iter().find(|row| row.name == name && !text.is_empty()) {
                let typed = Typed { text: text.clone(), origin: Origin::Environment };
                raw.values.insert(row.name, typed);
            }
        }
        match options {
            Json::Null => {}
            Json::Object(options) => {
                for (option, json) in options {
                    raw.take_option(option, json, &mut errors);
                }
            }
            other => errors.push(ConfigError::option("options", Some(type_of(other)), "an object", "")),
        }
        (raw, errors)
    }

    fn take_option(&mut self, option: &str, json: &Json, errors: &mut Vec<ConfigError>) {
        let mut nothing = Map::new();
        let nested = match option {
            "dashboard" if json.is_object() => Some(self.dashboard.insert(Map::new())),
            // No further mistakes are looked for in what is no object.
            "dashboard" => Some(&mut nothing),
            "near" => Some(&mut self.near),
            "rateLimits" => Some(&mut self.rate_limits),
            "schema" => Some(&mut self.schema),
            _ => None,
        };
        if let Some(kept) = nested {
            match json {
                Json::Object(map) => kept.clone_from(map),
                other => errors.push(ConfigError::option(option, Some(type_of(other)), "an object", "")),
            }
        } else if let Some(row) = VARIABLES.iter().find(|row| row.option == option) {
            self.take_value(row, json, errors);
        } else {
            // The value is not shown: it may be the secret of a misspelt name.
            let hint = did_you_mean(option, known_options());
            errors.push(ConfigError::option(option, None, "the name of an option", hint));
        }
    }

    fn take_value(&mut self, row: &'static Variable, json: &Json, errors: &mut Vec<ConfigError>) {
        if let Some(text) = typed_text(&row.kind, json) {
            self.rejected.remove(row.name);
            self.values.insert(row.name, Typed { text, origin: Origin::Option });
            return;
        }
        self.values.remove(row.name);
        self.rejected.insert(row.name);
        let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
        let typed = Typed { text, origin: Origin::Option };
        let expected = row.kind.json_type();
        let hint = match json {
            Json::Array(_) if expected.contains("array") => {
                "Every entry must be a string without a comma.".into()
            }
            Json::Null => format!("The option must be {expected}; leave it out instead of null."),
            other => format!("The option must be {expected}, not {}.", type_of(other)),
        };
        errors.push(ConfigError::of(row, &typed, hint));
    }
}

/// The text an option stands for, when its JSON type is the kind's.
fn typed_text(kind: &Kind, json: &Json) -> Option<String> {
    match (kind, json) {
        (Kind::Bool, Json::Bool(flag)) => Some(flag.to_string()),
        (Kind::Bool, _) => None,
        (_, Json::Number(number)) if kind.bounds().is_some() => Some(number.to_string()),
        (_, _) if kind.bounds().is_some() => None,
        (_, Json::String(text)) => Some(text.clone()),
        (Kind::Proxies, Json::Number(hops)) => Some(hops.to_string()),
        (Kind::Nodes | Kind::Identifiers | Kind::Names | Kind::Proxies, Json::Array(items)) => {
            // A comma inside an item would silently make two of it.
            let item = |item: &Json| item.as_str().filter(|text| !text.contains(',')).map(str::to_owned);
            items.iter().map(item).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}

/// For messages; also what is shown in place of a whole object.
pub(crate) fn type_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

fn known_options() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|row| row.option).chain(option_only().iter().map(|row| row.option))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn options_win_and_empty_variables_are_unset() {
        let env = env(&[("REDIS_HOST", "a"), ("REDIS_PORT", "1"), ("REDIS_PASSWORD", ""), ("PATH", "/bin")]);
        let raw = Raw::from_parts(&env, &json!({ "redisHost": "b", "redisTls": true })).expect("sound");
        let seen: Vec<_> =
            raw.values.iter().map(|(name, typed)| (*name, typed.text.as_str(), typed.origin)).collect();
        assert_eq!(
            seen,
            [
                ("REDIS_HOST", "b", Origin::Option),
                ("REDIS_PORT", "1", Origin::Environment),
                ("REDIS_TLS", "true", Origin::Option),
            ]
        );
    }

    #[test]
    fn lists_are_typed_either_way() {
        for (typed, expected) in [
            (json!("a:1,b:2"), Some("a:1,b:2")),
            (json!(["a:1", "b:2"]), Some("a:1,b:2")),
            (json!(["a:1,b:2"]), None),
            (json!(["a:1", 2]), None),
        ] {
            let raw = Raw::from_parts(&[], &json!({ "redisClusterNodes": typed })).ok();
            let text = raw.as_ref().map(|raw| raw.values["REDIS_CLUSTER_NODES"].text.as_str());
            assert_eq!(text, expected, "{typed}");
        }
    }

    #[test]
    fn wrong_names_and_types_are_errors() {
        let number = "The option must be a number, not a string.";
        for (options, expected) in [
            (json!([]), "option options=\"an array\" is not accepted: an object.".to_owned()),
            (json!({ "near": 1 }), "option near=\"a number\" is not accepted: an object.".into()),
            (
                json!({ "redisPasword": "hunter2" }),
                "option redisPasword is not accepted: the name of an option. Did you mean redisPassword?".into(),
            ),
            (json!({ "zzzzzzzz": 1 }), "option zzzzzzzz is not accepted: the name of an option.".into()),
            (
                json!({ "redisPort": "6379" }),
                format!("REDIS_PORT=\"6379\" (option redisPort) is not accepted: a port between 1 and 65535. {number}"),
            ),
            (
                json!({ "redisPassword": 5 }),
                "REDIS_PASSWORD=\"***\" (option redisPassword) is not accepted: a text without control characters. The option must be a string, not a number.".into(),
            ),
            (
                json!({ "jwtUserClaims": ["a,b"] }),
                "JWT_USER_CLAIMS=\"[\\\"a,b\\\"]\" (option jwtUserClaims) is not accepted: names without spaces, separated by commas. Every entry must be a string without a comma.".into(),
            ),
            (
                json!({ "cacheBulkhead": null }),
                "CACHE_BULKHEAD=\"null\" (option cacheBulkhead) is not accepted: a whole number between 1 and 1000. The option must be a number; leave it out instead of null.".into(),
            ),
        ] {
            let error = Raw::from_parts(&[], &options).expect_err("a mistake");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_wrong_option_does_not_fall_back_to_the_environment() {
        let (raw, errors) = Raw::read(&env(&[("REDIS_HOST", "a")]), &json!({ "redisHost": 5 }));
        assert_eq!(errors.len(), 1);
        assert!(raw.values.is_empty() && raw.rejected.contains("REDIS_HOST"));
    }

    #[test]
    fn what_was_typed_is_not_printed() {
        let raw = Raw::from_parts(&env(&[("REDIS_PASSWORD", "hunter2")]), &Json::Null).expect("sound");
        assert!(!format!("{raw:?}").contains("hunter2"));
    }
}
