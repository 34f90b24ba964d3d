//! Loads of parts that are wanted at the same moment become one statement: one round trip and one snapshot,
//! whoever many users and roles they concern.
//!
//! Invariant: a statement begins after each of those it answers had asked, so it is as fresh as a statement of
//! their own.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::source::{Denied, PartJson, Parts, Wanted};

use super::Core;

/// How long the first one waits for others, in microseconds: those of one turn are there by then, and the
/// statement takes several times as long.
const GATHER_US: u64 = 100;
/// And in turns of the runtime, should its clock stand still.
const GATHER_TURNS: u32 = 10_000;

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
}

#[derive(Default)]
struct Waiting {
    waiters: Vec<Waiter>,
    /// Whether a task is about to send a statement.
    scheduled: bool,
}

impl Core {
    /// Loads one part from the source, together with whatever else is wanted just now.
    pub(super) async fn part(self: &Arc<Self>, want: Want) -> Result<PartJson, Error> {
        let (sender, answer) = oneshot::channel();
        let first = {
            let mut waiting = self.rbac.gather.waiting.lock();
            waiting.waiters.push((want, sender));
            !std::mem::replace(&mut waiting.scheduled, true)
        };
        if first {
            let core = self.clone();
            tokio::spawn(async move { core.send_gathered().await });
        }
        answer.await.unwrap_or_else(|_| Err(Error::new(Code::Internal, "a load of parts was given up")))
    }

    async fn send_gathered(self: Arc<Self>) {
        let until = self.cache.clock.now_us() + GATHER_US;
        for _ in 0..GATHER_TURNS {
            tokio::task::yield_now().await;
            if self.cache.clock.now_us() >= until {
                break;
            }
        }
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
