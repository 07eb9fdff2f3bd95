//! A holder whose certificate has run out proves that it is still the holder.

use rcgen::PublicKeyData;

use crate::ca::proven_key;
use crate::certificate::{der_from_pem, parse};
use crate::{CaCertificate, CertificateError, IssueError, LeafCertificate};

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

impl CaCertificate {
    /// Decides whether this authority issued the certificate (PEM), at whatever time it counted, and whether the request (PEM) is signed with
    /// that certificate's key; and for whom it was issued. Whether that one is still welcome says the cluster's state.
    ///
    /// # Errors
    /// Another issuer, no identity of this cluster, another key, or a request that does not prove its key.
    pub fn holder(&self, certificate: &str, csr: &str) -> Result<LeafCertificate, ProofError> {
        let der = der_from_pem(certificate)?;
        let ended = LeafCertificate::from_der(&der)?.validity.not_after;
        let leaf = self.verify(&der, ended)?;
        let key = proven_key(csr.as_bytes())?;
        if *parse(&der)?.public_key().subject_public_key.data != *key.der_bytes() {
            return Err(CertificateError::KeyMismatch.into());
        }
        Ok(leaf)
    }
}
