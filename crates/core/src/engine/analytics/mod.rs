//! Analytics of data sources: the pointer, what is remembered, questions, warms. The pure part is `crate::analytics`.
//!
//! ```text
//! question -> pointer (store) -> manifest, frames (near, else store) -> rows or groups -> bytes
//!          \-> whatever of it is not there: the whole question from the source
//! ```
//!
//! Invariants
//! - An answer is of one generation, or of the source; never of both, and never a part of one.
//! - What cannot be seen is not asked for: a scope of nothing touches neither store nor source.
//! - Work that takes longer than a round trip runs beside the worker threads, a few at a time.

mod ask;
mod figures;
mod live;
mod near;
mod read;
mod stats;
mod warm;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::analytics::Hash;

use super::{Core, Outcome};
use crate::base::error::Error;
use figures::AllFigures;
use near::{Blocks, Lives, Schemas};
use warm::Warms;

pub use warm::AnalyticsWarmOrder;

pub(super) use ask::AnalyticsHot;
pub use ask::{AnalyticsAsk, AnswerForm};

/// What is asked about data sources, beside questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnalyticsOrder {
    /// `getCacheStats`.
    Stats(i64),
    /// Those of all.
    AllStats,
    /// `isCacheWarm`, `getLastWarmedTime`.
    WarmSince(i64),
    /// `invalidate`.
    Invalidate(i64),
    /// `rollback`.
    RollBack(i64),
    /// `approve`.
    Approve(i64),
    /// `discard`.
    Discard(i64),
    /// What became of a warm, once that is another version than `seen`.
    News { job: u64, seen: u64 },
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Near,
    Store,
}

/// Why the index does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Nothing was published.
    Cold,
    /// The only generation waits for approval.
    Held,
    /// A generation that held what it should not.
    Quarantined,
    /// A frame or manifest is missing or unreadable.
    Hole,
    /// The store is one that forgot: its generation is older than one that was served here.
    Older,
    /// The store does not answer.
    StoreDown,
    /// Only the source can answer this exactly.
    Beyond,
    /// The question does not fit the table as it was warmed.
    Schema,
}

impl Past {
    /// As users see it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Past::Cold => "cold",
            Past::Held => "held",
            Past::Quarantined => "quarantined",
            Past::Hole => "hole",
            Past::Older => "older",
            Past::StoreDown => "store_unavailable",
            Past::Beyond => "beyond",
            Past::Schema => "schema",
        }
    }
}

/// Cold loads that may run at once, of different blocks.
const TURNS: usize = 8;
/// Rows up to which a question is answered on the spot: about as long as a round trip.
const AT_ONCE: u64 = 4_096;

/// What one engine knows of its data sources.
pub(super) struct Analytics {
    blocks: Blocks,
    lives: Lives,
    schemas: Schemas,
    figures: AllFigures,
    /// The highest generation that was served here, by data source.
    served: Mutex<HashMap<i64, u64>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    /// Long computations that run at once.
    computing: Semaphore,
    warms: Warms,
    hasher: ahash::RandomState,
}

impl Analytics {
    pub(super) fn new(near_bytes: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            blocks: Blocks::new(near_bytes),
            lives: Lives::default(),
            schemas: Schemas::default(),
            figures: AllFigures::default(),
            served: Mutex::default(),
            turns: Default::default(),
            computing: Semaphore::new(cores),
            warms: Warms::default(),
            hasher: ahash::RandomState::new(),
        }
    }

    /// Whether this is not older than what was served before.
    fn goes_on(&self, source: i64, number: u64) -> bool {
        let mut served = self.served.lock();
        let highest = served.entry(source).or_default();
        if number < *highest {
            return false;
        }
        *highest = number;
        true
    }

    /// One at a time fetches what somebody else may be fetching too.
    async fn turn(&self, name: &Hash) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns[self.hasher.hash_one(name) as usize % TURNS].lock().await
    }
}

impl Core {
    pub(super) async fn analytics_order(self: &Arc<Self>, order: AnalyticsOrder) -> Result<Outcome, Error> {
        match order {
            AnalyticsOrder::Stats(source) => self.analytics_stats(source).await,
            AnalyticsOrder::AllStats => self.all_analytics_stats().await,
            AnalyticsOrder::WarmSince(source) => self.analytics_warm_since(source).await,
            AnalyticsOrder::Invalidate(source) => self.invalidate_analytics(source).await,
            AnalyticsOrder::RollBack(source) => self.roll_back_analytics(source).await,
            AnalyticsOrder::Approve(source) => self.approve_analytics(source).await,
            AnalyticsOrder::Discard(source) => self.discard_analytics(source).await,
            AnalyticsOrder::News { job, seen } => self.analytics_warm_news(job, seen).await,
        }
    }

    /// Runs `work` over so many rows; beside the worker threads when that takes a while.
    async fn compute<T: Send + 'static>(&self, rows: u64, work: impl FnOnce() -> T + Send + 'static) -> T {
        if rows <= AT_ONCE {
            return work();
        }
        let _permit = self.analytics.computing.acquire().await.expect("it is never closed");
        tokio::task::spawn_blocking(work).await.expect("work of the index does not panic")
    }
}
