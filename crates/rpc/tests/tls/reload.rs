//! New certificates count from the next handshake on, and cut nothing.

use rpc::tls::CertReloader;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::cluster::{Cluster, ask, within};

#[tokio::test]
async fn a_new_server_certificate_is_presented_without_dropping_the_open_connection() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let address = server.address.to_string();
    let open = server.channel(cluster.client());
    let before = within(ask(&open)).await.expect("an answer");
    assert_eq!(presented_serial(&cluster, &address).await, 1);

    server.credentials.swap(cluster.manager(77));

    assert_eq!(presented_serial(&cluster, &address).await, 77);
    assert_eq!(within(ask(&open)).await.expect("an answer"), before, "the same connection");
}

#[tokio::test]
async fn a_new_client_certificate_counts_from_the_next_connection_on() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let credentials = CertReloader::new(cluster.node(2));
    let open = server.channel(cluster.client_with(credentials.clone()));
    assert_eq!(within(ask(&open)).await.expect("an answer").serial, 2);

    credentials.swap(cluster.node(3));

    assert_eq!(within(ask(&open)).await.expect("an answer").serial, 2, "the same connection");
    let next = server.channel(cluster.client_with(credentials));
    assert_eq!(within(ask(&next)).await.expect("an answer").serial, 3);
}

#[tokio::test]
async fn a_joiner_without_credentials_gets_them_on_its_next_connection() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let credentials = CertReloader::default();
    let tls = cluster.client_with(credentials.clone());
    assert_eq!(within(ask(&server.channel(tls.clone()))).await.expect("an answer").serial, 0);

    credentials.swap(cluster.node(5));

    assert_eq!(within(ask(&server.channel(tls))).await.expect("an answer").serial, 5);
}

/// The serial number of the certificate that the server presents to a new connection.
async fn presented_serial(cluster: &Cluster, address: &str) -> u64 {
    let stream = within(cluster.client().connect(address)).await.expect("connected");
    let (_, leaf) = X509Certificate::from_der(&stream.server_certificates()[0]).expect("a certificate");
    leaf.serial.to_u64_digits()[0]
}
