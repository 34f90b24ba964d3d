//! Follows the outbox: what anybody committed becomes an invalidation. One instance leads; the others watch it
//! and take over when it is gone. It answers no reads.
//!
//! ```text
//! elect -> (lead: look, void, move the cursor) | (follow: remember the cursor)
//! ```
//!
//! Invariant: the cursor moves only past changes that were voided or are queued to be. Two leaders at once do
//! the same work twice, which is harmless; none at all lasts no longer than the lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::auth::token::TokenSubject;
use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::jitter;
use crate::base::key::{Key, Namespace};
use crate::cache::Effect;
use crate::cache::entry::{Stored, encode};
use crate::cache::policy::{SCHEMA, Subject};
use crate::source::outbox::{self, Cursor};
use crate::source::{Event, EventKind};
use crate::store::{Op, Reply, Store};

use super::Core;
use super::rbac::RbacTarget;

/// Life of a lease, in looks: long enough for one that is late, short enough for a second in all.
const LEASE_LOOKS: u64 = 2;
const LEASE_LEAST_MS: u64 = 400;
/// Life of the cursor: as long as events are kept.
const CURSOR_MS: u64 = outbox::KEPT_MS;
/// Keys of one invalidation.
const CHUNK: usize = 500;
/// Pause after a look that failed.
const FAILED_MS: u64 = 1_000;
/// Looks between two prunings, at the usual pace about five minutes.
const PRUNE_LOOKS: u64 = 1_500;

/// What this instance does about the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing: not configured, or no store.
    Off,
    /// Looks and voids for all.
    Leading,
    /// Watches the leader.
    Following,
    /// The store cannot be asked: looks for itself.
    Alone,
}

impl Role {
    const ALL: [Role; 4] = [Role::Off, Role::Leading, Role::Following, Role::Alone];

    /// As in `MetricsSnapshot`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Off => "off",
            Role::Leading => "leading",
            Role::Following => "following",
            Role::Alone => "alone",
        }
    }
}

/// Where the tail of one engine stands.
#[derive(Default)]
pub(super) struct TailState {
    role: AtomicU8,
    lag_ms: AtomicU64,
    cursor: Mutex<Option<Cursor>>,
    /// This instance's lease as it stands in the store.
    lease: Mutex<Option<Bytes>>,
    /// Woken by notifications of the source.
    wake: Arc<Notify>,
}

impl TailState {
    pub(super) fn role(&self) -> Role {
        Role::ALL[usize::from(self.role.load(Ordering::Relaxed)) % Role::ALL.len()]
    }

    pub(super) fn lag_ms(&self) -> u64 {
        self.lag_ms.load(Ordering::Relaxed)
    }
}

fn cursor_payload(cursor: &Cursor) -> Bytes {
    format!("{} {}", cursor.server, cursor.snapshot).into()
}

fn parse_cursor(payload: &[u8]) -> Option<Cursor> {
    let (server, snapshot) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = snapshot.split(':');
    let bounds = parts.by_ref().take(2).filter(|part| digits(part)).count() == 2;
    let list = parts.next()?;
    let whole = bounds && parts.next().is_none() && (list.is_empty() || list.split(',').all(digits));
    (whole && digits(server)).then(|| Cursor { snapshot: snapshot.to_owned(), server: server.to_owned() })
}

/// The task that waits for notifications; ends with this.
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Core {
    /// Runs for ever; ends when the future is dropped.
    pub(super) async fn follow_outbox(self: Arc<Self>) {
        if matches!(self.cache.store, Store::None) || !self.source.configured() {
            return;
        }
        self.cache.ready().await;
        let mut listening: Option<Listening> = None;
        let mut looks = 0_u64;
        loop {
            if self.closing() {
                return;
            }
            let role = self.elect().await;
            self.tail.role.store(role as u8, Ordering::Relaxed);
            let mut pause_ms = self.settings.tail.poll_ms;
            if role == Role::Following {
                listening = None;
            } else {
                if listening.as_ref().is_none_or(|task| task.0.is_finished()) {
                    listening = Some(self.listen_for_commits());
                }
                match self.look().await {
                    Ok(()) => {}
                    Err(error) => {
                        self.telemetry.tail_errors.up();
                        tracing::error!(
                            component = "tail",
                            reason = %error.message,
                            "the outbox cannot be followed; is it installed (bcos-cache migrate --apply)?"
                        );
                        // Somebody else may be able to.
                        self.resign_tail().await;
                        pause_ms = FAILED_MS.max(pause_ms);
                    }
                }
                looks += 1;
                if looks % PRUNE_LOOKS == 1 {
                    let _ = self.source.prune_outbox().await;
                }
            }
            let woken = self.tail.wake.notified();
            if tokio::time::timeout(Duration::from_millis(pause_ms), woken).await.is_ok() {
                self.telemetry.tail_wakeups.up();
            }
        }
    }

    fn listen_for_commits(self: &Arc<Self>) -> Listening {
        let core = self.clone();
        Listening(tokio::spawn(async move {
            let Some(mut commits) = core.source.notifications().await else {
                // Polling is enough; not tried again at every look.
                return std::future::pending().await;
            };
            while commits.next().await {
                core.tail.wake.notify_one();
            }
        }))
    }

    fn tail_key(&self, part: &str) -> Key {
        self.cache.keys.entry(Namespace::Tail, part)
    }

    fn lease_ms(&self) -> u64 {
        (self.settings.tail.poll_ms * LEASE_LOOKS).max(LEASE_LEAST_MS)
    }

    /// Gets or keeps the lease, or reads the leader's cursor.
    async fn elect(&self) -> Role {
        let held = self.tail.lease.lock().take();
        if !matches!(self.cache.store, Store::Valkey(_)) || !self.cache.available() {
            return Role::Alone;
        }
        let (key, ttl_ms) = (self.tail_key("lead"), self.lease_ms());
        let (claim, mine) = match held {
            // The same bytes again: only their end moves, and only while they are still there.
            Some(mine) => (Op::Swap { key, expected: mine.clone(), value: mine.clone(), ttl_ms }, mine),
            None => {
                let mine = encode(&key, Kind::Lease, SCHEMA, jitter::token(), b"");
                (Op::Add { key, value: mine.clone(), ttl_ms }, mine)
            }
        };
        let cursor = self.tail_key("cursor");
        let replies = self.cache.exec(vec![claim, Op::Get(cursor.clone())]).await;
        let stored = match replies.get(1) {
            Some(Ok(Reply::Bytes(bytes))) => match Stored::read(&cursor, SCHEMA, bytes.as_ref()) {
                Stored::Entry { payload, .. } => parse_cursor(&payload),
                _ => None,
            },
            _ => None,
        };
        match replies.first() {
            Some(Ok(Reply::Done(true))) => {
                *self.tail.lease.lock() = Some(mine);
                if self.tail.role() != Role::Leading {
                    // The leader before knew best how far it came.
                    *self.tail.cursor.lock() = stored;
                }
                Role::Leading
            }
            Some(Ok(_)) => {
                if stored.is_some() {
                    *self.tail.cursor.lock() = stored;
                }
                Role::Following
            }
            _ => Role::Alone,
        }
    }

    /// Gives the lease back, so that nobody has to wait for its end.
    pub(super) async fn resign_tail(&self) {
        let held = self.tail.lease.lock().take();
        if let Some(expected) = held {
            self.cache.exec(vec![Op::Release { key: self.tail_key("lead"), expected }]).await;
        }
    }

    /// One look at the outbox, and what follows from it.
    async fn look(&self) -> Result<(), Error> {
        let cursor = self.tail.cursor.lock().clone();
        self.telemetry.tail_polls.up();
        let mut batch = self.source.committed_since(cursor).await?;
        if batch.reset {
            // Nobody knows what was missed: every context is void, and what no epoch voids is gone through.
            batch.events.extend(self.source.kept_events().await?);
            batch.events.push(Event { kind: EventKind::All, id: String::new() });
        }
        let mut voided = Vec::with_capacity(batch.events.len() * 2);
        for event in &batch.events {
            match self.voided_by(event) {
                Ok(targets) => voided.extend(targets),
                // Not an id of ours: a row that no call of ours can ask for.
                Err(error) => {
                    tracing::warn!(component = "tail", reason = %error.message, "a change was passed over")
                }
            }
        }
        self.telemetry.tail_events.add(batch.events.len() as u64);
        for chunk in voided.chunks(CHUNK) {
            self.cache.invalidate(chunk.to_vec()).await?;
        }
        if !batch.events.is_empty() {
            self.tail.lag_ms.store(batch.lag_ms.max(0) as u64, Ordering::Relaxed);
        }
        if self.tail.role() == Role::Leading {
            let key = self.tail_key("cursor");
            let value = encode(&key, Kind::Value, SCHEMA, jitter::token(), &cursor_payload(&batch.cursor));
            self.cache.exec(vec![Op::Put { key, value, ttl_ms: CURSOR_MS }]).await;
        }
        *self.tail.cursor.lock() = Some(batch.cursor);
        Ok(())
    }

    fn voided_by(&self, event: &Event) -> Result<Vec<(Key, Effect)>, Error> {
        match event.kind {
            EventKind::User => self.voided(RbacTarget::User, &event.id),
            EventKind::Role => self.voided(RbacTarget::Role, &event.id),
            EventKind::Tree => self.voided(RbacTarget::Hierarchy, ""),
            EventKind::Token => {
                let subject = TokenSubject::new(&self.cache.keys, &event.id)?;
                Ok(vec![(subject.key().clone(), Effect::Delete)])
            }
            EventKind::All => self.voided(RbacTarget::Roles, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_store_and_nothing_else_does() {
        for list in ["", "12", "12,15"] {
            let cursor = Cursor { snapshot: format!("10:20:{list}"), server: "123".into() };
            assert_eq!(parse_cursor(&cursor_payload(&cursor)), Some(cursor));
        }
        for hostile in [
            "",
            "x",
            "1 ",
            "1 a:b:",
            "1 10",
            "1 10:20",
            "-1 10:20:",
            "1 10:20:x",
            "1 10:20:1,",
            "1 10:20:1:2",
            " 10:20:",
        ] {
            assert_eq!(parse_cursor(hostile.as_bytes()), None, "{hostile}");
        }
    }
}
