//! The joiner's first contact: no authority is known yet, only its fingerprint from the join token.
//!
//! A manager sends its authority's certificate behind its own. Where one of the certificates sent has the token's
//! fingerprint, it becomes the root, and the chain is verified against it as usual: signature, validity, and the name
//! that only managers have. So an impostor needs the authority's key, and a node of the same cluster is no manager.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{TlsError, provider, root_of};

/// Accepts the managers of the one cluster whose authority has the fingerprint.
#[derive(Debug)]
pub(super) struct PinnedAuthority {
    fingerprint: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedAuthority {
    pub(super) fn new(fingerprint: [u8; 32]) -> Self {
        Self { fingerprint, algorithms: provider().signature_verification_algorithms }
    }

    fn authority<'a>(&self, chain: &'a [CertificateDer<'a>]) -> Result<&'a CertificateDer<'a>, TlsError> {
        let is_pinned =
            |certificate: &&CertificateDer<'_>| digest(&SHA256, certificate).as_ref() == self.fingerprint;
        chain.iter().find(is_pinned).ok_or_else(|| TlsError::WrongFingerprint {
            expected: self.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = self.authority(intermediates).map_err(refused)?;
        let roots = root_of(authority.clone().into_owned()).map_err(refused)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refused(error: TlsError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}
