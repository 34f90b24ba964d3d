//! What one instance knows about limits beside the store: denials, its own memory of each key, who else is there.
//! Shared by every thread of an engine.
//!
//! Invariant: the store is trusted in [`Memory::trust`], under the lock under which decisions without it are made; so
//! whatever was admitted without it was told before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::base::key::Key;
use crate::base::limits;

use super::{Answer, Check, Decision, Denials, Evaluation, Limit, Local, Locals, Peers, Run, Unsent};

/// An instance that was not heard of for so long is gone. Several heartbeats, so that one lost message is none.
const PEER_MS: u64 = 3_000;
/// How long a denial is believed while nobody could say that the key was reset elsewhere.
const UNHEARD_MS: u64 = 1_000;
/// When a check that was refused for want of a store may be tried again.
const CLOSED_RETRY_MS: u64 = 1_000;

/// What becomes of a check that the store cannot answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// This instance decides, within its share of the limit.
    #[default]
    Local,
    /// It is admitted.
    Open,
    /// It is denied.
    Closed,
}

/// A check and what becomes of it without the store.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose limit, how much, at what cost.
    pub check: Check,
    /// Without the store.
    pub fallback: Fallback,
}

/// What one check of several was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// By the store, or by what it had said before.
    Store(Answer),
    /// By this instance alone.
    Alone(Answer),
    /// Denied because there is no store.
    Unavailable { retry_after_ms: u64 },
    /// Not asked: another one had denied already.
    NotAsked,
}

impl Told {
    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Told::Store(answer) | Told::Alone(answer) => Some(answer),
            Told::Unavailable { .. } | Told::NotAsked => None,
        }
    }

    /// Whether the check may go on as far as this limit is concerned.
    pub fn admits(&self) -> bool {
        match self {
            Told::NotAsked => true,
            told => told.answer().is_some_and(|answer| answer.decision == Decision::Allow),
        }
    }
}

/// See the top of this file.
pub struct Memory {
    denials: Denials,
    /// Held for a few hundred instructions, never over an await.
    locals: Mutex<Locals>,
    /// When each other instance was heard of last. Written by the listener, read when the store is away.
    peers: Mutex<HashMap<u64, u64>>,
    own: u64,
    /// The store knows what was admitted without it. Set under the lock of `locals`.
    trusted: AtomicBool,
    /// The server refused a command over several keys: they are asked one by one.
    separate: AtomicBool,
}

impl Memory {
    /// For the instance `own`.
    pub fn new(own: u64) -> Self {
        Self {
            denials: Denials::new(limits::LIMIT_DENIALS),
            locals: Mutex::new(Locals::new(limits::LIMIT_KEYS)),
            peers: Mutex::default(),
            own,
            trusted: AtomicBool::new(false),
            separate: AtomicBool::new(false),
        }
    }

    /// The denial of a check that cannot succeed yet. `heard`: resets elsewhere would have been heard of.
    pub fn denial(&self, key: &[u8], limit: &Limit, cost: u32, now_ms: u64, heard: bool) -> Option<Answer> {
        let oldest_ms = if heard { 0 } else { now_ms.saturating_sub(UNHEARD_MS) };
        self.denials.answer(key, limit, cost, now_ms, oldest_ms)
    }

    /// To be read before a check is sent, for [`Memory::heard`].
    pub fn epoch(&self, key: &Key) -> u64 {
        self.denials.epoch(key)
    }

    /// The store evaluated a check that was sent at `sent` = (epoch, time).
    pub fn heard(
        &self,
        check: &Check,
        evaluation: &Evaluation,
        answer: &Answer,
        sent: (u64, u64),
        now_ms: u64,
    ) {
        let runs = [Run { cost: check.cost.max(1), count: 1 }];
        self.locals.lock().of(&check.key, &check.limit).heard(&check.limit, &runs, evaluation, now_ms);
        self.denials.note(&check.key, &check.limit, check.cost.max(1), answer, sent);
    }

    /// Decides without the store: all of them are charged, or none. `None`: the store is `back`.
    /// `since_ms`: when it went away; who was there then counts.
    pub fn decide(
        &self,
        asked: &[Asked],
        since_ms: u64,
        now_ms: u64,
        back: impl Fn() -> bool,
    ) -> Option<Vec<Told>> {
        let peers = self.peers(since_ms);
        let mut locals = self.locals.lock();
        if back() {
            return None;
        }
        if asked.iter().any(|one| one.fallback == Fallback::Closed) {
            let closed = |one: &Asked| match one.fallback {
                Fallback::Closed => Told::Unavailable { retry_after_ms: CLOSED_RETRY_MS },
                _ => Told::NotAsked,
            };
            return Some(asked.iter().map(closed).collect());
        }
        let mut told = vec![Told::NotAsked; asked.len()];
        for (at, Asked { check, fallback }) in asked.iter().enumerate() {
            let Check { key, limit, cost } = check;
            let share = peers.share(limit.most(), key.fingerprint());
            let mut answer = locals.decide(key, limit, share, *cost, now_ms);
            let denied = answer.decision != Decision::Allow;
            if denied && *fallback == Fallback::Open {
                answer.decision = Decision::Allow;
            }
            told[at] = Told::Alone(answer);
            if denied && *fallback == Fallback::Local {
                for (before, told) in asked[..at].iter().zip(&told) {
                    let Some(answer) = told.answer() else { continue };
                    let Check { key, limit, cost } = &before.check;
                    locals.of(key, limit).give_back(limit, (*cost).max(1), answer.stamp_ms, now_ms);
                }
                break;
            }
        }
        Some(told)
    }

    /// What [`Memory::decide`] would say about one check, without charging it.
    pub fn peek(&self, asked: &Asked, since_ms: u64, now_ms: u64) -> Told {
        let Check { key, limit, cost } = &asked.check;
        let share = self.peers(since_ms).share(limit.most(), key.fingerprint());
        let mut locals = self.locals.lock();
        let known = locals.get_mut(key).map(|local| local.peek(limit, share, *cost, now_ms));
        Told::Alone(known.unwrap_or_else(|| Local::default().peek(limit, share, *cost, now_ms)))
    }

    /// The key may admit sooner than was said: somebody reset or rewarded it.
    pub fn forget_denial(&self, key: &Key) {
        self.denials.forget(key);
    }

    /// Nothing that was said lately need be true: announcements may have been missed.
    pub fn forget_denials(&self) {
        self.denials.forget_all();
    }

    /// The key was reset here.
    pub fn reset(&self, key: &Key) {
        self.denials.forget(key);
        if let Some(local) = self.locals.lock().get_mut(key) {
            local.reset();
        }
    }

    /// The key is blocked for so long, or no longer.
    pub fn block(&self, key: &Key, limit: &Limit, for_ms: u64, now_ms: u64) {
        self.locals.lock().of(key, limit).block(limit, for_ms, now_ms);
        if for_ms == 0 {
            self.denials.forget(key);
        }
    }

    /// News for the store; whoever takes them tells it or puts them back.
    pub fn take_unsent(&self) -> Vec<Unsent> {
        self.locals.lock().take_unsent(limits::REPLAY_CHUNK)
    }

    /// It did not arrive, or nobody knows.
    pub fn put_back(&self, unsent: Unsent) {
        self.locals.lock().put_back(unsent);
    }

    /// Trusts the store if it knows everything, while nobody decides without it.
    pub fn trust(&self) -> bool {
        let locals = self.locals.lock();
        let told = !locals.has_unsent();
        if told {
            self.trusted.store(true, Ordering::SeqCst);
        }
        told
    }

    /// The store is away.
    pub fn distrust(&self) {
        self.trusted.store(false, Ordering::SeqCst);
    }

    /// Whether the store knew everything when it came into service.
    pub fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::SeqCst)
    }

    /// Whether there is nothing to tell, and the store is trusted.
    pub fn is_settled(&self) -> bool {
        self.is_trusted() && !self.locals.lock().has_unsent()
    }

    /// Another instance said that it is there.
    pub fn heard_of(&self, instance: u64, now_ms: u64) {
        if instance == self.own {
            return;
        }
        let mut peers = self.peers.lock();
        if peers.len() >= limits::LIMIT_PEERS && !peers.contains_key(&instance) {
            peers.retain(|_, heard_ms| *heard_ms + PEER_MS > now_ms);
            if peers.len() >= limits::LIMIT_PEERS {
                return;
            }
        }
        peers.insert(instance, now_ms);
    }

    /// Who was there at that time, this instance included.
    pub fn peers(&self, at_ms: u64) -> Peers {
        let peers = self.peers.lock();
        let there = peers.iter().filter(|(_, heard_ms)| **heard_ms + PEER_MS > at_ms);
        Peers::among(self.own, there.map(|(instance, _)| *instance))
    }

    /// Whether limits of one slot may be asked in one command.
    pub fn may_join(&self) -> bool {
        !self.separate.load(Ordering::Relaxed)
    }

    /// The server does not take several keys in one command.
    pub fn separate(&self) {
        self.separate.store(true, Ordering::Relaxed);
    }

    /// Denials, keys remembered, keys forgotten before the store was told.
    pub fn usage(&self) -> (usize, usize, u64) {
        let locals = self.locals.lock();
        (self.denials.len(), locals.len(), locals.forgotten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::Keys;

    fn asked(kind: &str, most: u32, fallback: Fallback) -> Asked {
        let limit = Limit::new(most, 1_000).expect("a limit");
        Asked { check: Check { key: Keys::new("").limit(kind, "u"), limit, cost: 1 }, fallback }
    }

    fn admitted(told: &[Told]) -> Vec<bool> {
        told.iter()
            .map(|told| matches!(told, Told::Alone(answer) if answer.decision == Decision::Allow))
            .collect()
    }

    #[test]
    fn without_the_store_all_are_charged_or_none() {
        let memory = Memory::new(1);
        let both = [asked("a", 5, Fallback::Local), asked("b", 2, Fallback::Local)];
        let decide = |all: &[Asked], now| memory.decide(all, 0, now, || false).expect("the store is away");
        assert_eq!(admitted(&decide(&both, 10)), [true, true]);
        assert_eq!(admitted(&decide(&both, 11)), [true, true]);
        for now in 12..20 {
            let told = decide(&both, now);
            assert!(!told[1].admits(), "the second is used up");
        }
        for now in 20..23 {
            assert_eq!(
                admitted(&decide(&both[..1], now)),
                [true],
                "the denials charged nothing to the first"
            );
        }
        assert!(!decide(&both[..1], 23)[0].admits());
        assert_eq!(memory.peek(&both[0], 0, 24), decide(&both[..1], 24)[0]);
        assert!(!memory.trust() && !memory.is_trusted(), "not told yet");
        assert_eq!(memory.decide(&both, 0, 25, || true), None);
        memory.take_unsent();
        assert!(memory.trust() && memory.is_settled());
        decide(&[asked("late", 5, Fallback::Local)], 26);
        assert!(memory.is_trusted() && !memory.is_settled());
        memory.distrust();
        assert!(!memory.is_trusted());
    }

    #[test]
    fn the_policy_of_each_limit_decides() {
        let memory = Memory::new(1);
        let open = [asked("o", 1, Fallback::Open)];
        for now in 10..15 {
            assert_eq!(admitted(&memory.decide(&open, 0, now, || false).expect("away")), [true]);
        }
        let mixed = [asked("o", 1, Fallback::Open), asked("c", 9, Fallback::Closed)];
        let told = memory.decide(&mixed, 0, 20, || false).expect("away");
        assert_eq!(told, [Told::NotAsked, Told::Unavailable { retry_after_ms: 1_000 }]);
        assert!(!told.iter().all(Told::admits));
    }

    #[test]
    fn who_was_there_when_the_store_went_away_counts() {
        let memory = Memory::new(5);
        for (instance, heard_ms) in [(1, 100), (9, 2_000), (5, 2_000)] {
            memory.heard_of(instance, heard_ms);
        }
        assert_eq!(memory.peers(2_100).live(), 3);
        assert_eq!(memory.peers(3_100).live(), 2);
        assert_eq!(memory.peers(9_000).live(), 1);
        for instance in 0..2 * limits::LIMIT_PEERS as u64 {
            memory.heard_of(instance, 10_000);
        }
        assert!(memory.peers(10_000).live() as usize <= limits::LIMIT_PEERS + 1);
    }
}
