//! TLS 1.3 between managers, agents and clients: both sides, and the errors that people see.
//!
//! Certificates change while connections run, and identities are revoked. Three rules follow:
//!
//! - Certificates are looked up per handshake in a [`CertReloader`], so that a renewal needs no restart and cuts nothing.
//! - Session resumption is off on both sides. A resumed TLS 1.3 session replays the certificate, and thereby the role,
//!   of the original handshake, also after the certificate was swapped or revoked.
//! - The client certificate is optional for TLS, because a machine that joins has none yet. Services demand the
//!   identity from the request's [`crate::identity::Peer`].
//!
//! An authority is given as a bundle of PEM certificates, its own first: each that signs itself is trusted, the others are bridges from
//! an authority that was replaced to the next one. Both go with every certificate that is presented, so that whoever knows only an
//! earlier authority finds the way. A bundle is exchanged with `trust` while connections run.
//!
//! Clients verify the one name [`MANAGER_SERVER_NAME`](model::identity::MANAGER_SERVER_NAME) whatever address they dialled. There is no plaintext mode.
//!
//! Reading order: `credentials` (what we present), `server` and `incoming` (accept), `client` (dial), `pinned` (the
//! joiner's first contact), `node` (nodes among themselves), `error` and `clocks`.

mod client;
mod clocks;
mod connections;
mod credentials;
mod error;
mod incoming;
mod node;
mod pinned;
mod server;

pub use client::{CONNECT_TIMEOUT, ClientStream, ClientTls, channel};
pub use clocks::Standing;
pub use connections::Connections;
pub use credentials::{CertReloader, Credentials};
pub use error::{Refusal, TlsError};
pub use incoming::{Incoming, TlsConnection};
pub use node::NodeTls;
pub use server::ServerTls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// HTTP/2 and nothing else.
const ALPN: &[u8] = b"h2";

/// A handshake takes two round trips and two signatures; whoever needs longer is broken or hostile.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Silent connections are probed after 10 s, then every 5 s, and given up after three probes: a router that forgot the
/// connection is noticed within half a minute even when the process above is stopped and sends no HTTP/2 pings.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of a bundle: one PEM text with the authority's, and after it those of authorities that it has replaced and that are
/// trusted still, and the bridges that lead from those to it. At least one.
fn bundle_of(ca_pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).collect();
    let certificates = certificates.map_err(|error| unusable_authority(&error))?;
    if certificates.is_empty() {
        return Err(unusable_authority(&"there is none"));
    }
    Ok(certificates)
}

/// Those of a bundle that sign themselves; the others are bridges, which prove nothing alone.
fn roots_of(ca_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in bundle_of(ca_pem)? {
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| unusable_authority(&error))?;
        if parsed.issuer().as_raw() == parsed.subject().as_raw() {
            roots.add(certificate.clone()).map_err(|error| unusable_authority(&error))?;
        }
    }
    Ok(Arc::new(roots))
}

fn root_of(ca: CertificateDer<'static>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|error| unusable_authority(&error))?;
    Ok(roots)
}

fn unusable_authority(error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Credentials { reason: format!("the authority's certificate: {error}") }
}

/// Small messages leave at once, and dead peers are noticed.
fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(socket, true)?;
    rustix::net::sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    rustix::net::sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    rustix::net::sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    Ok(())
}
