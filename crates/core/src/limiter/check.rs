//! The arithmetic of a decision, the same for both forms. It knows stamps by their rank, not how they are stored.
//!
//! Invariant: a check fits exactly when what counts already and its cost are together within the limit; the wait of
//! one that does not is the time until enough of what counts has stopped counting, to the millisecond.

use super::{Evaluation, Limit, Quota, Run, RunVerdict, Verdicts};

/// What counts at this moment, by age.
pub(super) trait Counted {
    /// How much counts.
    fn live(&self) -> u64;
    /// The stamp of the `rank`-th oldest, counted from 1; `rank` is at most `live`.
    fn stamp(&self, rank: u64) -> u64;
}

/// When and against what a decision is made.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) most: i64,
    pub(super) window_ms: u64,
    /// The caller's clock: waits are told in it.
    pub(super) raw_ms: u64,
    /// What is admitted now gets this stamp.
    pub(super) stamp_ms: u64,
    pub(super) blocked_ms: u64,
}

impl Moment {
    pub(super) fn new(limit: &Limit, raw_ms: u64, stamp_ms: u64, blocked_ms: u64) -> Self {
        let (most, window_ms) = (i64::from(limit.most()), limit.window_ms());
        Self { most, window_ms, raw_ms, stamp_ms, blocked_ms }
    }

    fn held_ms(&self) -> u64 {
        self.blocked_ms.saturating_sub(self.raw_ms)
    }

    /// Until the `rank`-th oldest stops counting; ranks beyond what counts are admitted at this moment.
    fn wait_ms(&self, counted: &impl Counted, rank: i64) -> u64 {
        let rank = rank as u64;
        let stamp = if rank <= counted.live() { counted.stamp(rank) } else { self.stamp_ms };
        (stamp + self.window_ms).saturating_sub(self.raw_ms)
    }

    pub(super) fn quota(&self, counted: &impl Counted) -> Quota {
        let live = counted.live() as i64;
        let (free, held) = (self.most - live, self.held_ms());
        let (mut next_ms, mut reset_ms) = (0, 0);
        if live > 0 {
            next_ms = self.wait_ms(counted, (1 - free).clamp(1, live));
            reset_ms = self.wait_ms(counted, live);
        }
        if held > 0 {
            next_ms = if free > 0 { held } else { next_ms.max(held) };
            return Quota { remaining: 0, next_ms, reset_ms: reset_ms.max(held) };
        }
        Quota { remaining: free.max(0) as u32, next_ms, reset_ms }
    }

    /// Admits what fits, in order. Verdicts and the sum of what was admitted.
    pub(super) fn take(&self, counted: &impl Counted, runs: &[Run]) -> (Verdicts, u64) {
        let mut free = self.most - counted.live() as i64;
        let (held, mut total) = (self.held_ms(), 0);
        let verdicts = runs.iter().map(|run| {
            let cost = i64::from(run.cost.max(1));
            let fit = if held == 0 && free >= cost { (free / cost).min(i64::from(run.count)) } else { 0 };
            free -= fit * cost;
            total += (fit * cost) as u64;
            let admitted = fit as u32;
            let retry_ms = if admitted == run.count {
                Some(0)
            } else if cost > self.most {
                None
            } else if cost > free {
                Some(self.wait_ms(counted, cost - free).max(held))
            } else {
                Some(held)
            };
            RunVerdict { admitted, retry_ms }
        });
        (verdicts.collect(), total)
    }

    pub(super) fn evaluation(&self, quota: Quota, runs: Verdicts) -> Evaluation {
        Evaluation { quota, now_ms: self.raw_ms, stamp_ms: self.stamp_ms, runs }
    }
}

/// The end of a block after another one was asked for.
pub(super) fn block(blocked_ms: u64, raw_ms: u64, for_ms: u64) -> u64 {
    if for_ms == 0 { 0 } else { blocked_ms.max(raw_ms + for_ms.min(super::BLOCK_MS)) }
}
