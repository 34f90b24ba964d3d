//! Flights: one load per key in this process, shared by everybody who may share it. It does not load
//! and does not time out; it only connects those who wait with the one who works.
//!
//! Invariant: a caller takes a flight's answer only if the deciding read of that flight began after
//! the caller did, or if the caller itself saw the flight's lease, and what it depends on, in the
//! store. Otherwise an
//! invalidation acknowledged in between could be missed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::base::error::Error;
use crate::base::key::Key;

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

impl Landing {
    /// Whether somebody who comes late may need it: a small answer that is not in the store, or an error. An
    /// abandoned load has no answer to share.
    fn is_worth_keeping(&self) -> bool {
        match &self.result {
            Ok(found) => self.under.is_none() && found.payload.len() <= RECENT_BYTES,
            Err(Failure::Abandoned) => false,
            Err(_) => true,
        }
    }
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
    under: Arc<Mutex<Option<(Seen, u64)>>>,
}

/// Landings that nothing in the store stands for, of one shard: whoever was called before such a load began,
/// but comes to it only now, shares it all the same.
const RECENT: usize = 32;
/// Larger payloads are not kept for that.
const RECENT_BYTES: usize = 4_096;

#[derive(Default)]
struct Shard {
    flying: HashMap<Key, Vec<Slot>, ahash::RandomState>,
    recent: VecDeque<(Key, Option<Binding>, Landing)>,
}

/// The flights of one engine.
#[derive(Default)]
pub struct Flights {
    shards: [Mutex<Shard>; SHARDS],
    next: std::sync::atomic::AtomicU64,
}

/// What a caller becomes.
pub enum Join {
    /// The one who works.
    Lead(Lead),
    /// One who came late to a load that began after its call.
    Landed(Landing),
    /// One who waits.
    Follow(watch::Receiver<Option<Landing>>),
}

/// The duty to end a flight; dropping it ends the flight as abandoned.
pub struct Lead {
    flights: Arc<Flights>,
    key: Key,
    binding: Option<Binding>,
    id: u64,
    landing: watch::Sender<Option<Landing>>,
    under: Arc<Mutex<Option<(Seen, u64)>>>,
}

impl Flights {
    /// A number that orders events of this process: larger means later.
    pub fn moment(&self) -> u64 {
        self.next.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1
    }

    /// Joins the flight of `key`, or leads a new one. A flight that reads under a lease other than the
    /// one this caller `saw` in the store has been overtaken by an invalidation and is left alone;
    /// `saw` is `None` when the caller could not look.
    /// `moment` is when the caller was called.
    pub fn join(
        self: &Arc<Self>,
        key: &Key,
        binding: Option<Binding>,
        saw: Option<Seen>,
        moment: u64,
    ) -> Join {
        let mut shard = self.shard(key).lock();
        let landed =
            shard.recent.iter().rev().find(|(known, bound, landing)| {
                known == key && *bound == binding && landing.evidence >= moment
            });
        if let Some((_, _, landing)) = landed {
            return Join::Landed(landing.clone());
        }
        let slots = shard.flying.entry(key.clone()).or_default();
        slots.retain(|slot| {
            let overtaken = match (saw, *slot.under.lock()) {
                (Some(seen), Some((under, evidence))) => seen != under && evidence < moment,
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
        Join::Lead(Lead { flights: self.clone(), key: key.clone(), binding, id, landing: sender, under })
    }

    /// Later callers do not join what flies now.
    pub fn void(&self, key: &Key) {
        self.shard(key).lock().flying.remove(key);
    }

    /// Whether somebody loads `key` already.
    pub fn flies(&self, key: &Key) -> bool {
        self.shard(key).lock().flying.contains_key(key)
    }

    /// Flights in the air.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().flying.values().map(Vec::len).sum::<usize>()).sum()
    }

    /// Whether nothing flies.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        &self.shards[key.fingerprint() as usize % SHARDS]
    }

    fn leave(&self, key: &Key, id: u64) {
        let mut shard = self.shard(key).lock();
        if let Some(slots) = shard.flying.get_mut(key) {
            slots.retain(|slot| slot.id != id);
            if slots.is_empty() {
                shard.flying.remove(key);
            }
        }
    }
}

impl Lead {
    /// The source is about to be read, from `evidence` on, while this holds in the store.
    pub fn reading_under(&self, seen: Seen, evidence: u64) {
        *self.under.lock() = Some((seen, evidence));
    }

    /// Ends the flight.
    pub fn land(self, landing: Landing) {
        // Out of the map first: whoever comes now must read for itself.
        self.flights.leave(&self.key, self.id);
        if landing.is_worth_keeping() {
            let mut shard = self.flights.shard(&self.key).lock();
            if shard.recent.len() == RECENT {
                shard.recent.pop_front();
            }
            shard.recent.push_back((self.key.clone(), self.binding, landing.clone()));
        }
        self.landing.send_replace(Some(landing));
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
    use crate::base::key::{Keys, Namespace};

    fn key() -> Key {
        Keys::new("").entry(Namespace::UserBasic, "a")
    }

    #[tokio::test]
    async fn a_dropped_lead_releases_its_followers() {
        let flights = Arc::new(Flights::default());
        let Join::Lead(lead) = flights.join(&key(), None, None, u64::MAX) else { panic!("first leads") };
        let Join::Follow(mut follower) = flights.join(&key(), None, None, u64::MAX) else {
            panic!("second follows")
        };
        drop(lead);
        let landing = follower.wait_for(Option::is_some).await.expect("landed").clone();
        assert!(matches!(landing, Some(Landing { result: Err(Failure::Abandoned), .. })));
        assert!(flights.is_empty());
    }

    #[test]
    fn an_invalidation_separates_earlier_from_later_callers() {
        let flights = Arc::new(Flights::default());
        let Join::Lead(_first) = flights.join(&key(), None, None, u64::MAX) else { panic!() };
        flights.void(&key());
        assert!(matches!(flights.join(&key(), None, None, u64::MAX), Join::Lead(_)));
    }

    #[test]
    fn a_flight_whose_lease_is_gone_is_not_joined() {
        let flights = Arc::new(Flights::default());
        let Join::Lead(first) = flights.join(&key(), None, Some(Seen::default()), u64::MAX) else { panic!() };
        let seven = Seen { lease: Some(7), companion: None };
        assert!(
            matches!(flights.join(&key(), None, Some(Seen::default()), u64::MAX), Join::Follow(_)),
            "not reading yet"
        );
        first.reading_under(seven, 10);
        assert!(
            matches!(flights.join(&key(), None, Some(seven), u64::MAX), Join::Follow(_)),
            "saw its lease"
        );
        assert!(matches!(flights.join(&key(), None, None, u64::MAX), Join::Follow(_)), "could not look");
        let regenerated = Seen { companion: Some(1), ..seven };
        assert!(
            matches!(flights.join(&key(), None, Some(regenerated), u64::MAX), Join::Lead(_)),
            "what it depends on has changed"
        );
        assert!(
            matches!(flights.join(&key(), None, Some(Seen::default()), u64::MAX), Join::Lead(_)),
            "somebody deleted it"
        );
    }

    #[test]
    fn who_was_called_before_a_load_began_shares_it_even_when_it_comes_after_its_end() {
        let flights = Arc::new(Flights::default());
        let (early, late) = (flights.moment(), 100);
        let Join::Lead(lead) = flights.join(&key(), None, None, early) else { panic!() };
        lead.land(Landing { result: Err(Failure::Loader(7)), evidence: 50, under: None });
        assert!(matches!(flights.join(&key(), None, None, early), Join::Landed(_)));
        assert!(
            matches!(flights.join(&key(), Some([1; 32]), None, early), Join::Lead(_)),
            "not of another token"
        );
        assert!(matches!(flights.join(&key(), None, None, late), Join::Lead(_)), "not when called later");
        flights.void(&key());
        let Join::Lead(lead) = flights.join(&key(), None, None, late) else { panic!() };
        lead.land(Landing { result: Err(Failure::Abandoned), evidence: 200, under: None });
        assert!(matches!(flights.join(&key(), None, None, late), Join::Lead(_)), "nothing to share");
    }

    #[test]
    fn tokens_with_one_id_do_not_share_a_flight() {
        let flights = Arc::new(Flights::default());
        let Join::Lead(_first) = flights.join(&key(), Some([1; 32]), None, u64::MAX) else { panic!() };
        assert!(matches!(flights.join(&key(), Some([2; 32]), None, u64::MAX), Join::Lead(_)));
        assert!(matches!(flights.join(&key(), Some([1; 32]), None, u64::MAX), Join::Follow(_)));
    }
}
