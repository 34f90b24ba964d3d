//! One key as this instance knows it: what it admitted itself, and how much others had used when the store last
//! answered. It decides while the store is away and remembers what the store has to be told afterwards.
//!
//! Invariants
//! - What this instance admits without the store is, with what it admitted through it, at most its share within any
//!   window; and with what others are known to have used at most the limit.
//! - What was admitted without the store stays unsent until somebody takes it.

use smallvec::smallvec;

use super::coalesce::{self, split};
use super::coarse::width_ms;
use super::merge::Aged;
use super::{Action, Answer, Decision, Evaluation, Form, Limit, Run, Runs, apply, charge, live};

/// Moments of a window that the store is told of.
const MOMENTS: u64 = 64;

/// This instance's memory of one key. Times are those of the process's monotone clock.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Everything this instance admitted, in the bytes of the limit.
    own: Vec<u8>,
    /// What others had used at the last answer; counted as used until `foreign_until_ms`.
    foreign: u32,
    foreign_until_ms: u64,
    /// Admitted without the store: when and how much.
    unsent: Vec<(u64, u32)>,
    /// The same, of which nobody knows whether the store was told. Nearly always none; several only if they were taken before the
    /// first of them was put back.
    doubted: Vec<News>,
}

/// What the store is to be told of a key at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Under which the store notes that it was told, so that the same is never counted twice.
    pub(super) mark: u64,
    pub(super) admitted: Vec<(u64, u32)>,
}

impl Local {
    /// The store answered a `Consume`.
    pub fn heard(&mut self, limit: &Limit, runs: &[Run], evaluation: &Evaluation, now_ms: u64) {
        let now_ms = now_ms.max(1);
        let charged = coalesce::charged(runs, evaluation).min(u64::from(u32::MAX)) as u32;
        let usual = if charged > 0 { charge(&mut self.own, limit, charged, now_ms) } else { None };
        let own = usual.unwrap_or_else(|| {
            if charged > 0 {
                self.charge(limit, charged, now_ms);
            }
            live(&self.own, limit, now_ms)
        });
        let left = coalesce::left(limit, runs, evaluation);
        let own = own.min(u64::from(u32::MAX)) as u32;
        self.foreign = limit.most().saturating_sub(left.remaining).saturating_sub(own);
        self.foreign_until_ms = now_ms + left.reset_ms;
    }

    /// Counts what was admitted, whether it fits or not. More than the limit is as good as the limit.
    fn charge(&mut self, limit: &Limit, cost: u32, now_ms: u64) {
        let cost = cost.min(limit.most());
        let fits = apply(&mut self.own, limit, &Action::Consume(smallvec![Run { cost, count: 1 }]), now_ms);
        if fits.evaluation.runs.iter().all(|run| run.admitted == 0) {
            apply(&mut self.own, limit, &Action::Merge(vec![Aged { age_ms: 0, count: cost }]), now_ms);
        }
    }

    /// Decides without the store; `share` is this instance's part of the limit.
    pub fn decide(&mut self, limit: &Limit, share: u32, cost: u32, now_ms: u64) -> Answer {
        let answer = self.ask(limit, share, cost, now_ms, true);
        if answer.decision == Decision::Allow {
            self.remember(limit, cost.max(1), now_ms.max(1));
        }
        answer
    }

    /// What [`Local::decide`] would say, without charging it.
    pub fn peek(&self, limit: &Limit, share: u32, cost: u32, now_ms: u64) -> Answer {
        self.clone().ask(limit, share, cost, now_ms, false)
    }

    fn ask(&mut self, limit: &Limit, share: u32, cost: u32, now_ms: u64, charge: bool) -> Answer {
        let (now_ms, cost) = (now_ms.max(1), cost.max(1));
        let held_ms = self.foreign_until_ms.saturating_sub(now_ms);
        let foreign = if held_ms > 0 { self.foreign } else { 0 };
        let room = limit.with_most(share.min(limit.most().saturating_sub(foreign)));
        let runs = [Run { cost, count: 1 }];
        let action = if charge { Action::Consume(Runs::from_slice(&runs)) } else { Action::Peek { cost } };
        let evaluation = apply(&mut self.own, &room, &action, now_ms).evaluation;
        let mut answer =
            split(&room, &runs, &evaluation).next().expect("one check was evaluated, so there is one answer");
        if !charge {
            answer.quota = evaluation.quota;
        }
        if answer.decision != Decision::Allow {
            let retry_after_ms =
                self.retry_ms(limit, (share, cost), answer.decision, (foreign, held_ms), now_ms);
            answer.decision = match retry_after_ms {
                Some(retry_after_ms) => Decision::Deny { retry_after_ms },
                None => Decision::Impossible { max: limit.most() },
            };
        }
        if foreign > 0 {
            let quota = &mut answer.quota;
            quota.next_ms = if quota.next_ms == 0 { held_ms } else { quota.next_ms.min(held_ms) };
            quota.reset_ms = quota.reset_ms.max(held_ms);
        }
        answer
    }

    /// When a denied check could be admitted here: when enough of the own ones are over, or when what others had
    /// used is. A cost above the share fits nowhere before the store is back, which may be any time.
    fn retry_ms(
        &mut self,
        limit: &Limit,
        (share, cost): (u32, u32),
        decision: Decision,
        (foreign, held_ms): (u32, u64),
        now_ms: u64,
    ) -> Option<u64> {
        if cost > limit.most() {
            return None;
        }
        let own_ms = match decision {
            Decision::Deny { retry_after_ms } => retry_after_ms,
            _ => limit.window_ms(),
        };
        if foreign == 0 || cost > share {
            return Some(own_ms);
        }
        let alone = apply(&mut self.own, &limit.with_most(share), &Action::Peek { cost }, now_ms).evaluation;
        let later_ms = alone.runs[0].retry_ms.unwrap_or(limit.window_ms()).max(held_ms);
        Some(if matches!(decision, Decision::Deny { .. }) { own_ms.min(later_ms) } else { later_ms })
    }

    fn remember(&mut self, limit: &Limit, cost: u32, now_ms: u64) {
        let grain_ms = grain_ms(limit);
        match self.unsent.last_mut() {
            Some((at, count)) if *at / grain_ms == now_ms / grain_ms && count.checked_add(cost).is_some() => {
                (*at, *count) = (now_ms, *count + cost);
            }
            _ => {
                let old = now_ms.saturating_sub(limit.window_ms());
                let over = self.unsent.partition_point(|(at, _)| *at <= old);
                self.unsent.drain(..over);
                self.unsent.push((now_ms, cost));
            }
        }
    }

    /// Forgets everything: the limit was reset.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Denies everything for so long, or lifts that with 0.
    pub fn block(&mut self, limit: &Limit, for_ms: u64, now_ms: u64) {
        apply(&mut self.own, limit, &Action::Block { for_ms }, now_ms.max(1));
    }

    /// Whether nothing is known any more that counts at `now_ms`, and nothing has to be told.
    pub(super) fn is_over(&mut self, limit: &Limit, now_ms: u64) -> bool {
        let peek = Action::Peek { cost: 1 };
        !self.has_unsent()
            && self.foreign_until_ms <= now_ms
            && apply(&mut self.own, limit, &peek, now_ms.max(1)).evaluation.quota.reset_ms == 0
    }

    /// Bytes beside those of the struct itself.
    pub(super) fn bytes(&self) -> usize {
        let moments = |all: &Vec<(u64, u32)>| all.capacity() * size_of::<(u64, u32)>();
        let doubted = self.doubted.iter().map(|news| moments(&news.admitted)).sum::<usize>();
        self.own.capacity() + moments(&self.unsent) + self.doubted.capacity() * size_of::<News>() + doubted
    }

    /// Whether the store has to be told something.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty() || !self.doubted.is_empty()
    }

    /// What the store has to be told, once. What is doubted goes first and by itself: it must be the same as before.
    pub(super) fn take_unsent(&mut self) -> Option<News> {
        if let Some(news) = self.doubted.pop() {
            self.doubted.shrink_to_fit();
            return Some(news);
        }
        let admitted = std::mem::take(&mut self.unsent);
        (!admitted.is_empty()).then(|| News { mark: mark(), admitted })
    }

    /// The store may or may not have been told.
    pub(super) fn put_back(&mut self, news: News) {
        self.doubted.push(news);
    }
}

/// From the system: two processes that woke up from one snapshot must not have the same, or the news of one would be taken for
/// those of the other.
fn mark() -> u64 {
    getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))
}

/// How far apart two admissions may be that the store is told of as one, at the time of the later: so few moments of a
/// key that telling all keys is quick. They count up to a 64th of the window longer, or a bucket of a large limit.
fn grain_ms(limit: &Limit) -> u64 {
    match limit.form() {
        Form::Ring => (limit.window_ms() / MOMENTS).max(1),
        Form::Coarse => width_ms(limit.window_ms()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(local: &mut Local) -> Vec<(u64, u32)> {
        local.take_unsent().map(|news| news.admitted).unwrap_or_default()
    }

    fn limit(most: u32) -> Limit {
        Limit::new(most, 1_000).expect("a limit")
    }

    fn heard(local: &mut Local, store: &mut Vec<u8>, most: u32, cost: u32, now_ms: u64) {
        let runs = [Run { cost, count: 1 }];
        let done = apply(store, &limit(most), &Action::Consume(Runs::from_slice(&runs)), now_ms + 500_000);
        local.heard(&limit(most), &runs, &done.evaluation, now_ms);
    }

    #[test]
    fn alone_it_goes_on_as_the_store_would_have() {
        for most in [7, 5_000] {
            let (mut local, mut store, unit) = (Local::default(), Vec::new(), most / 7);
            for step in 0..200_u64 {
                let now = 1 + step * 97;
                if step % 20 < 10 {
                    heard(&mut local, &mut store, most, unit, now);
                    local.take_unsent();
                    continue;
                }
                let runs = vec![Run { cost: unit, count: 1 }];
                let store = apply(&mut store, &limit(most), &Action::Consume(runs.into()), now + 500_000);
                let expected = store.evaluation.runs[0];
                let decision = local.decide(&limit(most), most, unit, now).decision;
                if most == 7 {
                    let retry = expected.retry_ms.expect("possible");
                    let same =
                        if retry == 0 { Decision::Allow } else { Decision::Deny { retry_after_ms: retry } };
                    assert_eq!(decision, same, "step {step}");
                }
            }
        }
    }

    #[test]
    fn what_others_used_is_respected_until_it_is_over() {
        let (mut local, mut store) = (Local::default(), Vec::new());
        apply(&mut store, &limit(10), &Action::Consume(smallvec![Run { cost: 1, count: 8 }]), 500_000);
        heard(&mut local, &mut store, 10, 1, 100);
        let mut decide = |cost, now| local.decide(&limit(10), 5, cost, now);
        assert_eq!(decide(1, 200).decision, Decision::Allow);
        let denied = decide(1, 300);
        assert_eq!(denied.decision, Decision::Deny { retry_after_ms: 800 }, "until the others' is over");
        assert_eq!((denied.quota.remaining, denied.quota.reset_ms), (0, 900));
        assert_eq!(decide(6, 300).decision, Decision::Deny { retry_after_ms: 1_000 }, "more than the share");
        assert_eq!(decide(11, 300).decision, Decision::Impossible { max: 10 });
        assert_eq!(decide(4, 1_099).decision, Decision::Deny { retry_after_ms: 1 });
        assert_eq!(decide(4, 1_100).decision, Decision::Allow);
        assert_eq!(decide(1, 1_150).decision, Decision::Deny { retry_after_ms: 50 });
        assert_eq!(told(&mut local), [(200, 1), (1_100, 4)]);
    }

    #[test]
    fn a_store_that_lies_can_only_deny() {
        let mut local = Local::default();
        let lie = Evaluation {
            quota: super::super::Quota {
                remaining: u32::MAX,
                next_ms: i64::MAX as u64,
                reset_ms: i64::MAX as u64,
            },
            now_ms: 0,
            stamp_ms: i64::MAX as u64,
            runs: smallvec![super::super::RunVerdict { admitted: u32::MAX, retry_ms: Some(i64::MAX as u64) }],
        };
        local.heard(&limit(3), &[Run { cost: u32::MAX, count: 1 }], &lie, 10);
        assert_ne!(local.decide(&limit(3), 3, 1, 20).decision, Decision::Allow);
        for now in 30..10_000 {
            local.heard(&limit(3), &[Run { cost: 1, count: 1 }], &lie, now);
            assert!(local.own.len() < 100, "{}", local.own.len());
        }
    }

    #[test]
    fn a_peek_is_what_a_check_would_be_told_and_charges_nothing() {
        let mut local = Local::default();
        for now in 1..6 {
            let peeked = local.peek(&limit(4), 4, 2, now);
            assert_eq!(peeked, local.peek(&limit(4), 4, 2, now));
            let before = peeked.quota.remaining;
            let told = local.decide(&limit(4), 4, 2, now);
            assert_eq!(peeked.decision, told.decision);
            let charged = if told.decision == Decision::Allow { 2 } else { 0 };
            assert_eq!(told.quota.remaining, before - charged);
        }
        assert_eq!(told(&mut local), [(2, 4)], "within a 64th of the window it is one moment");
    }

    #[test]
    fn it_is_over_when_nothing_counts_and_nothing_is_to_be_told() {
        for most in [5, 5_000] {
            let (mut local, limit) = (Local::default(), limit(most));
            assert!(local.is_over(&limit, 1));
            local.decide(&limit, most, 1, 100);
            assert!(!local.is_over(&limit, 90_000), "the store was not told");
            local.take_unsent();
            let until = 1_100 + limit.slack_ms();
            assert!(!local.is_over(&limit, until - 1) && local.is_over(&limit, until));
            local.block(&limit, 7_000, until);
            assert!(!local.is_over(&limit, until + 6_999) && local.is_over(&limit, until + 7_000));
        }
        let (mut local, mut store) = (Local::default(), Vec::new());
        apply(&mut store, &limit(5), &Action::Consume(smallvec![Run { cost: 1, count: 5 }]), 500_000);
        heard(&mut local, &mut store, 5, 1, 100);
        assert!(!local.is_over(&limit(5), 999) && local.is_over(&limit(5), 1_000), "what others used");
    }

    #[test]
    fn a_block_and_a_reset_are_felt_here_too() {
        let mut local = Local::default();
        local.block(&limit(2), 50, 100);
        assert_eq!(local.decide(&limit(2), 2, 1, 120).decision, Decision::Deny { retry_after_ms: 30 });
        assert_eq!(local.decide(&limit(2), 2, 2, 150).decision, Decision::Allow);
        assert!(matches!(local.decide(&limit(2), 2, 1, 160).decision, Decision::Deny { .. }));
        local.reset();
        assert_eq!(local.decide(&limit(2), 2, 2, 190).decision, Decision::Allow);
        assert_eq!(told(&mut local), [(190, 2)]);
    }
}
