//! Leases: who may fill an entry, how the right is got, taken over, used and given back.
//!
//! Invariants
//! - Only `fill` stores a loaded value, and only over the lease that was got before the source was read.
//! - A lease token is sent once. A command whose fate is unknown is not repeated with the same token, or a
//!   late first copy could revive a lease that an invalidation has removed.

use std::time::Duration;

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::key::Key;
use crate::base::{jitter, limits};
use crate::store::{Op, Reply, StoreError, StoreResult};
use crate::telemetry::Tier;

use super::entry::{Age, Found, Left, Loaded, Stored, Verdict, encode};
use super::flight::Seen;
use super::policy::{COMPANION_MS, SCHEMA, Subject};
use super::service::Cache;
use super::tiered::Sent;

/// The right to fill an entry: the lease as it stands in the store, and what the value depends on.
#[derive(Clone, Debug)]
pub struct Lease {
    pub(super) bytes: Bytes,
    pub(super) seen: Seen,
    /// The companion as it stands in the store, to be confirmed when the value is stored.
    companion: Option<Bytes>,
    sent: Sent,
}

impl Lease {
    /// Version of the companion, read before the load.
    pub fn companion(&self) -> Option<u64> {
        self.seen.companion
    }

    /// What keeps it for so much longer while it is there, and what the value depends on for as long as values live. The
    /// same bytes over themselves: one that comes late revives nothing.
    pub(super) fn renewal(&self, subject: &dyn Subject, ttl_ms: u64) -> Vec<Op> {
        let kept = |key: &Key, bytes: &Bytes, ttl_ms| {
            let (expected, value) = (bytes.clone(), bytes.clone());
            Op::Swap { key: key.clone(), expected, value, ttl_ms }
        };
        let companion = subject.companion().zip(self.companion.as_ref());
        let companion = companion.map(|(key, bytes)| kept(key, bytes, COMPANION_MS));
        [kept(subject.key(), &self.bytes, ttl_ms)].into_iter().chain(companion).collect()
    }
}

pub(super) enum Right {
    Fill(Lease),
    NoFill,
    Answer(Found, u64),
}

/// Why the version of a companion is not known.
enum Unreadable {
    /// Something is there that is not ours.
    Corrupt,
    /// The store did not say.
    Unknown,
}

/// What the attempts to get one lease have seen.
#[derive(Default)]
struct Observed {
    foreign: Option<(u64, u64)>,
    absent: u32,
}

impl Observed {
    /// For how long this very lease has been seen.
    fn lease_for_ms(&mut self, token: u64, now_ms: u64) -> u64 {
        let since = self.foreign.filter(|(known, _)| *known == token).map_or(now_ms, |(_, since)| since);
        self.foreign = Some((token, since));
        now_ms.saturating_sub(since)
    }

    /// Whether the key could not be added and yet was not there, twice.
    fn absent_again(&mut self) -> bool {
        self.absent += 1;
        self.absent > 1
    }
}

impl Cache {
    /// The commands that get a lease: with a companion, it is created when absent and read.
    fn leasing(&self, subject: &dyn Subject, lease: &Bytes) -> Vec<Op> {
        let mut ops =
            vec![Op::Add { key: subject.key().clone(), value: lease.clone(), ttl_ms: self.times.lease_ms }];
        if let Some(companion) = subject.companion() {
            let value = encode(companion, Kind::Value, SCHEMA, jitter::token(), b"");
            ops.push(Op::Add { key: companion.clone(), value, ttl_ms: self.times.lease_ms });
            ops.push(Op::Get(companion.clone()));
        }
        ops
    }

    /// The companion after `leasing`: version and bytes.
    fn leased_companion(
        &self,
        subject: &dyn Subject,
        replies: &[StoreResult],
    ) -> Result<Option<(u64, Bytes)>, Unreadable> {
        let Some(companion) = subject.companion() else { return Ok(None) };
        match replies.get(2) {
            Some(Ok(Reply::Bytes(Some(bytes)))) => match Stored::read(companion, SCHEMA, Some(bytes)) {
                Stored::Entry { etag, .. } => Ok(Some((etag, bytes.clone()))),
                // Whoever holds it back wants nothing to be stored meanwhile.
                Stored::Hold => Err(Unreadable::Unknown),
                _ => Err(Unreadable::Corrupt),
            },
            Some(Err(StoreError::WrongType)) => Err(Unreadable::Corrupt),
            _ => Err(Unreadable::Unknown),
        }
    }

    /// Gets the lease, or finds out that it is not to be had, or that the value is there by now.
    pub(super) async fn acquire(&self, subject: &dyn Subject) -> Right {
        if !self.usable(subject.key())
            || subject.companion().is_some_and(|companion| self.pending.contains(companion))
        {
            return Right::NoFill;
        }
        let give_up_ms = self.clock.now_ms() + subject.patience_ms(&self.times) * 2;
        let mut observed = Observed::default();
        for attempt in 0_u32.. {
            if let Some(right) = self.try_acquire(subject, &mut observed).await {
                return right;
            }
            if self.clock.now_ms() >= give_up_ms {
                break;
            }
            let poll = (limits::WAIT_POLL_FIRST_MS << attempt.min(8)).min(limits::WAIT_POLL_CAP_MS);
            tokio::time::sleep(Duration::from_millis(poll)).await;
        }
        Right::NoFill
    }

    /// One attempt, with a token of its own; `None` = wait and try again.
    async fn try_acquire(&self, subject: &dyn Subject, observed: &mut Observed) -> Option<Right> {
        let key = subject.key();
        let token = jitter::token();
        let bytes = encode(key, Kind::Lease, SCHEMA, token, b"");
        let sent = self.sending(subject);
        let replies = self.exec(self.leasing(subject, &bytes)).await;
        match (replies.first(), self.leased_companion(subject, &replies)) {
            (Some(Ok(Reply::Done(true))), Ok(companion)) => {
                return Some(Right::Fill(lease_of(token, bytes, companion, sent)));
            }
            (Some(Ok(_)), Ok(_)) => {}
            (Some(Ok(_)), Err(Unreadable::Corrupt)) => {
                let companion = subject.companion().map(|companion| Op::Delete(companion.clone()));
                self.remove_foreign(
                    key,
                    companion.into_iter().chain([Op::Release { key: key.clone(), expected: bytes }]),
                )
                .await;
                return None;
            }
            (Some(Ok(Reply::Done(true))), Err(Unreadable::Unknown)) => {
                // Nothing can be stored under it, so nobody should wait for it.
                self.exec(vec![Op::Release { key: key.clone(), expected: bytes }]).await;
                return Some(Right::NoFill);
            }
            _ => return Some(Right::NoFill),
        }
        let evidence = self.flights.moment();
        let replies = self.exec(self.reading(subject)).await;
        if let Some(Err(StoreError::WrongType)) = replies.first() {
            self.remove_foreign(key, [Op::Delete(key.clone())]).await;
            return None;
        }
        let Some((stored, companion)) = self.understand(subject, &replies, None, sent) else {
            return Some(Right::NoFill);
        };
        let replace = match stored {
            Stored::Absent if observed.absent_again() => {
                self.look_for_foreign(key).await;
                false
            }
            Stored::Absent | Stored::Changed => false,
            Stored::Hold => return Some(Right::NoFill),
            Stored::Corrupt => {
                self.telemetry.of(key.namespace()).corrupt.up();
                true
            }
            Stored::Entry { kind, etag, payload } => match subject.judge(kind, &payload, companion) {
                Verdict::Accept => {
                    let left = Left::of(&replies);
                    if let Age::Current { .. } = subject.age(&payload, left) {
                        let (serial, tier) = (self.keep(subject, kind, etag, &payload, sent), Tier::Store);
                        let found = Found { kind, etag, payload, serial, tier, left };
                        return Some(Right::Answer(found, evidence));
                    }
                    self.may_replace(subject, &payload).await
                }
                Verdict::Stale => true,
                Verdict::Foreign => return Some(Right::NoFill),
            },
            Stored::Lease { token } => {
                observed.lease_for_ms(token, self.clock.now_ms()) >= subject.patience_ms(&self.times)
            }
        };
        let Some(Ok(Reply::Bytes(Some(expected)))) = replies.into_iter().next().filter(|_| replace) else {
            return None;
        };
        self.take_over(subject, expected, sent).await
    }

    /// Not to be added and yet not there, twice: perhaps something that a multiple read passes over in silence.
    async fn look_for_foreign(&self, key: &Key) {
        if let Some(Err(StoreError::WrongType)) = self.exec(vec![Op::Head(key.clone())]).await.first() {
            self.remove_foreign(key, [Op::Delete(key.clone())]).await;
        }
    }

    /// Removes what is not ours under a key of ours, which is a correct invalidation of whatever it was.
    async fn remove_foreign(&self, key: &Key, ops: impl IntoIterator<Item = Op>) {
        self.telemetry.of(key.namespace()).corrupt.up();
        self.exec(ops.into_iter().collect()).await;
    }

    /// Replaces what was seen by a lease of its own token; `None` = somebody was faster.
    async fn take_over(&self, subject: &dyn Subject, expected: Bytes, sent: Sent) -> Option<Right> {
        let key = subject.key().clone();
        let token = jitter::token();
        let bytes = encode(&key, Kind::Lease, SCHEMA, token, b"");
        let mut ops = self.leasing(subject, &bytes);
        ops[0] = Op::Swap { key, expected, value: bytes.clone(), ttl_ms: self.times.lease_ms };
        let replies = self.exec(ops).await;
        match (replies.first(), self.leased_companion(subject, &replies)) {
            (Some(Ok(Reply::Done(true))), Ok(companion)) => {
                self.telemetry.of(subject.key().namespace()).takeovers.up();
                Some(Right::Fill(lease_of(token, bytes, companion, sent)))
            }
            (Some(Ok(_)), Ok(_)) => None,
            _ => Some(Right::NoFill),
        }
    }

    /// Stores a value over `lease`. The etag and the number of the near copy, or `None` when the lease is
    /// gone or the store failed.
    pub async fn fill(&self, subject: &dyn Subject, lease: &Lease, loaded: &Loaded) -> Option<(u64, u64)> {
        let key = subject.key();
        if loaded.ttl_ms == 0 || loaded.payload.len() > subject.longest() || self.pending.contains(key) {
            let _ = self.exec(vec![Op::Release { key: key.clone(), expected: lease.bytes.clone() }]).await;
            return None;
        }
        let etag = jitter::token();
        let value = encode(key, loaded.kind, SCHEMA, etag, &loaded.payload);
        let mut ops = Vec::with_capacity(2);
        if let (Some(companion), Some(bytes)) = (subject.companion(), &lease.companion) {
            // The same bytes again: only its end moves, and only while it is still the same version.
            let (expected, value) = (bytes.clone(), bytes.clone());
            ops.push(Op::Swap { key: companion.clone(), expected, value, ttl_ms: COMPANION_MS });
        }
        ops.push(Op::Swap { key: key.clone(), expected: lease.bytes.clone(), value, ttl_ms: loaded.ttl_ms });
        let stats = self.telemetry.of(key.namespace());
        match self.exec(ops).await.pop() {
            Some(Ok(Reply::Done(true))) => {
                stats.fills.up();
                Some((etag, self.keep(subject, loaded.kind, etag, &loaded.payload, lease.sent)))
            }
            Some(Ok(_)) => {
                stats.fills_refused.up();
                None
            }
            _ => None,
        }
    }
}

fn lease_of(token: u64, bytes: Bytes, companion: Option<(u64, Bytes)>, sent: Sent) -> Lease {
    let seen = Seen { lease: Some(token), companion: companion.as_ref().map(|(etag, _)| *etag) };
    Lease { bytes, seen, companion: companion.map(|(_, bytes)| bytes), sent }
}
