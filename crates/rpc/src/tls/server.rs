//! The accepting side's settings.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use super::{ALPN, CertReloader, TlsError, provider, roots_of};

/// How a manager answers: with the reloader's certificate, verifying client certificates against the cluster's
/// authority where one is presented. Cheap to clone; clones trust alike.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ArcSwap<ServerConfig>>,
    pub(super) credentials: CertReloader,
}

impl ServerTls {
    /// Puts the settings together.
    ///
    /// # Errors
    /// The authority's certificate is unusable.
    pub fn new(ca_pem: &str, credentials: CertReloader) -> Result<Self, TlsError> {
        let config = config_of(ca_pem, &credentials)?;
        Ok(Self { config: Arc::new(ArcSwap::from_pointee(config)), credentials })
    }

    /// Trusts this bundle from the next handshake on, and nobody else; open connections are not touched.
    ///
    /// # Errors
    /// The bundle is unusable; the old one stays.
    pub fn trust(&self, ca_pem: &str) -> Result<(), TlsError> {
        self.config.store(Arc::new(config_of(ca_pem, &self.credentials)?));
        Ok(())
    }

    /// For the next handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn config_of(ca_pem: &str, credentials: &CertReloader) -> Result<ServerConfig, TlsError> {
    let unusable = |error: &dyn fmt::Display| TlsError::Credentials { reason: error.to_string() };
    let clients = WebPkiClientVerifier::builder_with_provider(roots_of(ca_pem)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(credentials.clone()));
    // A ticket or a stored session would replay the client's old identity after a revocation.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}
