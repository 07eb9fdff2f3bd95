//! The keys that an issuer publishes: a JSON Web Key Set (RFC 7517), of which only RSA keys for signatures are taken.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Map, Value};

use crate::json;

/// Bytes of a key set's document at most: certificates may lie beside the keys.
pub const MAX_KEY_SET: usize = 128 * 1024;
/// Keys of a set at most, usable or not.
pub const MAX_KEYS: usize = 32;
/// Bits of a key at least; what is shorter is passed over.
const MIN_BITS: usize = 2048;
/// Bits of a key at most: a longer one costs time for nothing.
const MAX_BITS: usize = 8192;
/// Letters of a key's name at most.
pub(crate) const MAX_KEY_ID: usize = 256;

/// The usable keys of an issuer, by name.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: BTreeMap<String, RsaKey>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RsaKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// A document that is no key set, or holds no key that may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Beyond [`MAX_KEY_SET`].
    #[error("the issuer's key set has {0} bytes; at most {MAX_KEY_SET} are read")]
    TooLong(usize),
    /// Not an object with an array `keys`.
    #[error("the issuer's key set is not JSON with an array \"keys\", or is nested too deeply")]
    Malformed,
    /// Beyond [`MAX_KEYS`].
    #[error("the issuer's key set has {0} keys; at most {MAX_KEYS} are read")]
    TooMany(usize),
    /// Which of the two signs is unclear.
    #[error("the issuer's key set has two usable keys of the name {0:?}")]
    Twice(String),
    /// Nothing that RS256 can be verified with.
    #[error(
        "the issuer's key set has no key to verify with: one is needed of kty RSA, use sig, alg RS256 or none, a kid, \
         and {MIN_BITS} bits or more"
    )]
    NoneUsable,
}

impl KeySet {
    /// Reads a key set. Keys of other kinds, for other uses and of fewer bits are passed over.
    ///
    /// # Errors
    /// It cannot be read or has nothing to verify with: fetch it again later.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > MAX_KEY_SET {
            return Err(KeySetError::TooLong(document.len()));
        }
        let document = json::object(document).ok_or(KeySetError::Malformed)?;
        let listed = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::Malformed)?;
        if listed.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(listed.len()));
        }
        let mut keys = BTreeMap::new();
        for (name, key) in listed.iter().filter_map(Value::as_object).filter_map(usable) {
            if keys.insert(name.clone(), key).is_some() {
                return Err(KeySetError::Twice(name));
            }
        }
        if keys.is_empty() { Err(KeySetError::NoneUsable) } else { Ok(Self { keys }) }
    }

    /// The names of its keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    pub(crate) fn key(&self, name: &str) -> Option<&RsaKey> {
        self.keys.get(name)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl RsaKey {
    /// Whether a signature of RS256 is this key's.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
    }
}

fn usable(key: &Map<String, Value>) -> Option<(String, RsaKey)> {
    let text = |name| key.get(name).and_then(Value::as_str);
    let for_us = text("kty") == Some("RSA") && text("use") == Some("sig");
    let signs = match key.get("alg") {
        None => true,
        Some(algorithm) => algorithm == "RS256",
    };
    let name = text("kid").filter(|name| !name.is_empty() && name.len() <= MAX_KEY_ID)?;
    if !for_us || !signs {
        return None;
    }
    let (modulus, exponent) = (number(text("n")?)?, number(text("e")?)?);
    // Small exponents have a history of forged signatures.
    let sound = (MIN_BITS..=MAX_BITS).contains(&bits(&modulus)) && (17..=33).contains(&bits(&exponent));
    sound.then(|| (name.to_owned(), RsaKey { modulus, exponent }))
}

/// A big-endian number without leading zeros.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
