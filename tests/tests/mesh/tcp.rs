//! Layer 4.

use std::time::Duration;

use tests::wait;

use super::backend::Backend;
use super::client::{Client, Load, get};
use super::stage::{LIMIT, Mesh, config, free_port, tcp};

#[test]
fn connections_are_spread_over_the_replicas() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backends = [1, 2].map(|task| Backend::start(task, target));
    mesh.serve(&config(tcp(port, target), &[1, 2]));
    for _ in 0..40 {
        assert_eq!(get(port, "/").status, 200);
    }
    assert!(backends.iter().all(|backend| backend.requests() >= 5), "{:?}", backends.map(|b| b.requests()));
}

#[test]
fn a_dead_replica_costs_no_new_connection() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backends = [1, 2].map(|task| Backend::start(task, target));
    mesh.serve(&config(tcp(port, target), &[1, 2]));
    backends[0].kill();
    for _ in 0..40 {
        assert_eq!(get(port, "/").body, "task 2");
    }
    let stats = mesh.stats(1).unwrap();
    assert!(stats.ejected && stats.failed < 5, "{stats:?}");
}

#[test]
fn new_connections_survive_the_death_of_a_replica_under_load() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backends = [1, 2].map(|task| Backend::start(task, target));
    mesh.serve(&config(tcp(port, target), &[1, 2]));
    let load = Load::start(port, 4, "GET", true);
    load.wait_for(200);
    backends[0].kill();
    load.wait_for(400);
    let (done, failed) = load.stop();
    // Those that were under way on the dead one: one for each client at most.
    assert!(failed.len() <= 4, "{} of {done}: {failed:?}", failed.len());
}

#[test]
fn without_a_replica_a_connection_is_closed_at_once() {
    let (mut mesh, port) = (Mesh::alone(), free_port());
    mesh.serve(&config(tcp(port, free_port()), &[]));
    assert!(Client::connect(port).unwrap().is_closed(Duration::from_secs(2)));
}

#[test]
fn a_container_learns_the_client_by_the_proxy_protocol() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let listener = std::net::TcpListener::bind((super::stage::address_of(1), target)).unwrap();
    let mut published = tcp(port, target);
    published.proxy_protocol = true;
    mesh.serve(&config(published, &[1]));
    let mut client = Client::connect(port).unwrap();
    client.send(b"hello").unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let mut bytes = [0; 33];
    std::io::Read::read_exact(&mut accepted, &mut bytes).unwrap();
    assert_eq!((bytes[12], bytes[13], &bytes[16..20]), (0x21, 0x11, &[127, 0, 0, 1][..]));
    assert_eq!(bytes[26..28], port.to_be_bytes());
    assert_eq!(&bytes[28..], b"hello");
}

#[test]
fn a_taken_port_is_a_problem_until_it_is_free_and_hinders_no_other() {
    let (mut mesh, port, other, target) = (Mesh::alone(), free_port(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    let holder = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    let mut wanted = config(tcp(port, target), &[1]);
    wanted.table.services[0].ports.push(tcp(other, target));
    let problems = mesh.configure(&wanted);
    assert!(problems.len() == 1 && problems[0].contains(&format!("port {port}")), "{problems:?}");
    assert_eq!(get(other, "/").status, 200);
    drop(holder);
    wait::until_true("the port to be taken", LIMIT, || Client::connect(port).is_ok()).unwrap();
    assert_eq!(get(port, "/").status, 200);
}

#[test]
fn bulk_passes_whole_both_ways() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(tcp(port, target), &[1]));
    let body = "x".repeat(8 << 20);
    let answer = Client::connect(port).unwrap().ask("PUT", "/length", "", &body).unwrap();
    assert_eq!(answer.body, body.len().to_string());
}
