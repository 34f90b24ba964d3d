//! What a namespace says about its entries, and what the read path is allowed to take. Data and one trait.

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::key::Key;
use crate::base::limits;

use super::entry::{Age, Left, Verdict};
use super::flight::Binding;

/// How a namespace uses the near cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearMode {
    /// Kept, and confirmed with the store on every read.
    Validated,
    /// Kept, and served without asking for at most so long while announcements arrive.
    Bounded { max_age_ms: u64 },
    /// Not kept.
    Off,
}

/// Time limits of the read path, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Longest life of a lease.
    pub lease_ms: u64,
    /// How long to wait for another process before taking over.
    pub wait_ms: u64,
    /// How long a first call waits for the first connection.
    pub connect_ms: u64,
}

/// What is read: its key and what the namespace knows about it.
pub trait Subject: Send + Sync {
    /// Where it is stored.
    fn key(&self) -> &Key;
    /// An entry whose version the value depends on: it is read in the same round trip, created when it
    /// is absent, and replacing it voids the value.
    fn companion(&self) -> Option<&Key> {
        None
    }
    /// Separates flights that share a key but load different things.
    fn binding(&self) -> Option<Binding> {
        None
    }
    /// Whether an entry may be answered, given the companion's version.
    fn judge(&self, _kind: Kind, _payload: &Bytes, _companion: Option<u64>) -> Verdict {
        Verdict::Accept
    }
    /// Whether entries may be kept beyond their time, so that whoever fetches one asks how long it still lives.
    fn ages(&self) -> bool {
        false
    }
    /// Whether this is asked already when the entry is only looked at; `copy` is what is known of it.
    fn asks_age(&self, _copy: Option<&Bytes>) -> bool {
        false
    }
    /// How old an entry is that `judge` accepts.
    fn age(&self, _payload: &Bytes, _left: Left) -> Age {
        Age::Current { left_ms: u64::MAX }
    }
    /// How long past its time an entry still serves this very caller. A load that is shared never ends with one.
    fn takes_past_ms(&self) -> u64 {
        0
    }
    /// Longest payload that is stored.
    fn longest(&self) -> usize {
        limits::ENTRY_BYTES
    }
    /// How long to wait for another process that loads, before its right is taken over.
    fn patience_ms(&self, times: &Times) -> u64 {
        times.wait_ms
    }
    /// How long a loader may take that JavaScript runs: until then its lease is renewed, after it nobody waits for it.
    fn longest_load_ms(&self, times: &Times) -> u64 {
        times.lease_ms
    }
    /// Until when a near copy may be used; 0 = not kept.
    fn near_until_ms(&self, payload: &Bytes, now_ms: u64) -> u64;
}

/// Version of the payload's shape, the same for all namespaces so far.
pub const SCHEMA: u8 = 1;

/// Life of a companion once something depends on it. Created before a load it lives only as long as the lease,
/// so that tokens nobody has verified yet leave nothing behind. When it ends early, that is an invalidation.
pub const COMPANION_MS: u64 = 24 * 3_600 * 1_000;
