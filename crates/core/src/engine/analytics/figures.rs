//! What this process counted of its answers, by data source. Not what is stored: that is in the pointer.
//!
//! Invariant: an answer is counted once, where it came from; zero rows are an answer.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::analytics::answer::{Facts, Layer};
use crate::telemetry::{Counter, Histogram};

/// More data sources than an application has; those beyond share one.
const SOURCES: usize = 4_096;
const OTHERS: i64 = i64::MIN;

/// Of one data source.
#[derive(Default)]
pub(super) struct Figures {
    near: Counter,
    store: Counter,
    source: Counter,
    /// Why the source was asked, and how often.
    reasons: Mutex<Vec<(&'static str, u64)>>,
    took: Histogram,
}

impl Figures {
    pub(super) fn answered(&self, facts: &Facts) {
        match facts.layer {
            Layer::Near => self.near.up(),
            Layer::Store => self.store.up(),
            Layer::Source => self.source.up(),
        }
        self.took.record(facts.micros);
        if let Some(reason) = facts.reason {
            let mut reasons = self.reasons.lock();
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => reasons.push((reason, 1)),
            }
        }
    }

    /// As in `CacheStats`.
    pub(super) fn json(&self) -> Value {
        let (near, store, source) = (self.near.get(), self.store.get(), self.source.get());
        let all = near + store + source;
        let ms = |us: u64| us as f64 / 1_000.0;
        let reasons: serde_json::Map<String, Value> =
            self.reasons.lock().iter().map(|(reason, count)| ((*reason).to_owned(), json!(count))).collect();
        json!({
            "queries": all,
            "nearHits": near,
            "storeHits": store,
            "sourceReads": source,
            "sourceReasons": reasons,
            "hitRate": if all == 0 { Value::Null } else { json!((near + store) as f64 / all as f64) },
            "avgMs": if all == 0 { Value::Null } else { json!(ms(self.took.sum_us()) / all as f64) },
            "p50Ms": if all == 0 { Value::Null } else { json!(ms(self.took.quantile_us(0.5))) },
            "p99Ms": if all == 0 { Value::Null } else { json!(ms(self.took.quantile_us(0.99))) },
        })
    }
}

/// Of all data sources.
#[derive(Default)]
pub(super) struct AllFigures(Mutex<HashMap<i64, Arc<Figures>>>);

impl AllFigures {
    pub(super) fn of(&self, source: i64) -> Arc<Figures> {
        let mut all = self.0.lock();
        let source = if all.len() < SOURCES || all.contains_key(&source) { source } else { OTHERS };
        all.entry(source).or_default().clone()
    }
}
