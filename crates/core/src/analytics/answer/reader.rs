//! Reads what `columns` writes, after its page and nothing else. For tests only.

use super::columns::{DESCRIPTOR, HEAD};

/// A value as a row of JavaScript has it. Floats by their bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Js {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
}

impl Js {
    pub(super) fn number(value: f64) -> Self {
        Js::Number(value.to_bits())
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) rows: usize,
    pub(super) layer: u8,
    pub(super) generation: u64,
    pub(super) micros: u64,
    pub(super) reason: String,
    /// Name, byte of the type, values. Timestamps are numbers.
    pub(super) columns: Vec<(String, u8, Vec<Js>)>,
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn f64_at(bytes: &[u8], at: usize) -> f64 {
    f64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub(super) fn batch(bytes: &[u8]) -> Vec<Answer> {
    assert_eq!(&bytes[..4], b"BCB1");
    let answers = (0..u32_at(bytes, 4)).map(|at| {
        let from = 8 * u32_at(bytes, 8 + 8 * at);
        answer(&bytes[from..from + 8 * u32_at(bytes, 12 + 8 * at)])
    });
    answers.collect()
}

pub(super) fn answer(bytes: &[u8]) -> Answer {
    assert_eq!(&bytes[..4], b"BCA1");
    assert_eq!(bytes.len() % 8, 0);
    let (rows, count) = (u32_at(bytes, 4), u32_at(bytes, 8));
    let reason = usize::from(u16::from_le_bytes([bytes[14], bytes[15]]));
    let names_at = HEAD + DESCRIPTOR * count;
    let reason_at = names_at + u32_at(bytes, 32);
    let names: Vec<String> = serde_json::from_slice(&bytes[names_at..reason_at]).unwrap();
    assert_eq!(names.len(), count);
    let columns = names.into_iter().enumerate().map(|(at, name)| {
        let from = HEAD + DESCRIPTOR * at;
        (name, bytes[from], column(bytes, &bytes[from..from + DESCRIPTOR], rows))
    });
    Answer {
        rows,
        layer: bytes[12],
        generation: f64_at(bytes, 16) as u64,
        micros: f64_at(bytes, 24) as u64,
        reason: String::from_utf8(bytes[reason_at..reason_at + reason].to_vec()).unwrap(),
        columns: columns.collect(),
    }
}

fn column(bytes: &[u8], described: &[u8], rows: usize) -> Vec<Js> {
    let (kind, encoding, flags) = (described[0], described[1], described[2]);
    let number = |at: usize| u32_at(described, 4 * at);
    let place = |at: usize| 8 * number(at);
    let (nulls, values, entries) = (place(1), place(2), number(3));
    let texts = texts(bytes, place(4), entries, &bytes[place(5)..place(5) + number(6)], flags & 2 != 0);
    let is_null = |row: usize| flags & 1 != 0 && bytes[nulls + row / 8] >> (row % 8) & 1 != 0;
    let value = |row: usize| match encoding {
        1 => Js::Bool(bytes[values + row] != 0),
        2 => Js::number(i32::from_le_bytes(bytes[values + 4 * row..][..4].try_into().unwrap()).into()),
        3 => Js::number(f64_at(bytes, values + 8 * row)),
        4 => {
            let whole = i64::from_le_bytes(bytes[values + 8 * row..][..8].try_into().unwrap());
            if whole.unsigned_abs() < 1 << 53 {
                Js::number(whole as f64)
            } else {
                Js::Text(whole.to_string())
            }
        }
        5..=7 => {
            let width = 1 << (encoding - 5);
            let mut code = [0; 4];
            code[..width].copy_from_slice(&bytes[values + width * row..][..width]);
            let code = u32::from_le_bytes(code) as usize;
            assert_eq!(code == entries, is_null(row), "a NULL has a place of its own");
            texts.get(code).map_or(Js::Null, |text| Js::Text(text.clone()))
        }
        8 => Js::Text(texts[row].clone()),
        other => panic!("encoding {other} of type {kind}"),
    };
    (0..rows).map(|row| if is_null(row) { Js::Null } else { value(row) }).collect()
}

fn texts(bytes: &[u8], ends: usize, entries: usize, all: &[u8], ascii: bool) -> Vec<String> {
    assert!(entries == 0 || all.is_ascii() == ascii);
    let units: Vec<u16> = std::str::from_utf8(all).unwrap().encode_utf16().collect();
    let mut from = 0;
    let texts = (0..entries).map(|at| {
        let end = u32_at(bytes, ends + 4 * at);
        let text = String::from_utf16(&units[from..end]).unwrap();
        from = end;
        text
    });
    texts.collect()
}
