//! Reads that had to go past the store because it could not be asked. Counted by operation and reason, and as a share
//! of all reads; the application adds those that only it knows of. Not the ordinary miss, not rate limits (those have
//! a health of their own), and not a read that asked for the source.
//!
//! Invariant: a read is counted once, and past the store at most once. Counting one waits for nobody; only a report
//! of the application and a look at the window take a lock.

mod label;
mod window;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::base::key::Namespace;
use crate::base::limits;
use crate::store::{Store, StoreError, StoreResult};
use crate::telemetry::{Counter, Tier};

use super::Core;
use window::{Share, Totals, Window};

/// Why an engine is degraded whose tiers all work.
pub(super) const TOO_MANY: &str = "more than 10 % of the reads of the last ten minutes went past the store";
/// Pause between two records about the same operation and reason.
const REPEAT_MS: u64 = 60_000;

/// Why the store could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// It is out of service.
    Unavailable,
    /// The command of this read failed, or was not answered in time.
    Failed,
    /// An invalidation that it has not acknowledged makes its answer worthless.
    Pending,
}

impl Past {
    const ALL: [Past; 3] = [Past::Unavailable, Past::Failed, Past::Pending];

    fn name(self) -> &'static str {
        match self {
            Past::Unavailable => "unavailable",
            Past::Failed => "failed",
            Past::Pending => "pending",
        }
    }
}

/// One operation and reason.
#[derive(Default)]
struct Tally {
    count: Counter,
    /// Of those, told in records.
    told: AtomicU64,
    /// From when on the next record may be written.
    quiet_until_ms: AtomicU64,
}

impl Tally {
    /// Counts one. When it is time for a record: how many it is about.
    fn up(&self, now_ms: u64) -> Option<u64> {
        self.count.up();
        let quiet = self.quiet_until_ms.load(Ordering::Relaxed);
        let next = now_ms + REPEAT_MS;
        let (mine, other) = (Ordering::Relaxed, Ordering::Relaxed);
        if now_ms < quiet || self.quiet_until_ms.compare_exchange(quiet, next, mine, other).is_err() {
            return None;
        }
        let count = self.count.get();
        Some(count - self.told.swap(count, Ordering::Relaxed).min(count))
    }
}

impl Share {
    /// `FallbackHealth`; `since` is when it was raised.
    pub(super) fn json(&self, since: Option<String>) -> Value {
        let Totals { reads, past } = self.counted;
        json!({
            "status": if since.is_some() { "degraded" } else { "healthy" },
            "reason": since.as_ref().map(|_| TOO_MANY),
            "since": since,
            "reads": reads,
            "fallbacks": past,
            "share": self.ratio(),
        })
    }
}

type Label = (Box<str>, Box<str>);

/// What one engine counts.
#[derive(Default)]
pub(super) struct Fallbacks {
    own: [[Tally; Past::ALL.len()]; Namespace::ALL.len()],
    /// All reads that came to the worker.
    pub(super) reads: Counter,
    /// Reads that the JavaScript thread answered by itself.
    peeks: Counter,
    past: Counter,
    /// What the application has reported; each is a read as well.
    reported: Counter,
    /// By operation and reason, bounded.
    labels: Mutex<BTreeMap<Label, Tally>>,
    window: Mutex<Window>,
}

impl Fallbacks {
    /// Takes in what was counted since the last time.
    pub(super) fn observe(&self, now_ms: u64) -> Share {
        let mut window = self.window.lock();
        // Those that went past first: each of them was counted as a read before.
        let past = self.past.get() + self.reported.get();
        let reads = self.reads.get() + self.peeks.get() + self.reported.get();
        window.observe(now_ms, Totals { reads, past })
    }

    fn report(&self, operation: &str, reason: &str, now_ms: u64) -> (Label, Option<u64>) {
        self.reported.up();
        let mut labels = self.labels.lock();
        let mut label: Label = (label::word(operation).into(), label::word(reason).into());
        if labels.len() >= limits::FALLBACK_LABELS && !labels.contains_key(&label) {
            label = (label::OTHER.into(), label::OTHER.into());
        }
        let told = labels.entry(label.clone()).or_default().up(now_ms);
        (label, told)
    }

    /// Counts by operation and reason, each pair once.
    fn counts(&self) -> BTreeMap<Label, u64> {
        let mut all = BTreeMap::new();
        for (namespace, tallies) in Namespace::ALL.iter().zip(&self.own) {
            for (past, tally) in Past::ALL.iter().zip(tallies).filter(|(_, tally)| tally.count.get() > 0) {
                all.insert((namespace.name().into(), past.name().into()), tally.count.get());
            }
        }
        for (label, tally) in self.labels.lock().iter() {
            *all.entry(label.clone()).or_default() += tally.count.get();
        }
        all
    }
}

/// Whether the store gave no answer. A key of a foreign type is one: it is in the way, and removed.
fn failed(replies: &[StoreResult]) -> bool {
    replies.iter().any(|reply| reply.as_ref().is_err_and(|error| *error != StoreError::WrongType))
}

impl Core {
    /// A read that the application must answer without the store.
    pub(super) fn went_past(&self, namespace: Namespace, why: Past) {
        if matches!(self.cache.store, Store::None) {
            return;
        }
        self.fallbacks.past.up();
        let tally = &self.fallbacks.own[namespace.index()][why as usize];
        if let Some(count) = tally.up(self.cache.clock.now_ms()) {
            let (operation, reason) = (namespace.name(), why.name());
            tracing::warn!(component = "cache-fallback", operation, reason, count, "reads go past the store");
        }
    }

    /// Why a read does not even ask.
    pub(super) fn unasked_because(&self) -> Past {
        if self.cache.available() { Past::Pending } else { Past::Unavailable }
    }

    /// Why a read whose store did not tell it enough goes on without: `None` = it was told that nothing is there.
    /// `unasked` = about a part of it the store was not asked.
    pub(super) fn past_because(&self, unasked: bool, replies: &[StoreResult]) -> Option<Past> {
        if failed(replies) { Some(Past::Failed) } else { unasked.then(|| self.unasked_because()) }
    }

    /// A read that the JavaScript thread answered from a near copy.
    pub fn peeked(&self, namespace: Namespace) {
        self.fallbacks.peeks.up();
        self.telemetry.of(namespace).answered(Tier::Near, false, 0);
    }

    /// `recordCacheFallback`.
    pub fn record_fallback(&self, operation: &str, reason: &str) {
        let now_ms = self.cache.clock.now_ms();
        let ((operation, reason), told) = self.fallbacks.report(operation, reason, now_ms);
        if let Some(count) = told {
            let (operation, reason) = (&*operation, &*reason);
            tracing::warn!(
                component = "cache-fallback",
                operation,
                reason,
                count,
                "the application goes past the cache"
            );
        }
    }

    /// The window as of now.
    pub(super) fn fallback_share(&self) -> Share {
        self.fallbacks.observe(self.cache.clock.now_ms())
    }

    /// As in `MetricsSnapshot`.
    pub(super) fn fallback_metrics(&self) -> Value {
        let share = self.fallback_share();
        let counts: Vec<Value> = self
            .fallbacks
            .counts()
            .into_iter()
            .map(|((operation, reason), count)| {
                json!({ "operation": operation, "reason": reason, "count": count })
            })
            .collect();
        let Totals { reads, past } = share.counted;
        json!({ "counts": counts, "reads": reads, "fallbacks": past, "share": share.ratio() })
    }

    /// As Prometheus text. Labels are words, so nothing in them needs escaping.
    pub(super) fn fallback_text(&self) -> String {
        let share = self.fallback_share();
        let mut out = String::from(
            "# HELP bcos_cache_fallback_total Reads that went past the store because it could not be asked.\n\
             # TYPE bcos_cache_fallback_total counter\n",
        );
        for ((operation, reason), count) in self.fallbacks.counts() {
            let _ = writeln!(
                out,
                "bcos_cache_fallback_total{{operation=\"{operation}\",reason=\"{reason}\"}} {count}"
            );
        }
        let gauges = [
            ("reads", "Reads of the last ten minutes.", share.counted.reads as f64),
            ("ratio", "Share of them that went past the store.", share.ratio().unwrap_or(0.0)),
        ];
        for (name, help, value) in gauges {
            let name = format!("bcos_cache_fallback_window_{name}");
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_a_minute_tells_of_all_since_the_last() {
        let tally = Tally::default();
        let told: Vec<_> =
            (0..200_000).step_by(1_000).filter_map(|now| tally.up(now).map(|n| (now, n))).collect();
        assert_eq!(told, [(0, 1), (60_000, 60), (120_000, 60), (180_000, 60)]);
        assert_eq!(tally.count.get(), 200);
    }

    #[test]
    fn the_application_cannot_make_labels_without_end() {
        let fallbacks = Fallbacks::default();
        for at in 0..10_000_u32 {
            // Letters only: digits would make them ids.
            let name: String = at.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            fallbacks.report(&name, "down", 0);
            fallbacks.report("ada@example.org", &name, 0);
        }
        let counts = fallbacks.counts();
        assert_eq!(counts.len(), limits::FALLBACK_LABELS + 1);
        assert_eq!(counts.values().sum::<u64>(), 20_000);
        assert!(counts.keys().all(|(operation, _)| !operation.contains('@')));
        let share = fallbacks.observe(0).counted;
        assert_eq!((share.reads, share.past), (20_000, 20_000));
    }

    #[test]
    fn what_the_application_calls_as_the_engine_does_is_one_series() {
        let fallbacks = Fallbacks::default();
        fallbacks.own[Namespace::UserBasic.index()][Past::Unavailable as usize].up(0);
        fallbacks.report("user_basic", "unavailable", 0);
        assert_eq!(fallbacks.counts().into_values().collect::<Vec<_>>(), [2]);
    }
}
