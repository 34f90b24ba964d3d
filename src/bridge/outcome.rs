//! Outcomes as JavaScript values. Small by design: numbers, texts, and arrays of the two.

use std::ptr;

use bcos_cache_core::base::error::Error;
use bcos_cache_core::engine::Outcome;
use napi::sys;

/// Creates the value of an outcome that is not a failure; null when Node refuses, which it does only
/// while an exception is pending or the environment ends.
///
/// # Safety
/// Must run on the thread of `env`, inside a handle scope.
pub(crate) unsafe fn to_js(env: sys::napi_env, outcome: &Outcome) -> sys::napi_value {
    // SAFETY: the caller's promise holds for every call here.
    unsafe {
        match outcome {
            Outcome::Nothing | Outcome::Failed(_) => null(env),
            Outcome::Bool(yes) => boolean(env, *yes),
            Outcome::Object { serial, text: None } => number(env, *serial as f64),
            // No near copy: nothing to remember it by.
            Outcome::Object { serial: 0, text: Some(text) } => text_of(env, text),
            Outcome::Object { serial, text: Some(text) } => {
                array(env, &[number(env, *serial as f64), text_of(env, text)])
            }
            Outcome::Lead(lead) => array(env, &[number(env, -1.0), number(env, *lead as f64)]),
            Outcome::LoaderFailed(lead) => array(env, &[number(env, -2.0), number(env, *lead as f64)]),
            Outcome::Invalidated(done, inserted) => {
                let inserted = inserted.map_or_else(|| null(env), |inserted| boolean(env, inserted));
                array(env, &[boolean(env, done.acknowledged), boolean(env, done.queued), inserted])
            }
            Outcome::Authorized(known) => {
                let denied = match &known.context {
                    Outcome::Failed(error) => {
                        error.reason.map_or_else(|| null(env), |why| text_of(env, why.as_bytes()))
                    }
                    _ => null(env),
                };
                let id = |id: &Option<String>| {
                    id.as_ref().map_or_else(|| null(env), |id| text_of(env, id.as_bytes()))
                };
                let parts = [
                    to_js(env, &known.revoked),
                    to_js(env, &known.payload),
                    to_js(env, &known.context),
                    denied,
                    id(&known.jti),
                    id(&known.user_id),
                ];
                array(env, &parts)
            }
            Outcome::Json(text) => text_of(env, text.as_bytes()),
        }
    }
}

/// Code, message, field, reason: the arguments of the error factory.
///
/// # Safety
/// As [`to_js`].
pub(crate) unsafe fn error_parts(env: sys::napi_env, error: &Error) -> [sys::napi_value; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            text_of(env, error.code.as_str().as_bytes()),
            text_of(env, error.message.as_bytes()),
            error.field.as_ref().map_or_else(|| null(env), |field| text_of(env, field.as_bytes())),
            error.reason.map_or_else(|| null(env), |reason| text_of(env, reason.as_bytes())),
        ]
    }
}

/// # Safety
/// As [`to_js`].
pub(crate) unsafe fn text_of(env: sys::napi_env, bytes: &[u8]) -> sys::napi_value {
    let mut value = ptr::null_mut();
    // SAFETY: the bytes live through the call, which copies them. ASCII needs no decoding.
    unsafe {
        if bytes.is_ascii() {
            sys::napi_create_string_latin1(env, bytes.as_ptr().cast(), bytes.len() as _, &mut value);
        } else {
            sys::napi_create_string_utf8(env, bytes.as_ptr().cast(), bytes.len() as _, &mut value);
        }
    }
    value
}

unsafe fn null(env: sys::napi_env) -> sys::napi_value {
    let mut value = ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe { sys::napi_get_null(env, &mut value) };
    value
}

unsafe fn boolean(env: sys::napi_env, yes: bool) -> sys::napi_value {
    let mut value = ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe { sys::napi_get_boolean(env, yes, &mut value) };
    value
}

unsafe fn number(env: sys::napi_env, number: f64) -> sys::napi_value {
    let mut value = ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe { sys::napi_create_double(env, number, &mut value) };
    value
}

unsafe fn array(env: sys::napi_env, items: &[sys::napi_value]) -> sys::napi_value {
    let mut value = ptr::null_mut();
    // SAFETY: the caller's promise; every index is below the length.
    unsafe {
        sys::napi_create_array_with_length(env, items.len() as _, &mut value);
        for (index, item) in items.iter().enumerate() {
            sys::napi_set_element(env, value, index as u32, *item);
        }
    }
    value
}
