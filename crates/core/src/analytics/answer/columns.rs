//! An answer as columns, laid out so that JavaScript makes typed arrays over it and copies nothing (`lib/analytics/`).
//!
//! All numbers are little-endian. Places are in units of 8 bytes from the beginning of the answer, so that every list
//! is aligned for any typed array.
//!
//! ```text
//! answer  "BCA1" | rows u32 | columns u32 | layer u8 | 0 u8 | reason bytes u16 | generation f64 | micros f64 |
//!         names bytes u32 | 0 u32 | one descriptor per column | names | reason | lists, each at a multiple of 8
//! column  type u8 | encoding u8 | flags u8 | 0 u8 | nulls place u32 | values place u32 | entries u32 |
//!         ends place u32 | texts place u32 | texts bytes u32 | 0 u32
//! batch   "BCB1" | answers u32 | per answer: place u32, length in units of 8 u32 | answers, each at a multiple of 8
//! ```
//!
//! `names` is a JSON array. `type` is the byte of `schema::Type`. Flags: 1 = some row is NULL, and there is a bitmap (bit `row
//! % 8` of byte `row / 8`); 2 = texts are ASCII. Layer: 0 near, 1 store, 2 source.
//!
//! | encoding | values |
//! | --- | --- |
//! | 1 | u8: booleans |
//! | 2 | i32 |
//! | 3 | f64: floats, bigints and exact numbers; timestamps as Unix milliseconds, infinite ones too |
//! | 4 | i64: bigints, when one is beyond 2^53 - 1 |
//! | 5, 6, 7 | u8, u16, u32: places among `entries` texts; that of a NULL is `entries` |
//! | 8 | no values: one text per row (`entries` = rows), empty for a NULL: exact numbers as texts, and timestamps when one is so far away that no f64 has its millisecond |
//!
//! `ends` are u32, one per text: where it ends, in UTF-16 units of all texts together, which is how JavaScript cuts. What
//! stands in the place of a NULL in 1 to 4 means nothing.
//!
//! Invariant: the layout is what this page says; `reader.rs` and `lib/analytics/layout.ts` are written after it.

use bytes::Bytes;

use super::distinct::Distinct;
use super::{Facts, Layer, Numbers, is_safe, text};
use crate::analytics::decimal::ten;
use crate::analytics::{Column, Decimal, Form, Table, Type};

/// Bytes before the descriptors.
pub(super) const HEAD: usize = 40;
/// Bytes of a descriptor.
pub(super) const DESCRIPTOR: usize = 32;

/// One answer.
pub fn columns(table: &Table, facts: &Facts, numbers: Numbers) -> Bytes {
    let mut out = Vec::with_capacity(guess(table));
    put_answer(&mut out, table, facts, numbers);
    out.into()
}

/// The answers of one `batchQuery`, in order.
pub fn batch(answers: &[(&Table, &Facts)], numbers: Numbers) -> Bytes {
    let mut out = Vec::with_capacity(answers.iter().map(|(table, _)| guess(table) + 8).sum::<usize>() + 8);
    out.extend_from_slice(b"BCB1");
    out.extend((answers.len() as u32).to_le_bytes());
    out.resize(8 + 8 * answers.len(), 0);
    for (at, (table, facts)) in answers.iter().enumerate() {
        let start = out.len();
        put_answer(&mut out, table, facts, numbers);
        let length = ((out.len() - start) / 8) as u32;
        let entry = &mut out[8 + 8 * at..16 + 8 * at];
        entry[..4].copy_from_slice(&((start / 8) as u32).to_le_bytes());
        entry[4..].copy_from_slice(&length.to_le_bytes());
    }
    out.into()
}

/// About as many bytes as it takes: never far too few, which would mean copying.
fn guess(table: &Table) -> usize {
    let of_column = |(name, column): &(String, Column)| {
        let texts = match column.form() {
            // A UUID takes more than twice as much, and an end 4 bytes.
            Form::Dictionary(dictionary) => 3 * dictionary.size(),
            _ => 0,
        };
        DESCRIPTOR + 2 * name.len() + 9 * table.rows + texts + 64
    };
    HEAD + 64 + table.columns.iter().map(of_column).sum::<usize>()
}

fn put_answer(out: &mut Vec<u8>, table: &Table, facts: &Facts, numbers: Numbers) {
    let start = out.len();
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
    let names = serde_json::to_vec(&names).expect("texts are JSON");
    let reason = facts.reason.unwrap_or_default();
    out.extend_from_slice(b"BCA1");
    out.extend((table.rows as u32).to_le_bytes());
    out.extend((table.columns.len() as u32).to_le_bytes());
    let layer = match facts.layer {
        Layer::Near => 0,
        Layer::Store => 1,
        Layer::Source => 2,
    };
    out.extend([layer, 0]);
    out.extend((reason.len() as u16).to_le_bytes());
    out.extend((facts.generation as f64).to_le_bytes());
    out.extend((facts.micros as f64).to_le_bytes());
    out.extend((names.len() as u32).to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    out.resize(start + HEAD + DESCRIPTOR * table.columns.len(), 0);
    out.extend_from_slice(&names);
    out.extend_from_slice(reason.as_bytes());
    let mut lists = Lists { out, start };
    lists.align();
    for (at, (_, column)) in table.columns.iter().enumerate() {
        let described = put_column(&mut lists, column, numbers).bytes();
        let from = start + HEAD + DESCRIPTOR * at;
        lists.out[from..from + DESCRIPTOR].copy_from_slice(&described);
    }
}

/// What stands about a column before the lists.
#[derive(Default)]
struct Described {
    kind: u8,
    encoding: u8,
    nulls: Option<u32>,
    ascii: bool,
    values: u32,
    entries: usize,
    ends: u32,
    texts: u32,
    bytes: usize,
}

impl Described {
    fn bytes(&self) -> [u8; DESCRIPTOR] {
        let mut bytes = [0; DESCRIPTOR];
        let flags = u8::from(self.nulls.is_some()) | u8::from(self.ascii) << 1;
        bytes[..3].copy_from_slice(&[self.kind, self.encoding, flags]);
        let numbers = [
            self.nulls.unwrap_or_default(),
            self.values,
            self.entries as u32,
            self.ends,
            self.texts,
            self.bytes as u32,
        ];
        for (slot, number) in bytes[4..].chunks_exact_mut(4).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// Where lists are put.
struct Lists<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl Lists<'_> {
    fn align(&mut self) {
        let length = self.out.len() - self.start;
        self.out.resize(self.start + length.next_multiple_of(8), 0);
    }

    fn place(&self) -> u32 {
        ((self.out.len() - self.start) / 8) as u32
    }

    /// A list of one element per row.
    fn put<const N: usize>(&mut self, column: &Column, element: impl FnMut(i128) -> [u8; N]) -> u32 {
        self.put_list(&column.integers().map(element))
    }

    fn put_list<const N: usize>(&mut self, list: &[[u8; N]]) -> u32 {
        let place = self.place();
        self.out.extend_from_slice(list.as_flattened());
        self.align();
        place
    }

    /// Places among `entries` texts, and after them for a NULL.
    fn put_codes<const N: usize>(
        &mut self,
        column: &Column,
        entries: usize,
        code: impl Fn(i128) -> u32,
    ) -> u32 {
        let bytes = |code: u32| -> [u8; N] {
            let mut bytes = [0; N];
            bytes.copy_from_slice(&code.to_le_bytes()[..N]);
            bytes
        };
        let mut codes = column.integers().map(|integer| bytes(code(integer)));
        if column.nulls().any() {
            let nulls = codes.iter_mut().enumerate().filter(|(row, _)| column.nulls().at(*row));
            nulls.for_each(|(_, code)| *code = bytes(entries as u32));
        }
        self.put_list(&codes)
    }

    fn put_nulls(&mut self, column: &Column) -> Option<u32> {
        let (nulls, rows, place) = (column.nulls(), column.rows(), self.place());
        let byte = |from: usize| {
            (from..rows.min(from + 8)).fold(0, |bits, row| bits | u8::from(nulls.at(row)) << (row - from))
        };
        nulls.any().then(|| {
            self.out.extend((0..rows).step_by(8).map(byte));
            self.align();
            place
        })
    }

    /// Texts and where they end; `put` writes the text of a number below `count`.
    fn put_texts(
        &mut self,
        described: &mut Described,
        count: usize,
        mut put: impl FnMut(&mut Vec<u8>, usize),
    ) {
        let from = self.out.len();
        described.texts = self.place();
        let (mut ends, mut end) = (Vec::with_capacity(count), 0);
        for at in 0..count {
            let before = self.out.len();
            put(self.out, at);
            end += units(&self.out[before..]);
            ends.push((end as u32).to_le_bytes());
        }
        described.bytes = self.out.len() - from;
        described.ascii = described.bytes == end;
        described.entries = count;
        self.align();
        described.ends = self.put_list(&ends);
    }
}

/// UTF-16 units of UTF-8: one per character, two for what takes four bytes.
fn units(text: &[u8]) -> usize {
    text.iter().map(|byte| usize::from(*byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0)).sum()
}

fn put_column(lists: &mut Lists<'_>, column: &Column, numbers: Numbers) -> Described {
    let kind = column.kind();
    let mut described =
        Described { kind: kind.byte(), nulls: lists.put_nulls(column), ..Described::default() };
    (described.encoding, described.values) = match (column.form(), kind) {
        (Form::Dictionary(dictionary), _) => {
            lists.put_texts(&mut described, dictionary.len(), |out, at| match kind {
                Type::Uuid => text::put_uuid(out, dictionary.at(at)),
                _ => out.extend_from_slice(dictionary.at(at)),
            });
            put_codes(lists, column, dictionary.len(), |code| code as u32)
        }
        (Form::Decimal { scale, display }, _) if numbers == Numbers::Text => {
            lists.put_texts(&mut described, column.rows(), |out, row| {
                if !column.nulls().at(row) {
                    let shown = display.at(row) as usize;
                    text::put_decimal(out, column.integers().at(row), *scale, shown);
                }
            });
            (8, 0)
        }
        (Form::Decimal { scale, .. }, _) => (3, put_nearest(lists, column, *scale)),
        (Form::Plain, Type::Date) => {
            let distinct = Distinct::of(column);
            let values = distinct.values();
            lists.put_texts(&mut described, values.len(), |out, at| text::put_date(out, values[at] as i64));
            put_codes(lists, column, values.len(), |day| distinct.place(day))
        }
        (Form::Plain, Type::Bool) => (1, lists.put(column, |bit| [bit as u8])),
        (Form::Plain, Type::Int) => (2, lists.put(column, |int| (int as i32).to_le_bytes())),
        (Form::Plain, Type::Float) => (3, lists.put(column, |bits| (bits as u64).to_le_bytes())),
        (Form::Plain, Type::Timestamp | Type::TimestampTz) if is_far(column) => {
            lists.put_texts(&mut described, column.rows(), |out, row| {
                if let Some(at_us) = column.integer(row) {
                    text::put_timestamp(out, at_us);
                }
            });
            (8, 0)
        }
        (Form::Plain, Type::Timestamp | Type::TimestampTz) => {
            (3, lists.put(column, |at_us| text::unix_ms(at_us as i64).to_le_bytes()))
        }
        (Form::Plain, _) if is_safe(column.integers().least(), column.integers().most()) => {
            (3, lists.put(column, |int| (int as i64 as f64).to_le_bytes()))
        }
        (Form::Plain, _) => (4, lists.put(column, |int| (int as i64).to_le_bytes())),
    };
    described
}

/// In as few bytes as `entries` and all before it need.
fn put_codes(
    lists: &mut Lists<'_>,
    column: &Column,
    entries: usize,
    code: impl Fn(i128) -> u32,
) -> (u8, u32) {
    match entries {
        0..=0xff => (5, lists.put_codes::<1>(column, entries, code)),
        0x100..=0xffff => (6, lists.put_codes::<2>(column, entries, code)),
        _ => (7, lists.put_codes::<4>(column, entries, code)),
    }
}

/// Whether some timestamp is so far away that no double has its millisecond.
fn is_far(column: &Column) -> bool {
    let far = |at_us: i128| {
        let ms = at_us.div_euclid(1_000) + i128::from(text::EPOCH_MS);
        !is_safe(ms, ms)
    };
    let integers = column.integers();
    let mut found = false;
    if far(integers.least()) || far(integers.most()) {
        integers.each(0..column.rows() as u32, |at_us| {
            found |= far(at_us) && at_us != i64::MIN.into() && at_us != i64::MAX.into();
        });
    }
    found
}

/// The doubles nearest to exact numbers.
fn put_nearest(lists: &mut Lists<'_>, column: &Column, scale: u8) -> u32 {
    let integers = column.integers();
    // Both are doubles without an error then, so that one division rounds once.
    if is_safe(integers.least(), integers.most()) && scale <= 22 {
        let unit = ten(scale) as f64;
        return lists.put(column, |mantissa| (mantissa as i64 as f64 / unit).to_le_bytes());
    }
    lists.put(column, |mantissa| {
        let decimal = Decimal::new(mantissa, scale, 0).expect("a scale is checked when it is read");
        decimal.nearest().to_le_bytes()
    })
}
