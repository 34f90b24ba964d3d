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
use super::{Core, JsLead, Outcome, Started};

impl Core {
    pub(super) async fn invalidate_user_tokens(&self, user_id: &str) -> Result<Invalidation, Error> {
        text("userId", user_id, limits::KEY_PART_BYTES)?;
        let key = jwt::user_key(&self.cache.keys, user_id);
        self.cache.invalidate(vec![(key, jwt::regenerate(self.cache.clock.unix_ms()))]).await
    }

    pub(super) async fn cache_jwt(&self, token: &str, json: &str) -> Result<Outcome, Error> {
        object("payload", json)?;
        let Some(subject) = self.jwt(token)? else { return Ok(Outcome::Bool(false)) };
        let (generation, not_before_s) = self.generation(&subject).await;
        // Nobody knows when this verification began. What an invalidation leaves behind decides: a hold on the
        // key, and the second from which on tokens are new, in which only a lease could tell before from after.
        if not_before_s > 0 && subject.iat_s <= not_before_s {
            return Ok(Outcome::Bool(false));
        }
        Ok(Outcome::Bool(self.add(subject.key(), &subject.loaded(json, generation)).await))
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
        self.cache.invalidate(vec![(key, jwt::hold())]).await
    }

    pub(super) async fn begin_jwt(
        self: &Arc<Self>,
        subject: JwtSubject,
        asked: Asked,
        env: u64,
        full: bool,
        started: Started,
    ) -> Outcome {
        match self.cache.begin(&subject, asked).await {
            Err(error) => error.into(),
            Ok(Begin::LoaderFailed(number)) => Outcome::LoaderFailed(number),
            Ok(Begin::Found(found)) => {
                let read = Read::Jwt(Box::new(subject));
                self.count(&read, &found, started);
                read.outcome(&found, full)
            }
            Ok(Begin::Lead(right)) => {
                let number = self.next_lead.fetch_add(1, Ordering::SeqCst) + 1;
                self.leads.lock().insert(number, JsLead { right, subject, env, started });
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
            core.forget(number).await;
        });
    }

    /// Ends a load that nobody will run, and gives its lease back, so that nobody waits for it.
    pub(super) async fn forget(&self, number: u64) {
        let gone = self.leads.lock().remove(&number);
        if let Some(JsLead { right, subject, .. }) = gone {
            self.cache.fail(subject.key(), right, Failure::Abandoned).await;
        }
    }

    /// As `forget`, for every load of an environment that is gone.
    pub(super) async fn forget_all(&self, of: impl Fn(&JsLead) -> bool) {
        let numbers: Vec<u64> =
            self.leads.lock().iter().filter(|(_, lead)| of(lead)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.forget(number).await;
        }
    }

    /// Ends a load with the payload's JSON, or as failed.
    pub(super) async fn end_jwt(&self, number: u64, json: Option<String>) -> Result<Outcome, Error> {
        let Some(JsLead { right, subject, started, .. }) = self.leads.lock().remove(&number) else {
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
        let us = self.cache.clock.now_us().saturating_sub(started.us);
        self.telemetry.of(subject.key().namespace()).answered(found.tier, false, us);
        Ok(Outcome::Object { serial: found.serial, text: None })
    }
}

fn object(field: &'static str, json: &str) -> Result<(), Error> {
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) if json.trim_start().starts_with('{') && json.len() <= limits::ENTRY_BYTES => Ok(()),
        _ => Err(Error::argument(field, "an object of at most 1 MiB of JSON")),
    }
}
