//! Warm-ups and reports of fallbacks. What JavaScript does of a warm-up, it only tells of.

use bcos_cache_core::config::WarmingLevel;
use bcos_cache_core::engine::{Request, WarmOrder, WarmStop, WarmTurn};
use napi::Env;
use napi_derive::napi;

use super::Raw;
use super::engine::NativeEngine;
use crate::bridge::args::{Text, deadline, whole};
use crate::bridge::queue::Queue;

/// Longer than news of a warm-up are waited for.
const NEWS_MS: f64 = 60_000.0;

#[napi]
impl NativeEngine {
    /// Number of the warm-up; 0 = it is this call's, 1 = one that does as much, 2 = another one, which must end first; loads at
    /// a time
    #[napi(catch_unwind)]
    pub fn warm(
        &self,
        env: Env,
        level: Text,
        users: f64,
        concurrency: f64,
        force: bool,
        sources: bool,
    ) -> napi::Result<Vec<f64>> {
        let level = WarmingLevel::parse(&level.0)
            .ok_or_else(|| napi::Error::from_reason("a warm-up of an unknown level"))?;
        let order = WarmOrder {
            level,
            users: whole(users) as u32,
            concurrency: whole(concurrency) as u32,
            force,
            sources,
            env: Queue::of(env.raw())?.id(),
            patient: false,
        };
        let at_once = self.engine.core().loads_at_once(&order);
        let (number, turn) = self.engine.warm(order);
        let turn = match turn {
            WarmTurn::Mine => 0.0,
            WarmTurn::Joined => 1.0,
            WarmTurn::Busy => 2.0,
        };
        Ok(vec![number as f64, turn, at_once as f64])
    }

    /// JSON, once there is another version than `seen`, or after a while
    #[napi(catch_unwind)]
    pub fn warming(&self, env: Env, job: f64, seen: f64) -> napi::Result<Raw> {
        self.submit(env, Request::Warming { job: whole(job), seen: whole(seen) }, deadline(NEWS_MS))
    }

    /// How far JavaScript's part is.
    #[napi(catch_unwind)]
    pub fn report_warming(&self, job: f64, done: f64, total: f64, errors: f64) {
        let [done, total, errors] = [done, total, errors].map(|number| whole(number) as usize);
        self.engine.core().report_warming(whole(job), done, total, errors);
    }

    /// JavaScript's part is done (null), or the rest is not wanted: `cancelled`, `deadline`, `store_unavailable`.
    #[napi(catch_unwind)]
    pub fn tell_warming(&self, job: f64, stop: Option<String>) {
        let stop = stop.map(|word| match word.as_str() {
            "deadline" => WarmStop::Deadline,
            "store_unavailable" => WarmStop::StoreUnavailable,
            _ => WarmStop::Cancelled,
        });
        self.engine.core().tell_warming(whole(job), stop);
    }

    /// The level that is configured.
    #[napi(catch_unwind)]
    pub fn warming_level(&self) -> String {
        self.engine.core().settings.warming.level.name().to_owned()
    }

    /// Counts a read of the application that went past the cache.
    #[napi(catch_unwind)]
    pub fn record_fallback(&self, operation: Text, reason: Text) {
        self.engine.core().record_fallback(&operation.0, &reason.0);
    }
}
