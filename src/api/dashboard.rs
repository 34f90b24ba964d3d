//! Values of several layers, and the configured dashboard.

use bcos_cache_core::dashboard::Whose;
use bcos_cache_core::engine::{DashboardAsk, Request};
use napi::Env;
use napi_derive::napi;

use super::Raw;
use super::engine::NativeEngine;
use crate::bridge::args::{Text, deadline, whole};
use crate::bridge::queue::Queue;

#[napi]
impl NativeEngine {
    /// What the configured dashboard is, as JSON; null without one
    #[napi(catch_unwind)]
    pub fn dashboard(&self) -> Option<String> {
        self.engine.core().settings.dashboard.as_ref().map(|dashboard| dashboard.json().to_string())
    }

    /// As beginJwt, or [-3, JSON] of a load that was shared, [-4, JSON] when it is not stored; an empty scope means one
    /// value for all. Its endLead resolves to null when it is not stored
    #[napi(catch_unwind)]
    pub fn begin_layered(
        &self,
        env: Env,
        key: Text,
        scope: Text,
        ttl_ms: f64,
        full: bool,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let id = Queue::of(env.raw())?.id();
        let (key, scope, ttl_ms) = (key.0, scope.0, whole(ttl_ms));
        let request = Request::BeginLayered { key, scope, ttl_ms, env: id, full };
        self.submit(env, request, deadline(deadline_ms))
    }

    /// [acknowledged, queued]; an empty scope means the value for all, `*` those of all scopes
    #[napi(catch_unwind)]
    pub fn invalidate_layered(
        &self,
        env: Env,
        key: Text,
        scope: Text,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let whose = match scope.0.as_str() {
            "" => Whose::Everybody,
            "*" => Whose::Scopes,
            _ => Whose::Scope(scope.0),
        };
        self.submit(env, Request::InvalidateLayered { key: key.0, whose }, deadline(deadline_ms))
    }

    /// JSON of { metrics, lastUpdated }, or null without a row
    #[napi(catch_unwind)]
    pub fn dashboard_view(&self, env: Env, scope: Option<String>, deadline_ms: f64) -> napi::Result<Raw> {
        self.ask(env, DashboardAsk::View { scope }, deadline_ms)
    }

    /// JSON of { metrics, lastUpdated }
    #[napi(catch_unwind)]
    pub fn dashboard_queries(&self, env: Env, scope: Option<String>, deadline_ms: f64) -> napi::Result<Raw> {
        self.ask(env, DashboardAsk::Queries { scope }, deadline_ms)
    }

    /// null once the view is refreshed
    #[napi(catch_unwind)]
    pub fn refresh_dashboard(&self, env: Env, deadline_ms: f64) -> napi::Result<Raw> {
        self.ask(env, DashboardAsk::Refresh, deadline_ms)
    }

    /// JSON of { exists, populated, uniqueIndex, lastRefreshed?, ageSeconds?, error? }
    #[napi(catch_unwind)]
    pub fn dashboard_health(&self, env: Env, deadline_ms: f64) -> napi::Result<Raw> {
        self.ask(env, DashboardAsk::Health, deadline_ms)
    }
}

impl NativeEngine {
    fn ask(&self, env: Env, ask: DashboardAsk, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::Dashboard(ask), deadline(deadline_ms))
    }
}
