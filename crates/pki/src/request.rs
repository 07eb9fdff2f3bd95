//! What a joiner makes before it has an identity: a key, and the request for a certificate over it.

use rcgen::{CertificateParams, DistinguishedName};

use crate::{KeyError, PrivateKey};

/// A private key with its certificate request.
///
/// The request carries no name: the authority would ignore it, because who the holder is follows from the join token
/// or from the certificate that is being renewed, never from what it asks for.
#[derive(Debug, Clone)]
pub struct KeyAndCsr {
    /// The key, which stays on this machine.
    pub key: PrivateKey,
    /// The request in PEM form, which goes to a manager.
    pub csr_pem: String,
}

impl KeyAndCsr {
    /// Makes a new key and its request.
    ///
    /// # Errors
    /// The machine has no entropy: stop.
    pub fn generate() -> Result<Self, KeyError> {
        Self::for_key(PrivateKey::generate()?)
    }

    /// Makes a request for a key that exists, for example to re-enrol by proof of the old key.
    ///
    /// # Errors
    /// The crypto library cannot sign: stop.
    pub fn for_key(key: PrivateKey) -> Result<Self, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key.0).and_then(|csr| csr.pem());
        let csr_pem = csr.map_err(|error| KeyError::Request(error.to_string()))?;
        Ok(Self { key, csr_pem })
    }

    /// The key as PKCS#8 PEM.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }
}
