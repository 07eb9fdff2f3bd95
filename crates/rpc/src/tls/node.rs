//! Between nodes: both ends present a node's certificate, and each learns which node the other is.
//!
//! A node has no DNS name and its address says nothing, so the certificate's own name is compared: the dialler expects one
//! node, the listener accepts every node of its cluster. Managers and operators are refused, although the same authority signed
//! their certificates.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use model::{
    id::{ClusterId, NodeId},
    identity::{CertName, Identity},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{CertReloader, HANDSHAKE_TIMEOUT, TlsError, provider, roots_of};
use crate::identity::PeerCertificate;

/// How a node meets other nodes. Cheap to clone; clones trust alike.
#[derive(Clone)]
pub struct NodeTls {
    cluster: ClusterId,
    credentials: CertReloader,
    trust: Arc<ArcSwap<Trust>>,
    alpn: Vec<u8>,
}

/// What follows from the authority's bundle.
struct Trust {
    roots: Arc<RootCertStore>,
    server: Arc<ServerConfig>,
}

impl NodeTls {
    /// Puts the settings together; `alpn` is the one protocol that is spoken.
    ///
    /// # Errors
    /// The authority's certificate is unusable.
    pub fn new(
        ca_pem: &str,
        cluster: ClusterId,
        credentials: CertReloader,
        alpn: &[u8],
    ) -> Result<Self, TlsError> {
        let trust = Trust::of(ca_pem, &credentials, alpn)?;
        let trust = Arc::new(ArcSwap::from_pointee(trust));
        Ok(Self { cluster, credentials, trust, alpn: alpn.to_vec() })
    }

    /// Trusts this bundle from the next handshake on, and nobody else; open connections are not touched.
    ///
    /// # Errors
    /// The bundle is unusable; the old one stays.
    pub fn trust(&self, ca_pem: &str) -> Result<(), TlsError> {
        self.trust.store(Arc::new(Trust::of(ca_pem, &self.credentials, &self.alpn)?));
        Ok(())
    }

    /// Shakes hands on a connection to where `node` should be.
    ///
    /// The other end judges our certificate after we are done; its refusal arrives with the first read.
    ///
    /// # Errors
    /// Somebody else is there, or nobody who speaks this.
    pub async fn dial(&self, socket: TcpStream, node: NodeId) -> Result<TlsStream<TcpStream>, TlsError> {
        let verifier = OneNode {
            expected: CertName { cluster: self.cluster, identity: Identity::Node(node) },
            roots: self.trust.load().roots.clone(),
            algorithms: provider().signature_verification_algorithms,
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(self.credentials.clone()));
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![self.alpn.clone()];
        let name = ServerName::try_from("orch-node").expect("it is a DNS name");
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, socket);
        let stream = timeout(HANDSHAKE_TIMEOUT, shaken).await.map_err(|_| late())?;
        let stream = TlsStream::from(stream.map_err(|error| TlsError::of_io(&error))?);
        self.check_protocol(&stream)?;
        Ok(stream)
    }

    /// Shakes hands on an accepted connection, and says which node is there.
    ///
    /// # Errors
    /// No node of this cluster is there.
    pub async fn accept(&self, socket: TcpStream) -> Result<(TlsStream<TcpStream>, NodeId), TlsError> {
        let shaken = TlsAcceptor::from(self.trust.load().server.clone()).accept(socket);
        let stream = timeout(HANDSHAKE_TIMEOUT, shaken).await.map_err(|_| late())?;
        let stream = TlsStream::from(stream.map_err(|error| TlsError::of_io(&error))?);
        self.check_protocol(&stream)?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or(TlsError::NoCertificate)?.clone().into_owned();
        match PeerCertificate::read(leaf)?.name {
            CertName { cluster, identity: Identity::Node(node) } if cluster == self.cluster => {
                Ok((stream, node))
            }
            other => Err(TlsError::WrongNode { found: other.to_string() }),
        }
    }

    fn check_protocol(&self, stream: &TlsStream<TcpStream>) -> Result<(), TlsError> {
        match stream.get_ref().1.alpn_protocol() {
            Some(protocol) if protocol == self.alpn => Ok(()),
            _ => Err(TlsError::Protocol { reason: "it does not speak between nodes".to_owned() }),
        }
    }
}

impl Trust {
    fn of(ca_pem: &str, credentials: &CertReloader, alpn: &[u8]) -> Result<Self, TlsError> {
        let roots = roots_of(ca_pem)?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| unusable(&error))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(credentials.clone()));
        // A ticket or a stored session would replay the other's old identity.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.alpn_protocols = vec![alpn.to_vec()];
        Ok(Self { roots, server: Arc::new(server) })
    }
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeTls")
    }
}

fn late() -> TlsError {
    TlsError::TimedOut { limit: HANDSHAKE_TIMEOUT }
}

fn unusable(error: &dyn fmt::Display) -> TlsError {
    TlsError::Credentials { reason: error.to_string() }
}

/// Accepts one node of the cluster.
#[derive(Debug)]
struct OneNode {
    expected: CertName,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for OneNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let found = PeerCertificate::read(end_entity.clone().into_owned()).map_err(refused)?.name;
        if found != self.expected {
            return Err(refused(TlsError::WrongNode { found: found.to_string() }));
        }
        Ok(ServerCertVerified::assertion())
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

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

fn refused(error: TlsError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}
