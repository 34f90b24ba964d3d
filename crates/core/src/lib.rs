//! The cache engine of bcos-cache. It does not know that Node exists.
//!
//! Layers, each may use only those above it; `telemetry` is a sink that everybody may feed:
//!
//! ```text
//! base -> config -> telemetry -> store, source -> cache -> auth -> rbac -> analytics -> engine
//! ```
//!
//! Invariants
//! - Only `store` and `source` do I/O; only `base::clock` reads time; only `base::key` builds keys.
//! - Only `cache::tiered` reads entries and only `cache::invalidate` voids them.
//! - No lock is held over an await. Every queue, retry and wait has a bound in `base::limits`.
//! - A read that could not be answered is an error, never an empty or an older answer.

#![forbid(unsafe_code)]

pub mod analytics;
pub mod auth;
/// Shared bytes, as outcomes hold them.
pub use bytes::Bytes;

pub mod base;
pub mod cache;
pub mod config;
pub mod dashboard;
pub mod datasource;
pub mod engine;
pub mod limiter;
pub mod rbac;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod values;
