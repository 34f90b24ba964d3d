//! Warms a data source: all of its rows out of the source, in frames and a manifest, into the store, and the pointer to it.
//!
//! ```text
//! turn -> lock -> claim of the pointer -> export, build -> what is there, is there room -> write -> verify -> gates -> publish
//! ```
//!
//! Invariant: nothing that readers see changes before the one compare-and-set at the end; whoever was overtaken, or whose
//! data source was invalidated meanwhile, loses it.

mod job;

use std::sync::Arc;

use crate::base::error::{Code, Error};

use super::super::{Core, Outcome};

pub use job::AnalyticsWarmOrder;
pub(in crate::engine) use job::Warms;

impl Core {
    /// Begins to warm a data source: the number of the job. A second one of the same data source ends at once and says
    /// whose the first is. Waits for nothing; must be called inside a runtime.
    pub fn begin_analytics_warm(self: &Arc<Self>, _order: AnalyticsWarmOrder) -> u64 {
        0
    }

    /// What became of a job, once that is another version than `seen`; the error that it ended with.
    pub(in crate::engine) async fn analytics_warm_news(
        &self,
        _job: u64,
        _seen: u64,
    ) -> Result<Outcome, Error> {
        Err(unfinished())
    }

    /// The rest of a job is not wanted any more. Nothing of it will be published.
    pub fn stop_analytics_warm(&self, _job: u64) {}

    /// Ends what a gone environment has begun.
    pub fn stop_analytics_warms_of(&self, _env: u64) {}

    /// Nothing of the data source is answered from memory any more, nor kept.
    pub(in crate::engine) async fn invalidate_analytics(
        self: &Arc<Self>,
        _source: i64,
    ) -> Result<Outcome, Error> {
        Err(unfinished())
    }

    /// The generation of before is served again.
    pub(in crate::engine) async fn roll_back_analytics(
        self: &Arc<Self>,
        _source: i64,
    ) -> Result<Outcome, Error> {
        Err(unfinished())
    }

    /// The generation that waits is served.
    pub(in crate::engine) async fn approve_analytics(
        self: &Arc<Self>,
        _source: i64,
    ) -> Result<Outcome, Error> {
        Err(unfinished())
    }

    /// The generation that waits is given up.
    pub(in crate::engine) async fn discard_analytics(
        self: &Arc<Self>,
        _source: i64,
    ) -> Result<Outcome, Error> {
        Err(unfinished())
    }
}

fn unfinished() -> Error {
    Error::new(Code::Internal, "not built yet")
}
