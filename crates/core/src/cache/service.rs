//! The cache of one engine: its parts, and whether the store is in service. It sends operations for the
//! others in this folder and notices when they fail; it does not know what they mean.
//!
//! Invariant: nothing is sent to a store that is out of service, except by the guard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::clock::Clock;
use crate::base::key::{Key, Keys, Namespace};
use crate::base::{jitter, limits};
use crate::limiter::Memory;
use crate::store::breaker::{Breaker, State};
use crate::store::{Op, Replies, Size, Store, StoreError, Walk};
use crate::telemetry::Telemetry;

use super::acknowledged::Acknowledged;
use super::flight::Flights;
use super::invalidate::Effect;
use super::moments::Moments;
use super::near::{Near, NearEntry};
use super::pending::Pending;
use super::policy::{NearMode, Times};

/// Longest wait of a first call for the first connection; after it the source answers.
const FIRST_CONNECTION_MS: u64 = 200;

/// Pause between two records about the same refusal.
const REPEAT_MS: u64 = 60_000;

/// The cache of one engine.
pub struct Cache {
    /// The shared tier.
    pub store: Store,
    /// This process's tier.
    pub near: Near,
    /// Loads in the air.
    pub flights: Arc<Flights>,
    /// Invalidations the store has not acknowledged.
    pub pending: Pending,
    /// Builds keys.
    pub keys: Keys,
    /// Reads time.
    pub clock: Clock,
    /// What is known about rate limits beside the store.
    pub limits: Memory,
    /// Counts.
    pub telemetry: Arc<Telemetry>,
    /// Time limits.
    pub times: Times,
    modes: [NearMode; Namespace::ALL.len()],
    /// Guarded by a plain mutex: held for a few instructions, never over an await.
    pub(super) breaker: Mutex<Breaker>,
    /// The breaker's `Closed`, so that the hot path asks without locking.
    pub(super) in_service: AtomicBool,
    /// Whether the first connection was made or given up: only before that does a call wait for it.
    pub(super) settled: AtomicBool,
    /// Wakes the guard.
    pub(super) wake: Notify,
    /// Woken by the guard whenever the store goes into service or a replay ends.
    pub(super) changed: Notify,
    /// Monotonic time at which the last own heartbeat that was heard had been sent: everything announced before
    /// it has been heard too. 0 = nothing is known.
    pub(super) heard_ms: AtomicU64,
    /// Own heartbeats sent up to here prove nothing: the store failed or returned since, and what was announced
    /// meanwhile may still be on its way behind them.
    pub(super) beats_from_ms: AtomicU64,
    /// When the guard sent a heartbeat, and when it looked whether every node answers.
    pub(super) beaten_ms: AtomicU64,
    /// See `beaten_ms`.
    pub(super) probed_ms: AtomicU64,
    /// Somebody asked for answers without a round trip although no namespace is configured so.
    pub(super) wants: AtomicBool,
    /// What is voided whenever the store comes back: it may be another server, which never heard of the last
    /// invalidations.
    returns: Vec<(Key, Effect)>,
    /// Whether the store was in service before.
    pub(super) served: AtomicBool,
    /// Another server answers than when it was in service last.
    pub(super) other: AtomicBool,
    /// What the store acknowledged lately, for the same reason.
    pub(super) acknowledged: Acknowledged,
    /// When a refusal was logged last.
    spoke_ms: AtomicU64,
    /// Since when things are as they are.
    pub moments: Moments,
    /// Tells this instance's heartbeats from those of others.
    pub(super) instance: u64,
}

impl Cache {
    /// Puts the parts together. The guard must be started for the store to come into service.
    pub fn new(
        store: Store,
        near: Near,
        keys: Keys,
        clock: Clock,
        telemetry: Arc<Telemetry>,
        times: Times,
        modes: [NearMode; Namespace::ALL.len()],
    ) -> Self {
        let breaker = Breaker::new(clock.now_ms());
        let instance = jitter::token();
        Self {
            limits: Memory::new(instance),
            store,
            near,
            flights: Arc::default(),
            pending: Pending::default(),
            keys,
            clock,
            telemetry,
            times,
            modes,
            breaker: Mutex::new(breaker),
            in_service: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            wake: Notify::new(),
            changed: Notify::new(),
            heard_ms: AtomicU64::new(0),
            beats_from_ms: AtomicU64::new(0),
            beaten_ms: AtomicU64::new(0),
            probed_ms: AtomicU64::new(0),
            wants: AtomicBool::new(false),
            returns: Vec::new(),
            served: AtomicBool::new(false),
            other: AtomicBool::new(false),
            acknowledged: Acknowledged::default(),
            spoke_ms: AtomicU64::new(0),
            moments: Moments::default(),
            instance,
        }
    }

    /// Voids these whenever another server may answer than before.
    pub fn voiding_on_return(self, returns: Vec<(Key, Effect)>) -> Self {
        Self { returns, ..self }
    }

    /// How a namespace uses the near cache.
    pub fn mode(&self, namespace: Namespace) -> NearMode {
        self.modes[namespace.index()]
    }

    /// Whether near copies of a namespace may be served without asking.
    pub fn is_bounded(&self, namespace: Namespace) -> bool {
        matches!(self.mode(namespace), NearMode::Bounded { .. })
    }

    /// Whether some namespace is configured to be served without asking.
    pub fn serves_unasked(&self) -> bool {
        self.modes.iter().any(|mode| matches!(mode, NearMode::Bounded { .. }))
    }

    /// Whether anybody relies on announcements for entries.
    pub fn listens(&self) -> bool {
        self.wants.load(Ordering::Relaxed) || self.serves_unasked()
    }

    /// From now on what is needed to answer entries without asking is kept.
    pub fn want_announcements(&self) {
        self.wants.store(true, Ordering::Relaxed);
    }

    /// Whether other instances may share the store, and are told that this one is there.
    pub fn is_shared(&self) -> bool {
        matches!(self.store, Store::Valkey(_))
    }

    /// The store is to be told something although it is in service.
    pub fn wake_guard(&self) {
        self.wake.notify_one();
    }

    /// What must be sent again before a store that was away is believed: another server may answer in its
    /// place, which lost the last writes of the one before. What was acknowledged after `began_ms` was so by this one.
    pub(super) fn remember_for_return(&self, failed_ms: u64, began_ms: u64) {
        for (key, effect) in self.returns.iter().cloned().chain(self.acknowledged.since(failed_ms, began_ms))
        {
            if !self.pending.contains(&key) {
                let _ = self.pending.add(&key, effect);
            }
        }
    }

    /// Whether near copies may be served without asking at all just now.
    pub fn unasked(&self) -> bool {
        self.available() && self.hears() && self.pending.is_empty()
    }

    /// Whether the store is in service.
    pub fn available(&self) -> bool {
        self.in_service.load(Ordering::SeqCst)
    }

    /// Whether the store may be believed about rate limits.
    pub fn counts_limits(&self) -> bool {
        self.available() && self.limits.is_trusted()
    }

    /// Whether the store may be believed about `key`.
    pub fn usable(&self, key: &Key) -> bool {
        self.available() && !self.pending.contains(key)
    }

    /// Tells this instance from others.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Whether a read need not wait for the first connection.
    pub fn is_ready(&self) -> bool {
        matches!(self.store, Store::None) || self.settled.load(Ordering::SeqCst)
    }

    /// Waits until the store went into service for the first time, or did not within its connect timeout.
    pub async fn ready(&self) {
        let limit = Duration::from_millis(self.times.connect_ms.min(FIRST_CONNECTION_MS));
        let connected = async {
            loop {
                let changed = self.changed.notified();
                if self.is_ready() {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(limit, connected).await.is_err() {
            // Whoever comes later does not wait again: a store that is not there is not there.
            self.settled.store(true, Ordering::SeqCst);
            self.changed.notify_waiters();
        }
    }

    /// Runs operations, counts them, and takes the store out of service when it fails.
    pub async fn exec(&self, ops: Vec<Op>) -> Replies {
        if !self.available() {
            return ops.iter().map(|_| Err(out_of_service())).collect();
        }
        self.telemetry.round_trips.up();
        self.telemetry.commands.add(ops.len() as u64);
        let replies = self.store.exec(ops).await;
        self.observe(&replies);
        replies
    }

    /// The next page of a walk over the keys of the store; `None` = it is over.
    pub async fn walk(&self, walk: &mut Walk) -> Result<Option<Vec<Bytes>>, StoreError> {
        if !self.available() {
            return Err(out_of_service());
        }
        self.telemetry.round_trips.up();
        self.telemetry.commands.up();
        self.store.walk(walk).await.inspect_err(|error| self.observe_error(error))
    }

    /// How large the store is, as far as it says so.
    pub async fn size(&self) -> Result<Size, StoreError> {
        if !self.available() {
            return Err(out_of_service());
        }
        self.store.size().await.inspect_err(|error| self.observe_error(error))
    }

    fn observe(&self, replies: &Replies) {
        for error in replies.iter().filter_map(|reply| reply.as_ref().err()) {
            self.observe_error(error);
        }
    }

    fn observe_error(&self, error: &StoreError) {
        self.telemetry.store_errors.up();
        if *error == StoreError::Timeout {
            self.telemetry.store_timeouts.up();
        }
        self.moments.refused(error, self.clock.now_ms());
        match error {
            error if error.opens_breaker() => self.store_failed(error),
            // Said at most once a minute: a missing right refuses every request.
            StoreError::Refused(reason) if self.speaks() => {
                tracing::error!(component = "store", reason = %reason, "the store refuses a command");
            }
            _ => {}
        }
    }

    fn speaks(&self) -> bool {
        let now = self.clock.now_ms() + REPEAT_MS;
        let last = self.spoke_ms.load(Ordering::Relaxed);
        now >= last + REPEAT_MS
            && self.spoke_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn store_failed(&self, error: &StoreError) {
        let opened = {
            let mut breaker = self.breaker.lock();
            let opened = breaker.failed(self.clock.now_ms());
            if opened {
                self.in_service.store(false, Ordering::SeqCst);
                self.limits.distrust();
            }
            opened
        };
        if opened {
            // What was announced meanwhile may not be heard: only the next message proves the opposite.
            self.distrust_beats();
            self.telemetry.breaker_opened.up();
            tracing::warn!(component = "store", reason = ?error, "the store is out of service");
            self.wake.notify_one();
        }
    }

    /// Only a heartbeat sent from now on proves that announcements arrive.
    pub(super) fn distrust_beats(&self) {
        self.beats_from_ms.store(self.clock.now_ms(), Ordering::SeqCst);
        self.heard_ms.store(0, Ordering::SeqCst);
    }

    /// The breaker's state and since when, in monotonic milliseconds.
    pub fn breaker_state(&self) -> (State, u64) {
        let breaker = self.breaker.lock();
        (breaker.state(), breaker.since_ms())
    }

    /// Since when announcements do not arrive, while they do not: the last one that was heard, and the silence that
    /// is no sign yet; or the failure since which no older one counts.
    pub fn deaf_since_ms(&self) -> u64 {
        match self.heard_ms.load(Ordering::SeqCst) {
            0 => self.beats_from_ms.load(Ordering::SeqCst),
            heard => heard + limits::SUBSCRIPTION_SILENCE_MS,
        }
    }

    /// Whether announcements arrive.
    pub fn hears(&self) -> bool {
        let heard = self.heard_ms.load(Ordering::SeqCst);
        heard > 0 && self.clock.now_ms().saturating_sub(heard) < limits::SUBSCRIPTION_SILENCE_MS
    }

    /// A near copy that may be served without asking anybody.
    pub fn bounded(&self, namespace: Namespace, key: &[u8]) -> Option<Arc<NearEntry>> {
        let NearMode::Bounded { max_age_ms } = self.mode(namespace) else { return None };
        let now = self.clock.now_ms();
        let entry = self.near.peek(key, now)?;
        let fresh = now.saturating_sub(entry.checked_ms()) < max_age_ms;
        (fresh && self.unasked()).then_some(entry)
    }
}

fn out_of_service() -> StoreError {
    StoreError::Unavailable("the store is out of service".into())
}
