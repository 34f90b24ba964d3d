//! Requests about verified payloads. The loader of a payload is the application's `verify`: it is handed out
//! as a numbered lead and comes back with its result.
//!
//! Invariant: a lead is ended by its result, by its caller's end, by its environment's end, or by the end of
//! its lease, whichever comes first.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::auth::jwt::{self, JwtSubject};
use crate::auth::text;
use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::Namespace;
use crate::base::{jitter, limits};
use crate::cache::Invalidation;
use crate::cache::entry::{Stored, encode};
use crate::cache::flight::Failure;
use crate::cache::lease::Lease;
use crate::cache::policy::{COMPANION_MS, SCHEMA, Subject};
use crate::cache::tiered::{Asked, Begin};
use crate::store::{Op, Reply};

use super::hot::Read;
use super::{Core, JsLead, Outcome};

impl Core {
    pub(super) async fn invalidate_user_tokens(&self, user_id: &str) -> Result<Invalidation, Error> {
        text("userId", user_id, limits::KEY_PART_BYTES)?;
        let key = jwt::user_key(&self.cache.keys, user_id);
        self.cache.invalidate(vec![(key, jwt::regenerate(self.cache.clock.unix_ms()))]).await
    }

    pub(super) async fn cache_jwt(&self, token: &str, json: &str) -> Result<Outcome, Error> {
        object("payload", json)?;
        let Some(subject) = self.jwt(token)? else { return Ok(Outcome::Bool(false)) };
        let lease = self.peeked(subject.key());
        let (generation, not_before_s) = self.generation(&subject).await;
        if !subject.issued_after(not_before_s) {
            return Ok(Outcome::Bool(false));
        }
        let stored = match lease {
            Some(lease) => {
                let loaded = subject.loaded(json, lease.companion());
                self.cache.fill(&subject, &lease, &loaded).await.is_some()
            }
            // In the very second of "log out everywhere" only a lease can tell before from after.
            None if not_before_s > 0 && subject.iat_s <= not_before_s => false,
            None => self.add(subject.key(), &subject.loaded(json, generation)).await,
        };
        Ok(Outcome::Bool(stored))
    }

    /// The user's generation, created when absent, and from when on tokens are new.
    async fn generation(&self, subject: &JwtSubject) -> (Option<u64>, u64) {
        let user = subject.user();
        if !self.cache.usable(user) {
            return (None, 0);
        }
        let value = encode(user, Kind::Value, SCHEMA, jitter::token(), b"");
        let add = Op::Add { key: user.clone(), value, ttl_ms: COMPANION_MS };
        let replies = self.cache.exec(vec![add, Op::Get(user.clone())]).await;
        match replies.get(1) {
            Some(Ok(Reply::Bytes(bytes))) => match Stored::read(user, SCHEMA, bytes.as_ref()) {
                Stored::Entry { etag, payload, .. } => (Some(etag), jwt::not_before_s(&payload)),
                _ => (None, 0),
            },
            _ => (None, 0),
        }
    }

    pub(super) async fn invalidate_jwt(&self, jti: &str) -> Result<Invalidation, Error> {
        text("tokenId", jti, limits::KEY_PART_BYTES)?;
        let key = self.cache.keys.entry(Namespace::JwtPayload, jti);
        self.peeked.lock().remove(&key);
        self.cache.invalidate(vec![(key, jwt::hold())]).await
    }

    pub(super) async fn begin_jwt(
        self: &Arc<Self>,
        subject: JwtSubject,
        asked: Asked,
        env: u64,
        started_us: u64,
    ) -> Outcome {
        match self.cache.begin(&subject, asked).await {
            Err(error) => error.into(),
            Ok(Begin::LoaderFailed(number)) => Outcome::LoaderFailed(number),
            Ok(Begin::Found(found)) => {
                let read = Read::Jwt(Box::new(subject));
                self.count(&read, &found, started_us);
                read.outcome(&found)
            }
            Ok(Begin::Lead(right)) => {
                let number = self.next_lead.fetch_add(1, Ordering::SeqCst) + 1;
                self.leads.lock().insert(number, JsLead { right, subject, env });
                self.forget_later(number);
                Outcome::Lead(number)
            }
        }
    }

    /// After the lease has ended nobody needs to wait for this loader any more.
    fn forget_later(self: &Arc<Self>, number: u64) {
        let core = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(core.cache.times.lease_ms)).await;
            core.forget(number);
        });
    }

    /// Ends a load that nobody will run.
    pub(super) fn forget(&self, number: u64) {
        let gone = self.leads.lock().remove(&number);
        drop(gone);
    }

    /// The number of those who wait for a failed loader, or nothing.
    pub(super) async fn end_jwt(&self, number: u64, json: Option<String>) -> Result<Outcome, Error> {
        let Some(JsLead { right, subject, .. }) = self.leads.lock().remove(&number) else {
            return Ok(Outcome::Nothing);
        };
        let Some(json) = json else {
            self.cache.fail(subject.key(), right, Failure::Loader(number)).await;
            return Ok(Outcome::Nothing);
        };
        let (_, not_before_s) = self.generation(&subject).await;
        let generation =
            right.lease().and_then(Lease::companion).filter(|_| subject.issued_after(not_before_s));
        let loaded = subject.loaded(&json, generation);
        let found = self.cache.finish(&subject, right, loaded).await;
        Ok(Outcome::Object { serial: found.serial, text: None })
    }
}

fn object(field: &'static str, json: &str) -> Result<(), Error> {
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) if json.trim_start().starts_with('{') && json.len() <= limits::ENTRY_BYTES => Ok(()),
        _ => Err(Error::argument(field, "an object of at most 1 MiB of JSON")),
    }
}
