//! A holder whose certificate counts no more says who it is, and proves a key.

use rcgen::PublicKeyData;

use crate::ca::proven_key;
use crate::certificate::{der_from_pem, parse};
use crate::{CaCertificate, CertificateError, Fingerprint, IssueError, LeafCertificate};

/// The proof does not hold. The text says what of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The request.
    #[error(transparent)]
    Request(#[from] IssueError),
}

/// Who comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its certificate.
    pub leaf: LeafCertificate,
    /// The key that it has: [`key_print`](crate::key_print) of its request.
    pub key: Fingerprint,
    /// The certificate is over that key.
    pub own: bool,
}

impl CaCertificate {
    /// Decides whether this authority issued the certificate (PEM), at whatever time it counted, and which key the request (PEM) proves.
    /// Whether that key is its holder's, and whether that one is still welcome, says the cluster's state.
    ///
    /// # Errors
    /// Another issuer, no identity of this cluster, or a request that does not prove its key.
    pub fn holder(&self, certificate: &str, csr: &str) -> Result<Holder, ProofError> {
        let der = der_from_pem(certificate)?;
        let ended = LeafCertificate::from_der(&der)?.validity.not_after;
        let leaf = self.verify(&der, ended)?;
        let key = proven_key(csr.as_bytes())?;
        let own = *parse(&der)?.public_key().subject_public_key.data == *key.der_bytes();
        Ok(Holder { leaf, key: Fingerprint::of_der(key.der_bytes()), own })
    }
}
