//! The machine inside the server: its texts, its arguments, its reply. No I/O here; `store` sends it.
//!
//! One key, hence one slot. `Consume` is never sent twice by itself: when its fate is unknown the
//! local memory decides and tells the store later. `Merge` may be sent again, with a second key under which it is noted that it
//! was done; `Reset` and `Peek` too.
//!
//! Invariant: a reply of an unexpected shape is none.

use smallvec::smallvec;

use super::merge::oldest_first;
use super::together::Check;
use super::{Action, BLOCK_MS, Evaluation, Evaluations, Form, Limit, Quota, Run, RunVerdict, Verdicts};

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
/// Bytes of a row of checks of [`EACH`], of its time, and of the answers of both kinds without the byte that says which.
const ROW: usize = 19;
const TIME: usize = 6;
const USUAL: usize = 12;
const ANY: usize = 38;

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

/// Everything behind the keys of [`EACH`], in order: equal checks one after the other are one row. `msetex` = the server is
/// known to have that command. `time_ms` is for tests, here as elsewhere.
pub fn arguments_of_each<'a>(
    checks: impl IntoIterator<Item = (&'a Limit, &'a Run)>,
    msetex: bool,
    time_ms: Option<u64>,
    mut push: impl FnMut(&[u8]),
) {
    let mut packed = Vec::with_capacity(1 + 4 * ROW);
    packed.push(u8::from(msetex));
    let mut row: Option<(&Limit, &Run, u16)> = None;
    for (limit, run) in checks {
        match &mut row {
            Some((known, same, count)) if *known == limit && *same == run && *count < u16::MAX => *count += 1,
            _ => {
                pack_row(row.replace((limit, run, 1)), &mut packed);
            }
        }
    }
    pack_row(row, &mut packed);
    push(&packed);
    if let Some(time_ms) = time_ms {
        push(time_ms.to_string().as_bytes());
    }
}

fn pack_row(row: Option<(&Limit, &Run, u16)>, packed: &mut Vec<u8>) {
    let Some((limit, run, count)) = row else { return };
    packed.extend_from_slice(&count.to_be_bytes());
    packed.push(u8::from(limit.form() == Form::Coarse));
    // A window is at most `WINDOW_MS`, which fits.
    for number in [limit.most(), limit.window_ms() as u32, run.cost.max(1), run.count] {
        packed.extend_from_slice(&number.to_be_bytes());
    }
}

/// The answers to checks of these runs in the reply to [`EACH`]; `None` = that is no such reply.
pub fn evaluations_of_each<'a>(
    runs: impl ExactSizeIterator<Item = &'a Run>,
    reply: &[u8],
) -> Option<Evaluations> {
    let (time, mut rest) = reply.split_at_checked(TIME)?;
    let (now_ms, mut all) = (number(time), Evaluations::with_capacity(runs.len()));
    for run in runs {
        let (kind, answers) = rest.split_first()?;
        let (told, others) = answers.split_at_checked(if *kind == 1 { USUAL } else { ANY })?;
        rest = others;
        all.push(match kind {
            0 => any(told, run)?,
            1 => usual(told, run, now_ms),
            _ => return None,
        });
    }
    rest.is_empty().then_some(all)
}

/// Big-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A ring from which everything was taken at `now_ms`.
fn usual(told: &[u8], run: &Run, now_ms: u64) -> Evaluation {
    let quota = Quota {
        remaining: number(&told[..4]) as u32,
        next_ms: number(&told[4..8]),
        reset_ms: number(&told[8..]),
    };
    let runs = smallvec![RunVerdict { admitted: run.count, retry_ms: Some(0) }];
    Evaluation { quota, now_ms, stamp_ms: now_ms, runs }
}

fn any(told: &[u8], run: &Run) -> Option<Evaluation> {
    let number = |from: usize, bytes: usize| number(&told[from..from + bytes]);
    let quota = Quota { remaining: number(0, 4) as u32, next_ms: number(4, 6), reset_ms: number(10, 6) };
    let (now_ms, stamp_ms, admitted) = (number(16, 6), number(22, 6), number(28, 4) as u32);
    let verdict = RunVerdict { admitted, retry_ms: number(32, 6).checked_sub(1) };
    (admitted <= run.count).then(|| Evaluation { quota, now_ms, stamp_ms, runs: smallvec![verdict] })
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
pub fn evaluations_of_all(checks: usize, reply: &[i64]) -> Option<Evaluations> {
    let each = Action::Peek { cost: 1 };
    let whole = reply.len() == checks * 7;
    reply
        .chunks(7)
        .filter(|_| whole)
        .map(|one| evaluation(&each, one))
        .collect::<Option<Evaluations>>()
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
    let runs: Verdicts = runs.chunks_exact(2).map(verdict).collect::<Option<_>>()?;
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
        assert_eq!(text(&Action::Consume(runs.into()), None), b"consume 5 1000  1 2 3 1");
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
        let checks = [(&small, &runs[0]), (&small, &runs[0]), (&large, &runs[1]), (&small, &runs[0])];
        arguments_of_each(checks, true, Some(9), |one| sent.push(one.to_vec()));
        let row = |count: u8, form: u8, four: [u32; 4]| {
            [&[0, count, form][..], &four.iter().flat_map(|one| one.to_be_bytes()).collect::<Vec<_>>()]
                .concat()
        };
        let rows = [row(2, 0, [5, 1_000, 1, 2]), row(1, 1, [2_000, 7, 300, 1]), row(1, 0, [5, 1_000, 1, 2])];
        assert_eq!(sent, [[&[1][..], &rows.concat()].concat(), b"9".to_vec()]);
    }

    fn six(number: u64) -> Vec<u8> {
        number.to_be_bytes()[2..].to_vec()
    }

    #[test]
    fn answers_to_checks_that_travelled_together_are_read() {
        let runs = [Run { cost: 0, count: 2 }, Run { cost: 300, count: 1 }];
        let any = |remaining: u32, admitted: u32, retry: u64| {
            let parts = [six(3), six(4), six(1 << 40), six(6)].concat();
            [&[0][..], &remaining.to_be_bytes(), &parts, &admitted.to_be_bytes(), &six(retry)].concat()
        };
        let usual = [&[1][..], &[7_u32, 3, 4].map(u32::to_be_bytes).concat()].concat();
        let told = |parts: &[Vec<u8>]| {
            let reply = [&six(1 << 40)[..], &parts.concat()].concat();
            evaluations_of_each(runs[..parts.len()].iter(), &reply)
        };
        let all = told(&[usual.clone(), any(8, 0, 0)]).expect("two answers");
        assert_eq!(all[0].quota, Quota { remaining: 7, next_ms: 3, reset_ms: 4 });
        assert_eq!((all[0].now_ms, all[0].stamp_ms), (1 << 40, 1 << 40));
        assert_eq!(all[0].runs[..], [RunVerdict { admitted: 2, retry_ms: Some(0) }]);
        assert_eq!(all[1].quota, Quota { remaining: 8, next_ms: 3, reset_ms: 4 });
        assert_eq!((all[1].now_ms, all[1].stamp_ms), (1 << 40, 6));
        assert_eq!(all[1].runs[..], [RunVerdict { admitted: 0, retry_ms: None }], "never");
        let late = told(&[any(1, 1, 6)]).expect("an answer");
        assert_eq!(late[0].runs[..], [RunVerdict { admitted: 1, retry_ms: Some(5) }]);
        assert_eq!(told(&[any(1, 3, 1)]), None, "more than was asked for");
        assert_eq!(told(&[[&[2], &usual[1..]].concat()]), None, "no such kind");
        let whole = [six(9), usual.clone()].concat();
        for cut in 0..whole.len() {
            assert_eq!(evaluations_of_each(runs[..1].iter(), &whole[..cut]), None, "{cut}");
        }
        assert_eq!(evaluations_of_each(runs[..1].iter(), &[&whole[..], b"1"].concat()), None);
        assert_eq!(evaluations_of_each(runs.iter(), &whole), None);
    }

    #[test]
    fn nonsense_is_no_evaluation() {
        let peek = Action::Peek { cost: 1 };
        assert!(evaluation(&peek, &[5, 0, 0, 9, 9, 1, 0]).is_some());
        let never = evaluation(&peek, &[5, 0, 0, 9, 9, 0, -1]).expect("an answer");
        assert_eq!(never.runs[..], [RunVerdict { admitted: 0, retry_ms: None }]);
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
