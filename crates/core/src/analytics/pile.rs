//! Rows of an answer of the source, in the order they come, until they are a table.
//!
//! Not a builder of frames: nothing is sorted or grouped. What has come is packed every now and then, so that an answer takes
//! as much memory as one from frames does, and not that of its rows unpacked.
//!
//! Invariant: the table is the one that the same rows give when they come from frames.

use super::collect::Collector;
use super::column::{Column, Pick};
use super::query::Table;
use super::refused::Refused;
use super::schema::Field;
use crate::base::limits;

/// Columns in the making.
pub struct Pile {
    fields: Vec<Field>,
    collectors: Vec<Collector>,
    /// What was packed: for each column its parts.
    parts: Vec<Vec<Column>>,
    packed_rows: usize,
    packed_bytes: usize,
}

impl Pile {
    /// Of these columns. Names may repeat.
    pub fn new(fields: Vec<Field>) -> Self {
        let parts = fields.iter().map(|_| Vec::new()).collect();
        Self { collectors: collectors(&fields), fields, parts, packed_rows: 0, packed_bytes: 0 }
    }

    /// Their collectors. Every row has a value in each.
    pub fn columns(&mut self) -> &mut [Collector] {
        &mut self.collectors
    }

    /// How many rows are complete.
    pub fn rows(&self) -> usize {
        self.packed_rows + self.collectors.first().map_or(0, Collector::rows)
    }

    /// To be called after every row.
    pub fn settle(&mut self) -> Result<(), Refused> {
        let rows = self.collectors.first().map_or(0, Collector::rows);
        let texts: usize = self.collectors.iter().map(Collector::text_bytes).sum();
        if rows < limits::ANALYTICS_BATCH_ROWS && texts < limits::ANALYTICS_BATCH_BYTES {
            return Ok(());
        }
        self.pack()?;
        if self.packed_bytes > limits::ANALYTICS_ANSWER_BYTES
            || self.packed_rows > limits::ANALYTICS_ANSWER_ROWS
        {
            return Err(Refused::question(
                "columns",
                "fewer columns or rows: the answer takes more than 1 GiB",
            ));
        }
        Ok(())
    }

    fn pack(&mut self) -> Result<(), Refused> {
        self.packed_rows = self.rows();
        let full = std::mem::replace(&mut self.collectors, collectors(&self.fields));
        for (parts, collector) in self.parts.iter_mut().zip(full) {
            let column = collector.finish()?;
            self.packed_bytes += column.size();
            parts.push(column);
        }
        Ok(())
    }

    /// All rows.
    pub fn finish(mut self) -> Result<Table, Refused> {
        self.pack()?;
        let rows = self.packed_rows;
        let lengths = self.parts.first().into_iter().flatten().map(Column::rows);
        let picks: Vec<Pick> = (0..)
            .zip(lengths)
            .flat_map(|(part, rows)| (0..rows as u32).map(move |row| (part, row)))
            .collect();
        let columns = self.fields.into_iter().zip(self.parts).map(|(field, mut parts)| {
            let column = match parts.len() {
                1 => parts.pop(),
                _ => Column::gather(field.kind, &parts.iter().collect::<Vec<_>>(), &picks),
            };
            Ok((field.name.clone(), column.ok_or(Refused::Beyond { column: field.name })?))
        });
        Ok(Table { rows, columns: columns.collect::<Result<_, Refused>>()? })
    }
}

fn collectors(fields: &[Field]) -> Vec<Collector> {
    fields.iter().map(|field| Collector::new(&field.name, field.kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::testing;

    #[test]
    fn parts_make_no_difference() {
        for (seed, kind) in (0..).zip(testing::KINDS) {
            let cells = testing::cells(kind, 500, seed);
            let whole = testing::column(kind, &cells);
            for every in [1, 7, 499, 500] {
                let mut pile = Pile::new(vec![Field { name: "c".to_owned(), kind }]);
                for (at, cell) in cells.iter().enumerate() {
                    testing::push(&mut pile.columns()[0], kind, cell);
                    if at % every == 0 {
                        pile.pack().unwrap();
                    }
                }
                assert_eq!(pile.rows(), 500);
                let table = pile.finish().unwrap();
                assert_eq!((table.rows, &table.columns[0].1), (500, &whole), "{kind:?} {every}");
            }
        }
    }

    #[test]
    fn no_rows_are_a_table_too() {
        let table = Pile::new(vec![Field { name: "c".to_owned(), kind: crate::analytics::Type::Text }])
            .finish()
            .unwrap();
        assert_eq!((table.rows, table.columns[0].1.rows()), (0, 0));
    }

    #[test]
    fn an_answer_beyond_the_bound_is_an_error_not_a_shorter_answer() {
        let mut pile = Pile::new(vec![Field { name: "c".to_owned(), kind: crate::analytics::Type::Bool }]);
        pile.packed_bytes = limits::ANALYTICS_ANSWER_BYTES + 1;
        let mut settled = Ok(());
        for _ in 0..limits::ANALYTICS_BATCH_ROWS {
            pile.columns()[0].boolean(true).unwrap();
            settled = settled.and_then(|()| pile.settle());
        }
        assert!(matches!(settled, Err(Refused::Question { .. })));
    }
}
