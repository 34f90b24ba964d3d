//! Results of data sources: `datasource:{source}:{hash}`, each under the generation `datasource_gen:{source}`. What a
//! result is made of is the application's business; here it is JSON with a lifetime.
//!
//! Invariant: a result is answered only under the generation that held before its query began, so that one new
//! generation voids all results of a source, running queries included.

mod body;
mod refresh;

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::{Key, Keys, Namespace};
use crate::base::limits;
use crate::cache::policy::{COMPANION_MS, Subject, Times};
use crate::cache::{Age, Effect, Left, Loaded, Verdict};

pub use body::{Head, pack, unpack};
pub use refresh::{Advice, Wish, early};

/// Longest life of a result, and longest time that it is kept beyond it: none of the buckets is longer than an hour.
pub const LONGEST_MS: u64 = 24 * 3_600_000;
/// A near copy is confirmed on every read, so this bounds only how long an unused one stays.
const NEAR_MS: u64 = 300_000;

/// The entry of one result.
pub struct ResultSubject {
    key: Key,
    generation: Key,
    ttl_ms: u64,
    wish: Wish,
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
        Ok(Self { key: keys.result(source, hash), generation, ttl_ms, wish: Wish::default(), longest })
    }

    /// The same, for a caller who accepts that.
    pub fn wishing(self, wish: Wish) -> Result<Self, Error> {
        if wish.stale_ms > LONGEST_MS {
            return Err(Error::argument("staleMs", "at most 86400000 (a day)"));
        }
        if !wish.beta.is_finite() || wish.beta < 0.0 {
            return Err(Error::argument("earlyRefresh", "true, false, or a beta above 0"));
        }
        Ok(Self { wish, ..self })
    }

    /// Whether a result of so many bytes is stored.
    pub fn fits(&self, length: usize) -> bool {
        length <= self.longest
    }

    /// What stands before the body of a result whose query took so long.
    pub fn head(&self, generation: Option<u64>, took_ms: u64) -> Head {
        let short = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        Head {
            generation: generation.unwrap_or(0),
            kept_ms: short(self.wish.stale_ms),
            took_ms: short(took_ms),
        }
    }

    /// What `pack` has made of a result of `length` bytes, ready to be stored. Not storable without a generation.
    pub fn loaded(&self, payload: Bytes, length: usize, generation: Option<u64>) -> Loaded {
        let storable = self.fits(length) && generation.is_some();
        let ttl_ms = if storable { self.ttl_ms + self.wish.stale_ms } else { 0 };
        Loaded { kind: Kind::Value, payload, ttl_ms }
    }

    /// What the caller is told of an entry that is answered; `random` is uniform in (0, 1].
    pub fn advise(&self, payload: &Bytes, left: Left, random: f64) -> Advice {
        match Head::read(payload) {
            Some(head) if self.wish.asks_age() => {
                refresh::advise(self.wish, head, self.age(payload, left), random)
            }
            _ => Advice::default(),
        }
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
        match (kind, Head::read(payload)) {
            (Kind::Value, Some(head)) if Some(head.generation) == companion => Verdict::Accept,
            _ => Verdict::Stale,
        }
    }

    fn ages(&self) -> bool {
        true
    }

    fn asks_age(&self, copy: Option<&Bytes>) -> bool {
        self.wish.asks_age() || copy.and_then(Head::read).is_some_and(|head| head.kept_ms > 0)
    }

    fn age(&self, payload: &Bytes, left: Left) -> Age {
        let kept = Head::read(payload).map_or(0, |head| u64::from(head.kept_ms));
        match left {
            Left::Unasked if kept == 0 => Age::Current { left_ms: u64::MAX },
            Left::Unasked => Age::Unknown,
            Left::Ms(left) if left > kept => Age::Current { left_ms: left - kept },
            Left::Ms(left) => Age::Past { ms: kept - left },
            // At the very end of its time, as far as can be told.
            Left::Gone => Age::Past { ms: kept },
        }
    }

    fn takes_past_ms(&self) -> u64 {
        self.wish.stale_ms
    }

    fn longest(&self) -> usize {
        // Compressed it is smaller, and the header is little; what is too long is decided on the JSON.
        usize::MAX
    }

    fn patience_ms(&self, times: &Times) -> u64 {
        // A lease that is renewed belongs to a query that runs; that of a dead process ends by itself.
        self.longest_load_ms(times)
    }

    fn longest_load_ms(&self, times: &Times) -> u64 {
        limits::RESULT_LOAD_MS.max(times.lease_ms)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subject(stale_ms: u64) -> ResultSubject {
        let subject =
            ResultSubject::new(&Keys::new("p:"), "3:a", "h-_9", 60_000, 100_000).expect("a subject");
        subject.wishing(Wish { stale_ms, beta: 0.0 }).expect("a wish")
    }

    fn loaded(subject: &ResultSubject, json: &str, generation: Option<u64>) -> Loaded {
        subject.loaded(pack(json.as_bytes(), subject.head(generation, 5)), json.len(), generation)
    }

    #[test]
    fn a_result_belongs_to_one_generation() {
        let subject = subject(0);
        assert_eq!(subject.key().bytes(), b"p:datasource:3%3Aa:h-_9");
        for length in [2, body::COMPRESS_BYTES * 3] {
            let json = format!("\"{}\"", "x".repeat(length));
            let loaded = loaded(&subject, &json, Some(7));
            assert_eq!(loaded.ttl_ms, 60_000);
            assert!(loaded.payload.len() < body::COMPRESS_BYTES, "compressed when it is long");
            assert_eq!(unpack(&loaded.payload), Some(Bytes::from(json)));
            let judge = |generation| subject.judge(Kind::Value, &loaded.payload, generation);
            assert_eq!(judge(Some(7)), Verdict::Accept);
            assert_eq!((judge(Some(8)), judge(None)), (Verdict::Stale, Verdict::Stale));
        }
        assert_eq!(loaded(&subject, "1", None).ttl_ms, 0, "without a generation nothing is stored");
        let long = "1".repeat(100_001);
        assert_eq!(loaded(&subject, &long, Some(7)).ttl_ms, 0, "what is too long is not stored");
        assert!(ResultSubject::new(&Keys::new(""), "s", "a:b", 1, 1).is_err());
        assert!(ResultSubject::new(&Keys::new(""), "", "a", 1, 1).is_err());
    }

    #[test]
    fn a_wish_has_bounds() {
        for (stale_ms, beta) in [(LONGEST_MS + 1, 0.0), (0, -0.1), (0, f64::NAN), (0, f64::INFINITY)] {
            let plain = ResultSubject::new(&Keys::new(""), "s", "a", 1, 1).expect("a subject");
            assert!(plain.wishing(Wish { stale_ms, beta }).is_err(), "{stale_ms} {beta}");
        }
    }

    #[test]
    fn only_entries_that_are_kept_are_asked_for_their_age() {
        let (plain, kept) = (subject(0), subject(1_000));
        let payload = |subject: &ResultSubject| loaded(subject, "{}", Some(1)).payload;
        assert!(!plain.asks_age(None) && kept.asks_age(None));
        assert!(!plain.asks_age(Some(&payload(&plain))) && plain.asks_age(Some(&payload(&kept))));
        let unasked = |subject: &ResultSubject| plain.age(&payload(subject), Left::Unasked);
        assert_eq!(unasked(&plain), Age::Current { left_ms: u64::MAX });
        assert_eq!(unasked(&kept), Age::Unknown);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_no_result(bytes in proptest::collection::vec(any::<u8>(), 0..200), left: u64) {
            let payload = Bytes::from(bytes);
            prop_assert_eq!(subject(0).judge(Kind::Value, &payload, Some(1)), Verdict::Stale);
            subject(5).age(&payload, Left::Ms(left));
        }

        /// Stored now for `kept` beyond its time, looked at `later`, by somebody who takes it up to `taken` past its time.
        #[test]
        fn an_entry_is_answered_within_its_time_and_then_as_long_as_its_reader_takes_it(
            kept in 0_u64..=LONGEST_MS,
            later in 0_u64..(60_000 + LONGEST_MS),
            taken in 0_u64..=LONGEST_MS,
        ) {
            let writer = subject(kept);
            let loaded = loaded(&writer, "{}", Some(1));
            prop_assert_eq!(loaded.ttl_ms, 60_000 + kept);
            let left = match loaded.ttl_ms.checked_sub(later) {
                Some(left) => Left::Ms(left),
                None => return Ok(()),
            };
            let reader = subject(taken);
            match reader.age(&loaded.payload, left) {
                Age::Current { left_ms } => prop_assert_eq!(left_ms + later, 60_000),
                Age::Past { ms } => {
                    prop_assert_eq!(ms + 60_000, later);
                    prop_assert_eq!(reader.takes_past_ms(), taken);
                }
                Age::Unknown => prop_assert!(false, "it was asked"),
            }
        }
    }
}
