//! The Node surface of bcos-cache: thin, no decisions. What is decided is decided in `crates/core`.
//!
//! ```text
//! runtime    our one tokio runtime: lazy, never shut down, shared by all environments
//! registry   process-wide: the default engine survives hot reload and double bundling
//! bridge/    arguments in, outcomes out: one completion queue per environment
//! api/       the exported class, one method per request
//! ```
//!
//! Invariant: a promise given to JavaScript is settled exactly once, unless its environment is gone.

#[allow(unreachable_pub, reason = "the binding exports what these modules define")]
mod api;
mod bridge;
mod registry;
mod runtime;

// The system allocator of musl is slow under threads. Elsewhere it is left: another one beside Node's costs every process
// its first huge pages, 4 MB.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
