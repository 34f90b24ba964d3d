//! What one instance knows about limits beside the store: denials, its own memory of each key, who else is there.
//! Shared by every thread of an engine.
//!
//! Invariant: the store is trusted in [`Memory::trust`], under the lock under which decisions without it are made; so
//! whatever was admitted without it was told before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use smallvec::{SmallVec, smallvec};

use crate::base::key::Key;
use crate::base::limits;

use super::{Answer, Check, Decision, Denials, Evaluation, Limit, Local, Locals, Peers, Run, Unsent};

/// An instance that was not heard of for so long is gone. Several heartbeats, so that one lost message is none.
const PEER_MS: u64 = 3_000;
/// A longer silence is no time: while nobody is heard, nobody is gone.
const SILENCE_MS: u64 = 1_000;
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

impl Fallback {
    /// What a check is told that this instance decided so.
    fn tell(self, mut answer: Answer) -> Told {
        if self == Fallback::Open {
            answer.decision = Decision::Allow;
        }
        Told::Alone(answer)
    }
}

/// A check and what becomes of it without the store.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose limit, how much, at what cost.
    pub check: Check,
    /// Without the store.
    pub fallback: Fallback,
    /// Of the denials of the key, before it is sent.
    pub epoch: u64,
}

/// Of every limit of a check; nearly always one.
pub type AllAsked = SmallVec<[Asked; 1]>;
/// What a check was told of every limit; nearly always one.
pub type AllTold = SmallVec<[Told; 1]>;

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

/// Who was heard of, in a time that passes only while somebody is: an outage makes nobody disappear, and who comes
/// back from one is waited for.
#[derive(Default)]
struct Heard {
    /// When each other instance was heard of last, by `clock_ms`.
    others: HashMap<u64, u64>,
    clock_ms: u64,
    last_ms: u64,
}

/// See the top of this file.
pub struct Memory {
    denials: Denials,
    /// Held for a few hundred instructions, never over an await.
    locals: Mutex<Locals>,
    /// Written by the listener, read when the store is away.
    peers: Mutex<Heard>,
    own: u64,
    /// The store knows what was admitted without it. Set under the lock of `locals`.
    trusted: AtomicBool,
    /// The server refused a command over several keys: they are asked one by one.
    separate: AtomicBool,
    /// The store is in service and did not take what it was to be told.
    refused: AtomicBool,
}

impl Memory {
    /// For the instance `own`.
    pub fn new(own: u64) -> Self {
        Self {
            denials: Denials::new(limits::LIMIT_DENIALS),
            locals: Mutex::new(Locals::new(limits::LIMIT_KEYS, limits::LIMIT_BYTES)),
            peers: Mutex::default(),
            own,
            trusted: AtomicBool::new(false),
            separate: AtomicBool::new(false),
            refused: AtomicBool::new(false),
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
        self.locals.lock().with(&check.key, &check.limit, now_ms, |local| {
            local.heard(&check.limit, &runs, evaluation, now_ms);
        });
        self.denials.note(&check.key, &check.limit, check.cost.max(1), answer, sent);
    }

    /// Decides without the store: all of them are charged, or none. `None`: the store is `back`. Otherwise it is not
    /// trusted from now on, until it was told.
    pub fn decide(&self, asked: &[Asked], now_ms: u64, back: impl Fn() -> bool) -> Option<AllTold> {
        let peers = self.peers();
        let mut locals = self.locals.lock();
        if back() {
            return None;
        }
        self.distrust();
        if asked.iter().any(|one| one.fallback == Fallback::Closed) {
            let closed = |one: &Asked| match one.fallback {
                Fallback::Closed => Told::Unavailable { retry_after_ms: CLOSED_RETRY_MS },
                _ => Told::NotAsked,
            };
            return Some(asked.iter().map(closed).collect());
        }
        let share = |check: &Check| peers.share(check.limit.most(), check.key.fingerprint());
        let mut told: AllTold = smallvec![Told::NotAsked; asked.len()];
        if asked.len() > 1 {
            // Looked at first: what one of them denies is charged to none.
            for (told, Asked { check, fallback, .. }) in told.iter_mut().zip(asked) {
                let Check { key, limit, cost } = check;
                *told = fallback.tell(locals.peek(key, limit, share(check), *cost, now_ms));
                if !told.admits() {
                    break;
                }
            }
            if !told.iter().all(Told::admits) {
                return Some(told);
            }
        }
        for (told, Asked { check, fallback, .. }) in told.iter_mut().zip(asked) {
            let Check { key, limit, cost } = check;
            *told = fallback.tell(locals.decide(key, limit, share(check), *cost, now_ms));
        }
        Some(told)
    }

    /// What [`Memory::decide`] would say about one check, without charging it.
    pub fn peek(&self, asked: &Asked, now_ms: u64) -> Told {
        let Check { key, limit, cost } = &asked.check;
        if asked.fallback == Fallback::Closed {
            return Told::Unavailable { retry_after_ms: CLOSED_RETRY_MS };
        }
        let share = self.peers().share(limit.most(), key.fingerprint());
        asked.fallback.tell(self.locals.lock().peek(key, limit, share, *cost, now_ms))
    }

    /// The key may admit sooner than was said, because something was given back to it, here or elsewhere. What is known of
    /// it stays: that it counts too much now can only deny.
    pub fn forget_denial(&self, key: &Key) {
        self.denials.forget(key);
    }

    /// Another instance said that it changed the key: what is known of it need not be true any more. What the store
    /// has not heard of stays.
    pub fn changed_elsewhere(&self, key: &Key) {
        self.denials.forget(key);
        self.locals.lock().with_known(key, |local| {
            if !local.has_unsent() {
                local.reset();
            }
        });
    }

    /// Nothing that was said lately need be true: announcements may have been missed.
    pub fn forget_denials(&self) {
        self.denials.forget_all();
    }

    /// The key was reset here.
    pub fn reset(&self, key: &Key) {
        self.denials.forget(key);
        self.locals.lock().with_known(key, Local::reset);
    }

    /// The key is blocked for so long, or no longer.
    pub fn block(&self, key: &Key, limit: &Limit, for_ms: u64, now_ms: u64) {
        self.locals.lock().with(key, limit, now_ms, |local| local.block(limit, for_ms, now_ms));
        if for_ms == 0 {
            self.denials.forget(key);
        }
    }

    /// News for the store, of at most so many moments; whoever takes them tells it or puts them back.
    pub fn take_unsent(&self, moments: usize) -> Vec<Unsent> {
        self.locals.lock().take_unsent(moments)
    }

    /// It did not arrive, or nobody knows.
    pub fn put_back(&self, unsent: Unsent, now_ms: u64) {
        self.locals.lock().put_back(unsent, now_ms);
    }

    /// Trusts the store if it knows everything, while nobody decides without it.
    pub fn trust(&self) -> bool {
        let locals = self.locals.lock();
        let told = !locals.has_unsent();
        if told {
            self.refused.store(false, Ordering::Relaxed);
            self.trusted.store(true, Ordering::SeqCst);
        }
        told
    }

    /// The store does not take what it is told, though it is in service.
    pub fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether it was so when the store was told last.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
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

    /// An instance said that it is there; this one's own word proves that others could be heard.
    pub fn heard_of(&self, instance: u64, now_ms: u64) {
        let mut heard = self.peers.lock();
        heard.clock_ms += now_ms.saturating_sub(heard.last_ms).min(SILENCE_MS);
        heard.last_ms = heard.last_ms.max(now_ms);
        if instance == self.own {
            return;
        }
        let clock_ms = heard.clock_ms;
        if heard.others.len() >= limits::LIMIT_PEERS && !heard.others.contains_key(&instance) {
            heard.others.retain(|_, heard_ms| *heard_ms + PEER_MS > clock_ms);
            if heard.others.len() >= limits::LIMIT_PEERS {
                return;
            }
        }
        heard.others.insert(instance, clock_ms);
    }

    /// Who is there, or was when anybody was heard last; this instance included.
    pub fn peers(&self) -> Peers {
        let heard = self.peers.lock();
        let there = heard.others.iter().filter(|(_, heard_ms)| **heard_ms + PEER_MS > heard.clock_ms);
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
        Asked { check: Check { key: Keys::new("").limit(kind, "u"), limit, cost: 1 }, fallback, epoch: 0 }
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
        let decide = |all: &[Asked], now| memory.decide(all, now, || false).expect("the store is away");
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
        assert_eq!(memory.peek(&both[0], 24), decide(&both[..1], 24)[0]);
        assert!(!memory.trust() && !memory.is_trusted(), "not told yet");
        assert_eq!(memory.decide(&both, 25, || true), None);
        memory.take_unsent(usize::MAX);
        assert!(memory.trust() && memory.is_settled());
        decide(&[asked("late", 5, Fallback::Local)], 26);
        assert!(!memory.is_trusted(), "the store has not heard of it");
    }

    /// Coarse limits stamp with the end of a bucket, not with the time: nothing may depend on the two being alike.
    #[test]
    fn what_a_small_limit_denies_is_not_told_to_the_store_as_charged_to_a_large_one() {
        let memory = Memory::new(1);
        let both = [asked("wide", 5_000, Fallback::Local), asked("narrow", 1, Fallback::Local)];
        let decide = |now| memory.decide(&both, now, || false).expect("the store is away");
        assert_eq!(admitted(&decide(10)), [true, true]);
        for now in 11..300 {
            let told = decide(now);
            assert_eq!(admitted(&told), [true, false]);
            let left = told[0].answer().map(|answer| answer.quota.remaining);
            assert_eq!(left, Some(4_999), "what is told of it is what is left of it");
        }
        let told = memory.take_unsent(usize::MAX);
        let sum = |one: &Unsent| one.aged(300).iter().map(|one| one.count).sum::<u32>();
        let sums: Vec<u32> = told.iter().map(sum).collect();
        assert_eq!(sums, [1, 1]);
    }

    /// Given back elsewhere is not used here.
    #[test]
    fn what_was_admitted_here_counts_here_whoever_was_given_something_back() {
        let memory = Memory::new(1);
        let one = asked("wide", 4, Fallback::Local);
        let runs = vec![Run { cost: 1, count: 4 }];
        let action = crate::limiter::Action::Consume(runs.into());
        let done = crate::limiter::apply(&mut Vec::new(), &one.check.limit, &action, 900).evaluation;
        let all = Check { cost: 4, ..one.check.clone() };
        let quota = crate::limiter::Quota { remaining: 0, next_ms: 1_000, reset_ms: 1_000 };
        let answer = Answer { decision: Decision::Allow, quota, stamp_ms: 900 };
        let runs = vec![crate::limiter::RunVerdict { admitted: 1, retry_ms: Some(0) }];
        memory.heard(
            &all,
            &Evaluation { runs: runs.into(), ..done },
            &answer,
            (memory.epoch(&all.key), 10),
            10,
        );
        memory.forget_denial(&all.key);
        assert_eq!(
            admitted(&memory.decide(std::slice::from_ref(&one), 20, || false).expect("away")),
            [false]
        );
        memory.changed_elsewhere(&all.key);
        assert_eq!(admitted(&memory.decide(&[one], 30, || false).expect("away")), [true], "it was reset");
    }

    #[test]
    fn the_policy_of_each_limit_decides() {
        let memory = Memory::new(1);
        let open = [asked("o", 1, Fallback::Open)];
        for now in 10..15 {
            assert_eq!(admitted(&memory.decide(&open, now, || false).expect("away")), [true]);
        }
        let mixed = [asked("o", 1, Fallback::Open), asked("c", 9, Fallback::Closed)];
        let told = memory.decide(&mixed, 20, || false).expect("away");
        assert_eq!(told[..], [Told::NotAsked, Told::Unavailable { retry_after_ms: 1_000 }]);
        assert!(!told.iter().all(Told::admits));
    }

    #[test]
    fn nobody_disappears_while_nobody_is_heard() {
        let memory = Memory::new(5);
        let beat = |instances: &[u64], from: u64, until: u64| {
            for now in (from..until).step_by(400) {
                instances.iter().for_each(|instance| memory.heard_of(*instance, now));
            }
        };
        beat(&[5, 1, 9], 1_000, 5_000);
        assert_eq!(memory.peers().live(), 3);
        beat(&[5, 9], 5_000, 9_000);
        assert_eq!(memory.peers().live(), 2, "one is gone, the others were heard");
        // Silence of an hour, then this one hears itself again, and the other a moment later.
        beat(&[5], 3_600_000, 3_601_500);
        assert_eq!(memory.peers().live(), 2);
        beat(&[5, 9], 3_601_500, 3_610_000);
        assert_eq!(memory.peers().live(), 2);
        beat(&[5], 3_610_000, 3_615_000);
        assert_eq!(memory.peers(), Peers::ALONE);
        (0..2 * limits::LIMIT_PEERS as u64).for_each(|instance| memory.heard_of(instance, 3_615_000));
        assert!(memory.peers().live() as usize <= limits::LIMIT_PEERS + 1);
    }

    #[test]
    fn a_look_follows_the_policy_of_the_check() {
        let memory = Memory::new(1);
        for fallback in [Fallback::Local, Fallback::Open, Fallback::Closed] {
            let one = asked("look", 1, fallback);
            for now in 10..13 {
                let seen = memory.peek(&one, now).admits();
                let told = memory.decide(std::slice::from_ref(&one), now, || false).expect("away");
                assert_eq!(seen, told[0].admits(), "{fallback:?} at {now}");
            }
        }
    }
}
