//! Layer 7 has two readers of HTTP/1.1: its own for most requests, the library for all others. Whatever is sent, replicas and clients
//! must see the same of both.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::backend::{self, Backend};
use super::client::Client;
use super::stage::{Mesh, address_of, config, free_port, http, sticky};

/// How connections begin: the first leaves the next request to our reader, after the second everything is the library's. Either leaves
/// a connection to the replica that waits for the next request.
const OPENERS: [&str; 2] =
    ["GET /zero HTTP/1.1\r\nHost: h\r\n\r\n", "GET /zero HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n"];
/// After this a connection is closed.
const LAST: &str = "GET /zz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
/// For a connection on which the last request became part of another one.
const QUIET: Duration = Duration::from_millis(300);

/// What a replica answers, by the first letter of the path; `!`: and hangs up.
const ANSWERS: [(&str, &str); 17] = [
    ("/a", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nhello"),
    (
        "/b",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6; x=1\r\n world\r\n0\r\n\r\n",
    ),
    (
        "/c",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    ),
    ("/d", "!HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end"),
    ("/e", "!HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nuntil the end"),
    ("/f", "HTTP/1.1 204 No Content\r\nX-One: 1\r\n\r\n"),
    ("/g", "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"),
    ("/h", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("/i", "HTTP/1.1 404 Nothing Here\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"),
    (
        "/j",
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nContent-Length: 1\r\n\r\nx",
    ),
    ("/k", "!HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ntoo little"),
    ("/l", "!HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ("/m", "!nonsense\r\n\r\n"),
    ("/n", "!HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    ("/o", "!"),
    ("/p", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ("/q", "HTTP/1.1 200\r\nContent-Length: 2\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nok"),
];

/// A request as it came, its fields sorted.
type Seen = (String, Vec<String>, Vec<u8>);
/// An answer: its status line, its fields sorted, its body, whether that is whole.
type Said = (String, Vec<String>, Vec<u8>, bool);

/// A mesh before a replica that writes down what it is asked.
struct Pair {
    _mesh: Mesh,
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Pair {
    fn start() -> Self {
        let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (listener, noted) = (TcpListener::bind((address_of(1), target)).unwrap(), seen.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = noted.clone();
                thread::spawn(move || answer(&noted, &stream));
            }
        });
        mesh.serve(&config(http(port, target), &[1]));
        Self { _mesh: mesh, port, seen }
    }

    /// Sends bytes on a new connection, by the library's reader or not: what the replica saw, and what came back.
    fn send(&self, bytes: &[u8], by_library: bool) -> (Vec<Seen>, Vec<Said>) {
        let mut client = Client::connect(self.port).unwrap();
        client.send(OPENERS[usize::from(by_library)].as_bytes()).unwrap();
        assert_eq!(client.receive().unwrap().status, 200);
        self.seen.lock().unwrap().clear();
        client.send(bytes).unwrap();
        // It may have hung up already.
        drop(client.send(LAST.as_bytes()));
        let came = client.read_all(QUIET);
        let is_to_head = bytes.starts_with(b"HEAD");
        (std::mem::take(&mut *self.seen.lock().unwrap()), said(&came, is_to_head))
    }

    fn check(&self, request: &str) {
        let [ours, library] = [false, true].map(|by_library| self.send(request.as_bytes(), by_library));
        assert_eq!(ours.0, library.0, "what the replica saw of {request:?}");
        assert_eq!(ours.1, library.1, "what came back for {request:?}");
    }
}

fn answer(seen: &Mutex<Vec<Seen>>, mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = backend::read(&mut reader) {
        let mut lines = request.head.trim_end().split("\r\n").map(str::to_owned);
        let line = lines.next().unwrap();
        seen.lock().unwrap().push((line, sorted(lines), request.body));
        let known = ANSWERS.iter().find(|(path, _)| request.target.starts_with(path));
        let text = known.map_or("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", |(_, text)| text);
        let (text, hangs_up) = text.strip_prefix('!').map_or((text, false), |text| (text, true));
        let end = text.find("\r\n\r\n").map_or(text.len(), |end| end + 4);
        let text = if request.method == "HEAD" { &text[..end] } else { text };
        if stream.write_all(text.as_bytes()).is_err() || hangs_up {
            break;
        }
    }
    drop(stream.shutdown(Shutdown::Both));
}

fn sorted(fields: impl Iterator<Item = String>) -> Vec<String> {
    let lower = |field: String| match field.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
        None => field,
    };
    let mut fields: Vec<String> = fields.map(lower).collect();
    fields.sort();
    fields
}

/// Reads answers as a client does.
fn said(mut bytes: &[u8], is_to_head: bool) -> Vec<Said> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n").map(str::to_owned);
        let line = lines.next().unwrap();
        let mut fields = sorted(lines);
        let value = |name: &str| fields.iter().find_map(|field| field.strip_prefix(name)).map(str::to_owned);
        let (length, chunked) = (value("content-length: "), value("transfer-encoding: chunked").is_some());
        let has_none =
            all.is_empty() && is_to_head || [" 204", " 304"].iter().any(|code| line.contains(code));
        let (body, is_whole) = match length {
            _ if has_none => (Vec::new(), true),
            _ if chunked => unchunked(&mut bytes),
            Some(length) => {
                let length: usize = length.parse().unwrap();
                let body = bytes[..length.min(bytes.len())].to_vec();
                bytes = &bytes[body.len()..];
                let is_whole = body.len() == length;
                (body, is_whole)
            }
            None => (std::mem::take(&mut bytes).to_vec(), true),
        };
        // How a body is framed is each connection's own business.
        fields.retain(|field| !field.starts_with("date: ") && !field.starts_with("transfer-encoding: "));
        all.push((line, fields, body, is_whole));
    }
    assert!(bytes.is_empty(), "{:?}", String::from_utf8_lossy(bytes));
    // How much comes of an answer that breaks off is left to chance. That it is not taken for a whole one is not.
    all.retain(|(.., is_whole)| *is_whole);
    all
}

fn unchunked(bytes: &mut &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]).split(';').next().unwrap().trim().to_owned();
        let size = usize::from_str_radix(&size, 16).unwrap();
        let rest = &bytes[end + 2..];
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..size.min(rest.len())]);
            *bytes = &[];
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        *bytes = &rest[size + 2..];
        if size == 0 {
            return (body, true);
        }
    }
    *bytes = &[];
    (body, false)
}

#[test]
fn every_kind_of_answer_comes_back_the_same() {
    let pair = Pair::start();
    for (path, _) in ANSWERS {
        for method in ["GET", "HEAD", "DELETE"] {
            pair.check(&format!("{method} {path}?q=1 HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n"));
        }
        pair.check(&format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\norder"));
    }
}

#[test]
fn every_kind_of_request_reaches_the_replica_the_same() {
    let pair = Pair::start();
    let lines = [
        "GET /a",
        "POST /a",
        "PUT /b",
        "OPTIONS /a/b%20c?d=e&f",
        "HEAD /a",
        "PATCH /a",
        "GET //a",
        "BREW /a",
    ];
    let fields = [
        "",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 4\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length:5 \r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
        "X: a\r\n b\r\n",
        "Connection: keep-alive, X-Gone\r\nX-Gone: 1\r\n",
        "Connection: keep-alive\r\nKeep-Alive: 9\r\n",
        "Connection: close\r\n",
        "X-Forwarded-For: 9.9.9.9\r\nX-Real-Ip: 9\r\nForwarded: x\r\nX-Forwarded-Port: 1\r\n",
        "Proxy-Authorization: x\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n",
        "Cookie: a=b\r\nCookie: c=d\r\n",
        "Cookie: a=b; c=d\r\nx-twice: 1\r\nX-Twice: 2\r\n",
        "Host: other\r\n",
        "X-Empty:\r\nX-Tab:\ta\tb \r\n",
        "X-Eight: \u{e9}\r\n",
    ];
    for line in lines {
        for fields in fields {
            let body = if fields.contains("chunked") && !fields.contains("xc") {
                "5\r\nhello\r\n0\r\n\r\n"
            } else if fields.contains("ength") && !fields.contains(": 0\r") {
                "hello"
            } else {
                ""
            };
            pair.check(&format!("{line} HTTP/1.1\r\nHost: h.example:80\r\n{fields}\r\n{body}"));
        }
    }
    for whole in [
        "GET /a HTTP/1.0\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\n\r\n",
        "GET http://h/a HTTP/1.1\r\nHost: other\r\n\r\n",
        "GET /a HTTP/1.1\nHost: h\n\n",
        "\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\nPOST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGARBAGE\r\n\r\n",
    ] {
        pair.check(whole);
    }
}

/// Bytes that readers of heads have disagreed about.
const SLY: &[u8] = b" \t\r\n:,;0+-x\0\x0b\x7f\x80\xff/%\"(";

#[test]
fn a_request_with_sly_bytes_is_understood_by_both_readers_the_same() {
    let pair = Pair::start();
    let requests = [
        "POST /a?b=c HTTP/1.1\r\nHost: h.example\r\nContent-Length: 5\r\nX-One: 1\r\nCookie: a=b\r\n\r\nhello",
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\n",
        "PUT /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    let cases = std::env::var("ORCH_SLY_CASES").map_or(90, |cases| cases.parse().unwrap());
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for case in 0..cases {
        let mut request = requests[case % requests.len()].as_bytes().to_vec();
        for _ in 0..=draw(2) {
            // The head still ends where it ended, or most cases would only wait for more.
            let head = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
            let at = draw(head.max(1));
            match draw(3) {
                0 => request[at] = SLY[draw(SLY.len())],
                1 => request.insert(at, SLY[draw(SLY.len())]),
                _ => drop(request.remove(at)),
            }
        }
        let [ours, library] = [false, true].map(|by_library| pair.send(&request, by_library));
        assert_eq!(ours, library, "{:?}", String::from_utf8_lossy(&request));
    }
}

#[test]
fn a_request_in_single_bytes_is_the_same_request() {
    let pair = Pair::start();
    let request = "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let whole = pair.send(request.as_bytes(), false);
    let mut client = Client::connect(pair.port).unwrap();
    pair.seen.lock().unwrap().clear();
    for byte in format!("{request}{LAST}").bytes() {
        client.send(&[byte]).unwrap();
    }
    let came = client.read_all(QUIET);
    assert_eq!((std::mem::take(&mut *pair.seen.lock().unwrap()), said(&came, false)), whole);
}

#[test]
fn a_long_answer_arrives_whole_at_a_client_that_reads_slowly() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let listener = TcpListener::bind((address_of(1), target)).unwrap();
    let body: Vec<u8> = (0..8 << 20).map(|index| (index % 251) as u8).collect();
    let sent = body.clone();
    thread::spawn(move || {
        for (count, stream) in listener.incoming().flatten().enumerate() {
            let mut reader = BufReader::new(&stream);
            while let Some(request) = backend::read(&mut reader) {
                let text = if request.target == "/chunks" {
                    let chunks = sent
                        .chunks(100_000)
                        .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
                    [
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
                        chunks.collect::<Vec<_>>().concat(),
                        b"0\r\n\r\n".to_vec(),
                    ]
                    .concat()
                } else {
                    [
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Connection: {count}\r\n\r\n",
                            sent.len()
                        )
                        .into_bytes(),
                        sent.clone(),
                    ]
                    .concat()
                };
                if (&stream).write_all(&text).is_err() {
                    break;
                }
            }
        }
    });
    mesh.serve(&config(http(port, target), &[1]));
    let mut client = Client::connect(port).unwrap();
    for path in ["/length", "/chunks", "/length"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        let head = client.receive_head().unwrap();
        let mut came = Vec::new();
        if path == "/length" {
            // The replica's connection goes on with the next request.
            assert_eq!(head.header("x-connection"), Some("0"));
            came = client.read(body.len()).unwrap();
        } else {
            for chunk in body.chunks(100_000) {
                let line = format!("{:x}\r\n", chunk.len());
                assert_eq!(client.read(line.len()).unwrap(), line.as_bytes());
                came.extend(client.read(chunk.len()).unwrap());
                assert_eq!(client.read(2).unwrap(), b"\r\n");
            }
            assert_eq!(client.read(5).unwrap(), b"0\r\n\r\n");
        }
        assert!(came == body, "{path}");
    }
    super::stage::wait_for("the end of the last", || mesh.stats(1).unwrap().in_flight == 0);
}

#[test]
fn a_client_that_leaves_before_its_answer_leaves_nothing_under_way() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let backend = Backend::start(1, target);
    mesh.serve(&config(http(port, target), &[1]));
    let mut client = Client::connect(port).unwrap();
    client.send(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    super::stage::wait_for("the request", || backend.requests() == 1);
    assert_eq!(mesh.stats(1).unwrap().in_flight, 1);
    drop(client);
    super::stage::wait_for("its end", || mesh.stats(1).unwrap().in_flight == 0);
    backend.release();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_answer_ends_it_at_the_replica() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let listener = TcpListener::bind((address_of(1), target)).unwrap();
    mesh.serve(&config(http(port, target), &[1]));
    let replica = thread::spawn(move || {
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        backend::read(&mut reader).unwrap();
        let begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        reader.get_ref().write_all(begun).unwrap();
        backend::read(&mut reader).is_none()
    });
    let mut client = Client::connect(port).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client.receive_head().unwrap();
    assert_eq!(client.read(10).unwrap(), b"5\r\nhello\r\n");
    drop(client);
    super::stage::wait_for("the end at the replica", || replica.is_finished());
    assert!(replica.join().unwrap());
    super::stage::wait_for("its count", || mesh.stats(1).unwrap().in_flight == 0);
}

#[test]
fn sticky_clients_stay_whichever_reader_their_requests_take() {
    let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
    let _backends = [1, 2].map(|task| Backend::start(task, target));
    mesh.serve(&config(sticky(port, target), &[1, 2]));
    let mut bodies = BTreeMap::new();
    for _ in 0..10 {
        let first = Client::connect(port).unwrap().ask("GET", "/", "", "").unwrap();
        let cookie = format!("Cookie: {}\r\n", first.cookie().unwrap());
        for fields in ["", "TE: trailers\r\n"] {
            let again =
                Client::connect(port).unwrap().ask("GET", "/", &(cookie.clone() + fields), "").unwrap();
            assert_eq!((&again.body, again.cookie()), (&first.body, None));
        }
        *bodies.entry(first.body).or_insert(0) += 1;
    }
    assert_eq!(bodies.len(), 2, "{bodies:?}");
}
