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

/// `limit_ring.lua` behind what both begin with.
pub const RING: &str = concat!(
    include_str!("../store/scripts/limit_begin.lua"),
    include_str!("../store/scripts/limit_ring.lua")
);
/// `limit_coarse.lua`, the same.
pub const COARSE: &str = concat!(
    include_str!("../store/scripts/limit_begin.lua"),
    include_str!("../store/scripts/limit_coarse.lua")
);

/// Both machines as functions, and what asks them.
macro_rules! with_both {
    ($($script:literal),+) => {
        concat!(
            "local function ring(KEYS, ARGV)\n",
            include_str!("../store/scripts/limit_begin.lua"),
            include_str!("../store/scripts/limit_ring.lua"),
            "\nend\nlocal function coarse(KEYS, ARGV)\n",
            include_str!("../store/scripts/limit_begin.lua"),
            include_str!("../store/scripts/limit_coarse.lua"),
            "\nend\n",
            $(include_str!(concat!("../store/scripts/", $script))),+
        )
    };
}

/// One check of several limits: all of them are charged, or none.
pub const ALL: &str = with_both!("limit_all.lua");
/// Checks of one or several limits, each for itself.
pub const EACH: &str = with_both!("limit_usual.lua", "limit_usual_coarse.lua", "limit_each.lua");
/// Bytes of one check and of one answer of [`EACH`].
const ASKED: usize = 17;
const TOLD: usize = 38;

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

/// Everything behind the keys of [`EACH`], in order. `time_ms` is for tests, here as elsewhere.
pub fn arguments_of_each<'a>(
    checks: impl IntoIterator<Item = (&'a Limit, &'a Run)>,
    time_ms: Option<u64>,
    mut push: impl FnMut(&[u8]),
) {
    let mut packed = Vec::with_capacity(64 * ASKED);
    for (limit, run) in checks {
        packed.push(u8::from(limit.form() == Form::Coarse));
        // A window is at most `WINDOW_MS`, which fits.
        for number in [limit.most(), limit.window_ms() as u32, run.cost.max(1), run.count] {
            packed.extend_from_slice(&number.to_be_bytes());
        }
    }
    push(&packed);
    if let Some(time_ms) = time_ms {
        push(time_ms.to_string().as_bytes());
    }
}

/// The answer to check number `at` of `checks` in the reply to [`EACH`]; `None` = that is not one.
pub fn evaluation_of_each(checks: usize, at: usize, run: &Run, reply: &[u8]) -> Option<Evaluation> {
    let told = reply.get(at * TOLD..(at + 1) * TOLD).filter(|_| reply.len() == checks * TOLD)?;
    let number = |from: usize, bytes: usize| {
        told[from..from + bytes].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let quota = Quota { remaining: number(0, 4) as u32, next_ms: number(4, 6), reset_ms: number(10, 6) };
    let (now_ms, stamp_ms, admitted) = (number(16, 6), number(22, 6), number(28, 4) as u32);
    let verdict = RunVerdict { admitted, retry_ms: number(32, 6).checked_sub(1) };
    (admitted <= run.count).then(|| Evaluation { quota, now_ms, stamp_ms, runs: vec![verdict] })
}

/// Everything behind the keys of [`ALL`], in order.
pub fn arguments_of_all(checks: &[Check], time_ms: Option<u64>, mut push: impl FnMut(&[u8])) {
    for check in checks {
        push(match check.limit.form() {
            Form::Ring => b"ring",
            Form::Coarse => b"coarse",
        });
        for number in [u64::from(check.limit.most()), check.limit.window_ms(), u64::from(check.cost.max(1))] {
            push(number.to_string().as_bytes());
        }
    }
    if let Some(time_ms) = time_ms {
        push(time_ms.to_string().as_bytes());
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
    fn checks_that_travel_together_are_packed() {
        let (small, large) = (Limit::new(5, 1_000), Limit::new(2_000, 7));
        let (small, large) = (small.expect("a limit"), large.expect("a limit"));
        let runs = [Run { cost: 0, count: 2 }, Run { cost: 300, count: 1 }];
        let mut sent = Vec::new();
        let checks = [(&small, &runs[0]), (&large, &runs[1])];
        arguments_of_each(checks, Some(9), |one| sent.push(one.to_vec()));
        let numbers = |form: u8, four: [u32; 4]| {
            [&[form][..], &four.iter().flat_map(|one| one.to_be_bytes()).collect::<Vec<_>>()].concat()
        };
        let packed = [numbers(0, [5, 1_000, 1, 2]), numbers(1, [2_000, 7, 300, 1])].concat();
        assert_eq!(sent, [packed, b"9".to_vec()]);
        let answer = |remaining: u32, admitted: u32, retry: u64| {
            let six = |number: u64| number.to_be_bytes()[2..].to_vec();
            let parts = [six(3), six(4), six(1 << 40), six(6)].concat();
            [&remaining.to_be_bytes()[..], &parts, &admitted.to_be_bytes(), &six(retry)].concat()
        };
        let reply = [answer(7, 2, 1), answer(8, 0, 0)].concat();
        let first = evaluation_of_each(2, 0, &runs[0], &reply).expect("an answer");
        assert_eq!(first.quota, Quota { remaining: 7, next_ms: 3, reset_ms: 4 });
        assert_eq!((first.now_ms, first.stamp_ms), (1 << 40, 6));
        assert_eq!(first.runs, [RunVerdict { admitted: 2, retry_ms: Some(0) }]);
        let second = evaluation_of_each(2, 1, &runs[1], &reply).expect("an answer");
        assert_eq!(second.runs, [RunVerdict { admitted: 0, retry_ms: None }], "never");
        assert_eq!(evaluation_of_each(2, 0, &runs[1], &reply), None, "more than was asked for");
        assert_eq!(evaluation_of_each(3, 0, &runs[0], &reply), None);
        assert_eq!(evaluation_of_each(2, 2, &runs[0], &reply), None);
        assert_eq!(evaluation_of_each(1, 0, &runs[0], b""), None);
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
