//! The circuit breaker as arithmetic: (state, event, now) -> state. It does no I/O and sets no timer.
//!
//! One failure opens it, because a probe follows within milliseconds and closes it again: a hiccup
//! costs a few reads of the source, a dead store costs one deadline.
//!
//! Invariant: it closes only after a probe that was followed by a complete replay of what failed.

use crate::base::{jitter, limits};

/// Whether the store is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In service.
    Closed,
    /// Out of service; the next probe is due at `probe_at_ms`.
    Open { probe_at_ms: u64 },
    /// Out of service while a probe runs.
    HalfOpen,
}

/// The breaker's memory.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    attempts: u32,
    since_ms: u64,
}

impl Breaker {
    /// Not in service until the first probe has succeeded.
    pub fn new(now_ms: u64) -> Self {
        Self { state: State::Open { probe_at_ms: now_ms }, attempts: 0, since_ms: now_ms }
    }

    /// The current state.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the store went into or out of service, in the clock's monotonic milliseconds.
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// An operation failed. True when this opened the breaker.
    pub fn failed(&mut self, now_ms: u64) -> bool {
        if self.state != State::Closed {
            return false;
        }
        self.state = State::Open { probe_at_ms: now_ms };
        self.attempts = 0;
        self.since_ms = now_ms;
        true
    }

    /// Milliseconds until a probe is due; `None` when in service or already probing.
    pub fn probe_in_ms(&self, now_ms: u64) -> Option<u64> {
        match self.state {
            State::Open { probe_at_ms } => Some(probe_at_ms.saturating_sub(now_ms)),
            State::Closed | State::HalfOpen => None,
        }
    }

    /// The probe starts.
    pub fn probing(&mut self) {
        self.state = State::HalfOpen;
    }

    /// The probe, or the replay after it, failed.
    pub fn probe_failed(&mut self, now_ms: u64) {
        let wait = jitter::backoff_ms(self.attempts, limits::PROBE_BASE_MS, limits::PROBE_CAP_MS);
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Open { probe_at_ms: now_ms + wait };
    }

    /// Probe and replay succeeded.
    pub fn recovered(&mut self, now_ms: u64) {
        self.state = State::Closed;
        self.attempts = 0;
        self.since_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_out_of_service_and_probes_at_once() {
        let breaker = Breaker::new(7);
        assert_eq!(breaker.probe_in_ms(7), Some(0));
    }

    #[test]
    fn one_failure_opens_and_only_a_finished_probe_closes() {
        let mut breaker = Breaker::new(0);
        breaker.probing();
        breaker.recovered(1);
        assert_eq!(breaker.state(), State::Closed);
        assert!(breaker.failed(5));
        assert!(!breaker.failed(6), "a second failure does not open again");
        assert_eq!(breaker.probe_in_ms(6), Some(0));
        breaker.probing();
        assert!(!breaker.failed(7), "failures of other calls do not disturb a probe");
        assert_eq!(breaker.state(), State::HalfOpen);
        breaker.probe_failed(8);
        assert!(matches!(breaker.state(), State::Open { .. }));
    }

    #[test]
    fn a_dead_store_is_probed_for_ever_and_never_rarer_than_the_cap() {
        let mut breaker = Breaker::new(0);
        let mut now = 0;
        for _ in 0..1_000 {
            breaker.probing();
            breaker.probe_failed(now);
            let wait = breaker.probe_in_ms(now).expect("open");
            assert!(wait <= limits::PROBE_CAP_MS);
            now += wait;
        }
    }
}
