use super::reader::{self, Js};
use super::*;
use crate::analytics::calendar::{DAY_US, civil};
use crate::analytics::testing::{self, Cell};
use crate::analytics::{Column, Decimal, Refused, Table, Type};
use proptest::prelude::*;

const FACTS: Facts = Facts { layer: Layer::Store, generation: 42, reason: None, micros: 1_234 };

const NAMES: [&str; 12] =
    ["a", "measure_value", "\"", "\\", "\n", "__proto__", "0", "日本", "", "constructor", "a\u{2028}b", "😀"];

/// A table and its cells, a column at a time.
fn random(seed: u64, rows: usize) -> (Table, Vec<(Type, Vec<Cell>)>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let count = rng.usize(0..NAMES.len());
    let mut names = NAMES.to_vec();
    rng.shuffle(&mut names);
    let cells: Vec<(Type, Vec<Cell>)> = (0..count)
        .map(|_| {
            let kind = rng.choice(testing::KINDS).unwrap();
            (kind, cells(kind, rows, &mut rng))
        })
        .collect();
    let columns =
        cells.iter().zip(names).map(|((kind, cells), name)| (name.to_owned(), testing::column(*kind, cells)));
    (Table { rows, columns: columns.collect() }, cells)
}

/// Random ones; or without NULL, all alike, or close together, as columns are that are written in another way.
fn cells(kind: Type, rows: usize, rng: &mut fastrand::Rng) -> Vec<Cell> {
    let any = |rng: &mut fastrand::Rng| loop {
        match testing::cell(kind, rng) {
            Cell::Null => {}
            cell => return cell,
        }
    };
    match rng.u8(..5) {
        0 => vec![Cell::Null; rows],
        1 => vec![any(rng); rows],
        2 => (0..rows).map(|_| any(rng)).collect(),
        3 => {
            let few = [any(rng), any(rng), Cell::Null];
            (0..rows).map(|_| rng.choice(&few).unwrap().clone()).collect()
        }
        _ => (0..rows).map(|_| testing::cell(kind, rng)).collect(),
    }
}

fn two(number: i64) -> String {
    format!("{number:02}")
}

fn date(day: i64) -> String {
    if day == i64::from(i32::MAX) || day == i64::from(i32::MIN) {
        return if day > 0 { "infinity" } else { "-infinity" }.to_owned();
    }
    let (year, month, of_month) = civil(day);
    format!("{year:04}-{}-{}", two(month), two(of_month))
}

fn timestamp(at_us: i64) -> String {
    if at_us == i64::MAX || at_us == i64::MIN {
        return if at_us > 0 { "infinity" } else { "-infinity" }.to_owned();
    }
    let ms = at_us.rem_euclid(DAY_US) / 1_000;
    let clock = [ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60].map(two).join(":");
    format!("{}T{clock}.{:03}Z", date(at_us.div_euclid(DAY_US)), ms % 1_000)
}

fn uuid(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Digits after the point that say nothing.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn js(kind: Type, cell: &Cell, numbers: Numbers) -> Js {
    match cell {
        Cell::Null => Js::Null,
        Cell::Bool(value) => Js::Bool(*value),
        Cell::Int(day) if kind == Type::Date => Js::Text(date(*day)),
        Cell::Int(at_us) if matches!(kind, Type::Timestamp | Type::TimestampTz) => Js::number(match *at_us {
            i64::MAX => f64::INFINITY,
            i64::MIN => f64::NEG_INFINITY,
            at_us => (at_us.div_euclid(1_000) + 946_684_800_000) as f64,
        }),
        Cell::Int(whole) if whole.unsigned_abs() < 1 << 53 => Js::number(*whole as f64),
        Cell::Int(whole) => Js::Text(whole.to_string()),
        Cell::Float(bits) => Js::Number(*bits),
        Cell::Decimal(text) if numbers == Numbers::Text => Js::Text(text.clone()),
        Cell::Decimal(text) => Js::number(text.parse().unwrap()),
        Cell::Bytes(bytes) if kind == Type::Uuid => Js::Text(uuid(bytes)),
        Cell::Bytes(bytes) => Js::Text(String::from_utf8(bytes.clone()).unwrap()),
    }
}

fn token(kind: Type, cell: &Cell, numbers: Numbers) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Bool(value) => value.to_string(),
        Cell::Int(at_us) if matches!(kind, Type::Timestamp | Type::TimestampTz) => quoted(&timestamp(*at_us)),
        Cell::Int(whole) if kind != Type::Date && whole.unsigned_abs() < 1 << 53 => whole.to_string(),
        Cell::Float(bits) => serde_json::to_string(&f64::from_bits(*bits)).unwrap(),
        Cell::Decimal(text) if numbers == Numbers::Float => trimmed(text).to_owned(),
        Cell::Bytes(bytes) if kind == Type::Json => String::from_utf8(bytes.clone()).unwrap(),
        _ => match js(kind, cell, numbers) {
            Js::Text(text) => quoted(&text),
            other => panic!("{other:?}"),
        },
    }
}

fn expected_json(table: &Table, cells: &[(Type, Vec<Cell>)], numbers: Numbers) -> String {
    let row = |row: usize| {
        let fields = table.columns.iter().zip(cells).map(|((name, _), (kind, cells))| {
            format!("{}:{}", serde_json::to_string(name).unwrap(), token(*kind, &cells[row], numbers))
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    format!("[{}]", (0..table.rows).map(row).collect::<Vec<_>>().join(","))
}

fn numbers() -> impl Strategy<Value = Numbers> {
    proptest::sample::select(vec![Numbers::Float, Numbers::Text])
}

fn expected_answer(
    table: &Table,
    cells: &[(Type, Vec<Cell>)],
    facts: &Facts,
    numbers: Numbers,
) -> reader::Answer {
    let columns = table.columns.iter().zip(cells).map(|((name, _), (kind, cells))| {
        (name.clone(), kind.byte(), cells.iter().map(|cell| js(*kind, cell, numbers)).collect())
    });
    reader::Answer {
        rows: table.rows,
        layer: facts.layer as u8,
        generation: facts.generation,
        micros: facts.micros,
        reason: facts.reason.unwrap_or_default().to_owned(),
        columns: columns.collect(),
    }
}

proptest! {
    #[test]
    fn json_is_what_a_naive_writer_writes_and_is_json(seed: u64, rows in 0..50_usize, numbers in numbers()) {
        let (table, cells) = random(seed, rows);
        let written = json(&table, numbers).unwrap();
        let text = std::str::from_utf8(&written).unwrap();
        prop_assert_eq!(text, expected_json(&table, &cells, numbers));
        let parsed: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(text).unwrap();
        prop_assert_eq!(parsed.len(), rows);
        prop_assert!(parsed.iter().all(|row| row.len() == table.columns.len()));
    }

    #[test]
    fn columns_are_read_as_they_were_written(seed: u64, rows in 0..50_usize, numbers in numbers()) {
        let (table, cells) = random(seed, rows);
        let bytes = columns(&table, &FACTS, numbers);
        prop_assert_eq!(reader::answer(&bytes), expected_answer(&table, &cells, &FACTS, numbers));
    }

    #[test]
    fn a_batch_is_its_answers(seeds in proptest::collection::vec((any::<u64>(), 0..9_usize), 0..5), numbers in numbers()) {
        let facts = Facts { layer: Layer::Source, generation: 0, reason: Some("cold"), micros: 0 };
        let tables: Vec<_> = seeds.into_iter().map(|(seed, rows)| random(seed, rows)).collect();
        let answers: Vec<_> = tables.iter().enumerate().map(|(at, (table, _))| (table, if at % 2 == 0 { &FACTS } else { &facts })).collect();
        let expected: Vec<_> = tables
            .iter()
            .zip(&answers)
            .map(|((table, cells), (_, facts))| expected_answer(table, cells, facts, numbers))
            .collect();
        prop_assert_eq!(reader::batch(&batch(&answers, numbers)), expected);
    }
}

/// One column of so many different values that its places need another width, or its dates no table.
#[test]
fn many_values_take_wider_places() {
    for (count, encoding) in [(255, 5), (256, 6), (65_535, 6), (65_536, 7)] {
        for (kind, step) in [(Type::Text, 1), (Type::Date, 1), (Type::Date, 20_000)] {
            let mut cells: Vec<Cell> = (0..count)
                .map(|at| match kind {
                    Type::Text => Cell::Bytes(format!("{at:05}").into_bytes()),
                    _ => Cell::Int(at * step),
                })
                .collect();
            cells.push(Cell::Null);
            let table =
                Table { rows: cells.len(), columns: vec![("c".to_owned(), testing::column(kind, &cells))] };
            let bytes = columns(&table, &FACTS, Numbers::Float);
            assert_eq!(bytes[columns::HEAD + 1], encoding, "{count}");
            let cells = [(kind, cells)];
            assert_eq!(reader::answer(&bytes), expected_answer(&table, &cells, &FACTS, Numbers::Float));
            assert_eq!(json(&table, Numbers::Float).unwrap(), expected_json(&table, &cells, Numbers::Float));
        }
    }
}

#[test]
fn exact_numbers_are_the_nearest_doubles() {
    for text in [
        "9007199254740993",
        "0.1",
        "123456789012345678901234567890.12345678",
        "0.00000000000000000000001",
        "-33.3333333333333333",
        "12345678901234567.89",
    ] {
        let number = text.parse().unwrap();
        let column = testing::column(Type::Numeric, &[Cell::Decimal(text.to_owned())]);
        let table = Table { rows: 1, columns: vec![("v".to_owned(), column)] };
        assert_eq!(
            reader::answer(&columns(&table, &FACTS, Numbers::Float)).columns[0].2,
            [Js::number(number)],
            "{text}"
        );
        assert_eq!(
            json(&table, Numbers::Float).unwrap(),
            format!("[{{\"v\":{text}}}]"),
            "digits are kept in JSON"
        );
    }
}

#[test]
fn a_timestamp_whose_millisecond_no_double_has_makes_texts_of_its_column() {
    // The last millisecond that a double has, in the year 287396, and the next one.
    let last_us = (SAFE as i64 - text::EPOCH_MS) * 1_000;
    for (at_us, encoding) in [(last_us + 999, 3), (last_us + 1_000, 8), (-last_us, 3), (i64::MAX - 1, 8)] {
        let cells = [Cell::Int(at_us), Cell::Null, Cell::Int(i64::MAX), Cell::Int(0), Cell::Int(i64::MIN)];
        let column = testing::column(Type::Timestamp, &cells);
        let table = Table { rows: cells.len(), columns: vec![("t".to_owned(), column)] };
        let bytes = columns(&table, &FACTS, Numbers::Float);
        assert_eq!(bytes[columns::HEAD + 1], encoding, "{at_us}");
        let read = reader::answer(&bytes).columns.remove(0).2;
        let shown: Vec<Option<String>> = json(&table, Numbers::Float)
            .map(|text| {
                serde_json::from_slice::<Vec<std::collections::HashMap<String, Option<String>>>>(&text)
                    .unwrap()
            })
            .unwrap()
            .into_iter()
            .map(|mut row| row.remove("t").unwrap())
            .collect();
        assert_eq!(shown[2].as_deref(), Some("infinity"));
        if encoding == 8 {
            let as_js = |text: &Option<String>| text.clone().map_or(Js::Null, Js::Text);
            assert_eq!(read, shown.iter().map(as_js).collect::<Vec<_>>());
        } else {
            assert_eq!(read[0], js(Type::Timestamp, &cells[0], Numbers::Float));
            assert_eq!((&read[1], &read[2]), (&Js::Null, &Js::number(f64::INFINITY)));
        }
    }
}

#[test]
fn json_that_is_none_does_not_get_out_of_its_object() {
    for text in ["", "1},{\"practice_uid\":2", "{\"a\":1}}", "tru", "[1"] {
        let column = testing::column(Type::Json, &[Cell::Bytes(text.as_bytes().to_vec())]);
        let table = Table { rows: 1, columns: vec![("metadata".to_owned(), column)] };
        assert_eq!(json(&table, Numbers::Float), Err(Refused::Corrupt("json that is none")), "{text}");
    }
    // As deep as Postgres allows and further.
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let column = testing::column(Type::Json, &[Cell::Bytes(deep.clone().into_bytes())]);
    let table = Table { rows: 1, columns: vec![("m".to_owned(), column)] };
    assert_eq!(json(&table, Numbers::Float).unwrap(), format!("[{{\"m\":{deep}}}]"));
}

/// The tables of the files that vitest reads. `BCOS_GOLDEN=write` writes them anew, after a change of the layout.
#[test]
fn what_javascript_is_tested_with_is_what_is_written_today() {
    let (wide, narrow) = golden();
    let source = Facts { layer: Layer::Source, generation: 0, reason: Some("cold"), micros: 7 };
    for (name, bytes) in [
        ("numbers.bin", columns(&wide, &FACTS, Numbers::Float)),
        ("numbers.txt", json(&wide, Numbers::Float).unwrap()),
        ("texts.bin", columns(&wide, &FACTS, Numbers::Text)),
        ("texts.txt", json(&wide, Numbers::Text).unwrap()),
        ("batch.bin", batch(&[(&wide, &FACTS), (&narrow, &source)], Numbers::Float)),
    ] {
        let path = format!("{}/../../__test__/analytics/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var("BCOS_GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}");
    }
}

fn golden() -> (Table, Table) {
    let text = |text: &str| Cell::Bytes(text.as_bytes().to_vec());
    let decimal = |text: &str| Cell::Decimal(text.to_owned());
    let float = |value: f64| Cell::Float(value.to_bits());
    let columns: Vec<(&str, Type, [Cell; 5])> = vec![
        ("practice", Type::Text, [text("Zürich"), text("Zürich"), Cell::Null, text("日本 😀"), text("")]),
        (
            "practice_uid",
            Type::Int,
            [Cell::Int(0), Cell::Int(i32::MAX.into()), Cell::Null, Cell::Int(-1), Cell::Int(7)],
        ),
        (
            "visits",
            Type::BigInt,
            [Cell::Int(0), Cell::Int((1 << 53) - 1), Cell::Null, Cell::Int(-1), Cell::Int(7)],
        ),
        (
            "exact",
            Type::BigInt,
            [Cell::Int(1 << 53), Cell::Int(i64::MAX), Cell::Null, Cell::Int(i64::MIN), Cell::Int(-7)],
        ),
        ("ratio", Type::Float, [float(-0.0), float(0.1), Cell::Null, float(1e300), float(5e-324)]),
        (
            "measure_value",
            Type::Numeric,
            [
                decimal("1.50"),
                decimal("-0.001"),
                Cell::Null,
                decimal("12345678901234567890.123"),
                decimal("0"),
            ],
        ),
        (
            "is_primary",
            Type::Bool,
            [Cell::Bool(true), Cell::Bool(false), Cell::Null, Cell::Bool(true), Cell::Bool(false)],
        ),
        (
            "date_index",
            Type::Date,
            [
                Cell::Int(0),
                Cell::Int(i32::MAX.into()),
                Cell::Null,
                Cell::Int(i32::MIN.into()),
                Cell::Int(8_826),
            ],
        ),
        (
            "made_at",
            Type::Timestamp,
            [
                Cell::Int(-1),
                Cell::Int(i64::MAX),
                Cell::Null,
                Cell::Int(i64::MIN),
                Cell::Int(9_223_371_331_199_999_999),
            ],
        ),
        (
            "seen_at",
            Type::TimestampTz,
            [
                Cell::Int(0),
                Cell::Int(123_456_789_012),
                Cell::Null,
                Cell::Int(-63_082_281_600_000_000),
                Cell::Int(1),
            ],
        ),
        (
            "id",
            Type::Uuid,
            [
                Cell::Bytes(vec![0xab; 16]),
                Cell::Bytes(vec![0; 16]),
                Cell::Null,
                Cell::Bytes(vec![0xab; 16]),
                Cell::Bytes(vec![1; 16]),
            ],
        ),
        (
            "metadata",
            Type::Json,
            [text("{\"a\": [1, null]}"), text("[]"), Cell::Null, text("null"), text("\"é\"")],
        ),
        ("__proto__", Type::Text, [text("own"), text("own"), text("own"), text("own"), text("own")]),
        ("nothing", Type::Text, [const { Cell::Null }; 5]),
    ];
    let made = |(name, kind, cells): &(&str, Type, [Cell; 5])| -> (String, Column) {
        ((*name).to_owned(), testing::column(*kind, cells))
    };
    let narrow = Column::gather(Type::Numeric, &[], &[]).unwrap();
    let empty = Table { rows: 0, columns: vec![("sum".to_owned(), narrow)] };
    (Table { rows: 5, columns: columns.iter().map(made).collect() }, empty)
}

/// How long it takes, and how large it is: `cargo test --release -p bcos-cache-core --lib answer -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
#[allow(clippy::print_stdout, reason = "its only purpose is to print")]
#[allow(clippy::disallowed_methods, reason = "it measures time")]
fn measure() {
    for rows in [1_000_usize, 35_000, 281_000] {
        let mut rng = fastrand::Rng::with_seed(7);
        let of_practice: Vec<usize> = (0..rows).map(|_| rng.usize(0..100)).collect();
        let text = |text: String| Cell::Bytes(text.into_bytes());
        let mut column = |kind: Type, cell: &mut dyn FnMut(usize, &mut fastrand::Rng) -> Cell| {
            testing::column(kind, &of_practice.iter().map(|at| cell(*at, &mut rng)).collect::<Vec<_>>())
        };
        let columns = vec![
            (
                "practice",
                column(Type::Text, &mut |at, _| text(format!("Practice {at:04} of the Greater Area"))),
            ),
            ("practice_primary", column(Type::Text, &mut |at, _| text(format!("Primary {:03}", at / 3)))),
            ("practice_uid", column(Type::Int, &mut |at, _| Cell::Int(at as i64 + 100))),
            (
                "provider_name",
                column(Type::Text, &mut |at, rng| text(format!("Dr. {} Example-{at}", rng.u8(..8)))),
            ),
            (
                "provider_uid",
                column(Type::Int, &mut |_, rng| {
                    if rng.u8(..20) == 0 { Cell::Null } else { Cell::Int(rng.i64(1_000..1_800)) }
                }),
            ),
            ("measure", column(Type::Text, &mut |_, _| text("Measure 01 Net Collections".to_owned()))),
            ("measure_type", column(Type::Text, &mut |_, _| text("currency".to_owned()))),
            ("frequency", column(Type::Text, &mut |_, _| text("Monthly".to_owned()))),
            ("date_index", column(Type::Date, &mut |_, rng| Cell::Int(8_400 + rng.i64(0..320)))),
            (
                "measure_value",
                column(Type::Numeric, &mut |_, rng| {
                    Cell::Decimal(Decimal::new(rng.i128(0..2_000_000), 2, 2).unwrap().to_string())
                }),
            ),
        ];
        let table = Table {
            rows,
            columns: columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect(),
        };
        if let Ok(folder) = std::env::var("BCOS_ANSWERS") {
            std::fs::write(format!("{folder}/{rows}.bin"), super::columns(&table, &FACTS, Numbers::Float))
                .unwrap();
            std::fs::write(format!("{folder}/{rows}.json"), json(&table, Numbers::Float).unwrap()).unwrap();
        }
        let timed = |what: &str, run: &dyn Fn() -> usize| {
            let mut times: Vec<f64> = (0..25)
                .map(|_| {
                    let start = std::time::Instant::now();
                    std::hint::black_box(run());
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            println!("{rows} rows, {what}: {:.3} ms (least {:.3}), {} bytes", times[12], times[0], run());
        };
        timed("columns, numbers", &|| super::columns(&table, &FACTS, Numbers::Float).len());
        timed("columns, texts", &|| super::columns(&table, &FACTS, Numbers::Text).len());
        timed("json", &|| json(&table, Numbers::Float).unwrap().len());
        timed("json, texts", &|| json(&table, Numbers::Text).unwrap().len());
    }
}
