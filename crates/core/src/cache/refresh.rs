//! Refreshing an entry that is answered meanwhile: who may, and over what it is stored. Not when one is due. The right
//! is a lease of its own, since the entry's would take the entry's place.
//!
//! Invariants
//! - A refresh stores only over exactly the version that was there when it got its right, before the source was read,
//!   and for the companion of that moment: whatever voids the entry meanwhile, here or elsewhere, wins.
//! - At most one at a time per entry over all processes, as long as its lease lives.

use bytes::Bytes;

use crate::base::codec::{Header, Kind};
use crate::base::jitter;
use crate::base::key::Key;
use crate::store::{Op, Reply, StoreResult};

use super::entry::{Age, Left, Loaded, Stored, encode};
use super::policy::{COMPANION_MS, SCHEMA, Subject};
use super::service::Cache;
use super::tiered::Sent;

/// How long what replaces a version lives that is to go: it only has to be no entry.
const REMOVED_MS: u64 = 1;

/// The right to refresh one version of an entry.
pub struct Refresh {
    lease_key: Key,
    /// As it stands in the store.
    lease: Bytes,
    /// Header of the version that is replaced.
    head: Bytes,
    companion: Option<(u64, Bytes)>,
    sent: Sent,
}

/// Outcome of `begin_refresh`.
pub enum Begun {
    /// Load it.
    Right(Refresh),
    /// Somebody else has the right, or the store cannot tell.
    Taken,
    /// There is another version by now, or none.
    Gone,
}

impl Refresh {
    /// Version of the companion, read before the load.
    pub fn companion(&self) -> Option<u64> {
        self.companion.as_ref().map(|(etag, _)| *etag)
    }

    /// What keeps the right for so much longer while it is there.
    pub fn renewal(&self, ttl_ms: u64) -> Vec<Op> {
        let (expected, value) = (self.lease.clone(), self.lease.clone());
        vec![Op::Swap { key: self.lease_key.clone(), expected, value, ttl_ms }]
    }
}

impl Cache {
    /// Gets the right to refresh version `etag`.
    pub async fn begin_refresh(&self, subject: &dyn Subject, etag: u64) -> Begun {
        let key = subject.key();
        if !self.believed(subject) {
            return Begun::Taken;
        }
        let lease_key = key.refresh();
        let lease = encode(&lease_key, Kind::Lease, SCHEMA, jitter::token(), b"");
        let add = Op::Add { key: lease_key.clone(), value: lease.clone(), ttl_ms: self.times.lease_ms };
        let Some(Ok(Reply::Done(true))) = self.exec(vec![add]).await.pop() else { return Begun::Taken };
        // Only now: before, the one who had the right may have been about to store.
        let sent = self.sending(subject);
        let mut ops = vec![Op::Head(key.clone())];
        ops.extend(subject.companion().cloned().map(Op::Get));
        let replies = self.exec(ops).await;
        let Some((head, companion)) = version(subject, etag, &replies) else {
            self.exec(vec![Op::Release { key: lease_key, expected: lease }]).await;
            return Begun::Gone;
        };
        self.telemetry.of(key.namespace()).loads.up();
        Begun::Right(Refresh { lease_key, lease, head, companion, sent })
    }

    /// Stores what was loaded over the version that was to be refreshed, and gives the right back; whether that version
    /// was still there. It goes also when what was loaded is not to be stored: it is out of date either way.
    pub async fn finish_refresh(&self, subject: &dyn Subject, right: Refresh, loaded: &Loaded) -> bool {
        let key = subject.key();
        let etag = jitter::token();
        let storable = loaded.ttl_ms > 0 && loaded.payload.len() <= subject.longest();
        let (value, ttl_ms) = match storable {
            true => (encode(key, loaded.kind, SCHEMA, etag, &loaded.payload), loaded.ttl_ms),
            false => (encode(key, Kind::Hold, SCHEMA, etag, b""), REMOVED_MS),
        };
        let mut replaced = false;
        if self.believed(subject) {
            let mut ops = Vec::with_capacity(2);
            if let (Some(companion), Some((_, bytes))) = (subject.companion(), right.companion) {
                // The same bytes again: only its end moves.
                let (expected, value) = (bytes.clone(), bytes);
                ops.push(Op::Swap { key: companion.clone(), expected, value, ttl_ms: COMPANION_MS });
            }
            ops.push(Op::Replace { key: key.clone(), head: right.head, value, ttl_ms });
            replaced = matches!(self.exec(ops).await.pop(), Some(Ok(Reply::Done(true))));
        }
        // Only now, and the two may lie on different nodes: whoever gets the right next must find what was stored.
        self.exec(vec![Op::Release { key: right.lease_key, expected: right.lease }]).await;
        let stats = self.telemetry.of(key.namespace());
        if replaced && storable {
            stats.fills.up();
            self.keep(subject, loaded.kind, etag, &loaded.payload, right.sent);
        } else if !replaced {
            stats.fills_refused.up();
        }
        replaced
    }

    /// Gives the right back unused. With a pause nobody gets it before that is over, and nobody waits for it either.
    pub async fn end_refresh(&self, right: Refresh, pause_ms: u64) {
        let (key, expected) = (right.lease_key, right.lease);
        let op = match pause_ms {
            0 => Op::Release { key, expected },
            ttl_ms => {
                let value = encode(&key, Kind::Hold, SCHEMA, jitter::token(), b"");
                Op::Swap { key, expected, value, ttl_ms }
            }
        };
        self.exec(vec![op]).await;
    }

    /// Whether an entry past its time may be taken over: not while somebody refreshes it, who need only be waited for,
    /// and not when it turns out to be a newer one than was asked about.
    pub(super) async fn may_replace(&self, subject: &dyn Subject, payload: &Bytes) -> bool {
        let lease_key = subject.key().refresh();
        let ops = vec![Op::Get(lease_key.clone()), Op::Left(subject.key().clone())];
        let replies = self.exec(ops).await;
        let refreshed = match replies.first() {
            Some(Ok(Reply::Bytes(bytes))) => Stored::read(&lease_key, SCHEMA, bytes.as_ref()),
            _ => Stored::Absent,
        };
        let current = matches!(subject.age(payload, Left::of(&replies)), Age::Current { .. });
        !current && !matches!(refreshed, Stored::Lease { .. })
    }

    /// Whether the store may be believed about an entry and what it depends on.
    fn believed(&self, subject: &dyn Subject) -> bool {
        self.usable(subject.key()) && subject.companion().is_none_or(|one| !self.pending.contains(one))
    }
}

/// Header of version `etag`, and what it depends on, if both are there.
fn version(
    subject: &dyn Subject,
    etag: u64,
    replies: &[StoreResult],
) -> Option<(Bytes, Option<(u64, Bytes)>)> {
    let Some(Ok(Reply::Bytes(Some(head)))) = replies.first() else { return None };
    let header = Header::decode(head)?;
    if header.kind != Kind::Value || header.schema != SCHEMA || header.etag != etag {
        return None;
    }
    let companion = match (subject.companion(), replies.get(1)) {
        (None, _) => None,
        (Some(key), Some(Ok(Reply::Bytes(bytes)))) => match Stored::read(key, SCHEMA, bytes.as_ref()) {
            Stored::Entry { etag, .. } => Some((etag, bytes.clone()?)),
            _ => return None,
        },
        _ => return None,
    };
    // A copy: the bytes may be a view of the whole entry, which need not be held while the source is read.
    Some((Bytes::copy_from_slice(head), companion))
}
