//! The store inside the process: the same operations, TTLs and atomicity as Valkey, bounded in bytes.
//! Not shared between processes, so production uses it only when it is named.
//!
//! Invariant: one operation is atomic (the locks of its shards), and the bytes of all entries never exceed the
//! budget.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;

use crate::base::clock::Clock;
use crate::base::codec::{HEADER, Header, Kind};
use crate::base::key::Key;
use crate::base::limits::TAGGED_KEYS;

use super::{FINER, Op, Reply, StoreResult, counter, members};

mod limits;

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

    /// Runs a batch.
    pub fn exec_all(&self, ops: &[Op]) -> Vec<StoreResult> {
        let early: Vec<Option<Reply>> =
            ops.iter().map(|op| matches!(op, Op::Left(_)).then(|| self.apply(op))).collect();
        ops.iter().zip(early).map(|(op, reply)| reply.map_or_else(|| self.exec(op), Ok)).collect()
    }

    /// Runs one operation. Only what is done with a limit can be refused: entries may always be evicted.
    pub fn exec(&self, op: &Op) -> StoreResult {
        match op {
            Op::Limit { key, limit, action } => self.limit(key, limit, action),
            Op::Tell { key, limit, mark, aged } => self.tell(key, limit, *mark, aged),
            Op::LimitAll(checks) => self.check_all(checks),
            other => Ok(self.apply(other)),
        }
    }

    /// Runs one operation on an entry.
    pub fn apply(&self, op: &Op) -> Reply {
        let Some(key) = op.key() else { return Reply::Done(true) };
        let now = self.clock.now_ms();
        let mut shard = self.shards[self.shard(key)].lock();
        let current = shard.get(key.bytes(), now);
        match op {
            Op::Get(_) => Reply::Bytes(current),
            Op::Head(_) => Reply::Bytes(current.map(|value| value.slice(..value.len().min(HEADER)))),
            Op::Left(_) => Reply::Left(current.and_then(|_| shard.left_ms(key.bytes(), now))),
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
            Op::Replace { head, value, ttl_ms, .. } => {
                let holds = current.is_some_and(|current| current.get(..head.len()) == Some(&head[..]));
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
                Reply::Done(current.is_some())
            }
            Op::Life(_) => {
                let value = current.filter(is_value);
                Reply::Number(value.map(|_| shard.left_ms(key.bytes(), now).unwrap_or(0) as i64))
            }
            Op::Prolong { ttl_ms, .. } => {
                let value = current.filter(is_value);
                let there = value.is_some();
                if let Some(value) = value {
                    shard.put(key.bytes(), value, now + ttl_ms, self.budget);
                }
                Reply::Done(there)
            }
            Op::Keep { ttl_ms, .. } => {
                let there = current.is_some();
                if let Some(value) = current {
                    shard.put(key.bytes(), value, now + ttl_ms, self.budget);
                }
                Reply::Done(there)
            }
            Op::Count { delta, ttl_ms, etag, .. } => {
                let counted = counter::count(key, current.as_ref(), *delta, *etag);
                Reply::Number(counted.map(|counted| {
                    let ttl_ms =
                        if counted.goes_on { shard.left_ms(key.bytes(), now).unwrap_or(0) } else { *ttl_ms };
                    shard.put(key.bytes(), counted.entry, now + ttl_ms, self.budget);
                    counted.number
                }))
            }
            Op::Tag { member, ttl_ms, nonce, .. } => {
                let stamp = (now + ttl_ms) * FINER + nonce;
                let all = members::with(members::all(current.as_ref()), (member.clone(), stamp), now);
                let ttl_ms = shard.left_ms(key.bytes(), now).unwrap_or(0).max(*ttl_ms);
                shard.put(key.bytes(), members::pack(&all), now + ttl_ms, self.budget);
                Reply::Done(true)
            }
            Op::Tagged(_) => {
                let mut all = members::all(current.as_ref());
                all.sort_by_key(|(_, stamp)| *stamp);
                all.truncate(TAGGED_KEYS);
                Reply::Members(all)
            }
            Op::Untag { seen, .. } => {
                let left = members::without(members::all(current.as_ref()), seen);
                let ttl_ms = shard.left_ms(key.bytes(), now).unwrap_or(0);
                match left.is_empty() {
                    true => shard.remove(key.bytes()),
                    false => shard.put(key.bytes(), members::pack(&left), now + ttl_ms, self.budget),
                }
                Reply::Done(true)
            }
            Op::Limit { .. } | Op::Tell { .. } | Op::LimitAll(_) | Op::Announce(_) => Reply::Done(true),
        }
    }

    fn shard(&self, key: &Key) -> usize {
        (self.hasher.hash_one(key.bytes()) % SHARDS as u64) as usize
    }

    /// The keys of one shard that begin like this; `None` = there is no such shard.
    pub(super) fn keys_of(&self, shard: usize, beginning: &[u8]) -> Option<Vec<Bytes>> {
        let now = self.clock.now_ms();
        let shard = self.shards.get(shard)?.lock();
        let live = shard.entries.iter().filter(|item| item.expires_ms > now);
        Some(live.filter(|item| item.key.starts_with(beginning)).map(|item| item.key.clone()).collect())
    }

    /// Bytes held now, bookkeeping included.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    /// Bytes that it may hold.
    pub fn budget(&self) -> usize {
        self.budget * SHARDS
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

    fn left_ms(&self, key: &[u8], now: u64) -> Option<u64> {
        let index = *self.slots.get(key)?;
        Some(self.entries[index].expires_ms.saturating_sub(now))
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

fn is_value(bytes: &Bytes) -> bool {
    Header::decode(bytes).is_some_and(|header| header.kind == Kind::Value)
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
    fn a_version_is_replaced_by_its_header_and_says_how_long_it_lives() {
        let clock = Clock::fake(0);
        let store = Embedded::new(1 << 20, clock.clone());
        let key = Keys::new("").result("s", "h");
        let replace = |head: &str, value: &str| {
            let (head, value) = (bytes(head), bytes(value));
            store.apply(&Op::Replace { key: key.clone(), head, value, ttl_ms: 50 })
        };
        let left = || store.apply(&Op::Left(key.clone()));
        assert_eq!((replace("", "x"), left()), (Reply::Done(false), Reply::Left(None)));
        store.apply(&Op::Put { key: key.clone(), value: bytes("head and body"), ttl_ms: 10 });
        clock.advance_ms(3);
        assert_eq!(left(), Reply::Left(Some(7)));
        assert_eq!(replace("head and body and more", "x"), Reply::Done(false));
        assert_eq!(replace("heap", "x"), Reply::Done(false));
        assert_eq!((replace("head", "next"), left()), (Reply::Done(true), Reply::Left(Some(50))));
        let asked =
            [Op::Get(key.clone()), Op::Delete(key.clone()), Op::Left(key.clone()), Op::Get(key.clone())];
        let answers =
            [Reply::Bytes(Some(bytes("next"))), Reply::Done(true), Reply::Left(Some(50)), Reply::Bytes(None)];
        assert_eq!(store.exec_all(&asked), answers.map(Ok), "how long it lives is asked first");
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
