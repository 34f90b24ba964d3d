//! Columns for JavaScript.

use bytes::Bytes;

use super::{Facts, Numbers};
use crate::analytics::Table;

/// One answer for `rows.ts` and `columns.ts`.
pub fn columns(table: &Table, facts: &Facts, numbers: Numbers) -> Bytes {
    let _ = (table, facts, numbers);
    unimplemented!()
}

/// The answers of one `batchQuery`, in order.
pub fn batch(answers: &[(&Table, &Facts)], numbers: Numbers) -> Bytes {
    let _ = (answers, numbers);
    unimplemented!()
}
