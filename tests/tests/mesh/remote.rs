//! The leg between two nodes.

use std::net::TcpStream;
use std::time::Duration;

use mesh::control::MeshConfig;
use model::id::{NodeId, TaskId};
use tests::wait;

use super::backend::Backend;
use super::client::{Client, Load, get};
use super::stage::{Authority, LIMIT, Mesh, config, free_port, http, peer, tcp};

/// Where a node of a test is dialled.
fn somewhere() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// An ingress node's view of a service whose tasks run on node 2.
fn from_afar(mut config: MeshConfig, dialled_at: Option<String>) -> MeshConfig {
    config.locals.clear();
    config.table.services[0].endpoints.iter_mut().for_each(|endpoint| endpoint.node = NodeId(2));
    config.table.peers = vec![peer(2, dialled_at)];
    config
}

/// The other node's view: it has the tasks and publishes nothing.
fn at_home(mut config: MeshConfig, hub: Option<String>) -> MeshConfig {
    config.table.ingress = false;
    config.table.services[0].endpoints.iter_mut().for_each(|endpoint| endpoint.node = NodeId(2));
    config.table.peers = vec![peer(1, hub)];
    config
}

fn wait_until_served(port: u16) {
    let served = || Client::connect(port).and_then(|mut client| client.ask("GET", "/", "", "")).ok();
    wait::until_true("an answer from afar", LIMIT, || served().is_some_and(|answer| answer.status == 200))
        .unwrap();
}

#[test]
fn a_request_goes_to_a_task_on_another_node() {
    let authority = Authority::found();
    let (mut here, mut there) = (Mesh::start(&authority, 1), Mesh::start(&authority, 2));
    let (port, raw, target, address) = (free_port(), free_port(), free_port(), somewhere());
    let _backend = Backend::start(1, target);
    let mut wanted = config(http(port, target), &[1]);
    wanted.table.services[0].ports.push(tcp(raw, target));
    there.serve(&MeshConfig { listen: Some(address.clone()), ..at_home(wanted.clone(), None) });
    here.serve(&MeshConfig { listen: Some(somewhere()), ..from_afar(wanted, Some(address)) });
    wait_until_served(port);
    assert_eq!((get(port, "/").body.as_str(), get(raw, "/").body.as_str()), ("task 1", "task 1"));
    let body = "z".repeat(8 << 20);
    for port in [port, raw] {
        let answer = Client::connect(port).unwrap().ask("PUT", "/length", "", &body).unwrap();
        assert_eq!(answer.body, body.len().to_string());
    }
    let mut client = Client::connect(port).unwrap();
    client.ask("GET", "/socket", "Connection: Upgrade\r\nUpgrade: echo\r\n", "").unwrap();
    client.send(b"echo").unwrap();
    assert_eq!(client.read(4).unwrap(), b"echo");
}

#[test]
fn a_node_that_only_dials_out_serves_its_tasks_all_the_same() {
    let authority = Authority::found();
    let (mut hub, mut workstation) = (Mesh::start(&authority, 1), Mesh::start(&authority, 2));
    let (port, target, address) = (free_port(), free_port(), somewhere());
    let _backend = Backend::start(1, target);
    let wanted = config(http(port, target), &[1]);
    hub.serve(&MeshConfig { listen: Some(address.clone()), ..from_afar(wanted.clone(), None) });
    assert_eq!(get(port, "/").status, 503);
    workstation.serve(&at_home(wanted, Some(address)));
    wait_until_served(port);
    let load = Load::start(port, 4, "GET", false);
    load.wait_for(200);
    // A hub that was killed is dialled again.
    hub.process.kill().unwrap();
    drop(load.stop());
    drop(hub.start_again());
    wait_until_served(port);
}

#[test]
fn a_hub_is_replaced_without_a_failed_request_to_a_node_that_only_dials_out() {
    let authority = Authority::found();
    let (mut hub, mut workstation) = (Mesh::start(&authority, 1), Mesh::start(&authority, 2));
    let (port, target, address) = (free_port(), free_port(), somewhere());
    let _backend = Backend::start(1, target);
    let wanted = config(http(port, target), &[1]);
    hub.serve(&MeshConfig { listen: Some(address.clone()), ..from_afar(wanted.clone(), None) });
    workstation.serve(&at_home(wanted, Some(address)));
    wait_until_served(port);
    let load = Load::start(port, 3, "GET", false);
    load.wait_for(100);
    let old = hub.start_again();
    load.wait_for(300);
    assert!(old.wait_exit(LIMIT).unwrap().success());
    load.wait_for(100);
    let old = workstation.start_again();
    load.wait_for(300);
    assert!(old.wait_exit(LIMIT).unwrap().success());
    load.wait_for(100);
    let (done, failed) = load.stop();
    assert!(failed.is_empty(), "{} of {done}: {failed:?}", failed.len());
}

#[test]
fn a_task_that_is_not_there_is_refused_at_once() {
    let authority = Authority::found();
    let (mut here, mut there) = (Mesh::start(&authority, 1), Mesh::start(&authority, 2));
    let (port, target, address) = (free_port(), free_port(), somewhere());
    let _backends = [1, 2].map(|task| Backend::start(task, target));
    let both = config(http(port, target), &[1, 2]);
    let mut one = at_home(both.clone(), None);
    one.locals.retain(|local| local.task == TaskId(2));
    there.serve(&MeshConfig { listen: Some(address.clone()), ..one });
    here.serve(&from_afar(both, Some(address)));
    wait_until_served(port);
    for _ in 0..20 {
        assert_eq!(get(port, "/").body, "task 2");
    }
    there.drain(2);
    // The connection that was kept for the next request is given up first.
    assert!(there.is_drained(2, LIMIT));
    assert_eq!(get(port, "/").status, 503, "what drains is opened for nobody");
}

#[test]
fn a_drain_waits_for_streams_from_other_nodes() {
    let authority = Authority::found();
    let (mut here, mut there) = (Mesh::start(&authority, 1), Mesh::start(&authority, 2));
    let (port, target, address) = (free_port(), free_port(), somewhere());
    let _backend = Backend::start(1, target);
    let wanted = config(tcp(port, target), &[1]);
    there.serve(&MeshConfig { listen: Some(address.clone()), ..at_home(wanted.clone(), None) });
    here.serve(&from_afar(wanted, Some(address)));
    wait_until_served(port);
    let mut client = Client::connect(port).unwrap();
    client.ask("GET", "/", "", "").unwrap();
    there.drain(1);
    assert!(!there.is_drained(1, Duration::from_millis(200)));
    client.ask("GET", "/", "", "").unwrap();
    drop(client);
    assert!(there.is_drained(1, LIMIT));
}

#[test]
fn a_withdrawal_closes_idle_connections_on_the_other_node() {
    let authority = Authority::found();
    let (mut here, mut there) = (Mesh::start(&authority, 1), Mesh::start(&authority, 2));
    let (port, target, address) = (free_port(), free_port(), somewhere());
    let _backend = Backend::start(1, target);
    let wanted = config(http(port, target), &[1]);
    there.serve(&MeshConfig { listen: Some(address.clone()), ..at_home(wanted.clone(), None) });
    let view = from_afar(wanted, Some(address));
    here.serve(&view);
    wait_until_served(port);
    here.serve(&super::stage::withdrawn(&view, 1));
    there.drain(1);
    assert!(there.is_drained(1, Duration::from_secs(2)), "no idle connection is waited for");
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let (mut here, mut there) = (Mesh::start(&Authority::found(), 1), Mesh::start(&Authority::found(), 2));
    let (port, target, address) = (free_port(), free_port(), somewhere());
    let backend = Backend::start(1, target);
    let wanted = config(http(port, target), &[1]);
    there.serve(&MeshConfig { listen: Some(address.clone()), ..at_home(wanted.clone(), None) });
    here.serve(&from_afar(wanted, Some(address)));
    there.process.wait_for_line("refused", LIMIT).unwrap();
    here.process.wait_for_line("not connected", LIMIT).unwrap();
    assert_eq!((get(port, "/").status, backend.requests()), (503, 0));
}

#[test]
fn another_node_than_the_expected_one_is_not_trusted_with_a_request() {
    let authority = Authority::found();
    let (mut here, mut other) = (Mesh::start(&authority, 1), Mesh::start(&authority, 3));
    let (port, target, address) = (free_port(), free_port(), somewhere());
    let backend = Backend::start(1, target);
    let wanted = config(http(port, target), &[1]);
    other.serve(&MeshConfig { listen: Some(address.clone()), ..at_home(wanted.clone(), None) });
    here.serve(&from_afar(wanted, Some(address)));
    here.process.wait_for_line("the other side is orch://", LIMIT).unwrap();
    assert_eq!((get(port, "/").status, backend.requests()), (503, 0));
}

#[test]
fn who_says_nothing_to_the_other_nodes_port_is_cut_off() {
    let mut there = Mesh::alone();
    let address = somewhere();
    there.serve(&MeshConfig { listen: Some(address.clone()), ..MeshConfig::default() });
    let mut silent = TcpStream::connect(&address).unwrap();
    silent.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(matches!(std::io::Read::read(&mut silent, &mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_removed_nodes_connections_end_and_its_certificate_opens_none() {
    let authority = Authority::found();
    let (mut here, mut there) = (Mesh::start(&authority, 1), Mesh::start(&authority, 2));
    let (port, target, address) = (free_port(), free_port(), somewhere());
    let backend = Backend::start(1, target);
    let wanted = config(http(port, target), &[1]);
    let mut home = MeshConfig { listen: Some(address.clone()), ..at_home(wanted.clone(), None) };
    there.serve(&home);
    here.serve(&from_afar(wanted, Some(address)));
    wait_until_served(port);
    let mut hung = Client::connect(port).unwrap();
    hung.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait::until_true("a request that hangs", LIMIT, || backend.requests() >= 2).unwrap();

    home.table.removed = vec![NodeId(1)];
    there.serve(&home);
    here.process.wait_for_line("disconnected", LIMIT).unwrap();
    there.process.wait_for_line("was removed from the cluster", LIMIT).unwrap();
    assert_eq!(get(port, "/").status, 503);
}
