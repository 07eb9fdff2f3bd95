//! One HTTP exchange at a time, each on a connection of its own: TLS with the machine's authorities and the registry's own, few
//! redirects, a bounded answer.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONNECTION, HOST, LOCATION, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// A list of manifests for many architectures has some ten KiB; registries refuse more than 4 MiB.
const MAX_BODY: usize = 4 << 20;
/// Registries send manifests themselves; some stand behind another name.
const MAX_REDIRECTS: usize = 3;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("it cannot be reached: {0}")]
    Connect(#[source] std::io::Error),
    #[error("its certificate is not accepted: {0}; --ca FILE names the authority that vouches for it")]
    Certificate(String),
    #[error("it does not speak TLS: {0}; --plain-http is for registries on plain HTTP")]
    NoTls(String),
    #[error("the certificates of its authorities cannot be read: {0}")]
    Authority(String),
    #[error("it does not speak HTTP: {0}")]
    Http(String),
    #[error("it sends elsewhere more than {MAX_REDIRECTS} times, or to where it may not: {0}")]
    Redirect(String),
    #[error("it sends a login on to {0}, which is not followed")]
    LoginSentOn(String),
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a header that may be there more than once.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    }
}

/// How a registry is connected to.
pub(crate) struct Wire {
    tls: TlsConnector,
    plain: bool,
}

impl Wire {
    /// `plain`: the registry was declared so; otherwise nothing is ever sent unencrypted.
    pub(crate) fn new(authority: Option<&str>, plain: bool) -> Result<Self, WireError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in
            authority.into_iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()))
        {
            let certificate = certificate.map_err(|error| WireError::Authority(error.to_string()))?;
            roots.add(certificate).map_err(|error| WireError::Authority(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| WireError::Authority(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), plain })
    }

    /// Asks, and follows where it is sent. What authorizes goes to the first address only; a body, which may hold a login, is
    /// never sent on.
    pub(crate) async fn exchange(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &[(HeaderName, String)],
        body: Option<String>,
    ) -> Result<Answer, WireError> {
        let mut at = uri.clone();
        for _ in 0..=MAX_REDIRECTS {
            let own = |(name, _): &&(HeaderName, String)| {
                *name != AUTHORIZATION || at.authority() == uri.authority()
            };
            let headers: Vec<_> = headers.iter().filter(own).collect();
            let answer = self.once(method, &at, &headers, body.clone()).await?;
            let moved = answer.status.is_redirection().then(|| answer.headers.get(LOCATION)).flatten();
            let Some(location) = moved else { return Ok(answer) };
            at = next(&at, location, self.plain)?;
            if body.is_some() {
                return Err(WireError::LoginSentOn(shown(&at)));
            }
        }
        Err(WireError::Redirect(shown(&at)))
    }

    /// Reads what lies at an address, and goes nowhere else.
    pub(crate) async fn read(&self, uri: &Uri) -> Result<Answer, WireError> {
        self.once(&Method::GET, uri, &[], None).await
    }

    async fn once(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &[&(HeaderName, String)],
        body: Option<String>,
    ) -> Result<Answer, WireError> {
        let http = |error: &dyn Error| WireError::Http(chain(error));
        let authority = uri.authority().ok_or_else(|| WireError::Http("no host".into()))?;
        let encrypted = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let mut request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority.as_str())
            .header(USER_AGENT, concat!("orch/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close");
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|error| http(&error))?;
            value.set_sensitive(*name == AUTHORIZATION);
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|error| http(&error))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, port)).await.map_err(WireError::Connect)?;
        if !encrypted {
            return converse(stream, request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| http(&error))?;
        converse(self.tls.connect(name, stream).await.map_err(|error| no_tls(&error))?, request).await
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<Answer, WireError> {
    let http = |error: &dyn Error| WireError::Http(chain(error));
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| http(&error))?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| http(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| http(&*error))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    // The connection ends with the exchange, which holds its sender.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

/// Where a redirect leads: never from TLS to none, nor anywhere plain unless the registry itself is.
fn next(from: &Uri, location: &HeaderValue, plain: bool) -> Result<Uri, WireError> {
    let text = location.to_str().unwrap_or_default();
    let wrong = || {
        let to = text.parse::<Uri>().ok().filter(|to| to.host().is_some());
        WireError::Redirect(to.map_or_else(|| "what is no address".into(), |to| shown(&to)))
    };
    let to = if text.starts_with('/') && !text.starts_with("//") {
        let (scheme, authority) = (from.scheme_str().unwrap_or("https"), from.authority().ok_or_else(wrong)?);
        format!("{scheme}://{authority}{text}")
    } else {
        text.to_owned()
    };
    let to: Uri = to.parse().map_err(|_| wrong())?;
    let plainly = plain && from.scheme_str() == Some("http") && to.scheme_str() == Some("http");
    if to.scheme_str() == Some("https") || plainly { Ok(to) } else { Err(wrong()) }
}

/// An address without what may be secret in it: a name, a path, a query.
fn shown(address: &Uri) -> String {
    format!("{}://{}", address.scheme_str().unwrap_or_default(), address.host().unwrap_or_default())
}

fn no_tls(error: &std::io::Error) -> WireError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => WireError::Certificate(format!("{why:?}")),
        Some(rustls::Error::InvalidMessage(why)) => WireError::NoTls(format!("{why:?}")),
        _ => WireError::NoTls(chain(error)),
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
