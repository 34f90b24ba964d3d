//! The cold half of every request: what waits, loads, writes or voids. What that means for a token, a user
//! or a payload stands in the file of that name.

use std::sync::Arc;

use crate::base::error::{Code, Error};
use crate::base::jitter;
use crate::base::key::{Key, Namespace};
use crate::cache::entry::encode;
use crate::cache::policy::{SCHEMA, Subject};
use crate::cache::tiered::Judged;
use crate::cache::{Found, Loaded};
use crate::store::{Op, Reply};

use super::fallbacks::Past;
use super::gather::Want;
use super::hot::{Hot, OneHot, Plan, Read};
use super::ratelimits::limits_outcome;
use super::{Core, Outcome, Request, Started};

impl Core {
    /// Answers a request that the hot half could not.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request,
        hot: Option<Hot>,
        started: Started,
    ) -> Outcome {
        let alone = match hot {
            Some(hot) => Plan::Hot(hot),
            None => self.ask_alone(&request, started).await,
        };
        match alone {
            Plan::Now(outcome) => return outcome,
            Plan::Hot(hot) => return self.cold(&request, hot, started).await,
            Plan::Task => {}
        }
        match request {
            Request::CacheTokenStatus { jti, revoked } => self.cache_token_status(&jti, revoked).await.into(),
            Request::InvalidateToken { jti } => self.invalidate_token(&jti).await.into(),
            Request::BlacklistToken(row) => self.blacklist_token(*row).await,
            Request::InvalidateUserTokens { user_id } => self.invalidate_user_tokens(&user_id).await.into(),
            Request::UserByEmail { email } => {
                let found = self.user_by_email(&email, started).await;
                if found.is_err() {
                    self.telemetry.of(Namespace::UserEmail).errors.up();
                }
                found.into()
            }
            Request::CacheUser { user_id, json } => self.cache_user(&user_id, &json).await.into(),
            Request::CacheJwt { token, json } => self.cache_jwt(&token, &json).await.into(),
            Request::InvalidateJwt { jti } => self.invalidate_jwt(&jti).await.into(),
            Request::EndLead { lead, json } => self.end_lead(lead, json).await.into(),
            Request::Value(request) => self.value(*request).await.into(),
            Request::DropLead { lead } => {
                self.forget(lead).await;
                Outcome::Nothing
            }
            Request::BeginRefresh(asked) => self.begin_refresh(*asked).await.into(),
            Request::InvalidateResult { source, hash } => self.invalidate_result(&source, &hash).await.into(),
            Request::InvalidateResults { source } => self.invalidate_results(&source).await.into(),
            Request::InvalidateLayered { key, whose } => self.invalidate_layered(&key, &whose).await.into(),
            Request::Dashboard(ask) => self.dashboard(ask).await.into(),
            Request::UserContext { user_id, consistency, .. } => {
                self.whole_context(&user_id, consistency, started).await
            }
            Request::InvalidateRbac(what) => self.invalidate_rbac(*what).await.into(),
            Request::ChangeLimit { check, change } => self.change_limit(&check, change).await.into(),
            Request::Migrate { remove } => self.migrate(remove).await.into(),
            Request::Warming { job, seen } => self.warming_after(job, seen).await.into(),
            // Boxed: the task of every other miss would otherwise be as large as these.
            Request::AnalyticsOrder(order) => Box::pin(self.analytics_order(order)).await.into(),
            Request::Health => Outcome::Json(self.health().await.json()),
            Request::TokenIsBlacklisted { .. }
            | Request::TokenStatus { .. }
            | Request::UserById { .. }
            | Request::CachedUser { .. }
            | Request::CachedJwt { .. }
            | Request::RolePermissions { .. }
            | Request::Authorize(_)
            | Request::Limit { .. }
            | Request::Limits { .. }
            | Request::Analytics(_)
            | Request::CachedValue { .. }
            | Request::BeginValue { .. }
            | Request::BeginResult { .. }
            | Request::BeginLayered { .. }
            | Request::BeginJwt { .. } => {
                Outcome::Failed(Error::new(Code::Internal, "a read without its plan"))
            }
        }
    }

    /// The hot half for one request outside a batch.
    async fn ask_alone(&self, request: &Request, started: Started) -> Plan {
        self.cache.ready().await;
        let mut ops = Vec::new();
        match self.plan(request, &mut ops, started) {
            Plan::Hot(mut hot) => {
                let replies = if ops.is_empty() { Vec::new() } else { self.cache.exec(ops).await };
                match self.settle_hot(&mut hot, &replies, started) {
                    Some(outcome) => Plan::Now(outcome),
                    None => Plan::Hot(hot),
                }
            }
            other => other,
        }
    }

    async fn cold(self: &Arc<Self>, request: &Request, hot: Hot, started: Started) -> Outcome {
        let hot = match hot {
            Hot::One(hot) => *hot,
            Hot::Context(hot) => return self.cold_context(*hot, started).await,
            Hot::Authorize(hot) => return self.cold_authorize(*hot, started).await,
            Hot::Limits(hot) => return limits_outcome(self.refund(*hot).await),
            Hot::Analytics(hot) => return Box::pin(self.cold_analytics(*hot, started)).await.into(),
        };
        let OneHot { read, full, asked, changed, .. } = hot;
        let mut asked = asked.unwrap_or_else(|| self.cache.ask(read.subject()));
        if changed {
            match self.cache.fetch(read.subject(), asked).await {
                Judged::Found(found) => {
                    self.count(&read, &found, started);
                    return self.hit(&read, &found, full);
                }
                Judged::Changed(next) | Judged::Miss(next) => {
                    if !next.looked() {
                        self.went_past(read.subject().key().namespace(), Past::Failed);
                    }
                    asked = next;
                }
            }
        }
        let found = match (request, &read) {
            (Request::TokenIsBlacklisted { .. }, Read::Token(subject)) => {
                self.cache.load(subject, asked, |_| self.load_token(&subject.jti)).await
            }
            (Request::UserById { .. }, Read::User(subject)) => {
                self.cache.load(subject, asked, |_| self.load_user(&subject.user_id)).await
            }
            (Request::RolePermissions { .. }, Read::Role(subject)) => {
                self.cache
                    .load(subject, asked, |epoch| async move {
                        let part = self.part(Want::Role(subject.role_id.clone()), None).await?;
                        Ok(subject.loaded(epoch, &part))
                    })
                    .await
            }
            (
                Request::BeginJwt { env, .. }
                | Request::BeginValue { env, .. }
                | Request::BeginResult { env, .. }
                | Request::BeginLayered { env, .. },
                _,
            ) => {
                return self.begin_lead(read, asked, *env, full, started).await;
            }
            // A peek: what is not there is not loaded.
            _ => return Outcome::Nothing,
        };
        match found {
            Ok(found) => {
                self.count(&read, &found, started);
                read.outcome(&found, full)
            }
            Err(error) => {
                self.telemetry.of(read.subject().key().namespace()).errors.up();
                Outcome::Failed(error)
            }
        }
    }

    /// A read outside a batch.
    pub(super) async fn read<F>(
        &self,
        subject: &dyn Subject,
        loader: impl FnOnce(Option<u64>) -> F,
    ) -> Result<Found, Error>
    where
        F: Future<Output = Result<Loaded, Error>>,
    {
        let mut ops = Vec::new();
        self.fallbacks.reads.up();
        let look = self.cache.look(subject, self.cache.flights.moment(), &mut ops);
        let replies = if ops.is_empty() { Vec::new() } else { self.cache.exec(ops).await };
        let past = self.past_because(look.ops == 0, &replies);
        let judged = self.cache.judge(subject, look, &replies);
        if let (Judged::Miss(_), Some(why)) = (&judged, past) {
            self.went_past(subject.key().namespace(), why);
        }
        self.resolve(subject, judged, loader).await
    }

    /// What a reply said, or what it takes to find out.
    pub(super) async fn resolve<F>(
        &self,
        subject: &dyn Subject,
        judged: Judged,
        loader: impl FnOnce(Option<u64>) -> F,
    ) -> Result<Found, Error>
    where
        F: Future<Output = Result<Loaded, Error>>,
    {
        let asked = match judged {
            Judged::Found(found) => return Ok(found),
            Judged::Miss(asked) => asked,
            Judged::Changed(asked) => match self.cache.fetch(subject, asked).await {
                Judged::Found(found) => return Ok(found),
                Judged::Changed(asked) | Judged::Miss(asked) => asked,
            },
        };
        self.cache.load(subject, asked, loader).await
    }

    /// Stores a value if nothing at all is stored.
    pub(super) async fn add(&self, key: &Key, loaded: &Loaded) -> bool {
        if loaded.ttl_ms == 0 || self.cache.pending.contains(key) {
            return false;
        }
        let value = encode(key, loaded.kind, SCHEMA, jitter::token(), &loaded.payload);
        let add = Op::Add { key: key.clone(), value, ttl_ms: loaded.ttl_ms };
        matches!(self.cache.exec(vec![add]).await.pop(), Some(Ok(Reply::Done(true))))
    }
}
