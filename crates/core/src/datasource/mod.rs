//! Results of data sources: `datasource:{source}:{hash}`, each under the generation `datasource_gen:{source}`.
//!
//! ```text
//! <generation, 16 hex><space><- or z><space><JSON, or JSON as an lz4 block behind its length>
//! ```
//!
//! What a result is made of is the application's business; here it is JSON with a lifetime.
//!
//! Invariant: a result is answered only under the generation that held before its query began, so that one new
//! generation voids all results of a source, running queries included.

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::{Key, Keys, Namespace};
use crate::base::limits;
use crate::cache::policy::{COMPANION_MS, Subject, Times};
use crate::cache::{Effect, Loaded, Verdict};

/// Longest life of a result: none of the buckets is longer than an hour.
pub const LONGEST_MS: u64 = 24 * 3_600_000;
/// Smaller ones are not worth it: they travel in one packet either way.
const COMPRESS_BYTES: usize = 4 * 1_024;
/// What is larger than this once unpacked was not written by us.
const UNPACKED_BYTES: usize = 256 << 20;
/// A near copy is confirmed on every read, so this bounds only how long an unused one stays.
const NEAR_MS: u64 = 300_000;
const PREFIX: usize = 16 + 1 + 1 + 1;

/// The entry of one result.
pub struct ResultSubject {
    key: Key,
    generation: Key,
    ttl_ms: u64,
    longest: usize,
}

impl ResultSubject {
    /// `hash` names parameters and scope; `longest` is the largest JSON that is stored.
    pub fn new(keys: &Keys, source: &str, hash: &str, ttl_ms: u64, longest: usize) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if hash.is_empty() || hash.len() > 64 || !hash.bytes().all(plain) {
            return Err(Error::argument("cacheKey", "a key as queryDataSourceWithCache has returned it"));
        }
        if ttl_ms > LONGEST_MS {
            return Err(Error::argument("ttl", "at most a day"));
        }
        let generation = generation_key(keys, source)?;
        Ok(Self { key: keys.result(source, hash), generation, ttl_ms, longest })
    }

    /// Whether a result of so many bytes is stored.
    pub fn fits(&self, length: usize) -> bool {
        length <= self.longest
    }

    /// What `pack` has made of a result of `length` bytes, ready to be stored. Not storable without a generation.
    pub fn loaded(&self, payload: Bytes, length: usize, generation: Option<u64>) -> Loaded {
        let ttl_ms = if self.fits(length) && generation.is_some() { self.ttl_ms } else { 0 };
        Loaded { kind: Kind::Value, payload, ttl_ms }
    }
}

impl Subject for ResultSubject {
    fn key(&self) -> &Key {
        &self.key
    }

    fn companion(&self) -> Option<&Key> {
        Some(&self.generation)
    }

    fn judge(&self, kind: Kind, payload: &Bytes, companion: Option<u64>) -> Verdict {
        let generation = payload.get(..16).and_then(|digits| std::str::from_utf8(digits).ok());
        let generation = generation.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match (kind, generation) {
            (Kind::Value, Some(_)) if generation == companion => Verdict::Accept,
            _ => Verdict::Stale,
        }
    }

    fn longest(&self) -> usize {
        // Compressed it is smaller, and the header is little; what is too long is decided on the JSON.
        usize::MAX
    }

    fn patience_ms(&self, times: &Times) -> u64 {
        // A query takes as long as it takes: another process runs it again only when the lease is over.
        times.lease_ms
    }

    fn near_until_ms(&self, _payload: &Bytes, now_ms: u64) -> u64 {
        now_ms + NEAR_MS
    }
}

/// The generation of a source.
pub fn generation_key(keys: &Keys, source: &str) -> Result<Key, Error> {
    if source.is_empty() || source.len() > limits::KEY_PART_BYTES {
        return Err(Error::argument("dataSourceId", "a text of 1 to 1024 bytes"));
    }
    Ok(keys.entry(Namespace::DataSourceGeneration, source))
}

/// A new generation: everything under the one before is void.
pub fn regenerate() -> Effect {
    Effect::Mark { payload: Bytes::new(), ttl_ms: COMPANION_MS }
}

/// A result as it is stored.
pub fn pack(json: &[u8], generation: u64) -> Bytes {
    let compress = json.len() >= COMPRESS_BYTES;
    let head = format!("{generation:016x} {} ", if compress { 'z' } else { '-' });
    let body;
    let body = if compress {
        body = lz4_flex::compress_prepend_size(json);
        &body[..]
    } else {
        json
    };
    let mut payload = Vec::with_capacity(PREFIX + body.len());
    payload.extend_from_slice(head.as_bytes());
    payload.extend_from_slice(body);
    payload.into()
}

/// The JSON of a stored result; `None` when it cannot be one.
pub fn unpack(payload: &Bytes) -> Option<Bytes> {
    let body = payload.get(PREFIX..)?;
    match payload[17] {
        b'-' => Some(payload.slice(PREFIX..)),
        b'z' => {
            let length = u32::from_le_bytes(body.get(..4)?.try_into().ok()?) as usize;
            if length > UNPACKED_BYTES {
                return None;
            }
            lz4_flex::decompress_size_prepended(body).ok().map(Bytes::from)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subject() -> ResultSubject {
        ResultSubject::new(&Keys::new("p:"), "3:a", "h-_9", 60_000, 100_000).expect("a subject")
    }

    #[test]
    fn a_result_belongs_to_one_generation() {
        let subject = subject();
        assert_eq!(subject.key().bytes(), b"p:datasource:3%3Aa:h-_9");
        for length in [2, COMPRESS_BYTES * 3] {
            let json = format!("\"{}\"", "x".repeat(length));
            let loaded = subject.loaded(pack(json.as_bytes(), 7), json.len(), Some(7));
            assert_eq!(loaded.ttl_ms, 60_000);
            assert!(loaded.payload.len() < COMPRESS_BYTES, "compressed when it is long");
            assert_eq!(unpack(&loaded.payload), Some(Bytes::from(json)));
            let judge = |generation| subject.judge(Kind::Value, &loaded.payload, generation);
            assert_eq!(judge(Some(7)), Verdict::Accept);
            assert_eq!((judge(Some(8)), judge(None)), (Verdict::Stale, Verdict::Stale));
        }
        assert_eq!(
            subject.loaded(pack(b"1", 0), 1, None).ttl_ms,
            0,
            "without a generation nothing is stored"
        );
        assert_eq!(
            subject.loaded(pack(b"1", 7), 100_001, Some(7)).ttl_ms,
            0,
            "what is too long is not stored"
        );
        assert!(ResultSubject::new(&Keys::new(""), "s", "a:b", 1, 1).is_err());
        assert!(ResultSubject::new(&Keys::new(""), "", "a", 1, 1).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_no_result(bytes in proptest::collection::vec(any::<u8>(), 0..200), mark: bool) {
            let mut bytes = bytes;
            if mark && bytes.len() > 22 {
                bytes[17] = b'z';
                bytes[22] = 0;
            }
            let payload = Bytes::from(bytes);
            unpack(&payload);
            subject().judge(Kind::Value, &payload, Some(1));
        }
    }
}
