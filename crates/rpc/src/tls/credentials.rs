//! What this machine presents, and the handle that exchanges it while connections run.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsError, bundle_of, provider};

/// A certificate with its authority's bundle and its key: leaf first, then the authority, so that a joiner can compare the
/// authority's fingerprint with its token's.
#[derive(Clone)]
pub struct Credentials(Arc<CertifiedKey>);

/// The credentials in use. Clones share them; [`CertReloader::swap`] counts from the next handshake on, and running
/// connections keep theirs.
#[derive(Clone, Default)]
pub struct CertReloader {
    current: Arc<ArcSwapOption<CertifiedKey>>,
}

impl Credentials {
    /// Reads PEM texts and checks that key and certificate belong together.
    ///
    /// # Errors
    /// Says which of the three is unusable.
    pub fn from_pem(certificate_pem: &str, ca_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let leaf = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unusable("certificate", error))?;
        let chain = std::iter::once(leaf).chain(bundle_of(ca_pem)?).collect();
        let key =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| unusable("key", error))?;
        let signer = provider().key_provider.load_private_key(key).map_err(|error| unusable("key", error))?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match().map_err(|error| unusable("key does not belong to the certificate", error))?;
        Ok(Self(Arc::new(certified)))
    }
}

impl CertReloader {
    /// Starts with `credentials`.
    pub fn new(credentials: Credentials) -> Self {
        Self { current: Arc::new(ArcSwapOption::new(Some(credentials.0))) }
    }

    /// Exchanges the credentials for all handshakes that start after this call.
    pub fn swap(&self, credentials: Credentials) {
        self.current.store(Some(credentials.0));
    }

    /// What the next handshake presents.
    pub(super) fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

impl ResolvesServerCert for CertReloader {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

impl ResolvesClientCert for CertReloader {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }

    fn has_certs(&self) -> bool {
        self.current.load().is_some()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(<redacted>)")
    }
}

impl fmt::Debug for CertReloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertReloader(<redacted>)")
    }
}

fn unusable(what: &str, error: impl fmt::Display) -> TlsError {
    TlsError::Credentials { reason: format!("{what}: {error}") }
}
