//! The local memory of many keys, bounded in keys and in bytes. Not shared between threads: whoever owns it serialises.
//!
//! What goes first is what was not asked for lately and has nothing to tell the store. When everything has, the
//! oldest is forgotten: that key may then be admitted another share, and the store never hears of it.
//!
//! Invariant: never more than `most` keys, and never more than `budget` bytes unless a single key needs them.

use std::collections::HashMap;

use crate::base::key::Key;

use super::local::{Local, News};
use super::merge::Aged;
use super::{Answer, Limit};

/// Keys looked at when room is needed.
const SAMPLE: usize = 64;
/// What a key costs beside its bytes and those of its memory: slot, map entry, allocations.
const OVERHEAD: usize = 256;

/// What one key has to tell the store.
#[derive(Clone, Debug)]
pub struct Unsent {
    /// Whose it is.
    pub key: Key,
    /// For the command.
    pub limit: Limit,
    news: News,
}

impl Unsent {
    /// Under which the store notes that it was told: the same news have the same one, however often they are sent.
    pub fn mark(&self) -> u64 {
        self.news.mark
    }

    /// To be sent at `now_ms` of the same clock.
    pub fn aged(&self, now_ms: u64) -> Vec<Aged> {
        let aged = |(at, count): &(u64, u32)| Aged { age_ms: now_ms.saturating_sub(*at), count: *count };
        self.news.admitted.iter().map(aged).collect()
    }
}

struct Slot {
    key: Key,
    limit: Limit,
    local: Local,
    used: bool,
    /// Until a window after this something may count.
    touched_ms: u64,
    /// Its place in `waiting`.
    queued: Option<usize>,
}

impl Slot {
    fn bytes(&self) -> usize {
        OVERHEAD + self.key.bytes().len() + self.local.bytes()
    }
}

/// A bounded map of [`Local`].
pub struct Locals {
    index: HashMap<Key, usize, ahash::RandomState>,
    slots: Vec<Slot>,
    /// Places of keys that got something to tell, each once.
    waiting: Vec<usize>,
    /// Where room is looked for next.
    hand: usize,
    /// Which key is looked at next, whether it is over.
    broom: usize,
    most: usize,
    budget: usize,
    bytes: usize,
    forgotten: u64,
}

impl Locals {
    /// For at most `most` keys and `budget` bytes.
    pub fn new(most: usize, budget: usize) -> Self {
        let (index, slots, waiting) = (HashMap::default(), Vec::new(), Vec::new());
        let (hand, broom, bytes, forgotten) = (0, 0, 0, 0);
        Self { index, slots, waiting, hand, broom, most: most.max(1), budget, bytes, forgotten }
    }

    /// Does something to the memory of `key`, which is made when there is none.
    pub fn with<T>(
        &mut self,
        key: &Key,
        limit: &Limit,
        now_ms: u64,
        change: impl FnOnce(&mut Local) -> T,
    ) -> T {
        self.sweep(now_ms);
        let at = match self.index.get(key) {
            Some(at) => *at,
            None => self.make(key, limit),
        };
        let slot = &mut self.slots[at];
        (slot.used, slot.limit, slot.touched_ms) = (true, *limit, now_ms);
        let before = slot.bytes();
        let done = change(&mut slot.local);
        self.bytes = self.bytes - before + slot.bytes();
        self.shrink(at);
        done
    }

    /// Does something to the memory of `key`, if there is one.
    pub fn with_known<T>(&mut self, key: &Key, change: impl FnOnce(&mut Local) -> T) -> Option<T> {
        let slot = &mut self.slots[*self.index.get(key)?];
        let before = slot.bytes();
        let done = change(&mut slot.local);
        self.bytes = self.bytes - before + slot.bytes();
        Some(done)
    }

    /// Decides without the store and remembers to tell it. See [`Local::decide`].
    pub fn decide(&mut self, key: &Key, limit: &Limit, share: u32, cost: u32, now_ms: u64) -> Answer {
        let answer = self.with(key, limit, now_ms, |local| local.decide(limit, share, cost, now_ms));
        self.queue(key);
        answer
    }

    /// What [`Locals::decide`] would say. See [`Local::peek`].
    pub fn peek(&self, key: &Key, limit: &Limit, share: u32, cost: u32, now_ms: u64) -> Answer {
        match self.index.get(key) {
            Some(at) => self.slots[*at].local.peek(limit, share, cost, now_ms),
            None => Local::default().peek(limit, share, cost, now_ms),
        }
    }

    fn queue(&mut self, key: &Key) {
        if let Some(at) = self.index.get(key) {
            self.queue_at(*at);
        }
    }

    fn queue_at(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if slot.local.has_unsent() && slot.queued.is_none() {
            slot.queued = Some(self.waiting.len());
            self.waiting.push(at);
        }
    }

    fn make(&mut self, key: &Key, limit: &Limit) -> usize {
        if self.slots.len() >= self.most {
            self.forget(usize::MAX);
        }
        let (limit, local) = (*limit, Local::default());
        let slot = Slot { key: key.clone(), limit, local, used: true, touched_ms: 0, queued: None };
        self.bytes += slot.bytes();
        self.slots.push(slot);
        self.index.insert(key.clone(), self.slots.len() - 1);
        self.slots.len() - 1
    }

    /// Makes room until the bytes are within the budget, whatever becomes of the others than the one at `kept`.
    fn shrink(&mut self, mut kept: usize) {
        while self.bytes > self.budget && self.slots.len() > 1 {
            let gone = self.forget(kept);
            if kept == self.slots.len() {
                kept = gone;
            }
        }
    }

    /// Forgets a key other than the one at `kept`. Answers its place, which is now the last one's.
    fn forget(&mut self, kept: usize) -> usize {
        let at = self.victim(kept);
        let gone = self.remove(at);
        self.forgotten += u64::from(gone.local.has_unsent());
        at
    }

    /// Of those the hand passes one with nothing to tell, better one that was not used since it passed before; else one
    /// that was not used.
    fn victim(&mut self, kept: usize) -> usize {
        let mut best = (u8::MAX, 0);
        // One more than the sample: the kept one may be among them.
        for _ in 0..(SAMPLE + 1).min(self.slots.len()) {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            if at == kept {
                continue;
            }
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

    /// Lets go of one key, by turns, of which nothing counts any more.
    fn sweep(&mut self, now_ms: u64) {
        if self.broom >= self.slots.len() {
            self.broom = 0;
        }
        let at = self.broom;
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.touched_ms + slot.limit.window_ms() <= now_ms && slot.local.is_over(&slot.limit, now_ms) {
            // The last one takes its place, and is looked at next.
            self.remove(at);
        } else {
            self.broom += 1;
        }
    }

    /// The last one takes its place.
    fn remove(&mut self, at: usize) -> Slot {
        if let Some(place) = self.slots[at].queued {
            self.waiting.swap_remove(place);
            if let Some(moved) = self.waiting.get(place) {
                self.slots[*moved].queued = Some(place);
            }
        }
        let gone = self.slots.swap_remove(at);
        self.index.remove(&gone.key);
        self.bytes -= gone.bytes();
        if let Some(moved) = self.slots.get(at) {
            self.index.insert(moved.key.clone(), at);
            if let Some(place) = moved.queued {
                self.waiting[place] = at;
            }
        }
        gone
    }

    /// News for the store, of `moments` or a few more. The store may be trusted when this is empty and everything
    /// taken before has arrived.
    pub fn take_unsent(&mut self, moments: usize) -> Vec<Unsent> {
        let (mut taken, mut sum, mut more) = (Vec::new(), 0, Vec::new());
        while sum < moments {
            let Some(at) = self.waiting.pop() else { break };
            let slot = &mut self.slots[at];
            slot.queued = None;
            let before = slot.bytes();
            let news = slot.local.take_unsent();
            self.bytes = self.bytes - before + slot.bytes();
            if let Some(news) = news {
                sum += news.admitted.len();
                taken.push(Unsent { key: slot.key.clone(), limit: slot.limit, news });
            }
            if slot.local.has_unsent() {
                more.push(at);
            }
        }
        // Not before the store has taken what was doubted of the key.
        more.into_iter().for_each(|at| self.queue_at(at));
        taken
    }

    /// It did not arrive, or nobody knows: it will be sent again, as it is.
    pub fn put_back(&mut self, unsent: Unsent, now_ms: u64) {
        let Unsent { key, limit, news } = unsent;
        self.with(&key, &limit, now_ms, |local| local.put_back(news));
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

    /// Bytes now, bookkeeping included.
    pub fn bytes(&self) -> usize {
        self.bytes
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
    use crate::limiter::Run;

    const ROOM: usize = 1 << 20;

    fn key(n: usize) -> Key {
        Keys::new("").entry(Namespace::UserBasic, &n.to_string())
    }

    #[test]
    fn keys_are_bounded_and_what_the_store_must_hear_of_stays_longest() {
        let (mut locals, limit) = (Locals::new(64, ROOM), Limit::new(1, 1_000).expect("a limit"));
        for n in 0..32 {
            assert_eq!(locals.decide(&key(n), &limit, 1, 1, 5).decision, Decision::Allow);
        }
        for n in 100..10_000 {
            locals.with(&key(n), &limit, 5, |_| ());
            assert!(locals.len() <= 64);
        }
        assert_eq!(locals.forgotten(), 0);
        let mut taken = locals.take_unsent(20);
        assert_eq!(taken.len(), 20);
        assert_eq!(taken[0].aged(15), [Aged { age_ms: 10, count: 1 }]);
        locals.put_back(taken.pop().expect("one of twenty"), 5);
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
        let (mut locals, limit) = (Locals::new(2, ROOM), Limit::new(1_000, 60_000).expect("a limit"));
        for n in 0..10_000 {
            locals.decide(&key(n), &limit, 1_000, 1, 5);
            locals.decide(&key(1), &limit, 1_000, 1, 6);
            locals.with_known(&key(1), Local::reset);
            assert!(locals.waiting.len() <= 2, "{}", locals.waiting.len());
        }
        for now in 0..60_000 {
            locals.decide(&key(1), &limit, 1_000, 1, 10 + now);
        }
        let told = locals.take_unsent(usize::MAX);
        let moments = told.iter().map(|one| one.news.admitted.len()).max();
        assert!(moments <= Some(66), "{moments:?}");
        let sum: u32 = told.iter().flat_map(|one| &one.news.admitted).map(|(_, count)| count).sum();
        assert!((1_000..=1_002).contains(&sum), "nothing is lost: {sum}");
    }

    #[test]
    fn what_did_not_arrive_is_sent_again_as_it_was_before_what_came_since() {
        let (mut locals, limit) = (Locals::new(4, ROOM), Limit::new(9, 1_000).expect("a limit"));
        locals.decide(&key(1), &limit, 9, 2, 5);
        let first = locals.take_unsent(9).pop().expect("one key");
        let mark = first.mark();
        locals.decide(&key(1), &limit, 9, 3, 48);
        locals.put_back(first, 48);
        for _ in 0..3 {
            let mut again = locals.take_unsent(9);
            let again = again.pop().filter(|_| again.is_empty()).expect("nothing else of this key");
            assert_eq!((again.mark(), again.aged(50)), (mark, vec![Aged { age_ms: 45, count: 2 }]));
            locals.put_back(again, 50);
        }
        assert_eq!(locals.take_unsent(9).len(), 1, "this time it arrived");
        let later = locals.take_unsent(9).pop().expect("what came since");
        assert_ne!(later.mark(), mark);
        assert_eq!(later.aged(50), [Aged { age_ms: 2, count: 3 }]);
        assert!(!locals.has_unsent() && locals.take_unsent(9).is_empty());
        assert_eq!(
            locals.bytes(),
            locals.slots.iter().map(Slot::bytes).sum::<usize>(),
            "the account is right"
        );
    }

    /// The store admits so much of a key at once.
    fn heard(locals: &mut Locals, key: &Key, limit: &Limit, count: u32, now_ms: u64) {
        let runs = [Run { cost: 1, count }];
        let done = crate::limiter::apply(
            &mut Vec::new(),
            limit,
            &crate::limiter::Action::Consume(runs[..].into()),
            now_ms + 9,
        );
        locals.with(key, limit, now_ms, |local| local.heard(limit, &runs, &done.evaluation, now_ms));
    }

    #[test]
    fn bytes_are_bounded_however_many_keys_fill_their_limit() {
        let (mut locals, limit) = (Locals::new(5_000, ROOM), Limit::new(1_000, 60_000).expect("a limit"));
        for n in 0..5_000 {
            heard(&mut locals, &key(n), &limit, 1_000, 5);
            assert!(locals.bytes() <= ROOM, "{} after {n}", locals.bytes());
        }
        assert!(locals.len() > 100, "{} are remembered: 6 KB each", locals.len());
        let sum: usize = locals.slots.iter().map(Slot::bytes).sum();
        assert_eq!(locals.bytes(), sum, "the account is right");
        assert!(locals.index.iter().all(|(key, at)| locals.slots[*at].key == *key));
        // What the store must hear of stays.
        for n in 0..50 {
            locals.decide(&key(n), &limit, 1_000, 1, 6);
        }
        for n in 5_000..6_000 {
            heard(&mut locals, &key(n), &limit, 1_000, 7);
        }
        assert_eq!((locals.take_unsent(usize::MAX).len(), locals.forgotten()), (50, 0));
    }

    #[test]
    fn what_is_over_is_let_go() {
        let (mut locals, limit) = (Locals::new(5_000, ROOM), Limit::new(100, 1_000).expect("a limit"));
        for n in 0..1_000 {
            heard(&mut locals, &key(n), &limit, 100, 5);
        }
        locals.decide(&key(5_000), &limit, 100, 1, 900);
        for turn in 0..2_000 {
            heard(&mut locals, &key(0), &limit, 1, 2_000 + turn);
        }
        assert_eq!(locals.len(), 2, "the one in use, and the one that the store has not heard of");
        assert!(locals.bytes() < 10_000, "{}", locals.bytes());
        assert_eq!(locals.take_unsent(9).len(), 1);
    }

    #[test]
    fn places_stay_right_whatever_comes_and_goes() {
        let (mut locals, mut rng) = (Locals::new(40, 30_000), fastrand::Rng::with_seed(1));
        let limits = [Limit::new(20, 50), Limit::new(2_000, 50)].map(|one| one.expect("a limit"));
        let mut taken = Vec::new();
        for now in 1..100_000 {
            let (key, limit) = (key(rng.usize(0..60)), limits[rng.usize(0..2)]);
            match rng.u8(0..20) {
                0..9 => heard(&mut locals, &key, &limit, 1 + rng.u32(0..20), now),
                9..16 => drop(locals.decide(&key, &limit, limit.most(), 1, now)),
                16 => drop(locals.with_known(&key, Local::reset)),
                17 => taken.extend(locals.take_unsent(rng.usize(0..4))),
                _ => taken.drain(..).for_each(|one| locals.put_back(one, now)),
            }
            assert!(locals.len() <= 40 && locals.bytes() <= 30_000);
            for (place, at) in locals.waiting.iter().enumerate() {
                assert_eq!(locals.slots[*at].queued, Some(place));
            }
            let queued = |slot: &&Slot| slot.queued.is_some();
            assert_eq!(locals.slots.iter().filter(queued).count(), locals.waiting.len());
            let told = |slot: &Slot| !slot.local.has_unsent() || slot.queued.is_some();
            assert!(locals.slots.iter().all(told), "what is to be told waits to be told");
        }
    }
}
