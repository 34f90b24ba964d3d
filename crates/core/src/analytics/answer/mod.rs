//! Answers as bytes: columns for JavaScript, rows as JSON text. Both straight from the packed columns of a [`Table`].
//!
//! Not what is answered, and nothing is left out or rounded except as the two say: a number of JavaScript is the double
//! nearest to an exact one, a timestamp is shown to the millisecond.
//!
//! | type | in a row |
//! | --- | --- |
//! | int, float | number; in JSON a float that is none or infinite is null |
//! | bigint | number, beyond 2^53 - 1 text |
//! | numeric | number, or the text that Postgres shows (`Numbers::Text`) |
//! | text, uuid | text |
//! | bool | true or false |
//! | date | `YYYY-MM-DD`, `infinity` |
//! | timestamp, timestamptz | `YYYY-MM-DDTHH:MM:SS.mmmZ`, `infinity`; one without a zone as if it were UTC |
//! | json | the value |
//!
//! Invariant: both forms show the same rows in the order of the table.

mod columns;
mod distinct;
mod json;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod tests;
mod text;

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

/// The last whole number that JavaScript tells from its neighbours.
const SAFE: i128 = (1 << 53) - 1;

/// Whether JavaScript has a number for each.
fn is_safe(least: i128, most: i128) -> bool {
    -SAFE <= least && most <= SAFE
}
