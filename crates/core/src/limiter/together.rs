//! One check of several limits: it is charged to all of them, or to none. The same as `limit_all.lua`.
//!
//! Invariant: when one of them denies, no bytes change.

use smallvec::smallvec;

use super::{Action, Applied, Limit, Run, apply};
use crate::base::key::Key;

/// One of the limits of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Whose limit.
    pub key: Key,
    /// So many within a window.
    pub limit: Limit,
    /// What the check costs; 0 counts as 1.
    pub cost: u32,
}

/// Checks every limit at `now_ms`; the values are those of the checks' keys, each key once.
pub fn apply_all(values: &mut [Vec<u8>], checks: &[Check], now_ms: u64) -> Vec<Applied> {
    let mut ask = |action: fn(u32) -> Action| -> Vec<Applied> {
        let pairs = values.iter_mut().zip(checks);
        pairs.map(|(value, check)| apply(value, &check.limit, &action(check.cost), now_ms)).collect()
    };
    let peeked = ask(|cost| Action::Peek { cost });
    if peeked.iter().all(|one| one.evaluation.runs.iter().all(|run| run.admitted > 0)) {
        return ask(|cost| Action::Consume(smallvec![Run { cost, count: 1 }]));
    }
    peeked
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::*;
    use crate::base::key::Keys;

    #[test]
    fn all_or_nothing() {
        let check = |kind: &str, most, cost| Check {
            key: Keys::new("").limit(kind, "u"),
            limit: Limit::new(most, 1_000).expect("a limit"),
            cost,
        };
        let checks = [check("a", 3, 1), check("b", 2_000, 500), check("c", 5, 2)];
        let mut values = vec![Vec::new(); 3];
        for _ in 0..2 {
            let applied = apply_all(&mut values, &checks, 7);
            assert!(applied.iter().all(|one| matches!(one.change, Change::Stored { .. })));
        }
        let before = values.clone();
        let denied = apply_all(&mut values, &checks, 7);
        let admitted: Vec<u32> = denied.iter().map(|one| one.evaluation.runs[0].admitted).collect();
        assert_eq!(admitted, [1, 1, 0], "the third has one left and two are asked for");
        assert!(denied.iter().all(|one| one.change == Change::Nothing));
        assert_eq!(values, before);
    }
}
