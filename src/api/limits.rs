//! The calls of the rate limiter. A limit crosses as six values: type, identifier, most, window in milliseconds, cost,
//! and 0 (local), 1 (open) or 2 (closed); what it says comes back as a text (`bridge::outcome`).

use std::ptr;

use bcos_cache_core::engine::{LimitChange, LimitCheck, Request};
use bcos_cache_core::limiter::Fallback;
use napi::bindgen_prelude::FromNapiValue;
use napi::{Env, sys};
use napi_derive::napi;

use super::Raw;
use super::engine::NativeEngine;
use super::hot::call;
use crate::bridge::args::{Text, deadline, whole};

/// Values that describe one limit.
const VALUES: u32 = 6;

/// `(type, identifier, most, windowMs, cost, fallback, charge, deadlineMs) => Promise`
pub(super) unsafe extern "C" fn limit(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe {
        call(env, info, |bound, [kind, identifier, most, window, cost, fallback, charge, ms]: [_; 8]| {
            let mut charged = false;
            sys::napi_get_value_bool(env, charge, &mut charged);
            let check = check(env, [kind, identifier, most, window, cost, fallback])?;
            let request = Request::Limit { check, charge: charged };
            Ok(bound.queue.submit(env, &bound.engine, request, deadline(double(env, ms))))
        })
    }
}

/// `(limits, charge, deadlineMs) => Promise`
pub(super) unsafe extern "C" fn limits(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe {
        call(env, info, |bound, [limits, charge, ms]: [_; 3]| {
            let mut charged = false;
            sys::napi_get_value_bool(env, charge, &mut charged);
            let request = Request::Limits { checks: checks(env, limits)?, charge: charged };
            Ok(bound.queue.submit(env, &bound.engine, request, deadline(double(env, ms))))
        })
    }
}

/// The limits of an array; none for null.
pub(super) unsafe fn checks(env: sys::napi_env, array: sys::napi_value) -> napi::Result<Vec<LimitCheck>> {
    let (mut is_array, mut length) = (false, 0_u32);
    // SAFETY: the caller's handles.
    unsafe {
        sys::napi_is_array(env, array, &mut is_array);
        if !is_array {
            return Ok(Vec::new());
        }
        sys::napi_get_array_length(env, array, &mut length);
        let one = |at: u32| {
            let value = |place: u32| {
                let mut value = ptr::null_mut();
                sys::napi_get_element(env, array, at * VALUES + place, &mut value);
                value
            };
            check(env, [value(0), value(1), value(2), value(3), value(4), value(5)])
        };
        (0..length / VALUES).map(one).collect()
    }
}

unsafe fn check(env: sys::napi_env, values: [sys::napi_value; VALUES as usize]) -> napi::Result<LimitCheck> {
    let [kind, identifier, most, window, cost, fallback] = values;
    // SAFETY: the caller's handles.
    unsafe {
        Ok(LimitCheck {
            kind: Text::from_napi_value(env, kind)?.0,
            identifier: Text::from_napi_value(env, identifier)?.0,
            most: small(env, most),
            window_ms: whole(double(env, window)),
            cost: small(env, cost),
            fallback: match small(env, fallback) {
                1 => Fallback::Open,
                2 => Fallback::Closed,
                _ => Fallback::Local,
            },
        })
    }
}

unsafe fn small(env: sys::napi_env, value: sys::napi_value) -> u32 {
    let mut number = 0;
    // SAFETY: the caller's handles.
    unsafe { sys::napi_get_value_uint32(env, value, &mut number) };
    number
}

unsafe fn double(env: sys::napi_env, value: sys::napi_value) -> f64 {
    let mut number = 0.0;
    // SAFETY: the caller's handles.
    unsafe { sys::napi_get_value_double(env, value, &mut number) };
    number
}

#[napi]
impl NativeEngine {
    /// [acknowledged, queued] for a reset, null for others; `change` is reset, block or reward, `amount` milliseconds
    /// or cost.
    #[napi(catch_unwind)]
    #[allow(
        clippy::too_many_arguments,
        reason = "a limit and what is done with it, named on the TypeScript side"
    )]
    pub fn change_limit(
        &self,
        env: Env,
        kind: Text,
        identifier: Text,
        most: u32,
        window_ms: f64,
        change: Text,
        amount: f64,
        deadline_ms: f64,
    ) -> napi::Result<Raw> {
        let change = match change.0.as_str() {
            "reset" => LimitChange::Reset,
            "block" => LimitChange::Block { for_ms: whole(amount) },
            "reward" => LimitChange::Reward { cost: whole(amount).min(u64::from(u32::MAX)) as u32 },
            _ => return Err(napi::Error::from_reason("a change of an unknown kind")),
        };
        let fallback = Fallback::Local;
        let check = LimitCheck {
            kind: kind.0,
            identifier: identifier.0,
            most,
            window_ms: whole(window_ms),
            cost: 1,
            fallback,
        };
        self.submit(env, Request::ChangeLimit { check: Box::new(check), change }, deadline(deadline_ms))
    }
}
