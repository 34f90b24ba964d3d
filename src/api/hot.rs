//! The calls of every request, as plain functions instead of methods: a method of the binding looks up its
//! receiver, borrows it in a table and checks its type on each call, which costs more than the call does.
//!
//! Invariant: a function owns what its data points to; it is freed by the function's finalizer only.

use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use bcos_cache_core::base::codec::Kind;
use bcos_cache_core::base::key::Namespace;
use bcos_cache_core::cache::Cache;
use bcos_cache_core::engine::{Authorize, Consistency, Request};
use napi::bindgen_prelude::FromNapiValue;
use napi::{Env, sys};
use napi_derive::napi;

use super::Raw;
use super::engine::NativeEngine;
use super::limits;
use crate::bridge::args::{Text, deadline, with_text};
use crate::bridge::queue::Queue;
use crate::registry::JsEngine;

thread_local! {
    /// Where a look-up writes its key, so that it allocates nothing.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What every function of an engine needs.
pub(super) struct Bound {
    pub(super) engine: Arc<JsEngine>,
    pub(super) queue: Arc<Queue>,
}

type Callback = unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> sys::napi_value;

#[napi]
impl NativeEngine {
    /// Plain functions, by the names below.
    #[napi(catch_unwind)]
    pub fn hot(&self, env: Env) -> napi::Result<Raw> {
        let bound = Arc::new(Bound { engine: self.engine.clone(), queue: Queue::of(env.raw())? });
        let functions: [(&CStr, Callback); 14] = [
            (c"peekRevoked", peek_revoked),
            (c"peekUser", peek_user),
            (c"tokenIsBlacklisted", token_is_blacklisted),
            (c"userById", user_by_id),
            (c"cachedJwt", cached_jwt),
            (c"beginJwt", begin_jwt),
            (c"peekContext", peek_context),
            (c"userContext", user_context),
            (c"userContextBounded", user_context_bounded),
            (c"userContextFresh", user_context_fresh),
            (c"rolePermissions", role_permissions),
            (c"authorize", authorize),
            (c"limit", limits::limit),
            (c"limits", limits::limits),
        ];
        let mut object = ptr::null_mut();
        // SAFETY: the environment of this very call; every name and out-pointer lives through its call.
        unsafe {
            sys::napi_create_object(env.raw(), &mut object);
            for (name, callback) in functions {
                let data = Arc::into_raw(bound.clone()) as *mut c_void;
                let mut function = ptr::null_mut();
                let status = sys::napi_create_function(
                    env.raw(),
                    name.as_ptr(),
                    -1,
                    Some(callback),
                    data,
                    &mut function,
                );
                if status != sys::Status::napi_ok {
                    drop(Arc::from_raw(data as *const Bound));
                    return Err(napi::Error::from_reason("a function could not be created"));
                }
                sys::napi_add_finalizer(
                    env.raw(),
                    function,
                    data,
                    Some(free),
                    ptr::null_mut(),
                    ptr::null_mut(),
                );
                sys::napi_set_named_property(env.raw(), object, name.as_ptr(), function);
            }
        }
        Ok(Raw(object))
    }
}

unsafe extern "C" fn free(_: sys::napi_env, data: *mut c_void, _: *mut c_void) {
    // SAFETY: the pointer that `into_raw` gave for this function, which is gone.
    drop(unsafe { Arc::from_raw(data as *const Bound) });
}

/// Reads the call, runs `body`, and turns an error or a panic into an exception.
pub(super) unsafe fn call<const N: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    body: impl FnOnce(&Bound, [sys::napi_value; N]) -> napi::Result<sys::napi_value>,
) -> sys::napi_value {
    let (mut count, mut given, mut data) = (N, [ptr::null_mut(); N], ptr::null_mut());
    // SAFETY: called by Node with these very handles; missing arguments are filled with undefined.
    let bound = unsafe {
        sys::napi_get_cb_info(env, info, &mut count, given.as_mut_ptr(), ptr::null_mut(), &mut data);
        &*(data as *const Bound)
    };
    let result = catch_unwind(AssertUnwindSafe(|| body(bound, given)))
        .unwrap_or_else(|_| Err(napi::Error::from_reason("the native side failed")));
    result.unwrap_or_else(|error| {
        let message = error.to_string();
        // SAFETY: same call. The message holds no NUL: it is made of our own texts.
        unsafe {
            let (mut text, mut made) = (ptr::null_mut(), ptr::null_mut());
            sys::napi_create_string_utf8(env, message.as_ptr().cast(), message.len() as _, &mut text);
            sys::napi_create_error(env, ptr::null_mut(), text, &mut made);
            sys::napi_throw(env, made);
        }
        ptr::null_mut()
    })
}

/// `(text, full, deadlineMs) => Promise`
unsafe fn submit(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    request: fn(&Bound, String, bool) -> Request,
) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe {
        call(env, info, |bound, [text, full, ms]: [_; 3]| {
            let text = Text::from_napi_value(env, text)?.0;
            let (mut given, mut limit) = (false, 0.0);
            sys::napi_get_value_bool(env, full, &mut given);
            sys::napi_get_value_double(env, ms, &mut limit);
            Ok(bound.queue.submit(env, &bound.engine, request(bound, text, given), deadline(limit)))
        })
    }
}

unsafe extern "C" fn token_is_blacklisted(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe { submit(env, info, |_, jti, _| Request::TokenIsBlacklisted { jti }) }
}

unsafe extern "C" fn user_by_id(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe { submit(env, info, |_, user_id, full| Request::UserById { user_id, full }) }
}

unsafe extern "C" fn cached_jwt(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe { submit(env, info, |_, token, full| Request::CachedJwt { token, full }) }
}

unsafe extern "C" fn begin_jwt(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe {
        submit(env, info, |bound, token, full| Request::BeginJwt { token, env: bound.queue.id(), full })
    }
}

unsafe extern "C" fn peek_revoked(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe {
        call(env, info, |bound, [id]: [_; 1]| {
            let hit = with_text(env, id, |id| {
                bound.peek(Namespace::TokenBlacklist, id, |cache, key| {
                    cache.near.peek(key, cache.clock.now_ms()).map(|near| near.serial)
                })
            })?;
            let mut value = ptr::null_mut();
            sys::napi_get_boolean(env, hit > 0, &mut value);
            Ok(value)
        })
    }
}

unsafe extern "C" fn peek_user(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe {
        call(env, info, |bound, [id]: [_; 1]| {
            let mut serial = 0;
            // Asked first, because in the other modes the text need not even be read.
            if bound.engine.core().cache.is_bounded(Namespace::UserBasic) {
                serial = with_text(env, id, |id| {
                    bound.peek(Namespace::UserBasic, id, |cache, key| {
                        // A denial has no object: it is answered by asking.
                        let near = cache.bounded(Namespace::UserBasic, key);
                        near.filter(|near| near.kind == Kind::Value).map(|near| near.serial)
                    })
                })?;
            }
            let mut value = ptr::null_mut();
            sys::napi_create_double(env, serial as f64, &mut value);
            Ok(value)
        })
    }
}

unsafe extern "C" fn user_context(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe { submit(env, info, |_, user_id, full| context_of(user_id, Consistency::Validated, full)) }
}

unsafe extern "C" fn user_context_bounded(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe { submit(env, info, |_, user_id, full| context_of(user_id, Consistency::Bounded, full)) }
}

unsafe extern "C" fn user_context_fresh(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe { submit(env, info, |_, user_id, full| context_of(user_id, Consistency::Fresh, full)) }
}

fn context_of(user_id: String, consistency: Consistency, full: bool) -> Request {
    Request::UserContext { user_id, consistency, full }
}

unsafe extern "C" fn role_permissions(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe { submit(env, info, |_, role_id, full| Request::RolePermissions { role_id, full }) }
}

/// `(token, tokenId, userId, checkToken, consistency, full, deadlineMs, limits) => Promise`
unsafe extern "C" fn authorize(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe {
        call(
            env,
            info,
            |bound, [token, token_id, user_id, check_token, consistency, full, ms, limits]: [_; 8]| {
                let (mut check, mut given, mut level, mut limit) = (false, false, 0_u32, 0.0);
                sys::napi_get_value_bool(env, check_token, &mut check);
                sys::napi_get_value_uint32(env, consistency, &mut level);
                sys::napi_get_value_bool(env, full, &mut given);
                sys::napi_get_value_double(env, ms, &mut limit);
                let asked = Authorize {
                    token: optional(env, token)?,
                    jti: optional(env, token_id)?,
                    user_id: optional(env, user_id)?,
                    check_token: check,
                    consistency: match level {
                        1 => Consistency::Bounded,
                        2 => Consistency::Fresh,
                        _ => Consistency::Validated,
                    },
                    full: given,
                    limits: limits::checks(env, limits)?,
                };
                Ok(bound.queue.submit(
                    env,
                    &bound.engine,
                    Request::Authorize(Box::new(asked)),
                    deadline(limit),
                ))
            },
        )
    }
}

/// A text, or nothing for null and undefined.
unsafe fn optional(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Option<String>> {
    let mut kind = sys::ValueType::napi_undefined;
    // SAFETY: the caller's handles.
    unsafe {
        sys::napi_typeof(env, value, &mut kind);
        match kind {
            sys::ValueType::napi_undefined | sys::ValueType::napi_null => Ok(None),
            _ => Text::from_napi_value(env, value).map(|text| Some(text.0)),
        }
    }
}

/// `(userId, bounded) => number`
unsafe extern "C" fn peek_context(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: the handles of this very call.
    unsafe {
        call(env, info, |bound, [id, asked]: [_; 2]| {
            let core = bound.engine.core();
            let mut given = false;
            sys::napi_get_value_bool(env, asked, &mut given);
            let mut serial = 0;
            if !core.closing() && (given || core.cache.is_bounded(Namespace::UserContext)) {
                let consistency = if given { Consistency::Bounded } else { Consistency::Validated };
                serial = with_text(env, id, |id| core.peek_context(id, consistency))?;
            }
            let mut value = ptr::null_mut();
            sys::napi_create_double(env, serial as f64, &mut value);
            Ok(value)
        })
    }
}

impl Bound {
    /// Looks into the near cache and counts a hit. A closed engine answers nothing.
    fn peek(&self, namespace: Namespace, part: &str, look: impl FnOnce(&Cache, &[u8]) -> Option<u64>) -> u64 {
        let core = self.engine.core();
        if core.closing() {
            return 0;
        }
        let serial = KEY.with(|key| {
            let mut key = key.borrow_mut();
            key.clear();
            core.cache.keys.write(namespace, part, &mut key);
            look(&core.cache, &key).unwrap_or(0)
        });
        if serial > 0 {
            core.peeked(namespace);
        }
        serial
    }
}
