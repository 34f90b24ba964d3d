//! One warm of a data source as others see it: what was asked for, how far it is, how it ended. Not the warming.
//!
//! Invariant: of one data source at most one job of an engine runs, and a job that runs ends, whatever becomes of its task.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use crate::base::error::{Code, Error};
use crate::base::limits;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnalyticsWarmOrder {
    /// The data source.
    pub source: i64,
    /// Whether it is done although somebody has done it a moment ago.
    pub force: bool,
    /// Whose environment ends it; 0 = nobody's.
    pub env: u64,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// For others to end, or for the store.
    #[default]
    Waiting,
    Exporting,
    Building,
    Writing,
    Verifying,
    Publishing,
}

impl Stage {
    /// As users see it.
    fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Exporting => "exporting",
            Stage::Building => "building",
            Stage::Writing => "writing",
            Stage::Verifying => "verifying",
            Stage::Publishing => "publishing",
        }
    }

    /// The percent of a warm that lie before it, and those it takes: what was measured with a source and a store nearby.
    fn span(self) -> (f64, f64) {
        match self {
            Stage::Waiting => (0.0, 0.0),
            Stage::Exporting => (0.0, 70.0),
            Stage::Building => (70.0, 20.0),
            Stage::Writing => (90.0, 6.0),
            Stage::Verifying => (96.0, 3.0),
            Stage::Publishing => (99.0, 1.0),
        }
    }
}

/// Why the rest is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Whoever asked does not want it, or is gone.
    Cancelled,
    /// The data source was invalidated.
    Invalidated,
    /// The engine is closing.
    Closed,
}

impl Stop {
    pub(super) fn error(self) -> Error {
        let (code, reason, message) = match self {
            Stop::Cancelled => {
                (Code::Conflict, Some("cancelled"), "the warm was cancelled; nothing was published")
            }
            Stop::Invalidated => (
                Code::Conflict,
                Some("superseded"),
                "the data source was invalidated during the warm; nothing was published",
            ),
            Stop::Closed => {
                (Code::Closed, None, "the engine was closed during the warm; nothing was published")
            }
        };
        Error { reason, ..Error::new(code, message) }
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Grows with every change.
    version: u64,
    pub(super) stage: Stage,
    /// Rows exported.
    pub(super) rows: u64,
    /// Rows there are, by a guess until the export has ended.
    pub(super) total_rows: u64,
    /// How much of the present stage is done, of 1.
    pub(super) share: f64,
    pub(super) frames_written: u64,
    pub(super) frames_reused: u64,
    /// Never goes back, whatever has to be done again.
    percent: f64,
    /// Set at its end.
    ended: Option<Result<Value, Error>>,
}

impl Progress {
    fn count(&mut self) {
        let (before, own) = self.stage.span();
        let percent = if self.ended.is_some() { 100.0 } else { before + own * self.share.clamp(0.0, 1.0) };
        self.percent = self.percent.max(percent);
        self.version += 1;
    }
}

/// Below this many percent nobody knows how long it will take.
const ETA_FROM: f64 = 5.0;

/// One warm.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) order: AnalyticsWarmOrder,
    pub(super) started_ms: u64,
    /// Written by the task, read by whoever follows.
    progress: watch::Sender<Progress>,
    told: watch::Sender<Option<Stop>>,
}

impl Job {
    fn new(number: u64, order: AnalyticsWarmOrder, started_ms: u64) -> Arc<Self> {
        let (progress, told) = (watch::Sender::new(Progress::default()), watch::Sender::new(None));
        Arc::new(Self { number, order, started_ms, progress, told })
    }

    /// Changes what is known of it.
    pub(super) fn set(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(|progress| {
            change(progress);
            progress.count();
        });
    }

    pub(super) fn begin(&self, stage: Stage) {
        self.set(|progress| (progress.stage, progress.share) = (stage, 0.0));
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Tells it that the rest is not wanted; the first reason stays.
    pub(super) fn stop(&self, why: Stop) {
        self.told.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(why);
            first
        });
    }

    pub(super) fn told(&self) -> watch::Receiver<Option<Stop>> {
        self.told.subscribe()
    }

    /// Waits for another version than `seen`.
    pub(super) async fn after(&self, seen: u64) {
        let _ = self.progress.subscribe().wait_for(|now| now.version > seen || now.ended.is_some()).await;
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        let _ = self.progress.subscribe().wait_for(|now| now.ended.is_some()).await;
    }

    fn end(&self, result: Result<Value, Error>) {
        self.set(|progress| {
            progress.ended.get_or_insert(result);
        });
    }

    /// As the TypeScript side follows it; the error that it ended with.
    pub(super) fn news(&self, now_ms: u64) -> Result<Value, Error> {
        let now = self.progress();
        let percent = now.percent;
        let took_ms = now_ms.saturating_sub(self.started_ms) as f64;
        let left =
            (percent >= ETA_FROM).then(|| (took_ms * (100.0 - percent) / percent / 1_000.0).ceil() as u64);
        Ok(json!({
            "version": now.version,
            "stage": now.stage.name(),
            "rows": now.rows,
            "totalRows": now.total_rows.max(now.rows),
            "percent": (percent * 10.0).round() / 10.0,
            "framesWritten": now.frames_written,
            "framesReused": now.frames_reused,
            "etaSeconds": left,
            "ended": now.ended.is_some(),
            "result": now.ended.transpose()?,
        }))
    }
}

/// What becomes of an order.
pub(super) enum Turn {
    /// Its own job.
    Mine(Arc<Job>),
    /// A job that has nothing to do but to say so, and the one that runs.
    Busy(Arc<Job>, Arc<Job>),
    /// A job that has ended: too many wait.
    Full(Arc<Job>),
}

/// The warms of one engine.
pub(in crate::engine) struct Warms {
    /// Held for a few instructions.
    jobs: Mutex<Jobs>,
    /// Warms that do something at the same time.
    pub(super) turns: Semaphore,
    /// Data sources whose left-overs will be collected.
    pub(super) collecting: Mutex<std::collections::HashSet<i64>>,
}

#[derive(Default)]
struct Jobs {
    begun: u64,
    running: HashMap<i64, Arc<Job>>,
    /// The last ones that ended or never ran, the newest at the end.
    others: VecDeque<Arc<Job>>,
}

impl Jobs {
    fn remember(&mut self, job: &Arc<Job>) {
        self.others.push_back(job.clone());
        if self.others.len() > limits::ANALYTICS_WARMS_ENDED {
            self.others.pop_front();
        }
    }
}

impl Default for Warms {
    fn default() -> Self {
        let turns = Semaphore::new(limits::ANALYTICS_WARMS);
        Self { jobs: Mutex::default(), turns, collecting: Mutex::default() }
    }
}

impl Warms {
    pub(super) fn turn(&self, order: AnalyticsWarmOrder, now_ms: u64) -> Turn {
        let mut jobs = self.jobs.lock();
        jobs.begun += 1;
        let job = Job::new(jobs.begun, order, now_ms);
        if let Some(running) = jobs.running.get(&order.source).cloned() {
            jobs.remember(&job);
            return Turn::Busy(job, running);
        }
        if jobs.running.len() >= limits::ANALYTICS_WARMS_WAITING {
            jobs.remember(&job);
            let message =
                format!("{} data sources wait to be warmed already; nothing was started", jobs.running.len());
            job.end(Err(Error::new(Code::Overloaded, message)));
            return Turn::Full(job);
        }
        jobs.running.insert(order.source, job.clone());
        Turn::Mine(job)
    }

    /// The job has ended: the next one of its data source may begin.
    pub(super) fn end(&self, job: &Arc<Job>, result: Result<Value, Error>) {
        {
            let mut jobs = self.jobs.lock();
            if jobs.running.get(&job.order.source).is_some_and(|running| running.number == job.number) {
                jobs.running.remove(&job.order.source);
                jobs.remember(job);
            }
        }
        // After it is out of the way: whoever waits for its end begins one at once.
        job.end(result);
    }

    pub(super) fn running(&self, source: i64) -> Option<Arc<Job>> {
        self.jobs.lock().running.get(&source).cloned()
    }

    /// The jobs that run and meet the condition.
    pub(super) fn those(&self, wanted: impl Fn(&Job) -> bool) -> Vec<Arc<Job>> {
        self.jobs.lock().running.values().filter(|job| wanted(job)).cloned().collect()
    }

    /// The job of this number, if it runs or ended lately.
    pub(super) fn find(&self, number: u64) -> Option<Arc<Job>> {
        let jobs = self.jobs.lock();
        jobs.running.values().chain(&jobs.others).find(|job| job.number == number).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(source: i64) -> AnalyticsWarmOrder {
        AnalyticsWarmOrder { source, force: false, env: 0 }
    }

    fn mine(turn: Turn) -> Arc<Job> {
        match turn {
            Turn::Mine(job) => job,
            _ => panic!("a job of its own"),
        }
    }

    #[test]
    fn one_job_of_a_data_source_runs_and_others_are_told() {
        let warms = Warms::default();
        let first = mine(warms.turn(order(1), 0));
        let other = mine(warms.turn(order(2), 0));
        let Turn::Busy(second, running) = warms.turn(order(1), 1) else { panic!("two of one data source") };
        assert_eq!((running.number, second.number), (first.number, 3));
        warms.end(&second, Ok(json!({ "skipped": true })));
        assert!(warms.running(1).is_some_and(|job| job.number == first.number), "the first one still runs");
        warms.end(&first, Ok(json!({ "totalRows": 5 })));
        assert!(warms.running(1).is_none() && warms.running(2).is_some());
        assert_eq!(warms.find(first.number).unwrap().news(7).unwrap()["result"]["totalRows"], 5);
        assert_eq!(mine(warms.turn(order(1), 1)).number, 4);
        warms.end(&other, Err(Stop::Cancelled.error()));
        assert_eq!(other.news(7).unwrap_err().reason, Some("cancelled"));
        warms.end(&other, Ok(json!(null)));
        assert!(other.news(7).is_err(), "the first end counts");
    }

    #[test]
    fn there_is_an_end_to_waiting_and_to_remembering() {
        let warms = Warms::default();
        let jobs: Vec<_> = (0..limits::ANALYTICS_WARMS_WAITING as i64)
            .map(|source| mine(warms.turn(order(source), 0)))
            .collect();
        let Turn::Full(refused) = warms.turn(order(-1), 0) else { panic!("no end") };
        assert_eq!(refused.news(0).unwrap_err().code, Code::Overloaded);
        jobs.iter().for_each(|job| warms.end(job, Ok(json!(null))));
        let kept = jobs.iter().filter(|job| warms.find(job.number).is_some()).count();
        assert_eq!(kept, limits::ANALYTICS_WARMS_ENDED);
        assert!(warms.find(jobs.last().unwrap().number).is_some());
    }

    #[test]
    fn news_say_how_far_it_is() {
        let warms = Warms::default();
        let job = mine(warms.turn(order(1), 1_000));
        assert_eq!(job.news(1_000).unwrap()["etaSeconds"], Value::Null);
        job.begin(Stage::Exporting);
        job.set(|progress| (progress.rows, progress.total_rows, progress.share) = (50, 100, 0.5));
        let news = job.news(36_000).unwrap();
        assert_eq!(
            (&news["stage"], &news["percent"], &news["etaSeconds"]),
            (&json!("exporting"), &json!(35.0), &json!(65))
        );
        job.set(|progress| progress.rows = 120);
        assert_eq!(job.news(9_000).unwrap()["totalRows"], 120, "a guess that was too low");
        let mut least = 0.0;
        for stage in [Stage::Exporting, Stage::Building, Stage::Writing, Stage::Verifying, Stage::Publishing]
        {
            job.begin(stage);
            for share in [0.0, 0.5, 0.2, 1.0, 7.0] {
                job.set(|progress| progress.share = share);
                let percent = job.progress().percent;
                assert!(percent >= least && percent <= 100.0, "{stage:?} {share}");
                least = percent;
            }
        }
    }

    #[test]
    fn the_first_reason_to_stop_stays() {
        let warms = Warms::default();
        let job = mine(warms.turn(order(1), 0));
        job.stop(Stop::Invalidated);
        job.stop(Stop::Cancelled);
        assert_eq!(*job.told().borrow(), Some(Stop::Invalidated));
    }
}
