//! Every variable of the table, read: the step between `raw` and `settings`.
//!
//! Not which values go together.
//!
//! Invariant: a value that cannot be read is reported once, here; later checks treat it as given
//! and stay silent about it.

#[cfg(test)]
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::endpoint::Endpoint;
use super::error::ConfigError;
use super::parse::{Value, parse};
use super::ratelimits::Proxies;
use super::raw::{Origin, Raw};
use super::secret::Secret;
use super::server_url::ServerUrl;
use super::variables::{VARIABLES, Variable, variable};

pub(crate) struct Values<'a> {
    raw: &'a Raw,
    read: BTreeMap<&'static str, Value>,
    unusable: BTreeSet<&'static str>,
    /// Proves that no variable of the table is without a meaning.
    #[cfg(test)]
    pub(crate) asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Values<'a> {
    pub(crate) fn read(raw: &'a Raw, errors: &mut Vec<ConfigError>) -> Self {
        let mut read = BTreeMap::new();
        let mut unusable = raw.rejected.clone();
        for row in VARIABLES {
            if let Some(typed) = raw.values.get(row.name) {
                match parse(&row.kind, &typed.text) {
                    Ok(value) => {
                        read.insert(row.name, value);
                        continue;
                    }
                    Err(hint) => {
                        errors.push(ConfigError::of(row, typed, hint_or_default(hint, row)));
                        unusable.insert(row.name);
                    }
                }
            }
            if let Some(value) = row.default.and_then(|text| parse(&row.kind, text).ok()) {
                read.insert(row.name, value);
            }
        }
        Self {
            raw,
            read,
            unusable,
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Typed by somebody, readable or not.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.raw.values.contains_key(name) || self.raw.rejected.contains(name)
    }

    /// Given, but reported already.
    pub(crate) fn is_unusable(&self, name: &str) -> bool {
        self.unusable.contains(name)
    }

    pub(crate) fn origin(&self, name: &str) -> Option<Origin> {
        let rejected = self.raw.rejected.contains(name).then_some(Origin::Option);
        self.raw.values.get(name).map(|typed| typed.origin).or(rejected)
    }

    /// An error about a value that is fine alone, but not with the others.
    pub(crate) fn conflict(
        &self,
        name: &str,
        accepted: impl Into<String>,
        hint: impl Into<String>,
    ) -> ConfigError {
        let row = variable(name);
        match self.raw.values.get(name) {
            Some(typed) => ConfigError::conflict(row, typed, accepted, hint),
            None => ConfigError {
                variable: row.name.to_owned(),
                option: None,
                value: None,
                accepted: accepted.into(),
                hint: hint.into(),
            },
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    pub(crate) fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    /// A number kind with a default.
    pub(crate) fn number<T: TryFrom<u64>>(&self, name: &str) -> T {
        let number = match self.value(name) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        };
        T::try_from(number).ok().expect("the bounds of the table fit the type they are read into")
    }

    /// The default, whatever was typed.
    pub(crate) fn default_number<T: TryFrom<u64> + Default>(&self, name: &str) -> T {
        let row = variable(name);
        match row.default.map(|text| parse(&row.kind, text)) {
            Some(Ok(Value::Number(number))) => T::try_from(number).unwrap_or_default(),
            _ => T::default(),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(names)) => names.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn nodes(&self, name: &str) -> Vec<Endpoint> {
        match self.value(name) {
            Some(Value::Nodes(nodes)) => nodes.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn server(&self, name: &str) -> Option<&ServerUrl> {
        match self.value(name) {
            Some(Value::Server(url)) => Some(url),
            _ => None,
        }
    }

    pub(crate) fn proxies(&self, name: &str) -> Proxies {
        match self.value(name) {
            Some(Value::Proxies(proxies)) => proxies.clone(),
            _ => Proxies::Unknown,
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let row = variable(name);
        #[cfg(test)]
        self.asked.borrow_mut().insert(row.name);
        self.read.get(row.name)
    }
}

fn hint_or_default(hint: String, row: &Variable) -> String {
    match row.default {
        Some(default) if hint.is_empty() => format!("Leave it out for the default, {default}."),
        _ => hint,
    }
}
