//! A token as it came, and the one way to what it claims.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{Claims, Expected, KeySet, Refusal, json, keys::MAX_KEY_ID};

/// Bytes of a token at most: those of known issuers have less than 4 KiB, unless a user is in very many groups.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Letters of a header at most: an algorithm, a type and a key's name.
const MAX_HEADER: usize = 1024;
/// Letters of a signature at most: that of a key of 8192 bits.
const MAX_SIGNATURE: usize = 1366;
/// Letters of what is shown of a text that nobody has verified.
const SHOWN: usize = 128;

/// A token that is well formed and says that it is signed as we want it. What it claims may still be anybody's invention:
/// only [`verify`](Self::verify) hands it out.
pub struct IdToken {
    key: String,
    signed: Vec<u8>,
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

impl IdToken {
    /// Reads a token in its compact form. White space around it is dropped: it comes with files and variables.
    ///
    /// # Errors
    /// It is too long, no token, or signed otherwise than by RS256 with a named key.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        if text.len() > MAX_TOKEN {
            return Err(Refusal::TooLong(text.len()));
        }
        let parts: Vec<&str> = text.split('.').take(4).collect();
        let [header, claims, signature] = parts[..] else { return Err(Refusal::Malformed("three parts")) };
        if header.len() > MAX_HEADER {
            return Err(Refusal::Malformed("a header of at most 1024 letters"));
        }
        let key = key_of(&read(header, "a header that is a JSON object")?)?;
        if signature.len() > MAX_SIGNATURE {
            return Err(Refusal::Malformed("a signature of at most 8192 bits"));
        }
        let claims_read = read(claims, "claims that are a JSON object, not nested deeply, each once")?;
        let signature =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::Malformed("a signature in base64url"))?;
        let signed = text.as_bytes()[..header.len() + 1 + claims.len()].to_vec();
        Ok(Self { key, signed, signature, claims: claims_read })
    }

    /// The issuer that it names, to choose whose keys to verify it with.
    pub fn unverified_issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// The name of the key that it says it is signed with.
    pub fn key_id(&self) -> &str {
        &self.key
    }

    /// Verifies it at a time, in seconds since 1970, and hands out what it claims.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`]: a newer key set may have it. Any other: it is not to be accepted.
    pub fn verify(self, keys: &KeySet, expected: &Expected<'_>, now: u64) -> Result<Claims, Refusal> {
        let key = keys.key(&self.key).ok_or_else(|| Refusal::UnknownKey(shown(&self.key)))?;
        if !key.signed(&self.signed, &self.signature) {
            return Err(Refusal::Signature);
        }
        Claims::of(self.claims, expected, now)
    }
}

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdToken(<redacted>)")
    }
}

fn read(part: &str, wanted: &'static str) -> Result<Map<String, Value>, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok();
    bytes.and_then(|bytes| json::object(&bytes)).ok_or(Refusal::Malformed(wanted))
}

/// The key that a header names, once it is the header of a token that we read.
fn key_of(header: &Map<String, Value>) -> Result<String, Refusal> {
    match header.get("alg").and_then(Value::as_str) {
        Some("RS256") => {}
        other => return Err(Refusal::Algorithm(shown(other.unwrap_or("")))),
    }
    // Other kinds of tokens of the same issuer are signed by the same keys.
    let kind = header.get("typ").map(|kind| kind.as_str().unwrap_or(""));
    if let Some(kind) = kind.filter(|kind| !kind.eq_ignore_ascii_case("JWT")) {
        return Err(Refusal::Kind(shown(kind)));
    }
    if header.contains_key("crit") {
        return Err(Refusal::Critical);
    }
    let key = header.get("kid").and_then(Value::as_str);
    key.filter(|key| !key.is_empty() && key.len() <= MAX_KEY_ID).map(str::to_owned).ok_or(Refusal::NoKey)
}

/// Text of a stranger, short enough to be shown.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
