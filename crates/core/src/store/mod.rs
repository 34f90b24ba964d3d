//! The shared second tier: one vocabulary of operations, several back ends. Not a cache: it knows
//! nothing of flights, sources or policies.
//!
//! Invariant: `exec` answers every operation within the store deadline, in order, with a reply or an
//! error that says whether the store itself failed.

pub mod breaker;
mod counter;
pub mod embedded;
mod members;
pub mod sim;
pub mod valkey;
mod walk;

use std::sync::Arc;

use bytes::Bytes;

use crate::base::key::Key;
#[cfg(doc)]
use crate::base::limits;
use crate::limiter::{Action, Aged, Check, Evaluations, Limit};

pub use members::{FINER, Member};
pub use walk::{Size, Walk};

/// One operation on one key. Every back end gives it the same meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The whole entry.
    Get(Key),
    /// The first 32 bytes of the entry: enough to validate a near copy.
    Head(Key),
    /// How long the entry still lives. Answered before the reads of the same batch, so that what these find is not
    /// older than it says.
    Left(Key),
    /// Store if absent, with a TTL.
    Add { key: Key, value: Bytes, ttl_ms: u64 },
    /// Store if the key holds exactly `expected`, with a TTL. Fill and takeover are this.
    Swap { key: Key, expected: Bytes, value: Bytes, ttl_ms: u64 },
    /// Store over the entry whose header is exactly `head`, with a TTL: as `Swap`, without sending the whole of it.
    Replace { key: Key, head: Bytes, value: Bytes, ttl_ms: u64 },
    /// Remove if the key holds exactly `expected`.
    Release { key: Key, expected: Bytes },
    /// Store whatever is there, with a TTL.
    Put { key: Key, value: Bytes, ttl_ms: u64 },
    /// Remove.
    Delete(Key),
    /// How long a value lives yet. A lease is no value.
    Life(Key),
    /// Gives a value another end.
    Prolong { key: Key, ttl_ms: u64 },
    /// Gives whatever is there another end, and says whether something is.
    Keep { key: Key, ttl_ms: u64 },
    /// Adds to a whole number; `ttl_ms` is for one that begins here. Never sent twice by the store.
    Count { key: Key, delta: i64, ttl_ms: u64, etag: u64 },
    /// Puts a key under a tag for so long. `nonce` is below [`FINER`].
    Tag { tag: Key, member: Bytes, ttl_ms: u64, nonce: u64 },
    /// The keys under a tag that end first, at most [`limits::TAGGED_KEYS`].
    Tagged(Key),
    /// Takes keys from under a tag, unless they were put there again since they were seen.
    Untag { tag: Key, seen: Vec<Member> },
    /// Do something to a limit, at the store's own time. Never sent twice by the store.
    Limit { key: Key, limit: Limit, action: Action },
    /// Charge a limit, without asking, what was admitted elsewhere. Sent again under its mark it is charged once, unless an hour has
    /// passed, or the mark would lie in another slot than the limit and the server refuses that.
    Tell { key: Key, limit: Limit, mark: u64, aged: Vec<Aged> },
    /// Check several limits of one slot, each key once: charged to all of them, or to none.
    LimitAll(Vec<Check>),
    /// Tell everybody who listens: the channel, a newline, the message.
    Announce(Bytes),
}

impl Op {
    /// The key, or one of the keys; none of an announcement.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Op::Get(key)
            | Op::Head(key)
            | Op::Left(key)
            | Op::Delete(key)
            | Op::Life(key)
            | Op::Tagged(key) => Some(key),
            Op::Tag { tag, .. } | Op::Untag { tag, .. } => Some(tag),
            Op::Prolong { key, .. }
            | Op::Keep { key, .. }
            | Op::Count { key, .. }
            | Op::Add { key, .. }
            | Op::Swap { key, .. }
            | Op::Replace { key, .. }
            | Op::Release { key, .. }
            | Op::Put { key, .. }
            | Op::Limit { key, .. }
            | Op::Tell { key, .. } => Some(key),
            Op::LimitAll(checks) => checks.first().map(|check| &check.key),
            Op::Announce(_) => None,
        }
    }
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `Get`, `Head`: what is there.
    Bytes(Option<Bytes>),
    /// `Left`: milliseconds; `None` = not there, or without an end.
    Left(Option<u64>),
    /// `Add`, `Swap`, `Replace`, `Release`, `Prolong`, `Keep`: whether it happened. `Delete`: whether something was there.
    /// `Put`, `Announce`, `Tag`, `Untag`: done.
    Done(bool),
    /// `Life`: milliseconds, `None` without a value. `Count`: the sum, `None` when that is not possible.
    Number(Option<i64>),
    /// `Tagged`.
    Members(Vec<Member>),
    /// `Limit`, `Tell`: one. `LimitAll`: one per check; when one denies, all of them are those of a peek.
    Limits(Evaluations),
}

/// Why an operation has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The store is not usable now; nothing was sent or nothing is known of the effect.
    Unavailable(Arc<str>),
    /// No answer in time; the effect is unknown.
    Timeout,
    /// The key holds something of a foreign type.
    WrongType,
    /// The server refuses writes for now (out of memory, cannot persist, too few replicas); reads go on.
    WritesRefused,
    /// The server refused this operation for another reason.
    Refused(Arc<str>),
}

impl StoreError {
    /// Whether the store as a whole should be taken out of service.
    pub fn opens_breaker(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Timeout)
    }
}

/// Outcome of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// By the servers that were there before, over these connections or new ones.
    Same,
    /// By others, or by some that do not say who they are.
    Anew,
}

/// Result of one operation.
pub type StoreResult = Result<Reply, StoreError>;

/// Results of a batch: one operation is answered for nearly every request, so one is kept inline.
pub type Replies = Vec<StoreResult>;

/// The store of one engine.
pub enum Store {
    /// Nothing configured: every read goes to the source.
    None,
    /// In process, the same semantics.
    Embedded(embedded::Embedded),
    /// Valkey or Redis.
    Valkey(Box<valkey::Valkey>),
    /// Scripted faults over the embedded store, for tests.
    Sim(sim::Sim),
}

impl Store {
    /// Runs `ops` in one round trip.
    pub async fn exec(&self, ops: Vec<Op>) -> Replies {
        match self {
            Store::None => {
                ops.iter().map(|_| Err(StoreError::Unavailable("no store is configured".into()))).collect()
            }
            Store::Embedded(store) => store.exec_all(&ops),
            Store::Valkey(store) => store.exec(ops).await,
            Store::Sim(store) => store.exec(ops).await,
        }
    }

    /// The same with more time than one entry needs.
    pub async fn exec_within(&self, ops: Vec<Op>, ms: u64) -> Replies {
        match self {
            Store::Valkey(store) => store.exec_within(ops, ms).await,
            other => other.exec(ops).await,
        }
    }

    /// `valkey`, `embedded`, `none`.
    pub fn kind(&self) -> &'static str {
        match self {
            Store::None => "none",
            Store::Embedded(_) => "embedded",
            Store::Valkey(_) => "valkey",
            Store::Sim(_) => "sim",
        }
    }

    /// How the store is reached: `none`, `embedded`, `standalone`, `cluster`.
    pub fn mode(&self) -> &'static str {
        match self {
            Store::Valkey(store) => store.mode(),
            other => other.kind(),
        }
    }

    /// Whether the connections that are there still answer.
    pub async fn answers(&self) -> bool {
        match self {
            Store::Valkey(store) => store.answers().await,
            other => other.probe().await.is_ok(),
        }
    }

    /// Drops the connections; nothing is sent any more.
    pub fn close(&self) {
        if let Store::Valkey(store) = self {
            store.close();
        }
    }

    /// Checks that the store answers and takes writes, connecting anew when that is needed: then another server
    /// may answer than before.
    pub async fn probe(&self) -> Result<Probed, StoreError> {
        match self {
            Store::None => Err(StoreError::Unavailable("no store is configured".into())),
            Store::Embedded(_) => Ok(Probed::Same),
            Store::Valkey(store) => store.probe().await,
            Store::Sim(store) => store.probe().await,
        }
    }
}
