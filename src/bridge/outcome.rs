//! Outcomes as JavaScript values. Small by design: numbers, texts, and arrays of the two.

use std::ffi::c_void;
use std::ptr;

use bcos_cache_core::Bytes;
use bcos_cache_core::base::error::Error;
use bcos_cache_core::engine::Outcome;
use bcos_cache_core::limiter::{Answer, Decision, Told};
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
            Outcome::Number(value) => number(env, *value as f64),
            Outcome::Object { serial, text: None } => number(env, *serial as f64),
            // No near copy: nothing to remember it by.
            Outcome::Object { serial: 0, text: Some(text) } => text_of(env, text),
            Outcome::Object { serial, text: Some(text) } => {
                array(env, &[number(env, *serial as f64), text_of(env, text)])
            }
            Outcome::Shared { text, stored } => {
                array(env, &[number(env, if *stored { -3.0 } else { -4.0 }), text_of(env, text)])
            }
            Outcome::Aged { found, stale, refresh } => {
                // A version is too large for a number.
                let version =
                    refresh.map_or_else(|| null(env), |etag| text_of(env, format!("{etag:016x}").as_bytes()));
                array(env, &[number(env, -5.0), to_js(env, found), boolean(env, *stale), version])
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
                    if known.limits.is_empty() { null(env) } else { told(env, &known.limits) },
                ];
                array(env, &parts)
            }
            Outcome::Raw(json) => buffer(env, json),
            Outcome::Limit(one) => told(env, std::slice::from_ref(one)),
            Outcome::Limits(all) => told(env, all),
            Outcome::Json(text) => text_of(env, text.as_bytes()),
        }
    }
}

/// Of each limit: state, remaining, milliseconds until more of it is back, until all is, and until a retry (all bits set =
/// never), in characters of 16 bits, the higher ones first: 1, 2, 3, 3 and 3. One text is one call, and the same as a list
/// of numbers eleven: a third of what such an answer costs the thread.
/// State: 0 denied, 1 admitted, 2 denied for want of a store, 3 not asked; and 4 more when this instance decided.
fn limit_characters(told: &Told) -> [u16; 12] {
    const NEVER: u64 = (1 << 48) - 1;
    let of = |answer: &Answer, alone: u16| {
        let (state, retry_ms) = match answer.decision {
            Decision::Allow => (1, 0),
            Decision::Deny { retry_after_ms } => (0, retry_after_ms),
            Decision::Impossible { .. } => (0, NEVER),
        };
        let quota = answer.quota;
        (state + alone, quota.remaining, quota.next_ms, quota.reset_ms, retry_ms)
    };
    let (state, remaining, next_ms, reset_ms, retry_ms) = match told {
        Told::Store(answer) => of(answer, 0),
        Told::Alone(answer) => of(answer, 4),
        Told::Unavailable { retry_after_ms } => (6, 0, 0, 0, *retry_after_ms),
        Told::NotAsked => (3, 0, 0, 0, 0),
    };
    let mut characters = [state; 12];
    for (places, number) in
        [(1..3, u64::from(remaining)), (3..6, next_ms), (6..9, reset_ms), (9..12, retry_ms)]
    {
        for (at, character) in characters[places].iter_mut().rev().enumerate() {
            *character = (number.min(NEVER) >> (16 * at)) as u16;
        }
    }
    characters
}

/// What all limits say, one after the other.
unsafe fn told(env: sys::napi_env, all: &[Told]) -> sys::napi_value {
    let mut value = ptr::null_mut();
    let create = |characters: &[u16], value: &mut sys::napi_value| {
        // SAFETY: the caller's promise; the characters live through the call, which copies them.
        unsafe { sys::napi_create_string_utf16(env, characters.as_ptr(), characters.len() as _, value) };
    };
    match all {
        [one] => create(&limit_characters(one), &mut value),
        several => create(&several.iter().flat_map(limit_characters).collect::<Vec<_>>(), &mut value),
    }
    value
}

/// A buffer over the bytes themselves when copying them would take as long as a request. Those were unpacked or computed for
/// this answer alone: what the application writes into its buffer must not be what others read.
unsafe fn buffer(env: sys::napi_env, bytes: &Bytes) -> sys::napi_value {
    const COPIED: usize = 64 * 1024;
    let (mut value, mut copy) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the caller's promise; the finalizer frees exactly what `into_raw` gave, and the bytes live until then.
    unsafe {
        if bytes.len() > COPIED {
            let held = Box::into_raw(Box::new(bytes.clone()));
            let data = (*held).as_ptr() as *mut c_void;
            let status = sys::napi_create_external_buffer(
                env,
                bytes.len(),
                data,
                Some(release_bytes),
                held.cast(),
                &mut value,
            );
            if status == sys::Status::napi_ok {
                return value;
            }
            drop(Box::from_raw(held));
        }
        sys::napi_create_buffer_copy(env, bytes.len(), bytes.as_ptr().cast(), &mut copy, &mut value);
    }
    value
}

unsafe extern "C" fn release_bytes(_: sys::napi_env, _: *mut c_void, held: *mut c_void) {
    // SAFETY: the box that `buffer` leaked for this very value.
    drop(unsafe { Box::from_raw(held.cast::<Bytes>()) });
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
