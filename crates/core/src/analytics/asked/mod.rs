//! A question as the application asks it.

use super::accumulate::Metric;
use super::aggregate::GroupBy;
use super::query::{Question, Table};
use super::refused::Refused;
use super::schema::Schema;
use super::scope::Visible;

/// A question that is well formed, about a table that is not known yet.
#[derive(Clone, Debug)]
pub struct Asked {
    data_source: i64,
}

impl Asked {
    /// Reads the JSON of `lib/analytics/filters.ts`.
    pub fn parse(json: &str) -> Result<Self, Refused> {
        let _ = json;
        unimplemented!()
    }

    /// Which data source is asked.
    pub fn data_source(&self) -> i64 {
        self.data_source
    }

    /// What may be seen; `Visible::NOTHING` = neither store nor source need be asked for data.
    pub fn visible(&self) -> &Visible {
        unimplemented!()
    }

    /// Checks names and values against the table.
    pub fn resolve(&self, schema: &Schema) -> Result<Resolved, Refused> {
        let _ = schema;
        unimplemented!()
    }
}

/// A question about one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Which rows.
    pub question: Question,
    /// What of them.
    pub wanted: Wanted,
}

/// What is wanted of the rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The rows themselves.
    Rows {
        /// Columns by position, in this order; `None` = all.
        columns: Option<Vec<usize>>,
    },
    /// Groups of them.
    Groups {
        /// What they are made by.
        by: Vec<GroupBy>,
        /// What is computed of each.
        metrics: Vec<Metric>,
    },
}

impl Wanted {
    /// The answer when there are no rows: what SQL answers about an empty table.
    pub fn of_nothing(&self, schema: &Schema) -> Result<Table, Refused> {
        let _ = schema;
        unimplemented!()
    }
}
