//! The near cache: values in this process, bounded in bytes. It never decides on its own that a value
//! is current: `tiered` validates it with the store, or `bounded` serves it for a stated age.
//!
//! Invariant: a value read before an invalidation that this process knows of is not kept. Inserting
//! captures the key's epoch before the read; an invalidation moves the epoch first and removes after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::base::codec::{Kind, checksum};
use crate::base::key::{Key, KeyBytes};

const EPOCHS: usize = 1_024;
/// What an entry costs beyond its key and payload.
const OVERHEAD: u64 = 160;

/// One kept value.
pub struct NearEntry {
    /// `Kind::Value` or `Kind::Negative`.
    pub kind: Kind,
    /// Version it had in the store.
    pub etag: u64,
    /// The payload without its header.
    pub payload: Bytes,
    /// Of key and payload, as the header in the store has it: computed once, compared on every validation.
    pub checksum: u32,
    /// Number of this copy, unique in the process.
    pub serial: u64,
    /// Monotonic time before which it must not be used at all.
    pub until_ms: u64,
    /// Monotonic time of the request whose reply last confirmed it. Written by every validated hit,
    /// read by `bounded`; relaxed, because an older reading only makes a hit a miss.
    checked_ms: AtomicU64,
}

impl NearEntry {
    /// When it was last known to be current.
    pub fn checked_ms(&self) -> u64 {
        self.checked_ms.load(Ordering::Relaxed)
    }

    /// It was confirmed by a reply to a request sent at `sent_ms`.
    pub fn confirm(&self, sent_ms: u64) {
        self.checked_ms.fetch_max(sent_ms, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<NearEntry>> for ByBytes {
    fn weight(&self, key: &Key, entry: &Arc<NearEntry>) -> u64 {
        key.bytes().len() as u64 + entry.payload.len() as u64 + OVERHEAD
    }
}

/// The near cache of one engine.
pub struct Near {
    map: Cache<Key, Arc<NearEntry>, ByBytes, ahash::RandomState>,
    /// Moved by every invalidation of a key that falls on it; an unrelated key on the same number
    /// only loses one chance to be kept.
    epochs: Box<[AtomicU64]>,
    hasher: ahash::RandomState,
    serial: AtomicU64,
    capacity: u64,
}

impl Near {
    /// Holds at most `capacity` bytes, keys and bookkeeping included; 0 keeps nothing.
    pub fn new(capacity: u64) -> Self {
        let hasher = ahash::RandomState::new();
        let items = (capacity / 512).clamp(16, 1 << 20) as usize;
        Self {
            map: Cache::with(items, capacity.max(1), ByBytes, hasher.clone(), Default::default()),
            epochs: (0..EPOCHS).map(|_| AtomicU64::new(0)).collect(),
            hasher,
            serial: AtomicU64::new(1),
            capacity,
        }
    }

    /// The kept value of `key`.
    pub fn get(&self, key: &Key, now_ms: u64) -> Option<Arc<NearEntry>> {
        self.map.get(key).filter(|entry| now_ms < entry.until_ms)
    }

    /// As [`Near::get`], without building a key.
    pub fn peek(&self, key: &[u8], now_ms: u64) -> Option<Arc<NearEntry>> {
        self.map.get(&KeyBytes(key)).filter(|entry| now_ms < entry.until_ms)
    }

    /// To be read before the request whose reply will be kept.
    pub fn epoch(&self, key: &Key) -> u64 {
        self.slot(key).load(Ordering::SeqCst)
    }

    /// The number of the epoch that `key` falls on, to ask for it again without hashing.
    pub fn epoch_index(&self, key: &Key) -> usize {
        (self.hasher.hash_one(key) % EPOCHS as u64) as usize
    }

    /// The epoch of that number.
    pub fn epoch_at(&self, index: usize) -> u64 {
        self.epochs[index].load(Ordering::SeqCst)
    }

    /// A number that no kept value has.
    pub fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps a value unless the key was invalidated since `epoch` was read. Returns its number, 0 when
    /// it is not kept.
    pub fn insert(
        &self,
        key: &Key,
        epoch: u64,
        value: (Kind, u64, Bytes),
        sent_ms: u64,
        until_ms: u64,
    ) -> u64 {
        if self.epoch(key) != epoch || self.capacity == 0 {
            return 0;
        }
        let serial = self.next_serial();
        let (kind, etag, payload) = value;
        let checksum = checksum(key.bytes(), &payload);
        let checked_ms = AtomicU64::new(sent_ms);
        let entry = NearEntry { kind, etag, payload, checksum, serial, until_ms, checked_ms };
        self.map.insert(key.clone(), Arc::new(entry));
        if self.epoch(key) != epoch {
            // An invalidation came between the check and the insert; it may have removed too early.
            self.map.remove(key);
            return 0;
        }
        serial
    }

    /// Forgets `key` and refuses values that are on their way.
    pub fn invalidate(&self, key: &Key) {
        let slot = self.slot(key);
        slot.fetch_add(1, Ordering::SeqCst);
        self.map.remove(key);
        // Once more: whoever read the number and then still found the entry holds an outdated number.
        slot.fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets everything: announcements were missed.
    pub fn clear(&self) {
        let step = || self.epochs.iter().for_each(|epoch| _ = epoch.fetch_add(1, Ordering::SeqCst));
        step();
        self.map.clear();
        step();
    }

    /// Entries, bytes, capacity in bytes.
    pub fn usage(&self) -> (usize, u64, u64) {
        (self.map.len(), self.map.weight(), self.capacity)
    }

    fn slot(&self, key: &Key) -> &AtomicU64 {
        &self.epochs[self.epoch_index(key)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Keys, Namespace};

    fn value() -> (Kind, u64, Bytes) {
        (Kind::Value, 1, Bytes::from_static(b"v"))
    }

    #[test]
    fn a_value_read_before_an_invalidation_is_not_kept() {
        let near = Near::new(1 << 20);
        let key = Keys::new("").entry(Namespace::UserBasic, "a");
        let epoch = near.epoch(&key);
        near.invalidate(&key);
        assert_eq!(near.insert(&key, epoch, value(), 0, 10), 0);
        assert!(near.get(&key, 0).is_none());
        let epoch = near.epoch(&key);
        let serial = near.insert(&key, epoch, value(), 0, 10);
        assert!(serial > 0);
        assert_eq!(near.get(&key, 9).map(|entry| entry.serial), Some(serial));
        assert_eq!(near.peek(key.bytes(), 9).map(|entry| entry.serial), Some(serial));
        assert!(near.get(&key, 10).is_none(), "not after its end");
        let epoch = near.epoch(&key);
        near.clear();
        assert_eq!(near.insert(&key, epoch, value(), 0, 10), 0);
    }

    #[test]
    fn it_is_bounded_in_bytes_and_can_be_switched_off() {
        let near = Near::new(64 * 1024);
        let keys = Keys::new("");
        for n in 0..10_000 {
            let key = keys.entry(Namespace::UserBasic, &n.to_string());
            near.insert(&key, near.epoch(&key), (Kind::Value, 1, vec![0; 100].into()), 0, 10);
        }
        assert!(near.usage().1 <= 64 * 1024, "{:?}", near.usage());
        let off = Near::new(0);
        let key = keys.entry(Namespace::UserBasic, "a");
        assert_eq!(off.insert(&key, off.epoch(&key), value(), 0, 10), 0);
    }
}
