//! Who is at the other end of a connection, as the handshake proved it.
//!
//! A [`Peer`] travels in the extensions of every request that arrives over [`crate::tls::Incoming`]. The certificate
//! is optional, because a machine that joins has none yet; every service but Join must refuse
//! [`Identity::Anonymous`]. Whether the identity is still welcome (removed nodes, revoked serials) is the caller's
//! question, asked for every message, because a connection outlives such decisions.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::identity::{CertName, Identity};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::tls::TlsError;

const SCHEME: &str = "orch://";

/// The other end of one connection. Cheap to clone.
#[derive(Clone)]
pub struct Peer(Arc<Connection>);

struct Connection {
    address: SocketAddr,
    certificate: Option<PeerCertificate>,
    /// Whom the kernel vouches for, on a local socket.
    local: Option<Identity>,
    cut: CancellationToken,
    welcome: AtomicBool,
}

/// A client certificate that the cluster's authority signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whom it speaks for.
    pub name: CertName,
    /// The number under which it was issued, for revocation.
    pub serial: u64,
    /// All of it, for example to renew by proof of the same key.
    pub der: CertificateDer<'static>,
}

impl Peer {
    /// The peer of a request.
    ///
    /// # Errors
    /// The server was not started on [`crate::tls::Incoming`]: a fault in the daemon, so the request is refused.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        let peer = request.extensions().get::<Self>();
        peer.ok_or_else(|| Status::internal("the connection carries no peer identity"))
    }

    /// Where the connection comes from; port 0 of the loopback address for a local socket.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The verified client certificate, where one was presented.
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.0.certificate.as_ref()
    }

    /// Who is asking.
    pub fn identity(&self) -> Identity {
        let certified = self.certificate().map(|certificate| certificate.name.identity.clone());
        certified.or_else(|| self.0.local.clone()).unwrap_or(Identity::Anonymous)
    }

    /// Notes that something that was asked here was allowed. A connection without a certificate of which that is not so is cut
    /// before long: see [`crate::tls::Incoming`].
    pub fn welcome(&self) {
        self.0.welcome.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_welcome(&self) -> bool {
        self.0.welcome.load(Ordering::Relaxed)
    }

    /// Cuts the connection with everything that runs on it. Idempotent.
    pub fn disconnect(&self) {
        self.0.cut.cancel();
    }

    pub(crate) fn new(address: SocketAddr, certificate: Option<PeerCertificate>) -> Self {
        let welcome = AtomicBool::new(certificate.is_some());
        let cut = CancellationToken::new();
        Self(Arc::new(Connection { address, certificate, local: None, cut, welcome }))
    }

    pub(crate) fn local(identity: Identity) -> Self {
        let (address, cut) = ((Ipv4Addr::LOCALHOST, 0).into(), CancellationToken::new());
        let welcome = AtomicBool::new(true);
        Self(Arc::new(Connection { address, certificate: None, local: Some(identity), cut, welcome }))
    }

    pub(crate) fn cut(&self) -> CancellationToken {
        self.0.cut.clone()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} at {})", self.identity(), self.address())
    }
}

impl PeerCertificate {
    /// Reads what the handshake verified.
    ///
    /// # Errors
    /// The certificate names nobody, or more than one holder.
    pub(crate) fn read(der: CertificateDer<'static>) -> Result<Self, TlsError> {
        let (name, serial) = {
            let (_, parsed) = X509Certificate::from_der(&der).map_err(nameless)?;
            (single_name(&parsed)?, serial_of(&parsed)?)
        };
        Ok(Self { name, serial, der })
    }
}

fn single_name(parsed: &X509Certificate<'_>) -> Result<CertName, TlsError> {
    let names = parsed.subject_alternative_name().map_err(nameless)?;
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some((*uri).to_owned()),
        _ => None,
    };
    let mut ours = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(uri);
    match (ours.next(), ours.next()) {
        (Some(uri), None) => uri.parse().map_err(nameless),
        (None, _) => Err(nameless(format!("it has no {SCHEME} name"))),
        (Some(_), Some(_)) => Err(nameless(format!("it has several {SCHEME} names"))),
    }
}

fn serial_of(parsed: &X509Certificate<'_>) -> Result<u64, TlsError> {
    let digits = parsed.serial.to_u64_digits();
    match digits.as_slice() {
        [serial] => Ok(*serial),
        _ => Err(nameless("its serial number is not one of ours")),
    }
}

fn nameless(reason: impl ToString) -> TlsError {
    TlsError::NoIdentity { reason: reason.to_string() }
}
