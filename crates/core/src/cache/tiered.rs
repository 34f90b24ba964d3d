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
//! Invariant: whoever is answered by somebody else's load could not have got an older answer by reading for
//! itself (see `flight`).
use std::sync::Arc;

use bytes::Bytes;

use crate::base::codec::Kind;
use crate::base::error::{Code, Error};
use crate::base::key::Key;
use crate::base::limits;
use crate::store::{Op, Reply, StoreResult};
use crate::telemetry::Tier;

use super::entry::{Age, Found, Left, Loaded, Stored, Verdict};
use super::flight::{Failure, Join, Landing, Lead, Seen};
use super::lease::{Lease, Right};
use super::near::NearEntry;
use super::policy::{COMPANION_MS, NearMode, SCHEMA, Subject};
use super::service::Cache;

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

impl Asked {
    /// Whether the store said what it has.
    pub fn looked(&self) -> bool {
        self.saw.is_some()
    }
}

/// The state of this process just before commands were sent: what a reply is compared with before it is
/// kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
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

/// The right to load, and the duty to `finish` or `fail`. Dropping it abandons the flight; the lease
/// then ends by itself.
pub struct LoadRight {
    lead: Lead,
    lease: Option<Lease>,
    evidence: u64,
}

impl LoadRight {
    /// The lease, when the result may be stored.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// What keeps the lease for so much longer; nothing without one.
    pub fn renewal(&self, subject: &dyn Subject, ttl_ms: u64) -> Vec<Op> {
        self.lease.as_ref().map_or_else(Vec::new, |lease| lease.renewal(subject, ttl_ms))
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

impl Cache {
    /// Starts a read that its caller asked for at `moment`: adds to `ops` what to ask the store, if it may be
    /// believed.
    pub fn look(&self, subject: &dyn Subject, moment: u64, ops: &mut Vec<Op>) -> Look {
        let key = subject.key();
        let asked = self.ask_at(subject, moment);
        let near = match self.mode(key.namespace()) {
            NearMode::Off => None,
            _ => self.near.get(key, asked.sent.at_ms),
        };
        let before = ops.len();
        if self.usable(key) && subject.companion().is_none_or(|companion| !self.pending.contains(companion)) {
            let head = near.as_ref().is_some_and(|near| near.payload.len() > limits::WHOLE_BYTES);
            ops.push(if head { Op::Head(key.clone()) } else { Op::Get(key.clone()) });
            ops.extend(subject.companion().cloned().map(Op::Get));
            if subject.asks_age(near.as_ref().map(|near| &near.payload)) {
                ops.push(Op::Left(key.clone()));
            }
        }
        Look { near, asked, ops: ops.len() - before }
    }

    /// As `look`, without asking for the companion: for several subjects that share one, whose reply is then
    /// given to `judge` for each.
    pub fn look_sharing(&self, subject: &dyn Subject, moment: u64, ops: &mut Vec<Op>) -> Look {
        let mut look = self.look(subject, moment, ops);
        if look.ops == 2 {
            ops.pop();
            look.ops = 1;
        }
        look
    }

    /// The start of a read that does not look first.
    pub fn ask(&self, subject: &dyn Subject) -> Asked {
        self.ask_at(subject, self.flights.moment())
    }

    /// As `ask`, for a caller who was called at `moment`.
    pub fn ask_at(&self, subject: &dyn Subject, moment: u64) -> Asked {
        Asked { moment, sent: self.sending(subject), saw: None }
    }

    pub(super) fn sending(&self, subject: &dyn Subject) -> Sent {
        Sent {
            epoch: self.near.epoch(subject.key()),
            companion_epoch: subject.companion().map_or(0, |companion| self.near.epoch(companion)),
            at_ms: self.clock.now_ms(),
        }
    }

    /// Understands the replies to what `look` asked.
    pub fn judge(&self, subject: &dyn Subject, look: Look, replies: &[StoreResult]) -> Judged {
        let Look { near, mut asked, .. } = look;
        let Some((stored, companion)) = self.understand(subject, replies, near.as_deref(), asked.sent) else {
            return Judged::Miss(asked);
        };
        let mut seen = Seen { lease: None, companion };
        let left = Left::of(replies);
        // Whether this caller takes it; `None` = that depends on what was not asked.
        let takes = |kind, payload: &Bytes| match subject.judge(kind, payload, companion) {
            Verdict::Accept => match subject.age(payload, left) {
                Age::Current { .. } => Some(true),
                Age::Past { ms } => Some(ms < subject.takes_past_ms()),
                Age::Unknown => None,
            },
            Verdict::Stale | Verdict::Foreign => Some(false),
        };
        match (stored, near) {
            (Stored::Entry { etag, kind, .. }, Some(near)) if near.etag != etag || near.kind != kind => {
                return Judged::Changed(asked);
            }
            (Stored::Entry { etag, kind, .. }, Some(near)) => match takes(kind, &near.payload) {
                Some(true) => {
                    near.confirm(asked.sent.at_ms);
                    let (payload, serial, tier) = (near.payload.clone(), near.serial, Tier::Near);
                    return Judged::Found(Found { kind, etag, payload, serial, tier, left });
                }
                Some(false) => {}
                None => return Judged::Changed(asked),
            },
            (Stored::Entry { etag, kind, payload }, None) => match takes(kind, &payload) {
                Some(true) => {
                    let (serial, tier) = (self.keep(subject, kind, etag, &payload, asked.sent), Tier::Store);
                    return Judged::Found(Found { kind, etag, payload, serial, tier, left });
                }
                Some(false) => {}
                None => return Judged::Changed(asked),
            },
            (Stored::Lease { token }, _) => seen.lease = Some(token),
            (Stored::Changed, _) => return Judged::Changed(asked),
            (Stored::Absent | Stored::Hold | Stored::Corrupt, _) => {}
        }
        asked.saw = Some(seen);
        Judged::Miss(asked)
    }

    /// The entry and the companion's version; `None` when the store did not answer.
    pub(super) fn understand(
        &self,
        subject: &dyn Subject,
        replies: &[StoreResult],
        near: Option<&NearEntry>,
        sent: Sent,
    ) -> Option<(Stored, Option<u64>)> {
        let Some(Ok(Reply::Bytes(bytes))) = replies.first() else { return None };
        let stored = match near {
            Some(near) => Stored::head(SCHEMA, bytes.as_ref(), (&near.payload, near.checksum)),
            None => Stored::read(subject.key(), SCHEMA, bytes.as_ref()),
        };
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

    pub(super) fn keep(
        &self,
        subject: &dyn Subject,
        kind: Kind,
        etag: u64,
        payload: &Bytes,
        sent: Sent,
    ) -> u64 {
        if self.mode(subject.key().namespace()) == NearMode::Off {
            return 0;
        }
        let until = subject.near_until_ms(payload, sent.at_ms);
        if until <= sent.at_ms {
            return 0;
        }
        self.near.insert(subject.key(), sent.epoch, (kind, etag, payload.clone()), sent.at_ms, until)
    }

    /// Who answers without asking needs the companions here as well.
    fn keep_companion(&self, key: &Key, value: (Kind, u64, Bytes), sent: Sent) {
        if self.mode(key.namespace()) == NearMode::Off || !self.listens() {
            return;
        }
        if let Some(known) = self.near.get(key, sent.at_ms).filter(|known| known.etag == value.1) {
            // Only if nothing was invalidated since the question was sent.
            if self.near.epoch(key) == sent.companion_epoch {
                known.confirm(sent.at_ms);
            }
            return;
        }
        self.near.insert(key, sent.companion_epoch, value, sent.at_ms, sent.at_ms + COMPANION_MS);
    }

    /// Fetches the version that replaced a near copy.
    pub async fn fetch(&self, subject: &dyn Subject, mut asked: Asked) -> Judged {
        asked.sent = self.sending(subject);
        let replies = self.exec(self.reading(subject)).await;
        self.judge(subject, Look { near: None, asked, ops: 0 }, &replies)
    }

    pub(super) fn reading(&self, subject: &dyn Subject) -> Vec<Op> {
        let mut ops = vec![Op::Get(subject.key().clone())];
        ops.extend(subject.companion().cloned().map(Op::Get));
        ops.extend(subject.ages().then(|| Op::Left(subject.key().clone())));
        ops
    }

    /// The cold half: waits for whoever loads already, or gets the right to load.
    pub async fn begin(&self, subject: &dyn Subject, mut asked: Asked) -> Result<Begin, Error> {
        let stats = self.telemetry.of(subject.key().namespace());
        loop {
            match self.flights.join(subject.key(), subject.binding(), asked.saw, asked.moment) {
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
                Join::Landed(Landing { result, .. }) => {
                    stats.waits.up();
                    match result {
                        Ok(found) => return Ok(Begin::Found(found)),
                        Err(Failure::Error(error)) => return Err(error),
                        Err(Failure::Loader(number)) => return Ok(Begin::LoaderFailed(number)),
                        Err(Failure::Abandoned) => {}
                    }
                }
                Join::Lead(lead) => return Ok(self.lead(subject, lead).await),
            }
        }
    }

    async fn lead(&self, subject: &dyn Subject, lead: Lead) -> Begin {
        let right = self.acquire(subject).await;
        let evidence = self.flights.moment();
        let lease = match right {
            Right::Answer(found, evidence) => {
                lead.land(Landing { result: Ok(found.clone()), evidence, under: None });
                return Begin::Found(found);
            }
            Right::Fill(lease) => {
                lead.reading_under(lease.seen, evidence);
                Some(lease)
            }
            Right::NoFill => None,
        };
        self.telemetry.of(subject.key().namespace()).loads.up();
        Begin::Lead(LoadRight { lead, lease, evidence })
    }

    /// Stores what was loaded, if the lease still holds, and answers everybody who waits.
    pub async fn finish(&self, subject: &dyn Subject, right: LoadRight, loaded: Loaded) -> Found {
        let (mut etag, mut serial) = (0, 0);
        if let Some(lease) = &right.lease {
            (etag, serial) = self.fill(subject, lease, &loaded).await.unwrap_or_default();
        }
        let (kind, payload, tier, left) = (loaded.kind, loaded.payload, Tier::Source, Left::Unasked);
        let found = Found { kind, etag, payload, serial, tier, left };
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

    /// `begin`, load, `finish`: the whole cold half for a loader that lives in Rust. It is given the version of
    /// the companion that the value will depend on; `None` = it will not be stored.
    pub async fn load<F>(
        &self,
        subject: &dyn Subject,
        asked: Asked,
        loader: impl FnOnce(Option<u64>) -> F,
    ) -> Result<Found, Error>
    where
        F: Future<Output = Result<Loaded, Error>>,
    {
        match self.begin(subject, asked).await? {
            Begin::Found(found) => Ok(found),
            Begin::LoaderFailed(_) => Err(Error::new(Code::Internal, "a loader of another kind failed")),
            Begin::Lead(right) => match loader(right.lease().and_then(Lease::companion)).await {
                Ok(loaded) => Ok(self.finish(subject, right, loaded).await),
                Err(error) => {
                    self.fail(subject.key(), right, Failure::Error(error.clone())).await;
                    Err(error)
                }
            },
        }
    }
}
