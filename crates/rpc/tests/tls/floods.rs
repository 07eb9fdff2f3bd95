//! Floods by who has no certificate: what they cost is bounded, and who has one does not notice.

use std::io::ErrorKind;
use std::time::Duration;

use model::id::NodeId;
use model::identity::Identity;
use rpc::tls::ClientTls;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::cluster::{Cluster, RunningServer, ask, within};

/// A connection from another address than the tests' clients have.
async fn from_elsewhere(server: &RunningServer) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("loopback is 127.0.0.0/8");
    socket.connect(server.address).await.expect("connected")
}

fn anonymous(cluster: &Cluster) -> ClientTls {
    ClientTls::anonymous(cluster.ca_pem()).expect("settings")
}

#[tokio::test]
async fn an_address_that_never_ends_its_handshakes_holds_half_of_the_places() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(from_elsewhere(&server).await);
    }
    let mut last = silent.pop().expect("300 connections");
    let end = within(last.read_u8()).await.expect_err("closed at once");
    assert!(matches!(end.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end}");
    let first = silent[0].try_read(&mut [0]).expect_err("still waits for its first byte");
    assert_eq!(first.kind(), ErrorKind::WouldBlock);
    within(ask(&server.channel(cluster.client()))).await.expect("another address has its places");
}

#[tokio::test]
async fn connections_without_a_certificate_are_bounded_and_those_with_one_are_not() {
    let cluster = Cluster::new(1);
    let server = cluster.serve().await;
    let mut strangers = Vec::new();
    for _ in 0..256 {
        strangers
            .push(within(anonymous(&cluster).connect(&server.address.to_string())).await.expect("connected"));
    }
    within(async {
        while server.connections.count() < 256 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    within(ask(&server.channel(anonymous(&cluster)))).await.expect_err("one stranger too many");
    let known = within(ask(&server.channel(cluster.client()))).await.expect("a node is no stranger");
    assert_eq!(known.identity, Identity::Node(NodeId(7)).to_string());
}

#[tokio::test]
async fn a_stranger_who_is_allowed_nothing_is_cut_off_and_a_node_is_not() {
    let cluster = Cluster::new(1);
    let server = cluster.serve_patiently(Duration::from_millis(200)).await;
    let address = server.address.to_string();
    let _node = within(cluster.client().connect(&address)).await.expect("connected");
    let mut stranger = within(anonymous(&cluster).connect(&address)).await.expect("connected");
    let end = within(stranger.read_to_end(&mut Vec::new())).await.expect_err("cut in the middle");
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{end}");
    let left = server.connections.disconnect(|peer| matches!(peer.identity(), Identity::Node(_)));
    assert_eq!(left, 1, "the node is left");
}
