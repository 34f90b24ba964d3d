//! The stream is cut at every place, and damaged at every byte.

use super::*;

type Row = Vec<Option<Vec<u8>>>;

fn rows() -> Vec<Row> {
    vec![
        vec![Some(b"abc".to_vec()), None, Some(Vec::new())],
        vec![None, None, None],
        vec![Some(vec![0xff; 300]), Some(vec![0, 0, 0, 1]), Some(b"\n".to_vec())],
    ]
}

fn stream(extension: &[u8], rows: &[Row]) -> Vec<u8> {
    let mut bytes = [SIGNATURE, &[0; 4], &(extension.len() as u32).to_be_bytes(), extension].concat();
    for row in rows {
        bytes.extend((row.len() as i16).to_be_bytes());
        for field in row {
            match field {
                None => bytes.extend((-1_i32).to_be_bytes()),
                Some(field) => {
                    bytes.extend((field.len() as i32).to_be_bytes());
                    bytes.extend(field);
                }
            }
        }
    }
    bytes.extend((-1_i16).to_be_bytes());
    bytes
}

/// Everything that comes of these chunks.
fn read<'a>(columns: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Row>, String> {
    let said = |failed: Failed| match failed {
        Failed::Unreadable(what) => what.to_owned(),
        other => format!("{other:?}"),
    };
    let mut copy = Copy::new(columns);
    let mut rows = Vec::new();
    for chunk in chunks {
        copy.push(chunk);
        while let Some(tuple) = copy.next().map_err(said)? {
            rows.push(tuple.map(|field| field.map(<[u8]>::to_vec)).collect());
        }
    }
    copy.end().map_err(said)?;
    Ok(rows)
}

#[test]
fn cuts_make_no_difference() {
    for extension in [&b""[..], b"later"] {
        let bytes = stream(extension, &rows());
        for first in 0..=bytes.len() {
            assert_eq!(read(3, [&bytes[..first], &bytes[first..]]), Ok(rows()), "cut at {first}");
        }
        for size in 1..40 {
            assert_eq!(read(3, bytes.chunks(size)), Ok(rows()), "chunks of {size}");
        }
        for first in 0..bytes.len() {
            let middle = (first + 1..bytes.len()).step_by(7);
            for second in middle {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(read(3, chunks), Ok(rows()), "cut at {first} and {second}");
            }
        }
    }
    assert_eq!(read(3, [&stream(b"", &[])[..]]), Ok(Vec::new()));
}

#[test]
fn a_stream_that_ends_early_is_no_answer() {
    let bytes = stream(b"", &rows());
    for end in 0..bytes.len() {
        assert_eq!(read(3, [&bytes[..end]]), Err("rows that end too early".to_owned()), "ends at {end}");
    }
}

#[test]
fn what_is_no_such_stream_is_refused() {
    let bytes = stream(b"", &rows());
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        read(3, [&bytes[..]])
    };
    assert_eq!(with(0, b'p'), Err("rows in another format".to_owned()));
    assert_eq!(with(11, 1), Err("rows of another version of the format".to_owned()), "a critical flag");
    assert_eq!(with(14, 1), Ok(rows()), "a flag that may be ignored");
    assert_eq!(with(15, 0x7f), Err("rows of another version of the format".to_owned()));
    assert_eq!(with(20, 4), Err("a row with other columns".to_owned()));
    assert_eq!(with(21, 0x80), Err("a field of no length".to_owned()), "less than NULL");
    assert_eq!(with(21, 0x7f), Err("a field of more than 1 MiB".to_owned()), "before it has come");
    assert_eq!(read(2, [&bytes[..]]), Err("a row with other columns".to_owned()));
    assert_eq!(read(3, [&bytes[..], b"x"]), Err("rows after the last one".to_owned()));
    for (at, byte) in bytes.iter().enumerate() {
        for bit in 0..8 {
            // Whatever comes of it, it is no panic.
            let _ = with(at, byte ^ 1 << bit);
        }
    }
}
