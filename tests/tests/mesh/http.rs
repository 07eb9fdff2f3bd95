//! Layer 7.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use model::id::ServiceId;
use model::route::HttpPort;

use super::backend::Backend;
use super::client::{Client, Load, get};
use super::stage::{Mesh, config, free_port, http, sticky};

fn two(target: u16) -> [Backend; 2] {
    [1, 2].map(|task| Backend::start(task, target))
}

#[test]
fn requests_of_one_connection_are_spread_over_the_replicas() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backends = two(target);
    mesh.serve(&config(http(port, target), &[1, 2]));
    let mut client = Client::connect(port).unwrap();
    for _ in 0..60 {
        assert_eq!(client.ask("GET", "/", "", "").unwrap().status, 200);
    }
    assert!(backends.iter().all(|backend| backend.requests() >= 10), "{:?}", backends.map(|b| b.requests()));
    // A connection to a replica is kept for the next request.
    assert!(backends.iter().all(|backend| backend.connections() <= 2));
}

#[test]
fn no_repeatable_request_fails_when_a_replica_is_killed_under_load() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backends = two(target);
    mesh.serve(&config(http(port, target), &[1, 2]));
    let loads = ["GET", "PUT"].map(|method| Load::start(port, 3, method, false));
    loads.iter().for_each(|load| load.wait_for(300));
    backends[0].kill();
    loads.iter().for_each(|load| load.wait_for(600));
    for load in loads {
        let (done, failed) = load.stop();
        assert!(failed.is_empty(), "{} of {done}: {failed:?}", failed.len());
    }
    assert!(mesh.stats(1).unwrap().ejected);
}

#[test]
fn twenty_of_twenty_clients_stay_with_their_replica() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backends = two(target);
    mesh.serve(&config(sticky(port, target), &[1, 2]));
    let mut replicas = BTreeSet::new();
    for client in 0..20 {
        let first = get(port, "/");
        let cookie = first.cookie().expect("a cookie");
        replicas.insert(first.body.clone());
        for _ in 0..5 {
            let mut again = Client::connect(port).unwrap();
            let headers = format!("Cookie: JSESSIONID=7; {cookie}\r\n");
            let answer = again.ask("GET", "/", &headers, "").unwrap();
            assert_eq!((&answer.body, answer.cookie()), (&first.body, None), "client {client}");
        }
    }
    assert_eq!(replicas.len(), 2);
}

#[test]
fn a_sticky_client_moves_when_its_replica_is_gone_and_the_cookie_says_nothing() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backends = two(target);
    let both = config(sticky(port, target), &[1, 2]);
    mesh.serve(&both);
    let first = get(port, "/session");
    let ours = first.head.lines().find(|line| line.contains("orch_")).expect("a cookie");
    assert!(ours.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{ours}");
    assert!(first.head.contains("JSESSIONID=1.a"), "{}", first.head);
    let cookie = first.cookie().unwrap();
    let headers = format!("Cookie: {cookie}\r\n");
    let on = Client::connect(port).unwrap().ask("GET", "/", &headers, "").unwrap().body;
    let task: u64 = on.strip_prefix("task ").unwrap().parse().unwrap();
    let value = cookie.split_once('=').unwrap().1;
    assert!(!value.contains(&model::id::TaskId(task).to_string()) && value.len() == 18, "{value}");
    mesh.serve(&super::stage::withdrawn(&both, task));
    let moved = Client::connect(port).unwrap().ask("GET", "/", &headers, "").unwrap();
    assert_ne!(moved.body, on);
    assert!(moved.cookie().is_some_and(|fresh| fresh != cookie));
}

#[test]
fn without_a_replica_the_answer_is_503_at_once() {
    let (mut mesh, port) = (Mesh::alone(), free_port());
    mesh.serve(&config(http(port, free_port()), &[]));
    let begun = Instant::now();
    let answer = get(port, "/");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn with_dead_replicas_only_the_answer_is_503() {
    let (mut mesh, port) = (Mesh::alone(), free_port());
    mesh.serve(&config(http(port, free_port()), &[1, 2]));
    assert_eq!(get(port, "/").status, 503);
}

#[test]
fn a_replica_that_never_answers_costs_504_in_the_given_time() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backend = Backend::start(1, target);
    let mut published = http(port, target);
    let millis = Duration::from_millis;
    published.http = Some(HttpPort { try_timeout: millis(200), timeout: millis(500), ..HttpPort::default() });
    mesh.serve(&config(published, &[1]));
    let begun = Instant::now();
    assert_eq!(get(port, "/never").status, 504);
    assert!(begun.elapsed() >= millis(200) && begun.elapsed() < millis(2_000), "{:?}", begun.elapsed());
    assert_eq!(backend.requests(), 1);
}

#[test]
fn what_may_have_been_done_is_not_done_twice() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backends = two(target);
    mesh.serve(&config(http(port, target), &[1, 2]));
    let answer = Client::connect(port).unwrap().ask("POST", "/break", "", "order one").unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(backends.iter().map(Backend::requests).sum::<usize>(), 1);
    assert_eq!(get(port, "/break").status, 502);
    assert_eq!(backends.iter().map(Backend::requests).sum::<usize>(), 3, "both were tried");
}

#[test]
fn a_write_that_was_never_sent_goes_to_another_replica() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(2, target);
    mesh.serve(&config(http(port, target), &[1, 2]));
    for _ in 0..10 {
        let answer = Client::connect(port).unwrap().ask("POST", "/length", "", "order one").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "9"));
    }
}

#[test]
fn a_replica_sees_the_client_and_not_what_the_client_claims() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    let claims = "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nConnection: X-Gone\r\nX-Gone: 1\r\n";
    let head =
        Client::connect(port).unwrap().ask("GET", "/head?q=1", claims, "").unwrap().body.to_lowercase();
    assert!(head.starts_with("get /head?q=1 http/1.1\r\n"), "{head}");
    for expected in [
        "host: ispyb.example",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: ispyb.example",
    ] {
        assert!(head.lines().any(|line| line == expected), "{expected}: {head}");
    }
    assert!(!head.contains("1.2.3.4") && !head.contains("x-gone"), "{head}");
}

#[test]
fn several_services_share_a_port_by_path() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backends = two(target);
    let mut wanted = config(http(port, target), &[1]);
    let mut other = config(http(port, target), &[2]).table.services.remove(0);
    other.service = ServiceId(2);
    other.ports[0].http = Some(HttpPort { path: "/exi".into(), ..HttpPort::default() });
    wanted.table.services.push(other);
    wanted.locals.extend(config(http(port, target), &[2]).locals);
    mesh.serve(&wanted);
    for (path, name) in [("/", "task 1"), ("/exi", "task 2"), ("/exi/a", "task 2"), ("/exit", "task 1")] {
        assert_eq!(get(port, path).body, name, "{path}");
    }
}

#[test]
fn a_large_upload_in_chunks_arrives_whole() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    let mut client = Client::connect(port).unwrap();
    client.send(b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    for _ in 0..200 {
        client.send(&chunk).unwrap();
    }
    client.send(b"0\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().body, (200 * 0x10000).to_string());
    let body = "y".repeat(3 << 20);
    assert_eq!(client.ask("PUT", "/length", "", &body).unwrap().body, body.len().to_string());
}

#[test]
fn a_connection_changes_its_protocol_and_carries_both_ways() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    let mut client = Client::connect(port).unwrap();
    let answer = client.ask("GET", "/socket", "Connection: Upgrade\r\nUpgrade: echo\r\n", "").unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("echo")));
    for message in ["one", "two"] {
        client.send(message.as_bytes()).unwrap();
        assert_eq!(client.read(3).unwrap(), message.as_bytes());
    }
    assert_eq!(mesh.stats(1).unwrap().in_flight, 1);
}

#[test]
fn who_sends_a_head_too_slowly_is_cut_off_and_who_sends_too_much_is_refused() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    let mut slow = Client::connect(port).unwrap();
    slow.send(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
    let mut silent = Client::connect(port).unwrap();
    let many: String = (0..150).map(|number| format!("X-{number}: 1\r\n")).collect();
    assert_eq!(Client::connect(port).unwrap().ask("GET", "/", &many, "").unwrap().status, 431);
    let long = format!("X-Long: {}\r\n", "x".repeat(70_000));
    // It may hang up before all was sent.
    let refused = Client::connect(port).unwrap().ask("GET", "/", &long, "");
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 431));
    let begun = Instant::now();
    // What comes before the end is the refusal in words.
    let told = slow.receive();
    assert!(told.is_err() || told.is_ok_and(|answer| answer.status == 408));
    assert!(silent.is_closed(Duration::from_secs(20)));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(backend.requests(), 0);
}

#[test]
fn an_answer_to_head_has_its_length_and_no_body() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    let mut client = Client::connect(port).unwrap();
    for _ in 0..3 {
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = client.receive_head().unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, Some("6")));
        assert_eq!(client.ask("GET", "/", "", "").unwrap().body, "task 1");
    }
}
