//! A private key, ECDSA on P-256: small, fast to sign, and understood by every TLS stack that a proxy in front may use.

use std::fmt;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};

use crate::KeyError;

/// A private key that never shows itself in logs.
pub struct PrivateKey(pub(crate) KeyPair);

impl PrivateKey {
    /// Draws a new key from the operating system's entropy. The only place of this crate that makes secrets.
    ///
    /// # Errors
    /// The machine has no entropy: stop.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        pair.map(Self).map_err(|error| KeyError::Generate(error.to_string()))
    }

    /// Reads a PKCS#8 PEM key.
    ///
    /// # Errors
    /// The text is no such key, or one of another algorithm.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256);
        pair.map(Self).map_err(|error| KeyError::Parse(error.to_string()))
    }

    /// The key as PKCS#8 PEM. Write it to a file that only its owner can read.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public half, as the uncompressed curve point.
    pub fn public_key(&self) -> &[u8] {
        self.0.der_bytes()
    }
}

impl Clone for PrivateKey {
    fn clone(&self) -> Self {
        let der = self.0.serialized_der();
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der.into(), &PKCS_ECDSA_P256_SHA256);
        Self(pair.expect("a key that was parsed once parses again"))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(<redacted>)")
    }
}
