//! The store inside the process: the same operations, TTLs and atomicity as Valkey, bounded in bytes.
//! Not shared between processes, so production uses it only when it is named.
//!
//! Invariant: one operation on one key is atomic (one shard lock), and the bytes of all entries never
//! exceed the budget.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;

use crate::base::clock::Clock;
use crate::base::codec::HEADER;

use super::{Op, Reply};

const SHARDS: usize = 16;
/// What an entry costs beyond its bytes: map slot, two allocations, bookkeeping.
const OVERHEAD: usize = 112;
/// Keys looked at when room is needed; the oldest access among them goes.
const SAMPLE: usize = 5;

/// An in-process store.
pub struct Embedded {
    shards: Vec<Mutex<Shard>>,
    hasher: ahash::RandomState,
    clock: Clock,
    budget: usize,
}

#[derive(Default)]
struct Shard {
    slots: HashMap<Bytes, usize, ahash::RandomState>,
    entries: Vec<Item>,
    bytes: usize,
    tick: u64,
    evicted: u64,
}

struct Item {
    key: Bytes,
    value: Bytes,
    expires_ms: u64,
    used: u64,
}

impl Item {
    fn cost(&self) -> usize {
        self.key.len() + self.value.len() + OVERHEAD
    }
}

impl Embedded {
    /// A store that holds at most `budget` bytes, keys and bookkeeping included.
    pub fn new(budget: usize, clock: Clock) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: ahash::RandomState::new(),
            clock,
            budget: budget / SHARDS,
        }
    }

    /// Runs one operation.
    pub fn apply(&self, op: &Op) -> Reply {
        let Some(key) = op.key() else { return Reply::Done(true) };
        let now = self.clock.now_ms();
        let mut shard = self.shards[(self.hasher.hash_one(key.bytes()) % SHARDS as u64) as usize].lock();
        let current = shard.get(key.bytes(), now);
        match op {
            Op::Get(_) => Reply::Bytes(current),
            Op::Head(_) => Reply::Bytes(current.map(|value| value.slice(..value.len().min(HEADER)))),
            Op::Add { value, ttl_ms, .. } => {
                let absent = current.is_none();
                if absent {
                    shard.put(key.bytes(), value.clone(), now + ttl_ms, self.budget);
                }
                Reply::Done(absent)
            }
            Op::Swap { expected, value, ttl_ms, .. } => {
                let holds = current.as_deref() == Some(&expected[..]);
                if holds {
                    shard.put(key.bytes(), value.clone(), now + ttl_ms, self.budget);
                }
                Reply::Done(holds)
            }
            Op::Release { expected, .. } => {
                let holds = current.as_deref() == Some(&expected[..]);
                if holds {
                    shard.remove(key.bytes());
                }
                Reply::Done(holds)
            }
            Op::Put { value, ttl_ms, .. } => {
                shard.put(key.bytes(), value.clone(), now + ttl_ms, self.budget);
                Reply::Done(true)
            }
            Op::Delete(_) => {
                shard.remove(key.bytes());
                Reply::Done(true)
            }
            Op::Announce(_) => Reply::Done(true),
        }
    }

    /// Bytes held now, bookkeeping included.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    /// Entries held now, expired ones that were not looked at included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries.len()).sum()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries removed to make room.
    pub fn evicted(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().evicted).sum()
    }

    /// Every value held, for tests that look for what must not be there.
    pub fn values(&self) -> Vec<Bytes> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().entries.iter().map(|item| item.value.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// Forgets everything, as an operator's flush would.
    pub fn clear(&self) {
        for shard in &self.shards {
            *shard.lock() = Shard::default();
        }
    }
}

impl Shard {
    fn get(&mut self, key: &[u8], now: u64) -> Option<Bytes> {
        let index = *self.slots.get(key)?;
        if self.entries[index].expires_ms <= now {
            self.remove(key);
            return None;
        }
        self.tick += 1;
        self.entries[index].used = self.tick;
        Some(self.entries[index].value.clone())
    }

    fn put(&mut self, key: &[u8], value: Bytes, expires_ms: u64, budget: usize) {
        self.remove(key);
        self.tick += 1;
        let item = Item { key: Bytes::copy_from_slice(key), value, expires_ms, used: self.tick };
        if item.cost() > budget {
            // Larger than the whole shard: not storing is an eviction, which is always allowed.
            self.evicted += 1;
            return;
        }
        while self.bytes + item.cost() > budget {
            self.evict();
        }
        self.bytes += item.cost();
        self.slots.insert(item.key.clone(), self.entries.len());
        self.entries.push(item);
    }

    fn remove(&mut self, key: &[u8]) {
        let Some(index) = self.slots.remove(key) else { return };
        let item = self.entries.swap_remove(index);
        self.bytes -= item.cost();
        if let Some(moved) = self.entries.get(index) {
            self.slots.insert(moved.key.clone(), index);
        }
    }

    fn evict(&mut self) {
        let oldest = (0..SAMPLE)
            .map(|_| fastrand::usize(..self.entries.len()))
            .min_by_key(|index| self.entries[*index].used);
        if let Some(index) = oldest {
            let key = self.entries[index].key.clone();
            self.remove(&key);
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Keys, Namespace};

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn operations_mean_what_the_server_means() {
        let clock = Clock::fake(0);
        let store = Embedded::new(1 << 20, clock.clone());
        let key = Keys::new("").entry(Namespace::UserBasic, "u");
        let get = || store.apply(&Op::Get(key.clone()));
        let add = |value: &str| store.apply(&Op::Add { key: key.clone(), value: bytes(value), ttl_ms: 10 });
        assert_eq!(add("lease"), Reply::Done(true));
        assert_eq!(add("other"), Reply::Done(false));
        let swap = |expected: &str, value: &str| {
            store.apply(&Op::Swap {
                key: key.clone(),
                expected: bytes(expected),
                value: bytes(value),
                ttl_ms: 100,
            })
        };
        assert_eq!(swap("other", "x"), Reply::Done(false));
        assert_eq!(swap("lease", "value"), Reply::Done(true));
        clock.advance_ms(99);
        assert_eq!(get(), Reply::Bytes(Some(bytes("value"))));
        clock.advance_ms(1);
        assert_eq!(get(), Reply::Bytes(None), "expires at its TTL, not after it");
        assert_eq!(swap("value", "x"), Reply::Done(false));
        store.apply(&Op::Put { key: key.clone(), value: bytes("p"), ttl_ms: 5 });
        assert_eq!(store.apply(&Op::Release { key: key.clone(), expected: bytes("q") }), Reply::Done(false));
        assert_eq!(store.apply(&Op::Release { key: key.clone(), expected: bytes("p") }), Reply::Done(true));
        assert_eq!(get(), Reply::Bytes(None));
    }

    #[test]
    fn the_budget_holds_and_recently_used_entries_survive() {
        let store = Embedded::new(SHARDS * 64 * 1024, Clock::fake(0));
        let keys = Keys::new("");
        let hot = keys.entry(Namespace::UserBasic, "hot");
        store.apply(&Op::Put { key: hot.clone(), value: bytes("hot"), ttl_ms: 1_000 });
        for n in 0..50_000 {
            let key = keys.entry(Namespace::UserBasic, &n.to_string());
            store.apply(&Op::Put { key, value: vec![b'x'; 200].into(), ttl_ms: 1_000 });
            if n % 4 == 0 {
                store.apply(&Op::Get(hot.clone()));
            }
            assert!(store.bytes() <= SHARDS * 64 * 1024);
        }
        assert!(store.evicted() > 40_000);
        assert_eq!(store.apply(&Op::Get(hot)), Reply::Bytes(Some(bytes("hot"))));
        let huge = keys.entry(Namespace::UserBasic, "huge");
        store.apply(&Op::Put { key: huge.clone(), value: vec![0; 1 << 20].into(), ttl_ms: 1_000 });
        assert_eq!(store.apply(&Op::Get(huge)), Reply::Bytes(None));
    }
}
