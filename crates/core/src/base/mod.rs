//! What every other folder stands on: time, keys, bounds, errors, the entry envelope, randomness.

pub mod clock;
pub mod codec;
pub mod error;
pub mod jitter;
pub mod key;
pub mod limits;
