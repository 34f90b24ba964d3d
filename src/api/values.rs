//! The calls of the generic cache that are no reads of one entry.

use bcos_cache_core::engine::{Request, ValueRequest};
use napi::Env;
use napi_derive::napi;

use super::Raw;
use super::engine::NativeEngine;
use crate::bridge::args::{Text, deadline, whole};

#[napi]
impl NativeEngine {
    /// boolean: stored; no tags = under none
    #[napi(catch_unwind)]
    pub fn set_value(
        &self,
        env: Env,
        key: Text,
        json: Text,
        ttl_ms: f64,
        tags: Vec<String>,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let request = ValueRequest::Set { key: key.0, json: json.0, ttl_ms: whole(ttl_ms), tags };
        self.submit_value(env, request, deadline_ms)
    }

    /// [acknowledged, queued]
    #[napi(catch_unwind)]
    pub fn delete_value(&self, env: Env, key: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit_value(env, ValueRequest::Delete { key: key.0 }, deadline_ms)
    }

    /// Milliseconds; -2 without a value, -1 when the store cannot be asked
    #[napi(catch_unwind)]
    pub fn value_life(&self, env: Env, key: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit_value(env, ValueRequest::Life { key: key.0 }, deadline_ms)
    }

    /// boolean: done
    #[napi(catch_unwind)]
    pub fn expire_value(&self, env: Env, key: Text, ttl_ms: f64, deadline_ms: f64) -> napi::Result<Raw> {
        let request = ValueRequest::Expire { key: key.0, ttl_ms: whole(ttl_ms) };
        self.submit_value(env, request, deadline_ms)
    }

    /// The sum; null when the store cannot be asked
    #[napi(catch_unwind)]
    pub fn count_value(
        &self,
        env: Env,
        key: Text,
        delta: f64,
        ttl_ms: f64,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        // A whole number below 2^53: the TypeScript side has checked it.
        let request = ValueRequest::Count { key: key.0, delta: delta as i64, ttl_ms: whole(ttl_ms) };
        self.submit_value(env, request, deadline_ms)
    }

    /// How many values were removed
    #[napi(catch_unwind)]
    pub fn invalidate_tag(&self, env: Env, tag: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit_value(env, ValueRequest::InvalidateTag { tag: tag.0 }, deadline_ms)
    }

    /// How many values were removed
    #[napi(catch_unwind)]
    pub fn delete_pattern(&self, env: Env, pattern: Text, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit_value(env, ValueRequest::DeletePattern { pattern: pattern.0 }, deadline_ms)
    }

    /// How many entries were removed
    #[napi(catch_unwind)]
    pub fn flush(&self, env: Env, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit_value(env, ValueRequest::Flush, deadline_ms)
    }

    /// JSON: connected, keyCount, memoryBytes
    #[napi(catch_unwind)]
    pub fn store_info(&self, env: Env, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit_value(env, ValueRequest::Info, deadline_ms)
    }
}

impl NativeEngine {
    fn submit_value(&self, env: Env, request: ValueRequest, deadline_ms: f64) -> napi::Result<Raw> {
        self.submit(env, Request::Value(Box::new(request)), deadline(deadline_ms))
    }
}
