//! Time as a value. Not a timer: waiting is the runtime's business, reading time is only this one's.
//!
//! Invariant: product code never calls `Instant::now` or `SystemTime::now` outside this file, so a
//! test can hold time still or step it.

#![allow(clippy::disallowed_methods, reason = "the one place that reads time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A source of monotonic and wall-clock milliseconds.
#[derive(Clone)]
pub struct Clock(Inner);

#[derive(Clone)]
enum Inner {
    System { start: Instant },
    Fake { ms: Arc<AtomicU64> },
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self(Inner::System { start: Instant::now() })
    }

    /// A clock that moves only when told to; both readings start at `ms`.
    pub fn fake(ms: u64) -> Self {
        Self(Inner::Fake { ms: Arc::new(AtomicU64::new(ms)) })
    }

    /// Monotonic milliseconds since an arbitrary start: for deadlines, ages and TTLs.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Inner::System { start } => start.elapsed().as_millis() as u64,
            Inner::Fake { ms } => ms.load(Ordering::SeqCst),
        }
    }

    /// Monotonic microseconds, for latency histograms.
    pub fn now_us(&self) -> u64 {
        match &self.0 {
            Inner::System { start } => start.elapsed().as_micros() as u64,
            Inner::Fake { ms } => ms.load(Ordering::SeqCst) * 1000,
        }
    }

    /// Milliseconds since 1970 (UTC): only for what is defined by wall time, such as a token's `exp`.
    pub fn unix_ms(&self) -> u64 {
        match &self.0 {
            Inner::System { .. } => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
            }
            Inner::Fake { ms } => ms.load(Ordering::SeqCst),
        }
    }

    /// Moves a fake clock forward; the machine's clock cannot be moved, so there it does nothing.
    pub fn advance_ms(&self, by: u64) {
        if let Inner::Fake { ms } = &self.0 {
            ms.fetch_add(by, Ordering::SeqCst);
        }
    }
}
