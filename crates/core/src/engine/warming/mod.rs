//! Warms the cache before anybody asks: the organizations and the system roles, and at the highest level the contexts
//! of the users who were active last. Then it waits while JavaScript runs the queries of the application. All of it
//! goes the way of ordinary reads: what is there already is not loaded.
//!
//! ```text
//! turn (one at a time here) -> lease (one at a time anywhere) -> ids -> roles -> users -> queries -> mark
//! ```
//!
//! Invariant: it never wants more loads at once than half the bulkhead, steps back while others wait for their turn,
//! and ends as soon as what it loads could not be kept.

mod job;
mod lease;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::config::WarmingLevel;
use crate::rbac::RoleSubject;
use crate::source::WarmIds;

use super::{Core, Outcome};
use job::{Job, Progress, Stage, Told, Turn};
use steps::{Ended, Item};

pub(super) use job::Warming;
pub use job::{WarmOrder, WarmStop};

/// Pause while others wait for the source.
const STEP_BACK_MS: u64 = 20;
/// Pause between two looks whether the engine is closing.
const CLOSING_MS: u64 = 25;
/// Longest wait for news of a job: after it the present state is told once more.
const NEWS_MS: u64 = 10_000;

/// Whose job an order got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmTurn {
    /// Its own.
    Mine,
    /// One that does as much.
    Joined,
    /// One that does not: to be tried again after its end.
    Busy,
}

/// Ends the job with its task, however that ends.
struct Running(Arc<Core>, Arc<Job>);

impl Drop for Running {
    fn drop(&mut self) {
        let Running(core, job) = self;
        core.warming.end(job, core.cache.clock.now_ms(), core.cache.clock.unix_ms());
    }
}

impl Core {
    /// Begins a warm-up, or finds the one that runs. Waits for nothing; must be called inside a runtime.
    pub(super) fn begin_warming(self: &Arc<Self>, order: WarmOrder) -> (u64, WarmTurn) {
        match self.warming.turn(order, self.cache.clock.now_ms()) {
            Turn::Joined(job) => (job.number, WarmTurn::Joined),
            Turn::Busy(job) => (job.number, WarmTurn::Busy),
            Turn::Mine(job) => {
                let number = job.number;
                tokio::spawn(self.clone().run_warming(Running(self.clone(), job)));
                (number, WarmTurn::Mine)
            }
        }
    }

    async fn run_warming(self: Arc<Self>, running: Running) {
        let job = &running.1;
        match self.claim_warming(&job.order).await {
            Err(stop) => job.set(|progress| (progress.stop, progress.skipped) = (Some(stop), true)),
            Ok(lease) => {
                let stop = tokio::select! {
                    biased;
                    stop = self.told_to_stop(job) => Some(stop),
                    stop = self.warm(job) => stop,
                    stop = self.keep_lease(&lease) => stop,
                };
                job.set(|progress| progress.stop = stop);
                self.give_back(lease, stop.is_none()).await;
            }
        }
        let (done, level) = (job.progress(), job.order.level.name());
        tracing::info!(
            component = "warming",
            level,
            roles = done.roles as u64,
            users = done.users as u64,
            data_sources = done.sources as u64,
            errors = (done.errors + done.source_errors) as u64,
            reason = done.stop.map_or("", WarmStop::name),
            "a warm-up has ended"
        );
    }

    /// Resolves when the rest is not wanted any more.
    async fn told_to_stop(&self, job: &Job) -> WarmStop {
        let mut told = job.told.subscribe();
        let until_ms = self.cache.clock.now_ms() + limits::WARM_LONGEST_MS;
        loop {
            if let Told::Stop(stop) = *told.borrow_and_update() {
                return stop;
            }
            if self.closing() {
                return WarmStop::Closed;
            }
            if self.cache.clock.now_ms() >= until_ms {
                return WarmStop::Deadline;
            }
            let _ = tokio::time::timeout(Duration::from_millis(CLOSING_MS), told.changed()).await;
        }
    }

    async fn warm(self: &Arc<Self>, job: &Job) -> Option<WarmStop> {
        let stop = self.warm_rights(job).await;
        if !job.order.sources || stop == Some(WarmStop::StoreUnavailable) {
            return stop;
        }
        // The application's queries need not go where ours went.
        job.begin(Stage::Sources, 0);
        let mut told = job.told.subscribe();
        let heard = told.wait_for(|told| *told != Told::Nothing).await.map(|told| *told);
        // Said after `told_to_stop` had looked, in the same turn.
        if let Ok(Told::Stop(stop)) = heard {
            return Some(stop);
        }
        if self.cache.available() { stop } else { Some(WarmStop::StoreUnavailable) }
    }

    async fn warm_rights(self: &Arc<Self>, job: &Job) -> Option<WarmStop> {
        self.step_back().await;
        let WarmIds { roles, users } = match self.source.warm_ids(job.order.users()).await {
            Ok(ids) => ids,
            Err(_) => {
                job.set(|progress| progress.errors += 1);
                return Some(WarmStop::SourceUnavailable);
            }
        };
        let at_once = self.loads_at_once(&job.order);
        let subjects = roles.iter().filter_map(|id| RoleSubject::new(&self.cache.keys, id).ok());
        let items: Vec<Item> = std::iter::once(Item::Tree).chain(subjects.map(Item::Role)).collect();
        job.begin(Stage::Roles, items.len());
        for chunk in items.chunks(at_once) {
            let (core, items) = (self.clone(), chunk.to_vec());
            let ended = self.step(chunk.len(), async move { core.warm_parts(&items).await }).await;
            let roles = chunk
                .iter()
                .zip(&ended)
                .filter(|(item, ended)| matches!(item, Item::Role(_)) && **ended == Ended::Warm);
            let roles = roles.count();
            if let Some(stop) = self.take_in(job, &ended, |progress| progress.roles += roles) {
                return Some(stop);
            }
        }
        if job.order.level < WarmingLevel::Aggressive {
            return None;
        }
        job.begin(Stage::Users, users.len());
        for chunk in users.chunks(at_once) {
            let (core, users) = (self.clone(), chunk.to_vec());
            let ended = self.step(chunk.len(), async move { core.warm_contexts(&users).await }).await;
            let users = ended.iter().filter(|ended| **ended == Ended::Warm).count();
            if let Some(stop) = self.take_in(job, &ended, |progress| progress.users += users) {
                return Some(stop);
            }
        }
        None
    }

    /// At least one, at most half of what may run.
    pub fn loads_at_once(&self, order: &WarmOrder) -> usize {
        (order.concurrency as usize).min(self.settings.source.bulkhead / 2).max(1)
    }

    /// Others first.
    async fn step_back(&self) {
        while self.source.load().1 > 0 {
            tokio::time::sleep(Duration::from_millis(STEP_BACK_MS)).await;
        }
    }

    /// A step that has begun comes to its end although the warm-up is stopped: it holds leases.
    async fn step(
        &self,
        items: usize,
        work: impl Future<Output = Vec<Ended>> + Send + 'static,
    ) -> Vec<Ended> {
        self.step_back().await;
        tokio::spawn(work).await.unwrap_or_else(|_| vec![Ended::Failed; items])
    }

    /// Counts what a step has brought. When the store went away meanwhile, nobody knows what of it was kept.
    fn take_in(&self, job: &Job, ended: &[Ended], warm: impl FnOnce(&mut Progress)) -> Option<WarmStop> {
        if !self.cache.available() {
            return Some(WarmStop::StoreUnavailable);
        }
        let failed = ended.iter().filter(|ended| **ended == Ended::Failed).count();
        job.set(|progress| {
            warm(progress);
            progress.done += ended.len();
            progress.errors += failed;
        });
        let hopeless = failed == ended.len() && !self.source.reachable();
        hopeless.then_some(WarmStop::SourceUnavailable)
    }
}

impl Core {
    /// What became of a job, once that is another version than `seen`.
    pub(super) async fn warming_after(&self, number: u64, seen: u64) -> Result<Outcome, Error> {
        let Some(job) = self.warming.find(number) else {
            return Err(Error::new(Code::Internal, "nothing is known of this warm-up"));
        };
        let _ = tokio::time::timeout(Duration::from_millis(NEWS_MS), job.after(seen)).await;
        Ok(Outcome::Json(job.json(self.cache.clock.now_ms()).to_string()))
    }

    /// What JavaScript has done of its part. Ignored by a job that has ended.
    pub fn report_warming(&self, number: u64, done: usize, total: usize, errors: usize) {
        let running = self.warming.running().filter(|job| job.number == number);
        let Some(job) = running.filter(|job| job.progress().stage == Some(Stage::Sources)) else { return };
        job.set(|progress| {
            (progress.done, progress.total) = (done, total);
            (progress.sources, progress.source_errors) = (done.saturating_sub(errors), errors);
        });
    }

    /// JavaScript's part is done; `stop` = or the rest is not wanted any more.
    pub fn tell_warming(&self, number: u64, stop: Option<WarmStop>) {
        if let Some(job) = self.warming.running().filter(|job| job.number == number) {
            // Whoever was told to stop is not done.
            job.told.send_if_modified(|told| {
                let stopped = matches!(told, Told::Stop(_));
                if !stopped {
                    *told = stop.map_or(Told::SourcesDone, Told::Stop);
                }
                !stopped
            });
        }
    }

    /// Ends what a gone environment has begun: nobody would run its queries.
    pub(super) fn stop_warming_of(&self, env: u64) {
        if let Some(job) = self.warming.running().filter(|job| job.order.env == env) {
            self.tell_warming(job.number, Some(WarmStop::Cancelled));
        }
    }

    /// As in `EngineHealth`.
    pub(super) fn warming_health(&self) -> Value {
        self.warming.health(self.cache.clock.now_ms(), super::health::iso)
    }
}
