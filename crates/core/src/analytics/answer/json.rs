//! Rows as JSON text, for whoever hands them on without looking at them.
//!
//! Most columns have few distinct values, and of these each is written once, with its name: a row is then mostly copied
//! from prepared pieces.
//!
//! Invariant: what is written is an array of as many objects as there are rows, whatever a column holds.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::distinct::Distinct;
use super::{Numbers, is_safe, text};
use crate::analytics::{Column, Dictionary, Form, Packed, Refused, Table, Type};

/// An array of objects. `Corrupt` when a json column holds no JSON.
pub fn json(table: &Table, numbers: Numbers) -> Result<Bytes, Refused> {
    let columns = table.columns.iter().enumerate().map(|(at, (name, column))| {
        let comma = if at == 0 { "" } else { "," };
        let name = serde_json::to_string(name).expect("a text is JSON");
        Cells::prepare(column, format!("{comma}{name}:").into_bytes(), numbers)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = columns.iter().map(|cells| cells.bytes(table.rows)).sum();
    let mut out = Vec::with_capacity(bytes + 3 * table.rows + 2);
    out.push(b'[');
    for row in 0..table.rows {
        if row > 0 {
            out.push(b',');
        }
        out.push(b'{');
        for cells in &columns {
            cells.put(&mut out, row);
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(out.into())
}

/// What a row has of one column.
enum Cells<'a> {
    /// Name and value, written beforehand.
    Pieces(Pieces),
    /// Written row by row.
    Each { name: Vec<u8>, column: &'a Column, how: How<'a> },
}

struct Pieces {
    codes: Vec<u32>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

/// How an integer is written.
#[derive(Clone, Copy)]
enum How<'a> {
    /// As it is.
    Whole,
    /// As a text, when JavaScript has no number for it.
    Safe,
    /// With a point.
    Decimal {
        scale: u8,
    },
    /// With the zeros that Postgres shows, as a text.
    Shown {
        scale: u8,
        display: &'a Packed,
    },
    /// Its bits.
    Float,
    Timestamp,
    Date,
    Bool,
}

impl<'a> Cells<'a> {
    fn prepare(column: &'a Column, name: Vec<u8>, numbers: Numbers) -> Result<Self, Refused> {
        let how = match (column.form(), column.kind()) {
            (Form::Dictionary(dictionary), _) => {
                return Pieces::of_texts(column, dictionary, &name).map(Cells::Pieces);
            }
            (Form::Decimal { scale, display }, _) if numbers == Numbers::Text => {
                How::Shown { scale: *scale, display }
            }
            (Form::Decimal { scale, .. }, _) => How::Decimal { scale: *scale },
            (Form::Plain, Type::Float) => How::Float,
            (Form::Plain, Type::Bool) => How::Bool,
            (Form::Plain, Type::Date) => How::Date,
            (Form::Plain, Type::Timestamp | Type::TimestampTz) => How::Timestamp,
            (Form::Plain, _) if is_safe(column.integers().least(), column.integers().most()) => How::Whole,
            (Form::Plain, _) => How::Safe,
        };
        // Equal numbers that are not shown alike are not one piece.
        let alike = !matches!(how, How::Shown { display, .. } if display.least() != display.most());
        match Distinct::of_few(column).filter(|_| alike) {
            Some(distinct) => Ok(Cells::Pieces(Pieces::of_integers(column, &distinct, how, &name))),
            None => Ok(Cells::Each { name, column, how }),
        }
    }

    /// As many bytes as it needs for so many rows, or a few more.
    fn bytes(&self, rows: usize) -> usize {
        match self {
            Cells::Pieces(pieces) => {
                pieces.codes.iter().map(|code| pieces.piece(*code as usize)).map(<[u8]>::len).sum()
            }
            Cells::Each { name, column, how } => {
                let (least, most) = (column.integers().least(), column.integers().most());
                let digits = |value: i128| value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 2;
                let value = match how {
                    How::Whole | How::Safe => digits(least).max(digits(most)) + 2,
                    How::Decimal { scale } => {
                        digits(least).max(digits(most)).max(usize::from(*scale) + 2) + 2
                    }
                    How::Shown { scale, display } => {
                        let shown = usize::from(*scale).max(display.most() as usize);
                        digits(least).max(digits(most)) + shown + 5
                    }
                    How::Float | How::Timestamp | How::Date | How::Bool => 26,
                };
                rows * (name.len() + value)
            }
        }
    }

    fn put(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Cells::Pieces(pieces) => out.extend_from_slice(pieces.piece(pieces.codes[row] as usize)),
            Cells::Each { name, column, how } => {
                out.extend_from_slice(name);
                if column.nulls().at(row) {
                    out.extend_from_slice(b"null");
                } else {
                    how.put(out, column.integers().at(row), row);
                }
            }
        }
    }
}

impl Pieces {
    fn piece(&self, code: usize) -> &[u8] {
        let from = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.bytes[from..self.ends[code]]
    }

    /// The place of every row's piece; that of a NULL comes after all others.
    fn codes(column: &Column, entries: usize, code: impl Fn(i128) -> u32) -> Vec<u32> {
        let mut codes = column.integers().map(code);
        if column.nulls().any() {
            let nulls = codes.iter_mut().enumerate().filter(|(row, _)| column.nulls().at(*row));
            nulls.for_each(|(_, code)| *code = entries as u32);
        }
        codes
    }

    fn with(codes: Vec<u32>, name: &[u8]) -> (Self, impl Fn(&mut Self, &[u8])) {
        let name = name.to_vec();
        let push = move |pieces: &mut Self, value: &[u8]| {
            pieces.bytes.extend_from_slice(&name);
            pieces.bytes.extend_from_slice(value);
            pieces.ends.push(pieces.bytes.len());
        };
        (Self { codes, ends: Vec::new(), bytes: Vec::new() }, push)
    }

    /// One piece per distinct integer, and the one of NULL after them.
    fn of_integers(column: &Column, distinct: &Distinct, how: How<'_>, name: &[u8]) -> Self {
        let codes = Self::codes(column, distinct.values().len(), |integer| distinct.place(integer));
        let (mut pieces, push) = Self::with(codes, name);
        let mut value = Vec::new();
        for integer in distinct.values() {
            value.clear();
            how.put(&mut value, *integer, 0);
            push(&mut pieces, &value);
        }
        push(&mut pieces, b"null");
        pieces
    }

    /// One piece per entry, and the one of NULL after them.
    fn of_texts(column: &Column, dictionary: &Dictionary, name: &[u8]) -> Result<Self, Refused> {
        let codes = Self::codes(column, dictionary.len(), |code| code as u32);
        let (mut pieces, push) = Self::with(codes, name);
        let mut value = Vec::new();
        for entry in dictionary.iter() {
            value.clear();
            match column.kind() {
                Type::Uuid => {
                    value.push(b'"');
                    text::put_uuid(&mut value, entry);
                    value.push(b'"');
                }
                // It becomes a part of the text: what is none would end the object it stands in.
                Type::Json => match serde_json::from_slice::<IgnoredAny>(entry) {
                    Ok(_) => value.extend_from_slice(entry),
                    Err(_) => return Err(Refused::Corrupt("json that is none")),
                },
                _ => {
                    let text =
                        std::str::from_utf8(entry).map_err(|_| Refused::Corrupt("a text that is none"))?;
                    serde_json::to_writer(&mut value, text).expect("memory takes everything");
                }
            }
            push(&mut pieces, &value);
        }
        push(&mut pieces, b"null");
        Ok(pieces)
    }
}

impl How<'_> {
    fn put(self, out: &mut Vec<u8>, integer: i128, row: usize) {
        let quoted = |out: &mut Vec<u8>, put: &dyn Fn(&mut Vec<u8>)| {
            out.push(b'"');
            put(out);
            out.push(b'"');
        };
        match self {
            How::Whole => text::put_whole(out, integer),
            How::Safe if is_safe(integer, integer) => text::put_whole(out, integer),
            How::Safe => quoted(out, &|out| text::put_whole(out, integer)),
            How::Decimal { scale } => text::put_decimal(out, integer, scale, 0),
            How::Shown { scale, display } => {
                let shown = display.at(row) as usize;
                quoted(out, &|out| text::put_decimal(out, integer, scale, shown));
            }
            // Not a number and the infinite ones become null, as with `JSON.stringify`.
            How::Float => {
                serde_json::to_writer(out, &f64::from_bits(integer as u64)).expect("memory takes everything");
            }
            How::Timestamp => quoted(out, &|out| text::put_timestamp(out, integer as i64)),
            How::Date => quoted(out, &|out| text::put_date(out, integer as i64)),
            How::Bool => out.extend_from_slice(if integer == 0 { b"false" } else { b"true" }),
        }
    }
}
