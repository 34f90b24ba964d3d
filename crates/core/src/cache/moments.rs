//! Since when the store takes what it is sent, announcements are heard and rate limits are shared: for reports of
//! health only, nothing is decided by it.
//!
//! Invariant: a moment is noted by whoever brought it about, not by whoever looks; so a report is as exact when
//! nobody looked for a day.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::StoreError;

/// Without another refusal for so long the store counts as taking everything again.
const QUIET_MS: u64 = 10_000;

/// What the store refuses while it is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusing {
    /// Whatever would change something: it is out of memory, cannot persist, or lacks replicas.
    Writes,
    /// A command, for want of a right or of the command.
    Commands,
}

/// Moments in monotonic milliseconds; 0 = never. Relaxed: each is read alone.
#[derive(Default)]
pub struct Moments {
    /// First and last refusal without a pause of [`QUIET_MS`] between two of them.
    first_ms: AtomicU64,
    last_ms: AtomicU64,
    /// Whether the last one was about a single command.
    command: AtomicU64,
    heard_ms: AtomicU64,
    told_ms: AtomicU64,
}

impl Moments {
    /// The store answered with an error that leaves it in service.
    pub(super) fn refused(&self, error: &StoreError, now_ms: u64) {
        let command = match error {
            StoreError::WritesRefused => 0,
            // How a cluster asks for another way; not a fault.
            StoreError::Refused(why) if ["CROSSSLOT", "TRYAGAIN"].iter().any(|one| why.starts_with(one)) => {
                return;
            }
            StoreError::Refused(_) => 1,
            StoreError::Unavailable(_) | StoreError::Timeout | StoreError::WrongType => return,
        };
        self.command.store(command, Ordering::Relaxed);
        if self.last_ms.swap(now_ms.max(1), Ordering::Relaxed) + QUIET_MS <= now_ms
            || self.first_ms.load(Ordering::Relaxed) == 0
        {
            self.first_ms.store(now_ms.max(1), Ordering::Relaxed);
        }
    }

    /// Announcements arrive that did not before.
    pub(super) fn heard(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The store has just been told everything about rate limits.
    pub(super) fn told(&self, now_ms: u64) {
        self.told_ms.store(now_ms, Ordering::Relaxed);
    }

    /// What is refused, and since when.
    pub fn refusing(&self, now_ms: u64) -> Option<(Refusing, u64)> {
        let first_ms = self.first_ms.load(Ordering::Relaxed);
        if first_ms == 0 || self.quiet_ms() <= now_ms {
            return None;
        }
        let what = match self.command.load(Ordering::Relaxed) {
            0 => Refusing::Writes,
            _ => Refusing::Commands,
        };
        Some((what, first_ms))
    }

    /// When the last refusals were over, or will be.
    pub fn quiet_ms(&self) -> u64 {
        match self.last_ms.load(Ordering::Relaxed) {
            0 => 0,
            last_ms => last_ms + QUIET_MS,
        }
    }

    /// Since when announcements arrive.
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// Since when the store knows all about rate limits.
    pub fn told_ms(&self) -> u64 {
        self.told_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_one_trouble_until_a_pause() {
        let moments = Moments::default();
        assert_eq!((moments.refusing(5), moments.quiet_ms()), (None, 0));
        for now in [0, 7, 9_000, 18_000] {
            moments.refused(&StoreError::WritesRefused, now);
            assert_eq!(moments.refusing(now), Some((Refusing::Writes, 1)), "{now}");
        }
        moments.refused(&StoreError::Refused("NOPERM".into()), 20_000);
        assert_eq!(moments.refusing(29_999), Some((Refusing::Commands, 1)));
        assert_eq!((moments.refusing(30_000), moments.quiet_ms()), (None, 30_000));
        moments.refused(&StoreError::WritesRefused, 40_000);
        assert_eq!(moments.refusing(40_000), Some((Refusing::Writes, 40_000)));
    }

    #[test]
    fn an_outage_and_a_cluster_that_asks_for_another_way_are_no_refusals() {
        let moments = Moments::default();
        for error in [
            StoreError::Timeout,
            StoreError::Unavailable("x".into()),
            StoreError::WrongType,
            StoreError::Refused("CROSSSLOT keys".into()),
            StoreError::Refused("TRYAGAIN".into()),
        ] {
            moments.refused(&error, 5);
            assert_eq!(moments.refusing(5), None, "{error:?}");
        }
    }
}
