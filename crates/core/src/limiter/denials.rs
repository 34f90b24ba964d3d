//! What the store denied, until the exact time at which it could be admitted: a check that cannot succeed costs no
//! command. Bounded; looked at from any thread.
//!
//! A denial of cost `c` answers every check of at least `c`. Others may spend meanwhile what comes back, so the
//! wait is exact for cost 1 and never too long for others; who asks again then, asks the store.
//!
//! Invariant: nothing is denied here that the store would admit, unless another instance reset, rewarded, raised or
//! unblocked the key and this one has not heard of it yet. A denial whose check was sent before that is not kept.

use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use crate::base::key::{Key, KeyBytes};

use super::{Answer, Decision, Limit, Quota};

const EPOCHS: usize = 1_024;

/// One denial, in the process's monotone clock.
#[derive(Clone, Copy)]
struct Denied {
    limit: Limit,
    cost: u32,
    remaining: u32,
    sent_ms: u64,
    until_ms: u64,
    next_ms: u64,
    reset_ms: u64,
}

/// The denials this instance knows of.
pub struct Denials {
    map: Cache<Key, Denied>,
    /// Moved by everything that may admit sooner; an unrelated key on the same number only loses one denial.
    epochs: Box<[AtomicU64]>,
}

impl Denials {
    /// For at most `most` keys.
    pub fn new(most: usize) -> Self {
        Self { map: Cache::new(most), epochs: (0..EPOCHS).map(|_| AtomicU64::new(0)).collect() }
    }

    fn slot(&self, key: &Key) -> &AtomicU64 {
        &self.epochs[key.fingerprint() as usize % EPOCHS]
    }

    /// To be read before the check is sent.
    pub fn epoch(&self, key: &Key) -> u64 {
        self.slot(key).load(Ordering::SeqCst)
    }

    /// The store answered a check that was sent at `sent_ms` in `epoch`. Counted from then, not from the answer, a
    /// wait can only end too early.
    pub fn note(&self, key: &Key, limit: &Limit, cost: u32, answer: &Answer, (epoch, sent_ms): (u64, u64)) {
        let Decision::Deny { retry_after_ms } = answer.decision else { return };
        let quota = answer.quota;
        let denied = Denied {
            limit: *limit,
            cost,
            remaining: quota.remaining,
            sent_ms,
            until_ms: sent_ms + retry_after_ms,
            next_ms: sent_ms + quota.next_ms,
            reset_ms: sent_ms + quota.reset_ms,
        };
        let covered = |known: Denied| known.limit == *limit && known.cost < cost && known.until_ms > sent_ms;
        if self.epoch(key) != epoch || self.map.peek(key).is_some_and(covered) {
            return;
        }
        self.map.insert(key.clone(), denied);
        if self.epoch(key) != epoch {
            self.map.remove(key);
        }
    }

    /// The answer to a check that cannot succeed, from the bytes of its key; what was said before `oldest_ms` does not
    /// count.
    pub fn answer(
        &self,
        key: &[u8],
        limit: &Limit,
        cost: u32,
        now_ms: u64,
        oldest_ms: u64,
    ) -> Option<Answer> {
        let denied = self.map.get(&KeyBytes(key))?;
        if denied.limit != *limit || cost < denied.cost || denied.sent_ms < oldest_ms {
            return None;
        }
        if denied.until_ms <= now_ms {
            self.map.remove(&KeyBytes(key));
            return None;
        }
        let quota = Quota {
            remaining: denied.remaining,
            next_ms: denied.next_ms.saturating_sub(now_ms),
            reset_ms: denied.reset_ms.saturating_sub(now_ms),
        };
        let retry_after_ms = denied.until_ms - now_ms;
        let max = limit.most();
        let decision =
            if cost > max { Decision::Impossible { max } } else { Decision::Deny { retry_after_ms } };
        Some(Answer { decision, quota, stamp_ms: 0 })
    }

    /// The key may admit sooner than was said: reset, rewarded, unblocked.
    pub fn forget(&self, key: &Key) {
        self.slot(key).fetch_add(1, Ordering::SeqCst);
        self.map.remove(key);
    }

    /// The store that said so may be another one now.
    pub fn forget_all(&self) {
        for epoch in &self.epochs {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.map.clear();
    }

    /// Keys held now, some of them perhaps over.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Keys, Namespace};

    fn key(n: usize) -> Key {
        Keys::new("").entry(Namespace::UserBasic, &n.to_string())
    }

    fn denial(retry_after_ms: u64) -> Answer {
        let quota = Quota { remaining: 2, next_ms: 20, reset_ms: 900 };
        Answer { decision: Decision::Deny { retry_after_ms }, quota, stamp_ms: 7 }
    }

    #[test]
    fn it_denies_until_the_very_millisecond_and_only_what_costs_as_much() {
        let (denials, limit) = (Denials::new(100), Limit::new(5, 1_000).expect("a limit"));
        let ask = |cost, now| denials.answer(key(1).bytes(), &limit, cost, now, 0);
        denials.note(&key(1), &limit, 3, &denial(100), (denials.epoch(&key(1)), 1_000));
        assert_eq!(ask(2, 1_050), None);
        let answer = ask(3, 1_050).expect("denied");
        assert_eq!(answer.decision, Decision::Deny { retry_after_ms: 50 });
        assert_eq!(answer.quota, Quota { remaining: 2, next_ms: 0, reset_ms: 850 });
        assert_eq!(ask(4, 1_099).map(|one| one.decision), Some(Decision::Deny { retry_after_ms: 1 }));
        let other = Limit::new(6, 1_000).expect("a limit");
        assert_eq!(denials.answer(key(1).bytes(), &limit, 3, 1_050, 1_001), None, "said too long ago");
        assert_eq!(denials.answer(key(1).bytes(), &other, 3, 1_050, 0), None, "a raised limit is asked for");
        assert_eq!(ask(6, 1_050).map(|one| one.decision), Some(Decision::Impossible { max: 5 }));
        assert_eq!(ask(3, 1_100), None);
        assert!(denials.is_empty(), "what is over is removed when it is seen");
    }

    #[test]
    fn the_denial_of_less_covers_more() {
        let (denials, limit) = (Denials::new(100), Limit::new(5, 1_000).expect("a limit"));
        denials.note(&key(1), &limit, 1, &denial(100), (0, 0));
        denials.note(&key(1), &limit, 4, &denial(300), (0, 10));
        let ask = |now| denials.answer(key(1).bytes(), &limit, 1, now, 0);
        assert!(ask(50).is_some() && ask(100).is_none());
    }

    #[test]
    fn a_denial_from_before_a_reset_is_not_kept() {
        let (denials, limit) = (Denials::new(100), Limit::new(5, 1_000).expect("a limit"));
        let ask = || denials.answer(key(1).bytes(), &limit, 1, 50, 0);
        for forget in [&(|| denials.forget(&key(1))) as &dyn Fn(), &|| denials.forget_all()] {
            let epoch = denials.epoch(&key(1));
            denials.note(&key(1), &limit, 1, &denial(100), (epoch, 0));
            assert!(ask().is_some());
            forget();
            assert!(ask().is_none());
            denials.note(&key(1), &limit, 1, &denial(100), (epoch, 0));
            assert!(ask().is_none());
        }
    }

    #[test]
    fn keys_are_bounded() {
        let (denials, limit) = (Denials::new(1_000), Limit::new(5, 1_000).expect("a limit"));
        for n in 0..20_000 {
            denials.note(&key(n), &limit, 1, &denial(100), (0, 0));
        }
        assert!(denials.len() <= 1_000, "{}", denials.len());
    }
}
