//! What a metric remembers of each group while rows go by, and what becomes of it.
//!
//! Invariant: NULLs count for nothing, exact numbers stay exact, and what cannot be given exactly is refused.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::codes::Codes;
use super::collect::Collector;
use super::column::{Column, Form, Value, compare_floats};
use super::decimal::{self, Decimal};
use super::refused::Refused;
use super::schema::{Field, Schema, Type};
use crate::base::limits;

/// What is computed of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Rows, or values that are not NULL.
    Count,
    /// Different values that are not NULL.
    Distinct,
    /// Of numbers: bigint for int, numeric for bigint and numeric, float for float.
    Sum,
    /// Of numbers: numeric with the digits that Postgres gives, float for float.
    Avg,
    /// The smallest value that is not NULL.
    Min,
    /// The largest value that is not NULL.
    Max,
}

impl Function {
    /// Every function with the word that users write.
    pub const ALL: [(Function, &'static str); 6] = [
        (Function::Count, "count"),
        (Function::Distinct, "distinct"),
        (Function::Sum, "sum"),
        (Function::Avg, "avg"),
        (Function::Min, "min"),
        (Function::Max, "max"),
    ];

    /// By its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(function, _)| *function)
    }

    /// The type of its result; an error for types it is not for, as in Postgres.
    fn result(self, kind: Type) -> Result<Type, &'static str> {
        match (self, kind) {
            (Function::Count, _) => Ok(Type::BigInt),
            (Function::Distinct, Type::Json) => Err("json cannot be compared; use a column of another type"),
            (Function::Distinct, _) => Ok(Type::BigInt),
            (Function::Sum, Type::Int) => Ok(Type::BigInt),
            (Function::Sum, Type::BigInt | Type::Numeric) => Ok(Type::Numeric),
            (Function::Avg, Type::Int | Type::BigInt | Type::Numeric) => Ok(Type::Numeric),
            (Function::Sum | Function::Avg, Type::Float) => Ok(Type::Float),
            (Function::Sum | Function::Avg, _) => Err("sum and avg are for numbers"),
            (Function::Min | Function::Max, Type::Bool | Type::Uuid | Type::Json) => {
                Err("min and max are for numbers, texts, dates and timestamps")
            }
            (Function::Min | Function::Max, _) => Ok(kind),
        }
    }
}

/// A function of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    function: Function,
    column: Option<usize>,
    field: Field,
}

impl Metric {
    /// `column` may be left out for a count of rows. `name` is that of the result.
    pub fn new(
        schema: &Schema,
        function: Function,
        column: Option<&str>,
        name: &str,
    ) -> Result<Self, Refused> {
        let Some(column) = column else {
            if function != Function::Count {
                return Err(Refused::question("metrics", "every function but count is of a column"));
            }
            return Ok(Self {
                function,
                column: None,
                field: Field { name: name.to_owned(), kind: Type::BigInt },
            });
        };
        let at = schema.position(column)?;
        let kind = function
            .result(schema.fields()[at].kind)
            .map_err(|because| Refused::question(column, because))?;
        Ok(Self { function, column: Some(at), field: Field { name: name.to_owned(), kind } })
    }

    /// The type of its result.
    pub fn kind(&self) -> Type {
        self.field.kind
    }

    /// What is computed.
    pub fn function(&self) -> Function {
        self.function
    }

    /// The result as a column.
    pub fn field(&self) -> &Field {
        &self.field
    }

    /// The column it is of; `None` for a count of rows.
    pub fn column(&self) -> Option<usize> {
        self.column
    }
}

/// One metric of all groups.
pub(super) struct Accumulator<'a> {
    metric: &'a Metric,
    kept: Kept,
}

enum Kept {
    Counts(Vec<u64>),
    Distinct { codes: Codes, seen: HashSet<(u32, u32), ahash::RandomState>, counts: Vec<u64> },
    Exact { scale: u8, sums: Vec<Sum> },
    Floats(Vec<(f64, u64)>),
    Best(Vec<Best>),
}

/// An exact sum.
#[derive(Clone, Copy, Default)]
struct Sum {
    mantissa: i128,
    count: u64,
    display: u16,
}

/// The smallest or largest value so far.
#[derive(Clone, PartialEq)]
enum Best {
    None,
    Int(i64),
    Float(f64),
    Decimal(Decimal),
    Bytes(Box<[u8]>),
}

impl<'a> Accumulator<'a> {
    /// `kind` is the type of the metric's column.
    pub(super) fn new(metric: &'a Metric, kind: Option<Type>) -> Self {
        let kept = match metric.function {
            Function::Count => Kept::Counts(Vec::new()),
            Function::Distinct => {
                Kept::Distinct { codes: Codes::new(None), seen: HashSet::default(), counts: Vec::new() }
            }
            Function::Sum | Function::Avg if kind == Some(Type::Float) => Kept::Floats(Vec::new()),
            Function::Sum | Function::Avg => Kept::Exact { scale: 0, sums: Vec::new() },
            Function::Min | Function::Max => Kept::Best(Vec::new()),
        };
        Self { metric, kept }
    }

    /// Takes these rows of a frame, each of the group at its place; there are `all` groups by now.
    pub(super) fn take(
        &mut self,
        frame: &[Column],
        rows: &[u32],
        groups: &[u32],
        all: usize,
    ) -> Result<(), Refused> {
        let Some(column) = self.metric.column.map(|at| &frame[at]) else {
            if let Kept::Counts(counts) = &mut self.kept {
                counts.resize(all, 0);
                groups.iter().for_each(|group| counts[*group as usize] += 1);
            }
            return Ok(());
        };
        let beyond = || Refused::Beyond { column: self.metric.field.name.clone() };
        match &mut self.kept {
            Kept::Counts(counts) => {
                counts.resize(all, 0);
                of_values(column, rows, groups).for_each(|(_, group)| counts[group as usize] += 1);
            }
            Kept::Distinct { codes, seen, counts } => {
                counts.resize(all, 0);
                for (code, group) in codes.of(column, rows).into_iter().zip(groups) {
                    if !codes.is_null(code) && seen.insert((*group, code)) {
                        counts[*group as usize] += 1;
                    }
                }
                if seen.len() > limits::ANALYTICS_DISTINCT {
                    return Err(beyond());
                }
            }
            Kept::Exact { scale, sums } => {
                sums.resize(all, Sum::default());
                add_exact(scale, sums, column, rows, groups).ok_or_else(beyond)?;
            }
            Kept::Floats(sums) => {
                sums.resize(all, (0.0, 0));
                add_floats(sums, column, rows, groups).ok_or_else(beyond)?;
            }
            Kept::Best(best) => {
                best.resize(all, Best::None);
                let wanted =
                    if self.metric.function == Function::Min { Ordering::Less } else { Ordering::Greater };
                take_best(best, column, rows, groups, wanted);
            }
        }
        Ok(())
    }

    /// The results of these groups, with their name.
    pub(super) fn finish(mut self, order: &[u32], all: usize) -> Result<(String, Column), Refused> {
        let name = &self.metric.field.name;
        let mut out = Collector::new(name, self.metric.field.kind);
        let average = self.metric.function == Function::Avg;
        let kind = self.metric.field.kind;
        let filled = match &mut self.kept {
            Kept::Counts(counts) | Kept::Distinct { counts, .. } => {
                counts.resize(all, 0);
                order.iter().try_for_each(|group| out.integer(counts[*group as usize] as i64))
            }
            Kept::Exact { scale, sums } => {
                sums.resize(all, Sum::default());
                order
                    .iter()
                    .try_for_each(|group| put_exact(&mut out, &sums[*group as usize], *scale, kind, average))
            }
            Kept::Floats(sums) => {
                sums.resize(all, (0.0, 0));
                order.iter().try_for_each(|group| match sums[*group as usize] {
                    (_, 0) => {
                        out.null();
                        Ok(())
                    }
                    (sum, count) => out.float(if average { sum / count as f64 } else { sum }),
                })
            }
            Kept::Best(best) => {
                best.resize(all, Best::None);
                order.iter().try_for_each(|group| match &best[*group as usize] {
                    Best::None => {
                        out.null();
                        Ok(())
                    }
                    Best::Int(value) => out.integer(*value),
                    Best::Float(value) => out.float(*value),
                    Best::Decimal(value) => out.decimal(*value),
                    Best::Bytes(bytes) => {
                        out.bytes(bytes);
                        Ok(())
                    }
                })
            }
        };
        let column = filled.and_then(|()| out.finish());
        // The source has types without such limits.
        let column = column.map_err(|_| Refused::Beyond { column: name.clone() })?;
        Ok((name.clone(), column))
    }
}

/// Places of `rows` whose value is not NULL, with their groups.
fn of_values<'a>(
    column: &'a Column,
    rows: &'a [u32],
    groups: &'a [u32],
) -> impl Iterator<Item = (u32, u32)> + 'a {
    let pairs = rows.iter().copied().zip(groups.iter().copied());
    pairs.filter(|(row, _)| !column.nulls().at(*row as usize))
}

fn add_exact(scale: &mut u8, sums: &mut [Sum], column: &Column, rows: &[u32], groups: &[u32]) -> Option<()> {
    let (own, display) = match column.form() {
        Form::Decimal { scale, display } => (*scale, Some(display)),
        _ => (0, None),
    };
    if own > *scale {
        let power = decimal::ten(own - *scale);
        for sum in sums.iter_mut() {
            sum.mantissa = sum.mantissa.checked_mul(power)?;
        }
        *scale = own;
    }
    let power = decimal::ten(*scale - own);
    // Mostly all show the same, which is looked at once.
    let shown = display.map_or(0, |display| display.least() as u16);
    let varying = display.filter(|display| display.least() != display.most());
    let (nulls, mut fits, mut at) = (column.nulls(), true, 0);
    column.integers().each(rows.iter().copied(), |integer| {
        let (row, group) = (rows[at] as usize, groups[at] as usize);
        at += 1;
        if nulls.at(row) {
            return;
        }
        let sum = &mut sums[group];
        let added = if power == 1 { Some(integer) } else { integer.checked_mul(power) };
        match added.and_then(|added| sum.mantissa.checked_add(added)) {
            Some(added) => sum.mantissa = added,
            None => fits = false,
        }
        sum.count += 1;
        sum.display = sum.display.max(varying.map_or(shown, |display| display.at(row) as u16));
    });
    fits.then_some(())
}

fn add_floats(sums: &mut [(f64, u64)], column: &Column, rows: &[u32], groups: &[u32]) -> Option<()> {
    for (row, group) in of_values(column, rows, groups) {
        let value = f64::from_bits(column.integers().at(row as usize) as u64);
        let (sum, count) = &mut sums[group as usize];
        let added = *sum + value;
        // Postgres calls it an error when only the sum is infinite.
        if added.is_infinite() && sum.is_finite() && value.is_finite() {
            return None;
        }
        (*sum, *count) = (added, *count + 1);
    }
    Some(())
}

fn take_best(best: &mut [Best], column: &Column, rows: &[u32], groups: &[u32], wanted: Ordering) {
    const NONE: u32 = u32::MAX;
    // Within a frame values compare as integers; only the best row of each group is looked at.
    let mut local = vec![NONE; best.len()];
    let mut touched = Vec::new();
    for (row, group) in of_values(column, rows, groups) {
        let held = &mut local[group as usize];
        if *held == NONE {
            touched.push(group);
            *held = row;
        } else if column.compare(row as usize, *held as usize) == wanted {
            *held = row;
        }
    }
    for group in touched {
        let found = match column.value(local[group as usize] as usize) {
            Value::Int(value) => Best::Int(value),
            Value::Float(value) => Best::Float(value),
            Value::Decimal(value) => Best::Decimal(value),
            Value::Bytes(bytes) => Best::Bytes(bytes.into()),
            Value::Null | Value::Bool(_) => continue,
        };
        let held = &mut best[group as usize];
        if *held == Best::None || compare(&found, held) == wanted {
            *held = found;
        }
    }
}

/// Orders two values of one type, and tells those apart that SQL calls equal, so that the order of frames does not matter.
fn compare(a: &Best, b: &Best) -> Ordering {
    match (a, b) {
        (Best::Int(a), Best::Int(b)) => a.cmp(b),
        (Best::Float(a), Best::Float(b)) => compare_floats(*a, *b).then(a.to_bits().cmp(&b.to_bits())),
        (Best::Decimal(a), Best::Decimal(b)) => a.cmp(b).then(a.display().cmp(&b.display())),
        (Best::Bytes(a), Best::Bytes(b)) => a.cmp(b),
        _ => unreachable!("values of one column are of one type"),
    }
}

fn put_exact(out: &mut Collector, sum: &Sum, scale: u8, kind: Type, average: bool) -> Result<(), Refused> {
    if sum.count == 0 {
        out.null();
        return Ok(());
    }
    let total = Decimal::new(sum.mantissa, scale, sum.display).expect("the scale of a column");
    let beyond = || Refused::Beyond { column: String::new() };
    match kind {
        Type::BigInt => out.integer(i64::try_from(sum.mantissa).map_err(|_| beyond())?),
        _ if average => out.decimal(Decimal::quotient(&total, sum.count).ok_or_else(beyond)?),
        _ => out.decimal(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::schema::Roles;
    use crate::analytics::testing::{self, Cell};

    fn schema(kind: Type) -> Schema {
        Schema::new(vec![Field { name: "c".to_owned(), kind }], Roles::default()).unwrap()
    }

    /// Every row is of group 0 of two; two frames.
    fn of(function: Function, kind: Type, frames: [&[Cell]; 2]) -> Result<Vec<Cell>, Refused> {
        let metric = Metric::new(&schema(kind), function, Some("c"), "m")?;
        let mut accumulator = Accumulator::new(&metric, Some(kind));
        for cells in frames {
            let rows: Vec<u32> = (0..cells.len() as u32).collect();
            accumulator.take(&[testing::column(kind, cells)], &rows, &vec![0; cells.len()], 1)?;
        }
        Ok(testing::read(&accumulator.finish(&[0, 1], 2)?.1))
    }

    fn decimals<const N: usize>(texts: [&str; N]) -> [Cell; N] {
        texts.map(|text| Cell::Decimal(text.to_owned()))
    }

    #[test]
    fn exact_numbers_stay_exact_over_scales() {
        let first = decimals(["0.1", "9223372036854775807.5"]);
        let second = [&decimals(["0.20", "100"])[..], &[Cell::Null]].concat();
        let sum = of(Function::Sum, Type::Numeric, [&first, &second]).unwrap();
        assert_eq!(
            sum,
            [Cell::Decimal("9223372036854775907.80".to_owned()), Cell::Null],
            "a group without values is NULL"
        );
        let avg =
            of(Function::Avg, Type::Numeric, [&decimals(["0.1"]), &decimals(["0.10", "0.10"])]).unwrap();
        assert_eq!(avg[0], Cell::Decimal("0.10000000000000000000".to_owned()));
        let sum = of(Function::Sum, Type::BigInt, [&[Cell::Int(i64::MAX)], &[Cell::Int(i64::MAX)]]).unwrap();
        assert_eq!(sum[0], Cell::Decimal("18446744073709551614".to_owned()));
        assert_eq!(
            of(Function::Sum, Type::Int, [&[Cell::Int(2)], &[Cell::Int(3)]]).unwrap(),
            [Cell::Int(5), Cell::Null]
        );
    }

    #[test]
    fn what_cannot_be_exact_is_left_to_the_source() {
        let huge = decimals(["99999999999999999999999999999999999999"]);
        let beyond = Err(Refused::Beyond { column: "m".to_owned() });
        assert_eq!(of(Function::Sum, Type::Numeric, [&huge, &huge]), beyond);
        assert_eq!(of(Function::Sum, Type::Numeric, [&huge, &decimals(["0.1"])]), beyond);
        let most = [Cell::Float(f64::MAX.to_bits())];
        assert_eq!(of(Function::Avg, Type::Float, [&most, &most]), beyond);
        let infinite = [Cell::Float(f64::INFINITY.to_bits())];
        assert_eq!(of(Function::Sum, Type::Float, [&most, &infinite]).unwrap()[0], infinite[0]);
    }

    #[test]
    fn counts_bests_and_distinct_values_leave_nulls_out() {
        let first = [Cell::Null, Cell::Bytes(b"b".to_vec()), Cell::Bytes(b"a".to_vec())];
        let second = [Cell::Bytes(b"a".to_vec()), Cell::Bytes("é".as_bytes().to_vec())];
        for (function, expected) in [
            (Function::Count, [Cell::Int(4), Cell::Int(0)]),
            (Function::Distinct, [Cell::Int(3), Cell::Int(0)]),
            (Function::Min, [Cell::Bytes(b"a".to_vec()), Cell::Null]),
            (Function::Max, [Cell::Bytes("é".as_bytes().to_vec()), Cell::Null]),
        ] {
            assert_eq!(of(function, Type::Text, [&first, &second]).unwrap(), expected, "{function:?}");
        }
        let floats = [f64::NAN, -1.0].map(|value| Cell::Float(value.to_bits()));
        assert_eq!(of(Function::Max, Type::Float, [&floats, &[]]).unwrap()[0], floats[0]);
    }

    #[test]
    fn functions_are_for_the_types_that_sql_has_them_for() {
        for (function, kind) in [
            (Function::Sum, Type::Text),
            (Function::Avg, Type::Date),
            (Function::Min, Type::Uuid),
            (Function::Max, Type::Bool),
            (Function::Distinct, Type::Json),
        ] {
            let refused = Metric::new(&schema(kind), function, Some("c"), "m");
            assert!(matches!(refused, Err(Refused::Question { .. })), "{function:?} {kind:?}");
        }
        assert!(Metric::new(&schema(Type::Json), Function::Count, Some("c"), "m").is_ok());
        assert!(Metric::new(&schema(Type::Int), Function::Sum, None, "m").is_err());
        assert!(Metric::new(&schema(Type::Int), Function::Count, None, "m").is_ok());
        for (function, word) in Function::ALL {
            assert_eq!(Function::parse(word), Some(function));
        }
    }
}
