//! Values of the application under keys of its own: `cache:{key}`. What they mean is the application's business;
//! here they have a lifetime and are JSON, followed by the tags they are under:
//!
//! ```text
//! <JSON>                  or     <JSON>\x1f<tag>\x1f<tag>\x1f
//! ```
//!
//! JSON has no such sign. A tag is percent-escaped as in its key.
//!
//! Invariant: a value that was computed before an acknowledged `set` or `del` of its key is never stored after it.

pub mod pattern;

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::{Key, Keys, Namespace};
use crate::base::limits;
use crate::cache::policy::Subject;
use crate::cache::{Effect, Loaded};

/// Longest life: what the store's own documentation calls a cache and not a database.
pub const LONGEST_MS: u64 = 30 * 24 * 3_600_000;
/// A near copy is confirmed on every read, so this bounds only how long an unused one stays.
const NEAR_MS: u64 = 300_000;
/// Before each tag, and after the last one.
pub(crate) const SEPARATOR: u8 = 31;

/// The entry of one key.
#[derive(Clone)]
pub struct ValueSubject {
    key: Key,
    ttl_ms: u64,
}

impl ValueSubject {
    /// Checks key and lifetime; a read needs no lifetime.
    pub fn new(keys: &Keys, key: &str, ttl_ms: Option<u64>) -> Result<Self, Error> {
        part("key", key)?;
        if ttl_ms.is_some_and(|ms| ms == 0 || ms > LONGEST_MS) {
            return Err(Error::argument("ttl", "a number of seconds above 0 and at most 2592000 (30 days)"));
        }
        Ok(Self { key: keys.entry(Namespace::Value, key), ttl_ms: ttl_ms.unwrap_or(0) })
    }

    /// For how long.
    pub fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    /// A computed value, ready to be stored.
    pub fn loaded(&self, json: String) -> Loaded {
        Loaded { kind: Kind::Value, payload: json.into(), ttl_ms: self.ttl_ms }
    }

    /// What `set` leaves, whatever was there.
    pub fn mark(&self, json: String, tags: &[Key]) -> Effect {
        let mut payload = json.into_bytes();
        for tag in tags {
            payload.push(SEPARATOR);
            payload.extend_from_slice(tag.bytes());
        }
        if !tags.is_empty() {
            payload.push(SEPARATOR);
        }
        Effect::Mark { payload: payload.into(), ttl_ms: self.ttl_ms }
    }
}

impl Subject for ValueSubject {
    fn key(&self) -> &Key {
        &self.key
    }

    fn near_until_ms(&self, _payload: &Bytes, now_ms: u64) -> u64 {
        now_ms + NEAR_MS
    }
}

/// The keys of tags.
pub fn tags(keys: &Keys, tags: &[String]) -> Result<Vec<Key>, Error> {
    if tags.is_empty() || tags.len() > limits::TAGS {
        return Err(Error::argument("tags", &format!("1 to {} texts", limits::TAGS)));
    }
    tags.iter()
        .map(|tag| {
            part("tags", tag)?;
            Ok(keys.entry(Namespace::ValueTag, tag))
        })
        .collect()
}

/// A part of a key, of a length that can be one.
pub fn part(field: &'static str, text: &str) -> Result<(), Error> {
    match text.is_empty() || text.len() > limits::KEY_PART_BYTES {
        true => Err(Error::argument(field, &format!("a text of 1 to {} bytes", limits::KEY_PART_BYTES))),
        false => Ok(()),
    }
}

/// The JSON of a stored value.
pub fn json(payload: &Bytes) -> Bytes {
    match payload.last() {
        Some(&SEPARATOR) => {
            payload.slice(..payload.iter().position(|byte| *byte == SEPARATOR).unwrap_or(payload.len()))
        }
        _ => payload.clone(),
    }
}

/// The keys of the tags that a stored value is under.
pub fn tags_of(keys: &Keys, payload: &Bytes) -> Vec<Key> {
    if payload.last() != Some(&SEPARATOR) {
        return Vec::new();
    }
    payload
        .split(|byte| *byte == SEPARATOR)
        .skip(1)
        .filter_map(|key| keys.parse(key))
        .filter(|key| key.namespace() == Namespace::ValueTag)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_carries_its_tags_behind_its_json() {
        let keys = Keys::new("p:");
        let subject = ValueSubject::new(&keys, "k", Some(5)).expect("a subject");
        let under = tags(&keys, &["a:b".into(), "\u{1f}".into()]).expect("tags");
        for json_text in ["{\"a\":\"\\u001f\"}", "7", "\"\""] {
            let Effect::Mark { payload, ttl_ms: 5 } = subject.mark(json_text.into(), &under) else {
                panic!()
            };
            assert_eq!(json(&payload), json_text);
            assert_eq!(tags_of(&keys, &payload), under);
            let Effect::Mark { payload, .. } = subject.mark(json_text.into(), &[]) else { panic!() };
            assert_eq!((json(&payload), tags_of(&keys, &payload).len()), (json_text.into(), 0));
        }
        assert!(tags(&keys, &[]).is_err() && tags(&keys, &[String::new()]).is_err());
        assert!(tags(&keys, &vec!["t".to_owned(); limits::TAGS + 1]).is_err());
    }
}
