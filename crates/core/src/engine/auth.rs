//! The cold half of every request: what waits, loads, writes or voids.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::jwt::{self, JwtSubject};
use crate::auth::token::{self, TokenSubject};
use crate::auth::user::{self, EmailSubject, UserSubject};
use crate::auth::{text, uuid};
use crate::base::codec::Kind;
use crate::base::error::{Code, Error};
use crate::base::key::Key;
use crate::base::limits;
use crate::cache::entry::encode;
use crate::cache::flight::Failure;
use crate::cache::lease::Lease;
use crate::cache::policy::{SCHEMA, Subject};
use crate::cache::tiered::{Begin, Judged};
use crate::cache::{Found, Loaded};
use crate::source::Revocation;
use crate::store::{Op, Reply};

use super::hot::{Hot, Plan, Read};
use super::{Core, JsLead, Outcome, Request};

impl Core {
    /// Answers a request that the hot half could not.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request,
        hot: Option<Hot>,
        started_us: u64,
    ) -> Outcome {
        let alone = match hot {
            Some(hot) => Plan::Hot(hot),
            None => self.ask_alone(&request, started_us).await,
        };
        match alone {
            Plan::Now(outcome) => return outcome,
            Plan::Hot(hot) => return self.cold(&request, hot, started_us).await,
            Plan::Task => {}
        }
        match request {
            Request::CacheTokenStatus { jti, revoked } => self.cache_token_status(&jti, revoked).await.into(),
            Request::InvalidateToken { jti } => self.invalidate_token(&jti).await.into(),
            Request::BlacklistToken(row) => self.blacklist_token(*row).await,
            Request::InvalidateUserTokens { user_id } => self.invalidate_user_tokens(&user_id).await.into(),
            Request::UserByEmail { email } => self.user_by_email(&email, started_us).await.into(),
            Request::CacheUser { user_id, json } => self.cache_user(&user_id, &json).await.into(),
            Request::InvalidateUser { user_id } => self.invalidate_user(&user_id).await.into(),
            Request::CacheJwt { token, json } => self.cache_jwt(&token, &json).await.into(),
            Request::InvalidateJwt { jti } => self.invalidate_jwt(&jti).await.into(),
            Request::EndJwt { lead, json } => self.end_jwt(lead, json).await.into(),
            Request::Health => Outcome::Json(self.health().await.json()),
            Request::TokenIsBlacklisted { .. }
            | Request::TokenStatus { .. }
            | Request::UserById { .. }
            | Request::CachedUser { .. }
            | Request::CachedJwt { .. }
            | Request::BeginJwt { .. } => {
                Outcome::Failed(Error::new(Code::Internal, "a read without its plan"))
            }
        }
    }

    /// The hot half for one request outside a batch.
    async fn ask_alone(&self, request: &Request, started_us: u64) -> Plan {
        self.cache.ready().await;
        let mut ops = Vec::new();
        match self.plan(request, &mut ops, started_us) {
            Plan::Hot(mut hot) => {
                let replies = if ops.is_empty() { Vec::new() } else { self.cache.exec(ops).await };
                match self.settle_hot(&mut hot, &replies, started_us) {
                    Some(outcome) => Plan::Now(outcome),
                    None => Plan::Hot(hot),
                }
            }
            other => other,
        }
    }

    async fn cold(self: &Arc<Self>, request: &Request, hot: Hot, started_us: u64) -> Outcome {
        let Hot { read, asked, changed, .. } = hot;
        let mut asked = asked.unwrap_or_else(|| self.cache.ask(read.subject()));
        if changed {
            match self.cache.fetch(read.subject(), asked).await {
                Judged::Found(found) => {
                    self.count(&read, &found, started_us);
                    return read.outcome(&found);
                }
                Judged::Changed(next) | Judged::Miss(next) => asked = next,
            }
        }
        let found = match (request, &read) {
            (Request::TokenIsBlacklisted { .. }, Read::Token(subject)) => {
                self.cache
                    .load(subject, asked, || async {
                        Ok(token::loaded(self.source.token_is_blacklisted(&subject.jti).await?))
                    })
                    .await
            }
            (Request::UserById { .. }, Read::User(subject)) => {
                self.cache.load(subject, asked, || self.load_user(&subject.user_id)).await
            }
            (Request::BeginJwt { env, .. }, _) => {
                let Read::Jwt(subject) = read else { return Outcome::Nothing };
                return self.begin_jwt(*subject, asked, *env, started_us).await;
            }
            _ => {
                self.peek(read.subject()).await;
                return Outcome::Nothing;
            }
        };
        match found {
            Ok(found) => {
                self.count(&read, &found, started_us);
                read.outcome(&found)
            }
            Err(error) => {
                self.telemetry.of(read.subject().key().namespace()).errors.up();
                Outcome::Failed(error)
            }
        }
    }

    async fn load_user(&self, user_id: &str) -> Result<Loaded, Error> {
        user::loaded(self.source.user_by_id(user_id).await?.as_ref())
    }

    /// Gets a lease that nobody waits for and remembers it for the `cache...` call that may follow.
    async fn peek(&self, subject: &dyn Subject) {
        let Some(lease) = self.cache.soft_lease(subject).await else { return };
        let now = self.cache.clock.now_ms();
        let mut peeked = self.peeked.lock();
        if peeked.len() >= limits::SOFT_LEASES {
            peeked.retain(|_, (_, until)| *until > now);
        }
        if peeked.len() < limits::SOFT_LEASES {
            peeked.insert(subject.key().clone(), (lease, now + self.cache.times.lease_ms));
        }
    }

    fn peeked(&self, key: &Key) -> Option<Lease> {
        let (lease, until) = self.peeked.lock().remove(key)?;
        (self.cache.clock.now_ms() < until).then_some(lease)
    }

    /// Stores a value if nothing at all is stored.
    async fn add(&self, key: &Key, loaded: &Loaded) -> bool {
        if loaded.ttl_ms == 0 || self.cache.pending.contains(key) {
            return false;
        }
        let value = encode(key, loaded.kind, SCHEMA, crate::base::jitter::token(), &loaded.payload);
        let add = Op::Add { key: key.clone(), value, ttl_ms: loaded.ttl_ms };
        matches!(self.cache.exec(vec![add]).await.pop(), Some(Ok(Reply::Done(true))))
    }

    async fn cache_token_status(&self, jti: &str, revoked: bool) -> Result<Outcome, Error> {
        let subject = TokenSubject::new(&self.cache.keys, jti)?;
        if revoked {
            let done = self.cache.invalidate(vec![(subject.key().clone(), token::mark())]).await?;
            self.remember_revoked(&subject);
            return Ok(Outcome::Bool(done.acknowledged));
        }
        let loaded = token::loaded(false);
        let stored = match self.peeked(subject.key()) {
            Some(lease) => self.cache.fill(&subject, &lease, &loaded).await.is_some(),
            // Without a lease only an absent key is written: a mark is there for longer than any load.
            None => self.add(subject.key(), &loaded).await,
        };
        Ok(Outcome::Bool(stored))
    }

    /// A revoked token stays revoked, so this process need not ask again.
    fn remember_revoked(&self, subject: &TokenSubject) {
        let (near, key) = (&self.cache.near, subject.key());
        let loaded = token::loaded(true);
        let now = self.cache.clock.now_ms();
        near.insert(key, near.epoch(key), (Kind::Value, 0, loaded.payload), now, now + token::REVOKED_MS);
    }

    async fn invalidate_token(&self, jti: &str) -> Result<crate::cache::Invalidation, Error> {
        let subject = TokenSubject::new(&self.cache.keys, jti)?;
        // Here at once, whatever becomes of the store.
        self.remember_revoked(&subject);
        let done = self.cache.invalidate(vec![(subject.key().clone(), token::mark())]).await;
        self.remember_revoked(&subject);
        done
    }

    async fn blacklist_token(&self, mut row: Revocation) -> Outcome {
        let checked = || -> Result<(), Error> {
            text("jti", &row.jti, token::JTI_CHARS)?;
            row.user_id = uuid("userId", &row.user_id)?;
            row.blacklisted_by =
                row.blacklisted_by.as_deref().map(|by| uuid("blacklistedBy", by)).transpose()?;
            text("tokenType", &row.token_type, 20)?;
            text("reason", &row.reason, 50)?;
            row.ip_address.as_deref().map_or(Ok(()), |ip| text("ipAddress", ip, 45))?;
            row.user_agent.as_deref().map_or(Ok(()), |agent| text("userAgent", agent, 4_096))?;
            // Postgres holds 4713 BC to 294276 AD; a token ends in this range of years or is a mistake.
            if !(0.0..=253_402_300_799_999.0).contains(&row.expires_at_ms) {
                return Err(Error::argument("expiresAt", "a time between the years 1970 and 9999"));
            }
            Ok(())
        }();
        if let Err(error) = checked {
            return error.into();
        }
        let jti = row.jti.clone();
        let inserted = self.source.blacklist_token(row).await;
        // Marked even when the row could not be written: refusing a token is the safe side.
        let marked = self.invalidate_token(&jti).await;
        match (inserted, marked) {
            (Ok(inserted), Ok(done)) => Outcome::Invalidated(done, Some(inserted)),
            (Err(error), _) | (_, Err(error)) => error.into(),
        }
    }

    async fn invalidate_user_tokens(&self, user_id: &str) -> Result<crate::cache::Invalidation, Error> {
        text("userId", user_id, limits::KEY_PART_BYTES)?;
        let key = jwt::user_key(&self.cache.keys, user_id);
        self.cache.invalidate(vec![(key, jwt::regenerate(self.cache.clock.unix_ms()))]).await
    }

    async fn user_by_email(self: &Arc<Self>, email: &str, started_us: u64) -> Result<Outcome, Error> {
        let subject = EmailSubject::new(&self.cache.keys, email)?;
        for attempt in 0..2 {
            let index = self
                .read(&subject, || async {
                    Ok(user::loaded_index(self.source.user_by_email(email).await?.as_ref()))
                })
                .await?;
            let us = self.cache.clock.now_us().saturating_sub(started_us);
            self.telemetry.of(subject.key().namespace()).answered(index.tier, index.negative(), us);
            let Ok(user_id) = std::str::from_utf8(&index.payload) else { break };
            if index.negative() {
                return Ok(Outcome::Nothing);
            }
            let owner = UserSubject::new(&self.cache.keys, user_id)?;
            let found = self.read(&owner, || self.load_user(&owner.user_id)).await?;
            let has_it = !found.negative() && address(&found.payload).as_deref() == Some(email);
            let read = Read::User(owner);
            self.count(&read, &found, started_us);
            if has_it {
                return Ok(Outcome::Object { serial: found.serial, text: Some(found.payload) });
            }
            if attempt == 0 {
                // The address has another owner, or none, by now: the hint is void.
                self.cache.invalidate(vec![(subject.key().clone(), crate::cache::Effect::Delete)]).await?;
            }
        }
        Ok(Outcome::Nothing)
    }

    /// A read outside a batch.
    async fn read<F>(&self, subject: &dyn Subject, loader: impl FnOnce() -> F) -> Result<Found, Error>
    where
        F: Future<Output = Result<Loaded, Error>>,
    {
        let mut ops = Vec::new();
        let look = self.cache.look(subject, &mut ops);
        let replies = if ops.is_empty() { Vec::new() } else { self.cache.exec(ops).await };
        let asked = match self.cache.judge(subject, look, &replies) {
            Judged::Found(found) => return Ok(found),
            Judged::Miss(asked) => asked,
            Judged::Changed(asked) => match self.cache.fetch(subject, asked).await {
                Judged::Found(found) => return Ok(found),
                Judged::Changed(asked) | Judged::Miss(asked) => asked,
            },
        };
        self.cache.load(subject, asked, loader).await
    }

    async fn cache_user(&self, user_id: &str, json: &str) -> Result<Outcome, Error> {
        let subject = UserSubject::new(&self.cache.keys, user_id)?;
        let given = user::loaded(user::from_caller(&subject.user_id, json)?.as_ref())?;
        if let Some(lease) = self.peeked(subject.key()) {
            return Ok(Outcome::Bool(self.cache.fill(&subject, &lease, &given).await.is_some()));
        }
        // Nobody peeked, so the given object may be older than an invalidation: the source decides.
        if !self.source.configured() || !self.cache.usable(subject.key()) {
            return Ok(Outcome::Bool(false));
        }
        self.read(&subject, || self.load_user(&subject.user_id)).await?;
        Ok(Outcome::Bool(true))
    }

    async fn invalidate_user(&self, user_id: &str) -> Result<crate::cache::Invalidation, Error> {
        let subject = UserSubject::new(&self.cache.keys, user_id)?;
        self.peeked.lock().remove(subject.key());
        self.cache.invalidate(vec![(subject.key().clone(), crate::cache::Effect::Delete)]).await
    }

    async fn cache_jwt(&self, token: &str, json: &str) -> Result<Outcome, Error> {
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
        let value = encode(user, Kind::Value, SCHEMA, crate::base::jitter::token(), b"");
        let add = Op::Add { key: user.clone(), value, ttl_ms: crate::cache::policy::COMPANION_MS };
        let replies = self.cache.exec(vec![add, Op::Get(user.clone())]).await;
        match replies.get(1) {
            Some(Ok(Reply::Bytes(bytes))) => {
                match crate::cache::entry::Stored::read(user, SCHEMA, bytes.as_ref()) {
                    crate::cache::entry::Stored::Entry { etag, payload, .. } => {
                        (Some(etag), jwt::not_before_s(&payload))
                    }
                    _ => (None, 0),
                }
            }
            _ => (None, 0),
        }
    }

    async fn invalidate_jwt(&self, jti: &str) -> Result<crate::cache::Invalidation, Error> {
        text("tokenId", jti, limits::KEY_PART_BYTES)?;
        let key = self.cache.keys.entry(crate::base::key::Namespace::JwtPayload, jti);
        self.peeked.lock().remove(&key);
        self.cache.invalidate(vec![(key, jwt::hold())]).await
    }

    async fn begin_jwt(
        self: &Arc<Self>,
        subject: JwtSubject,
        asked: crate::cache::tiered::Asked,
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
    async fn end_jwt(&self, number: u64, json: Option<String>) -> Result<Outcome, Error> {
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

    /// The JSON of near copy number `serial`, for a JS side that dropped the object; `None` when the copy
    /// was replaced meanwhile.
    pub fn near_text(&self, request: &Request, serial: u64) -> Option<Bytes> {
        let read = match request {
            Request::UserById { user_id } | Request::CachedUser { user_id } => {
                Read::User(UserSubject::new(&self.cache.keys, user_id).ok()?)
            }
            Request::CachedJwt { token } | Request::BeginJwt { token, .. } => {
                Read::Jwt(Box::new(self.jwt(token).ok()??))
            }
            _ => return None,
        };
        let near = self
            .cache
            .near
            .get(read.subject().key(), self.cache.clock.now_ms())
            .filter(|near| near.serial == serial)?;
        match read {
            Read::Jwt(_) => Some(JwtSubject::json(&near.payload)),
            _ => Some(near.payload.clone()),
        }
    }
}

fn address(payload: &Bytes) -> Option<String> {
    serde_json::from_slice::<crate::source::User>(payload).ok().map(|user| user.email)
}

fn object(field: &'static str, json: &str) -> Result<(), Error> {
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) if json.trim_start().starts_with('{') && json.len() <= limits::ENTRY_BYTES => Ok(()),
        _ => Err(Error::argument(field, "an object of at most 1 MiB of JSON")),
    }
}
