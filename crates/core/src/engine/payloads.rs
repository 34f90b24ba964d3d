//! Requests about verified payloads. Not the running of `verify`, which is a loader like any other: `leads`.

use crate::auth::jwt::{self, JwtSubject};
use crate::auth::text;
use crate::base::codec::Kind;
use crate::base::error::Error;
use crate::base::key::Namespace;
use crate::base::{jitter, limits};
use crate::cache::entry::{Stored, encode};
use crate::cache::lease::Lease;
use crate::cache::policy::{COMPANION_MS, SCHEMA, Subject};
use crate::cache::{Invalidation, Loaded};
use crate::store::{Op, Reply};

use super::{Core, Outcome};

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

    /// A verified payload, ready to be stored if nothing was voided since the load began.
    pub(super) async fn verified(&self, subject: &JwtSubject, lease: Option<&Lease>, json: &str) -> Loaded {
        let (_, not_before_s) = self.generation(subject).await;
        let generation = lease.and_then(Lease::companion).filter(|_| subject.issued_after(not_before_s));
        subject.loaded(json, generation)
    }
}

fn object(field: &'static str, json: &str) -> Result<(), Error> {
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) if json.trim_start().starts_with('{') && json.len() <= limits::ENTRY_BYTES => Ok(()),
        _ => Err(Error::argument(field, "an object of at most 1 MiB of JSON")),
    }
}
