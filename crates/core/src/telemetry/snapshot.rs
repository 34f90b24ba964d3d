//! Counters as Prometheus text. A rendering; it counts nothing.

use std::fmt::Write;

use crate::base::key::Namespace;

use super::{Telemetry, Tier};

/// Upper bounds of the exported latency buckets, in microseconds.
const BOUNDS_US: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000];

/// The text exposition format, version 0.0.4.
pub fn prometheus(telemetry: &Telemetry, gauges: &[(&str, &str, f64)]) -> String {
    let mut out = String::new();
    let engine = [
        ("bcos_store_round_trips_total", "Pipelines sent to the store.", telemetry.round_trips.get()),
        ("bcos_store_commands_total", "Commands sent to the store.", telemetry.commands.get()),
        ("bcos_store_errors_total", "Store operations that failed.", telemetry.store_errors.get()),
        (
            "bcos_store_timeouts_total",
            "Store operations not answered in time.",
            telemetry.store_timeouts.get(),
        ),
        (
            "bcos_store_breaker_opened_total",
            "Times the circuit breaker opened.",
            telemetry.breaker_opened.get(),
        ),
        ("bcos_store_redirects_total", "Cluster redirections followed.", telemetry.redirects.get()),
        ("bcos_source_statements_total", "SQL statements sent.", telemetry.statements.get()),
        ("bcos_source_errors_total", "SQL statements that failed.", telemetry.source_errors.get()),
        (
            "bcos_source_timeouts_total",
            "SQL statements not answered in time.",
            telemetry.source_timeouts.get(),
        ),
        ("bcos_requests_submitted_total", "Requests handed to the engine.", telemetry.submitted.get()),
        ("bcos_requests_settled_total", "Requests settled.", telemetry.settled.get()),
        (
            "bcos_requests_overloaded_total",
            "Requests refused because the queue was full.",
            telemetry.overloaded.get(),
        ),
        ("bcos_authz_composed_total", "Contexts composed of their parts.", telemetry.contexts_composed.get()),
        ("bcos_authz_reused_total", "Contexts answered as composed before.", telemetry.contexts_reused.get()),
        (
            "bcos_authz_sampled_total",
            "Served contexts compared with the source.",
            telemetry.contexts_sampled.get(),
        ),
        (
            "bcos_authz_stale_served_total",
            "Served contexts that still differed from the source two seconds later.",
            telemetry.contexts_stale.get(),
        ),
        (
            "bcos_authz_sample_errors_total",
            "Comparisons that could not be made.",
            telemetry.contexts_unsampled.get(),
        ),
        (
            "bcos_datasource_too_large_total",
            "Results of data sources that were too large to be stored.",
            telemetry.results_too_large.get(),
        ),
        (
            "bcos_datasource_stale_total",
            "Results answered past their time, to callers who accept that.",
            telemetry.results_stale.get(),
        ),
        (
            "bcos_datasource_refreshes_total",
            "Queries run again in the background.",
            telemetry.refreshes.get(),
        ),
        (
            "bcos_datasource_refreshes_failed_total",
            "Queries run again that failed.",
            telemetry.refreshes_failed.get(),
        ),
        (
            "bcos_datasource_refreshes_refused_total",
            "Queries run again whose result was voided meanwhile, or came too late.",
            telemetry.refreshes_refused.get(),
        ),
        ("bcos_ratelimit_admitted_total", "Rate limit checks admitted.", telemetry.limits_admitted.get()),
        ("bcos_ratelimit_denied_total", "Rate limit checks denied.", telemetry.limits_denied.get()),
        (
            "bcos_ratelimit_denied_near_total",
            "Rate limit checks denied without a command.",
            telemetry.limits_denied_near.get(),
        ),
        (
            "bcos_ratelimit_degraded_total",
            "Rate limit checks decided without the store.",
            telemetry.limits_alone.get(),
        ),
        (
            "bcos_ratelimit_joined_total",
            "Rate limit checks evaluated together with another one.",
            telemetry.limits_joined.get(),
        ),
        (
            "bcos_ratelimit_refunded_total",
            "Charges given back because another limit denied.",
            telemetry.limits_refunded.get(),
        ),
        (
            "bcos_ratelimit_merged_total",
            "Rate limits the store was told about after an outage.",
            telemetry.limits_told.get(),
        ),
        ("bcos_tail_events_total", "Changes read from the outbox.", telemetry.tail_events.get()),
        ("bcos_tail_polls_total", "Looks at the outbox.", telemetry.tail_polls.get()),
        ("bcos_tail_wakeups_total", "Looks that a commit asked for.", telemetry.tail_wakeups.get()),
        ("bcos_tail_errors_total", "Looks that failed.", telemetry.tail_errors.get()),
    ];
    for (name, help, value) in engine {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    }
    for (name, help, value) in gauges {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    // What is not kept has no series: 0 would be a figure.
    if telemetry.keeps_answers() {
        answers(telemetry, &mut out);
        latency(telemetry, &mut out);
    }
    events(telemetry, &mut out);
    out
}

fn answers(telemetry: &Telemetry, out: &mut String) {
    let _ = writeln!(
        out,
        "# HELP bcos_cache_answers_total Answers by namespace and tier.\n# TYPE bcos_cache_answers_total counter"
    );
    for namespace in Namespace::ALL {
        let stats = telemetry.of(namespace);
        for (tier, value) in
            [("near", stats.near.get()), ("store", stats.store.get()), ("source", stats.source.get())]
        {
            let _ = writeln!(
                out,
                "bcos_cache_answers_total{{namespace=\"{}\",tier=\"{tier}\"}} {value}",
                namespace.name()
            );
        }
    }
}

fn events(telemetry: &Telemetry, out: &mut String) {
    let _ = writeln!(
        out,
        "# HELP bcos_cache_events_total What else happened, by namespace.\n# TYPE bcos_cache_events_total counter"
    );
    for namespace in Namespace::ALL {
        let stats = telemetry.of(namespace);
        let negative = telemetry.keeps_answers().then(|| ("negative", stats.negative.get()));
        let events = [
            ("load", stats.loads.get()),
            ("wait", stats.waits.get()),
            ("takeover", stats.takeovers.get()),
            ("fill", stats.fills.get()),
            ("fill_refused", stats.fills_refused.get()),
            ("invalidation", stats.invalidations.get()),
            ("corrupt", stats.corrupt.get()),
            ("error", stats.errors.get()),
        ];
        for (event, value) in negative.into_iter().chain(events) {
            let _ = writeln!(
                out,
                "bcos_cache_events_total{{namespace=\"{}\",event=\"{event}\"}} {value}",
                namespace.name()
            );
        }
    }
}

fn latency(telemetry: &Telemetry, out: &mut String) {
    let name = "bcos_cache_answer_seconds";
    let _ = writeln!(out, "# HELP {name} Time to an answer, by namespace and tier.\n# TYPE {name} histogram");
    for namespace in Namespace::ALL {
        for (tier, label) in [(Tier::Near, "near"), (Tier::Store, "store"), (Tier::Source, "source")] {
            let histogram = &telemetry.of(namespace).latency[tier as usize];
            let labels = format!("namespace=\"{}\",tier=\"{label}\"", namespace.name());
            for (bound, count) in BOUNDS_US.iter().zip(histogram.cumulative(&BOUNDS_US)) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {count}", *bound as f64 / 1e6);
            }
            let count = histogram.count();
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum_us() as f64 / 1e6);
            let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
        }
    }
}
