//! Valkey and Redis: connecting, routing, batching commands into one round trip per node. Not the
//! breaker: this reports what happened, `cache::guard` decides whether the store is used.
//!
//! Slot routing is our own, over one multiplexed link per node, because the library's cluster client
//! cannot send one pipeline to several nodes, waits without a deadline, and does not recover from a
//! circular redirection (`docs/decisions/1-cluster-routing.md`).
//!
//! Invariant: nothing is queued for later. An operation is sent now or answered `Unavailable`.

mod each;
mod link;
mod options;
mod slots;
mod subscribe;
mod walk;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::base::limits;
use crate::telemetry::Telemetry;

use super::{Op, Probed, Replies, StoreError};

use link::Link;
use slots::Topology;
use wire::Answer;

pub use options::{Mode, Options, Tls};
pub use subscribe::{Listener, run as subscribe};

/// A connected, or connecting, Valkey.
pub struct Valkey {
    options: Options,
    /// Replaced as a whole by `probe` and by a redirection to an unknown node; readers take the Arc.
    topology: RwLock<Arc<Topology>>,
    /// Set when replies no longer make sense: the next probe starts from the seeds.
    suspect: AtomicBool,
    /// The server refused keys of several slots in one command, whatever it calls itself.
    apart: AtomicBool,
    telemetry: Arc<Telemetry>,
}

impl Valkey {
    /// Does not connect: the first `probe` does.
    pub fn new(options: Options, telemetry: Arc<Telemetry>) -> Self {
        let (suspect, apart) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { options, topology: RwLock::default(), suspect, apart, telemetry }
    }

    /// How this store is reached.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// `standalone` or `cluster`, as found; `standalone` before the first connection.
    pub fn mode(&self) -> &'static str {
        if self.topology.read().clustered() { "cluster" } else { "standalone" }
    }

    /// Where a server may be asked: the seeds, then every node the cluster named.
    pub(super) fn addresses(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.options.seeds.iter().map(|(host, port)| slots::address(host, *port)).collect();
        all.extend(self.topology.read().known().iter().cloned());
        all
    }

    /// Runs `ops` in one round trip per node, redirections apart.
    pub async fn exec(&self, ops: Vec<Op>) -> Replies {
        self.exec_within(ops, self.options.deadline_ms).await
    }

    /// The same with more time, for what is large: never with less.
    pub async fn exec_within(&self, ops: Vec<Op>, ms: u64) -> Replies {
        let until = Instant::now() + Duration::from_millis(ms.max(self.options.deadline_ms));
        let mut replies: Vec<Option<super::StoreResult>> = ops.iter().map(|_| None).collect();
        let mut todo: Vec<Step> = (0..ops.len()).map(Step::first).collect();
        for _ in 0..=limits::REDIRECTS {
            if todo.is_empty() {
                break;
            }
            todo = self.round(&ops, todo, until, &mut replies).await;
        }
        if !todo.is_empty() {
            self.suspect.store(true, Ordering::SeqCst);
        }
        replies
            .into_iter()
            .map(|reply| {
                reply.unwrap_or_else(|| Err(StoreError::Unavailable("redirections do not end".into())))
            })
            .collect()
    }

    /// Sends every step to its node and answers what can be answered; returns what must be sent again.
    async fn round(
        &self,
        ops: &[Op],
        steps: Vec<Step>,
        until: Instant,
        replies: &mut [Option<super::StoreResult>],
    ) -> Vec<Step> {
        let topology = self.topology.read().clone();
        let mut groups: Vec<(Arc<Link>, Vec<Step>)> = Vec::new();
        for step in steps {
            let link = match &step.target {
                Some(address) => self.link_to(&topology, address, until).await,
                None => topology.link_for(ops[step.op].key()),
            };
            match link {
                Some(link) => match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &link)) {
                    Some((_, group)) => group.push(step),
                    None => {
                        let mut group = Vec::with_capacity(replies.len());
                        group.push(step);
                        groups.push((link, group));
                    }
                },
                None => {
                    replies[step.op] = Some(Err(StoreError::Unavailable("no node serves this key".into())));
                }
            }
        }
        let one_node = groups.len() == 1;
        let sent = groups.into_iter().map(|(link, steps)| async move {
            let answers = link.exec(ops, &steps, until, self.able(&link)).await;
            (link, steps, answers)
        });
        let answered = if one_node {
            let mut all = Vec::with_capacity(1);
            for one in sent {
                all.push(one.await);
            }
            all
        } else {
            futures_util::future::join_all(sent).await
        };
        let mut again = Vec::new();
        for (link, steps, answers) in answered {
            for (step, answer) in steps.into_iter().zip(answers) {
                match answer {
                    Answer::Final(reply) => {
                        if matches!(reply, Err(StoreError::Unavailable(_))) {
                            self.suspect.store(true, Ordering::SeqCst);
                        }
                        replies[step.op] = Some(reply);
                    }
                    Answer::Unnoted => again.push(Step { unnoted: true, ..step }),
                    Answer::NoScript => again.push(Step { whole_script: true, ..step }),
                    Answer::Apart => {
                        self.apart.store(true, Ordering::Relaxed);
                        again.push(step);
                    }
                    Answer::Redirect { address, asking } => {
                        self.telemetry.redirects.up();
                        if !asking {
                            self.moved(ops[step.op].key(), &address);
                        }
                        if address == link.address() && !asking {
                            // Sent back to where it came from: the map on the other side is broken.
                            self.suspect.store(true, Ordering::SeqCst);
                        }
                        again.push(Step { target: Some(address), asking, ..step });
                    }
                }
            }
        }
        again
    }

    fn able(&self, link: &Link) -> Able {
        let together =
            self.options.mode != Mode::Cluster && !link.clustered() && !self.apart.load(Ordering::Relaxed);
        Able { together, msetex: together && link.msetex() }
    }

    async fn link_to(&self, topology: &Topology, address: &str, until: Instant) -> Option<Arc<Link>> {
        if let Some(link) = topology.link_at(address).or_else(|| self.topology.read().link_at(address)) {
            return Some(link);
        }
        let left = until.saturating_duration_since(Instant::now());
        let link = tokio::time::timeout(left, Link::connect(&self.options, address)).await.ok()?.ok()?;
        let link = Arc::new(link);
        let mut current = self.topology.write();
        *current = Arc::new(current.with_link(link.clone()));
        Some(link)
    }

    fn moved(&self, key: Option<&crate::base::key::Key>, address: &str) {
        let Some(key) = key else { return };
        let mut current = self.topology.write();
        if let Some(changed) = current.with_slot(key.slot(), address) {
            *current = Arc::new(changed);
        }
    }

    /// Drops every link. What is under way ends with its own deadline.
    pub fn close(&self) {
        *self.topology.write() = Arc::default();
    }

    /// Whether every node answers over the present links.
    pub async fn answers(&self) -> bool {
        let current = self.topology.read().clone();
        !self.suspect.load(Ordering::SeqCst) && current.answers(&self.options).await
    }

    /// Makes sure that every node answers, takes writes, and that every slot has a node. Starts again
    /// from the seeds when the present links do not answer or no longer make sense.
    pub async fn probe(&self) -> Result<Probed, StoreError> {
        if self.answers().await {
            return Ok(Probed::Same);
        }
        let known = self.topology.read().clone();
        let fresh = Topology::discover(&self.options, known.known()).await?;
        let probed = if fresh.is_of(&known) { Probed::Same } else { Probed::Anew };
        *self.topology.write() = Arc::new(fresh);
        self.suspect.store(false, Ordering::SeqCst);
        self.apart.store(false, Ordering::Relaxed);
        Ok(probed)
    }
}

/// What may be said to a server.
#[derive(Clone, Copy, Debug, Default)]
struct Able {
    /// One command may have keys of several slots: plain reads share one, and so do checks of limits. A cluster refuses
    /// them, even when one node owns them all.
    together: bool,
    /// It has `MSETEX`, which Redis has since 8.4 and Valkey since 9.1.
    msetex: bool,
}

/// One operation on its way.
#[derive(Debug)]
struct Step {
    /// Index into the batch.
    op: usize,
    /// Where a redirection sent it.
    target: Option<String>,
    /// Whether `ASKING` goes first.
    asking: bool,
    /// Send the script's text: the server does not know its digest.
    whole_script: bool,
    /// Leave the note away that the server would not take.
    unnoted: bool,
}

impl Step {
    fn first(op: usize) -> Self {
        Self { op, target: None, asking: false, whole_script: false, unnoted: false }
    }
}
