//! How bytes are written and read: integers of variable length, and the envelope around a frame or a manifest.
//! Layout: `docs/analytics-format.md`.
//!
//! Invariant: reading never panics, and never allocates more than a fixed multiple of what it was given.

use super::refused::Refused;

/// Magic, codec, checksum, length.
const HEADER: usize = 4 + 1 + 4 + 4;
const LZ4: u8 = 1;
/// One byte of an lz4 block describes at most so many.
const LZ4_GAIN: usize = 255;

/// What a sealed block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sealed {
    Frame,
    Manifest,
}

impl Sealed {
    fn magic(self) -> &'static [u8; 4] {
        match self {
            Sealed::Frame => b"bcf1",
            Sealed::Manifest => b"bcm1",
        }
    }
}

/// Compresses `raw` behind a header with a checksum.
pub(super) fn seal(what: Sealed, raw: &[u8]) -> Vec<u8> {
    let body = lz4_flex::block::compress(raw);
    let length = u32::try_from(raw.len()).expect("callers cut what they seal far below 4 GiB").to_le_bytes();
    let mut sealed = Vec::with_capacity(HEADER + body.len());
    sealed.extend_from_slice(what.magic());
    sealed.push(LZ4);
    sealed.extend_from_slice(&checksum(LZ4, length, &body).to_le_bytes());
    sealed.extend_from_slice(&length);
    sealed.extend_from_slice(&body);
    sealed
}

/// What was sealed, if it is what it says and no larger than `most`.
pub(super) fn open(what: Sealed, sealed: &[u8], most: usize) -> Result<Vec<u8>, Refused> {
    let (header, body) = sealed.split_at_checked(HEADER).ok_or(Refused::Corrupt("too short"))?;
    if !header.starts_with(what.magic()) {
        return Err(Refused::Corrupt("not of this format"));
    }
    if header[4] != LZ4 {
        return Err(Refused::Corrupt("a codec of another release"));
    }
    let [.., a, b, c, d] = *header else { return Err(Refused::Corrupt("too short")) };
    let length = [a, b, c, d];
    if header[5..9] != checksum(LZ4, length, body).to_le_bytes() {
        return Err(Refused::Corrupt("its checksum does not fit"));
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > most || length > body.len().saturating_mul(LZ4_GAIN) {
        return Err(Refused::Corrupt("a length that cannot be"));
    }
    let mut raw = vec![0; length];
    match lz4_flex::block::decompress_into(body, &mut raw) {
        Ok(written) if written == length => Ok(raw),
        _ => Err(Refused::Corrupt("its lz4 block is broken")),
    }
}

fn checksum(codec: u8, length: [u8; 4], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[codec]);
    crc.update(&length);
    crc.update(body);
    crc.finalize()
}

/// Seven bits a byte, the lowest first.
pub(super) fn put_number(out: &mut Vec<u8>, mut value: u128) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small numbers of either sign become small numbers.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i128) {
    put_number(out, (value << 1 ^ value >> 127) as u128);
}

/// A length and so many bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u128);
    out.extend_from_slice(bytes);
}

/// What is left to read.
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// Bytes that are left: no list that is still to be read can have more entries.
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        let (taken, left) =
            self.left.split_at_checked(length).ok_or(Refused::Corrupt("it ends too early"))?;
        self.left = left;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Refused> {
        self.take(1).map(|taken| taken[0])
    }

    pub(super) fn number(&mut self) -> Result<u128, Refused> {
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Refused::Corrupt("a number that is too long"))
    }

    pub(super) fn signed(&mut self) -> Result<i128, Refused> {
        let value = self.number()?;
        Ok((value >> 1) as i128 ^ -((value & 1) as i128))
    }

    /// A number that fits.
    pub(super) fn fitting<T: TryFrom<u128>>(&mut self) -> Result<T, Refused> {
        T::try_from(self.number()?).map_err(|_| Refused::Corrupt("a number that does not fit"))
    }

    /// The length of a list whose entries take at least one byte each.
    pub(super) fn count(&mut self) -> Result<usize, Refused> {
        let count: usize = self.fitting()?;
        if count > self.left() {
            return Err(Refused::Corrupt("a list that is longer than its bytes"));
        }
        Ok(count)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Refused> {
        let length = self.count()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Refused> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Refused::Corrupt("a text that is none"))
    }

    pub(super) fn end(&self) -> Result<(), Refused> {
        if self.left.is_empty() { Ok(()) } else { Err(Refused::Corrupt("it does not end where it should")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn any_changed_byte_is_noticed() {
        let raw = "the same, the same, the same again".repeat(20).into_bytes();
        let sealed = seal(Sealed::Frame, &raw);
        assert_eq!(open(Sealed::Frame, &sealed, raw.len()), Ok(raw.clone()));
        assert_eq!(
            open(Sealed::Frame, &sealed, raw.len() - 1),
            Err(Refused::Corrupt("a length that cannot be"))
        );
        assert_eq!(open(Sealed::Manifest, &sealed, raw.len()), Err(Refused::Corrupt("not of this format")));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(open(Sealed::Frame, &damaged, raw.len()).is_err(), "byte {at}");
            assert!(open(Sealed::Frame, &sealed[..at], raw.len()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let body = [0xff; 40];
        let length = (3_u32 << 30).to_le_bytes();
        let crc = checksum(LZ4, length, &body).to_le_bytes();
        let sealed = [&b"bcf1"[..], &[LZ4], &crc, &length, &body].concat();
        assert_eq!(
            open(Sealed::Frame, &sealed, usize::MAX),
            Err(Refused::Corrupt("a length that cannot be"))
        );
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(a: u128, b: i128, c: u8, text in ".{0,20}") {
            let mut out = Vec::new();
            put_number(&mut out, a);
            put_signed(&mut out, b);
            put_signed(&mut out, -i128::from(c));
            put_bytes(&mut out, text.as_bytes());
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.number(), Ok(a));
            prop_assert_eq!(reader.signed(), Ok(b));
            prop_assert_eq!(reader.signed(), Ok(-i128::from(c)));
            prop_assert_eq!(reader.text(), Ok(&text[..]));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut reader = Reader::new(&bytes);
            while reader.number().is_ok() && reader.bytes().is_ok() {}
            let _ = open(Sealed::Frame, &bytes, 1 << 20);
        }
    }
}
