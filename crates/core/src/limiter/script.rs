//! The machine inside the server: its texts, its arguments, its reply. No I/O here; `store` sends it.
//!
//! One key and one evaluation, hence one slot. `Consume` is never sent twice by itself: when its fate is unknown the
//! local memory decides and tells the store later. `Merge` may be sent twice (it then charges twice), `Reset` and
//! `Peek` too.
//!
//! Invariant: a reply of an unexpected shape is none.

use super::merge::oldest_first;
use super::together::Check;
use super::{Action, BLOCK_MS, Evaluation, Form, Limit, Quota, Run, RunVerdict};

/// `limit_ring.lua` behind what both begin with, and the usual check before all of it.
pub const RING: &str = concat!(
    include_str!("../store/scripts/limit_usual.lua"),
    include_str!("../store/scripts/limit_begin.lua"),
    include_str!("../store/scripts/limit_ring.lua")
);
/// `limit_coarse.lua`, the same.
pub const COARSE: &str = concat!(
    include_str!("../store/scripts/limit_usual_coarse.lua"),
    include_str!("../store/scripts/limit_begin.lua"),
    include_str!("../store/scripts/limit_coarse.lua")
);

/// One check of several limits: both machines as functions, and what asks them.
pub const ALL: &str = concat!(
    "local function ring(KEYS, ARGV)\n",
    include_str!("../store/scripts/limit_begin.lua"),
    include_str!("../store/scripts/limit_ring.lua"),
    "\nend\nlocal function coarse(KEYS, ARGV)\n",
    include_str!("../store/scripts/limit_begin.lua"),
    include_str!("../store/scripts/limit_coarse.lua"),
    "\nend\n",
    include_str!("../store/scripts/limit_all.lua")
);

/// The script of a form.
pub fn text(form: Form) -> &'static str {
    match form {
        Form::Ring => RING,
        Form::Coarse => COARSE,
    }
}

/// Everything behind the key, in order. `time_ms` is for tests; the product lets the server tell.
pub fn arguments(limit: &Limit, action: &Action, time_ms: Option<u64>, mut push: impl FnMut(&[u8])) {
    let name = match action {
        Action::Consume(_) => "consume",
        Action::Peek { .. } => "peek",
        Action::Reset => "reset",
        Action::Block { .. } => "block",
        Action::Reward { .. } => "reward",
        Action::Merge(_) => "merge",
    };
    push(name.as_bytes());
    let mut number = |value: u64| push(value.to_string().as_bytes());
    number(u64::from(limit.most()));
    number(limit.window_ms());
    match time_ms {
        Some(time_ms) => number(time_ms),
        None => push(b""),
    }
    let mut number = |value: u64| push(value.to_string().as_bytes());
    let mut run = |run: &Run| {
        number(u64::from(run.cost.max(1)));
        number(u64::from(run.count));
    };
    match action {
        Action::Consume(runs) => runs.iter().for_each(run),
        Action::Peek { cost } => run(&Run { cost: *cost, count: 1 }),
        Action::Reset => {}
        Action::Block { for_ms } => number((*for_ms).min(BLOCK_MS)),
        Action::Reward { cost, stamp_ms } => {
            number(u64::from(*cost));
            number(stamp_ms.unwrap_or(0));
        }
        Action::Merge(aged) => {
            let counting = |age_ms: u64| (age_ms < limit.window_ms()).then_some(age_ms as u32);
            let packed = oldest_first(aged)
                .into_iter()
                .filter_map(|one| counting(one.age_ms).map(|age_ms| (age_ms, one.count)))
                .flat_map(|(age_ms, count)| [age_ms.to_be_bytes(), count.to_be_bytes()])
                .flatten();
            push(&packed.collect::<Vec<u8>>());
        }
    }
}

/// Everything behind the keys of [`ALL`], in order.
pub fn arguments_of_all(checks: &[Check], mut push: impl FnMut(&[u8])) {
    for check in checks {
        push(match check.limit.form() {
            Form::Ring => b"ring",
            Form::Coarse => b"coarse",
        });
        for number in [u64::from(check.limit.most()), check.limit.window_ms(), u64::from(check.cost.max(1))] {
            push(number.to_string().as_bytes());
        }
    }
}

/// The reply to [`ALL`]; `None` = that is not one.
pub fn evaluations_of_all(checks: usize, reply: &[i64]) -> Option<Vec<Evaluation>> {
    let each = Action::Peek { cost: 1 };
    let whole = reply.len() == checks * 7;
    reply
        .chunks(7)
        .filter(|_| whole)
        .map(|one| evaluation(&each, one))
        .collect::<Option<Vec<_>>>()
        .filter(|_| whole)
}

/// The reply to `action`; `None` = that is not one.
pub fn evaluation(action: &Action, reply: &[i64]) -> Option<Evaluation> {
    let expected = match action {
        Action::Consume(runs) => runs.len(),
        Action::Peek { .. } => 1,
        _ => 0,
    };
    let [remaining, next_ms, reset_ms, now_ms, stamp_ms, runs @ ..] = reply else { return None };
    if runs.len() != expected * 2 {
        return None;
    }
    let natural = |value: &i64| u64::try_from(*value).ok();
    let quota = Quota {
        remaining: u32::try_from(*remaining).ok()?,
        next_ms: natural(next_ms)?,
        reset_ms: natural(reset_ms)?,
    };
    let verdict = |pair: &[i64]| {
        let admitted = u32::try_from(pair[0]).ok()?;
        let retry_ms = if pair[1] == -1 { None } else { Some(natural(&pair[1])?) };
        Some(RunVerdict { admitted, retry_ms })
    };
    let runs: Vec<RunVerdict> = runs.chunks_exact(2).map(verdict).collect::<Option<_>>()?;
    let most = |at: usize| if let Action::Consume(asked) = action { asked[at].count } else { 1 };
    if runs.iter().enumerate().any(|(at, run)| run.admitted > most(at)) {
        return None;
    }
    Some(Evaluation { quota, now_ms: natural(now_ms)?, stamp_ms: natural(stamp_ms)?, runs })
}

#[cfg(test)]
mod tests {
    use super::super::Aged;
    use super::*;

    fn sent(limit: &Limit, action: &Action, time_ms: Option<u64>) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        arguments(limit, action, time_ms, |one| all.push(one.to_vec()));
        all
    }

    #[test]
    fn arguments_are_what_the_scripts_read() {
        let limit = Limit::new(5, 1_000).expect("a limit");
        let runs = vec![Run { cost: 0, count: 2 }, Run { cost: 3, count: 1 }];
        let text = |action: &Action, time| sent(&limit, action, time).join(&b' ');
        assert_eq!(text(&Action::Consume(runs), None), b"consume 5 1000  1 2 3 1");
        assert_eq!(text(&Action::Peek { cost: 2 }, Some(9)), b"peek 5 1000 9 2 1");
        assert_eq!(text(&Action::Reset, None), b"reset 5 1000 ");
        assert_eq!(text(&Action::Block { for_ms: 7 }, None), b"block 5 1000  7");
        assert_eq!(text(&Action::Reward { cost: 1, stamp_ms: None }, None), b"reward 5 1000  1 0");
        let aged = [1_000, 3, 999].map(|age_ms| Aged { age_ms, count: 1 }).to_vec();
        let merge = sent(&limit, &Action::Merge(aged), None).pop().expect("the ages");
        assert_eq!(
            merge,
            [0, 0, 3, 231, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1],
            "oldest first, the dead left out"
        );
    }

    #[test]
    fn nonsense_is_no_evaluation() {
        let peek = Action::Peek { cost: 1 };
        assert!(evaluation(&peek, &[5, 0, 0, 9, 9, 1, 0]).is_some());
        let never = evaluation(&peek, &[5, 0, 0, 9, 9, 0, -1]).expect("an answer");
        assert_eq!(never.runs, [RunVerdict { admitted: 0, retry_ms: None }]);
        for bad in [
            &[][..],
            &[5, 0, 0, 9, 9],
            &[5, 0, 0, 9, 9, 2, 0],
            &[5, 0, 0, 9, 9, 1],
            &[-1, 0, 0, 9, 9, 1, 0],
            &[5, 0, 0, 9, 9, 0, -2],
        ] {
            assert_eq!(evaluation(&peek, bad), None, "{bad:?}");
        }
    }
}
