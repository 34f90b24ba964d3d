//! The whole pure part against a naive one: random tables, scopes, filters and groups, row by row as SQL defines it. For tests only.
//!
//! The naive side shares no decision with the other: values are compared as texts and big integers, filters are three-valued
//! functions of one row, groups are maps of values. `BCOS_SCHEDULES` sets how many tables.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::rbac::scope::{Scope, Scopes};
use calendar::DAY_US;
use cut::Bounds;
use testing::Cell;

pub(crate) type Row = Vec<Cell>;

const SMALL: Bounds = Bounds { enough: 4, most: 16 };

/// A random table.
pub(crate) struct Source {
    pub(crate) schema: Schema,
    pub(crate) rows: Vec<Row>,
}

impl Source {
    pub(crate) fn random(rng: &mut fastrand::Rng) -> Self {
        let mut columns: Vec<(Type, Option<usize>)> = Vec::new();
        let dates = [Type::Date, Type::Date, Type::Timestamp, Type::TimestampTz];
        let ids = [Type::Int, Type::BigInt];
        for (role, kinds) in [&[Type::Text][..], &[Type::Text], &dates, &ids, &ids].into_iter().enumerate() {
            if rng.u8(..8) > 0 {
                columns.push((rng.choice(kinds).copied().unwrap(), Some(role)));
            }
        }
        for _ in 0..rng.usize(1..5) {
            columns.push((rng.choice(testing::KINDS).unwrap(), None));
        }
        rng.shuffle(&mut columns);
        let place = |role| columns.iter().position(|column| column.1 == Some(role));
        let roles = Roles {
            measure: place(0),
            frequency: place(1),
            date: place(2),
            practice: place(3),
            provider: place(4),
        };
        let named =
            columns.iter().enumerate().map(|(at, (kind, _))| Field { name: format!("c{at}"), kind: *kind });
        let schema = Schema::new(named.collect(), roles).unwrap();
        let count = if rng.bool() { rng.usize(..12) } else { rng.usize(..160) };
        let mut rows: Vec<Row> = Vec::with_capacity(count);
        for _ in 0..count {
            if rng.u8(..12) == 0 && !rows.is_empty() {
                let again = rows[rng.usize(..rows.len())].clone();
                rows.push(again);
                continue;
            }
            rows.push(columns.iter().map(|(kind, role)| Self::cell(*kind, *role, rng)).collect());
        }
        Self { schema, rows }
    }

    fn cell(kind: Type, role: Option<usize>, rng: &mut fastrand::Rng) -> Cell {
        match role {
            // Few measures and frequencies, so that groups have rows.
            Some(0 | 1) if rng.u8(..10) > 0 => {
                Cell::Bytes(rng.choice(["a|b", "a\nb", "*", "日本"]).unwrap().as_bytes().to_vec())
            }
            Some(3 | 4) if rng.u8(..10) > 0 => Cell::Int(rng.i64(0..5)),
            _ => testing::cell(kind, rng),
        }
    }

    /// Built from these rows in this order, in random batches.
    pub(crate) fn build(&self, rows: &[Row], rng: &mut fastrand::Rng) -> Built {
        let mut builder = Builder::cutting(self.schema.clone(), SMALL);
        let mut rest = rows;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.usize(1..=rest.len()));
            let mut batch = Batch::new(&self.schema);
            for row in now {
                for (at, cell) in row.iter().enumerate() {
                    testing::push(batch.column(at), self.schema.fields()[at].kind, cell);
                }
            }
            builder.push(batch).unwrap();
            rest = later;
        }
        assert_eq!(builder.rows(), rows.len() as u64);
        let mut making = builder.finish();
        let made: Vec<Made> = making.by_ref().flat_map(|frames| frames.unwrap()).collect();
        Built { manifest: making.manifest().unwrap(), made }
    }

    fn cell_of<'a>(&self, row: &'a Row, role: Option<usize>) -> &'a Cell {
        role.map_or(&Cell::Null, |at| &row[at])
    }
}

pub(crate) struct Built {
    manifest: Manifest,
    made: Vec<Made>,
}

impl Built {
    /// As the other side of the store sees it.
    pub(crate) fn read(&self) -> (Manifest, Vec<Arc<Frame>>) {
        let sealed = self.manifest.seal();
        let manifest = Manifest::open(&sealed, &Hash::of(&sealed)).unwrap();
        assert_eq!(manifest, self.manifest);
        let frames = manifest.frames().iter().zip(&self.made).map(|(entry, made)| {
            assert_eq!((entry.hash, entry.bytes as usize), (made.hash, made.bytes.len()));
            Arc::new(Frame::open(&made.bytes, &entry.hash, manifest.schema()).unwrap())
        });
        let frames = frames.collect();
        (manifest, frames)
    }
}

pub(crate) fn planned(plan: &Plan, frames: &[Arc<Frame>]) -> Vec<Arc<Frame>> {
    plan.parts.iter().map(|part| Arc::clone(&frames[part.frame])).collect()
}

// ---- The naive side.

/// A number times 10^18.
fn scaled(text: &str) -> i128 {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let magnitude: i128 = format!("{whole}{fraction:0<18}").parse().unwrap();
    if negative { -magnitude } else { magnitude }
}

fn number(cell: &Cell) -> Option<i128> {
    match cell {
        Cell::Int(value) => Some(i128::from(*value) * 10_i128.pow(18)),
        Cell::Bool(value) => Some(i128::from(*value) * 10_i128.pow(18)),
        Cell::Decimal(text) => Some(scaled(text)),
        _ => None,
    }
}

/// As SQL compares two values that are not NULL.
fn compare(a: &Cell, b: &Cell) -> Ordering {
    match (a, b) {
        (Cell::Bytes(a), Cell::Bytes(b)) => a.cmp(b),
        (Cell::Float(a), Cell::Float(b)) => {
            let (a, b) = (f64::from_bits(*a), f64::from_bits(*b));
            match (a.is_nan(), b.is_nan()) {
                (false, false) => a.partial_cmp(&b).unwrap(),
                (a, b) => a.cmp(&b),
            }
        }
        (a, b) => number(a).unwrap().cmp(&number(b).unwrap()),
    }
}

/// As rows are ordered: NULLs last, and equal numbers by how they are shown.
fn sorted(a: &Cell, b: &Cell) -> Ordering {
    match (a, b) {
        (Cell::Null, Cell::Null) => Ordering::Equal,
        (Cell::Null, _) => Ordering::Greater,
        (_, Cell::Null) => Ordering::Less,
        (Cell::Decimal(x), Cell::Decimal(y)) => {
            let zeros = |text: &str| text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            compare(a, b).then(zeros(x).cmp(&zeros(y)))
        }
        (Cell::Float(x), Cell::Float(y)) => compare(a, b).then(x.cmp(y)),
        _ => compare(a, b),
    }
}

fn is_like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|from| is_like(&text[from..], rest)),
        Some(('_', rest)) => !text.is_empty() && is_like(&text[1..], rest),
        Some(('\\', rest)) => text.first() == rest.first() && is_like(&text[1..], &rest[1..]),
        Some((plain, rest)) => text.first() == Some(plain) && is_like(&text[1..], rest),
    }
}

/// The condition of one row: true, false or unknown.
fn holds(operator: Operator, cell: &Cell, operands: &[Cell]) -> Option<bool> {
    let order =
        |operand: &Cell| (*cell != Cell::Null && *operand != Cell::Null).then(|| compare(cell, operand));
    let any = |mut results: Vec<Option<bool>>| {
        results.sort();
        if results.contains(&Some(true)) {
            Some(true)
        } else if results.contains(&None) {
            None
        } else {
            Some(false)
        }
    };
    let first = || order(&operands[0]);
    match operator {
        Operator::Eq => first().map(Ordering::is_eq),
        Operator::Neq => first().map(Ordering::is_ne),
        Operator::Gt => first().map(Ordering::is_gt),
        Operator::Gte => first().map(Ordering::is_ge),
        Operator::Lt => first().map(Ordering::is_lt),
        Operator::Lte => first().map(Ordering::is_le),
        Operator::In => any(operands.iter().map(|operand| order(operand).map(Ordering::is_eq)).collect()),
        Operator::NotIn => {
            any(operands.iter().map(|operand| order(operand).map(Ordering::is_eq)).collect()).map(|is| !is)
        }
        Operator::Between => {
            // not (cell < first or cell > last)
            any(vec![first().map(Ordering::is_lt), order(&operands[1]).map(Ordering::is_gt)]).map(|is| !is)
        }
        Operator::Like => match (cell, &operands[0]) {
            (Cell::Bytes(text), Cell::Bytes(pattern)) => {
                let chars = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().chars().collect::<Vec<_>>();
                Some(is_like(&chars(text), &chars(pattern)))
            }
            _ => None,
        },
    }
}

// ---- Questions.

pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) scope: Scope,
    pub(crate) practices: Option<Vec<i64>>,
    pub(crate) providers: Option<Vec<i64>>,
    pub(crate) conditions: Vec<(usize, Operator, Vec<Cell>)>,
}

fn two(number: i64) -> String {
    format!("{number:02}")
}

/// As somebody would type it; `None` for dates that ISO 8601 cannot write.
fn typed(kind: Type, cell: &Cell, rng: &mut fastrand::Rng) -> Option<Literal> {
    let day_text = |day: i64| {
        let (year, month, day) = calendar::civil(day);
        (year > 0 && year < 999_999).then(|| format!("{year:04}-{}-{}", two(month), two(day)))
    };
    Some(match cell {
        Cell::Null => Literal::Null,
        Cell::Bool(value) => Literal::Bool(*value),
        Cell::Float(bits) => Literal::Number(f64::from_bits(*bits)),
        Cell::Decimal(text) => Literal::Text(text.clone()),
        Cell::Bytes(bytes) if kind == Type::Uuid => {
            Literal::Text(bytes.iter().map(|byte| format!("{byte:02X}")).collect())
        }
        Cell::Bytes(bytes) => Literal::Text(String::from_utf8(bytes.clone()).unwrap()),
        Cell::Int(value) => match kind {
            Type::Date if i128::from(*value) == kind.integers().0 => Literal::Text("-infinity".to_owned()),
            Type::Date if i128::from(*value) == kind.integers().1 => Literal::Text("infinity".to_owned()),
            Type::Date => Literal::Text(day_text(*value)?),
            Type::Timestamp | Type::TimestampTz if *value == i64::MIN => {
                Literal::Text("-infinity".to_owned())
            }
            Type::Timestamp | Type::TimestampTz if *value == i64::MAX => Literal::Text("infinity".to_owned()),
            Type::Timestamp | Type::TimestampTz => {
                let of_day = value.rem_euclid(DAY_US);
                let seconds = of_day / 1_000_000;
                let clock = [seconds / 3_600, seconds / 60 % 60, seconds % 60].map(two).join(":");
                let day = day_text(value.div_euclid(DAY_US))?;
                Literal::Text(format!("{day}T{clock}.{:06}Z", of_day % 1_000_000))
            }
            _ if rng.bool() && value.unsigned_abs() < 1 << 53 => Literal::Number(*value as f64),
            _ if rng.bool() => Literal::Text(value.to_string()),
            _ => Literal::Whole((*value).into()),
        },
    })
}

const PATTERNS: [&str; 9] = ["%", "a%", "%b", "_", "a_b", "%\\%", "under\\_%", "%a%b%", ""];

impl Asked {
    pub(crate) fn random(source: &Source, rng: &mut fastrand::Rng) -> Self {
        let schema = &source.schema;
        let roles = *schema.roles();
        let mut name = |role: Option<usize>| {
            let names = ["a|b", "a\nb", "*", "日本", "", "nowhere"];
            (role.is_some() && rng.u8(..3) > 0).then(|| rng.choice(names).unwrap().to_owned())
        };
        let (measure, frequency) = (name(roles.measure), name(roles.frequency));
        let mut list =
            |most: usize| -> Vec<i64> { (0..rng.usize(..=most)).map(|_| rng.i64(-1..6)).collect() };
        let (own, practices, providers) = (list(4), list(3), list(3));
        let practices = rng.bool().then_some(practices);
        let providers = (rng.u8(..3) == 0).then_some(providers);
        let reach = rng.choice(["all", "all", "organization", "organization", "own", "none"]).unwrap();
        let provider = (rng.u8(..4) > 0).then(|| rng.i64(0..4));
        let scope = Scopes::new(false, own, provider, [("a:read", reach)].into_iter()).of("a:read");
        let visible = Visible::of(&scope, practices.as_deref(), providers.as_deref());
        let mut date = || {
            let kind = roles.date.map(|at| schema.fields()[at].kind).filter(|_| rng.u8(..3) == 0)?;
            match testing::cell(kind, rng) {
                Cell::Int(at) => Some(at),
                _ => None,
            }
        };
        let (first, last) = (date(), date());
        let mut asked = Self {
            question: Question { measure, frequency, visible, first, last, predicates: Vec::new() },
            scope,
            practices,
            providers,
            conditions: Vec::new(),
        };
        for _ in 0..rng.usize(..3) {
            asked.add_condition(source, rng);
        }
        asked
    }

    fn add_condition(&mut self, source: &Source, rng: &mut fastrand::Rng) {
        let column = rng.usize(..source.schema.fields().len());
        let Field { name, kind } = &source.schema.fields()[column];
        let (operator, _) = rng.choice(Operator::ALL).unwrap();
        let operand = |rng: &mut fastrand::Rng| match rng.choice(&source.rows) {
            Some(row) if rng.bool() => row[column].clone(),
            _ => testing::cell(*kind, rng),
        };
        let operands: Vec<Cell> = match operator {
            Operator::Like => vec![Cell::Bytes(rng.choice(PATTERNS).unwrap().as_bytes().to_vec())],
            Operator::Between => vec![operand(rng), operand(rng)],
            Operator::In | Operator::NotIn => (0..rng.usize(..4)).map(|_| operand(rng)).collect(),
            _ => vec![operand(rng)],
        };
        let literals: Option<Vec<Literal>> = operands.iter().map(|cell| typed(*kind, cell, rng)).collect();
        let Some(literals) = literals else { return };
        match Predicate::new(&source.schema, name, operator, &literals) {
            Ok(predicate) => {
                self.question.predicates.push(predicate);
                self.conditions.push((column, operator, operands));
            }
            Err(refused) => {
                let incomparable = *kind == Type::Json || operator == Operator::Like && *kind != Type::Text;
                assert!(incomparable, "{refused}: {operator:?} {operands:?}");
            }
        }
    }

    /// Whether SQL would give this row.
    fn wants(&self, source: &Source, row: &Row) -> bool {
        let Roles { measure, frequency, date, practice, provider } = *source.schema.roles();
        let named = |asked: &Option<String>, role| {
            asked
                .as_ref()
                .is_none_or(|name| *source.cell_of(row, role) == Cell::Bytes(name.clone().into_bytes()))
        };
        let id = |role| match source.cell_of(row, role) {
            Cell::Int(id) => Some(*id),
            _ => None,
        };
        let listed = |list: Option<&[i64]>, role| {
            list.is_none_or(|list| id(role).is_some_and(|id| list.contains(&id)))
        };
        let permitted = match &self.scope {
            Scope::Nothing => false,
            Scope::All(_) => true,
            Scope::Rows(rows) => {
                listed(Some(rows.practices()), practice) && listed(rows.providers(), provider)
            }
        };
        let within = match (self.question.first, self.question.last, id(date)) {
            (None, None, _) => true,
            (_, _, None) => false,
            (first, last, Some(at)) => {
                first.is_none_or(|first| first <= at) && last.is_none_or(|last| at <= last)
            }
        };
        let met = |(column, operator, operands): &(usize, Operator, Vec<Cell>)| {
            holds(*operator, &row[*column], operands) == Some(true)
        };
        permitted
            && within
            && named(&self.question.measure, measure)
            && named(&self.question.frequency, frequency)
            && listed(self.practices.as_deref(), practice)
            && listed(self.providers.as_deref(), provider)
            && self.conditions.iter().all(met)
    }
}

fn expected_rows(source: &Source, asked: &Asked) -> Vec<Row> {
    let Roles { measure, frequency, date, practice, provider } = *source.schema.roles();
    let mut rows: Vec<Row> = source.rows.iter().filter(|row| asked.wants(source, row)).cloned().collect();
    rows.sort_by(|a, b| {
        let of = |role| sorted(source.cell_of(a, role), source.cell_of(b, role));
        let leading = [date, practice, provider, measure, frequency].map(of).into_iter();
        let others = a.iter().zip(b).map(|(a, b)| sorted(a, b));
        leading.chain(others).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    rows
}

pub(crate) fn table_rows(table: &Table) -> Vec<Row> {
    assert!(table.columns.iter().all(|(_, column)| column.rows() == table.rows));
    (0..table.rows)
        .map(|row| table.columns.iter().map(|(_, column)| testing::shown(column.value(row))).collect())
        .collect()
}

// ---- Aggregates.

/// What SQL calls equal is made equal.
fn canonical(cell: &Cell) -> Cell {
    match cell {
        Cell::Decimal(text) => Cell::Decimal(scaled(text).to_string()),
        Cell::Float(bits) if f64::from_bits(*bits) == 0.0 => Cell::Float(0),
        Cell::Float(bits) if f64::from_bits(*bits).is_nan() => Cell::Float(f64::NAN.to_bits()),
        other => other.clone(),
    }
}

fn truncated(cell: &Cell, unit: Option<Unit>, kind: Type) -> Cell {
    let (Cell::Int(at), Some(unit)) = (cell, unit) else { return cell.clone() };
    let ends = [kind.integers().0 as i64, kind.integers().1 as i64];
    if ends.contains(at) {
        return cell.clone();
    }
    let per_day = if kind == Type::Date { 1 } else { DAY_US };
    let mut day = at.div_euclid(per_day);
    // Back, a day at a time, until the unit begins.
    let begins = |day: i64| {
        let (_, month, of_month) = calendar::civil(day);
        match unit {
            Unit::Day => true,
            Unit::Week => (day + 5).rem_euclid(7) == 0,
            Unit::Month => of_month == 1,
            Unit::Quarter => of_month == 1 && month % 3 == 1,
            Unit::Year => of_month == 1 && month == 1,
        }
    };
    while !begins(day) {
        day -= 1;
    }
    Cell::Int(day * per_day)
}

fn zeros_of(cells: &[&Cell]) -> u16 {
    let shown = |cell: &&Cell| match cell {
        Cell::Decimal(text) => text.split_once('.').map_or(0, |(_, fraction)| fraction.len() as u16),
        _ => 0,
    };
    cells.iter().map(shown).max().unwrap_or(0)
}

fn decimal_of(scaled: i128, display: u16) -> Cell {
    Cell::Decimal(Decimal::new(scaled, 18, display).unwrap().to_string())
}

/// The metric of one group; `None` when it cannot be given exactly.
fn metric(function: Function, kind: Option<Type>, cells: &[&Cell]) -> Option<Cell> {
    let Some(kind) = kind else { return Some(Cell::Int(cells.len() as i64)) };
    let values: Vec<&Cell> = cells.iter().copied().filter(|cell| **cell != Cell::Null).collect();
    let best = |wanted: Ordering| {
        values.iter().copied().reduce(|held, next| if sorted(next, held) == wanted { next } else { held })
    };
    let sum = || values.iter().try_fold(0_i128, |sum, cell| sum.checked_add(number(cell).unwrap()));
    Some(match function {
        Function::Count => Cell::Int(values.len() as i64),
        Function::Distinct => {
            Cell::Int(values.iter().map(|cell| canonical(cell)).collect::<BTreeSet<_>>().len() as i64)
        }
        _ if values.is_empty() => Cell::Null,
        Function::Min => best(Ordering::Less).unwrap().clone(),
        Function::Max => best(Ordering::Greater).unwrap().clone(),
        Function::Sum if kind == Type::Int => Cell::Int((sum()? / 10_i128.pow(18)) as i64),
        Function::Sum => decimal_of(sum()?, zeros_of(&values)),
        Function::Avg => {
            let total = Decimal::new(sum()?, 18, zeros_of(&values)).unwrap();
            Cell::Decimal(Decimal::quotient(&total, values.len() as u64)?.to_string())
        }
    })
}

pub(crate) struct Summed {
    pub(crate) group_by: Vec<(usize, Option<Unit>)>,
    pub(crate) metrics: Vec<(Function, Option<usize>)>,
}

impl Summed {
    pub(crate) fn random(source: &Source, rng: &mut fastrand::Rng) -> Self {
        let fields = source.schema.fields();
        let any = |rng: &mut fastrand::Rng| rng.usize(..fields.len());
        let mut group_by = Vec::new();
        for _ in 0..rng.usize(..4) {
            let column = any(rng);
            let dated = matches!(fields[column].kind, Type::Date | Type::Timestamp | Type::TimestampTz);
            if fields[column].kind != Type::Json {
                group_by.push((column, (dated && rng.bool()).then(|| rng.choice(Unit::ALL).unwrap().0)));
            }
        }
        let mut metrics = vec![(Function::Count, None)];
        for _ in 0..rng.usize(1..4) {
            let (function, column) = (rng.choice(Function::ALL).unwrap().0, any(rng));
            // The order of additions is not part of what a float sum means.
            let floats =
                fields[column].kind == Type::Float && matches!(function, Function::Sum | Function::Avg);
            if !floats && Metric::new(&source.schema, function, Some(&fields[column].name), "m").is_ok() {
                metrics.push((function, Some(column)));
            }
        }
        Self { group_by, metrics }
    }

    fn expected(&self, source: &Source, rows: &[Row]) -> Option<Vec<Row>> {
        let fields = source.schema.fields();
        let mut groups: BTreeMap<Vec<Cell>, Vec<&Row>> = BTreeMap::new();
        if self.group_by.is_empty() {
            groups.insert(Vec::new(), Vec::new());
        }
        for row in rows {
            let key = |(column, unit): &(usize, Option<Unit>)| {
                canonical(&truncated(&row[*column], *unit, fields[*column].kind))
            };
            groups.entry(self.group_by.iter().map(key).collect()).or_default().push(row);
        }
        let mut expected: Vec<Row> = Vec::new();
        for (key, rows) in groups {
            let mut out: Row = Vec::new();
            for ((column, _), key) in self.group_by.iter().zip(key) {
                let cells: Vec<&Cell> = rows.iter().map(|row| &row[*column]).collect();
                out.push(match key {
                    Cell::Decimal(scaled) => decimal_of(scaled.parse().unwrap(), zeros_of(&cells)),
                    other => other,
                });
            }
            for (function, column) in &self.metrics {
                let cells: Vec<&Cell> = rows.iter().map(|row| &row[column.unwrap_or(0)]).collect();
                out.push(metric(*function, column.map(|at| fields[at].kind), &cells)?);
            }
            expected.push(out);
        }
        let by = self.group_by.len();
        expected.sort_by(|a, b| {
            let compared = a[..by].iter().zip(&b[..by]).map(|(a, b)| sorted(a, b));
            compared.fold(Ordering::Equal, Ordering::then)
        });
        Some(expected)
    }

    pub(crate) fn actual(
        &self,
        built: &Built,
        question: &Question,
        frames: &[Arc<Frame>],
    ) -> Result<Table, Refused> {
        let schema = built.manifest.schema();
        let name = |at: usize| schema.fields()[at].name.as_str();
        let group_by: Vec<GroupBy> =
            self.group_by.iter().map(|(at, unit)| GroupBy::new(schema, name(*at), *unit).unwrap()).collect();
        let metrics: Vec<Metric> = self
            .metrics
            .iter()
            .map(|(function, at)| Metric::new(schema, *function, at.map(name), "m").unwrap())
            .collect();
        let plan = built.manifest.plan(question).unwrap();
        aggregate(&built.manifest, question, &plan, &planned(&plan, frames), &group_by, &metrics)
    }
}

// ---- The comparison.

pub(crate) fn schedules(divided_by: u64) -> u64 {
    let asked = std::env::var("BCOS_SCHEDULES").ok().and_then(|text| text.parse().ok());
    (asked.unwrap_or(10_000) / divided_by).max(1)
}

#[test]
fn every_answer_is_that_of_a_row_by_row_evaluation() {
    let mut answered = [0_u64; 3];
    for seed in 0..schedules(1) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let source = Source::random(&mut rng);
        let built = source.build(&source.rows, &mut rng);
        let (manifest, frames) = built.read();
        for _ in 0..4 {
            let asked = Asked::random(&source, &mut rng);
            let expected = expected_rows(&source, &asked);
            let plan = manifest.plan(&asked.question).unwrap();
            assert!(plan.rows() >= expected.len() as u64);
            if asked.question.visible == Visible::NOTHING {
                assert!(plan.parts.is_empty(), "seed {seed}: nothing is read for nothing");
            }
            let table = rows(&manifest, &asked.question, &plan, &planned(&plan, &frames), None).unwrap();
            assert_eq!(table_rows(&table), expected, "seed {seed}: {:?} {:?}", asked.question, source.schema);

            let some: Vec<usize> = (0..source.schema.fields().len()).filter(|_| rng.bool()).collect();
            let table =
                rows(&manifest, &asked.question, &plan, &planned(&plan, &frames), Some(&some)).unwrap();
            let cut = expected.iter().map(|row| some.iter().map(|at| row[*at].clone()).collect::<Row>());
            assert!(table_rows(&table).into_iter().eq(cut), "seed {seed}");

            let summed = Summed::random(&source, &mut rng);
            let aggregated = summed.actual(&built, &asked.question, &frames).map(|table| table_rows(&table));
            match summed.expected(&source, &expected) {
                Some(groups) if aggregated.is_ok() => {
                    assert_eq!(
                        aggregated,
                        Ok(groups),
                        "seed {seed}: {:?} {:?}",
                        summed.group_by,
                        summed.metrics
                    );
                }
                _ => {
                    assert!(matches!(aggregated, Err(Refused::Beyond { .. })), "seed {seed}: {aggregated:?}")
                }
            }
            answered[0] += u64::from(!expected.is_empty());
            answered[1] += u64::from(plan.groups > 1);
            answered[2] += u64::from(plan.parts.len() > 3);
        }
    }
    // A comparison of empty answers would prove nothing.
    assert!(answered.iter().all(|count| *count * 20 > schedules(1)), "{answered:?}");
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    for seed in 0..schedules(10) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let source = Source::random(&mut rng);
        let first = source.build(&source.rows, &mut rng);
        let mut shuffled = source.rows.clone();
        rng.shuffle(&mut shuffled);
        let second = source.build(&shuffled, &mut rng);
        assert_eq!((&first.made, &first.manifest), (&second.made, &second.manifest), "seed {seed}");
        assert_eq!(first.manifest.seal(), second.manifest.seal());

        let combination = |row: &Row| {
            let Roles { measure, frequency, practice, provider, .. } = *source.schema.roles();
            [measure, frequency, practice, provider].map(|role| source.cell_of(row, role).clone())
        };
        let combinations: BTreeSet<[Cell; 4]> = source.rows.iter().map(combination).collect();
        assert_eq!(first.manifest.entries(), combinations.len() as u64, "seed {seed}");
        assert_eq!(first.manifest.rows(), source.rows.len() as u64);
    }
}

/// A frame that holds other rows than its manifest announced is an alarm, whatever the other rows are.
#[test]
fn foreign_rows_in_a_frame_never_leave() {
    let mut alarms = 0;
    for seed in 0..schedules(10) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let source = Source::random(&mut rng);
        let (manifest, frames) = source.build(&source.rows, &mut rng).read();
        let asked = Asked::random(&source, &mut rng);
        let plan = manifest.plan(&asked.question).unwrap();
        let mut planned = planned(&plan, &frames);
        let Some(at) = (!planned.is_empty()).then(|| rng.usize(..planned.len())) else { continue };
        planned[at] = Arc::clone(&frames[rng.usize(..frames.len())]);
        match rows(&manifest, &asked.question, &plan, &planned, None) {
            Ok(table) => {
                // It may be a frame of the same rows' owners; then every row is one that may be seen.
                for row in table_rows(&table) {
                    assert!(source.rows.contains(&row) && asked.wants(&source, &row), "seed {seed}");
                }
            }
            Err(refused) => {
                assert!(matches!(refused, Refused::Scope | Refused::Corrupt(_)), "seed {seed}: {refused}");
                alarms += 1;
            }
        }
        assert!(rows(&manifest, &asked.question, &plan, &planned[1..], None).is_err(), "one is missing");
    }
    assert!(alarms > schedules(10) / 10, "{alarms}");
}

/// A plan is believed no more than a frame is: what it wants to read must be visible to the one who asks.
#[test]
fn the_plan_of_somebody_else_is_of_no_use() {
    let mut alarms = 0;
    for seed in 0..schedules(10) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let source = Source::random(&mut rng);
        let (manifest, frames) = source.build(&source.rows, &mut rng).read();
        let asked = Asked::random(&source, &mut rng);
        let everything = Question { visible: testing::visible(None, None), ..asked.question.clone() };
        let plan = manifest.plan(&everything).unwrap();
        let own = manifest.plan(&asked.question).unwrap();
        let answer = rows(&manifest, &asked.question, &plan, &planned(&plan, &frames), None);
        if plan.rows() == own.rows() {
            assert_eq!(
                answer.map(|table| table_rows(&table)),
                Ok(expected_rows(&source, &asked)),
                "seed {seed}"
            );
        } else {
            assert_eq!(answer, Err(Refused::Scope), "seed {seed}");
            alarms += 1;
        }
    }
    assert!(alarms > schedules(10) / 10, "{alarms}");
}
