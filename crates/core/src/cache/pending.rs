//! Invalidations that the store has not acknowledged. Not a log: a newer one of the same key replaces
//! the older one, because both void the same entry.
//!
//! Invariant: while a key is in here this process does not believe the store about it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::base::key::Key;
use crate::base::limits;

use super::invalidate::Effect;

/// Pending invalidations of one engine.
#[derive(Default)]
pub struct Pending {
    map: Mutex<Map>,
    /// Size of the map, so that the hot path asks without locking.
    count: AtomicUsize,
}

#[derive(Default)]
struct Map {
    effects: HashMap<Key, (u64, Effect), ahash::RandomState>,
    next: u64,
}

/// Which invalidation of a key was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Pending {
    /// Registers an invalidation before it is sent; `None` when there is no room.
    pub fn add(&self, key: &Key, effect: Effect) -> Option<Ticket> {
        let mut map = self.map.lock();
        if map.effects.len() >= limits::PENDING_INVALIDATIONS && !map.effects.contains_key(key) {
            return None;
        }
        map.next += 1;
        let number = map.next;
        map.effects.insert(key.clone(), (number, effect));
        self.count.store(map.effects.len(), Ordering::SeqCst);
        Some(Ticket(number))
    }

    /// The store acknowledged it; a newer one of the same key stays.
    pub fn done(&self, key: &Key, ticket: Ticket) {
        let mut map = self.map.lock();
        if map.effects.get(key).is_some_and(|(number, _)| *number == ticket.0) {
            map.effects.remove(key);
        }
        self.count.store(map.effects.len(), Ordering::SeqCst);
    }

    /// Whether this very invalidation still waits.
    pub fn waits(&self, key: &Key, ticket: Ticket) -> bool {
        self.map.lock().effects.get(key).is_some_and(|(number, _)| *number == ticket.0)
    }

    /// Whether the store must not be believed about `key`.
    pub fn contains(&self, key: &Key) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.map.lock().effects.contains_key(key)
    }

    /// The value that waits to be stored over `key`: what this process knows better than the store.
    pub fn mark(&self, key: &Key) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        match self.map.lock().effects.get(key) {
            Some((_, Effect::Mark { payload, .. })) => Some(payload.clone()),
            _ => None,
        }
    }

    /// At most `limit` of them, to be sent again.
    pub fn some(&self, limit: usize) -> Vec<(Key, Ticket, Effect)> {
        let map = self.map.lock();
        map.effects
            .iter()
            .take(limit)
            .map(|(key, (number, effect))| (key.clone(), Ticket(*number), effect.clone()))
            .collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Keys, Namespace};

    #[test]
    fn an_older_acknowledgement_does_not_remove_a_newer_invalidation() {
        let pending = Pending::default();
        let key = Keys::new("").entry(Namespace::UserBasic, "a");
        let first = pending.add(&key, Effect::Delete).expect("room");
        let second = pending.add(&key, Effect::Delete).expect("room");
        pending.done(&key, first);
        assert!(pending.contains(&key));
        pending.done(&key, second);
        assert!(pending.is_empty());
        assert_eq!(pending.mark(&key), None);
        let mark = Effect::Mark { payload: Bytes::from_static(b"1"), ttl_ms: 1 };
        pending.add(&key, mark).expect("room");
        assert_eq!(pending.mark(&key), Some(Bytes::from_static(b"1")));
    }

    #[test]
    fn it_refuses_instead_of_forgetting() {
        let pending = Pending::default();
        let keys = Keys::new("");
        for n in 0..limits::PENDING_INVALIDATIONS {
            assert!(pending.add(&keys.entry(Namespace::UserBasic, &n.to_string()), Effect::Delete).is_some());
        }
        assert!(pending.add(&keys.entry(Namespace::UserBasic, "one more"), Effect::Delete).is_none());
        assert!(
            pending.add(&keys.entry(Namespace::UserBasic, "0"), Effect::Delete).is_some(),
            "a known key has its place"
        );
    }
}
