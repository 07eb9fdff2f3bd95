//! Filters of searches, from their text (RFC 4515) to what is sent (RFC 4511); and names that are put into filters and into names of
//! entries so that they mean themselves and nothing else.

use super::ber::{OCTETS, SEQUENCE, Written, element};

/// Filters in filters.
const MAX_DEPTH: usize = 16;

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no filter")]
pub(super) struct NoFilter(String);

/// Encodes a filter.
pub(super) fn encode(text: &str) -> Result<Written, NoFilter> {
    let wrong = || NoFilter(text.to_owned());
    let (filter, rest) = one(text, MAX_DEPTH).ok_or_else(wrong)?;
    if rest.is_empty() { Ok(filter) } else { Err(wrong()) }
}

/// One filter in parentheses, and what comes behind it.
fn one(text: &str, depth: usize) -> Option<(Written, &str)> {
    let inner = text.strip_prefix('(')?;
    let depth = depth.checked_sub(1)?;
    let list = |tag, mut rest| {
        let mut parts: Vec<Written> = Vec::new();
        while !str::starts_with(rest, ')') {
            let (part, more) = one(rest, depth)?;
            parts.push(part);
            rest = more;
        }
        let slices: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
        Some((element(tag, &slices), &rest[1..]))
    };
    match inner.as_bytes().first()? {
        b'&' => list(0xa0, &inner[1..]),
        b'|' => list(0xa1, &inner[1..]),
        b'!' => {
            let (part, rest) = one(&inner[1..], depth)?;
            Some((element(0xa2, &[&part]), rest.strip_prefix(')')?))
        }
        _ => {
            let (item, rest) = inner.split_once(')')?;
            Some((comparison(item)?, rest))
        }
    }
}

fn comparison(item: &str) -> Option<Written> {
    if item.contains('(') {
        return None;
    }
    let (left, value) = item.split_once('=')?;
    if let Some(left) = left.strip_suffix(':') {
        return extensible(left, value);
    }
    let (tag, kind) = match left.as_bytes().last()? {
        b'>' => (0xa5, &left[..left.len() - 1]),
        b'<' => (0xa6, &left[..left.len() - 1]),
        b'~' => (0xa8, &left[..left.len() - 1]),
        _ => (0xa3, left),
    };
    let kind = attribute(kind)?;
    if tag == 0xa3 && value == "*" {
        return Some(element(0x87, &[kind]));
    }
    if tag == 0xa3 && value.contains('*') {
        return substrings(kind, value);
    }
    let value = unescape(value)?;
    Some(element(tag, &[&element(OCTETS, &[kind]), &element(OCTETS, &[&value])]))
}

fn substrings(kind: &[u8], value: &str) -> Option<Written> {
    let pieces: Vec<&str> = value.split('*').collect();
    let last = pieces.len() - 1;
    let mut parts = Vec::new();
    for (place, piece) in pieces.into_iter().enumerate() {
        let tag = match place {
            0 => 0x80,
            place if place == last => 0x82,
            _ => 0x81,
        };
        match piece {
            "" if place == 0 || place == last => {}
            "" => return None,
            piece => parts.push(element(tag, &[&unescape(piece)?])),
        }
    }
    let slices: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
    Some(element(0xa4, &[&element(OCTETS, &[kind]), &element(SEQUENCE, &slices)]))
}

/// `kind[:dn][:rule]:=value`, such as Active Directory's search of groups in groups.
fn extensible(left: &str, value: &str) -> Option<Written> {
    let mut parts = left.split(':');
    let kind = parts.next()?;
    let (mut of_entry, mut rule) = (false, None);
    for part in parts {
        match part {
            "dn" if !of_entry && rule.is_none() => of_entry = true,
            part if rule.is_none() => rule = Some(attribute(part)?),
            _ => return None,
        }
    }
    let mut fields = Vec::new();
    fields.extend(rule.map(|rule| element(0x81, &[rule])));
    if !kind.is_empty() {
        fields.push(element(0x82, &[attribute(kind)?]));
    }
    if fields.is_empty() {
        return None;
    }
    fields.push(element(0x83, &[&unescape(value)?]));
    if of_entry {
        fields.push(element(0x84, &[&[0xff]]));
    }
    let slices: Vec<&[u8]> = fields.iter().map(|part| part.as_slice()).collect();
    Some(element(0xa9, &slices))
}

fn attribute(text: &str) -> Option<&[u8]> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b';' | b'_');
    (!text.is_empty() && text.bytes().all(fits)).then_some(text.as_bytes())
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'*' | b'(' | b')' | 0 => return None,
            other => other,
        });
    }
    Some(out)
}

/// A text that means itself as a value in a filter (RFC 4515, 3).
pub(super) fn in_filter(text: &str) -> String {
    escaped(text, |_, byte| matches!(byte, b'*' | b'(' | b')' | b'\\' | 0))
}

/// A text that means itself as a value in an entry's name (RFC 4514, 2.4).
pub(super) fn in_name(text: &str) -> String {
    escaped(text, |place, byte| match byte {
        b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'=' | b'\\' | 0 => true,
        b'#' => place == 0,
        b' ' => place == 0 || place + 1 == text.len(),
        _ => false,
    })
}

fn escaped(text: &str, special: impl Fn(usize, u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (place, letter) in text.char_indices() {
        match u8::try_from(letter) {
            Ok(byte) if letter.is_ascii() && special(place, byte) => out.push_str(&format!("\\{byte:02x}")),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        encode(text).expect(text).to_vec()
    }

    #[test]
    fn filters_are_sent_as_the_standard_writes_them() {
        assert_eq!(bytes("(uid=ann)"), b"\xa3\x0a\x04\x03uid\x04\x03ann");
        assert_eq!(bytes("(uid=*)"), b"\x87\x03uid");
        assert_eq!(bytes("(!(uid=a))"), b"\xa2\x0a\xa3\x08\x04\x03uid\x04\x01a");
        assert_eq!(bytes("(&(a=1)(b=2))"), b"\xa0\x10\xa3\x06\x04\x01a\x04\x011\xa3\x06\x04\x01b\x04\x012");
        assert_eq!(bytes("(|(a=1))"), b"\xa1\x08\xa3\x06\x04\x01a\x04\x011");
        assert_eq!(bytes("(a=x*y*z)"), b"\xa4\x0e\x04\x01a\x30\x09\x80\x01x\x81\x01y\x82\x01z");
        assert_eq!(bytes("(a=*y*)"), b"\xa4\x08\x04\x01a\x30\x03\x81\x01y");
        assert_eq!(bytes("(a>=1)"), b"\xa5\x06\x04\x01a\x04\x011");
        assert_eq!(bytes("(a=\\2a\\28)"), b"\xa3\x07\x04\x01a\x04\x02*(");
        assert_eq!(bytes("(member:1.2.3:=x)"), b"\xa9\x12\x81\x051.2.3\x82\x06member\x83\x01x");
    }

    #[test]
    fn what_is_no_filter_is_refused_and_never_guessed() {
        let deep = format!("{}(a=1){}", "(!".repeat(40), ")".repeat(40));
        for text in [
            "",
            "uid=a",
            "(uid=a",
            "(uid)",
            "(=a)",
            "()",
            "(&(a=1)",
            "(a=1)(b=2)",
            "(a=\\4)",
            "(a=**)",
            "(a b=1)",
            &deep,
        ] {
            assert!(encode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_in_a_filter_or_in_an_entrys_name_means_itself() {
        for name in ["*", "a)(uid=*", "a\\", "a\0b", "(|(uid=*", "é"] {
            let sent = bytes(&format!("(uid={})", in_filter(name)));
            let wanted = element(0xa3, &[b"\x04\x03uid", &element(OCTETS, &[name.as_bytes()])]);
            assert_eq!(sent, wanted.to_vec(), "{name}");
        }
        assert_eq!(in_name("a,ou=admins+x=\"\\"), "a\\2cou\\3dadmins\\2bx\\3d\\22\\5c");
        assert_eq!(in_name("#a b "), "\\23a b\\20");
    }
}
