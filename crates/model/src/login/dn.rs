//! Names of a directory's entries (RFC 4514), as far as it takes to say whether two are the same.
//!
//! Types and values are compared without regard to case and to repeated spaces, as directories compare the attributes that groups
//! are named by (`cn`, `ou`, `dc`). A name that cannot be read is the same as no other.

use std::fmt;

/// One entry's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dn(Vec<Vec<(String, String)>>);

impl Dn {
    /// Reads a name; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        for part in split(text, &[',', ';'])? {
            let mut pairs = Vec::new();
            for pair in split(part, &['+'])? {
                let (kind, value) = pair.split_once('=')?;
                let kind = kind.trim().to_ascii_lowercase();
                let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
                if kind.is_empty() || !kind.bytes().all(good) {
                    return None;
                }
                pairs.push((kind, value_of(value)?));
            }
            pairs.sort();
            parts.push(pairs);
        }
        Some(Self(parts))
    }
}

/// The one form in which a name is kept; for people and for comparing.
impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.0.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            for (at, (kind, value)) in part.iter().enumerate() {
                write!(f, "{}{kind}=", if at == 0 { "" } else { "+" })?;
                for letter in value.chars() {
                    match letter {
                        ',' | '+' | ';' | '\\' | '"' | '<' | '>' | '=' | '#' => write!(f, "\\{letter}")?,
                        _ => write!(f, "{letter}")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// The parts between separators that are not escaped.
fn split<'a>(text: &'a str, separators: &[char]) -> Option<Vec<&'a str>> {
    let (mut parts, mut begin, mut escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if letter == '\\' {
            escaped = true;
        } else if separators.contains(&letter) {
            parts.push(&text[begin..at]);
            begin = at + 1;
        }
    }
    parts.push(&text[begin..]);
    (!escaped).then_some(parts)
}

fn value_of(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    // Spaces at the ends count only where they are escaped.
    let trimmed = text.trim_start();
    let end = trimmed.trim_end();
    let kept = if end.ends_with('\\') && end.len() < trimmed.len() { &trimmed[..=end.len()] } else { end };
    // A value in its raw form is not compared.
    if kept.starts_with('#') || kept.is_empty() {
        return None;
    }
    let mut letters = kept.chars();
    while let Some(letter) = letters.next() {
        let mut buffer = [0; 4];
        if letter != '\\' {
            bytes.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        let first = letters.next()?;
        match first.to_digit(16) {
            Some(high) => {
                let low = letters.next()?.to_digit(16)?;
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            None => bytes.extend_from_slice(first.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    let value = String::from_utf8(bytes).ok()?;
    let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
    Some(words.join(" ").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_however_they_are_written() {
        let one = Dn::parse("cn=Orch  Admins,ou=Groups,dc=example");
        assert!(one.is_some());
        for text in ["CN=orch admins, OU=groups , DC=Example", "cn=orch\\20admins,ou=groups;dc=example"] {
            assert_eq!(Dn::parse(text), one, "{text}");
        }
        assert_eq!(Dn::parse("cn=a+uid=b,dc=x"), Dn::parse("UID=b+CN=a,dc=x"));
        assert_eq!(Dn::parse("cn=M\\C3\\BCller"), Dn::parse("cn=müller"));
    }

    #[test]
    fn what_is_escaped_is_no_border() {
        assert_eq!(Dn::parse("cn=a\\,ou=b"), Dn::parse("cn=a\\2Cou\\3Db"));
        assert_ne!(Dn::parse("cn=a\\,ou=b"), Dn::parse("cn=a,ou=b"));
        assert_ne!(Dn::parse("cn=a\\+cn=b"), Dn::parse("cn=a+cn=b"));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for text in ["", "admins", "cn=", "=a", "cn=a,", "cn=a\\", "cn=a\\4", "cn=#0401", "c n=a"] {
            assert_eq!(Dn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_reads_back_from_the_form_in_which_it_is_kept() {
        for text in ["cn=A\\,b \\+ c,dc=x", "cn=a+uid=b,dc=x", "cn=\\#1\\=2"] {
            let name = Dn::parse(text).expect(text);
            assert_eq!(Dn::parse(&name.to_string()), Some(name), "{text}");
        }
    }
}
