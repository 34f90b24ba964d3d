//! Values that several layers can answer, such as a dashboard: `cache:{key}`, the key that the application knows, or
//! one entry per scope, `cache:{key}:{hash}`. Not the layers: those are JavaScript's.
//!
//! ```text
//! <JSON>                                          one for all
//! <JSON>\x1f<generation, 16 hex>\x1f              of one scope
//! ```
//!
//! As other values have their tags behind them (`values`), so that whoever reads the key by itself sees the JSON.
//!
//! Invariant: the value of a scope is answered only under the generation `cache_gen:{key}` that held before its layers
//! were asked, so that one new generation voids those of all scopes, loads under way included.

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::{Key, Keys, Namespace};
use crate::base::limits;
use crate::cache::policy::{COMPANION_MS, Subject, Times};
use crate::cache::{Effect, Loaded, Verdict};
use crate::values::{LONGEST_MS, SEPARATOR};

/// A near copy is confirmed on every read, so this bounds only how long an unused one stays.
const NEAR_MS: u64 = 300_000;

/// Which values are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one for all.
    Everybody,
    /// The one of a scope, by its digest.
    Scope(String),
    /// Those of all scopes.
    Scopes,
}

/// The entry of one value.
pub struct LayeredSubject {
    key: Key,
    generation: Option<Key>,
    ttl_ms: u64,
}

impl LayeredSubject {
    /// Checks key and lifetime. `scope` is a digest; empty = one value for all.
    pub fn new(keys: &Keys, key: &str, scope: &str, ttl_ms: u64) -> Result<Self, Error> {
        check(key)?;
        if ttl_ms == 0 || ttl_ms > LONGEST_MS {
            return Err(Error::argument("ttl", "a number of seconds above 0 and at most 2592000 (30 days)"));
        }
        if scope.is_empty() {
            return Ok(Self { key: keys.entry(Namespace::Value, key), generation: None, ttl_ms });
        }
        Ok(Self { key: scoped(keys, key, scope)?, generation: Some(generation(keys, key)), ttl_ms })
    }

    /// What the layers said, ready to be stored.
    pub fn loaded(&self, json: String, generation: Option<u64>) -> Loaded {
        let (kind, ttl_ms) = (Kind::Value, self.ttl_ms);
        match (&self.generation, generation) {
            (None, _) => Loaded { kind, payload: json.into(), ttl_ms },
            (Some(_), Some(generation)) => {
                let end = char::from(SEPARATOR);
                Loaded { kind, payload: format!("{json}{end}{generation:016x}{end}").into(), ttl_ms }
            }
            // Without a generation nobody could void it.
            (Some(_), None) => Loaded { kind, payload: json.into(), ttl_ms: 0 },
        }
    }
}

impl Subject for LayeredSubject {
    fn key(&self) -> &Key {
        &self.key
    }

    fn companion(&self) -> Option<&Key> {
        self.generation.as_ref()
    }

    fn judge(&self, kind: Kind, payload: &Bytes, companion: Option<u64>) -> Verdict {
        match (kind, &self.generation) {
            (Kind::Value, None) => Verdict::Accept,
            (Kind::Value, Some(_)) if companion.is_some() && written_under(payload) == companion => {
                Verdict::Accept
            }
            _ => Verdict::Stale,
        }
    }

    fn patience_ms(&self, times: &Times) -> u64 {
        // Layers take as long as they take: another process asks them again only when the lease is over.
        times.lease_ms
    }

    fn near_until_ms(&self, _payload: &Bytes, now_ms: u64) -> u64 {
        now_ms + NEAR_MS
    }
}

/// What makes values void.
pub fn void(keys: &Keys, key: &str, whose: &Whose) -> Result<(Key, Effect), Error> {
    check(key)?;
    Ok(match whose {
        Whose::Everybody => (keys.entry(Namespace::Value, key), Effect::Delete),
        Whose::Scope(scope) => (scoped(keys, key, scope)?, Effect::Delete),
        Whose::Scopes => {
            (generation(keys, key), Effect::Mark { payload: Bytes::new(), ttl_ms: COMPANION_MS })
        }
    })
}

fn check(key: &str) -> Result<(), Error> {
    if (1..=limits::LAYERED_KEY_BYTES).contains(&key.len()) {
        return Ok(());
    }
    Err(Error::argument("key", &format!("a text of 1 to {} bytes", limits::LAYERED_KEY_BYTES)))
}

fn scoped(keys: &Keys, key: &str, scope: &str) -> Result<Key, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if scope.is_empty() || scope.len() > 64 || !scope.bytes().all(plain) {
        return Err(Error::argument("scopeKey", "the digest of a scope"));
    }
    Ok(keys.entry(Namespace::Value, &format!("{key}:{scope}")))
}

fn generation(keys: &Keys, key: &str) -> Key {
    keys.entry(Namespace::ValueGeneration, key)
}

/// The generation behind a stored value.
fn written_under(payload: &Bytes) -> Option<u64> {
    let [json @ .., SEPARATOR] = &payload[..] else { return None };
    let (before, digits) = json.split_at_checked(json.len().checked_sub(16)?)?;
    if before.last() != Some(&SEPARATOR) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = r#"{"a":1}"#;

    fn subject(scope: &str) -> LayeredSubject {
        LayeredSubject::new(&Keys::new("p:"), "d:v3", scope, 60_000).expect("a subject")
    }

    #[test]
    fn one_for_all_is_the_value_itself() {
        let subject = subject("");
        assert_eq!(subject.key().bytes(), b"p:cache:d%3Av3");
        assert!(subject.companion().is_none());
        let loaded = subject.loaded(TEXT.into(), None);
        assert_eq!((loaded.payload.as_ref(), loaded.ttl_ms), (TEXT.as_bytes(), 60_000));
        assert_eq!(subject.judge(Kind::Value, &loaded.payload, None), Verdict::Accept);
    }

    #[test]
    fn one_of_a_scope_belongs_to_one_generation() {
        let subject = subject("h-_9");
        assert_eq!(subject.key().bytes(), b"p:cache:d%3Av3%3Ah-_9");
        let loaded = subject.loaded(TEXT.into(), Some(0xab));
        let stored = "{\"a\":1}\u{1f}00000000000000ab\u{1f}";
        assert_eq!((loaded.payload.as_ref(), loaded.ttl_ms), (stored.as_bytes(), 60_000));
        let judge = |companion| subject.judge(Kind::Value, &loaded.payload, companion);
        assert_eq!(judge(Some(0xab)), Verdict::Accept);
        assert_eq!((judge(Some(0xac)), judge(None)), (Verdict::Stale, Verdict::Stale));
        assert_eq!(subject.loaded(TEXT.into(), None).ttl_ms, 0, "without a generation nothing is stored");
        assert_eq!(crate::values::json(&loaded.payload), TEXT, "whoever reads the key sees the value");
        let plain = Bytes::from_static(TEXT.as_bytes());
        assert_eq!(subject.judge(Kind::Value, &plain, None), Verdict::Stale, "two unknowns are not equal");
    }

    #[test]
    fn what_voids_one_or_all() {
        let keys = Keys::new("");
        let void = |whose| void(&keys, "d", &whose).expect("a key");
        assert_eq!(void(Whose::Everybody), (keys.entry(Namespace::Value, "d"), Effect::Delete));
        assert_eq!(void(Whose::Scope("h".into())).0, keys.entry(Namespace::Value, "d:h"));
        let (key, effect) = void(Whose::Scopes);
        assert!(matches!(effect, Effect::Mark { .. }));
        let subject = LayeredSubject::new(&keys, "d", "h", 1).expect("a subject");
        assert_eq!(Some(&key), subject.companion());
    }

    #[test]
    fn bad_arguments() {
        let new = |key: &str, scope: &str, ttl_ms| {
            LayeredSubject::new(&Keys::new(""), key, scope, ttl_ms).err().and_then(|error| error.field)
        };
        let long = "k".repeat(limits::LAYERED_KEY_BYTES + 1);
        for (key, scope, ttl_ms, field) in
            [("", "", 1, "key"), (&long, "", 1, "key"), ("k", "a:b", 1, "scopeKey"), ("k", "", 0, "ttl")]
        {
            assert_eq!(new(key, scope, ttl_ms).as_deref(), Some(field));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_not_current(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let payload = Bytes::from(bytes);
            prop_assert_eq!(subject("h").judge(Kind::Value, &payload, Some(1)), Verdict::Stale);
        }
    }
}
