//! Answers as bytes.

mod columns;
mod json;

pub use columns::{batch, columns};
pub use json::json;

/// How exact numbers are given (`numeric: 'number' | 'string'`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// As the double nearest to them.
    #[default]
    Float,
    /// As the text that Postgres shows.
    Text,
}

/// Where the rows came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Frames in this process.
    Near,
    /// Frames of the store.
    Store,
    /// The source.
    Source,
}

/// What an answer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where the rows came from.
    pub layer: Layer,
    /// Of the data source; 0 = the source itself.
    pub generation: u64,
    /// Why the source was asked.
    pub reason: Option<&'static str>,
    /// How long it took.
    pub micros: u64,
}
