//! Limits of the embedded store: the limiter's machine over its bytes.
//!
//! Invariant: what a limit admitted is kept, or the operation is refused and nothing changes. Not keeping it, as entries
//! larger than a shard are not kept, would admit without end.

use bytes::Bytes;
use smallvec::smallvec;

use crate::base::key::Key;
use crate::limiter::{self, Action, Aged, Applied, Change, Check, Limit};
use crate::store::{Op, Reply, StoreError, StoreResult};

use super::{Embedded, OVERHEAD, Shard};

impl Embedded {
    pub(super) fn limit(&self, key: &Key, limit: &Limit, action: &Action) -> StoreResult {
        let now = self.clock.now_ms();
        let mut shard = self.shards[self.shard(key)].lock();
        let mut value = shard.get(key.bytes(), now).map(Vec::from).unwrap_or_default();
        let applied = limiter::apply(&mut value, limit, action, now.max(1));
        if !self.has_room(key, &value, &applied) {
            return Err(StoreError::WritesRefused);
        }
        shard.keep(key, value, &applied, now, self.budget);
        Ok(Reply::Limits(smallvec![applied.evaluation]))
    }

    pub(super) fn tell(&self, key: &Key, limit: &Limit, mark: u64, aged: &[Aged]) -> StoreResult {
        let told = key.told(mark);
        let note = Op::Add { key: told.clone(), value: Bytes::new(), ttl_ms: limiter::noted_ms(limit) };
        if self.apply(&note) == Reply::Done(false) {
            return self.limit(key, limit, &Action::Merge(Vec::new()));
        }
        self.limit(key, limit, &Action::Merge(aged.to_vec())).inspect_err(|_| {
            self.apply(&Op::Delete(told));
        })
    }

    pub(super) fn check_all(&self, checks: &[Check]) -> StoreResult {
        let now = self.clock.now_ms();
        let places: Vec<usize> = checks.iter().map(|check| self.shard(&check.key)).collect();
        // Locked in the order of the shards, so that two of them never wait for each other.
        let mut shards: Vec<_> = self
            .shards
            .iter()
            .enumerate()
            .map(|(at, shard)| places.contains(&at).then(|| shard.lock()))
            .collect();
        let mut values: Vec<Vec<u8>> = Vec::with_capacity(checks.len());
        for (check, place) in checks.iter().zip(&places) {
            let held = shards[*place].as_mut().and_then(|shard| shard.get(check.key.bytes(), now));
            values.push(held.map(Vec::from).unwrap_or_default());
        }
        let applied = limiter::apply_all(&mut values, checks, now.max(1));
        let mut all = checks.iter().zip(&values).zip(&applied);
        if !all.all(|((check, value), applied)| self.has_room(&check.key, value, applied)) {
            return Err(StoreError::WritesRefused);
        }
        for (((check, place), value), applied) in checks.iter().zip(&places).zip(values).zip(&applied) {
            if let Some(shard) = &mut shards[*place] {
                shard.keep(&check.key, value, applied, now, self.budget);
            }
        }
        Ok(Reply::Limits(applied.into_iter().map(|one| one.evaluation).collect()))
    }

    /// Whether a shard can hold it, all others evicted.
    fn has_room(&self, key: &Key, value: &[u8], applied: &Applied) -> bool {
        let stored = matches!(applied.change, Change::Stored { .. });
        !stored || key.bytes().len() + value.len() + OVERHEAD <= self.budget
    }
}

impl Shard {
    fn keep(&mut self, key: &Key, value: Vec<u8>, applied: &Applied, now: u64, budget: usize) {
        match applied.change {
            Change::Nothing => {}
            Change::Stored { ttl_ms } => self.put(key.bytes(), value.into(), now + ttl_ms, budget),
            Change::Removed => self.remove(key.bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::base::key::Keys;
    use crate::limiter::Run;
    use crate::store::embedded::SHARDS;

    fn check(kind: &str, most: u32) -> Check {
        let limit = Limit::new(most, 100).expect("a limit");
        Check { key: Keys::new("").limit(kind, "u"), limit, cost: 1 }
    }

    fn consume(Check { key, limit, .. }: Check) -> Op {
        Op::Limit { key, limit, action: Action::Consume(smallvec![Run { cost: 1, count: 1 }]) }
    }

    fn admitted(reply: StoreResult) -> Vec<u32> {
        match reply {
            Ok(Reply::Limits(all)) => all.iter().map(|one| one.runs[0].admitted).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_are_the_machine_of_the_limiter() {
        let clock = Clock::fake(1_000);
        let store = Embedded::new(1 << 20, clock.clone());
        let both = || admitted(store.exec(&Op::LimitAll(vec![check("a", 2), check("b", 2)])));
        let one = |kind: &str| admitted(store.exec(&consume(check(kind, 2))));
        assert_eq!((both(), one("a"), both()), (vec![1, 1], vec![1], vec![0, 1]));
        assert_eq!((one("b"), one("b")), (vec![1], vec![0]), "what was denied was charged to nobody");
        clock.advance_ms(100);
        assert_eq!(both(), [1, 1]);
        clock.advance_ms(200);
        store.apply(&Op::Get(check("a", 2).key));
        store.apply(&Op::Get(check("b", 2).key));
        assert!(store.is_empty(), "what is over is not kept");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_never_admitted_without_end() {
        let store = Embedded::new(SHARDS * 512, Clock::fake(1_000));
        let refused = Err(StoreError::WritesRefused);
        let mut sum = 0;
        let told: Vec<StoreResult> = (0..500).map(|_| store.exec(&consume(check("a", 200)))).collect();
        for one in &told {
            sum += if *one == refused { 0 } else { admitted(one.clone())[0] };
        }
        assert!((10..200).contains(&sum), "{sum} fitted");
        assert_eq!(told.last(), Some(&refused));
        let all = Op::LimitAll(vec![check("b", 200), check("a", 200)]);
        assert_eq!(store.exec(&all), refused, "both or neither");
        assert_eq!(admitted(store.exec(&consume(check("b", 1)))), [1], "it was not charged");
        let peek = Op::Limit {
            action: Action::Peek { cost: 1 },
            key: check("a", 1).key,
            limit: check("a", 200).limit,
        };
        assert_eq!(admitted(store.exec(&peek)), [1], "looking needs no room");
    }
}
