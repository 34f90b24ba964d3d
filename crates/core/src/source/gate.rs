//! Whether to ask the source at all, as arithmetic. While it is down one call in each window goes
//! through and the rest fail at once, so a dead database costs one deadline, not one per request.
//!
//! Invariant: a closed gate opens by itself at the latest one window after the last failure.

/// Milliseconds during which calls fail at once after a failure.
const WINDOW_MS: u64 = 250;
/// Answers that may be late in a row before the database counts as down: one slow statement does not
/// condemn it.
const LATE: u32 = 3;

/// Memory of the last outcomes.
#[derive(Debug, Default)]
pub(super) struct Gate {
    retry_at_ms: Option<u64>,
    late: u32,
    /// When it closed, or opened again.
    changed_ms: Option<u64>,
}

impl Gate {
    pub(super) fn is_up(&self) -> bool {
        self.retry_at_ms.is_none()
    }

    /// Whether a call may go through.
    pub(super) fn enter(&mut self, now_ms: u64) -> bool {
        match self.retry_at_ms {
            None => true,
            Some(at) if now_ms >= at => {
                self.retry_at_ms = Some(now_ms + WINDOW_MS);
                true
            }
            Some(_) => false,
        }
    }

    pub(super) fn answered(&mut self, now_ms: u64) {
        let changed_ms = if self.is_up() { self.changed_ms } else { Some(now_ms) };
        *self = Self { changed_ms, ..Self::default() };
    }

    /// The database could not be reached. True when this closed the gate.
    pub(super) fn failed(&mut self, now_ms: u64) -> bool {
        let was_up = self.is_up();
        self.retry_at_ms = Some(now_ms + WINDOW_MS);
        if was_up {
            self.changed_ms = Some(now_ms);
        }
        was_up
    }

    /// When the database stopped or began again to answer; `None` when it always did.
    pub(super) fn changed_ms(&self) -> Option<u64> {
        self.changed_ms
    }

    /// A statement was not answered in time.
    pub(super) fn late(&mut self, now_ms: u64) {
        self.late += 1;
        if self.late >= LATE || !self.is_up() {
            self.failed(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_source_is_asked_once_per_window() {
        let mut gate = Gate::default();
        assert!(gate.enter(0));
        assert!(gate.failed(0));
        let asked = (1..=1_000).filter(|now| gate.enter(*now)).count();
        assert_eq!(asked, 4);
        assert_eq!(gate.changed_ms(), Some(0));
        gate.failed(1_000);
        assert_eq!(gate.changed_ms(), Some(0), "the same outage");
        gate.answered(1_001);
        assert!(gate.enter(1_001) && gate.enter(1_001));
        gate.answered(1_002);
        assert_eq!(gate.changed_ms(), Some(1_001));
    }

    #[test]
    fn one_slow_statement_does_not_close_it() {
        let mut gate = Gate::default();
        gate.late(0);
        gate.late(1);
        assert!(gate.enter(2));
        gate.late(3);
        assert!(!gate.enter(4));
    }
}
