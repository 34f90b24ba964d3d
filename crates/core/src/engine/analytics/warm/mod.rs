//! Warms a data source: all of its rows out of the source, in frames and a manifest, into the store, and the pointer to it.
//!
//! ```text
//! turn -> lock -> claim of the pointer -> export, build -> what is there, is there room -> write -> verify -> gates -> publish
//! ```
//!
//! Invariant: nothing that readers see changes before the one compare-and-set at the end; whoever was overtaken, or whose
//! data source was invalidated meanwhile, loses it.

mod claim;
mod collect;
mod job;
mod lock;
mod make;
mod origin;
mod publish;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod verify;
mod write;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::error::{Code, Error};
use crate::base::limits;

use super::super::{Core, Outcome};
use job::{Job, Stop, Turn};
use lock::{Holder, Lock, Taken, Work};
use make::Made;
use origin::Origin;
use publish::Fate;
use write::{Counts, Written};

pub use job::AnalyticsWarmOrder;
pub(in crate::engine) use job::Warms;

/// Pause between two looks whether the engine is closing.
const CLOSING_MS: u64 = 25;
/// Longest wait for news of a job: after it the present state is told once more.
const NEWS_MS: u64 = 10_000;
/// Longest time that the end of an engine waits for its warms.
const ENDING_MS: u64 = 500;

/// Ends the job with its task, however that ends.
struct Running(Arc<Core>, Arc<Job>);

impl Running {
    fn end(&self, result: Result<Value, Error>) {
        let Running(core, job) = self;
        core.analytics.warms.end(job, result);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Err(Error::new(Code::Internal, "the warm ended unexpectedly; nothing was published")));
    }
}

/// Why there is nothing to do.
enum Skipped {
    /// Somebody is at it.
    Held(Holder),
    /// Somebody has done it a moment ago.
    Rested,
}

impl Core {
    /// Begins to warm a data source: the number of the job. A second one of the same data source ends at once and says
    /// whose the first is. Waits for nothing; must be called inside a runtime.
    pub fn begin_analytics_warm(self: &Arc<Self>, order: AnalyticsWarmOrder) -> u64 {
        self.begin_warm_from(order, Origin::Source)
    }

    fn begin_warm_from(self: &Arc<Self>, order: AnalyticsWarmOrder, origin: Origin) -> u64 {
        match self.analytics.warms.turn(order, self.cache.clock.now_ms()) {
            Turn::Mine(job) => {
                let number = job.number;
                let running = Running(self.clone(), job);
                tokio::spawn(Box::pin(self.clone().run_warm(running, origin)));
                number
            }
            Turn::Busy(job, first) => {
                let (number, running) = (job.number, Running(self.clone(), job));
                let age_ms = self.cache.clock.now_ms().saturating_sub(first.started_ms);
                let holder = self.holder(Work::Warm, self.cache.clock.unix_ms().saturating_sub(age_ms));
                tokio::spawn(async move {
                    let Running(core, job) = &running;
                    running.end(core.skipped(job, Skipped::Held(holder)).await);
                });
                number
            }
            Turn::Full(job) => job.number,
        }
    }

    async fn run_warm(self: Arc<Self>, running: Running, origin: Origin) {
        let job = running.1.clone();
        let result = self.take_turn(&job, &origin).await;
        let source = job.order.source;
        match &result {
            Ok(done) => tracing::info!(
                component = "analytics",
                data_source = source,
                rows = done["totalRows"].as_u64().unwrap_or(0),
                duration_ms = done["duration"].as_u64().unwrap_or(0),
                skipped = done["skipped"].as_bool().unwrap_or(false),
                held = !done["held"].is_null(),
                "a warm of a data source has ended"
            ),
            Err(error) => {
                tracing::warn!(component = "analytics", data_source = source, %error, "a warm of a data source has failed");
            }
        }
        running.end(result);
    }

    async fn take_turn(self: &Arc<Self>, job: &Arc<Job>, origin: &Origin) -> Result<Value, Error> {
        let _turn = tokio::select! {
            biased;
            stop = self.told_to_stop_warm(job) => return Err(stop.error()),
            turn = self.analytics.warms.turns.acquire() => turn.expect("it is never closed"),
        };
        self.store_configured().await?;
        let source = job.order.source;
        // Collecting takes a moment, and is no reason to have nothing to do.
        let soon = |holder: &Holder| holder.work == Work::Collect;
        let rested = !job.order.force;
        match self.wait_for_lock(source, Work::Warm, rested, limits::ANALYTICS_LOCK_MS, soon).await? {
            Taken::Held(holder) => self.skipped(job, Skipped::Held(holder)).await,
            Taken::Rested => self.skipped(job, Skipped::Rested).await,
            Taken::Mine(lock) => self.warm_under(job, origin, lock).await,
        }
    }

    /// Warms, and leaves nothing behind when that comes to nothing.
    async fn warm_under(
        self: &Arc<Self>,
        job: &Arc<Job>,
        origin: &Origin,
        lock: Lock,
    ) -> Result<Value, Error> {
        let written = Written::default();
        let done = self.prepare_and_publish(job, origin, &lock, &written).await;
        match &done {
            Ok((_, fate, ..)) => {
                let published = matches!(fate, Fate::Published(_));
                self.give_back_lock(lock, published).await;
                self.collect_later(job.order.source);
            }
            Err(_) => {
                if let Err(error) = self.clear_away(&lock, written.take()).await {
                    let source = job.order.source;
                    tracing::warn!(component = "analytics", data_source = source, %error, "a failed warm left something behind");
                }
                self.give_back_lock(lock, false).await;
            }
        }
        let (made, fate, other, counts) = done?;
        let took_ms = self.cache.clock.now_ms().saturating_sub(job.started_ms);
        Ok(publish::result(&made, &fate, other, &counts, took_ms, job.progress().frames_written))
    }

    async fn prepare_and_publish(
        &self,
        job: &Arc<Job>,
        origin: &Origin,
        lock: &Lock,
        written: &Written,
    ) -> Result<(Made, Fate, bool, Counts), Error> {
        let claim = self.claim_live(lock.source).await?;
        let (made, counts) = tokio::select! {
            biased;
            stop = self.told_to_stop_warm(job) => return Err(stop.error()),
            lost = self.hold(lock, claim) => return Err(lost),
            prepared = Box::pin(self.prepare(job, origin, written)) => prepared?,
        };
        // From here on it is too late to stop it: nobody could tell whether it was published.
        let (fate, other) = self.publish(job, &made, claim).await?;
        self.analytics.blocks.keep_manifest(made.name, &made.manifest);
        Ok((made, fate, other, counts))
    }

    async fn prepare(
        &self,
        job: &Arc<Job>,
        origin: &Origin,
        written: &Written,
    ) -> Result<(Made, Counts), Error> {
        let table = origin.table(self, job.order.source).await?;
        let made = self.make(job, &table).await?;
        let counts = self.write(job, &made, written).await?;
        self.verify(job, &made, &counts.fresh, written).await?;
        Ok((made, counts))
    }

    /// Resolves when the rest is not wanted any more.
    async fn told_to_stop_warm(&self, job: &Job) -> Stop {
        let mut told = job.told();
        loop {
            if let Some(stop) = *told.borrow_and_update() {
                return stop;
            }
            if self.closing() {
                return Stop::Closed;
            }
            let _ = tokio::time::timeout(Duration::from_millis(CLOSING_MS), told.changed()).await;
        }
    }

    /// As `WarmResult`, of a warm that had nothing to do.
    async fn skipped(&self, job: &Job, why: Skipped) -> Result<Value, Error> {
        let seen = self.look_live(job.order.source).await.unwrap_or_default();
        let served = seen.live.as_deref().and_then(|live| live.served());
        let mut result = json!({
            "entriesCached": served.map_or(0, |served| served.entries),
            "totalRows": served.map_or(0, |served| served.rows),
            "duration": self.cache.clock.now_ms().saturating_sub(job.started_ms),
            "skipped": true,
            "generation": served.map_or(0, |served| served.number),
            "framesWritten": 0,
            "framesReused": 0,
            "bytesWritten": 0,
        });
        match why {
            Skipped::Held(holder) => {
                (result["reason"], result["holder"]) = ("running".into(), holder.json());
            }
            Skipped::Rested => result["reason"] = "recent".into(),
        }
        Ok(result)
    }
}

impl Core {
    /// What became of a job, once that is another version than `seen`; the error that it ended with.
    pub(in crate::engine) async fn analytics_warm_news(&self, job: u64, seen: u64) -> Result<Outcome, Error> {
        let Some(job) = self.analytics.warms.find(job) else {
            return Err(Error::new(Code::NotFound, "nothing is known of this warm any more"));
        };
        let _ = tokio::time::timeout(Duration::from_millis(NEWS_MS), job.after(seen)).await;
        Ok(Outcome::Json(job.news(self.cache.clock.now_ms())?.to_string()))
    }

    /// The rest of a job is not wanted any more. Nothing of it will be published.
    pub fn stop_analytics_warm(&self, job: u64) {
        if let Some(job) = self.analytics.warms.find(job) {
            job.stop(Stop::Cancelled);
        }
    }

    /// Ends all of them, for the time it takes to clear away what they wrote.
    pub(in crate::engine) async fn end_analytics_warms(&self) {
        let jobs = self.analytics.warms.those(|_| true);
        jobs.iter().for_each(|job| job.stop(Stop::Closed));
        let ended = futures_util::future::join_all(jobs.iter().map(|job| job.ended()));
        let _ = tokio::time::timeout(Duration::from_millis(ENDING_MS), ended).await;
    }

    /// Ends what a gone environment has begun.
    pub fn stop_analytics_warms_of(&self, env: u64) {
        for job in self.analytics.warms.those(|job| job.order.env == env) {
            job.stop(Stop::Cancelled);
        }
    }
}
