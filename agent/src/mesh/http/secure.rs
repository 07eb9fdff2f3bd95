//! Certificates of published ports: read from files, and again when these change.
//!
//! A file that cannot be read is a problem in words, and what was read before goes on. A handshake picks the certificate by the
//! host that the client names, as requests are routed; without one of that name, the port's first.

use std::{
    collections::BTreeMap,
    fmt, fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use mesh::{
    Table, http as rules,
    table::{HttpRoutes, Port},
};
use model::route::TlsFiles;
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::serve::{Arrival, serve_http1, serve_http2};
use crate::mesh::world::World;

/// A handshake takes two round trips; whoever needs longer is broken or hostile.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// All certificates that some port uses.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<BTreeMap<TlsFiles, Loaded>>);

#[derive(Debug, Default)]
struct Loaded {
    /// When the files were written that were read last.
    written: Option<[SystemTime; 2]>,
    certified: Option<Arc<CertifiedKey>>,
    problem: Option<String>,
}

impl Certificates {
    /// Reads what is new or has changed; says what cannot be read.
    pub fn reconcile(&self, table: &Table) -> Vec<String> {
        let mut known = self.lock();
        let ports = table.ports.values().filter_map(|port| match port {
            Port::Http(routes) => Some(routes),
            Port::Tcp(_) => None,
        });
        let files: Vec<&TlsFiles> =
            ports.flat_map(|routes| routes.certificates.iter().map(|(_, files)| files)).collect();
        known.retain(|held, _| files.contains(&held));
        let mut problems = Vec::new();
        for files in files {
            let loaded = known.entry(files.clone()).or_default();
            loaded.refresh(files);
            problems.extend(loaded.problem.clone());
        }
        problems
    }

    fn find(&self, routes: &HttpRoutes, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let known = self.lock();
        let certified = |files: &TlsFiles| known.get(files).and_then(|loaded| loaded.certified.clone());
        let named = name.and_then(|name| {
            let ranked = routes
                .certificates
                .iter()
                .filter_map(|(hosts, files)| Some((rules::host_match(name, hosts)?, certified(files)?)));
            ranked.max_by_key(|(rank, _)| *rank).map(|(_, certified)| certified)
        });
        named.or_else(|| routes.certificates.iter().find_map(|(_, files)| certified(files)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TlsFiles, Loaded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    fn refresh(&mut self, files: &TlsFiles) {
        let written = |path: &str| fs::metadata(path).and_then(|about| about.modified()).ok();
        let written = written(&files.certificate).zip(written(&files.key)).map(<[_; 2]>::from);
        if written.is_some() && written == self.written {
            return;
        }
        match load(files) {
            Ok(certified) => *self = Self { written, certified: Some(Arc::new(certified)), problem: None },
            Err(error) => {
                (self.written, self.problem) =
                    (None, Some(format!("a certificate cannot be used: {error:#}")));
            }
        }
    }
}

fn load(files: &TlsFiles) -> Result<CertifiedKey> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .with_context(|| files.certificate.clone())?;
    anyhow::ensure!(!chain.is_empty(), "{} has no certificate", files.certificate);
    let key = PrivateKeyDer::from_pem_file(&files.key).with_context(|| files.key.clone())?;
    let signer = default_provider().key_provider.load_private_key(key).with_context(|| files.key.clone())?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match().with_context(|| format!("{} and {}", files.certificate, files.key))?;
    Ok(certified)
}

/// Shakes hands on one port, by the table of the moment.
pub fn acceptor(world: &Arc<World>, port: u16) -> Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OfPort { world: world.clone(), port }));
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves a connection that begins with a handshake.
pub async fn serve(arrival: Arrival, acceptor: TlsAcceptor, socket: TcpStream) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, Box::pin(acceptor.accept(socket))).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    if is_http2 {
        Box::pin(serve_http2(arrival, stream)).await;
    } else {
        serve_http1(arrival, stream).await;
    }
}

struct OfPort {
    world: Arc<World>,
    port: u16,
}

impl ResolvesServerCert for OfPort {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.world.table.load().ports.get(&self.port)? {
            Port::Http(routes) => self.world.certificates.find(routes, hello.server_name()),
            Port::Tcp(_) => None,
        }
    }
}

impl fmt::Debug for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfPort").field("port", &self.port).finish_non_exhaustive()
    }
}
