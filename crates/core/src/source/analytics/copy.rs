//! The binary COPY format, as a stream: a head, tuples of as many fields as there are columns, a trailer.
//!
//! Not the values, which are `binary`'s.
//!
//! Invariant: the same bytes give the same tuples, wherever they are cut; a tuple is handed out when all of it is there; a
//! stream without its trailer is no answer.

use crate::base::limits;

use super::failed::Failed;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of what follows them.
const HEAD: usize = SIGNATURE.len() + 8;
/// Flags in these bits change what follows.
const CRITICAL: u32 = 0xffff_0000;

/// Reads such a stream.
pub(super) struct Copy {
    columns: usize,
    at: Place,
    /// Bytes that came, of which those before `taken` are done with.
    bytes: Vec<u8>,
    taken: usize,
}

#[derive(PartialEq)]
enum Place {
    Head,
    Tuples,
    End,
}

/// One row, complete.
pub(super) struct Tuple<'a>(&'a [u8]);

impl<'a> Iterator for Tuple<'a> {
    type Item = Option<&'a [u8]>;

    /// The next field; `None` in it is NULL.
    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        // Lengths were looked at before: only that of NULL is negative.
        let (field, rest) = match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => rest.split_at_checked(length).map(|(field, rest)| (Some(field), rest))?,
            Err(_) => (None, rest),
        };
        self.0 = rest;
        Some(field)
    }
}

impl Copy {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, at: Place::Head, bytes: Vec::new(), taken: 0 }
    }

    /// Takes what came next.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..self.taken);
        }
        self.taken = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// The next tuple, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Tuple<'_>>, Failed> {
        if self.at == Place::Head && !self.head()? {
            return Ok(None);
        }
        let rest = &self.bytes[self.taken..];
        if self.at == Place::End {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(Failed::Unreadable("rows after the last one"))
            };
        }
        let Some((count, fields)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.taken += 2;
            self.at = Place::End;
            return self.next();
        }
        if usize::try_from(count) != Ok(self.columns) {
            return Err(Failed::Unreadable("a row with other columns"));
        }
        let Some(length) = length(fields, self.columns)? else { return Ok(None) };
        let from = self.taken + 2;
        self.taken = from + length;
        Ok(Some(Tuple(&self.bytes[from..self.taken])))
    }

    /// Whether everything came.
    pub(super) fn end(&self) -> Result<(), Failed> {
        let all = self.at == Place::End && self.taken == self.bytes.len();
        if all { Ok(()) } else { Err(Failed::Unreadable("rows that end too early")) }
    }

    /// Whether the head is read.
    fn head(&mut self) -> Result<bool, Failed> {
        let rest = &self.bytes[self.taken..];
        let known = rest.len().min(SIGNATURE.len());
        if rest[..known] != SIGNATURE[..known] {
            return Err(Failed::Unreadable("rows in another format"));
        }
        let Some((head, rest)) = rest.split_at_checked(HEAD) else { return Ok(false) };
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (flags, extension) = (word(SIGNATURE.len()), word(SIGNATURE.len() + 4) as usize);
        if flags & CRITICAL != 0 || extension > limits::ANALYTICS_VALUE_BYTES {
            return Err(Failed::Unreadable("rows of another version of the format"));
        }
        if rest.len() < extension {
            return Ok(false);
        }
        self.taken += HEAD + extension;
        self.at = Place::Tuples;
        Ok(true)
    }
}

/// How long the fields of a tuple are, if all of them are there. One that is too long to be kept is refused before it has come.
fn length(fields: &[u8], columns: usize) -> Result<Option<usize>, Failed> {
    let mut at = 0;
    for _ in 0..columns {
        let Some(length) = fields.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
        at += 4;
        match i32::from_be_bytes(*length) {
            -1 => {}
            length => {
                let length =
                    usize::try_from(length).map_err(|_| Failed::Unreadable("a field of no length"))?;
                if length > limits::ANALYTICS_FIELD_BYTES {
                    return Err(Failed::Unreadable("a field of more than 1 MiB"));
                }
                at += length;
            }
        }
    }
    Ok((fields.len() >= at).then_some(at))
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
