//! What one step of a warm-up reads: parts that belong to nobody in particular, or contexts. They go the way of every
//! other read and end up in the store by their fenced fill.
//!
//! Invariant: a step asks the store once and the source as a rule once, whatever its size.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::base::error::{Code, Error};
use crate::cache::tiered::{Judged, Look};
use crate::rbac::{RoleSubject, TreeSubject, epoch_key};
use crate::store::{Op, Reply};

use super::super::contexts::Consistency;
use super::super::worker::{self, Job, Ticket};
use super::super::{Core, Outcome, Request, Started};

/// What one step reads.
#[derive(Clone)]
pub(super) enum Item {
    Tree,
    Role(RoleSubject),
}

/// How one item ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Warm,
    /// It is not there any more, or not active.
    Gone,
    Failed,
}

impl Ended {
    fn of(error: &Error) -> Self {
        if error.code == Code::NotFound { Ended::Gone } else { Ended::Failed }
    }
}

/// A context that is wanted by nobody yet.
struct WarmTicket(oneshot::Sender<Ended>);

impl Ticket for WarmTicket {
    fn settle(self, outcome: Outcome) {
        // Nobody listens any more when the warm-up was stopped.
        let _ = self.0.send(match outcome {
            Outcome::Failed(error) => Ended::of(&error),
            _ => Ended::Warm,
        });
    }
}

impl Core {
    /// The organizations and roles, looked up in one round trip and loaded in one statement.
    pub(super) async fn warm_parts(self: &Arc<Self>, items: &[Item]) -> Vec<Ended> {
        let moment = self.cache.flights.moment();
        let tree = TreeSubject::new(&self.cache.keys);
        let mut ops = Vec::with_capacity(items.len() + 1);
        let looks: Vec<Look> = items
            .iter()
            .map(|item| match item {
                Item::Tree => self.cache.look_sharing(&tree, moment, &mut ops),
                Item::Role(role) => self.cache.look_sharing(role, moment, &mut ops),
            })
            .collect();
        ops.push(Op::Get(epoch_key(&self.cache.keys)));
        let replies = self.cache.exec(ops).await;
        let epoch = replies.last().cloned().unwrap_or(Ok(Reply::Bytes(None)));
        let mut at = 0;
        let loads: Vec<_> = items
            .iter()
            .zip(looks)
            .map(|(item, look)| {
                let mine = if look.ops == 0 { Vec::new() } else { vec![replies[at].clone(), epoch.clone()] };
                at += look.ops;
                let judged = match item {
                    Item::Tree => self.cache.judge(&tree, look, &mine),
                    Item::Role(role) => self.cache.judge(role, look, &mine),
                };
                self.warm_part(item, judged)
            })
            .collect();
        futures_util::future::join_all(loads).await
    }

    /// Announces the load when it is made, so that all of a step are one statement.
    fn warm_part(self: &Arc<Self>, item: &Item, judged: Judged) -> impl Future<Output = Ended> + use<> {
        let core = self.clone();
        let (subject, announced) = match item {
            Item::Tree => {
                let tree = TreeSubject::new(&self.cache.keys);
                let announced = self.announce_part(&tree, &judged);
                (None, announced)
            }
            Item::Role(role) => (Some(role.clone()), self.announce_part(role, &judged)),
        };
        async move {
            let found = match &subject {
                Some(role) => core.role(role, judged, announced).await,
                None => core.organizations(judged, announced).await,
            };
            match found {
                Ok(found) if found.negative() => Ended::Gone,
                Ok(_) => Ended::Warm,
                Err(error) => Ended::of(&error),
            }
        }
    }

    /// Contexts, asked for as one batch of requests.
    pub(super) async fn warm_contexts(self: &Arc<Self>, users: &[String]) -> Vec<Ended> {
        let (mut batch, mut answers) = (Vec::with_capacity(users.len()), Vec::with_capacity(users.len()));
        for user_id in users {
            let (ticket, answer) = oneshot::channel();
            let started = Started { us: self.cache.clock.now_us(), moment: self.cache.flights.moment() };
            let (user_id, consistency) = (user_id.clone(), Consistency::Validated);
            let request = Request::UserContext { user_id, consistency, full: false };
            batch.push(Job { request, deadline_ms: 0, started, ticket: WarmTicket(ticket) });
            answers.push(answer);
        }
        self.telemetry.submitted.add(batch.len() as u64);
        worker::batch_of(self.clone(), batch).await;
        let all = futures_util::future::join_all(answers).await;
        all.into_iter().map(|ended| ended.unwrap_or(Ended::Failed)).collect()
    }
}
