//! Everything that is refused, on which side, and in which words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::id::{ClusterId, NodeId};
use model::identity::Identity;
use rpc::tls::{CertReloader, ClientTls, Credentials, Refusal, Standing, TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cluster::{Cluster, HOUR, RunningServer, after_now, ask, before_now, now, within};
use crate::session::stock_server;

/// Why a call over a channel failed, as a daemon would find out.
async fn refusal(server: &RunningServer, tls: ClientTls) -> TlsError {
    let status = within(ask(&server.channel(tls))).await.expect_err("a refusal");
    TlsError::in_chain(&status).unwrap_or_else(|| panic!("no reason in {status:?}"))
}

#[tokio::test]
async fn a_server_of_another_cluster_is_refused() {
    let (ours, theirs) = (Cluster::new(1), Cluster::new(2));
    let server = theirs.serve().await;
    let error = refusal(&server, ours.client()).await;
    assert!(matches!(error, TlsError::WrongCa), "{error:?}");
    assert!(error.to_string().contains("not issued by this cluster's authority (wrong CA)"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_authority_with_the_same_cluster_id_is_refused() {
    let (ours, impostor) = (Cluster::new(1), Cluster::new(1));
    let server = impostor.serve().await;
    let error = refusal(&server, ours.client()).await;
    assert!(matches!(error, TlsError::WrongCa), "{error:?}");
}

#[tokio::test]
async fn a_client_of_another_cluster_is_told_so() {
    let (ours, theirs) = (Cluster::new(1), Cluster::new(2));
    let server = ours.serve().await;
    let tls = ours.client_with(CertReloader::new(theirs.node(2)));
    let error = refusal(&server, tls).await;
    assert!(matches!(error, TlsError::Refused(Refusal::UnknownCa)), "{error:?}");
}

#[tokio::test]
async fn an_expired_client_is_told_so() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let expired = cluster.issue(Identity::Node(NodeId(7)), 2, before_now(2 * HOUR));
    let error = refusal(&server, cluster.client_with(CertReloader::new(expired))).await;
    let TlsError::Refused(Refusal::Clock(Some(Standing::Expired { since }))) = error else {
        panic!("{error:?}")
    };
    assert!((3600..3700).contains(&since), "{since}");
    assert!(error.to_string().contains(&format!("by ours as well, since {since} seconds")), "{error}");
}

#[tokio::test]
async fn a_client_whose_certificate_is_not_valid_yet_is_told_by_how_much() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    // Backdated by one hour, so its first second is an hour away.
    let early = cluster.issue(Identity::Node(NodeId(7)), 2, after_now(2 * HOUR));
    let error = refusal(&server, cluster.client_with(CertReloader::new(early))).await;
    let TlsError::Refused(Refusal::Clock(Some(Standing::Ahead { left }))) = error else {
        panic!("{error:?}")
    };
    assert!((3500..=3600).contains(&left), "{left}");
}

/// TLS 1.2 has no place here: it shows certificates in clear text and resumes sessions by itself.
#[tokio::test]
async fn a_client_of_tls_1_2_is_refused() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cluster.ca.certificate().der().clone()).expect("a root");
    let dial = |version: &'static rustls::SupportedProtocolVersion| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = server.address;
        async move {
            let socket = TcpStream::connect(address).await.expect("a connection");
            let name = rustls_pki_types::ServerName::try_from("orch-manager").expect("a name");
            TlsConnector::from(Arc::new(config)).connect(name, socket).await.map(drop)
        }
    };
    within(dial(&rustls::version::TLS13)).await.expect("the same client with TLS 1.3");
    let error = within(dial(&rustls::version::TLS12)).await.expect_err("a refusal");
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let version = rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion);
    assert_eq!(alert, Some(&version), "{error}");
}

#[tokio::test]
async fn a_server_of_tls_1_2_is_refused() {
    let cluster = Cluster::new(1);
    let acceptor = TlsAcceptor::from(Arc::new(stock_server(&cluster, &[&rustls::version::TLS12])));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            drop(acceptor.accept(socket).await);
        }
    });
    let fingerprint = *cluster.ca.fingerprint().as_bytes();
    let anonymous = ClientTls::anonymous(cluster.ca_pem()).expect("settings");
    for tls in [cluster.client(), anonymous, ClientTls::pinned(fingerprint).expect("settings")] {
        let error = within(tls.connect(&address)).await.expect_err("a refusal");
        assert!(matches!(error, TlsError::Refused(Refusal::Incompatible)), "{error:?}");
    }
    server.abort();
}

#[tokio::test]
async fn an_expired_server_is_refused_with_the_seconds_since() {
    let cluster = Cluster::new(1);
    let expired = cluster.issue(Identity::Manager(model::id::MemberId(1)), 1, before_now(2 * HOUR));
    let server = cluster.serve_with(expired).await;
    let error = refusal(&server, cluster.client()).await;
    let TlsError::Expired { seconds, .. } = error else { panic!("{error:?}") };
    assert!((3600..3700).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_clock_that_is_behind_is_told_by_how_much() {
    let cluster = Cluster::new(1);
    // Backdated by one hour, so its first second is an hour away.
    let early = cluster.issue(Identity::Manager(model::id::MemberId(1)), 1, after_now(2 * HOUR));
    let server = cluster.serve_with(early).await;
    let error = refusal(&server, cluster.client()).await;
    let TlsError::NotYetValid { seconds, .. } = &error else { panic!("{error:?}") };
    assert!((3500..=3600).contains(seconds), "{seconds}");
    assert!(error.to_string().ends_with("seconds behind"), "{error}");
}

#[tokio::test]
async fn a_node_cannot_pose_as_a_manager() {
    let cluster = Cluster::new(1);
    let server = cluster.serve_with(cluster.node(3)).await;
    let pinned = ClientTls::pinned(*cluster.ca.fingerprint().as_bytes()).expect("settings");
    for tls in [cluster.client(), pinned] {
        let error = refusal(&server, tls).await;
        assert!(matches!(error, TlsError::NotAManager), "{error:?}");
    }
}

#[tokio::test]
async fn the_wrong_fingerprint_is_refused() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let other = Cluster::new(1).ca.fingerprint();
    let error = refusal(&server, ClientTls::pinned(*other.as_bytes()).expect("settings")).await;
    assert!(error.to_string().contains(&other.to_string()), "{error}");
    assert!(matches!(error, TlsError::WrongFingerprint { .. }), "{error:?}");
}

#[tokio::test]
async fn an_impostor_with_a_copy_of_our_authoritys_certificate_is_refused() {
    let (ours, impostor) = (Cluster::new(1), Cluster::new(1));
    let request = pki::KeyAndCsr::generate().expect("a request");
    let name = model::identity::CertName {
        cluster: impostor.ca.cluster(),
        identity: Identity::Manager(model::id::MemberId(1)),
    };
    let csr = request.csr_pem.as_bytes();
    let leaf = impostor.ca.issue(csr, &name, HOUR, before_now(Duration::ZERO), 1).expect("a certificate");
    let forged = Credentials::from_pem(&leaf, ours.ca_pem(), &request.key_pem()).expect("credentials");
    let server = impostor.serve_with(forged).await;
    let pinned = ClientTls::pinned(*ours.ca.fingerprint().as_bytes()).expect("settings");
    let error = refusal(&server, pinned).await;
    assert!(matches!(error, TlsError::WrongCa), "{error:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("written");
        // Keeps the connection until the client has read the answer.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    let error = within(Cluster::new(1).client().connect(&address)).await.expect_err("a refusal");
    assert!(matches!(error, TlsError::Plaintext), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_is_hung_up_on_and_disturbs_nobody() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let mut plain = TcpStream::connect(server.address).await.expect("a connection");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    // A reset is as good an end as a close.
    let _ = within(plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "no plaintext answer");
    within(ask(&server.channel(cluster.client()))).await.expect("an answer");
}

#[tokio::test]
async fn a_machine_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let error = within(Cluster::new(1).client().connect(&free.to_string())).await.expect_err("nobody there");
    assert!(matches!(error, TlsError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

#[tokio::test]
async fn an_address_that_presents_foreign_certificates_waits_and_is_served_all_the_same() {
    let (ours, theirs) = (Cluster::new(1), Cluster::new(2));
    let server = ours.serve().await;
    let wait = || server.offences.turn(server.address.ip(), Instant::now());
    let foreign = || ours.client_with(CertReloader::new(theirs.node(2)));
    let of_nobody = pki::ClusterCa::generate(ClusterId(3), now()).expect("an authority");
    let of_nobody = Credentials::from_pem(of_nobody.certificate_pem(), ours.ca_pem(), &of_nobody.key_pem());
    let of_nobody = ours.client_with(CertReloader::new(of_nobody.expect("credentials")));
    refusal(&server, of_nobody).await;
    for _ in 0..2 {
        refusal(&server, foreign()).await;
    }
    // Three mistakes are free, and neither broken connections nor plain text prove anything.
    for _ in 0..3 {
        drop(TcpStream::connect(server.address).await.expect("a connection"));
    }
    assert_eq!(wait(), Duration::ZERO);
    refusal(&server, foreign()).await;
    assert!(wait() > Duration::ZERO);
    within(ask(&server.channel(ours.client()))).await.expect("an answer");
}

#[test]
fn unusable_files_are_refused_when_they_are_read() {
    let (ours, theirs) = (Cluster::new(1), pki::KeyAndCsr::generate().expect("a key"));
    let error =
        Credentials::from_pem(ours.ca_pem(), ours.ca_pem(), &theirs.key_pem()).expect_err("foreign key");
    assert!(error.to_string().contains("key does not belong to the certificate"), "{error}");
    let error = Credentials::from_pem("rubbish", ours.ca_pem(), &theirs.key_pem()).expect_err("rubbish");
    assert!(matches!(error, TlsError::Credentials { .. }), "{error:?}");
}
