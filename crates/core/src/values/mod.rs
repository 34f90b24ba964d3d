//! Values of the application under keys of its own: `cache:{key}`. What they mean is the application's business;
//! here they have a lifetime and are JSON.
//!
//! Invariant: a value that was computed before an acknowledged `set` or `del` of its key is never stored after it.

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

/// The entry of one key.
#[derive(Clone)]
pub struct ValueSubject {
    key: Key,
    ttl_ms: u64,
}

impl ValueSubject {
    /// Checks key and lifetime; a read needs no lifetime.
    pub fn new(keys: &Keys, key: &str, ttl_ms: Option<u64>) -> Result<Self, Error> {
        if key.is_empty() || key.len() > limits::KEY_PART_BYTES {
            return Err(Error::argument("key", &format!("a text of 1 to {} bytes", limits::KEY_PART_BYTES)));
        }
        if ttl_ms.is_some_and(|ms| ms == 0 || ms > LONGEST_MS) {
            return Err(Error::argument("ttl", "a number of seconds above 0 and at most 2592000 (30 days)"));
        }
        Ok(Self { key: keys.entry(Namespace::Value, key), ttl_ms: ttl_ms.unwrap_or(0) })
    }

    /// A computed value, ready to be stored.
    pub fn loaded(&self, json: String) -> Loaded {
        Loaded { kind: Kind::Value, payload: json.into(), ttl_ms: self.ttl_ms }
    }

    /// What `set` leaves, whatever was there.
    pub fn mark(&self, json: String) -> Effect {
        Effect::Mark { payload: json.into(), ttl_ms: self.ttl_ms }
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
