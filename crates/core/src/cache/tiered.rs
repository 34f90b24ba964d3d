//! The one read path: near copy, store, flight, source, fenced fill.
//!
//! ```text
//! look -> judge -> (found)
//!             \-> begin -> (found by somebody else) | lead -> load -> finish
//! ```
//!
//! `look` and `judge` are the hot half: many reads of one batch share a round trip between them. The
//! cold half runs per key and owns the lease.
//!
//! Invariant: only `finish` stores a value, and only over the lease that `begin` got before the source
//! was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::clock::Clock;
use crate::base::codec::Kind;
use crate::base::error::{Code, Error};
use crate::base::key::{Key, Keys, Namespace};
use crate::base::{jitter, limits};
use crate::store::breaker::{Breaker, State};
use crate::store::{Op, Replies, Reply, Store, StoreError, StoreResult};
use crate::telemetry::{Telemetry, Tier};

use super::entry::{Found, Loaded, Stored, Verdict, encode};
use super::flight::{Binding, Failure, Flights, Join, Landing, Lead, Seen};
use super::near::{Near, NearEntry};
use super::pending::Pending;

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
    /// Until when a near copy may be used; 0 = not kept.
    fn near_until_ms(&self, payload: &Bytes, now_ms: u64) -> u64;
}

/// Version of the payload's shape, the same for all namespaces so far.
pub const SCHEMA: u8 = 1;

/// Life of a companion once something depends on it. Created before a load it lives only as long as the lease,
/// so that tokens nobody has verified yet leave nothing behind. When it ends early, that is an invalidation.
pub const COMPANION_MS: u64 = 24 * 3_600 * 1_000;

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
    /// Monotonic time of the last announcement heard; 0 = not subscribed.
    pub(super) heard_ms: AtomicU64,
    /// When a refusal was logged last.
    spoke_ms: AtomicU64,
}

/// A read on its way to the store.
pub struct Look {
    near: Option<Arc<NearEntry>>,
    asked: Asked,
    /// How many operations were added to the batch: 0, 1, or 2 with a companion.
    pub ops: usize,
}

/// What the cold half must know about the start of a read.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Order number of its start.
    pub moment: u64,
    /// When its commands were sent, as far as keeping the reply is concerned.
    sent: Sent,
    /// What it saw in the store; `None` = it could not look.
    saw: Option<Seen>,
}

/// The state of this process just before commands were sent: what a reply is compared with before it is
/// kept.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Epoch of the key.
    epoch: u64,
    /// Epoch of its companion.
    companion_epoch: u64,
    /// Monotonic time.
    at_ms: u64,
}

/// What a reply says.
pub enum Judged {
    /// The answer.
    Found(Found),
    /// There is another version than the near copy: fetch it.
    Changed(Asked),
    /// Not in the store, or not usable.
    Miss(Asked),
}

/// The right to fill an entry: the lease as it stands in the store, and what the value depends on.
#[derive(Clone, Debug)]
pub struct Lease {
    bytes: Bytes,
    seen: Seen,
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

/// The right to load, and the duty to `finish` or `fail`. Dropping it abandons the flight; the lease
/// then ends by itself.
pub struct LoadRight {
    lead: Lead,
    lease: Option<Lease>,
    evidence: u64,
}

impl LoadRight {
    /// How many wait for this load.
    pub fn followers(&self) -> usize {
        self.lead.followers()
    }

    /// The lease, when the result may be stored.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }
}

/// Outcome of `begin`.
pub enum Begin {
    /// Somebody else found it.
    Found(Found),
    /// Load it.
    Lead(LoadRight),
    /// The loader of somebody else failed; the JS side has its error under this number.
    LoaderFailed(u64),
}

enum Right {
    Fill(Lease),
    NoFill,
    Answer(Found, u64),
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
        Self {
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
            spoke_ms: AtomicU64::new(0),
        }
    }

    /// How a namespace uses the near cache.
    pub fn mode(&self, namespace: Namespace) -> NearMode {
        self.modes[namespace.index()]
    }

    /// Whether any namespace relies on announcements.
    pub fn listens(&self) -> bool {
        self.modes.iter().any(|mode| matches!(mode, NearMode::Bounded { .. }))
    }

    /// Whether the store is in service.
    pub fn available(&self) -> bool {
        self.in_service.load(Ordering::SeqCst)
    }

    /// Whether the store may be believed about `key`.
    pub fn usable(&self, key: &Key) -> bool {
        self.available() && !self.pending.contains(key)
    }

    /// Whether a read need not wait for the first connection.
    pub fn is_ready(&self) -> bool {
        matches!(self.store, Store::None) || self.settled.load(Ordering::SeqCst)
    }

    /// Waits until the store went into service for the first time, or did not within its connect timeout.
    pub async fn ready(&self) {
        let limit = Duration::from_millis(self.times.connect_ms);
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
            return ops
                .iter()
                .map(|_| Err(StoreError::Unavailable("the store is out of service".into())))
                .collect();
        }
        self.telemetry.round_trips.up();
        self.telemetry.commands.add(ops.len() as u64);
        let replies = self.store.exec(ops).await;
        self.observe(&replies);
        replies
    }

    fn observe(&self, replies: &Replies) {
        for error in replies.iter().filter_map(|reply| reply.as_ref().err()) {
            self.telemetry.store_errors.up();
            if *error == StoreError::Timeout {
                self.telemetry.store_timeouts.up();
            }
            match error {
                error if error.opens_breaker() => self.store_failed(error),
                // Said at most once a minute: a missing right refuses every request.
                StoreError::Refused(reason) if self.speaks() => {
                    tracing::error!(component = "store", reason = %reason, "the store refuses a command");
                }
                _ => {}
            }
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
            }
            opened
        };
        if opened {
            self.telemetry.breaker_opened.up();
            tracing::warn!(component = "store", reason = ?error, "the store is out of service");
            self.wake.notify_one();
        }
    }

    /// The breaker's state and since when, in monotonic milliseconds.
    pub fn breaker_state(&self) -> (State, u64) {
        let breaker = self.breaker.lock();
        (breaker.state(), breaker.since_ms())
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
        (fresh && self.available() && self.hears() && self.pending.is_empty()).then_some(entry)
    }

    /// Starts a read: adds to `ops` what to ask the store, if it may be believed.
    pub fn look(&self, subject: &dyn Subject, ops: &mut Vec<Op>) -> Look {
        let key = subject.key();
        let asked = self.ask(subject);
        let near = match self.mode(key.namespace()) {
            NearMode::Off => None,
            _ => self.near.get(key, asked.sent.at_ms),
        };
        let before = ops.len();
        if self.usable(key) && subject.companion().is_none_or(|companion| !self.pending.contains(companion)) {
            ops.push(if near.is_some() { Op::Head(key.clone()) } else { Op::Get(key.clone()) });
            ops.extend(subject.companion().cloned().map(Op::Get));
        }
        Look { near, asked, ops: ops.len() - before }
    }

    /// The start of a read that does not look first.
    pub fn ask(&self, subject: &dyn Subject) -> Asked {
        Asked { moment: self.flights.moment(), sent: self.sending(subject), saw: None }
    }

    fn sending(&self, subject: &dyn Subject) -> Sent {
        Sent {
            epoch: self.near.epoch(subject.key()),
            companion_epoch: subject.companion().map_or(0, |companion| self.near.epoch(companion)),
            at_ms: self.clock.now_ms(),
        }
    }

    /// Understands the replies to what `look` asked.
    pub fn judge(&self, subject: &dyn Subject, look: Look, replies: &[StoreResult]) -> Judged {
        let Look { near, mut asked, .. } = look;
        let Some((stored, companion)) = self.understand(subject, replies, asked.sent) else {
            return Judged::Miss(asked);
        };
        let mut seen = Seen { lease: None, companion };
        match (stored, near) {
            (Stored::Entry { etag, kind, .. }, Some(near)) if near.etag != etag || near.kind != kind => {
                return Judged::Changed(asked);
            }
            (Stored::Entry { etag, kind, .. }, Some(near)) => {
                if subject.judge(kind, &near.payload, companion) == Verdict::Accept {
                    near.confirm(asked.sent.at_ms);
                    let payload = near.payload.clone();
                    return Judged::Found(Found {
                        kind,
                        etag,
                        payload,
                        serial: near.serial,
                        tier: Tier::Near,
                    });
                }
            }
            (Stored::Entry { etag, kind, payload }, None) => {
                if subject.judge(kind, &payload, companion) == Verdict::Accept {
                    let serial = self.keep(subject, kind, etag, &payload, asked.sent);
                    return Judged::Found(Found { kind, etag, payload, serial, tier: Tier::Store });
                }
            }
            (Stored::Lease { token, .. }, _) => seen.lease = Some(token),
            (Stored::Absent | Stored::Hold | Stored::Corrupt, _) => {}
        }
        asked.saw = Some(seen);
        Judged::Miss(asked)
    }

    /// The entry and the companion's version; `None` when the store did not answer.
    fn understand(
        &self,
        subject: &dyn Subject,
        replies: &[StoreResult],
        sent: Sent,
    ) -> Option<(Stored, Option<u64>)> {
        let Some(Ok(Reply::Bytes(bytes))) = replies.first() else { return None };
        let stored = Stored::read(subject.key(), SCHEMA, bytes.as_ref());
        let companion = match (subject.companion(), replies.get(1)) {
            (None, _) => None,
            (Some(key), Some(Ok(Reply::Bytes(bytes)))) => match Stored::read(key, SCHEMA, bytes.as_ref()) {
                Stored::Entry { etag, kind, payload } => {
                    self.keep_companion(key, (kind, etag, payload), sent);
                    Some(etag)
                }
                _ => None,
            },
            (Some(_), _) => return None,
        };
        Some((stored, companion))
    }

    fn keep(&self, subject: &dyn Subject, kind: Kind, etag: u64, payload: &Bytes, sent: Sent) -> u64 {
        if self.mode(subject.key().namespace()) == NearMode::Off {
            return 0;
        }
        let until = subject.near_until_ms(payload, sent.at_ms);
        if until <= sent.at_ms {
            return 0;
        }
        self.near.insert(subject.key(), sent.epoch, (kind, etag, payload.clone()), sent.at_ms, until)
    }

    /// A `bounded` namespace asks nobody, so it needs its companions here as well.
    fn keep_companion(&self, key: &Key, value: (Kind, u64, Bytes), sent: Sent) {
        let NearMode::Bounded { max_age_ms } = self.mode(key.namespace()) else { return };
        let until = sent.at_ms + max_age_ms;
        self.near.insert(key, sent.companion_epoch, value, sent.at_ms, until);
    }

    /// Fetches the version that replaced a near copy.
    pub async fn fetch(&self, subject: &dyn Subject, mut asked: Asked) -> Judged {
        asked.sent = self.sending(subject);
        let replies = self.exec(self.reading(subject)).await;
        self.judge(subject, Look { near: None, asked, ops: 0 }, &replies)
    }

    fn reading(&self, subject: &dyn Subject) -> Vec<Op> {
        let mut ops = vec![Op::Get(subject.key().clone())];
        ops.extend(subject.companion().cloned().map(Op::Get));
        ops
    }

    /// The cold half: waits for whoever loads already, or gets the right to load.
    pub async fn begin(&self, subject: &dyn Subject, mut asked: Asked) -> Result<Begin, Error> {
        let stats = self.telemetry.of(subject.key().namespace());
        loop {
            match self.flights.join(subject.key(), subject.binding(), asked.saw) {
                Join::Follow(mut landing) => {
                    stats.waits.up();
                    let landed = match landing.wait_for(Option::is_some).await {
                        Ok(landed) => landed.clone(),
                        Err(_) => None,
                    };
                    let Some(Landing { result, evidence, under }) = landed else { continue };
                    let mine = evidence >= asked.moment || (under.is_some() && asked.saw == under);
                    // What was seen is old by now.
                    asked.saw = None;
                    match result {
                        Ok(found) if mine => return Ok(Begin::Found(found)),
                        Err(Failure::Error(error)) if mine => return Err(error),
                        Err(Failure::Loader(number)) if mine => return Ok(Begin::LoaderFailed(number)),
                        _ => {}
                    }
                }
                Join::Lead(lead) => return Ok(self.lead(subject, lead).await),
            }
        }
    }

    async fn lead(&self, subject: &dyn Subject, lead: Lead) -> Begin {
        let lease = match self.acquire(subject).await {
            Right::Answer(found, evidence) => {
                lead.land(Landing { result: Ok(found.clone()), evidence, under: None });
                return Begin::Found(found);
            }
            Right::Fill(lease) => {
                lead.reading_under(lease.seen);
                Some(lease)
            }
            Right::NoFill => None,
        };
        self.telemetry.of(subject.key().namespace()).loads.up();
        Begin::Lead(LoadRight { lead, lease, evidence: self.flights.moment() })
    }

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
    async fn acquire(&self, subject: &dyn Subject) -> Right {
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
                    Stored::Lease { soft: true, .. } => true,
                    Stored::Lease { token, .. } => {
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

    /// A lease that nobody waits for, for a caller that peeked and may bring a value later.
    pub async fn soft_lease(&self, subject: &dyn Subject) -> Option<Lease> {
        if !self.usable(subject.key()) {
            return None;
        }
        let sent = self.sending(subject);
        let token = jitter::token();
        let bytes = encode(subject.key(), Kind::SoftLease, SCHEMA, token, b"");
        let replies = self.exec(self.leasing(subject, &bytes)).await;
        match (replies.first(), self.leased_companion(subject, &replies)) {
            (Some(Ok(Reply::Done(true))), Ok(companion)) => Some(lease_of(token, bytes, companion, sent)),
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

    /// Stores what was loaded, if the lease still holds, and answers everybody who waits.
    pub async fn finish(&self, subject: &dyn Subject, right: LoadRight, loaded: Loaded) -> Found {
        let (mut etag, mut serial) = (0, 0);
        if let Some(lease) = &right.lease {
            (etag, serial) = self.fill(subject, lease, &loaded).await.unwrap_or_default();
        }
        let found = Found { kind: loaded.kind, etag, payload: loaded.payload, serial, tier: Tier::Source };
        let under = right.lease.as_ref().map(|lease| lease.seen);
        right.lead.land(Landing { result: Ok(found.clone()), evidence: right.evidence, under });
        found
    }

    /// The load failed: tells everybody who waits and gives the lease back.
    pub async fn fail(&self, key: &Key, right: LoadRight, failure: Failure) {
        let under = right.lease.as_ref().map(|lease| lease.seen);
        right.lead.land(Landing { result: Err(failure), evidence: right.evidence, under });
        if let Some(lease) = right.lease {
            let _ = self.exec(vec![Op::Release { key: key.clone(), expected: lease.bytes }]).await;
        }
    }

    /// `begin`, load, `finish`: the whole cold half for a loader that lives in Rust.
    pub async fn load<F>(
        &self,
        subject: &dyn Subject,
        asked: Asked,
        loader: impl FnOnce() -> F,
    ) -> Result<Found, Error>
    where
        F: Future<Output = Result<Loaded, Error>>,
    {
        match self.begin(subject, asked).await? {
            Begin::Found(found) => Ok(found),
            Begin::LoaderFailed(_) => Err(Error::new(Code::Internal, "a loader of another kind failed")),
            Begin::Lead(right) => match loader().await {
                Ok(loaded) => Ok(self.finish(subject, right, loaded).await),
                Err(error) => {
                    self.fail(subject.key(), right, Failure::Error(error.clone())).await;
                    Err(error)
                }
            },
        }
    }
}

fn lease_of(token: u64, bytes: Bytes, companion: Option<(u64, Bytes)>, sent: Sent) -> Lease {
    let seen = Seen { lease: Some(token), companion: companion.as_ref().map(|(etag, _)| *etag) };
    Lease { bytes, seen, companion: companion.map(|(_, bytes)| bytes), sent }
}
