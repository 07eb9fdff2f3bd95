//! Who is at the other end, and that no session outlives its certificate.

use std::sync::Arc;

use model::id::NodeId;
use model::identity::Identity;
use rpc::tls::{CertReloader, ClientTls, ServerTls};
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cluster::{Cluster, HOUR, ask, now, within};

#[tokio::test]
async fn a_client_is_known_by_the_identity_in_its_certificate() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let caller = within(ask(&server.channel(cluster.client()))).await.expect("an answer");
    assert_eq!(caller.identity, Identity::Node(NodeId(7)).to_string());
    assert_eq!(caller.serial, 2);
}

#[tokio::test]
async fn a_client_without_a_certificate_reaches_the_handler_as_nobody() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let tls = ClientTls::anonymous(cluster.ca_pem()).expect("settings");
    let caller = within(ask(&server.channel(tls))).await.expect("an answer");
    assert_eq!((caller.identity.as_str(), caller.serial), ("anonymous", 0));
}

#[tokio::test]
async fn the_holder_of_the_right_fingerprint_joins() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let tls = ClientTls::pinned(*cluster.ca.fingerprint().as_bytes()).expect("settings");
    let caller = within(ask(&server.channel(tls.clone()))).await.expect("an answer");
    assert_eq!(caller.identity, "anonymous");

    let stream = within(tls.connect(&server.address.to_string())).await.expect("connected");
    assert_eq!(stream.server_certificates()[1], *cluster.ca.certificate().der());
}

#[tokio::test]
async fn silent_connections_do_not_keep_others_waiting() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(server.address).await.expect("a connection"));
    }
    within(ask(&server.channel(cluster.client()))).await.expect("an answer");
}

#[tokio::test]
async fn a_revoked_peer_is_cut_and_the_others_are_not() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let (node, nobody) = (cluster.client(), ClientTls::anonymous(cluster.ca_pem()).expect("settings"));
    let (node, nobody) = (server.channel(node), server.channel(nobody));
    let node_before = within(ask(&node)).await.expect("an answer");
    let nobody_before = within(ask(&nobody)).await.expect("an answer");
    assert_eq!(server.connections.count(), 2);

    let cut = server.connections.disconnect(|peer| peer.identity() == Identity::Node(NodeId(7)));

    assert_eq!(cut, 1);
    assert_eq!(within(ask(&nobody)).await.expect("an answer"), nobody_before, "the same connection");
    let node_after = within(async {
        loop {
            // The first call may still fall into the cut connection.
            if let Ok(caller) = ask(&node).await {
                break caller;
            }
        }
    });
    assert_ne!(node_after.await.address, node_before.address, "a new connection");
}

#[tokio::test]
async fn the_server_lets_no_session_be_resumed() {
    let cluster = Cluster::new(1);
    let settings = ServerTls::new(cluster.ca_pem(), CertReloader::new(cluster.manager(1))).expect("settings");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        use tokio_stream::StreamExt;
        let mut incoming = rpc::tls::Incoming::new(listener, settings);
        while let Some(Ok(mut connection)) = incoming.next().await {
            connection.write_all(b"hello").await.expect("written");
            connection.shutdown().await.expect("closed");
        }
    });
    let client = eager_client(&cluster);
    for _ in 0..3 {
        assert_eq!(within(dial(&client, address)).await, HandshakeKind::Full);
    }
    server.abort();
}

#[tokio::test]
async fn the_client_resumes_no_session() {
    let cluster = Cluster::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let acceptor = TlsAcceptor::from(Arc::new(eager_server(&cluster)));
    let server = tokio::spawn(async move {
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let (socket, _) = listener.accept().await.expect("a connection");
            let mut stream = acceptor.accept(socket).await.expect("a handshake");
            kinds.push(stream.get_ref().1.handshake_kind().expect("done"));
            stream.write_all(b"hello").await.expect("written");
            stream.shutdown().await.expect("closed");
        }
        kinds
    });
    let client = ClientTls::anonymous(cluster.ca_pem()).expect("settings");
    for _ in 0..3 {
        let mut stream = within(client.connect(&address)).await.expect("connected");
        let mut said = Vec::new();
        within(stream.read_to_end(&mut said)).await.expect("read");
    }
    assert_eq!(within(server).await.expect("no panic"), [HandshakeKind::Full; 3]);
}

/// The two tests above can fail: a client and a server that both like to resume, do.
#[tokio::test]
async fn the_eager_client_and_the_eager_server_of_these_tests_resume() {
    let cluster = Cluster::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let acceptor = TlsAcceptor::from(Arc::new(eager_server(&cluster)));
    let server = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            let mut stream = acceptor.accept(socket).await.expect("a handshake");
            stream.write_all(b"hello").await.expect("written");
            stream.shutdown().await.expect("closed");
        }
    });
    let client = eager_client(&cluster);
    assert_eq!(within(dial(&client, address)).await, HandshakeKind::Full);
    assert_eq!(within(dial(&client, address)).await, HandshakeKind::Resumed);
    server.abort();
}

/// Reads everything, so that tickets are seen, and tells how the handshake went.
async fn dial(client: &TlsConnector, address: std::net::SocketAddr) -> HandshakeKind {
    let socket = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from("orch-manager").expect("a name");
    let mut stream = client.connect(name, socket).await.expect("a handshake");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.expect("read");
    assert_eq!(said, b"hello");
    stream.get_ref().1.handshake_kind().expect("done")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A stock client that resumes whenever it may.
fn eager_client(cluster: &Cluster) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(cluster.ca.certificate().der().clone()).expect("a root");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(16);
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// A stock server that offers tickets.
fn eager_server(cluster: &Cluster) -> ServerConfig {
    stock_server(cluster, rustls::DEFAULT_VERSIONS)
}

/// A server that is none of ours, with a manager's certificate.
pub fn stock_server(
    cluster: &Cluster,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let request = pki::KeyAndCsr::generate().expect("a request");
    let name = model::identity::CertName {
        cluster: cluster.ca.cluster(),
        identity: Identity::Manager(model::id::MemberId(1)),
    };
    let pem = cluster.ca.issue(request.csr_pem.as_bytes(), &name, HOUR, now(), 9).expect("a certificate");
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(request.key_pem().as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
