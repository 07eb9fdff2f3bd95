//! Questions to an issuer: HTTPS with the machine's authorities and the issuer's own, a bounded answer, no redirects (a form may
//! hold what nobody else is to have).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Method, Request, StatusCode, Uri,
    header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Refusal;
use crate::exit::Failure;

/// A token that names hundreds of groups has some ten KiB.
const MAX_BODY: usize = 256 << 10;
/// One question.
const LIMIT: Duration = Duration::from_secs(15);

pub(super) struct Https(TlsConnector);

/// What came back.
pub(super) struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// The document, if the answer is one.
    pub(super) fn read<T: DeserializeOwned>(&self, at: &str) -> Result<T, Failure> {
        if self.status != StatusCode::OK {
            return Err(Failure::error(format!("{at} answers {}", self.status.as_u16())));
        }
        serde_json::from_slice(&self.body)
            .map_err(|_| Failure::error(format!("{at} answers something that is not understood")))
    }

    /// Why not, if it says so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        if self.status.is_success() { None } else { serde_json::from_slice(&self.body).ok() }
    }
}

impl Https {
    pub(super) fn new(authority: Option<&str>) -> Result<Self, Failure> {
        let unusable = |why: String| Failure::error(format!("the authorities cannot be read: {why}"));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in
            authority.into_iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()))
        {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(super) async fn get(&self, at: &str) -> Result<Answer, Failure> {
        self.ask(Method::GET, at, String::new()).await
    }

    pub(super) async fn post(&self, at: &str, form: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.ask(Method::POST, at, form_of(form)).await
    }

    async fn ask(&self, method: Method, at: &str, body: String) -> Result<Answer, Failure> {
        let failed = |why: String| Failure::error(format!("{at} cannot be asked: {why}"));
        let asked = tokio::time::timeout(LIMIT, self.exchange(method, at, body)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs()))).map_err(failed)
    }

    async fn exchange(&self, method: Method, at: &str, body: String) -> Result<Answer, String> {
        let uri: Uri = at.parse().map_err(|_| "it is no address".to_owned())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"));
        let authority = authority.ok_or("it is not https")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let stream = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(443)))
            .await
            .map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let stream = self.0.connect(name, stream).await.map_err(|error| error.to_string())?;
        let request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority.as_str())
            .header(USER_AGENT, concat!("orchctl/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status, body })
        };
        // The connection ends with the exchange, which holds its sender.
        tokio::join!(exchange, connection).0
    }
}

/// A form, or a query.
pub(super) fn form_of(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| format!("{name}={}", encoded(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
