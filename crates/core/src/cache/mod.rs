//! Entries: the fenced fill, flights, the near cache, invalidation, and the guard of the store.
//! Not a namespace: what an entry means is decided in `auth`.
//!
//! Invariant: a value that was read from the source before an acknowledged invalidation is never
//! answered to a call that started after it (model: `tests/fenced_fill_model.rs`).

mod acknowledged;
pub mod entry;
pub mod flight;
pub mod guard;
pub mod invalidate;
pub mod lease;
pub mod moments;
pub mod near;
pub mod pending;
pub mod policy;
pub mod refresh;
pub mod service;
pub mod tiered;

pub use entry::{Age, Found, Left, Loaded, Verdict};
pub use invalidate::{Effect, Invalidation};
pub use service::Cache;
