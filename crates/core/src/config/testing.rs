//! What the tests of configuration share: variables and options as one line each.

use serde_json::Value as Json;

use super::{ConfigErrors, Settings, load};

/// Variables as one text: `A=1 B=2`.
pub(crate) fn env(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split_whitespace().filter_map(pair).collect()
}

pub(crate) fn settings(vars: &str, options: Json) -> Settings {
    load(&env(vars), &options).unwrap_or_else(|errors| panic!("{vars} {options}: {errors}"))
}

pub(crate) fn mistakes(vars: &str, options: Json) -> Vec<String> {
    match load(&env(vars), &options) {
        Ok(settings) => panic!("{vars} {options} was accepted: {settings:?}"),
        Err(ConfigErrors(errors)) => errors.iter().map(ToString::to_string).collect(),
    }
}
