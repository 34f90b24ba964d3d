//! Analytics of data sources: questions, what is known of them, and warms.

use bcos_cache_core::analytics::answer::Numbers;
use bcos_cache_core::engine::{AnalyticsAsk, AnalyticsOrder, AnalyticsWarmOrder, AnswerForm, Request};
use napi::Env;
use napi_derive::napi;

use super::Raw;
use super::engine::NativeEngine;
use crate::bridge::args::{Text, deadline, whole};
use crate::bridge::queue::Queue;

/// Longer than news of a warm are waited for.
const NEWS_MS: f64 = 60_000.0;
/// For walking over all keys of a large store.
const LONG_MS: u64 = 120_000;

#[napi]
impl NativeEngine {
    /// A buffer: JSON text of one question, or columns of all; see `lib/analytics/rows.ts`
    #[napi(catch_unwind)]
    pub fn ask_analytics(
        &self,
        env: Env,
        questions: Vec<String>,
        json: bool,
        exact: bool,
        fallback: bool,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let ask = AnalyticsAsk {
            questions,
            form: if json { AnswerForm::Json } else { AnswerForm::Columns },
            numbers: if exact { Numbers::Text } else { Numbers::Float },
            fallback,
        };
        let own = deadline(deadline_ms);
        let limit = if own == 0 { self.engine.core().settings.analytics.query_timeout_ms } else { own };
        self.submit(env, Request::Analytics(Box::new(ask)), limit)
    }

    /// JSON; `what`: stats, all_stats, warm_since, invalidate, roll_back, approve, discard
    #[napi(catch_unwind)]
    pub fn order_analytics(&self, env: Env, what: Text, source: f64, deadline_ms: f64) -> napi::Result<Raw> {
        let id = whole(source) as i64;
        let (order, limit) = match what.0.as_str() {
            "stats" => (AnalyticsOrder::Stats(id), 0),
            "all_stats" => (AnalyticsOrder::AllStats, 0),
            "warm_since" => (AnalyticsOrder::WarmSince(id), 0),
            "invalidate" => (AnalyticsOrder::Invalidate(id), LONG_MS),
            "roll_back" => (AnalyticsOrder::RollBack(id), LONG_MS),
            "approve" => (AnalyticsOrder::Approve(id), LONG_MS),
            "discard" => (AnalyticsOrder::Discard(id), LONG_MS),
            _ => return Err(napi::Error::from_reason("an unknown order")),
        };
        let own = deadline(deadline_ms);
        self.submit(env, Request::AnalyticsOrder(order), if own == 0 { limit } else { own })
    }

    /// Number of the warm
    #[napi(catch_unwind)]
    pub fn warm_analytics(&self, env: Env, source: f64, force: bool) -> napi::Result<f64> {
        let order =
            AnalyticsWarmOrder { source: whole(source) as i64, force, env: Queue::of(env.raw())?.id() };
        Ok(self.engine.warm_analytics(order) as f64)
    }

    /// JSON, once there is another version than `seen`, or after a while
    #[napi(catch_unwind)]
    pub fn analytics_news(&self, env: Env, job: f64, seen: f64) -> napi::Result<Raw> {
        let order = AnalyticsOrder::News { job: whole(job), seen: whole(seen) };
        self.submit(env, Request::AnalyticsOrder(order), deadline(NEWS_MS))
    }

    /// The warm is not wanted any more.
    #[napi(catch_unwind)]
    pub fn stop_analytics(&self, job: f64) {
        self.engine.core().stop_analytics_warm(whole(job));
    }
}
