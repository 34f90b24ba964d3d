//! Who of all processes works on a data source: a lease, and for a while after a warm the mark that it was done.
//!
//! Not the fence: a process that was asleep may believe in a lease that is gone. What it publishes then is refused because the
//! pointer is claimed by another one; see `claim`.
//!
//! Invariant: a lease is renewed and given back only by the bytes its owner wrote, and whatever is deleted under it is deleted
//! right after it was renewed.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::codec::{HEADER, Kind};
use crate::base::error::{Code, Error};
use crate::base::jitter;
use crate::base::key::{Key, Namespace};
use crate::base::limits;
use crate::cache::entry::{Stored, encode};
use crate::cache::policy::SCHEMA;
use crate::store::{Op, Replies, Reply, StoreError};

use super::super::super::Core;
use super::super::super::health::iso;

/// Pause between two looks whether something has ended that ends soon.
const LOOK_MS: u64 = 50;

/// What a lease is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Work {
    Warm,
    /// What nobody names any more is deleted. Takes a moment: others wait for it.
    Collect,
}

/// Who holds a lease, as an operator reads it in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) work: Work,
    /// The engine.
    instance: String,
    /// Its process.
    pid: u32,
    /// By its own clock.
    since_unix_ms: u64,
}

impl Holder {
    /// As in `WarmResult`.
    pub(super) fn json(&self) -> Value {
        json!({ "instance": self.instance, "pid": self.pid, "since": iso(self.since_unix_ms) })
    }
}

/// The right to work on a data source.
pub(super) struct Lock {
    pub(super) source: i64,
    key: Key,
    mine: Bytes,
}

/// What became of the wish for it.
pub(super) enum Taken {
    Mine(Lock),
    /// Somebody else's.
    Held(Holder),
    /// Nobody's, but somebody has warmed a moment ago.
    Rested,
}

impl Core {
    fn lock_key(&self, source: i64) -> Key {
        self.cache.keys.of_source(Namespace::AnalyticsLock, source, "warm")
    }

    /// Where the mark is that the data source was warmed. A number has no point, so no lease lies there.
    fn rest_key(&self, source: i64) -> Key {
        self.cache.keys.of_source(Namespace::AnalyticsLock, source, "rest")
    }

    /// Who works on a data source here.
    pub(super) fn holder(&self, work: Work, since_unix_ms: u64) -> Holder {
        let instance = format!("{:016x}", self.cache.instance());
        Holder { work, instance, pid: std::process::id(), since_unix_ms }
    }

    /// Gets the right, unless somebody has it, or is just through and `rested` matters.
    pub(super) async fn take_lock(&self, source: i64, work: Work, rested: bool) -> Result<Taken, Error> {
        let key = self.lock_key(source);
        let holder = self.holder(work, self.cache.clock.unix_ms());
        let payload = serde_json::to_vec(&holder).expect("texts and numbers are JSON");
        let mine = encode(&key, Kind::Lease, SCHEMA, jitter::token(), &payload);
        let add = Op::Add { key: key.clone(), value: mine.clone(), ttl_ms: limits::ANALYTICS_LOCK_MS };
        let ops = vec![add, Op::Get(key.clone()), Op::Get(self.rest_key(source))];
        let lock = Lock { source, key, mine };
        for _ in 0..ATTEMPTS {
            let replies = self.exec_patiently(ops.clone()).await?;
            let Some(Ok(Reply::Bytes(found))) = replies.get(1) else { return Err(store_fails(&replies)) };
            // Mine as well when the reply to an earlier attempt was lost.
            if found.as_ref() == Some(&lock.mine) {
                if rested && matches!(replies.get(2), Some(Ok(Reply::Bytes(Some(_))))) {
                    self.give_back_lock(lock, false).await;
                    return Ok(Taken::Rested);
                }
                return Ok(Taken::Mine(lock));
            }
            let Some(found) = found else { continue };
            match read(&lock.key, found) {
                Some(holder) => return Ok(Taken::Held(holder)),
                // Nobody's: written by another release, or by hand.
                None => {
                    self.exec_patiently(vec![Op::Release { key: lock.key.clone(), expected: found.clone() }])
                        .await?;
                }
            }
        }
        Err(Error::new(
            Code::StoreUnavailable,
            "the right to warm a data source could not be had from the store",
        ))
    }

    /// As `take_lock`, waiting for at most so long for it.
    pub(super) async fn wait_for_lock(
        &self,
        source: i64,
        work: Work,
        rested: bool,
        wait_ms: u64,
        worth_it: impl Fn(&Holder) -> bool,
    ) -> Result<Taken, Error> {
        let mut left_ms = wait_ms;
        loop {
            match self.take_lock(source, work, rested).await? {
                Taken::Held(holder) if left_ms > 0 && worth_it(&holder) => {
                    let pause_ms = left_ms.min(LOOK_MS);
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    left_ms -= pause_ms;
                }
                taken => return Ok(taken),
            }
        }
    }

    pub(super) fn lock_renewal(&self, lock: &Lock) -> Op {
        let (key, mine) = (lock.key.clone(), lock.mine.clone());
        Op::Swap { key, expected: mine.clone(), value: mine, ttl_ms: limits::ANALYTICS_LOCK_MS }
    }

    /// Whether it is still held; for as long as ever from now on.
    pub(super) async fn renew_lock(&self, lock: &Lock) -> bool {
        matches!(self.cache.exec(vec![self.lock_renewal(lock)]).await.first(), Some(Ok(Reply::Done(true))))
    }

    /// Gives it back; `warmed` = and tells everybody that there is nothing to do for a while.
    pub(super) async fn give_back_lock(&self, lock: Lock, warmed: bool) {
        let mut ops = vec![Op::Release { key: lock.key.clone(), expected: lock.mine.clone() }];
        if warmed {
            let key = self.rest_key(lock.source);
            let value = encode(&key, Kind::Value, SCHEMA, jitter::token(), b"");
            ops.insert(0, Op::Put { key, value, ttl_ms: limits::ANALYTICS_REST_MS });
        }
        self.cache.exec(ops).await;
    }

    /// The next warm is not held back by the last one.
    pub(super) async fn forget_rest(&self, source: i64) {
        self.cache.exec(vec![Op::Delete(self.rest_key(source))]).await;
    }

    /// Runs operations that may be run twice; waits for a store that is out of service for a moment.
    pub(super) async fn exec_patiently(&self, ops: Vec<Op>) -> Result<Replies, Error> {
        let mut left_ms = limits::WARM_WAIT_MS;
        loop {
            let replies = self.cache.exec(ops.clone()).await;
            let down = replies.iter().any(|reply| matches!(reply, Err(error) if error.opens_breaker()));
            if !down {
                return Ok(replies);
            }
            while left_ms > 0 {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                left_ms = left_ms.saturating_sub(LOOK_MS);
                if self.cache.available() {
                    break;
                }
            }
            if left_ms == 0 || self.closing() {
                return Err(store_fails(&replies));
            }
        }
    }
}

/// Attempts to get a lease that is neither there nor not there.
const ATTEMPTS: usize = 3;

/// Who wrote this lease; `None` = nobody we know.
fn read(key: &Key, bytes: &Bytes) -> Option<Holder> {
    match Stored::read(key, SCHEMA, Some(bytes)) {
        Stored::Lease { .. } => serde_json::from_slice(&bytes[HEADER..]).ok(),
        _ => None,
    }
}

/// What the first refusal among these replies means for a warm.
pub(super) fn store_fails(replies: &Replies) -> Error {
    let what = match replies.iter().find_map(|reply| reply.as_ref().err()) {
        Some(StoreError::WritesRefused) => {
            "takes no writes now: it is full, or cannot save what it has".to_owned()
        }
        Some(StoreError::WrongType) => {
            "holds something of another kind under a key of this package".to_owned()
        }
        Some(StoreError::Refused(reason)) => format!("refuses a command: {reason}"),
        Some(StoreError::Timeout) => "did not answer in time".to_owned(),
        Some(StoreError::Unavailable(reason)) => format!("is not available: {reason}"),
        None => "answered with something else than was asked for".to_owned(),
    };
    Error::new(Code::StoreUnavailable, format!("the store {what}"))
}
