//! How columns of a data source are written in SQL, and the statements about whole tables.
//!
//! Invariant: a name was checked when the data source was described, and is quoted here.

use crate::analytics::{Schema, Type, Unit};

use super::DataSource;

/// A table of the analytics database: what it is called, which columns it has, of which type each is.
pub(super) const CATALOG: &str = "\
    SELECT a.attname::text, pg_catalog.format_type(coalesce(b.base, a.atttypid), NULL), coalesce(l.collisdeterministic, true) \
    FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
    LEFT JOIN LATERAL (\
        WITH RECURSIVE d(base, kind, next) AS (\
            SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid \
            UNION ALL \
            SELECT t.oid, t.typtype, t.typbasetype FROM d JOIN pg_catalog.pg_type t ON t.oid = d.next WHERE d.kind = 'd'\
        ) SELECT base FROM d WHERE kind <> 'd'\
    ) b ON true \
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
    ORDER BY a.attnum";

/// The type that a column is cast to, so that its binary form is the one that is read.
fn cast(kind: Type) -> &'static str {
    match kind {
        Type::Int => "int4",
        Type::BigInt => "int8",
        Type::Float => "float8",
        Type::Numeric => "numeric",
        Type::Text | Type::Json => "text",
        Type::Bool => "bool",
        Type::Date => "date",
        Type::Timestamp => "timestamp",
        Type::TimestampTz => "timestamptz",
        Type::Uuid => "uuid",
    }
}

impl DataSource {
    pub(super) fn kind(&self, at: usize) -> Type {
        self.schema.fields()[at].kind
    }

    /// The table, quoted.
    pub(super) fn from(&self) -> String {
        format!("\"{}\".\"{}\"", self.table_schema, self.table)
    }

    /// The value of a column.
    pub(super) fn value(&self, at: usize) -> String {
        let field = &self.schema.fields()[at];
        format!("\"{}\"::{}", field.name, cast(field.kind))
    }

    /// The value of a column as it is ordered: texts by bytes.
    pub(super) fn ordered(&self, at: usize) -> String {
        match self.kind(at) {
            Type::Text | Type::Json => format!("({}) COLLATE \"C\"", self.value(at)),
            _ => self.value(at),
        }
    }

    /// The value of a column as it is compared for equality. Without a collation of its own an index of the table may serve.
    pub(super) fn equal(&self, at: usize) -> String {
        if self.bytewise[at] { self.value(at) } else { self.ordered(at) }
    }

    /// By what rows are ordered: by everything in turn, and what SQL calls equal by what is shown of it.
    pub(super) fn order(&self) -> String {
        let columns = self.schema.order().into_iter().map(|at| {
            let value = self.ordered(at);
            match self.kind(at) {
                Type::Numeric => format!("{value} NULLS LAST, scale({value})"),
                Type::Float => format!("{value} NULLS LAST, float8send({value})"),
                _ => format!("{value} NULLS LAST"),
            }
        });
        columns.collect::<Vec<_>>().join(", ")
    }

    /// A column as rows are grouped by it.
    pub(super) fn key(&self, at: usize, unit: Option<Unit>) -> String {
        let value = self.ordered(at);
        let word =
            unit.and_then(|unit| Unit::ALL.iter().find(|(known, _)| *known == unit)).map(|(_, word)| *word);
        match (self.kind(at), word) {
            (Type::Date, Some(word)) => format!("date_trunc('{word}', {value}::timestamp)::date"),
            (Type::Timestamp, Some(word)) => format!("date_trunc('{word}', {value})"),
            (Type::TimestampTz, Some(word)) => format!("date_trunc('{word}', {value}, 'UTC')"),
            // Zeros are one group; the one without a sign stands for it.
            (Type::Float, _) => format!("({value} + 0::float8)"),
            _ => value,
        }
    }

    /// Every row, in any order.
    pub(super) fn all_rows(&self) -> String {
        let columns: Vec<String> = (0..self.schema.fields().len()).map(|at| self.value(at)).collect();
        format!("SELECT {} FROM {}", columns.join(", "), self.from())
    }

    /// By measure and frequency: both, rows, first and last date, and the sum of every column of `summed`.
    pub(super) fn figures(&self) -> String {
        let roles = self.schema.roles();
        let name = |role: Option<usize>| role.map_or_else(|| "NULL::text".to_owned(), |at| self.ordered(at));
        let date = |function: &str| match roles.date {
            Some(at) => format!("{function}({})", self.value(at)),
            None => "NULL::date".to_owned(),
        };
        let sums = summed(&self.schema).map(|at| format!(", sum({})::numeric", self.value(at)));
        format!(
            "SELECT {}, {}, count(*), {}, {}{} FROM {} GROUP BY 1, 2",
            name(roles.measure),
            name(roles.frequency),
            date("min"),
            date("max"),
            sums.collect::<String>(),
            self.from(),
        )
    }
}

/// The columns whose sums are exact.
pub(super) fn summed(schema: &Schema) -> impl Iterator<Item = usize> {
    let exact = |kind: Type| matches!(kind, Type::Int | Type::BigInt | Type::Numeric);
    schema.fields().iter().enumerate().filter(move |(_, field)| exact(field.kind)).map(|(at, _)| at)
}

/// Copies what a query gives, in the binary format.
pub(super) fn copied(query: &str) -> String {
    format!("COPY ({query}) TO STDOUT (FORMAT binary)")
}
