//! Revoked tokens: `token_bl:{jti}`.
//!
//! Invariant: a write of "not revoked" never replaces "revoked".

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::{Key, Keys, Namespace};
use crate::cache::policy::Subject;
use crate::cache::{Effect, Loaded, Verdict};

/// How long "not revoked" is believed: S1's balance of freshness and hits.
pub const CLEAN_MS: u64 = 60_000;
/// How long "revoked" is kept; it never turns back.
pub const REVOKED_MS: u64 = 3_600_000;
/// Width of the column.
pub const JTI_CHARS: usize = 255;

const CLEAN: Bytes = Bytes::from_static(b"0");
const REVOKED: Bytes = Bytes::from_static(b"1");

/// The entry of one token id.
pub struct TokenSubject {
    key: Key,
    /// The id as given.
    pub jti: String,
}

impl TokenSubject {
    /// Checks the id.
    pub fn new(keys: &Keys, jti: &str) -> Result<Self, Error> {
        super::text("tokenId", jti, JTI_CHARS)?;
        Ok(Self { key: keys.entry(Namespace::TokenBlacklist, jti), jti: jti.to_owned() })
    }
}

impl Subject for TokenSubject {
    fn key(&self) -> &Key {
        &self.key
    }

    fn judge(&self, kind: Kind, payload: &Bytes, _companion: Option<u64>) -> Verdict {
        if kind == Kind::Value && (*payload == CLEAN || *payload == REVOKED) {
            Verdict::Accept
        } else {
            Verdict::Stale
        }
    }

    fn near_until_ms(&self, payload: &Bytes, now_ms: u64) -> u64 {
        if revoked(payload) { now_ms + REVOKED_MS } else { 0 }
    }
}

/// Whether the payload says revoked.
pub fn revoked(payload: &Bytes) -> bool {
    *payload == REVOKED
}

/// What the source said, ready to be stored.
pub fn loaded(revoked: bool) -> Loaded {
    if revoked {
        Loaded { kind: Kind::Value, payload: REVOKED, ttl_ms: REVOKED_MS }
    } else {
        Loaded { kind: Kind::Value, payload: CLEAN, ttl_ms: CLEAN_MS }
    }
}

/// What revoking leaves in the store.
pub fn mark() -> Effect {
    Effect::Mark { payload: REVOKED, ttl_ms: REVOKED_MS }
}
