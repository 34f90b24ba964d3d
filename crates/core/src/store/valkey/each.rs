//! Checks of rate limits of one pipeline, gathered into few commands. Pure: no I/O here.
//!
//! A command costs the server as much as the check in it, and the time is read once for all checks of one. What each of
//! them is told is what it would be told alone. A cluster refuses keys of several slots in one command, so there every
//! check is a command of its own.
//!
//! Invariant: a key is once in a command, and checks of one key keep their order: those gathered go first, and only the
//! first check of a key is gathered.

use std::collections::HashSet;

use redis::{Cmd, Value};

use crate::base::key::Key;
use crate::base::limits;
use crate::limiter::{Action, Evaluations, Limit, Run, script};
use crate::store::Op;

use super::Step;

/// The check of `op`, if it is one that may travel with others.
pub(super) fn check(op: &Op) -> Option<(&Key, &Limit, &Run)> {
    match op {
        Op::Limit { key, limit, action: Action::Consume(runs) } => match &runs[..] {
            [run] => Some((key, limit, run)),
            _ => None,
        },
        _ => None,
    }
}

/// Which steps travel together, by place: as many commands as needed, none of them for a single check.
pub(super) fn gather(ops: &[Op], steps: &[Step]) -> Vec<Vec<usize>> {
    let mut seen: HashSet<&Key, _> =
        HashSet::with_capacity_and_hasher(steps.len(), ahash::RandomState::default());
    let mut first = Vec::with_capacity(steps.len());
    for (place, step) in steps.iter().enumerate() {
        match &ops[step.op] {
            Op::Limit { key, .. } => {
                let new = seen.insert(key);
                if new && step.target.is_none() && check(&ops[step.op]).is_some() {
                    first.push(place);
                }
            }
            // Nobody tells of a limit and checks it in one batch; if anybody did, the order would hold.
            Op::Tell { key, .. } => {
                seen.insert(key);
            }
            Op::LimitAll(checks) => seen.extend(checks.iter().map(|check| &check.key)),
            _ => {}
        }
    }
    if first.len() < 2 {
        return Vec::new();
    }
    // Of about the same size, so that none of them is left with a single check.
    let commands = first.len().div_ceil(limits::LIMITS_EACH);
    first.chunks(first.len().div_ceil(commands)).map(<[usize]>::to_vec).collect()
}

/// Adds keys and arguments of these checks to a command that begins with the script.
pub(super) fn arguments<'a>(
    command: &mut Cmd,
    checks: impl Iterator<Item = (&'a Key, &'a Limit, &'a Run)> + Clone,
    msetex: bool,
) {
    for (key, ..) in checks.clone() {
        command.arg(key.bytes());
    }
    script::arguments_of_each(checks.map(|(_, limit, run)| (limit, run)), msetex, None, |argument| {
        command.arg(argument);
    });
}

/// The answers to checks of these runs.
pub(super) fn evaluations<'a>(
    value: &Value,
    runs: impl ExactSizeIterator<Item = &'a Run>,
) -> Option<Evaluations> {
    let Value::BulkString(bytes) = value else { return None };
    script::evaluations_of_each(runs, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::Keys;
    use crate::limiter::Check;
    use smallvec::smallvec;

    fn limit() -> Limit {
        Limit::new(5, 1_000).expect("a limit")
    }

    fn key(n: usize) -> Key {
        Keys::new("").limit("t", &n.to_string())
    }

    fn consume(n: usize) -> Op {
        let action = Action::Consume(smallvec![Run { cost: 1, count: 1 }]);
        Op::Limit { key: key(n), limit: limit(), action }
    }

    fn steps(count: usize) -> Vec<Step> {
        (0..count).map(Step::first).collect()
    }

    #[test]
    fn checks_are_gathered_in_commands_of_about_the_same_size() {
        for count in [2, 3, limits::LIMITS_EACH, limits::LIMITS_EACH + 1, 512] {
            let ops: Vec<Op> = (0..count).map(consume).collect();
            let groups = gather(&ops, &steps(count));
            assert_eq!(groups.concat(), (0..count).collect::<Vec<_>>());
            assert!(
                groups.iter().all(|group| (2..=limits::LIMITS_EACH).contains(&group.len())),
                "{groups:?}"
            );
        }
        assert!(gather(&[consume(1)], &steps(1)).is_empty(), "one alone is not gathered");
    }

    #[test]
    fn only_the_first_check_of_a_key_is_gathered() {
        let peek = |n| Op::Limit { key: key(n), limit: limit(), action: Action::Peek { cost: 1 } };
        let two = vec![Run { cost: 1, count: 1 }, Run { cost: 2, count: 1 }];
        let ops = [
            peek(0),
            consume(0),
            consume(1),
            Op::Get(key(1)),
            consume(1),
            Op::LimitAll(vec![Check { key: key(2), limit: limit(), cost: 1 }]),
            consume(2),
            consume(3),
            peek(3),
            Op::Limit { key: key(4), limit: limit(), action: Action::Consume(two.into()) },
        ];
        assert_eq!(gather(&ops, &steps(10)), [[2, 7]]);
    }

    #[test]
    fn what_was_sent_elsewhere_goes_alone() {
        let ops: Vec<Op> = (0..3).map(consume).collect();
        let mut steps = steps(3);
        steps[1].target = Some("there:1".into());
        assert_eq!(gather(&ops, &steps), [[0, 2]]);
    }
}
