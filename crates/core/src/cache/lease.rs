//! Leases: who may fill an entry, how the right is got, taken over, used and given back.
//!
//! Invariants
//! - Only `fill` stores a loaded value, and only over the lease that was got before the source was read.
//! - A lease token is sent once. A command whose fate is unknown is not repeated with the same token, or a
//!   late first copy could revive a lease that an invalidation has removed.

use std::time::Duration;

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::{jitter, limits};
use crate::store::{Op, Reply, StoreError, StoreResult};
use crate::telemetry::Tier;

use super::entry::{Found, Loaded, Stored, Verdict, encode};
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
}

pub(super) enum Right {
    Fill(Lease),
    NoFill,
    Answer(Found, u64),
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

    /// The companion after `leasing`: version and bytes. `Err` when it cannot be known.
    fn leased_companion(
        &self,
        subject: &dyn Subject,
        replies: &[StoreResult],
    ) -> Result<Option<(u64, Bytes)>, ()> {
        let Some(companion) = subject.companion() else { return Ok(None) };
        match replies.get(2) {
            Some(Ok(Reply::Bytes(Some(bytes)))) => match Stored::read(companion, SCHEMA, Some(bytes)) {
                Stored::Entry { etag, .. } => Ok(Some((etag, bytes.clone()))),
                _ => Err(()),
            },
            _ => Err(()),
        }
    }

    /// Gets the lease, or finds out that it is not to be had, or that the value is there by now.
    pub(super) async fn acquire(&self, subject: &dyn Subject) -> Right {
        let key = subject.key();
        if !self.usable(key) || subject.companion().is_some_and(|companion| self.pending.contains(companion))
        {
            return Right::NoFill;
        }
        let token = jitter::token();
        let bytes = encode(key, Kind::Lease, SCHEMA, token, b"");
        let give_up_ms = self.clock.now_ms() + self.times.wait_ms * 2;
        let mut foreign: Option<(u64, u64)> = None;
        let mut attempt = 0;
        loop {
            let sent = self.sending(subject);
            let replies = self.exec(self.leasing(subject, &bytes)).await;
            let companion = self.leased_companion(subject, &replies);
            let mine = |companion| lease_of(token, bytes.clone(), companion, sent);
            match (replies.first(), companion) {
                (Some(Ok(Reply::Done(true))), Ok(companion)) => return Right::Fill(mine(companion)),
                (Some(Ok(_)), Ok(_)) => {}
                _ => return Right::NoFill,
            }
            let evidence = self.flights.moment();
            let replies = self.exec(self.reading(subject)).await;
            let now = self.clock.now_ms();
            if let Some(Err(StoreError::WrongType)) = replies.first() {
                // Nothing of ours: removing it is a correct invalidation of whatever it was.
                self.telemetry.of(key.namespace()).corrupt.up();
                let _ = self.exec(vec![Op::Delete(key.clone())]).await;
            } else {
                let Some((stored, seen)) = self.understand(subject, &replies, sent) else {
                    return Right::NoFill;
                };
                let replace = match stored {
                    Stored::Absent => false,
                    Stored::Hold => return Right::NoFill,
                    Stored::Corrupt => {
                        self.telemetry.of(key.namespace()).corrupt.up();
                        true
                    }
                    Stored::Entry { kind, etag, payload } => match subject.judge(kind, &payload, seen) {
                        Verdict::Accept => {
                            let serial = self.keep(subject, kind, etag, &payload, sent);
                            return Right::Answer(
                                Found { kind, etag, payload, serial, tier: Tier::Store },
                                evidence,
                            );
                        }
                        Verdict::Stale => true,
                        Verdict::Foreign => return Right::NoFill,
                    },
                    Stored::Lease { token } => {
                        let since =
                            foreign.filter(|(known, _)| *known == token).map_or(now, |(_, since)| since);
                        foreign = Some((token, since));
                        now.saturating_sub(since) >= self.times.wait_ms
                    }
                };
                if let (true, Some(Ok(Reply::Bytes(Some(expected))))) = (replace, replies.into_iter().next())
                {
                    match self.take_over(subject, expected, bytes.clone()).await {
                        Some(Ok(companion)) => return Right::Fill(mine(companion)),
                        Some(Err(())) => {}
                        None => return Right::NoFill,
                    }
                }
            }
            if now >= give_up_ms {
                return Right::NoFill;
            }
            let poll = (limits::WAIT_POLL_FIRST_MS << attempt.min(8)).min(limits::WAIT_POLL_CAP_MS);
            attempt += 1;
            tokio::time::sleep(Duration::from_millis(poll)).await;
        }
    }

    /// Replaces what was seen by this lease. `None` = the store failed, `Err` = somebody was faster.
    async fn take_over(
        &self,
        subject: &dyn Subject,
        expected: Bytes,
        lease: Bytes,
    ) -> Option<Result<Option<(u64, Bytes)>, ()>> {
        let key = subject.key().clone();
        let mut ops = self.leasing(subject, &lease);
        ops[0] = Op::Swap { key, expected, value: lease.clone(), ttl_ms: self.times.lease_ms };
        let replies = self.exec(ops).await;
        match (replies.first(), self.leased_companion(subject, &replies)) {
            (Some(Ok(Reply::Done(true))), Ok(companion)) => {
                self.telemetry.of(subject.key().namespace()).takeovers.up();
                Some(Ok(companion))
            }
            (Some(Ok(_)), Ok(_)) => Some(Err(())),
            _ => None,
        }
    }

    /// Stores a value over `lease`. The etag and the number of the near copy, or `None` when the lease is
    /// gone or the store failed.
    pub async fn fill(&self, subject: &dyn Subject, lease: &Lease, loaded: &Loaded) -> Option<(u64, u64)> {
        let key = subject.key();
        if loaded.ttl_ms == 0 || loaded.payload.len() > limits::ENTRY_BYTES || self.pending.contains(key) {
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
