//! Who of all processes warms: a lease under the name of the level, and for a while after it the mark that it was
//! done. Never waited for: whoever does not get it has nothing to do.
//!
//! Invariant: a lease is renewed, marked and given back only by the bytes its owner wrote.

use std::time::Duration;

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::jitter;
use crate::base::key::{Key, Namespace};
use crate::base::limits;
use crate::cache::entry::{Stored, encode};
use crate::cache::policy::SCHEMA;
use crate::store::{Op, Reply, Store, StoreError};

use super::super::Core;
use super::job::{WarmOrder, WarmStop};

/// Pause between two looks whether the store is there.
const LOOK_MS: u64 = 50;

/// The right to warm; `None` inside = without one, because that was wanted.
pub(super) struct Lease(Option<(Key, Bytes)>);

impl Core {
    /// Gets the right, or says why there is nothing to do.
    pub(super) async fn claim_warming(&self, order: &WarmOrder) -> Result<Lease, WarmStop> {
        if matches!(self.cache.store, Store::None) {
            return Err(WarmStop::NoStore);
        }
        self.cache.ready().await;
        let until_ms = self.cache.clock.now_ms() + limits::WARM_WAIT_MS;
        while order.patient && !self.cache.available() && self.cache.clock.now_ms() < until_ms {
            if self.closing() {
                return Err(WarmStop::Closed);
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
        let key = self.cache.keys.entry(Namespace::Warming, order.level.name());
        let mine = encode(&key, Kind::Lease, SCHEMA, jitter::token(), b"");
        let add = Op::Add { key: key.clone(), value: mine.clone(), ttl_ms: limits::WARM_LEASE_MS };
        let replies = self.cache.exec(vec![add, Op::Get(key.clone())]).await;
        match (replies.first(), replies.get(1)) {
            (Some(Ok(Reply::Done(true))), _) => Ok(Lease(Some((key, mine)))),
            (Some(Ok(_)), _) if order.force => Ok(Lease(None)),
            (Some(Ok(_)), Some(Ok(Reply::Bytes(bytes)))) => {
                match Stored::read(&key, SCHEMA, bytes.as_ref()) {
                    Stored::Entry { .. } => Err(WarmStop::Recent),
                    // Ended between the two commands.
                    Stored::Lease { .. } | Stored::Absent => Err(WarmStop::AnotherProcess),
                    // Nobody's: no reason to leave the cache cold.
                    _ => Ok(Lease(None)),
                }
            }
            (Some(Ok(_)), Some(Err(StoreError::WrongType))) => Ok(Lease(None)),
            _ => Err(WarmStop::StoreUnavailable),
        }
    }

    /// Keeps it for as long as this is polled. Losing it is harmless: somebody else warms as well.
    pub(super) async fn keep_lease(&self, Lease(held): &Lease) -> Option<WarmStop> {
        let Some((key, mine)) = held else { return std::future::pending().await };
        loop {
            tokio::time::sleep(Duration::from_millis(limits::WARM_LEASE_MS / 3)).await;
            let (key, expected, value) = (key.clone(), mine.clone(), mine.clone());
            self.cache.exec(vec![Op::Swap { key, expected, value, ttl_ms: limits::WARM_LEASE_MS }]).await;
        }
    }

    /// Gives it back; `done` = and tells the others that there is nothing left to do.
    pub(super) async fn give_back(&self, Lease(held): Lease, done: bool) {
        let Some((key, expected)) = held else { return };
        let op = if done {
            let value = encode(&key, Kind::Value, SCHEMA, jitter::token(), b"");
            Op::Swap { key, expected, value, ttl_ms: limits::WARM_REST_MS }
        } else {
            Op::Release { key, expected }
        };
        self.cache.exec(vec![op]).await;
    }
}
