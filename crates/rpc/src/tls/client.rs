//! The dialling side: settings, one connection, and a gRPC channel that dials again by itself.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use model::identity::MANAGER_SERVER_NAME;
use rustls::client::Resumption;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::pinned::PinnedAuthority;
use super::{ALPN, CertReloader, TlsError, provider, roots_of, tune};

/// For the address, TCP and TLS together. Two lost SYNs (1 s and 2 s) are survived; a machine that is gone is given up
/// soon enough for the next manager to be tried.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// A peer that answers no ping for this long is dead: the stream ends and the caller dials another manager.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client dials. Cheap to clone; clones trust alike.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ArcSwap<ClientConfig>>,
    /// What is presented; nothing for a client without a certificate.
    credentials: CertReloader,
}

impl ClientTls {
    /// Presents the reloader's certificate and accepts the managers of the authority's cluster.
    ///
    /// # Errors
    /// The authority's certificate is unusable.
    pub fn mutual(ca_pem: &str, credentials: CertReloader) -> Result<Self, TlsError> {
        let config = mutual_config(ca_pem, &credentials)?;
        Ok(Self::new(config, credentials))
    }

    /// Trusts this bundle from the next handshake on, and presents the reloader's certificate; for a client that was made with
    /// [`mutual`](Self::mutual). Open connections are not touched.
    ///
    /// # Errors
    /// The bundle is unusable; the old one stays.
    pub fn trust(&self, ca_pem: &str) -> Result<(), TlsError> {
        self.config.store(Arc::new(mutual_config(ca_pem, &self.credentials)?));
        Ok(())
    }

    /// Presents no certificate and accepts the managers of the authority's cluster.
    ///
    /// # Errors
    /// The authority's certificate is unusable.
    pub fn anonymous(ca_pem: &str) -> Result<Self, TlsError> {
        let roots = roots_of(ca_pem)?;
        let config = builder()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self::new(finished(config), CertReloader::default()))
    }

    /// For the Join call: presents no certificate and accepts the managers of the cluster whose authority's
    /// certificate has this SHA-256 fingerprint.
    ///
    /// # Errors
    /// The crypto library lacks TLS 1.3: stop.
    pub fn pinned(fingerprint: [u8; 32]) -> Result<Self, TlsError> {
        let verifier = Arc::new(PinnedAuthority::new(fingerprint));
        let config = builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Self::new(finished(config), CertReloader::default()))
    }

    /// Dials `address` (`host:port`) and shakes hands.
    ///
    /// A server judges the client's certificate after the client is done with its handshake; its refusal arrives with
    /// the first read.
    ///
    /// # Errors
    /// Retry on [`TlsError::Unreachable`], [`TlsError::TimedOut`] and [`TlsError::Closed`]; the others need a person.
    pub async fn connect(&self, address: &str) -> Result<ClientStream, TlsError> {
        let dialled = timeout(CONNECT_TIMEOUT, self.dial(address)).await;
        dialled.map_err(|_elapsed| TlsError::TimedOut { limit: CONNECT_TIMEOUT })?
    }

    async fn dial(&self, address: &str) -> Result<ClientStream, TlsError> {
        let unreachable =
            |error| TlsError::Unreachable { address: address.to_owned(), source: Arc::new(error) };
        let socket = TcpStream::connect(address).await.map_err(unreachable)?;
        tune(&socket).map_err(unreachable)?;
        let name = ServerName::try_from(MANAGER_SERVER_NAME).expect("the managers' name is a DNS name");
        let presented = self.credentials.current();
        let stream = TlsConnector::from(self.config.load_full()).connect(name, socket).await;
        let stream = stream.map_err(|error| TlsError::of_io(&error))?;
        Ok(ClientStream { stream, presented })
    }

    fn new(config: ClientConfig, credentials: CertReloader) -> Self {
        Self { config: Arc::new(ArcSwap::from_pointee(config)), credentials }
    }
}

fn mutual_config(ca_pem: &str, credentials: &CertReloader) -> Result<ClientConfig, TlsError> {
    let resolver = Arc::new(credentials.clone());
    let roots = roots_of(ca_pem)?;
    Ok(finished(builder()?.with_root_certificates(roots).with_client_cert_resolver(resolver)))
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    // A resumed session would present the identity of the certificate before the last swap.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

/// A gRPC channel to `address` (`host:port`).
///
/// It dials at the first call and again after a failure, without any pause of its own: the caller paces its retries.
/// [`TlsError::in_chain`] on a failed call's status tells why the connection could not be made.
pub fn channel(address: &str, tls: ClientTls) -> Channel {
    let address: Arc<str> = address.into();
    let connector = tower::service_fn(move |_authority: http::Uri| {
        let (tls, address) = (tls.clone(), address.clone());
        async move { tls.connect(&address).await.map(TokioIo::new) }
    });
    // The name that is verified, in place of the address that is dialled: requests carry it as their authority.
    Endpoint::from_shared(format!("https://{MANAGER_SERVER_NAME}"))
        .expect("the managers' name makes a URL")
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

/// A dialled connection.
#[derive(Debug)]
pub struct ClientStream {
    stream: TlsStream<TcpStream>,
    presented: Option<Arc<CertifiedKey>>,
}

impl ClientStream {
    /// What the server presented: its own certificate, then its authority's.
    pub fn server_certificates(&self) -> &[CertificateDer<'static>] {
        self.stream.get_ref().1.peer_certificates().unwrap_or_default()
    }
}

impl AsyncRead for ClientStream {
    /// Puts a server's late refusal into our words, because HTTP/2 keeps nothing else of it.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = pin!(&mut self.stream).poll_read(cx, buf);
        read.map_err(|error| match TlsError::of_io(&error).with_clock_of(self.presented.as_deref()) {
            refused @ TlsError::Refused(_) => io::Error::new(error.kind(), refused),
            _ => error,
        })
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsError::Credentials { reason: error.to_string() })
}
