//! The access log of layer 7.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::id::TaskId;
use model::route::{HttpPort, IngressPort};
use serde_json::Value;

use super::backend::Backend;
use super::client::{Client, get};
use super::stage::{Mesh, config, free_port, http, wait_for};

/// A port of which one of so many requests is written.
fn logged(published: u16, target: u16, log: u32) -> IngressPort {
    let settings = HttpPort { log, ..HttpPort::default() };
    IngressPort { http: Some(settings), ..http(published, target) }
}

fn path(mesh: &Mesh) -> PathBuf {
    mesh.dir.path().join("access/access.log")
}

fn text(mesh: &Mesh) -> String {
    fs::read_to_string(path(mesh)).unwrap_or_default()
}

/// The lines, once there are so many.
fn lines(mesh: &Mesh, count: usize) -> Vec<Value> {
    wait_for("the lines to be written", || text(mesh).lines().count() >= count);
    let lines: Vec<Value> = text(mesh).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

/// A header with which a request is read by the library.
const BY_LIBRARY: &str = "TE: trailers\r\n";

#[test]
fn both_readers_write_the_same_line_and_no_secret() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(logged(port, target, 1), &[1]));
    let secret = "/x/rest/s3cret/length?token=s3cret";
    for extra in ["", BY_LIBRARY] {
        let asked = Client::connect(port).unwrap().ask("PUT", secret, extra, "twelve bytes");
        assert_eq!(asked.unwrap().status, 200);
    }
    let lines = lines(&mesh, 2);
    let shape = |line: &Value| {
        let mut line = line.clone();
        for moving in ["time", "client", "total_ms", "upstream_ms"] {
            assert!(line[moving].is_string() || line[moving].as_f64().is_some_and(|ms| ms > 0.0), "{line}");
            line[moving] = Value::Null;
        }
        line.to_string()
    };
    assert_eq!(shape(&lines[0]), shape(&lines[1]));
    let line = &lines[0];
    assert_eq!(
        (&line["method"], &line["host"], &line["path"], &line["status"], &line["bytes"], &line["tries"]),
        (
            &"PUT".into(),
            &"ispyb.example".into(),
            &"/x/rest/*/length?*".into(),
            &200.into(),
            &6.into(),
            &1.into()
        )
    );
    assert_eq!((&line["service"], &line["port"]), (&"ispyb".into(), &port.into()));
    assert_eq!(line["replica"], TaskId(1).to_string());
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["total_ms"].as_f64() >= line["upstream_ms"].as_f64(), "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z') && line.get("cut").is_none(), "{line}");
    assert!(!text(&mesh).contains("s3cret"));
}

#[test]
fn what_a_port_wants_to_be_shown_is_shown() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    let mut open = logged(port, target, 1);
    let settings = open.http.as_mut().unwrap();
    (settings.log_mask, settings.log_query) = (vec!["/keys/*".into()], true);
    mesh.serve(&config(open, &[1]));
    get(port, "/rest/6a1f?a=b");
    lines(&mesh, 1);
    get(port, "/keys/6a1f");
    let lines = lines(&mesh, 2);
    let paths: Vec<&str> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/rest/6a1f?a=b", "/keys/*"]);
}

#[test]
fn nothing_is_written_unless_it_is_wanted() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    for extra in ["", BY_LIBRARY] {
        Client::connect(port).unwrap().ask("GET", "/", extra, "").unwrap();
    }
    mesh.serve(&config(logged(port, target, 1), &[1]));
    get(port, "/wanted");
    assert_eq!(lines(&mesh, 1)[0]["path"], "/wanted");
}

#[test]
fn of_a_share_about_so_many_are_written() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(logged(port, target, 10), &[1]));
    let mut client = Client::connect(port).unwrap();
    for _ in 0..500 {
        client.ask("GET", "/some", "", "").unwrap();
    }
    // Comes after all of them.
    mesh.serve(&config(logged(port, target, 1), &[1]));
    client.ask("GET", "/last", "", "").unwrap();
    wait_for("the last line", || text(&mesh).contains("/last"));
    let written = text(&mesh).lines().count() - 1;
    assert!((15..=100).contains(&written), "{written} of 500");
}

#[test]
fn refusals_second_tries_and_answers_that_break_off_are_seen() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    mesh.serve(&config(logged(port, target, 1), &[]));
    for extra in ["", BY_LIBRARY] {
        assert_eq!(Client::connect(port).unwrap().ask("GET", "/none", extra, "").unwrap().status, 503);
    }
    // No task 1 is there: its connections are refused.
    let _second = Backend::start(2, target);
    mesh.serve(&config(logged(port, target, 1), &[1, 2]));
    for (path, status) in [("/tries", 200), ("/break", 502)] {
        for extra in ["", BY_LIBRARY].repeat(10) {
            let answer = Client::connect(port).unwrap().ask("POST", path, extra, "x").unwrap();
            assert_eq!(answer.status, status, "{path}");
        }
    }
    let lines = lines(&mesh, 42);
    for line in &lines[..2] {
        let seen = (&line["status"], &line["bytes"], &line["replica"], &line["upstream_ms"]);
        assert_eq!(seen, (&503.into(), &20.into(), &Value::Null, &Value::Null), "{line}");
    }
    let of = |path: &str| lines.iter().filter(|line| line["path"] == path).collect::<Vec<_>>();
    assert!(of("/tries").iter().any(|line| line["tries"] == 2), "{lines:?}");
    assert!(of("/tries").iter().all(|line| line["replica"] == TaskId(2).to_string()), "{lines:?}");
    assert!(of("/break").iter().all(|line| line["status"] == 502 && line["replica"].is_string()));
}

#[test]
fn a_client_that_goes_first_and_a_changed_protocol_have_a_line_each() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backend = Backend::start(1, target);
    mesh.serve(&config(logged(port, target, 1), &[1]));
    for (extra, count) in [("", 1), (BY_LIBRARY, 2)] {
        let mut client = Client::connect(port).unwrap();
        client.send(format!("GET /held HTTP/1.1\r\nHost: a\r\n{extra}\r\n").as_bytes()).unwrap();
        wait_for("the request to arrive", || backend.requests() == count);
        drop(client);
        let line = &lines(&mesh, count)[count - 1];
        assert_eq!((&line["status"], &line["cut"]), (&Value::Null, &true.into()), "{line}");
    }
    let mut client = Client::connect(port).unwrap();
    let answer = client.ask("GET", "/socket", "Connection: Upgrade\r\nUpgrade: echo\r\n", "").unwrap();
    assert_eq!(answer.status, 101);
    client.send(b"one").unwrap();
    assert_eq!(client.read(3).unwrap(), b"one");
    assert_eq!(text(&mesh).lines().count(), 2, "it is not over");
    drop(client);
    assert_eq!(lines(&mesh, 3)[2]["status"], 101);
}

#[test]
fn the_files_are_bounded_and_a_process_that_ends_writes_what_waits() {
    let mut mesh = Mesh::with(&["--access-log-size=4000", "--access-log-files=3"]);
    let (port, target) = (free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(logged(port, target, 1), &[1]));
    let mut client = Client::connect(port).unwrap();
    for number in 0..200 {
        client.ask("GET", &format!("/number/{number}"), "", "").unwrap();
    }
    drop(client);
    mesh.process.terminate(Duration::from_secs(20)).unwrap();
    assert!(text(&mesh).contains("/number/199"), "{}", text(&mesh));
    let files: Vec<_> = fs::read_dir(mesh.dir.path().join("access")).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| file.metadata().unwrap().len() <= 4_000));
}

#[test]
fn a_disk_that_fails_delays_no_request_and_what_is_missing_is_said() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backend = Backend::start(1, target);
    mesh.serve(&config(logged(port, target, 1), &[1]));
    // No directory can be made here.
    let place = mesh.dir.path().join("access");
    fs::write(&place, "").unwrap();
    let begun = Instant::now();
    for _ in 0..40 {
        assert_eq!(get(port, "/lost").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    wait_for("the log to be tried", || mesh.process.log_text().contains("cannot be written"));
    fs::remove_file(&place).unwrap();
    let missing = || {
        get(port, "/kept");
        text(&mesh)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["dropped"].as_u64())
            .sum::<u64>()
    };
    let mut missed = missing();
    wait_for("the count of what is missing", || {
        missed = missing();
        missed >= 40
    });
    assert!(text(&mesh).contains("/kept") && !text(&mesh).contains("/lost"), "{}", text(&mesh));
}
