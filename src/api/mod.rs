//! The exported surface: raw, checked, without policy. Users see `index.d.ts`, never this.

mod analytics;
mod dashboard;
mod engine;
mod hot;
mod limits;
mod requests;
mod values;
mod warming;

use napi::bindgen_prelude::{ToNapiValue, TypeName};
use napi::{ValueType, sys};

/// A JavaScript value made by hand.
#[allow(unreachable_pub, reason = "part of the signatures that the binding exports")]
pub struct Raw(pub(crate) sys::napi_value);

impl ToNapiValue for Raw {
    unsafe fn to_napi_value(_: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        Ok(value.0)
    }
}

impl TypeName for Raw {
    fn type_name() -> &'static str {
        "unknown"
    }
    fn value_type() -> ValueType {
        ValueType::Unknown
    }
}
