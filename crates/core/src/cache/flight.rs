//! Flights: one load per key in this process, shared by everybody who may share it. It does not load
//! and does not time out; it only connects those who wait with the one who works.
//!
//! Invariant: a caller takes a flight's answer only if the deciding read of that flight began after
//! the caller did, or if the caller itself saw the flight's lease, and what it depends on, in the
//! store. Otherwise an
//! invalidation acknowledged in between could be missed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::base::error::Error;
use crate::base::key::{Key, Namespace};

use super::entry::Found;

const SHARDS: usize = 16;

/// What a flight ends with.
#[derive(Clone, Debug)]
pub struct Landing {
    /// The answer; `Err(Failure)` when there is none.
    pub result: Result<Found, Failure>,
    /// Order number of the moment just before the deciding read was sent.
    pub evidence: u64,
    /// What held in the store while the source was read.
    pub under: Option<Seen>,
}

/// What was seen in the store: the lease on the key, and the version of the entry it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// Token of the lease; `None` = no lease.
    pub lease: Option<u64>,
    /// Etag of the companion; `None` = absent, or the subject has none.
    pub companion: Option<u64>,
}

/// Why a flight has no answer.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The load failed.
    Error(Error),
    /// The caller's loader failed; the JS side keeps its error under this number.
    Loader(u64),
    /// Whoever led is gone; try again.
    Abandoned,
}

/// Several flights may share a key when they load for different tokens.
pub type Binding = [u8; 32];

struct Slot {
    id: u64,
    binding: Option<Binding>,
    landing: watch::Receiver<Option<Landing>>,
    under: Arc<Mutex<Option<Seen>>>,
}

/// The flights of one engine.
#[derive(Default)]
pub struct Flights {
    shards: [Mutex<HashMap<Key, Vec<Slot>, ahash::RandomState>>; SHARDS],
    next: std::sync::atomic::AtomicU64,
}

/// What a caller becomes.
pub enum Join {
    /// The one who works.
    Lead(Lead),
    /// One who waits.
    Follow(watch::Receiver<Option<Landing>>),
}

/// The duty to end a flight; dropping it ends the flight as abandoned.
pub struct Lead {
    flights: Arc<Flights>,
    key: Key,
    id: u64,
    landing: watch::Sender<Option<Landing>>,
    under: Arc<Mutex<Option<Seen>>>,
}

impl Flights {
    /// A number that orders events of this process: larger means later.
    pub fn moment(&self) -> u64 {
        self.next.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1
    }

    /// Joins the flight of `key`, or leads a new one. A flight that reads under a lease other than the
    /// one this caller `saw` in the store has been overtaken by an invalidation and is left alone;
    /// `saw` is `None` when the caller could not look.
    pub fn join(self: &Arc<Self>, key: &Key, binding: Option<Binding>, saw: Option<Seen>) -> Join {
        let mut shard = self.shard(key).lock();
        let slots = shard.entry(key.clone()).or_default();
        slots.retain(|slot| {
            let overtaken = match (saw, *slot.under.lock()) {
                (Some(seen), Some(under)) => seen != under,
                _ => false,
            };
            !(overtaken && slot.binding == binding)
        });
        if let Some(slot) = slots.iter().find(|slot| slot.binding == binding) {
            return Join::Follow(slot.landing.clone());
        }
        let id = self.moment();
        let (sender, receiver) = watch::channel(None);
        let under = Arc::new(Mutex::new(None));
        slots.push(Slot { id, binding, landing: receiver, under: under.clone() });
        Join::Lead(Lead { flights: self.clone(), key: key.clone(), id, landing: sender, under })
    }

    /// Later callers do not join what flies now.
    pub fn void(&self, key: &Key) {
        self.shard(key).lock().remove(key);
    }

    /// As [`Flights::void`], for every key of a namespace.
    pub fn void_namespace(&self, namespace: Namespace) {
        for shard in &self.shards {
            shard.lock().retain(|key, _| key.namespace() != namespace);
        }
    }

    /// Flights in the air.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().values().map(Vec::len).sum::<usize>()).sum()
    }

    /// Whether nothing flies.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &Key) -> &Mutex<HashMap<Key, Vec<Slot>, ahash::RandomState>> {
        &self.shards[key.fingerprint() as usize % SHARDS]
    }

    fn leave(&self, key: &Key, id: u64) {
        let mut shard = self.shard(key).lock();
        if let Some(slots) = shard.get_mut(key) {
            slots.retain(|slot| slot.id != id);
            if slots.is_empty() {
                shard.remove(key);
            }
        }
    }
}

impl Lead {
    /// The source is about to be read while this holds in the store.
    pub fn reading_under(&self, seen: Seen) {
        *self.under.lock() = Some(seen);
    }

    /// Ends the flight.
    pub fn land(self, landing: Landing) {
        // Out of the map first: whoever comes now must read for itself.
        self.flights.leave(&self.key, self.id);
        self.landing.send_replace(Some(landing));
    }

    /// How many wait for this flight.
    pub fn followers(&self) -> usize {
        // The map holds one receiver itself while the flight can be joined.
        self.landing.receiver_count().saturating_sub(1)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.leave(&self.key, self.id);
        if self.landing.borrow().is_none() {
            self.landing.send_replace(Some(Landing {
                result: Err(Failure::Abandoned),
                evidence: 0,
                under: None,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::Keys;

    fn key() -> Key {
        Keys::new("").entry(Namespace::UserBasic, "a")
    }

    #[tokio::test]
    async fn a_dropped_lead_releases_its_followers() {
        let flights = Arc::new(Flights::default());
        let Join::Lead(lead) = flights.join(&key(), None, None) else { panic!("first leads") };
        let Join::Follow(mut follower) = flights.join(&key(), None, None) else { panic!("second follows") };
        drop(lead);
        let landing = follower.wait_for(Option::is_some).await.expect("landed").clone();
        assert!(matches!(landing, Some(Landing { result: Err(Failure::Abandoned), .. })));
        assert!(flights.is_empty());
    }

    #[test]
    fn an_invalidation_separates_earlier_from_later_callers() {
        let flights = Arc::new(Flights::default());
        let Join::Lead(_first) = flights.join(&key(), None, None) else { panic!() };
        flights.void(&key());
        assert!(matches!(flights.join(&key(), None, None), Join::Lead(_)));
    }

    #[test]
    fn a_flight_whose_lease_is_gone_is_not_joined() {
        let flights = Arc::new(Flights::default());
        let Join::Lead(first) = flights.join(&key(), None, Some(Seen::default())) else { panic!() };
        let seven = Seen { lease: Some(7), companion: None };
        assert!(
            matches!(flights.join(&key(), None, Some(Seen::default())), Join::Follow(_)),
            "not reading yet"
        );
        first.reading_under(seven);
        assert!(matches!(flights.join(&key(), None, Some(seven)), Join::Follow(_)), "saw its lease");
        assert!(matches!(flights.join(&key(), None, None), Join::Follow(_)), "could not look");
        let regenerated = Seen { companion: Some(1), ..seven };
        assert!(
            matches!(flights.join(&key(), None, Some(regenerated)), Join::Lead(_)),
            "what it depends on has changed"
        );
        assert!(
            matches!(flights.join(&key(), None, Some(Seen::default())), Join::Lead(_)),
            "somebody deleted it"
        );
    }

    #[test]
    fn tokens_with_one_id_do_not_share_a_flight() {
        let flights = Arc::new(Flights::default());
        let Join::Lead(_first) = flights.join(&key(), Some([1; 32]), None) else { panic!() };
        assert!(matches!(flights.join(&key(), Some([2; 32]), None), Join::Lead(_)));
        assert!(matches!(flights.join(&key(), Some([1; 32]), None), Join::Follow(_)));
    }
}
