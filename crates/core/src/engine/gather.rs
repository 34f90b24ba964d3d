//! Loads of parts that are wanted at the same moment become one statement: one round trip and one snapshot,
//! whoever many users and roles they concern.
//!
//! A load announces itself before it has its lease; the statement waits a moment for those that are announced.
//!
//! Invariant: a statement begins after each of those it answers had asked, so it is as fresh as a statement of
//! their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::cache::policy::Subject;
use crate::cache::tiered::Judged;
use crate::source::{Denied, PartJson, Parts, Wanted};

use super::Core;

/// How long a statement waits for loads that are announced: some round trips to a busy store. As a rule none is left
/// long before; a lease that somebody else holds does not hold it up for longer.
const GATHER_MS: u64 = 8;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    User(String),
    Role(String),
    Tree,
}

type Waiter = (Want, oneshot::Sender<Result<PartJson, Error>>);

/// Those who wait for the next statement.
#[derive(Default)]
pub(super) struct Gather {
    waiting: Mutex<Waiting>,
    /// Loads that are about to be wanted.
    announced: AtomicUsize,
    /// Woken when none is.
    complete: Notify,
}

#[derive(Default)]
struct Waiting {
    waiters: Vec<Waiter>,
    /// Whether a task is about to send a statement.
    scheduled: bool,
}

/// A load that is about to be wanted, or turns out not to be.
pub(super) struct Announced(Arc<Core>);

impl Drop for Announced {
    fn drop(&mut self) {
        if self.0.rbac.gather.announced.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.rbac.gather.complete.notify_waiters();
        }
    }
}

impl Core {
    /// Announces a load of what was looked at, unless it was found or somebody loads it already.
    pub(super) fn announce_part(
        self: &Arc<Self>,
        subject: &dyn Subject,
        judged: &Judged,
    ) -> Option<Announced> {
        if !matches!(judged, Judged::Miss(_)) || self.cache.flights.flies(subject.key()) {
            return None;
        }
        self.rbac.gather.announced.fetch_add(1, Ordering::SeqCst);
        Some(Announced(self.clone()))
    }

    /// Loads one part from the source, together with whatever else is wanted just now.
    pub(super) async fn part(
        self: &Arc<Self>,
        want: Want,
        announced: Option<Announced>,
    ) -> Result<PartJson, Error> {
        let (sender, answer) = oneshot::channel();
        let first = {
            let mut waiting = self.rbac.gather.waiting.lock();
            waiting.waiters.push((want, sender));
            !std::mem::replace(&mut waiting.scheduled, true)
        };
        drop(announced);
        if first {
            let core = self.clone();
            tokio::spawn(async move { core.send_gathered().await });
        }
        answer.await.unwrap_or_else(|_| Err(Error::new(Code::Internal, "a load of parts was given up")))
    }

    async fn send_gathered(self: Arc<Self>) {
        let gather = &self.rbac.gather;
        let complete = async {
            loop {
                let told = gather.complete.notified();
                if gather.announced.load(Ordering::SeqCst) == 0 {
                    return;
                }
                told.await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(GATHER_MS), complete).await;
        let mut waiters = {
            let mut waiting = self.rbac.gather.waiting.lock();
            waiting.scheduled = false;
            std::mem::take(&mut waiting.waiters)
        };
        while !waiters.is_empty() {
            let rest = waiters.split_off(waiters.len().min(limits::GATHERED_PARTS));
            let core = self.clone();
            let now = std::mem::replace(&mut waiters, rest);
            tokio::spawn(async move { core.load_gathered(now).await });
        }
    }

    async fn load_gathered(&self, waiters: Vec<Waiter>) {
        let mut wanted = Wanted::default();
        for (want, _) in &waiters {
            match want {
                Want::User(id) if !wanted.users.contains(id) => wanted.users.push(id.clone()),
                Want::Role(id) if !wanted.roles.contains(id) => wanted.roles.push(id.clone()),
                Want::Tree => wanted.tree = true,
                Want::User(_) | Want::Role(_) => {}
            }
        }
        let loaded = self.source.rbac_parts(wanted).await;
        for (want, sender) in waiters {
            // Nobody is there any more: the lease of that load has ended by itself.
            let _ = sender.send(loaded.as_ref().map_err(Clone::clone).and_then(|parts| pick(parts, &want)));
        }
    }
}

fn pick(parts: &Parts, want: &Want) -> Result<PartJson, Error> {
    let of = |list: &[(String, PartJson)], id: &str| {
        list.iter().find(|(known, _)| known == id).map_or(Err(Denied::Unknown), |(_, part)| part.clone())
    };
    match want {
        Want::User(id) => Ok(of(&parts.users, id)),
        Want::Role(id) => Ok(of(&parts.roles, id)),
        Want::Tree => match &parts.tree {
            Some(tree) => Ok(Ok(tree.clone())),
            None => Err(Error::new(Code::Internal, "the source gave no organizations")),
        },
    }
}
