//! Where the rows of a warm come from: the source; in tests, a list.
//!
//! Invariant: rows and figures are of one snapshot.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::analytics::gates::{Figures, Said};
use crate::analytics::{Batch, Schema};
use crate::base::error::Error;
use crate::source::analytics::{DataSource, Progress};

use super::super::super::Core;

/// Where rows come from.
#[derive(Clone)]
pub(super) enum Origin {
    Source,
    #[cfg(test)]
    Rows(Arc<super::testing::Rows>),
}

/// A table that was found there.
pub(super) enum Table {
    Source(Arc<DataSource>),
    #[cfg(test)]
    Rows(Arc<super::testing::Rows>),
}

/// What an export leaves behind.
pub(super) struct Exported {
    /// What SQL says of the same snapshot.
    pub(super) said: Said,
    /// The snapshot.
    pub(super) snapshot: String,
}

impl Origin {
    pub(super) async fn table(&self, core: &Core, source: i64) -> Result<Table, Error> {
        match self {
            Origin::Source => {
                // A generation has the columns that the table has now, not those of a minute ago.
                core.source.forget_data_source(source);
                Ok(Table::Source(core.source.data_source(source).await?))
            }
            #[cfg(test)]
            Origin::Rows(rows) => Ok(Table::Rows(rows.clone())),
        }
    }
}

impl Table {
    pub(super) fn schema(&self) -> &Schema {
        match self {
            Table::Source(of) => &of.schema,
            #[cfg(test)]
            Table::Rows(rows) => &rows.schema,
        }
    }

    /// Hands over all rows, in any order.
    pub(super) async fn export(
        &self,
        core: &Core,
        progress: Arc<Progress>,
        stop: watch::Receiver<bool>,
        take: mpsc::Sender<Batch>,
    ) -> Result<Exported, Error> {
        match self {
            Table::Source(of) => {
                let export = core.source.export_analytics(of, progress, stop, take).await?;
                let groups = export.groups.into_iter().map(|group| Figures {
                    measure: group.measure,
                    frequency: group.frequency,
                    rows: group.rows,
                    sums: group.sums,
                    dates: group.dates,
                });
                let said = Said { rows: export.rows, groups: groups.collect() };
                Ok(Exported { said, snapshot: export.snapshot })
            }
            #[cfg(test)]
            Table::Rows(rows) => rows.export(progress, stop, take).await,
        }
    }
}
