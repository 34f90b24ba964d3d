//! The fence: the pointer carries the claim of whoever warms, and publishing compares it. Whoever was overtaken while asleep
//! finds another claim; after an invalidation there is none.
//!
//! Invariant: a pointer is replaced only while it carries the claim that was put there when the lease was got.

use std::sync::Arc;
use std::time::Duration;

use crate::analytics::Live;
use crate::base::error::{Code, Error};
use crate::base::jitter;
use crate::base::limits;
use crate::store::{Op, Reply};

use super::super::super::Core;
use super::super::live::Seen;
use super::lock::{Lock, store_fails};

/// A pointer ends no sooner than this while its successor is made: a data source that is warmed as often as its
/// pointers end would be cold in between.
const LEAST_LEFT_MS: u64 = 3 * limits::ANALYTICS_LOCK_MS;
/// Attempts to change a pointer that somebody else changes too: an operator who rolls back, at most.
pub(super) const ATTEMPTS: usize = 5;

impl Core {
    /// Puts a new claim into the pointer.
    pub(super) async fn claim_live(&self, source: i64) -> Result<u64, Error> {
        let claim = jitter::token();
        for _ in 0..ATTEMPTS {
            let (seen, left_ms) = self.look_live_left(source).await?;
            let live = seen.live.as_deref();
            if live.is_some_and(|live| live.claim == claim) {
                // The reply to an earlier attempt was lost.
                return Ok(claim);
            }
            let next = live.map_or_else(|| Live::cold(claim), |live| live.claimed(claim));
            // A generation lives as long as it was published for, however often somebody tries to make the next one.
            let ttl_ms = left_ms.map_or(self.analytics_ttl_ms(), |left_ms| left_ms.max(LEAST_LEFT_MS));
            match self.swap_live_for(source, &seen, &next, ttl_ms).await {
                Ok(Some(_)) => return Ok(claim),
                Ok(None) => {}
                Err(error) if error.opens_breaker() => {}
                Err(error) => return Err(store_fails(&vec![Err(error)])),
            }
        }
        Err(Error::new(
            Code::Conflict,
            "the live pointer of the data source is changed by others all the time",
        ))
    }

    /// The pointer and how long it lives yet, waiting a moment for the store.
    pub(super) async fn look_live_left(&self, source: i64) -> Result<(Seen, Option<u64>), Error> {
        let key = self.live_key(source);
        let replies = self.exec_patiently(vec![Op::Left(key.clone()), Op::Get(key.clone())]).await?;
        let left_ms = match replies.first() {
            Some(Ok(Reply::Left(left_ms))) => *left_ms,
            _ => return Err(store_fails(&replies)),
        };
        if !self.cache.usable(&key) {
            return Err(Error::new(
                Code::StoreUnavailable,
                "an invalidation of the data source waits for the store",
            ));
        }
        Ok((self.seen(source, replies.get(1)).map_err(|_| store_fails(&replies))?, left_ms))
    }

    /// The pointer, if it still carries this claim.
    pub(super) async fn look_claimed(
        &self,
        source: i64,
        claim: u64,
    ) -> Result<(Seen, Arc<Live>, u64), Error> {
        let (seen, left_ms) = self.look_live_left(source).await?;
        match seen.live.clone() {
            Some(live) if live.claim == claim => Ok((seen, live, left_ms.unwrap_or(0).max(LEAST_LEFT_MS))),
            _ => Err(superseded()),
        }
    }

    /// Keeps the lease and the pointer for as long as this is polled; ends when either is lost.
    pub(super) async fn hold(&self, lock: &Lock, claim: u64) -> Error {
        let mut renewed_ms = self.cache.clock.now_ms();
        loop {
            tokio::time::sleep(Duration::from_millis(limits::ANALYTICS_LOCK_MS / 3)).await;
            let (began_ms, key) = (self.cache.clock.now_ms(), self.live_key(lock.source));
            let ops = vec![self.lock_renewal(lock), Op::Left(key.clone()), Op::Get(key)];
            let replies = self.cache.exec(ops).await;
            match replies.first() {
                Some(Ok(Reply::Done(true))) => renewed_ms = began_ms,
                Some(Ok(_)) => return superseded(),
                _ if self.cache.clock.now_ms() >= renewed_ms + limits::ANALYTICS_LOCK_MS => {
                    return store_fails(&replies);
                }
                _ => continue,
            }
            let left_ms = if let Some(Ok(Reply::Left(left_ms))) = replies.get(1) { *left_ms } else { None };
            let Ok(seen) = self.seen(lock.source, replies.get(2)) else { continue };
            let Some(live) = seen.live.clone().filter(|live| live.claim == claim) else {
                return superseded();
            };
            if left_ms.is_some_and(|left_ms| left_ms < LEAST_LEFT_MS) {
                // Unless it has just been changed: then it has its time.
                let _ = self.swap_live_for(lock.source, &seen, &live, LEAST_LEFT_MS).await;
            }
        }
    }
}

/// Somebody else warms, or the data source was invalidated.
pub(super) fn superseded() -> Error {
    let message = "the warm was superseded: another one has begun, or the data source was invalidated; nothing was published";
    Error { reason: Some("superseded"), ..Error::new(Code::Conflict, message) }
}
