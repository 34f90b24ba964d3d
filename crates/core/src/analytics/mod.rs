//! The analytics index: a table of the source as immutable frames of packed columns, and a manifest that knows where
//! everything lies. The pure part: rows in, bytes out; bytes in, answers out.
//!
//! Not here: where bytes are kept, which generation is served, what happens when a frame is missing. No file of this folder
//! does I/O or reads a clock.
//!
//! ```text
//! rows -> collect -> build (order, cut) -> frame, manifest
//! question (scope, filter) -> manifest.plan -> frames -> query | aggregate -> columns
//! ```
//!
//! Invariants
//! - Exact or refused: nothing is rounded, cut off or left out on the way in or out.
//! - An answer is what SQL answers, rows in the order of [`Schema::order`].
//! - A scope is applied before a frame is read and looked at again after; a filter only makes it smaller.
//! - Bytes from elsewhere are an error or are what they say, never a panic and never more memory than they pay for.

mod accumulate;
mod aggregate;
pub mod answer;
mod asked;
mod build;
pub mod calendar;
mod codes;
mod collect;
mod column;
mod cut;
mod decimal;
mod dictionary;
mod filter;
mod frame;
pub mod gates;
mod like;
mod literal;
mod live;
mod manifest;
mod manifest_bytes;
#[cfg(test)]
mod measure;
mod nulls;
mod order;
mod packed;
mod pile;
#[cfg(test)]
pub(crate) mod properties;
mod query;
mod refused;
mod schema;
mod scope;
#[cfg(test)]
pub(crate) mod sql;
#[cfg(test)]
pub(crate) mod testing;
mod wire;

pub use accumulate::{Function, Metric};
pub use aggregate::{GroupBy, aggregate};
pub use asked::{Asked, Resolved, Wanted};
pub use build::{Batch, Builder, Frames, Made};
pub use calendar::Unit;
pub use collect::Collector;
pub use column::{Column, Form, Value};
pub use decimal::Decimal;
pub use dictionary::Dictionary;
pub use filter::{Operator, Predicate, Test};
pub use frame::{Frame, Hash};
pub use like::Pattern;
pub use literal::{Literal, Operand};
pub use live::{Generation, Held, Live, State};
pub use manifest::{Entry, Manifest, Part, Plan};
pub use nulls::Nulls;
pub use packed::{Distances, Packed};
pub use pile::Pile;
pub use query::{Question, Table, rows, select};
pub use refused::Refused;
pub use schema::{Field, Roles, Schema, Type};
pub use scope::Visible;
