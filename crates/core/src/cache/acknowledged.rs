//! Invalidations that the store acknowledged a moment ago. Replication is asynchronous: a replica that takes
//! over may lack the last of them. They are sent again before a store that was away is believed.
//!
//! Invariant: bounded in time and number; the oldest go first.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::base::key::{Key, Namespace};
use crate::base::limits;

use super::invalidate::Effect;

/// What was acknowledged, with its time.
#[derive(Default)]
pub(super) struct Acknowledged {
    recent: Mutex<VecDeque<(u64, Key, Effect)>>,
}

impl Acknowledged {
    /// The store has it.
    pub(super) fn push(&self, now_ms: u64, key: &Key, effect: &Effect) {
        if key.namespace() == Namespace::RateLimit {
            // What was counted since a reset must not be forgotten with it.
            return;
        }
        let mut recent = self.recent.lock();
        let old = now_ms.saturating_sub(limits::ACKNOWLEDGED_MS);
        while recent.len() >= limits::ACKNOWLEDGED || recent.front().is_some_and(|(at, ..)| *at < old) {
            recent.pop_front();
        }
        recent.push_back((now_ms, key.clone(), effect.clone()));
    }

    /// What a server that failed at `failed_ms` may not have passed on; not what was acknowledged after `until_ms`.
    /// Of one key only the newest counts.
    pub(super) fn since(&self, failed_ms: u64, until_ms: u64) -> Vec<(Key, Effect)> {
        let from = failed_ms.saturating_sub(limits::ACKNOWLEDGED_MS);
        let recent = self.recent.lock();
        let mut seen = std::collections::HashSet::with_hasher(ahash::RandomState::new());
        recent
            .iter()
            .rev()
            .filter(|(at, key, _)| *at >= from && seen.insert(key.clone()))
            // After the newest of each was found: an older one of the same key has nothing to say any more.
            .filter(|(at, ..)| *at <= until_ms)
            .map(|(_, key, effect)| (key.clone(), effect.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::Keys;

    #[test]
    fn it_keeps_the_newest_of_each_key_for_a_while() {
        let acknowledged = Acknowledged::default();
        let keys = Keys::new("");
        let (a, b) = (keys.entry(Namespace::UserBasic, "a"), keys.entry(Namespace::UserBasic, "b"));
        acknowledged.push(1_000, &a, &Effect::Delete);
        acknowledged.push(2_000, &b, &Effect::Delete);
        acknowledged.push(3_000, &a, &Effect::Hold { ms: 5 });
        assert_eq!(
            acknowledged.since(3_000, 9_000),
            [(a.clone(), Effect::Hold { ms: 5 }), (b.clone(), Effect::Delete)]
        );
        assert_eq!(
            acknowledged.since(2_500 + limits::ACKNOWLEDGED_MS, u64::MAX),
            [(a.clone(), Effect::Hold { ms: 5 })],
            "what is older than the window was replicated long ago"
        );
        assert_eq!(
            acknowledged.since(3_000, 2_999),
            [(b.clone(), Effect::Delete)],
            "not what was said again since"
        );
        for n in 0..2 * limits::ACKNOWLEDGED {
            acknowledged.push(4_000, &keys.entry(Namespace::UserBasic, &n.to_string()), &Effect::Delete);
        }
        assert_eq!(acknowledged.since(4_000, u64::MAX).len(), limits::ACKNOWLEDGED);
    }
}
