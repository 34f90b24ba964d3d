//! Arguments: read once, checked here. A number that JavaScript gave is never cast silently.

use std::mem::MaybeUninit;

use napi::bindgen_prelude::{FromNapiValue, TypeName, ValidateNapiValue};
use napi::{Status, ValueType, sys};

/// Longest text that is read without asking for its length first.
const INLINE: usize = 512;

/// A text argument, read into a stack array when it is short.
#[allow(unreachable_pub, reason = "part of the signatures that the binding exports")]
pub struct Text(pub(crate) String);

impl FromNapiValue for Text {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: `env` and `value` are the ones of the current call.
        unsafe { with_text(env, value, |text| Text(text.to_owned())) }
    }
}

/// Runs `body` on a text argument, without allocating when it is short.
///
/// # Safety
/// `env` and `value` must be the ones of the current call.
pub(crate) unsafe fn with_text<R>(
    env: sys::napi_env,
    value: sys::napi_value,
    body: impl FnOnce(&str) -> R,
) -> napi::Result<R> {
    let mut inline = [MaybeUninit::<u8>::uninit(); INLINE];
    let mut length = 0;
    // SAFETY: the buffer is INLINE bytes long.
    let status = unsafe {
        sys::napi_get_value_string_utf8(env, value, inline.as_mut_ptr().cast(), INLINE as _, &mut length)
    };
    if status != sys::Status::napi_ok {
        return Err(napi::Error::new(Status::StringExpected, "a text is expected".to_owned()));
    }
    // A shorter result than the buffer minus one character is complete; the rest is read at length.
    if length < INLINE - 4 {
        // SAFETY: Node has written the first `length` bytes.
        let written = unsafe { std::slice::from_raw_parts(inline.as_ptr().cast::<u8>(), length) };
        let text = std::str::from_utf8(written).map_err(|_| {
            napi::Error::new(Status::StringExpected, "a well-formed text is expected".to_owned())
        })?;
        return Ok(body(text));
    }
    // SAFETY: same call, same value.
    let text = unsafe { String::from_napi_value(env, value) }?;
    Ok(body(&text))
}

impl TypeName for Text {
    fn type_name() -> &'static str {
        "string"
    }
    fn value_type() -> ValueType {
        ValueType::String
    }
}

impl ValidateNapiValue for Text {}

/// A whole number that is not negative; anything else is 0, which no caller accepts.
pub(crate) fn whole(number: f64) -> u64 {
    if number.is_finite() && number >= 0.0 { number as u64 } else { 0 }
}

/// A time budget in milliseconds: 0 means the default; anything that is not a number of milliseconds
/// between 1 and 10 minutes was refused by the TypeScript side, and counts as the default here.
pub(crate) fn deadline(ms: f64) -> u64 {
    if ms.is_finite() && (1.0..=600_000.0).contains(&ms) { ms as u64 } else { 0 }
}
