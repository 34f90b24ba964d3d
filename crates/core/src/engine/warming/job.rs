//! One warm-up as others see it: what was asked for, how far it is, how it ended. Not the warming.
//!
//! Invariant: of one engine at most one job runs, and a job that runs ends, whatever becomes of its task.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::base::limits;
use crate::config::WarmingLevel;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct WarmOrder {
    /// How much.
    pub level: WarmingLevel,
    /// Contexts of so many users, at the level that has users.
    pub users: u32,
    /// Loads at a time; more than half the bulkhead counts as that.
    pub concurrency: u32,
    /// Whether it is done although somebody else does it or just has.
    pub force: bool,
    /// Whether queries of the application follow, which JavaScript runs.
    pub sources: bool,
    /// Whose environment ends it; 0 = nobody's.
    pub env: u64,
    /// Whether the store may be waited for.
    pub patient: bool,
}

impl WarmOrder {
    /// What the configuration asks for without being asked.
    pub fn by_itself(level: WarmingLevel) -> Self {
        Self {
            level,
            users: limits::WARM_USERS_USUAL,
            concurrency: limits::WARM_LOADS,
            force: false,
            sources: false,
            env: 0,
            patient: true,
        }
    }

    /// Users this comes to.
    pub(super) fn users(&self) -> u32 {
        if self.level == WarmingLevel::Aggressive { self.users.min(limits::WARM_USERS) } else { 0 }
    }

    /// Whether whoever asks for `other` is served by this.
    fn covers(&self, other: &Self) -> bool {
        self.level >= other.level
            && self.users() >= other.users()
            && !other.sources
            && (self.force || !other.force)
    }
}

/// Why less was done than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmStop {
    /// Nowhere to put anything.
    NoStore,
    /// Another process is at it.
    AnotherProcess,
    /// Somebody has done it a moment ago.
    Recent,
    /// The store does not answer: what is loaded would not be kept.
    StoreUnavailable,
    /// The database does not answer.
    SourceUnavailable,
    /// Whoever asked does not want it any more, or is gone.
    Cancelled,
    /// It took too long.
    Deadline,
    /// The engine is closing.
    Closed,
}

impl WarmStop {
    /// As in `WarmupStats`.
    pub fn name(self) -> &'static str {
        match self {
            WarmStop::NoStore => "no_store",
            WarmStop::AnotherProcess => "another_process",
            WarmStop::Recent => "recent",
            WarmStop::StoreUnavailable => "store_unavailable",
            WarmStop::SourceUnavailable => "source_unavailable",
            WarmStop::Cancelled => "cancelled",
            WarmStop::Deadline => "deadline",
            WarmStop::Closed => "closed",
        }
    }
}

/// What is being warmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Roles,
    Users,
    Sources,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Roles => "roles",
            Stage::Users => "users",
            Stage::Sources => "dataSources",
        }
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Grows with every change.
    version: u64,
    pub(super) stage: Option<Stage>,
    pub(super) done: usize,
    pub(super) total: usize,
    pub(super) roles: usize,
    pub(super) users: usize,
    pub(super) sources: usize,
    pub(super) errors: usize,
    /// Those of JavaScript's part, which are beside the others.
    pub(super) source_errors: usize,
    pub(super) skipped: bool,
    pub(super) stop: Option<WarmStop>,
    /// Set at its end.
    ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    at_unix_ms: u64,
    took_ms: u64,
}

/// What JavaScript tells a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    /// Its part is done.
    SourcesDone,
    Stop(WarmStop),
}

/// One warm-up.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) order: WarmOrder,
    started_ms: u64,
    /// Written by the task and by JavaScript, read by whoever follows.
    progress: watch::Sender<Progress>,
    pub(super) told: watch::Sender<Told>,
}

impl Job {
    /// Changes what is known of it.
    pub(super) fn set(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(|progress| {
            change(progress);
            progress.version += 1;
        });
    }

    pub(super) fn begin(&self, stage: Stage, total: usize) {
        self.set(|progress| (progress.stage, progress.done, progress.total) = (Some(stage), 0, total));
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits for another version than `seen`.
    pub(super) async fn after(&self, seen: u64) {
        let _ = self.progress.subscribe().wait_for(|now| now.version > seen || now.ended.is_some()).await;
    }

    /// As the TypeScript side follows it.
    pub(super) fn json(&self, now_ms: u64) -> Value {
        let now = self.progress();
        json!({
            "version": now.version,
            "stage": now.stage.map(Stage::name),
            "done": now.done,
            "total": now.total,
            "ended": now.ended.is_some(),
            "stats": self.stats(&now, now_ms),
        })
    }

    /// `WarmupStats`.
    fn stats(&self, progress: &Progress, now_ms: u64) -> Value {
        let took_ms = progress.ended.map_or(now_ms.saturating_sub(self.started_ms), |ended| ended.took_ms);
        let mut stats = json!({
            "rolesWarmed": progress.roles,
            "usersWarmed": progress.users,
            "dataSourcesWarmed": progress.sources,
            "duration": took_ms,
            "errors": progress.errors + progress.source_errors,
        });
        if progress.skipped {
            stats["skipped"] = true.into();
        }
        if progress.stop == Some(WarmStop::Cancelled) {
            stats["cancelled"] = true.into();
        }
        if let Some(stop) = progress.stop {
            stats["reason"] = stop.name().into();
        }
        stats
    }
}

/// What becomes of an order.
pub(super) enum Turn {
    /// Its own job.
    Mine(Arc<Job>),
    /// The one that runs is as good.
    Joined(Arc<Job>),
    /// The one that runs is not: come again when it has ended.
    Busy(Arc<Job>),
}

/// The warm-ups of one engine.
#[derive(Default)]
pub(in crate::engine) struct Warming {
    /// Held for a few instructions.
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    begun: u64,
    running: Option<Arc<Job>>,
    /// The last ones, the newest at the end.
    ended: VecDeque<Arc<Job>>,
}

impl Warming {
    pub(super) fn turn(&self, order: WarmOrder, now_ms: u64) -> Turn {
        let mut jobs = self.jobs.lock();
        if let Some(running) = &jobs.running {
            let running = running.clone();
            return if running.order.covers(&order) { Turn::Joined(running) } else { Turn::Busy(running) };
        }
        jobs.begun += 1;
        let job = Arc::new(Job {
            number: jobs.begun,
            order,
            started_ms: now_ms,
            progress: watch::Sender::new(Progress::default()),
            told: watch::Sender::new(Told::Nothing),
        });
        jobs.running = Some(job.clone());
        Turn::Mine(job)
    }

    /// The job has ended: the next one may begin.
    pub(super) fn end(&self, job: &Arc<Job>, now_ms: u64, unix_ms: u64) {
        {
            let mut jobs = self.jobs.lock();
            if jobs.running.as_ref().is_some_and(|running| running.number == job.number) {
                jobs.running = None;
            }
            jobs.ended.push_back(job.clone());
            if jobs.ended.len() > limits::WARM_ENDED {
                jobs.ended.pop_front();
            }
        }
        // After it is out of the way: whoever waits for its end begins one at once.
        let took_ms = now_ms.saturating_sub(job.started_ms);
        job.set(|progress| progress.ended = Some(Ended { at_unix_ms: unix_ms, took_ms }));
    }

    pub(super) fn running(&self) -> Option<Arc<Job>> {
        self.jobs.lock().running.clone()
    }

    /// The job of this number, if it runs or ended lately.
    pub(super) fn find(&self, number: u64) -> Option<Arc<Job>> {
        let jobs = self.jobs.lock();
        jobs.running.iter().chain(&jobs.ended).find(|job| job.number == number).cloned()
    }

    /// As in `EngineHealth`; `iso` writes a time.
    pub(super) fn health(&self, now_ms: u64, iso: impl FnOnce(u64) -> String) -> Value {
        let (running, last) = {
            let jobs = self.jobs.lock();
            (jobs.running.clone(), jobs.ended.back().cloned())
        };
        let now = running.as_ref().map(|job| job.progress()).unwrap_or_default();
        let last = last.map(|job| {
            let progress = job.progress();
            let mut stats = job.stats(&progress, now_ms);
            stats["level"] = job.order.level.name().into();
            stats["endedAt"] = progress.ended.map(|ended| iso(ended.at_unix_ms)).into();
            stats
        });
        json!({
            "state": if running.is_some() { "running" } else { "idle" },
            "stage": now.stage.map(Stage::name),
            "done": now.done,
            "total": now.total,
            "last": last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(level: WarmingLevel, users: u32, sources: bool, force: bool) -> WarmOrder {
        WarmOrder { users, sources, force, ..WarmOrder::by_itself(level) }
    }

    #[test]
    fn a_second_order_joins_one_that_does_as_much_and_waits_for_any_other() {
        use WarmingLevel::{Aggressive, Minimal};
        for (running, second, joins) in [
            (order(Minimal, 0, false, false), order(Minimal, 0, false, false), true),
            // Users are no part of this level.
            (order(Minimal, 0, false, false), order(Minimal, 500, false, false), true),
            (order(Aggressive, 100, true, false), order(Minimal, 100, false, false), true),
            (order(Aggressive, 100, true, true), order(Aggressive, 100, false, true), true),
            (order(Minimal, 100, false, false), order(Aggressive, 100, false, false), false),
            (order(Aggressive, 100, false, false), order(Aggressive, 101, false, false), false),
            // Queries of its own are its own.
            (order(Aggressive, 100, true, false), order(Aggressive, 100, true, false), false),
            (order(Minimal, 0, false, false), order(Minimal, 0, false, true), false),
        ] {
            let warming = Warming::default();
            let Turn::Mine(first) = warming.turn(running.clone(), 0) else { panic!("the first is its own") };
            match warming.turn(second.clone(), 1) {
                Turn::Joined(job) => assert!(joins && job.number == first.number, "{running:?} {second:?}"),
                Turn::Busy(job) => assert!(!joins && job.number == first.number, "{running:?} {second:?}"),
                Turn::Mine(_) => panic!("two at once"),
            }
            warming.end(&first, 5, 5);
            assert!(matches!(warming.turn(second, 6), Turn::Mine(next) if next.number == 2));
        }
    }

    #[test]
    fn the_last_ones_are_found_and_older_ones_are_forgotten() {
        let warming = Warming::default();
        for number in 1..=limits::WARM_ENDED as u64 + 5 {
            let Turn::Mine(job) = warming.turn(WarmOrder::by_itself(WarmingLevel::Minimal), 10) else {
                panic!("none runs")
            };
            assert_eq!(job.number, number);
            assert!(warming.find(number).is_some() && warming.running().is_some());
            job.set(|progress| (progress.roles, progress.stop) = (3, Some(WarmStop::Cancelled)));
            warming.end(&job, 17, 1_000);
        }
        assert!(warming.find(5).is_none() && warming.find(6).is_some() && warming.running().is_none());
        let last = &warming.health(99, |ms| format!("at {ms}"))["last"];
        let expected = json!({
            "rolesWarmed": 3, "usersWarmed": 0, "dataSourcesWarmed": 0, "duration": 7, "errors": 0,
            "cancelled": true, "reason": "cancelled", "level": "minimal", "endedAt": "at 1000",
        });
        assert_eq!(last, &expected);
    }
}
