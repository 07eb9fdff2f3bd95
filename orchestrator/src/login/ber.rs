//! ASN.1 in the basic encoding rules, as far as LDAP uses them (RFC 4511, 5.1): definite lengths, tags of one byte.
//!
//! What is written may hold a password, so it is wiped when it is dropped. What is read may be anything.

use zeroize::Zeroizing;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// What is sent.
pub(super) type Written = Zeroizing<Vec<u8>>;

/// Bytes that are no message of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not speak LDAP")]
pub(super) struct Malformed;

/// One element with these bytes in it.
pub(super) fn element(tag: u8, contents: &[&[u8]]) -> Written {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    // With room for all of it: what grows leaves copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(length + 6));
    out.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = u32::try_from(length).expect("requests are bounded").to_be_bytes();
            let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
            out.push(0x80 | u8::try_from(4 - skipped).expect("at most four"));
            out.extend_from_slice(&bytes[skipped..]);
        }
    }
    contents.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A number that is not negative.
pub(super) fn number(tag: u8, value: u32) -> Written {
    let bytes = value.to_be_bytes();
    let mut skipped = bytes.iter().take_while(|byte| **byte == 0).count().min(3);
    // The highest bit would make it negative.
    let sign: &[u8] = if bytes[skipped] & 0x80 != 0 && skipped == 0 { &[0] } else { &[] };
    if bytes[skipped] & 0x80 != 0 {
        skipped = skipped.saturating_sub(1);
    }
    element(tag, &[sign, &bytes[skipped..]])
}

/// How long the contents are whose header begins so; `None`: more of it is needed. The second number is the header's own length.
///
/// # Errors
/// There is no such length.
pub(super) fn length_of(header: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(first) = header.get(1) else { return Ok(None) };
    if *first < 0x80 {
        return Ok(Some((usize::from(*first), 2)));
    }
    let count = usize::from(first & 0x7f);
    if !(1..=4).contains(&count) {
        return Err(Malformed);
    }
    let Some(bytes) = header.get(2..2 + count) else { return Ok(None) };
    let length = bytes.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
    Ok(Some((length, 2 + count)))
}

/// Elements one after another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is: its tag and its contents.
    pub(super) fn next(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let tag = *self.0.first().ok_or(Malformed)?;
        let (length, header) = length_of(self.0)?.ok_or(Malformed)?;
        let end = header.checked_add(length).ok_or(Malformed)?;
        let contents = self.0.get(header..end).ok_or(Malformed)?;
        self.0 = &self.0[end..];
        Ok((tag, contents))
    }

    /// The contents of the next element, which has this tag.
    pub(super) fn expect(&mut self, wanted: u8) -> Result<&'a [u8], Malformed> {
        match self.next()? {
            (tag, contents) if tag == wanted => Ok(contents),
            _ => Err(Malformed),
        }
    }

    /// The elements in the next one.
    pub(super) fn inside(&mut self, wanted: u8) -> Result<Reader<'a>, Malformed> {
        self.expect(wanted).map(Reader)
    }

    /// A number of at most four bytes that is not negative.
    pub(super) fn number(&mut self, wanted: u8) -> Result<u32, Malformed> {
        let bytes = self.expect(wanted)?;
        if !(1..=4).contains(&bytes.len()) || bytes[0] & 0x80 != 0 {
            return Err(Malformed);
        }
        Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.expect(OCTETS)?).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lengths_read_back_at_every_size() {
        for value in [0, 1, 127, 128, 255, 256, 32_767, 32_768, 8_388_607, 8_388_608, 0x7fff_ffff] {
            let written = number(INTEGER, value);
            assert_eq!(Reader::new(&written).number(INTEGER), Ok(value), "{value}");
        }
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let contents = vec![7; length];
            let written = element(OCTETS, &[&contents]);
            assert_eq!(Reader::new(&written).expect(OCTETS), Ok(&contents[..]), "{length}");
            assert_eq!(length_of(&written).map(|found| found.map(|(length, _)| length)), Ok(Some(length)));
        }
        assert_eq!(*number(INTEGER, 128), [2, 2, 0, 128]);
        assert_eq!(*element(OCTETS, &[b"ab", b"c"]), *b"\x04\x03abc");
    }

    #[test]
    fn what_is_cut_off_or_has_no_such_length_is_malformed() {
        for bytes in [
            &[][..],
            &[4],
            &[4, 2, 1],
            &[4, 0x80],
            &[4, 0x85, 0, 0, 0, 0, 0],
            &[4, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(Reader::new(bytes).next(), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(Reader::new(&[2, 1, 0xff]).number(INTEGER), Err(Malformed));
        assert_eq!(Reader::new(&[2, 0]).number(INTEGER), Err(Malformed));
    }
}
