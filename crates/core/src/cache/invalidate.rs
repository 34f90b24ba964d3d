//! The one way to void entries. It never reads the source and never decides what a value means.
//!
//! Invariant: from the moment `invalidate` is called this process does not answer the old value to a
//! later caller, whether the store can be reached or not; when it resolves as acknowledged, no process
//! does.

use std::time::Duration;

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::error::{Code, Error};
use crate::base::key::{Key, Namespace};
use crate::base::{jitter, limits};
use crate::store::{Op, Reply, Store, StoreError};

use super::entry::encode;
use super::pending::Ticket;
use super::policy::SCHEMA;
use super::service::Cache;

/// Longest time an invalidation waits for a store that failed only just now.
const PATIENCE_MS: u64 = 500;

/// What stands before a key to which something was given back, and never before another one: keys are printable.
pub(super) const GIVEN_BACK: &[u8] = b"\n\x02";

/// What an invalidation leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nothing: the next reader loads.
    Delete,
    /// Fills are refused for so long.
    Hold { ms: u64 },
    /// This value, whatever was there.
    Mark { payload: Bytes, ttl_ms: u64 },
}

impl Effect {
    pub(super) fn op(&self, key: &Key) -> Op {
        match self {
            Effect::Delete => Op::Delete(key.clone()),
            Effect::Hold { ms } => Op::Put {
                key: key.clone(),
                value: encode(key, Kind::Hold, SCHEMA, jitter::token(), b""),
                ttl_ms: *ms,
            },
            Effect::Mark { payload, ttl_ms } => {
                let value = encode(key, Kind::Value, SCHEMA, jitter::token(), payload);
                Op::Put { key: key.clone(), value, ttl_ms: *ttl_ms }
            }
        }
    }
}

/// What became of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// The store has it: true for every process.
    pub acknowledged: bool,
    /// The store has it not: true for this process, and sent again until the store has it.
    pub queued: bool,
    /// Entries that were there to be deleted, as far as the store said.
    pub removed: usize,
}

/// What the store did at once.
struct Sent {
    /// It has all of them.
    all: bool,
    /// How many of those to be deleted were there.
    removed: usize,
}

impl Cache {
    /// Voids entries here and everywhere.
    pub async fn invalidate(&self, targets: Vec<(Key, Effect)>) -> Result<Invalidation, Error> {
        for (key, _) in &targets {
            self.telemetry.of(key.namespace()).invalidations.up();
            self.void_here(key);
        }
        if matches!(self.store, Store::None) {
            return Ok(Invalidation { acknowledged: true, queued: false, removed: 0 });
        }
        let mut tickets = Vec::with_capacity(targets.len());
        for (key, effect) in &targets {
            let Some(ticket) = self.pending.add(key, effect.clone()) else {
                return Err(Error::new(
                    Code::StoreUnavailable,
                    "the store is out of service and no more invalidations can be queued; this one did not take effect elsewhere",
                ));
            };
            tickets.push(ticket);
        }
        // A read that started before this line may have been given the old value between the two voids.
        let sent = self.send(&targets, &tickets).await;
        let acknowledged = sent.all || self.wait_for_replay(&targets).await;
        for (key, _) in &targets {
            self.void_here(key);
        }
        Ok(Invalidation { acknowledged, queued: !acknowledged, removed: sent.removed })
    }

    /// What an announcement asks for, which may be this process's own. Of tokens only revocations are kept near, and
    /// those stay true.
    pub(super) fn heard_void(&self, key: &Key) {
        match key.namespace() {
            Namespace::TokenBlacklist => self.flights.void(key),
            _ => self.void_here(key),
        }
    }

    /// Forgets an entry in this process.
    pub fn void_here(&self, key: &Key) {
        if key.namespace() == Namespace::RateLimit {
            return self.limits.changed_elsewhere(key);
        }
        self.near.invalidate(key);
        self.flights.void(key);
    }

    /// Sends effects and, with them, the announcement.
    async fn send(&self, targets: &[(Key, Effect)], tickets: &[Ticket]) -> Sent {
        let mut ops: Vec<Op> = targets.iter().map(|(key, effect)| effect.op(key)).collect();
        ops.push(Op::Announce(self.announcement(targets.iter().map(|(key, _)| key))));
        let replies = self.exec(ops).await;
        self.settle(targets, tickets, &replies).await
    }

    async fn settle(
        &self,
        targets: &[(Key, Effect)],
        tickets: &[Ticket],
        replies: &[crate::store::StoreResult],
    ) -> Sent {
        let mut sent = Sent { all: true, removed: 0 };
        for (((key, effect), ticket), reply) in targets.iter().zip(tickets).zip(replies) {
            match reply {
                Ok(reply) => {
                    let deleted = *effect == Effect::Delete && *reply == Reply::Done(true);
                    sent.removed += usize::from(deleted);
                    self.pending.done(key, *ticket);
                    self.acknowledged.push(self.clock.now_ms(), key, effect);
                }
                Err(error) => {
                    sent.all = false;
                    if *error == StoreError::WritesRefused && self.pending.waits(key, *ticket) {
                        // No room for a mark: an absent entry sends readers to the source meanwhile.
                        let _ = self.exec(vec![Op::Delete(key.clone())]).await;
                    }
                }
            }
        }
        if !sent.all {
            self.wake.notify_one();
        }
        sent
    }

    /// After a failure a moment ago the guard is about to send everything again: worth a short wait.
    async fn wait_for_replay(&self, targets: &[(Key, Effect)]) -> bool {
        let (_, since_ms) = self.breaker_state();
        let left = (since_ms + PATIENCE_MS).saturating_sub(self.clock.now_ms());
        if left == 0 && !self.available() {
            return false;
        }
        let replayed = async {
            loop {
                let changed = self.changed.notified();
                if targets.iter().all(|(key, _)| !self.pending.contains(key)) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_millis(left.clamp(1, PATIENCE_MS)), replayed).await.is_ok()
    }

    /// A mark that the store has now is still what this process knows best, until the store is in service: a revoked
    /// token must not count in between.
    fn keep_mark(&self, key: &Key, effect: &Effect) {
        let Effect::Mark { payload, ttl_ms } = effect else { return };
        if key.namespace() == Namespace::TokenBlacklist {
            let now_ms = self.clock.now_ms();
            let value = (Kind::Value, 0, payload.clone());
            self.near.insert(key, self.near.epoch(key), value, now_ms, now_ms + ttl_ms);
        }
    }

    /// What tells everybody that something about these keys changed.
    pub fn announcement<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Bytes {
        self.message(b"\n", keys)
    }

    /// What tells everybody that something was given back to these limits.
    pub fn given_back<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Bytes {
        self.message(GIVEN_BACK, keys)
    }

    fn message<'a>(&self, before_each: &[u8], keys: impl Iterator<Item = &'a Key>) -> Bytes {
        let mut message = self.keys.channel().into_bytes();
        for key in keys {
            message.extend_from_slice(before_each);
            message.extend_from_slice(key.bytes());
        }
        message.into()
    }

    /// Replays what is pending, directly: the breaker is not closed yet when this runs.
    pub(super) async fn replay(&self) -> Result<(), StoreError> {
        while !self.pending.is_empty() {
            let chunk = self.pending.some(limits::REPLAY_CHUNK);
            let mut ops: Vec<Op> = chunk.iter().map(|(key, _, effect)| effect.op(key)).collect();
            ops.push(Op::Announce(self.announcement(chunk.iter().map(|(key, _, _)| key))));
            self.telemetry.round_trips.up();
            self.telemetry.commands.add(ops.len() as u64);
            let replies = self.store.exec(ops).await;
            for ((key, ticket, effect), reply) in chunk.iter().zip(replies) {
                match reply {
                    Ok(_) => {
                        self.void_here(key);
                        self.keep_mark(key, effect);
                        self.pending.done(key, *ticket);
                        self.acknowledged.push(self.clock.now_ms(), key, effect);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::auth::token::{self, TokenSubject};
    use crate::base::clock::Clock;
    use crate::cache::policy::Subject;
    use crate::config;
    use crate::engine::Core;

    #[tokio::test(start_paused = true)]
    async fn a_revocation_that_was_replayed_counts_before_the_store_is_in_service() {
        let settings = config::load(&[("CACHE_STORE".into(), "embedded".into())], &serde_json::json!({}));
        let handle = tokio::runtime::Handle::current();
        let core = Core::simulated(settings.expect("settings"), Clock::fake(1), &handle).expect("a core");
        let cache = &core.cache;
        // No guard runs: the store does not come into service.
        let subject = TokenSubject::new(&cache.keys, "t").expect("a subject");
        let done = cache.invalidate(vec![(subject.key().clone(), token::mark())]).await.expect("room");
        assert!(done.queued && cache.pending.contains(subject.key()));
        cache.replay().await.expect("a store that answers");
        assert!(cache.pending.is_empty() && !cache.available());
        let near = cache.near.get(subject.key(), cache.clock.now_ms()).expect("what this process knows");
        assert!(token::revoked(&near.payload));
    }
}
