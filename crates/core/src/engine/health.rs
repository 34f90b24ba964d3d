//! What the engine says of itself: health, metrics, Prometheus text. Read-only.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::error::{Code, Error};
use crate::base::key::Namespace;
use crate::store::breaker::State;
use crate::telemetry::{Histogram, prometheus};

use super::Core;
use super::fallbacks::TOO_MANY;
use super::standing::{Standing, overall};

/// Longest wait of a health check for the database.
const PING_MS: u64 = 500;

/// State of one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Works.
    Healthy,
    /// Works, but slower or with less protection.
    Degraded,
    /// Does not answer.
    Down,
    /// Not configured.
    Off,
}

/// State of the engine.
pub struct Health {
    /// The shared tier.
    pub store: Component,
    /// Postgres, asked just now.
    pub source: Component,
    details: Value,
}

impl Health {
    /// As `EngineHealth` of the TypeScript surface.
    pub fn json(&self) -> String {
        self.details.to_string()
    }
}

impl Core {
    /// `closed`, `open`, `half-open`.
    pub fn breaker_name(&self) -> &'static str {
        match self.cache.breaker_state().0 {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen => "half-open",
        }
    }

    /// Asks the source and reports every tier.
    pub async fn health(&self) -> Health {
        let source = self.source_standing().await;
        let store = self.store_standing();
        let near = self.near_standing(&store);
        let limiter = self.limiter_standing(&store);
        let fallbacks = self.fallback_share();
        let (status, reason, since_ms) = match (overall(&store, &source, &near), fallbacks.raised_ms) {
            (("healthy", ..), Some(raised_ms)) => ("degraded", Some(TOO_MANY.to_owned()), raised_ms),
            (whole, _) => whole,
        };
        // Looked at once: one moment must read the same wherever it stands.
        let (unix_ms, now_ms) = (self.cache.clock.unix_ms(), self.cache.clock.now_ms());
        let since = |ms: u64| iso(unix_ms.saturating_sub(now_ms.saturating_sub(ms)));
        let (entries, bytes, capacity) = self.cache.near.usage();
        let subscription = match (store.component, self.cache.hears()) {
            (Component::Off, _) => "off",
            (_, true) => "healthy",
            (_, false) => "unhealthy",
        };
        let details = json!({
            "status": status,
            "reason": reason,
            "since": since(since_ms),
            "store": {
                "status": name(store.component),
                "kind": self.cache.store.kind(),
                "mode": self.cache.store.mode(),
                "breaker": self.breaker_name(),
                "reason": store.reason,
                "since": since(store.since_ms),
                "pendingInvalidations": self.cache.pending.len(),
                "subscription": subscription,
            },
            "source": {
                "status": name(source.component),
                "reason": source.reason,
                "since": since(source.since_ms),
            },
            "near": {
                "status": name(near.component),
                "reason": near.reason,
                "since": since(near.since_ms),
                "entries": entries,
                "bytes": bytes,
                "capacityBytes": capacity,
            },
            "tail": { "state": self.tail.role().name(), "lagMs": self.tail.lag_ms() },
            "limiter": {
                "status": name(limiter.component),
                "reason": limiter.reason,
                "since": since(limiter.since_ms),
                "instances": self.cache.limits.peers().live(),
            },
            "fallback": fallbacks.json(fallbacks.raised_ms.map(since)),
            "warming": self.warming_health(),
        });
        Health { store: store.component, source: source.component, details }
    }

    /// The source, asked just now.
    async fn source_standing(&self) -> Standing {
        if !self.source.configured() {
            return Standing::new(Component::Off, None, self.started_ms);
        }
        let (application, analytics) = tokio::join!(
            in_time("the database", self.source.ping()),
            in_time("the analytics database", self.source.reach_analytics()),
        );
        let (component, error) = match (application, analytics) {
            (Err(error), _) => (Component::Down, Some(error)),
            (Ok(()), Err(error)) => (Component::Degraded, Some(error)),
            (Ok(()), Ok(())) => (Component::Healthy, None),
        };
        let found_ms = self.source_found.since_ms(component, self.cache.clock.now_ms());
        let since_ms = match self.source.since_ms() {
            // Statements met it before anybody looked.
            Some(changed_ms) if component == Component::Down && !self.source.reachable() => {
                changed_ms.min(found_ms)
            }
            Some(changed_ms) if component == Component::Healthy => changed_ms.max(found_ms),
            _ => found_ms,
        };
        Standing::new(component, error.as_ref().map(|error| &*error.message), since_ms)
    }

    /// As `MetricsSnapshot` of the TypeScript surface.
    pub fn metrics(&self, logs_dropped: u64) -> Value {
        let telemetry = &self.telemetry;
        let (entries, bytes, capacity) = self.cache.near.usage();
        let (running, queued) = self.source.load();
        let by_name: serde_json::Map<String, Value> =
            self.source.counts().map(|(name, count)| (name.to_owned(), count.into())).collect();
        let namespaces: serde_json::Map<String, Value> =
            Namespace::ALL.iter().map(|one| (one.name().to_owned(), self.namespace(*one))).collect();
        json!({
            "enabled": telemetry.keeps_answers(),
            "uptimeMs": self.cache.clock.now_ms().saturating_sub(self.started_ms),
            "store": {
                "kind": self.cache.store.kind(),
                "connected": self.cache.available(),
                "breaker": self.breaker_name(),
                "breakerOpened": telemetry.breaker_opened.get(),
                "roundTrips": telemetry.round_trips.get(),
                "commands": telemetry.commands.get(),
                "errors": telemetry.store_errors.get(),
                "timeouts": telemetry.store_timeouts.get(),
                "redirects": telemetry.redirects.get(),
                "pendingInvalidations": self.cache.pending.len(),
            },
            "source": {
                "statements": telemetry.statements.get(),
                "errors": telemetry.source_errors.get(),
                "timeouts": telemetry.source_timeouts.get(),
                "inFlight": running,
                "queued": queued,
                "statementsByName": by_name,
            },
            "near": { "entries": entries, "bytes": bytes, "capacityBytes": capacity },
            "namespaces": namespaces,
            "rbac": {
                "composed": telemetry.contexts_composed.get(),
                "reused": telemetry.contexts_reused.get(),
                "sampled": telemetry.contexts_sampled.get(),
                "staleServed": telemetry.contexts_stale.get(),
                "sampleErrors": telemetry.contexts_unsampled.get(),
            },
            "tail": {
                "state": self.tail.role().name(),
                "events": telemetry.tail_events.get(),
                "polls": telemetry.tail_polls.get(),
                "wakeups": telemetry.tail_wakeups.get(),
                "errors": telemetry.tail_errors.get(),
                "lagMs": self.tail.lag_ms(),
            },
            "limiter": self.limiter_metrics(),
            "dataSources": {
                "tooLarge": telemetry.results_too_large.get(),
                "stale": telemetry.results_stale.get(),
                "refreshes": telemetry.refreshes.get(),
                "refreshesFailed": telemetry.refreshes_failed.get(),
                "refreshesRefused": telemetry.refreshes_refused.get(),
                "refreshing": self.refreshes.len(),
            },
            "fallback": self.fallback_metrics(),
            "bridge": {
                "submitted": telemetry.submitted.get(),
                "settled": telemetry.settled.get(),
                "batches": telemetry.batches.get(),
                "rejectedOverload": telemetry.overloaded.get(),
            },
            "logs": { "dropped": logs_dropped },
        })
    }

    fn limiter_metrics(&self) -> Value {
        let telemetry = &self.telemetry;
        let (denials, keys, forgotten) = self.cache.limits.usage();
        json!({
            "admitted": telemetry.limits_admitted.get(),
            "denied": telemetry.limits_denied.get(),
            "deniedNear": telemetry.limits_denied_near.get(),
            "degraded": telemetry.limits_alone.get(),
            "joined": telemetry.limits_joined.get(),
            "refunded": telemetry.limits_refunded.get(),
            "merged": telemetry.limits_told.get(),
            "keys": keys,
            "denials": denials,
            "forgotten": forgotten,
        })
    }

    fn namespace(&self, namespace: Namespace) -> Value {
        let stats = self.telemetry.of(namespace);
        let latency = |histogram: &Histogram| {
            json!({
                "count": histogram.count(),
                "p50Us": histogram.quantile_us(0.5),
                "p90Us": histogram.quantile_us(0.9),
                "p99Us": histogram.quantile_us(0.99),
                "maxUs": histogram.max_us(),
            })
        };
        json!({
            "near": stats.near.get(),
            "store": stats.store.get(),
            "source": stats.source.get(),
            "negative": stats.negative.get(),
            "loads": stats.loads.get(),
            "waits": stats.waits.get(),
            "takeovers": stats.takeovers.get(),
            "fills": stats.fills.get(),
            "fillsRefused": stats.fills_refused.get(),
            "invalidations": stats.invalidations.get(),
            "corrupt": stats.corrupt.get(),
            "errors": stats.errors.get(),
            "latency": {
                "near": latency(&stats.latency[0]),
                "store": latency(&stats.latency[1]),
                "source": latency(&stats.latency[2]),
            },
        })
    }

    /// Prometheus text.
    pub fn prometheus(&self) -> String {
        let (entries, bytes, _) = self.cache.near.usage();
        let text = prometheus(
            &self.telemetry,
            &[
                (
                    "bcos_store_in_service",
                    "1 while the store is in service.",
                    f64::from(u8::from(self.cache.available())),
                ),
                (
                    "bcos_source_reachable",
                    "1 while the database answers.",
                    f64::from(u8::from(self.source.reachable())),
                ),
                (
                    "bcos_pending_invalidations",
                    "Invalidations the store has not acknowledged.",
                    self.cache.pending.len() as f64,
                ),
                ("bcos_near_entries", "Entries of the near cache.", entries as f64),
                ("bcos_near_bytes", "Bytes of the near cache.", bytes as f64),
                (
                    "bcos_tail_lag_ms",
                    "Age of the oldest change that was applied last.",
                    self.tail.lag_ms() as f64,
                ),
                (
                    "bcos_closing",
                    "1 once the engine is closing.",
                    f64::from(u8::from(self.closing.load(Ordering::Relaxed))),
                ),
            ],
        );
        text + &self.fallback_text()
    }
}

/// A health check must not hang with what it checks.
async fn in_time(what: &str, asked: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let late = || Error::new(Code::SourceUnavailable, format!("{what} did not answer within {PING_MS} ms"));
    tokio::time::timeout(Duration::from_millis(PING_MS), asked).await.unwrap_or_else(|_| Err(late()))
}

fn name(component: Component) -> &'static str {
    match component {
        Component::Healthy => "healthy",
        Component::Degraded => "degraded",
        Component::Down => "down",
        Component::Off => "not-configured",
    }
}

/// ISO-8601 of Unix milliseconds, UTC.
pub(super) fn iso(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days since 0000-03-01, so that a leap day is the last day of its year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::iso;

    #[test]
    fn dates() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_168_226_667, "2026-11-20T09:50:26.667Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(iso(ms), text);
        }
    }
}
