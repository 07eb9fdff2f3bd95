//! What a container sees of the mesh: names and services' own addresses. Each test has a network namespace to itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use mesh::control::MeshConfig;
use model::id::NetworkId;
use model::route::{Endpoint, NetworkAddress, NetworkRoute};
use tests::require::{Need, can_run};
use tests::wait;

use super::backend::Backend;
use super::namespace::Namespace;
use super::stage::{Authority, LIMIT, Mesh, config, tcp};

const NETWORK: NetworkId = NetworkId(5);
/// What a container of this node would have.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 9);
const GATEWAY: &str = "10.20.1.1";
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 20, 255, 1);

/// A node with one network and a service `ispyb` in it, whose two tasks have containers here.
fn networked(target: u16) -> MeshConfig {
    let mut config = config(tcp(8_000, target), &[1, 2]);
    let own = |address| NetworkAddress { network: NETWORK, address };
    let service = &mut config.table.services[0];
    service.addresses = vec![own(SERVICE)];
    for Endpoint { task, addresses, .. } in &mut service.endpoints {
        *addresses = vec![own(Ipv4Addr::new(10, 20, 2, u8::try_from(task.0).unwrap() + 1))];
    }
    config.table.networks = vec![NetworkRoute {
        network: NETWORK,
        name: "back".into(),
        base: Ipv4Addr::new(10, 20, 0, 0),
        number: 1,
    }];
    config
}

/// A namespace with a mesh in it, its bridge's address, and a container's.
fn stage() -> (Namespace, Mesh) {
    let namespace = Namespace::enter();
    for address in
        ["10.20.1.1/24", "10.20.1.9/32", "10.21.1.9/32", "10.20.255.1/32", "10.20.255.9/32", "10.20.2.3/32"]
    {
        namespace.address(address);
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("resolv.conf"), "nameserver 10.99.0.1\n").unwrap();
    (namespace, Mesh::start_in(dir, &Authority::found(), 1))
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn ask_from(source: Ipv4Addr, name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind((source, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(&question(name, kind), (GATEWAY, 53)).unwrap();
    let mut bytes = [0; 2048];
    let length = socket.recv(&mut bytes).unwrap();
    Message::from_vec(&bytes[..length]).unwrap()
}

fn ask(name: &str, kind: RecordType) -> Message {
    ask_from(HERE, name, kind)
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let address = |record: &Record| match record.data {
        RData::A(rdata::A(address)) => Some(address),
        _ => None,
    };
    message.answers.iter().filter_map(address).collect()
}

/// Answers every question for an outside name with one address, by a datagram and by a connection.
fn serve_outside(namespace: &Namespace) {
    namespace.address("10.99.0.1/32");
    let socket = UdpSocket::bind("10.99.0.1:53").unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((length, asker)) = socket.recv_from(&mut bytes) {
            let mut message = Message::from_vec(&bytes[..length]).unwrap().into_response();
            let name = message.queries[0].name().clone();
            message.add_answer(Record::from_rdata(name, 60, RData::A(rdata::A(Ipv4Addr::new(192, 0, 2, 7)))));
            drop(socket.send_to(&message.to_vec().unwrap(), asker));
        }
    });
}

#[test]
fn a_container_finds_services_by_their_names() {
    if !can_run("a_container_finds_services_by_their_names", &[Need::Root, Need::Network]) {
        return;
    }
    let (namespace, mut mesh) = stage();
    serve_outside(&namespace);
    mesh.serve(&networked(9_000));
    let service = ask("ISPyB.", RecordType::A);
    assert_eq!((addresses(&service), service.answers[0].ttl), (vec![SERVICE], 30));
    let firsts: Vec<Ipv4Addr> = (0..40).map(|_| addresses(&ask("tasks.ispyb.", RecordType::A))[0]).collect();
    assert!(firsts.iter().any(|first| first != &firsts[0]), "the order changes");
    assert_eq!(addresses(&ask("tasks.ispyb.", RecordType::A)).len(), 2);

    let six = ask("ispyb.", RecordType::AAAA);
    assert_eq!(
        (six.metadata.response_code, six.answers.len(), six.authorities.len()),
        (ResponseCode::NoError, 0, 1)
    );
    let unknown = ask("mariadb.", RecordType::A);
    assert_eq!((unknown.metadata.response_code, unknown.authorities.len()), (ResponseCode::NXDomain, 1));
    assert_eq!(addresses(&ask("www.example.org.", RecordType::A)), [Ipv4Addr::new(192, 0, 2, 7)]);
    let stranger = ask_from(Ipv4Addr::new(10, 21, 1, 9), "ispyb.", RecordType::A);
    assert_eq!(stranger.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn a_name_is_answered_by_tcp_too_and_nobody_waits_for_a_dead_resolver() {
    if !can_run("a_name_is_answered_by_tcp_too", &[Need::Root, Need::Network]) {
        return;
    }
    let (_namespace, mut mesh) = stage();
    mesh.serve(&networked(9_000));
    let mut stream = TcpStream::connect((GATEWAY, 53)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    for _ in 0..2 {
        let asked = question("ispyb.", RecordType::A);
        stream.write_all(&[&u16::try_from(asked.len()).unwrap().to_be_bytes(), &asked[..]].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(addresses(&Message::from_vec(&answer).unwrap()), [SERVICE]);
    }
    let begun = Instant::now();
    let outside = ask("www.example.org.", RecordType::A);
    assert_eq!(outside.metadata.response_code, ResponseCode::ServFail);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn a_network_whose_bridge_comes_later_is_served_when_it_does() {
    if !can_run("a_network_whose_bridge_comes_later", &[Need::Root, Need::Network]) {
        return;
    }
    let namespace = Namespace::enter();
    let mut mesh = Mesh::alone();
    let problems = mesh.configure(&networked(9_000));
    assert!(problems.len() == 1 && problems[0].contains("network back"), "{problems:?}");
    namespace.address("10.20.1.1/24");
    wait::until_true("the names", LIMIT, || TcpStream::connect((GATEWAY, 53)).is_ok()).unwrap();
}

#[test]
fn a_service_is_reached_by_its_own_address_from_its_network_only() {
    if !can_run("a_service_is_reached_by_its_own_address", &[Need::Root, Need::Network]) {
        return;
    }
    let (namespace, mut mesh) = stage();
    namespace.nft(
        "table ip t {\n chain o {\n type nat hook output priority -100;\n \
         ip daddr { 10.20.255.0/24, 10.20.2.0/24 } tcp dport 1-65535 redirect to :7422\n }\n}",
    );
    let _backends = [1, 2].map(|task| Backend::start(task, 9_000));
    mesh.serve(&networked(9_000));
    for _ in 0..10 {
        assert!(said(HERE, (SERVICE, 9_000)).starts_with("task "));
    }
    let container = Ipv4Addr::new(10, 20, 2, 3);
    assert_eq!(said(HERE, (container, 9_000)), "task 2", "a container of another node");
    assert_eq!(said(HERE, (SERVICE, 9_001)), "", "nobody listens on that port");
    assert_eq!(said(HERE, (Ipv4Addr::new(10, 20, 255, 9), 9_000)), "", "nobody has that address");
    assert_eq!(said(Ipv4Addr::new(10, 21, 1, 9), (SERVICE, 9_000)), "", "another network");
    assert_eq!(said(HERE, (GATEWAY.parse().unwrap(), 7_422)), "", "the listener itself");
}

/// What is answered to a request from one address to another; nothing when it is closed.
fn said(source: Ipv4Addr, (address, port): (Ipv4Addr, u16)) -> String {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0)).unwrap();
    if rustix::net::connect(&socket, &SocketAddr::from((address, port))).is_err() {
        return String::new();
    }
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = String::new();
    drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    drop(stream.shutdown(std::net::Shutdown::Write));
    drop(stream.read_to_string(&mut answer));
    answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
}
