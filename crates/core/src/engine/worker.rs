//! The batching worker: takes what waits in the queue, asks the store once for all of it, settles what
//! was found, and gives the rest to tasks.
//!
//! Invariant: at most `BATCHES_IN_FLIGHT` round trips at once; the queue holds back the rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use smallvec::smallvec;
use tokio::sync::{Semaphore, mpsc};

use crate::base::error::{Code, Error};
use crate::base::key::Key;
use crate::base::limits;
use crate::limiter::{self, Action, Evaluation, Limit, Run, Runs, push_run};
use crate::store::{Op, Replies, Reply};

use super::hot::{Hot, Plan};
use super::{Core, Outcome, Request, Started};

/// How the surface hears of a settled request.
pub trait Ticket: Send + Sized + 'static {
    /// One request is settled.
    fn settle(self, outcome: Outcome);
    /// Several are; a surface with a queue of its own takes them in one step.
    fn settle_many(settled: Vec<(Self, Outcome)>) {
        for (ticket, outcome) in settled {
            ticket.settle(outcome);
        }
    }
}

/// A request in the queue.
pub(super) struct Job<T> {
    pub(super) request: Request,
    pub(super) deadline_ms: u64,
    pub(super) started: Started,
    pub(super) ticket: T,
}

pub(super) async fn run<T: Ticket>(core: Arc<Core>, mut turns: mpsc::Receiver<Vec<Job<T>>>) {
    let slots = Arc::new(Semaphore::new(limits::BATCHES_IN_FLIGHT));
    // What was left over of a turn that is larger than a batch.
    let mut batch: Vec<Job<T>> = Vec::new();
    loop {
        // The slot first: what arrives while all are taken travels together in the next batch.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let spin_us = core.settings.runtime.spin_us;
        if batch.is_empty() && spin_us > 0 {
            spin(&core, &mut turns, &mut batch, spin_us).await;
        }
        if batch.is_empty() {
            let Some(turn) = turns.recv().await else { return };
            batch = turn;
        }
        gather(&mut turns, &mut batch);
        core.waiting.fetch_sub(batch.len().min(limits::BATCH_REQUESTS), Ordering::SeqCst);
        let rest = batch.split_off(batch.len().min(limits::BATCH_REQUESTS));
        let now = std::mem::replace(&mut batch, rest);
        core.telemetry.batches.up();
        let core = core.clone();
        tokio::spawn(async move {
            batch_of(core, now).await;
            drop(slot);
        });
    }
}

/// Adds the turns that wait already, while there is room in the batch.
fn gather<T>(turns: &mut mpsc::Receiver<Vec<Job<T>>>, batch: &mut Vec<Job<T>>) {
    while batch.len() < limits::BATCH_REQUESTS {
        let Ok(turn) = turns.try_recv() else { return };
        batch.extend(turn);
    }
}

/// Looks for work for a moment before going to sleep: waking a sleeping thread costs more than a round
/// trip on loopback. Off unless configured.
async fn spin<T>(
    core: &Core,
    turns: &mut mpsc::Receiver<Vec<Job<T>>>,
    batch: &mut Vec<Job<T>>,
    spin_us: u64,
) {
    let until = core.cache.clock.now_us() + spin_us;
    loop {
        gather(turns, batch);
        let busy = core.telemetry.settled.get() < core.telemetry.submitted.get();
        if !batch.is_empty() || (core.cache.clock.now_us() >= until && !busy) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn batch_of<T: Ticket>(core: Arc<Core>, batch: Vec<Job<T>>) {
    let ready = core.cache.is_ready();
    core.fallback_share();
    // In one go the server would be idle while this process is at work, and the other way round.
    let full = if batch.len() < limits::BATCH_HALVED { usize::MAX } else { batch.len().div_ceil(2) };
    let mut settled = Vec::new();
    let mut first = None;
    let mut part = Part::with_capacity(batch.len());
    for job in batch {
        // Whoever has less time than the store may take, or must wait for the first connection, goes alone.
        if !ready || (1..=core.settings.store.deadline_ms).contains(&job.deadline_ms) {
            task(&core, None, job);
            continue;
        }
        match core.plan(&job.request, &mut part.ops, job.started) {
            Plan::Now(outcome) => settled.push((job.ticket, outcome)),
            Plan::Hot(read) => part.hot.push((read, job)),
            Plan::Task => task(&core, None, job),
        }
        if first.is_none() && part.hot.len() >= full {
            let rest = Part::with_capacity(full);
            let mut half = Box::pin(travel(core.clone(), std::mem::replace(&mut part, rest)));
            let sent = std::future::poll_fn(|context| Poll::Ready(half.as_mut().poll(context))).await;
            first = sent.is_pending().then_some(half);
            // It leaves now: the server is at work while the rest is planned.
            tokio::task::yield_now().await;
        }
    }
    if !settled.is_empty() {
        settle(&core, settled);
    }
    match first {
        // In one task, which looks at the first half first: what a server wants to be asked again keeps its order.
        Some(first) => {
            futures_util::future::join(first, travel(core, part)).await;
        }
        None => travel(core, part).await,
    }
}

/// Requests of a batch that travel together, and what they ask the store.
struct Part<T> {
    hot: Vec<(Hot, Job<T>)>,
    ops: Vec<Op>,
}

impl<T> Part<T> {
    fn with_capacity(requests: usize) -> Self {
        Self { hot: Vec::with_capacity(requests), ops: Vec::with_capacity(requests) }
    }
}

/// Asks what these requests need and settles those that can be settled.
async fn travel<T: Ticket>(core: Arc<Core>, part: Part<T>) {
    let Part { hot, ops } = part;
    if hot.is_empty() {
        return;
    }
    let replies = if ops.is_empty() { Vec::new() } else { ask_once(&core, ops).await };
    let mut settled = Vec::with_capacity(hot.len());
    let mut at = 0;
    for (mut read, job) in hot {
        let mine = &replies[at..at + read.ops()];
        at += read.ops();
        match core.settle_hot(&mut read, mine, job.started) {
            Some(outcome) => settled.push((job.ticket, outcome)),
            None => task(&core, Some(read), job),
        }
    }
    settle(&core, settled);
}

/// Asks every question once, however many requests of a part have it: a role, the organizations and the
/// epoch are those of many users. All of them began before it is sent. Checks of one limit are one evaluation, in
/// the order in which they came, and each is told what it would have been told alone.
async fn ask_once(core: &Core, ops: Vec<Op>) -> Replies {
    let mut asked: HashMap<(u8, Key), usize, ahash::RandomState> =
        HashMap::with_capacity_and_hasher(ops.len(), ahash::RandomState::default());
    let mut unique: Vec<Op> = Vec::with_capacity(ops.len());
    let mut joined = Joined::default();
    let places: Vec<usize> = ops
        .into_iter()
        .map(|op| {
            let next = unique.len();
            let place = match &op {
                Op::Get(key) => *asked.entry((0, key.clone())).or_insert(next),
                Op::Head(key) => *asked.entry((1, key.clone())).or_insert(next),
                Op::Left(key) => *asked.entry((2, key.clone())).or_insert(next),
                Op::Limit { .. } => joined.join(&op, &mut unique),
                // Only reads are planned for a batch; anything else would count each time.
                _ => next,
            };
            if place == next {
                unique.push(op);
            }
            place
        })
        .collect();
    if unique.len() == places.len() {
        return core.cache.exec(unique).await;
    }
    core.telemetry.limits_joined.add(joined.count);
    let shared = joined.shared(&unique);
    let replies = core.cache.exec(unique).await;
    let mut apart: HashMap<usize, _, ahash::RandomState> =
        shared.into_iter().filter_map(|one| one.apart(&replies)).collect();
    let reply = |place: usize| {
        let one = apart.get_mut(&place).and_then(Iterator::next);
        one.map_or_else(|| replies[place].clone(), |evaluation| Ok(Reply::Limits(smallvec![evaluation])))
    };
    places.into_iter().map(reply).collect()
}

/// Where checks of one limit are gathered.
#[derive(Default)]
struct Joined {
    open: HashMap<Key, usize, ahash::RandomState>,
    /// Checks that travel with an earlier one.
    count: u64,
}

/// An operation with several checks.
struct Shared {
    place: usize,
    limit: Limit,
    runs: Runs,
}

impl Joined {
    /// The place of the operation that answers `op`: its own, or an earlier one that takes its check along.
    fn join(&mut self, op: &Op, unique: &mut [Op]) -> usize {
        let next = unique.len();
        let Op::Limit { key, limit, action: Action::Consume(runs) } = op else { return next };
        let [Run { cost, count: 1 }] = runs[..] else { return next };
        let place = *self.open.entry(key.clone()).or_insert(next);
        if let Some(Op::Limit { limit: known, action: Action::Consume(runs), .. }) = unique.get_mut(place)
            && known == limit
            && push_run(runs, cost)
        {
            self.count += 1;
            return place;
        }
        // The first, or one that cannot go along with those before it: those after it may.
        self.open.insert(key.clone(), next);
        next
    }

    fn shared(&self, unique: &[Op]) -> Vec<Shared> {
        let several = |(place, op): (usize, &Op)| match op {
            Op::Limit { limit, action: Action::Consume(runs), .. } => {
                let many = runs.len() > 1 || runs.iter().any(|run| run.count > 1);
                many.then(|| Shared { place, limit: *limit, runs: runs.clone() })
            }
            _ => None,
        };
        if self.count == 0 { Vec::new() } else { unique.iter().enumerate().filter_map(several).collect() }
    }
}

impl Shared {
    /// What each check is told, in their order.
    fn apart(self, replies: &Replies) -> Option<(usize, std::vec::IntoIter<Evaluation>)> {
        match &replies[self.place] {
            Ok(Reply::Limits(all)) if all.len() == 1 => {
                Some((self.place, limiter::apart(&self.limit, &self.runs, &all[0]).into_iter()))
            }
            _ => None,
        }
    }
}

fn settle<T: Ticket>(core: &Core, settled: Vec<(T, Outcome)>) {
    let count = settled.len() as u64;
    T::settle_many(settled);
    core.telemetry.settled.add(count);
}

/// Gives a request its own task. The deadline settles the caller; a load that others may wait for goes on.
fn task<T: Ticket>(core: &Arc<Core>, read: Option<Hot>, job: Job<T>) {
    let core = core.clone();
    let limit = if job.deadline_ms == 0 { core.default_deadline_ms() } else { job.deadline_ms };
    tokio::spawn(async move {
        let Job { request, ticket, started, .. } = job;
        let inner = core.clone();
        let mut work = tokio::spawn(async move { inner.answer(request, read, started).await });
        let mut ended = core.ended.subscribe();
        let failed = |code, message: &str| Outcome::Failed(Error::new(code, message));
        let (outcome, left_behind) = tokio::select! {
            done = &mut work => {
                (done.unwrap_or_else(|_| failed(Code::Internal, "a task of the engine failed")), false)
            }
            _ = ended.wait_for(|ended| *ended) => {
                (failed(Code::Closed, "the engine was closed before this call was answered"), true)
            }
            () = tokio::time::sleep(Duration::from_millis(limit)) => {
                (failed(Code::Deadline, &format!("no answer within {limit} ms")), true)
            }
        };
        settle(&core, vec![(ticket, outcome)]);
        if left_behind && let Ok(Outcome::Lead(lead)) = work.await {
            // The caller is gone and will not run this load: whoever waits for it must not.
            core.forget(lead).await;
        }
    });
}
