//! Lifecycle: installing the bridge, making and finding engines, their synchronous answers.

use std::sync::Arc;

use bcos_cache_core::base::error::Error;
use bcos_cache_core::config;
use bcos_cache_core::engine::Request;
use napi::bindgen_prelude::{FnArgs, Function, JsValue, Unknown};
use napi::{Env, sys};
use napi_derive::napi;

use super::Raw;
use crate::bridge::args::Text;
use crate::bridge::{log, queue::Queue};
use crate::registry::{self, JsEngine};

/// A running engine, as the TypeScript side holds it.
#[napi]
pub struct NativeEngine {
    pub(super) engine: Arc<JsEngine>,
}

/// Prepares this environment; `make_error(code, message, field, reason)` returns the error objects. Once.
#[napi(catch_unwind)]
#[allow(clippy::type_complexity, reason = "the generated declaration shows the parts")]
pub fn install(
    env: Env,
    make_error: Function<'_, FnArgs<(String, String, Option<String>, Option<String>)>, Unknown<'_>>,
) -> napi::Result<()> {
    // SAFETY: the environment and the function belong to this very call.
    unsafe { Queue::install(env.raw(), make_error.raw()) }
}

/// Names of the environment variables that `create_engine` wants to see.
#[napi(catch_unwind)]
pub fn variable_names() -> Vec<&'static str> {
    config::variable_names()
}

/// The Markdown table of all variables, for the README.
#[napi(catch_unwind)]
pub fn config_reference() -> String {
    config::reference()
}

/// Starts an engine of its own. `variables` and `options` are JSON objects.
#[napi(catch_unwind)]
pub fn create_engine(env: Env, variables: Text, options: Text) -> napi::Result<NativeEngine> {
    let engine = registry::create(&pairs(&variables.0), &object(&options.0));
    Ok(NativeEngine { engine: engine.map_err(|error| throw(env, &error))? })
}

/// The default engine, started on first use; `warms` = and warmed then, if the configuration says so.
#[napi(catch_unwind)]
pub fn default_engine(env: Env, variables: Text, warms: bool) -> napi::Result<NativeEngine> {
    let engine = registry::default_engine(&pairs(&variables.0), warms);
    Ok(NativeEngine { engine: engine.map_err(|error| throw(env, &error))? })
}

/// The default engine if there is one already.
#[napi(catch_unwind)]
pub fn existing_engine() -> Option<NativeEngine> {
    registry::existing().map(|engine| NativeEngine { engine })
}

/// The SQL of the outbox, or the SQL that removes it.
#[napi(catch_unwind)]
pub fn migration_sql(env: Env, variables: Text, options: Text, remove: bool) -> napi::Result<String> {
    registry::migration_sql(&pairs(&variables.0), &object(&options.0), remove)
        .map_err(|error| throw(env, &error))
}

/// Sets the options of the default engine before its first use.
#[napi(catch_unwind)]
pub fn configure(env: Env, variables: Text, options: Text) -> napi::Result<()> {
    registry::configure(&pairs(&variables.0), object(&options.0)).map_err(|error| throw(env, &error))
}

/// Sets the logger of this environment, or removes it. It gets one JSON text per record.
#[napi(catch_unwind)]
pub fn set_logger(env: Env, logger: Option<Function<'_, String, Unknown<'_>>>) -> napi::Result<()> {
    let raw = logger.as_ref().map_or(std::ptr::null_mut(), JsValue::raw);
    // SAFETY: the environment and the function belong to this very call.
    unsafe { log::set_logger(env.raw(), raw) }
}

#[napi]
impl NativeEngine {
    /// Whether the store is in service.
    #[napi(catch_unwind)]
    pub fn available(&self) -> bool {
        self.engine.core().cache.available()
    }

    /// The claims that may hold a user's id, in the order they are tried.
    #[napi(catch_unwind)]
    pub fn user_claims(&self) -> Vec<String> {
        self.engine.core().settings.jwt.user_claims.clone()
    }

    /// Named limits, policy and proxies, as JSON.
    #[napi(catch_unwind)]
    pub fn rate_limits(&self) -> String {
        self.engine.core().settings.rate_limits.json().to_string()
    }

    /// Metrics as JSON.
    #[napi(catch_unwind)]
    pub fn metrics(&self) -> String {
        self.engine.core().metrics(log::dropped()).to_string()
    }

    /// Metrics as Prometheus text.
    #[napi(catch_unwind)]
    pub fn metrics_text(&self) -> String {
        self.engine.core().prometheus()
    }
}

impl NativeEngine {
    /// Hands a request over and returns its promise.
    pub(super) fn submit(&self, env: Env, request: Request, deadline_ms: u64) -> napi::Result<Raw> {
        let queue = Queue::of(env.raw())?;
        // SAFETY: the environment of this very call.
        Ok(Raw(unsafe { queue.submit(env.raw(), &self.engine, request, deadline_ms) }))
    }
}

/// Throws the error object that the factory makes.
fn throw(env: Env, error: &Error) -> napi::Error {
    if let Ok(queue) = Queue::of(env.raw()) {
        // SAFETY: inside a call of this environment, which provides a handle scope.
        unsafe { sys::napi_throw(env.raw(), queue.error(env.raw(), error)) };
    }
    napi::Error::new(napi::Status::PendingException, error.to_string())
}

fn object(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or(serde_json::Value::Null)
}

fn pairs(text: &str) -> Vec<(String, String)> {
    match object(text) {
        serde_json::Value::Object(map) => {
            map.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
        }
        _ => Vec::new(),
    }
}
