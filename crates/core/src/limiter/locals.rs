//! The local memory of many keys, bounded. Not shared between threads: whoever owns it serialises.
//!
//! What goes first is what was not asked for lately and has nothing to tell the store. When everything has, the
//! oldest is forgotten: that key may then be admitted another share, and the store never hears of it.
//!
//! Invariant: never more than `most` keys.

use std::collections::HashMap;

use crate::base::key::Key;

use super::local::Local;
use super::merge::Aged;
use super::{Action, Limit};

/// Keys looked at when room is needed.
const SAMPLE: usize = 64;

/// What one key has to tell the store.
#[derive(Clone, Debug)]
pub struct Unsent {
    /// Whose it is.
    pub key: Key,
    /// For the command.
    pub limit: Limit,
    admitted: Vec<(u64, u32)>,
}

impl Unsent {
    /// To be sent at `now_ms` of the same clock.
    pub fn action(&self, now_ms: u64) -> Action {
        let aged = |(at, count): &(u64, u32)| Aged { age_ms: now_ms.saturating_sub(*at), count: *count };
        Action::Merge(self.admitted.iter().map(aged).collect())
    }
}

struct Slot {
    key: Key,
    limit: Limit,
    local: Local,
    used: bool,
    /// Its place is in `waiting`.
    queued: bool,
}

/// A bounded map of [`Local`].
pub struct Locals {
    index: HashMap<Key, usize, ahash::RandomState>,
    slots: Vec<Slot>,
    /// Places of keys that got something to tell, each once.
    waiting: Vec<usize>,
    hand: usize,
    most: usize,
    forgotten: u64,
}

impl Locals {
    /// For at most `most` keys.
    pub fn new(most: usize) -> Self {
        let (index, slots, waiting) = (HashMap::default(), Vec::new(), Vec::new());
        Self { index, slots, waiting, hand: 0, most: most.max(1), forgotten: 0 }
    }

    /// The memory of `key`, made when there is none.
    pub fn of(&mut self, key: &Key, limit: &Limit) -> &mut Local {
        let at = match self.index.get(key) {
            Some(at) => *at,
            None => self.make(key, limit),
        };
        let slot = &mut self.slots[at];
        (slot.used, slot.limit) = (true, *limit);
        &mut slot.local
    }

    /// Decides without the store and remembers to tell it. See [`Local::decide`].
    pub fn decide(&mut self, key: &Key, limit: &Limit, share: u32, cost: u32, now_ms: u64) -> super::Answer {
        let answer = self.of(key, limit).decide(limit, share, cost, now_ms);
        self.queue(key);
        answer
    }

    fn queue(&mut self, key: &Key) {
        let Some(at) = self.index.get(key).copied() else { return };
        let slot = &mut self.slots[at];
        if slot.local.has_unsent() && !std::mem::replace(&mut slot.queued, true) {
            self.waiting.push(at);
        }
    }

    /// The memory of `key`, if there is one.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Local> {
        self.index.get(key).map(|at| &mut self.slots[*at].local)
    }

    fn make(&mut self, key: &Key, limit: &Limit) -> usize {
        let mut slot =
            Slot { key: key.clone(), limit: *limit, local: Local::default(), used: true, queued: false };
        let at = if self.slots.len() < self.most {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let at = self.victim();
            slot.queued = self.slots[at].queued;
            let before = std::mem::replace(&mut self.slots[at], slot);
            self.forgotten += u64::from(before.local.has_unsent());
            self.index.remove(&before.key);
            at
        };
        self.index.insert(key.clone(), at);
        at
    }

    /// Of those the hand passes one with nothing to tell, better one that was not used since it passed before; else one
    /// that was not used.
    fn victim(&mut self) -> usize {
        let mut best = (u8::MAX, 0);
        for _ in 0..SAMPLE.min(self.slots.len()) {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            let slot = &mut self.slots[at];
            let used = std::mem::take(&mut slot.used);
            let worth = u8::from(slot.local.has_unsent()) * 2 + u8::from(used);
            if worth < best.0 {
                best = (worth, at);
            }
            if worth == 0 {
                break;
            }
        }
        best.1
    }

    /// News for the store, of `moments` or a few more. The store may be trusted when this is empty and everything
    /// taken before has arrived.
    pub fn take_unsent(&mut self, moments: usize) -> Vec<Unsent> {
        let (mut taken, mut sum) = (Vec::new(), 0);
        while sum < moments {
            let Some(at) = self.waiting.pop() else { break };
            let slot = &mut self.slots[at];
            slot.queued = false;
            let admitted = slot.local.take_unsent();
            if !admitted.is_empty() {
                sum += admitted.len();
                taken.push(Unsent { key: slot.key.clone(), limit: slot.limit, admitted });
            }
        }
        taken
    }

    /// It did not arrive, or nobody knows: it will be sent again.
    pub fn put_back(&mut self, unsent: Unsent) {
        let Unsent { key, limit, admitted } = unsent;
        self.of(&key, &limit).put_back(&limit, admitted);
        self.queue(&key);
    }

    /// Whether the store has to be told something.
    pub fn has_unsent(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Keys that were forgotten although the store had not been told of them.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Keys now.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decision;
    use super::*;
    use crate::base::key::{Keys, Namespace};

    fn key(n: usize) -> Key {
        Keys::new("").entry(Namespace::UserBasic, &n.to_string())
    }

    #[test]
    fn keys_are_bounded_and_what_the_store_must_hear_of_stays_longest() {
        let (mut locals, limit) = (Locals::new(64), Limit::new(1, 1_000).expect("a limit"));
        for n in 0..32 {
            assert_eq!(locals.decide(&key(n), &limit, 1, 1, 5).decision, Decision::Allow);
        }
        for n in 100..10_000 {
            locals.of(&key(n), &limit);
            assert!(locals.len() <= 64);
        }
        assert_eq!(locals.forgotten(), 0);
        let mut taken = locals.take_unsent(20);
        assert_eq!(taken.len(), 20);
        assert_eq!(taken[0].action(15), Action::Merge(vec![Aged { age_ms: 10, count: 1 }]));
        locals.put_back(taken.pop().expect("one of twenty"));
        assert!(locals.has_unsent());
        assert_eq!(locals.take_unsent(usize::MAX).len(), 13);
        assert!(!locals.has_unsent());
        for n in 0..10_000 {
            locals.decide(&key(n), &limit, 1, 1, 5);
            assert!(locals.len() <= 64);
        }
        assert!(locals.forgotten() > 9_000);
        assert!(locals.take_unsent(usize::MAX).len() <= 64);
    }

    #[test]
    fn what_waits_is_bounded_and_so_is_what_one_key_has_to_tell() {
        let (mut locals, limit) = (Locals::new(2), Limit::new(1_000, 60_000).expect("a limit"));
        for n in 0..10_000 {
            locals.decide(&key(n), &limit, 1_000, 1, 5);
            let stamp = locals.decide(&key(1), &limit, 1_000, 1, 6).stamp_ms;
            locals.of(&key(1), &limit).give_back(&limit, 1, stamp, 6);
            assert!(locals.waiting.len() <= 2, "{}", locals.waiting.len());
        }
        for now in 0..60_000 {
            locals.decide(&key(1), &limit, 1_000, 1, 10 + now);
        }
        let told = locals.take_unsent(usize::MAX);
        let moments = told.iter().map(|one| one.admitted.len()).max();
        assert!(moments <= Some(66), "{moments:?}");
        let sum: u32 = told.iter().flat_map(|one| &one.admitted).map(|(_, count)| count).sum();
        assert!((1_000..=1_002).contains(&sum), "nothing is lost: {sum}");
    }

    #[test]
    fn what_did_not_arrive_is_sent_again_with_what_came_since() {
        let (mut locals, limit) = (Locals::new(4), Limit::new(9, 1_000).expect("a limit"));
        locals.decide(&key(1), &limit, 9, 2, 5);
        let taken = locals.take_unsent(9).pop().expect("one key");
        locals.decide(&key(1), &limit, 9, 3, 48);
        locals.put_back(taken);
        let all = locals.take_unsent(9);
        assert_eq!(all.len(), 1);
        let expected = [Aged { age_ms: 45, count: 2 }, Aged { age_ms: 2, count: 3 }];
        assert_eq!(all[0].action(50), Action::Merge(expected.to_vec()));
    }
}
