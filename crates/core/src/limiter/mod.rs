//! Rate limits as arithmetic: (stored bytes, limit, action, now) -> (evaluation, stored bytes). Not a clock, not a
//! map of keys and not the store: whoever holds the bytes calls [`apply`]. The embedded store, the local fallback and
//! the tests do; the scripts `limit_*.lua` are the same machine over the same bytes inside the server. [`Memory`] is
//! what an instance keeps beside the store.
//!
//! Two forms: up to [`RING_MOST`] per window the exact ring (`ring`), above it buckets (`coarse`).
//!
//! Invariants
//! - Within any window of its length at most `most` is admitted. Doubt denies: a clock that steps back, a value of
//!   the other form and a damaged value may cost a false denial for one window, never an admission.
//! - Only what was admitted is charged; a denial stores nothing.
//! - "Later" and "never" are different answers: a cost above the limit is `Impossible`.

mod check;
mod coalesce;
mod coarse;
mod denials;
mod layout;
mod local;
mod locals;
mod memory;
mod merge;
mod ring;
pub mod script;
mod share;
mod together;

pub use coalesce::{apart, push_run, split};
pub use denials::Denials;
pub use local::Local;
pub use locals::{Locals, Unsent};
pub use memory::{AllAsked, AllTold, Asked, Fallback, Memory, Told};
pub use merge::Aged;
pub use share::Peers;
pub use together::{Check, apply_all};

use smallvec::SmallVec;

use crate::base::error::Error;

/// The largest limit that is kept stamp by stamp: 6 bytes each, so 6 KB for one key.
pub const RING_MOST: u32 = 1_000;
/// Buckets per window of larger limits: what was admitted may count up to 1/20 of the window too long.
pub const BUCKETS: u64 = 20;
/// The longest window, so that an age fits into what travels: 24 days.
pub const WINDOW_MS: u64 = (1 << 31) - 1;
/// The longest block: ten years, well inside a 48-bit time.
pub const BLOCK_MS: u64 = 10 * 366 * 86_400_000;
/// Runs of equal cost in one evaluation: two arguments each, far below what a command may carry.
pub const RUNS: usize = 64;

/// For how long the store remembers that it was told something of a limit: until what it was told is over, with time for a
/// late answer, but at most an hour. Whoever tells it again after that is counted twice, which can only deny.
pub fn noted_ms(limit: &Limit) -> u64 {
    (limit.window_ms + 5_000).min(3_600_000)
}

/// How a limit is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Every admission has its stamp: exact.
    Ring,
    /// Admissions share the stamp of their bucket's end.
    Coarse,
}

/// So many within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    most: u32,
    window_ms: u64,
    form: Form,
}

impl Limit {
    /// `most` may be 0: then every cost is impossible.
    pub fn new(most: u32, window_ms: u64) -> Result<Self, Error> {
        if !(1..=WINDOW_MS).contains(&window_ms) {
            return Err(Error::argument("windowMs", "a window of 1 ms to 24 days"));
        }
        let form = if most <= RING_MOST { Form::Ring } else { Form::Coarse };
        Ok(Self { most, window_ms, form })
    }

    /// The largest sum of costs within a window.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// The length of the window.
    pub fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// How it is stored.
    pub fn form(&self) -> Form {
        self.form
    }

    /// A part of it, or all of it, in the same form.
    fn with_most(&self, most: u32) -> Self {
        Self { most, ..*self }
    }

    /// How much longer than the window an admission may count: 0 for a ring, less than 1/20 of the window otherwise,
    /// and twice that for what was admitted without the store and merged.
    pub fn slack_ms(&self) -> u64 {
        match self.form() {
            Form::Ring => 0,
            Form::Coarse => coarse::width_ms(self.window_ms) - 1,
        }
    }
}

/// Nearly always one.
pub type Runs = SmallVec<[Run; 1]>;
/// Nearly always one.
pub type Verdicts = SmallVec<[RunVerdict; 1]>;
/// Nearly always one.
pub type Evaluations = SmallVec<[Evaluation; 1]>;

/// Equal checks, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What each of them costs; 0 counts as 1.
    pub cost: u32,
    /// How many.
    pub count: u32,
}

/// What is done with a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Checks in this order, at one instant; each is charged if it fits and not at all otherwise.
    Consume(Runs),
    /// One check that is not charged.
    Peek { cost: u32 },
    /// Forget everything, blocks included.
    Reset,
    /// Deny everything for so long. Never shortens a block; 0 lifts it.
    Block { for_ms: u64 },
    /// Take back admissions: the newest, or those that got exactly this stamp (a refund).
    Reward { cost: u32, stamp_ms: Option<u64> },
    /// Charge, without asking, what was admitted elsewhere.
    Merge(Vec<Aged>),
}

/// The answer to one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Admitted and charged.
    Allow,
    /// Not now. Admitted at that time if nobody else is before, never sooner.
    Deny { retry_after_ms: u64 },
    /// Never: it costs more than the limit allows in a whole window.
    Impossible { max: u32 },
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// What could be admitted now.
    pub remaining: u32,
    /// Until more of it is back; 0 when all is there.
    pub next_ms: u64,
    /// Until all of it is back; 0 when all is there.
    pub reset_ms: u64,
}

/// What became of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunVerdict {
    /// The first so many of the run were admitted.
    pub admitted: u32,
    /// When one of the others could be; `None` = never. 0 when there are no others.
    pub retry_ms: Option<u64>,
}

/// The result of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// `Consume`, `Peek`: as found. Other actions: as left.
    pub quota: Quota,
    /// The time of the one who decided; 0 when there was nothing to read it from (`Reset`, `Peek` of nothing).
    pub now_ms: u64,
    /// What admissions were stamped with: for a refund.
    pub stamp_ms: u64,
    /// One per run; one for a peek; none otherwise.
    pub runs: Verdicts,
}

/// The answer to one check, with what a caller is told beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was admitted.
    pub decision: Decision,
    /// What is left after this check.
    pub quota: Quota,
    /// See [`Evaluation::stamp_ms`].
    pub stamp_ms: u64,
}

/// What happened to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are as they were.
    Nothing,
    /// They are to be kept for so long.
    Stored { ttl_ms: u64 },
    /// There is nothing to be kept.
    Removed,
}

/// Evaluation and change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For the caller.
    pub evaluation: Evaluation,
    /// For the one who keeps the bytes.
    pub change: Change,
}

/// Does `action` at `now_ms` to the stored bytes; empty = nothing is stored. `now_ms` is any clock in milliseconds
/// that starts at 1 or later and is the same for every action on these bytes.
pub fn apply(value: &mut Vec<u8>, limit: &Limit, action: &Action, now_ms: u64) -> Applied {
    if *action == Action::Reset {
        value.clear();
        let quota = Quota { remaining: limit.most, ..Quota::default() };
        let evaluation = Evaluation { quota, now_ms: 0, stamp_ms: 0, runs: Verdicts::new() };
        return Applied { evaluation, change: Change::Removed };
    }
    match limit.form() {
        Form::Ring => ring::apply(value, limit, action, now_ms),
        Form::Coarse => coarse::apply(value, limit, action, now_ms),
    }
}

/// Admits so much more, if that is usual: see the forms. How much counts then, or `None` and nothing is done.
fn charge(value: &mut Vec<u8>, limit: &Limit, cost: u32, now_ms: u64) -> Option<u64> {
    match limit.form() {
        Form::Ring => ring::charge(value, limit, cost as usize, now_ms),
        Form::Coarse => coarse::charge(value, limit, u64::from(cost), now_ms),
    }
}

/// How much of what is stored counts now.
fn live(value: &[u8], limit: &Limit, now_ms: u64) -> u64 {
    match limit.form() {
        Form::Ring => ring::live(value, limit, now_ms),
        Form::Coarse => coarse::live(value, limit, now_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn what_is_usual_leaves_the_same_bytes() {
        let (mut rng, mut usual) = (fastrand::Rng::with_seed(3), [0; 2]);
        for round in 0..2_000 {
            let most = if round % 2 == 0 {
                if round % 4 == 0 { rng.u32(1..300) } else { rng.u32(300..=RING_MOST) }
            } else {
                rng.u32(RING_MOST + 1..3_000)
            };
            let limit = Limit::new(most, 1_000).expect("a limit");
            let (mut value, mut now) = (Vec::new(), rng.u64(1..3_000));
            for _ in 0..100 {
                now = if rng.u8(0..50) == 0 {
                    now.saturating_sub(rng.u64(0..50)).max(1)
                } else {
                    now + rng.u64(0..30)
                };
                if rng.u8(0..40) == 0 {
                    let rare = [
                        Action::Block { for_ms: rng.u64(0..100) },
                        Action::Reward { cost: rng.u32(1..9), stamp_ms: None },
                        Action::Merge(vec![Aged { age_ms: rng.u64(0..900), count: rng.u32(0..9) }]),
                    ];
                    apply(&mut value, &limit, rng.choice(&rare).expect("there are three"), now);
                }
                let cost = rng.u32(1..=(most / 20).max(2));
                let mut charged = value.clone();
                let counts = charge(&mut charged, &limit, cost, now);
                if counts.is_none() {
                    assert_eq!(charged, value);
                }
                let done =
                    apply(&mut value, &limit, &Action::Consume(smallvec![Run { cost, count: 1 }]), now);
                if let Some(counts) = counts {
                    assert_eq!(done.evaluation.runs[0].admitted, 1, "{limit:?}, {cost} at {now}");
                    assert_eq!((charged, counts), (value.clone(), live(&value, &limit, now)));
                    usual[round % 2] += 1;
                }
            }
        }
        assert!(usual.iter().all(|count| *count > 20_000), "{usual:?}");
    }
}
