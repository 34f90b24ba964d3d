//! Numbers are written as Postgres writes them and compared with their texts.

use proptest::prelude::*;

use super::*;
use crate::analytics::Value;

/// As Postgres keeps it: digits of base 10,000 without zeros at either end.
fn written(text: &str) -> Vec<u8> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let padded = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let all = format!("{whole}{padded}");
    let mut groups: Vec<u16> =
        all.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap().parse().unwrap()).collect();
    let mut weight = (whole.len() / 4) as i16 - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    if groups.is_empty() {
        weight = 0;
    }
    let sign = if negative && !groups.is_empty() { NEGATIVE } else { 0 };
    let head = [groups.len() as u16, weight as u16, sign, fraction.len() as u16];
    head.iter().chain(&groups).flat_map(|word| word.to_be_bytes()).collect()
}

fn read(bytes: &[u8]) -> Number {
    numeric(bytes).expect("a numeric")
}

#[test]
fn numbers_are_those_of_their_texts_with_the_zeros_they_show() {
    for text in [
        "0",
        "0.00",
        "1",
        "-1",
        "10000",
        "100000000",
        "0.0001",
        "0.00010",
        "12345.6789",
        "-0.5",
        "1.50",
        "99999999999999999999999999999999999999",
        "-0.99999999999999999999999999999999999999",
        "170141183460469231731687303715884105727",
        // Its last group of digits would not fit without its zeros being left out.
        "9999999999999999999999999999999999.9990",
        "1000000000000000000000000000000000000",
        "0.00000000000000000000000000000000000001",
    ] {
        let Number::Exact(value) = read(&written(text)) else { panic!("{text}") };
        assert_eq!(value.to_string(), text);
    }
}

#[test]
fn what_has_more_digits_is_wide_and_what_is_no_number_endless() {
    for text in [
        "170141183460469231731687303715884105728",
        "1000000000000000000000000000000000000000",
        "0.000000000000000000000000000000000000001",
        "99999999999999999999999999999999999999.5",
    ] {
        assert_eq!(read(&written(text)), Number::Wide, "{text}");
    }
    for sign in [0xc000_u16, 0xd000, 0xf000] {
        let bytes: Vec<u8> = [0, 0, sign, 0].iter().flat_map(|word: &u16| word.to_be_bytes()).collect();
        assert_eq!(read(&bytes), Number::Endless);
    }
}

#[test]
fn bytes_that_are_no_value_are_an_error() {
    let good = written("12345.678");
    for at in 0..good.len() {
        assert!(numeric(&good[..at]).is_err(), "{at}");
    }
    let with = |at: usize, byte| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        numeric(&bytes)
    };
    assert!(with(4, 0x12).is_err(), "a sign that is none");
    assert!(with(6, 0x40).is_err(), "more decimals than there are");
    assert!(with(8, 0x28).is_err() && with(8, 0xff).is_err(), "a digit beyond 9999");
    for (kind, bytes) in [
        (Type::Int, &[0_u8; 8][..]),
        (Type::BigInt, &[0; 4]),
        (Type::Float, &[0; 4]),
        (Type::Bool, &[2]),
        (Type::Date, &[]),
        (Type::TimestampTz, &[0; 9]),
        (Type::Uuid, &[0; 15]),
        (Type::Text, &[0xff]),
    ] {
        let mut collector = Collector::new("c", kind);
        assert!(matches!(put(&mut collector, kind, Some(bytes)), Err(Failed::Unreadable(_))), "{kind:?}");
    }
}

#[test]
fn values_of_every_type() {
    let day = 8_825_i32.to_be_bytes();
    for (kind, bytes, expected) in [
        (Type::Int, &(-7_i32).to_be_bytes()[..], Value::Int(-7)),
        (Type::BigInt, &i64::MIN.to_be_bytes(), Value::Int(i64::MIN)),
        (Type::Float, &0.1_f64.to_be_bytes(), Value::Float(0.1)),
        (Type::Numeric, &written("-0.10"), Value::Decimal(Decimal::parse("-0.1").unwrap())),
        (Type::Text, "é".as_bytes(), Value::Bytes("é".as_bytes())),
        (Type::Bool, &[1], Value::Bool(true)),
        (Type::Date, &day, Value::Int(8_825)),
        (Type::Date, &i32::MAX.to_be_bytes(), Value::Int(i32::MAX.into())),
        (Type::Timestamp, &i64::MIN.to_be_bytes(), Value::Int(i64::MIN)),
        (Type::TimestampTz, &1_i64.to_be_bytes(), Value::Int(1)),
        (Type::Uuid, &[9; 16], Value::Bytes(&[9; 16])),
        (Type::Json, b"{\"a\": 1}", Value::Bytes(b"{\"a\": 1}")),
    ] {
        let mut collector = Collector::new("c", kind);
        put(&mut collector, kind, Some(bytes)).expect("a value");
        put(&mut collector, kind, None).expect("NULL");
        let column = collector.finish().unwrap();
        assert_eq!([column.value(0), column.value(1)], [expected, Value::Null], "{kind:?}");
    }
}

#[test]
fn what_cannot_be_kept_names_its_column() {
    let nan: Vec<u8> = [0, 0, 0xc000, 0].iter().flat_map(|word: &u16| word.to_be_bytes()).collect();
    for (bytes, because) in [
        (nan, "finite numbers, neither NaN nor Infinity"),
        (written(&"9".repeat(40)), "numbers of up to 38 digits"),
    ] {
        let refused = put(&mut Collector::new("price", Type::Numeric), Type::Numeric, Some(&bytes));
        let Err(Failed::Refused(refused)) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.to_string(), format!("a value of column price cannot be kept exactly: {because}"));
    }
}

proptest! {
    #[test]
    fn every_number_is_read_exactly(negative: bool, whole in "0|[1-9][0-9]{0,24}", fraction in "[0-9]{0,13}") {
        let point = if fraction.is_empty() { "" } else { "." };
        let text = format!("{whole}{point}{fraction}");
        let zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        let text = if negative && !zero { format!("-{text}") } else { text };
        let Number::Exact(value) = read(&written(&text)) else { panic!("{text}") };
        prop_assert_eq!(value.to_string(), text);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = numeric(&bytes);
    }

    #[test]
    fn hostile_weights_never_panic(weight: i16, display in 0..0x4000_u16, digits in proptest::collection::vec(0..10_000_u16, 0..12)) {
        let head = [digits.len() as u16, weight as u16, 0, display];
        let bytes: Vec<u8> = head.iter().chain(&digits).flat_map(|word| word.to_be_bytes()).collect();
        prop_assert!(numeric(&bytes).is_ok());
    }
}
