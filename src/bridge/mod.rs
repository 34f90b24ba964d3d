//! What crosses between JavaScript and Rust.

pub(crate) mod args;
pub(crate) mod log;
pub(crate) mod outcome;
pub(crate) mod queue;
