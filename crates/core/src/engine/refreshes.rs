//! Results that are answered although they are past their time or about to be: what their callers are told, and the
//! queries that run again meanwhile. Not when that is so, which is `datasource`, and not how it is fenced, which is
//! `cache::refresh`.
//!
//! Invariant: a refresh that was handed out is ended by its result, by the end of its environment, or by the end of the
//! time that a query may take, whichever comes first; nobody waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::error::Error;
use crate::base::key::Key;
use crate::base::{jitter, limits};
use crate::cache::Found;
use crate::cache::policy::Subject;
use crate::cache::refresh::{Begun, Refresh};
use crate::datasource::{ResultSubject, Wish};
use crate::store::Op;

use super::hot::Read;
use super::{Core, Outcome};

/// Which version of a result is to be refreshed, and by whom.
#[derive(Clone, Debug)]
pub struct RefreshRequest {
    /// As in the request that was answered with it.
    pub source: String,
    /// See `source`.
    pub hash: String,
    /// See `source`.
    pub ttl_ms: u64,
    /// See `source`.
    pub wish: Wish,
    /// The version that was answered.
    pub etag: u64,
    /// Whose JavaScript runs the query.
    pub env: u64,
}

/// A query that runs again.
struct Running {
    right: Refresh,
    subject: ResultSubject,
    /// The version that is refreshed.
    etag: u64,
    env: u64,
    begun_ms: u64,
    /// Given back when this ends.
    _room: OwnedSemaphorePermit,
}

/// The refreshes of one engine.
pub(super) struct Refreshes {
    /// By the number of the lead. Held for a few instructions, never over an await; as `marks`.
    running: Mutex<HashMap<u64, Running, ahash::RandomState>>,
    marks: Mutex<Marks>,
    room: Arc<Semaphore>,
}

impl Default for Refreshes {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(limits::REFRESHES));
        Self { running: Mutex::default(), marks: Mutex::default(), room }
    }
}

impl Refreshes {
    /// The numbers of those whose environment is meant.
    pub(super) fn of(&self, env: impl Fn(u64) -> bool) -> Vec<u64> {
        let running = self.running.lock();
        running.iter().filter(|(_, one)| env(one.env)).map(|(number, _)| *number).collect()
    }

    /// What keeps the right of one; `None` when it has ended.
    pub(super) fn renewal(&self, number: u64, ttl_ms: u64) -> Option<Vec<Op>> {
        self.running.lock().get(&number).map(|one| one.right.renewal(ttl_ms))
    }

    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.running.lock().len()
    }
}

/// Versions of results to be left alone, each until its time: so that of many hits of one moment one asks for the right
/// to refresh.
#[derive(Default)]
struct Marks(HashMap<Key, Mark, ahash::RandomState>);

struct Mark {
    etag: u64,
    until_ms: u64,
}

impl Marks {
    /// Marks a version unless it is marked already, or too many are.
    fn take(&mut self, key: &Key, etag: u64, now_ms: u64, until_ms: u64) -> bool {
        if self.0.get(key).is_some_and(|mark| mark.etag == etag && now_ms < mark.until_ms) {
            return false;
        }
        if self.0.len() >= limits::REFRESH_MARKS && !self.0.contains_key(key) {
            self.0.retain(|_, mark| now_ms < mark.until_ms);
            if self.0.len() >= limits::REFRESH_MARKS {
                return false;
            }
        }
        self.0.insert(key.clone(), Mark { etag, until_ms });
        true
    }

    /// Moves the end of a mark, if it is still the one of that version; 0 takes it away.
    fn set(&mut self, key: &Key, etag: u64, until_ms: u64) {
        match self.0.get_mut(key) {
            Some(mark) if mark.etag == etag && until_ms > 0 => mark.until_ms = until_ms,
            Some(mark) if mark.etag == etag => _ = self.0.remove(key),
            _ => {}
        }
    }
}

impl Core {
    /// The answer of an entry that was found, and what its caller is to know of its age.
    pub(super) fn hit(&self, read: &Read, found: &Found, full: bool) -> Outcome {
        let outcome = read.outcome(found, full);
        let Read::Result { subject, .. } = read else { return outcome };
        let advice = subject.advise(&found.payload, found.left, jitter::share());
        self.telemetry.results_stale.add(u64::from(advice.stale));
        let now = self.cache.clock.now_ms();
        // Until its lease would have ended: whoever is told to may be gone before asking for it.
        let until = now + self.cache.times.lease_ms;
        let refresh =
            advice.refresh && self.refreshes.marks.lock().take(subject.key(), found.etag, now, until);
        if !advice.stale && !refresh {
            return outcome;
        }
        Outcome::Aged {
            found: Box::new(outcome),
            stale: advice.stale,
            refresh: refresh.then_some(found.etag),
        }
    }

    /// Hands out the right to run a query again, or nothing when somebody else does or it is no longer called for.
    pub(super) async fn begin_refresh(self: &Arc<Self>, asked: RefreshRequest) -> Result<Outcome, Error> {
        let RefreshRequest { source, hash, ttl_ms, wish, etag, env } = asked;
        let subject = self.result(&source, &hash, ttl_ms, wish)?;
        let room = self.refreshes.room.clone().try_acquire_owned().ok();
        let begun = match room.is_some() && !self.closing() {
            true => self.cache.begin_refresh(&subject, etag).await,
            false => Begun::Taken,
        };
        let now = self.cache.clock.now_ms();
        let key = subject.key().clone();
        let (right, room) = match (begun, room) {
            (Begun::Right(right), Some(room)) => (right, room),
            (begun, _) => {
                let again = if matches!(begun, Begun::Gone) { 0 } else { now + limits::REFRESH_AGAIN_MS };
                self.refreshes.marks.lock().set(&key, etag, again);
                return Ok(Outcome::Nothing);
            }
        };
        let number = self.next_lead.fetch_add(1, Ordering::SeqCst) + 1;
        let longest_ms = subject.longest_load_ms(&self.cache.times);
        let running = Running { right, subject, etag, env, begun_ms: now, _room: room };
        self.refreshes.running.lock().insert(number, running);
        self.refreshes.marks.lock().set(&key, etag, now + longest_ms);
        self.telemetry.refreshes.up();
        self.watch(number, longest_ms);
        Ok(Outcome::Lead(number))
    }

    /// Ends a refresh with the JSON of its result, or as failed.
    pub(super) async fn end_refresh(&self, number: u64, json: Option<String>) {
        let Some(Running { right, subject, etag, begun_ms, .. }) =
            self.refreshes.running.lock().remove(&number)
        else {
            return;
        };
        let key = subject.key();
        let Some(json) = json else {
            self.telemetry.refreshes_failed.up();
            // Not what it threw, which may hold personal data and is the application's to log.
            tracing::warn!(component = "datasource", key = ?key, "a query that was run again in the background failed");
            let until = self.cache.clock.now_ms() + limits::REFRESH_PAUSE_MS;
            self.refreshes.marks.lock().set(key, etag, until);
            return self.cache.end_refresh(right, limits::REFRESH_PAUSE_MS).await;
        };
        let loaded = self.packed(&subject, json, right.companion(), begun_ms).await;
        let replaced = self.cache.finish_refresh(&subject, right, &loaded).await;
        self.telemetry.refreshes_refused.add(u64::from(!replaced));
        self.refreshes.marks.lock().set(key, etag, 0);
    }

    /// Gives a refresh back that nobody will end, or not in time.
    pub(super) async fn forget_refresh(&self, number: u64) {
        let gone = self.refreshes.running.lock().remove(&number);
        if let Some(Running { right, subject, etag, .. }) = gone {
            self.telemetry.refreshes_refused.up();
            self.refreshes.marks.lock().set(subject.key(), etag, 0);
            self.cache.end_refresh(right, 0).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::Keys;

    fn key(number: usize) -> Key {
        Keys::new("").result("s", &number.to_string())
    }

    #[test]
    fn of_many_hits_of_one_moment_one_refreshes() {
        let mut marks = Marks::default();
        let taken = (0..1_000).filter(|_| marks.take(&key(1), 7, 100, 200)).count();
        assert_eq!(taken, 1);
        assert!(marks.take(&key(2), 7, 100, 200), "another one");
        assert!(!marks.take(&key(1), 7, 199, 300) && marks.take(&key(1), 7, 200, 300), "until its end");
        marks.set(&key(1), 7, 250);
        assert!(!marks.take(&key(1), 7, 249, 300));
        marks.set(&key(1), 7, 0);
        assert!(marks.take(&key(1), 7, 201, 300));
        assert!(marks.take(&key(1), 8, 202, 300), "another version");
        marks.set(&key(1), 7, 0);
        assert!(!marks.take(&key(1), 8, 203, 300), "the end of an older one is not its");
        marks.set(&key(3), 7, 900);
        assert!(marks.take(&key(3), 7, 201, 300), "what was not marked is not by moving its end");
    }

    #[test]
    fn marks_are_bounded_and_those_that_ended_make_room() {
        let mut marks = Marks::default();
        for number in 0..limits::REFRESH_MARKS {
            assert!(marks.take(&key(number), 7, 100, 200 + number as u64 % 2));
        }
        assert!(!marks.take(&key(limits::REFRESH_MARKS), 7, 100, 200), "full");
        assert!(marks.take(&key(limits::REFRESH_MARKS), 7, 200, 300), "half of them ended");
        assert_eq!(marks.0.len(), limits::REFRESH_MARKS / 2 + 1);
    }
}
