//! Replicas come and go, and so do the mesh and its agent.

use std::time::Duration;

use super::backend::Backend;
use super::client::{Client, Load, get};
use super::stage::{LIMIT, Mesh, config, free_port, http, tcp, withdrawn};

#[test]
fn a_withdrawn_replica_gets_nothing_new_and_no_request_fails() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backends = [1, 2].map(|task| Backend::start(task, target));
    let both = config(http(port, target), &[1, 2]);
    mesh.serve(&both);
    let load = Load::start(port, 4, "GET", false);
    for _ in 0..5 {
        load.wait_for(100);
        mesh.serve(&withdrawn(&both, 1));
        // What was under way ends before the drain is answered.
        mesh.drain(1);
        assert!(mesh.is_drained(1, LIMIT));
        let before = backends[0].requests();
        load.wait_for(100);
        assert_eq!(backends[0].requests(), before);
        // The task is gone, and another one has its address.
        let mut without = withdrawn(&both, 1);
        without.locals.retain(|local| local.task.0 != 1);
        mesh.serve(&without);
        mesh.serve(&both);
    }
    let (done, failed) = load.stop();
    assert!(failed.is_empty(), "{} of {done}: {failed:?}", failed.len());
}

#[test]
fn a_drain_is_answered_only_when_the_slow_request_is_over() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backend = Backend::start(1, target);
    let mut published = http(port, target);
    published.http.as_mut().unwrap().try_timeout = 3 * LIMIT;
    published.http.as_mut().unwrap().timeout = 3 * LIMIT;
    let both = config(published, &[1]);
    mesh.serve(&both);
    let mut client = Client::connect(port).unwrap();
    client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    tests::wait::until_true("the request", LIMIT, || backend.requests() == 1).unwrap();
    mesh.serve(&withdrawn(&both, 1));
    mesh.drain(1);
    assert!(!mesh.is_drained(1, Duration::from_millis(300)));
    assert_eq!(get(port, "/").status, 503, "it takes nothing new");
    backend.release();
    assert_eq!(client.receive().unwrap().status, 200);
    assert!(mesh.is_drained(1, LIMIT));
}

#[test]
fn an_idle_connection_is_no_reason_to_wait() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    let mut client = Client::connect(port).unwrap();
    client.ask("GET", "/", "", "").unwrap();
    mesh.drain(1);
    assert!(mesh.is_drained(1, LIMIT));
    assert_eq!(client.ask("GET", "/", "", "").unwrap().status, 503, "even before the table says so");
}

#[test]
fn a_connection_under_way_outlives_the_withdrawal() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    let both = config(tcp(port, target), &[1]);
    mesh.serve(&both);
    let mut client = Client::connect(port).unwrap();
    assert_eq!(client.ask("GET", "/", "", "").unwrap().status, 200);
    mesh.serve(&withdrawn(&both, 1));
    assert_eq!(client.ask("GET", "/", "", "").unwrap().status, 200);
    assert!(Client::connect(port).unwrap().is_closed(LIMIT));
    mesh.drain(1);
    assert!(!mesh.is_drained(1, Duration::from_millis(200)));
    drop(client);
    assert!(mesh.is_drained(1, LIMIT));
}

#[test]
fn a_mesh_that_was_killed_serves_again_without_its_agent() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    mesh.process.kill().unwrap();
    drop(mesh.start_again());
    assert_eq!(get(port, "/").body, "task 1");
}

#[test]
fn a_newer_agent_replaces_the_older_one() {
    let mut mesh = Mesh::alone();
    let socket = mesh.dir.path().join("mesh.sock");
    let _newer = std::os::unix::net::UnixStream::connect(socket).unwrap();
    mesh.send(&mesh::control::AgentFrame::Stats);
    let mut ended = false;
    tests::wait::until_true("the older connection to end", LIMIT, || {
        mesh.send(&mesh::control::AgentFrame::Stats);
        ended = ended || !mesh.is_connected();
        ended
    })
    .unwrap();
}

#[test]
fn a_mesh_that_is_told_to_end_finishes_what_is_under_way() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    let mut idle = Client::connect(port).unwrap();
    idle.ask("GET", "/", "", "").unwrap();
    let mut busy = Client::connect(port).unwrap();
    busy.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    tests::wait::until_true("the request", LIMIT, || backend.requests() == 2).unwrap();
    mesh.process.signal(rustix::process::Signal::TERM).unwrap();
    tests::wait::until_true("the port to close", LIMIT, || Client::connect(port).is_err()).unwrap();
    backend.release();
    assert_eq!(busy.receive().unwrap().status, 200);
    assert!(mesh.process.wait_exit(LIMIT).unwrap().success());
    assert!(idle.is_closed(LIMIT));
}

#[test]
fn a_newer_process_takes_over_and_no_connection_is_refused() {
    let (mut mesh, port, raw, target) = (Mesh::alone(), free_port(), free_port(), free_port());
    let backends = [1, 2].map(|task| Backend::start(task, target));
    let mut wanted = config(http(port, target), &[1, 2]);
    wanted.table.services[0].ports.push(tcp(raw, target));
    mesh.serve(&wanted);
    let mut under_way = Client::connect(raw).unwrap();
    under_way.ask("GET", "/", "", "").unwrap();
    let loads =
        [(port, false), (port, true), (raw, true)].map(|(port, fresh)| Load::start(port, 2, "GET", fresh));
    for _ in 0..2 {
        loads.iter().for_each(|load| load.wait_for(100));
        let old = mesh.start_again();
        loads.iter().for_each(|load| load.wait_for(200));
        // The new one obeys from now on.
        mesh.serve(&wanted);
        under_way.ask("GET", "/", "", "").unwrap();
        assert!(old.exited().is_none(), "it carries what is under way");
        under_way = Client::connect(raw).unwrap();
        under_way.ask("GET", "/", "", "").unwrap();
        assert!(old.wait_exit(LIMIT).unwrap().success());
    }
    for load in loads {
        let (done, failed) = load.stop();
        assert!(failed.is_empty(), "{} of {done}: {failed:?}", failed.len());
    }
    assert!(backends.iter().all(|backend| backend.requests() > 0));
}

#[test]
fn a_drain_waits_for_what_the_process_before_still_carries() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(tcp(port, target), &[1]));
    let mut client = Client::connect(port).unwrap();
    client.ask("GET", "/", "", "").unwrap();
    let old = mesh.start_again();
    mesh.drain(1);
    assert!(!mesh.is_drained(1, Duration::from_millis(300)));
    client.ask("GET", "/", "", "").unwrap();
    drop(client);
    assert!(mesh.is_drained(1, LIMIT));
    assert!(old.wait_exit(LIMIT).unwrap().success());
}

#[test]
fn the_only_replica_is_exchanged_under_load_and_nothing_fails() {
    let (mut mesh, port, raw, target) = (Mesh::alone(), free_port(), free_port(), free_port());
    let _backends = [1, 2].map(|task| Backend::start(task, target));
    let only = |task: u64| {
        let mut config = config(http(port, target), &[task]);
        config.table.services[0].ports.push(tcp(raw, target));
        config
    };
    mesh.serve(&only(1));
    let loads =
        [(port, false), (port, true), (raw, true)].map(|(port, fresh)| Load::start(port, 2, "GET", fresh));
    for round in 0..20 {
        let (old, new) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
        let mut both = only(new);
        both.locals.extend(only(old).locals);
        mesh.serve(&both);
        mesh.drain(old);
        assert!(mesh.is_drained(old, LIMIT));
        mesh.serve(&only(new));
        loads.iter().for_each(|load| load.wait_for(20));
    }
    for load in loads {
        let (done, failed) = load.stop();
        assert!(failed.is_empty(), "{} of {done}: {failed:?}", failed.len());
    }
}
