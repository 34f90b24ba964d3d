//! The simulated store: the embedded one behind a script of faults. For tests only.
//!
//! Invariant: a fault script is exact. A lost reply means the effect happened and nobody was told;
//! a lost request means it did not happen.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::clock::Clock;

use super::embedded::Embedded;
use super::{Op, Probed, Replies, StoreError};

/// What happens to one call of `exec` or `probe`.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Nothing unusual.
    Pass,
    /// The request never arrives.
    LoseRequest,
    /// The request is carried out, the reply never arrives.
    LoseReply,
    /// The reply arrives after so many milliseconds of runtime time.
    Delay(u64),
    /// The request never arrives, and whoever sent it waits for ever.
    Hang,
    /// The operations are refused.
    Refuse(StoreError),
}

/// An embedded store with faults.
pub struct Sim {
    inner: Arc<Embedded>,
    script: Mutex<VecDeque<Fault>>,
    down: Mutex<bool>,
}

impl Sim {
    /// A simulated store without faults so far.
    pub fn new(clock: Clock) -> Self {
        Self::over(Arc::new(Embedded::new(64 << 20, clock)))
    }

    /// One more connection to a store that other instances use too.
    pub fn over(inner: Arc<Embedded>) -> Self {
        Self { inner, script: Mutex::default(), down: Mutex::default() }
    }

    /// The faults of the next calls, in order; after them calls pass.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().extend(faults);
    }

    /// Faults that no call met yet.
    pub fn left(&self) -> usize {
        self.script.lock().len()
    }

    /// Takes the store down or up: every call and probe fails while it is down.
    pub fn set_down(&self, down: bool) {
        *self.down.lock() = down;
    }

    /// The store behind the faults.
    pub fn inner(&self) -> &Arc<Embedded> {
        &self.inner
    }

    /// The store behind the faults, unless it is down.
    pub(super) fn walkable(&self) -> Result<&Embedded, StoreError> {
        match *self.down.lock() {
            true => Err(StoreError::Unavailable("simulated outage".into())),
            false => Ok(&self.inner),
        }
    }

    pub(super) async fn exec(&self, ops: Vec<Op>) -> Replies {
        if *self.down.lock() {
            return fail(&ops, &StoreError::Unavailable("simulated outage".into()));
        }
        let fault = self.script.lock().pop_front().unwrap_or(Fault::Pass);
        // A real store suspends its caller; without this a test would never interleave.
        tokio::task::yield_now().await;
        match fault {
            Fault::Pass => self.apply(&ops),
            Fault::LoseRequest => fail(&ops, &StoreError::Timeout),
            Fault::LoseReply => {
                self.apply(&ops);
                fail(&ops, &StoreError::Timeout)
            }
            Fault::Delay(ms) => {
                let replies = self.apply(&ops);
                tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
                replies
            }
            Fault::Hang => std::future::pending().await,
            Fault::Refuse(error) => fail(&ops, &error),
        }
    }

    pub(super) async fn probe(&self) -> Result<Probed, StoreError> {
        tokio::task::yield_now().await;
        if *self.down.lock() {
            return Err(StoreError::Unavailable("simulated outage".into()));
        }
        Ok(Probed::Anew)
    }

    fn apply(&self, ops: &[Op]) -> Replies {
        self.inner.exec_all(ops)
    }
}

fn fail(ops: &[Op], error: &StoreError) -> Replies {
    ops.iter().map(|_| Err(error.clone())).collect()
}
