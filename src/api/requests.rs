//! One method per request. Each returns its promise; what it resolves to is in `bridge::outcome`.

use bcos_cache_core::datasource::Wish;
use bcos_cache_core::engine::{RbacInvalidation, RbacTarget, RefreshRequest, Request};
use bcos_cache_core::source::Revocation;
use napi::Env;
use napi_derive::napi;

use super::Raw;
use super::engine::NativeEngine;
use crate::bridge::args::{Text, deadline, whole};
use crate::bridge::queue::Queue;

/// Time for the locks that a trigger needs.
const MIGRATE_MS: u64 = 90_000;

#[napi]
impl NativeEngine {
    /// boolean or null
    #[napi(catch_unwind)]
    pub fn token_status(&self, env: Env, token_id: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::TokenStatus { jti: token_id.0 }, deadline(deadline_ms))
    }

    /// boolean: stored
    #[napi(catch_unwind)]
    pub fn cache_token_status(
        &self,
        env: Env,
        token_id: Text,
        revoked: bool,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        self.submit(env, Request::CacheTokenStatus { jti: token_id.0, revoked }, deadline(deadline_ms))
    }

    /// [acknowledged, queued]
    #[napi(catch_unwind)]
    pub fn invalidate_token(&self, env: Env, token_id: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::InvalidateToken { jti: token_id.0 }, deadline(deadline_ms))
    }

    /// [acknowledged, queued, inserted]
    #[napi(catch_unwind)]
    #[allow(clippy::too_many_arguments, reason = "the columns of one row, named on the TypeScript side")]
    pub fn blacklist_token(
        &self,
        env: Env,
        jti: Text,
        user_id: Text,
        token_type: Text,
        expires_at_ms: f64,
        reason: Text,
        blacklisted_by: Option<String>,
        ip_address: Option<String>,
        user_agent: Option<String>,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let row = Revocation {
            jti: jti.0,
            user_id: user_id.0,
            token_type: token_type.0,
            expires_at_ms,
            reason: reason.0,
            blacklisted_by,
            ip_address,
            user_agent,
        };
        self.submit(env, Request::BlacklistToken(Box::new(row)), deadline(deadline_ms))
    }

    /// [acknowledged, queued]
    #[napi(catch_unwind)]
    pub fn invalidate_user_tokens(&self, env: Env, user_id: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::InvalidateUserTokens { user_id: user_id.0 }, deadline(deadline_ms))
    }

    /// null, serial, or [serial, JSON]
    #[napi(catch_unwind)]
    pub fn user_by_email(&self, env: Env, email: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::UserByEmail { email: email.0 }, deadline(deadline_ms))
    }

    /// null, serial, or [serial, JSON]
    #[napi(catch_unwind)]
    pub fn cached_user(&self, env: Env, user_id: Text, full: bool, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::CachedUser { user_id: user_id.0, full }, deadline(deadline_ms))
    }

    /// boolean: stored
    #[napi(catch_unwind)]
    pub fn cache_user(&self, env: Env, user_id: Text, json: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::CacheUser { user_id: user_id.0, json: json.0 }, deadline(deadline_ms))
    }

    /// boolean: stored
    #[napi(catch_unwind)]
    pub fn cache_jwt(&self, env: Env, token: Text, json: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::CacheJwt { token: token.0, json: json.0 }, deadline(deadline_ms))
    }

    /// [acknowledged, queued]
    #[napi(catch_unwind)]
    pub fn invalidate_jwt(&self, env: Env, token_id: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::InvalidateJwt { jti: token_id.0 }, deadline(deadline_ms))
    }

    /// Ends a load whose caller went away: nobody gets what it brings.
    #[napi(catch_unwind)]
    pub fn drop_lead(&self, env: Env, lead: f64) -> napi::Result<Raw> {
        self.submit(env, Request::DropLead { lead: lead as u64 }, 0)
    }

    /// Ends a load: the payload's JSON, or null when the loader failed.
    #[napi(catch_unwind)]
    pub fn end_lead(&self, env: Env, lead: f64, json: Option<String>) -> napi::Result<Raw> {
        self.submit(env, Request::EndLead { lead: lead as u64, json }, 0)
    }

    /// null, serial, or [serial, JSON]
    #[napi(catch_unwind)]
    pub fn cached_value(&self, env: Env, key: Text, full: bool, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::CachedValue { key: key.0, full }, deadline(deadline_ms))
    }

    /// As beginJwt
    #[napi(catch_unwind)]
    pub fn begin_value(
        &self,
        env: Env,
        key: Text,
        ttl_ms: f64,
        full: bool,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let id = Queue::of(env.raw())?.id();
        let request = Request::BeginValue { key: key.0, ttl_ms: whole(ttl_ms), env: id, full };
        self.submit(env, request, deadline(deadline_ms))
    }

    /// As beginJwt; a Buffer of JSON when `raw` and found; or [-3, one of them, stale, version to refresh or null]
    #[napi(catch_unwind)]
    #[allow(clippy::too_many_arguments, reason = "what names one result, and how it is wanted")]
    pub fn begin_result(
        &self,
        env: Env,
        source: Text,
        hash: Text,
        ttl_ms: f64,
        stale_ms: f64,
        beta: f64,
        full: bool,
        raw: bool,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let id = Queue::of(env.raw())?.id();
        let (source, hash, ttl_ms) = (source.0, hash.0, whole(ttl_ms));
        let wish = Wish { stale_ms: whole(stale_ms), beta };
        let request = Request::BeginResult { source, hash, ttl_ms, wish, env: id, full, raw };
        self.submit(env, request, deadline(deadline_ms))
    }

    /// [-1, lead], or null
    #[napi(catch_unwind)]
    #[allow(clippy::too_many_arguments, reason = "what names one result, and the version that was answered")]
    pub fn begin_refresh(
        &self,
        env: Env,
        source: Text,
        hash: Text,
        ttl_ms: f64,
        stale_ms: f64,
        beta: f64,
        version: Text,
    ) -> napi::Result<Raw> {
        let etag = u64::from_str_radix(&version.0, 16);
        let etag = etag.map_err(|_| napi::Error::from_reason("a version as it was given out is expected"))?;
        let asked = RefreshRequest {
            source: source.0,
            hash: hash.0,
            ttl_ms: whole(ttl_ms),
            wish: Wish { stale_ms: whole(stale_ms), beta },
            etag,
            env: Queue::of(env.raw())?.id(),
        };
        self.submit(env, Request::BeginRefresh(Box::new(asked)), 0)
    }

    /// [acknowledged, queued]; an empty hash means all of the source
    #[napi(catch_unwind)]
    pub fn invalidate_result(
        &self,
        env: Env,
        source: Text,
        hash: Text,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let (source, hash) = (source.0, hash.0);
        let request = match hash.is_empty() {
            true => Request::InvalidateResults { source },
            false => Request::InvalidateResult { source, hash },
        };
        self.submit(env, request, deadline(deadline_ms))
    }

    /// [acknowledged, queued]
    #[napi(catch_unwind)]
    pub fn invalidate_rbac(
        &self,
        env: Env,
        what: Text,
        id: Text,
        reason: Text,
        hold_ms: f64,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let target = match what.0.as_str() {
            "user" => RbacTarget::User,
            "role" => RbacTarget::Role,
            "roles" => RbacTarget::Roles,
            "role_users" => RbacTarget::UsersWithRole,
            "organization_members" => RbacTarget::OrganizationMembers,
            "hierarchy" => RbacTarget::Hierarchy,
            _ => return Err(napi::Error::from_reason("an invalidation of an unknown kind")),
        };
        let hold_ms = if hold_ms.is_finite() { hold_ms.max(0.0) as u64 } else { 0 };
        let what = RbacInvalidation { target, id: id.0, reason: reason.0, hold_ms };
        self.submit(env, Request::InvalidateRbac(Box::new(what)), deadline(deadline_ms))
    }

    /// Resolves when the outbox is installed, or removed.
    #[napi(catch_unwind)]
    pub fn migrate(&self, env: Env, remove: bool) -> napi::Result<Raw> {
        self.submit(env, Request::Migrate { remove }, MIGRATE_MS)
    }

    /// JSON
    #[napi(catch_unwind)]
    pub fn health(&self, env: Env) -> napi::Result<Raw> {
        self.submit(env, Request::Health, 0)
    }

    /// Resolves when the engine has ended.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env, drain_ms: f64) -> napi::Result<Raw> {
        let queue = Queue::of(env.raw())?;
        // SAFETY: the environment of this very call.
        let (ticket, promise) = unsafe { queue.promise(env.raw()) };
        let engine = self.engine.clone();
        self.engine.runtime().clone().spawn(async move {
            engine.close(deadline(drain_ms)).await;
            bcos_cache_core::engine::Ticket::settle(ticket, bcos_cache_core::engine::Outcome::Nothing);
        });
        Ok(Raw(promise))
    }
}
