//! The guard: the task that brings the store into service, takes it back after an outage, replays what
//! was missed, and keeps the heartbeat of the announcements. It answers no reads.
//!
//! Invariant: the store is in service only after a probe and a complete replay, in this order; and believed about
//! rate limits only after it was told what was admitted without it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::base::limits;
use crate::limiter::Unsent;
use crate::store::valkey::Listener;
use crate::store::{Op, Probed, Store, StoreError};

use super::invalidate::GIVEN_BACK;
use super::service::Cache;

/// Pause between two tries to replay while the store is in service but refuses a write.
const RETRY_MS: u64 = 100;
/// Pause between two probes of a store that is in service.
const IDLE_PROBE_MS: u64 = 5_000;

impl Cache {
    /// Runs for ever; ends when the future is dropped.
    pub async fn guard(&self) {
        if matches!(self.store, Store::None) {
            return;
        }
        loop {
            // Read first: the lock must not live into the branch that awaits.
            let due = self.breaker.lock().probe_in_ms(self.clock.now_ms());
            match due {
                Some(0) => self.try_recover().await,
                Some(wait) => self.pause(wait).await,
                None if self.pending.is_empty() && self.limits.is_settled() => self.idle().await,
                None => {
                    if let Err(error) = self.send_all().await {
                        if error.opens_breaker() {
                            self.store_failed(&error);
                        } else {
                            self.moments.refused(&error, self.clock.now_ms());
                            self.limits.refused();
                            self.pause(RETRY_MS).await;
                            self.beat_between().await;
                        }
                    }
                }
            }
        }
    }

    async fn try_recover(&self) {
        let failed_ms = {
            let mut breaker = self.breaker.lock();
            breaker.probing();
            breaker.since_ms()
        };
        let began_ms = self.clock.now_ms();
        let outcome = match self.store.probe().await {
            // What waits goes first: it makes room for what is remembered, which must not be turned away.
            Ok(probed) => {
                // Until it is in service: a try that ends halfway leaves its connections to the next one.
                let other = self.other.fetch_or(probed == Probed::Anew, Ordering::SeqCst);
                match self.replay().await {
                    Ok(()) if (other || probed == Probed::Anew) && self.served.load(Ordering::SeqCst) => {
                        self.remember_for_return(failed_ms, began_ms);
                        self.replay().await
                    }
                    replayed => replayed,
                }
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.distrust_beats();
                self.limits.distrust();
                {
                    let mut breaker = self.breaker.lock();
                    breaker.recovered(self.clock.now_ms());
                    self.in_service.store(true, Ordering::SeqCst);
                }
                self.served.store(true, Ordering::SeqCst);
                self.other.store(false, Ordering::SeqCst);
                // Believed at once when it need not be told anything; else once it was.
                if self.limits.trust() {
                    self.moments.told(self.clock.now_ms());
                }
                self.settled.store(true, Ordering::SeqCst);
                tracing::info!(component = "store", mode = self.store.mode(), "the store is in service");
                self.changed.notify_waiters();
                self.send_beat().await;
            }
            Err(error) => {
                tracing::debug!(component = "store", reason = ?error, "the store does not answer yet");
                self.breaker.lock().probe_failed(self.clock.now_ms());
                // Nobody waits for a store that is not there.
                self.settled.store(true, Ordering::SeqCst);
                self.changed.notify_waiters();
            }
        }
    }

    /// What the store has not heard of yet.
    async fn send_all(&self) -> Result<(), StoreError> {
        self.replay().await?;
        self.tell_limits().await
    }

    /// Tells the store what was admitted without it, and believes it about rate limits from then on. In portions that
    /// it takes in time: smaller ones when it does not.
    async fn tell_limits(&self) -> Result<(), StoreError> {
        let mut portion = limits::LIMIT_MOMENTS;
        let news = !self.limits.is_settled();
        while !self.limits.trust() {
            let unsent = self.limits.take_unsent(portion);
            let now = self.clock.now_ms();
            let op = |one: &Unsent| Op::Tell {
                key: one.key.clone(),
                limit: one.limit,
                mark: one.mark(),
                aged: one.aged(now),
            };
            self.telemetry.round_trips.up();
            self.telemetry.commands.add(unsent.len() as u64);
            let replies = self.store.exec(unsent.iter().map(op).collect()).await;
            let mut failed = None;
            for (one, reply) in unsent.into_iter().zip(replies) {
                match reply {
                    Ok(_) => self.telemetry.limits_told.up(),
                    Err(error) => {
                        self.limits.put_back(one, now);
                        failed = Some(error);
                    }
                }
            }
            match failed {
                None => {}
                Some(StoreError::Timeout) if portion > 1 => portion = (portion / 4).max(1),
                Some(error) => return Err(error),
            }
        }
        if news {
            self.moments.told(self.clock.now_ms());
        }
        Ok(())
    }

    /// Heartbeats go on while the store refuses what it is sent again and again.
    async fn beat_between(&self) {
        let due = self.beaten_ms.load(Ordering::Relaxed) + limits::SUBSCRIPTION_HEARTBEAT_MS;
        if self.clock.now_ms() >= due && self.available() {
            self.send_beat().await;
        }
    }

    /// Tells the others that this instance is there, and itself that announcements arrive. From the first connection on,
    /// whoever limits or not: an outage may begin before an instance has checked its first limit, and then it has to
    /// know its share. Not counted: nobody asked for it.
    async fn send_beat(&self) {
        if !self.is_shared() {
            return;
        }
        self.beaten_ms.store(self.clock.now_ms(), Ordering::Relaxed);
        for reply in self.store.exec(vec![Op::Announce(self.heartbeat())]).await {
            match reply {
                Err(error) if error.opens_breaker() => self.store_failed(&error),
                // Where copies are served unasked, nobody would hear of what others change.
                Err(error) if self.serves_unasked() => self.moments.refused(&error, self.clock.now_ms()),
                // Elsewhere a user without the right to publish is told so when it invalidates something.
                _ => {}
            }
        }
    }

    async fn idle(&self) {
        let limit = if self.is_shared() { limits::SUBSCRIPTION_HEARTBEAT_MS } else { IDLE_PROBE_MS };
        let woken = tokio::time::timeout(Duration::from_millis(limit), self.wake.notified()).await.is_ok();
        if woken || !self.available() {
            return;
        }
        self.send_beat().await;
        let now = self.clock.now_ms();
        if now < self.probed_ms.load(Ordering::Relaxed) + IDLE_PROBE_MS || !self.available() {
            return;
        }
        self.probed_ms.store(now, Ordering::Relaxed);
        if !self.store.answers().await {
            // Not connected anew here: what comes back may be another server, and is recovered, not believed.
            self.store_failed(&StoreError::Unavailable("the store does not answer a probe".into()));
        }
    }

    /// For a store that no other process shares: nothing has to be heard, so it always is.
    pub async fn alone(&self) {
        loop {
            self.beat_heard(self.clock.now_ms().max(1));
            self.pause(limits::SUBSCRIPTION_HEARTBEAT_MS).await;
        }
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

impl Cache {
    fn heartbeat(&self) -> Bytes {
        let beat = format!("{}\n\u{1}{} {}", self.keys.channel(), self.instance, self.clock.now_ms());
        beat.into_bytes().into()
    }

    /// Everything announced before `ms` has been heard.
    fn beat_heard(&self, ms: u64) {
        if !self.hears() {
            self.moments.heard(self.clock.now_ms());
        }
        self.heard_ms.store(ms, Ordering::SeqCst);
    }

    /// Whose heartbeat it is and when it was sent, in the time of its sender; `None` for keys.
    fn beat(line: &[u8]) -> Option<(u64, u64)> {
        let (instance, ms) = std::str::from_utf8(line.strip_prefix(b"\x01")?).ok()?.split_once(' ')?;
        Some((instance.parse().ok()?, ms.parse().ok()?))
    }
}

impl Listener for Cache {
    fn gap(&self) {
        self.distrust_beats();
        self.near.clear();
        self.limits.forget_denials();
    }

    fn message(&self, payload: &[u8]) {
        for line in payload.split(|byte| *byte == b'\n') {
            if let Some(key) = self.keys.parse(line) {
                self.heard_void(&key);
            } else if let Some(key) = line.strip_prefix(&GIVEN_BACK[1..]).and_then(|key| self.keys.parse(key))
            {
                self.limits.forget_denial(&key);
            } else if let Some((instance, ms)) = Self::beat(line) {
                self.limits.heard_of(instance, self.clock.now_ms());
                if instance != self.instance {
                    continue;
                }
                // Its own time, not now: a message that was held up on the way says nothing about the present.
                if ms > self.beats_from_ms.load(Ordering::SeqCst) {
                    self.beat_heard(ms);
                }
            }
        }
    }
}
