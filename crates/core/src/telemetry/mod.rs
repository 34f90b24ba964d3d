//! Counters and histograms. A sink: every layer may feed it, none reads it to decide.
//!
//! Invariant: recording is wait-free and never allocates.

mod histogram;
mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering};

pub use histogram::Histogram;
pub use snapshot::prometheus;

use crate::base::key::Namespace;

/// A number that only grows, or a gauge when `set` is used.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn up(&self) {
        self.add(1);
    }
    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The tier that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In process, with or without validation by the store.
    Near,
    /// The shared tier.
    Store,
    /// Postgres, or the caller's own loader.
    Source,
}

/// What happened in one namespace.
#[derive(Default)]
pub struct NamespaceStats {
    /// Answers per tier; `near` counts validated answers too.
    pub near: Counter,
    /// See [`NamespaceStats::near`].
    pub store: Counter,
    /// See [`NamespaceStats::near`].
    pub source: Counter,
    /// Answers of any tier that said "no such thing".
    pub negative: Counter,
    /// Loads that were started.
    pub loads: Counter,
    /// Callers that waited for somebody else's load.
    pub waits: Counter,
    /// Leases taken over from a leader that did not finish.
    pub takeovers: Counter,
    /// Values stored.
    pub fills: Counter,
    /// Values not stored because the lease was gone: an invalidation met the load.
    pub fills_refused: Counter,
    /// Invalidations asked for here.
    pub invalidations: Counter,
    /// Entries that could not be decoded and were removed.
    pub corrupt: Counter,
    /// Calls that ended in an error.
    pub errors: Counter,
    /// Time to an answer, by tier.
    pub latency: [Histogram; 3],
    /// Answers are not counted: see [`Telemetry::new`].
    silent: bool,
}

impl NamespaceStats {
    /// Counts one answer.
    pub fn answered(&self, tier: Tier, negative: bool, us: u64) {
        if self.silent {
            return;
        }
        match tier {
            Tier::Near => self.near.up(),
            Tier::Store => self.store.up(),
            Tier::Source => self.source.up(),
        }
        if negative {
            self.negative.up();
        }
        self.latency[tier as usize].record(us);
    }
}

/// Everything one engine counts.
#[derive(Default)]
pub struct Telemetry {
    namespaces: [NamespaceStats; Namespace::ALL.len()],
    /// Pipelines sent to the store, each one round trip.
    pub round_trips: Counter,
    /// Commands in them.
    pub commands: Counter,
    /// Pipelines that failed, timeouts included.
    pub store_errors: Counter,
    /// Pipelines that were not answered in time.
    pub store_timeouts: Counter,
    /// Times the breaker opened.
    pub breaker_opened: Counter,
    /// Redirections followed on a cluster.
    pub redirects: Counter,
    /// Statements sent to the source.
    pub statements: Counter,
    /// Statements that failed, timeouts included.
    pub source_errors: Counter,
    /// Statements that were not answered in time.
    pub source_timeouts: Counter,
    /// Requests handed to the batching worker.
    pub submitted: Counter,
    /// Requests settled.
    pub settled: Counter,
    /// Batches the worker made of them.
    pub batches: Counter,
    /// Requests refused because the queue was full.
    pub overloaded: Counter,
    /// Contexts composed of their parts.
    pub contexts_composed: Counter,
    /// Contexts answered as they had been composed before.
    pub contexts_reused: Counter,
    /// Served contexts compared with the source.
    pub contexts_sampled: Counter,
    /// Of those, the ones that still differed two seconds later.
    pub contexts_stale: Counter,
    /// Comparisons that could not be made.
    pub contexts_unsampled: Counter,
    /// Results of data sources that were too large to be stored.
    pub results_too_large: Counter,
    /// Results that were answered past their time.
    pub results_stale: Counter,
    /// Queries that were run again while their result was answered.
    pub refreshes: Counter,
    /// Of those, the ones that failed.
    pub refreshes_failed: Counter,
    /// Of those, the ones whose result was not stored: voided meanwhile, or too late.
    pub refreshes_refused: Counter,
    /// Checks of rate limits that were admitted.
    pub limits_admitted: Counter,
    /// Checks that were denied.
    pub limits_denied: Counter,
    /// Of those, the ones denied without a command, because the store had said until when.
    pub limits_denied_near: Counter,
    /// Checks decided without the store.
    pub limits_alone: Counter,
    /// Checks evaluated together with another one of the same limit.
    pub limits_joined: Counter,
    /// Charges given back because another limit of the same check denied.
    pub limits_refunded: Counter,
    /// Limits about which the store was told afterwards.
    pub limits_told: Counter,
    /// Changes read from the outbox.
    pub tail_events: Counter,
    /// Looks at the outbox.
    pub tail_polls: Counter,
    /// Notifications that woke the tail.
    pub tail_wakeups: Counter,
    /// Looks that failed.
    pub tail_errors: Counter,
}

impl Telemetry {
    /// Without `answers` neither answers nor their latencies are kept, which is all that costs something on every call.
    /// What happens rarely, or once per round trip, is counted all the same: operators see trouble by it.
    pub fn new(answers: bool) -> Self {
        let mut telemetry = Self::default();
        telemetry.namespaces.iter_mut().for_each(|stats| stats.silent = !answers);
        telemetry
    }

    /// Whether answers and their latencies are kept.
    pub fn keeps_answers(&self) -> bool {
        self.namespaces.iter().all(|stats| !stats.silent)
    }

    /// The counters of one namespace.
    pub fn of(&self, namespace: Namespace) -> &NamespaceStats {
        &self.namespaces[namespace.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_or_not_and_events_always() {
        for answers in [true, false] {
            let telemetry = Telemetry::new(answers);
            assert_eq!(telemetry.keeps_answers(), answers);
            let stats = telemetry.of(Namespace::UserBasic);
            for tier in [Tier::Near, Tier::Store, Tier::Source] {
                stats.answered(tier, true, 7);
            }
            stats.loads.up();
            let kept = u64::from(answers);
            assert_eq!([&stats.near, &stats.store, &stats.source].map(Counter::get), [kept; 3]);
            assert_eq!(stats.negative.get(), 3 * kept);
            assert!(stats.latency.iter().all(|latency| latency.count() == kept));
            assert_eq!(stats.loads.get(), 1);
        }
    }
}
