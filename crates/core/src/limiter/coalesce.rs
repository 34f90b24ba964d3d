//! Checks of one key that travel together: one evaluation, one answer each.
//!
//! First come, first served, and greedy: a check that does not fit is denied and a later, cheaper one may still fit,
//! because that is what would happen if they were sent one after the other at the same instant. Every field of every
//! answer is equal to that.
//!
//! Invariant: `split` and `apart` give as many answers as checks were pushed, in that order.

use smallvec::smallvec;

use super::{Answer, Decision, Evaluation, Limit, Quota, RUNS, Run, RunVerdict, Runs};

/// Adds a check to those of one key and limit, in order; equal neighbours are one run. False when it would be one run
/// too many: then it needs an evaluation of its own.
pub fn push_run(runs: &mut Runs, cost: u32) -> bool {
    let full = runs.len() == RUNS;
    match runs.last_mut() {
        Some(run) if run.cost == cost && run.count < u32::MAX => run.count += 1,
        _ if full => return false,
        _ => runs.push(Run { cost, count: 1 }),
    }
    true
}

/// The answers to the checks of `runs`, which were consumed with this result.
pub fn split<'a>(
    limit: &'a Limit,
    runs: &'a [Run],
    evaluation: &'a Evaluation,
) -> impl Iterator<Item = Answer> + 'a {
    let full_ms = (evaluation.stamp_ms + limit.window_ms()).saturating_sub(evaluation.now_ms);
    let untouched = evaluation.quota.remaining == limit.most();
    let mut quota = evaluation.quota;
    runs.iter()
        .zip(&evaluation.runs)
        .flat_map(move |(run, verdict)| {
            (0..run.count).map(move |nth| {
                if nth < verdict.admitted {
                    return (run.cost.max(1), Decision::Allow);
                }
                let decision = match verdict.retry_ms {
                    Some(retry_after_ms) => Decision::Deny { retry_after_ms },
                    None => Decision::Impossible { max: limit.most() },
                };
                (0, decision)
            })
        })
        .map(move |(charged, decision)| {
            if charged > 0 {
                let next_ms = if untouched { full_ms } else { quota.next_ms };
                quota =
                    Quota { remaining: quota.remaining.saturating_sub(charged), next_ms, reset_ms: full_ms };
            }
            Answer { decision, quota, stamp_ms: evaluation.stamp_ms }
        })
}

/// What each check of `runs` would have been told had it been evaluated by itself, in this order.
pub fn apart(limit: &Limit, runs: &[Run], evaluation: &Evaluation) -> Vec<Evaluation> {
    let mut quota = evaluation.quota;
    let each = |answer: Answer| {
        let (admitted, retry_ms) = match answer.decision {
            Decision::Allow => (1, Some(0)),
            Decision::Deny { retry_after_ms } => (0, Some(retry_after_ms)),
            Decision::Impossible { .. } => (0, None),
        };
        let before = std::mem::replace(&mut quota, answer.quota);
        Evaluation { quota: before, runs: smallvec![RunVerdict { admitted, retry_ms }], ..*evaluation }
    };
    split(limit, runs, evaluation).map(each).collect()
}

/// What is left after all of them.
pub(super) fn left(limit: &Limit, runs: &[Run], evaluation: &Evaluation) -> Quota {
    let charged = charged(runs, evaluation);
    let mut quota = evaluation.quota;
    if charged > 0 {
        let full_ms = (evaluation.stamp_ms + limit.window_ms()).saturating_sub(evaluation.now_ms);
        if quota.remaining == limit.most() {
            quota.next_ms = full_ms;
        }
        quota.reset_ms = full_ms;
        quota.remaining = (u64::from(quota.remaining).saturating_sub(charged)) as u32;
    }
    quota
}

/// The sum of what was admitted.
pub(super) fn charged(runs: &[Run], evaluation: &Evaluation) -> u64 {
    runs.iter()
        .zip(&evaluation.runs)
        .map(|(run, verdict)| u64::from(run.cost.max(1)) * u64::from(verdict.admitted))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::{Action, apply};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_neighbours_are_one_run_and_runs_are_bounded() {
        let mut runs = Runs::new();
        for cost in [1, 1, 2, 1] {
            assert!(push_run(&mut runs, cost));
        }
        let expected = [(1, 2), (2, 1), (1, 1)].map(|(cost, count)| Run { cost, count });
        assert_eq!(runs[..], expected);
        for at in 3..RUNS as u32 {
            assert!(push_run(&mut runs, 8 + at % 2));
        }
        assert!(!push_run(&mut runs, 7) && runs.len() == RUNS);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn together_is_the_same_as_one_after_the_other(
            before in proptest::collection::vec((1..9_u32, 0..40_u64), 0..8),
            costs in proptest::collection::vec(1..12_u32, 1..30),
            most in prop_oneof![0..20_u32, 1_001..1_030_u32],
            blocked: bool,
        ) {
            let limit = Limit::new(most, 100).expect("a limit");
            let scale = if most > 1_000 { 100 } else { 1 };
            let (mut value, mut now) = (Vec::new(), 1_000);
            for (cost, step) in before {
                now += step;
                apply(&mut value, &limit, &Action::Consume(smallvec![Run { cost: cost * scale, count: 1 }]), now);
            }
            if blocked {
                apply(&mut value, &limit, &Action::Block { for_ms: 20 }, now);
            }
            let mut runs = Runs::new();
            let costs: Vec<u32> = costs.into_iter().map(|cost| cost * scale).take_while(|cost| push_run(&mut runs, *cost)).collect();
            let mut single = value.clone();
            let evaluation = apply(&mut value, &limit, &Action::Consume(runs.clone()), now).evaluation;
            let answers: Vec<Answer> = split(&limit, &runs, &evaluation).collect();
            prop_assert_eq!(answers.len(), costs.len());
            let each = apart(&limit, &runs, &evaluation);
            prop_assert_eq!(each.len(), costs.len());
            for ((cost, answer), each) in costs.iter().zip(&answers).zip(&each) {
                let one = [Run { cost: *cost, count: 1 }];
                let alone = apply(&mut single, &limit, &Action::Consume(Runs::from_slice(&one)), now).evaluation;
                let expected: Vec<Answer> = split(&limit, &one, &alone).collect();
                prop_assert_eq!(&[*answer][..], &expected[..]);
                let again: Vec<Answer> = split(&limit, &one, each).collect();
                prop_assert_eq!(&again[..], &expected[..], "what it is told is all that it needs");
                let peek = apply(&mut single.clone(), &limit, &Action::Peek { cost: 1 }, now).evaluation;
                prop_assert_eq!(peek.quota, answer.quota, "as somebody would find it now");
            }
            prop_assert_eq!(Some(left(&limit, &runs, &evaluation)), answers.last().map(|one| one.quota));
            let peek = |value: &Vec<u8>| apply(&mut value.clone(), &limit, &Action::Peek { cost: 1 }, now);
            prop_assert_eq!(peek(&value), peek(&single));
        }
    }
}
