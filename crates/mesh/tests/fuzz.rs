//! Heads and chunks that nobody wrote: whatever is understood is passed on so that nobody can understand it otherwise.

use fuzz::Fuzz;
use mesh::http1::{
    Reading,
    chunked::Chunks,
    request::{Client, Request},
    response::{Added, Framing, Response},
    space,
};

const CLIENT: Client<'_> = Client { address: "10.0.0.9", secure: true };

const REQUESTS: [&str; 5] = [
    "GET /a/b?c=d HTTP/1.1\r\nHost: h.example:80\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: [::1]\r\nContent-Length: 5\r\nConnection: close\r\nX-Forwarded-For: 1\r\n\r\nhello",
    "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\nHost: h\nConnection: keep-alive, Upgrade\nUpgrade: websocket\n\n",
    "HEAD /%20 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\nTE: trailers\r\n\r\n",
];

const ANSWERS: [&str; 5] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.0 404 Not Found\r\nSet-Cookie: a=b\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nUpgrade: h2c\r\n\r\n",
];

const CHUNKS: [&str; 4] = [
    "5\r\nhello\r\n0\r\n\r\n",
    "1A;a=\"b\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nX: y\r\n\r\nHTTP/1.1",
    "3  \r\n\r\n0\r\n00\r\n\r\n",
    "ffffffff\r\nx",
];

fn samples(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The fields of a head that was written here, by a reader that knows nothing but lines.
fn fields(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let end = head.windows(4).position(|four| four == b"\r\n\r\n").expect("an empty line");
    assert_eq!(end + 4, head.len(), "it ends where its first empty line is");
    let mut rest = &head[..end];
    let mut lines = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    for line in &lines {
        assert!(line.iter().all(|byte| !b"\r\n\0".contains(byte)), "a line within a line");
    }
    let split = |line: &&[u8]| {
        let at = line.iter().position(|byte| *byte == b':').expect("a colon");
        let name = String::from_utf8(line[..at].to_vec()).expect("a name");
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
        (name.to_ascii_lowercase(), line[at + 1..].trim_ascii().to_vec())
    };
    lines[1..].iter().map(split).collect()
}

fn count(fields: &[(String, Vec<u8>)], name: &str) -> usize {
    fields.iter().filter(|(known, _)| known == name).count()
}

#[test]
fn fuzz_requests() {
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "http-request").samples(samples(&REQUESTS)).run(|bytes| {
        let (mut first, mut second) = (space(), space());
        let request = match Request::read(bytes, &mut first) {
            Reading::Whole(request) => request,
            other => return format!("{other:?}"),
        };
        assert!(request.head <= bytes.len());
        let sent = request.forward(CLIENT);
        let fields = fields(&sent.bytes);
        for name in ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
            assert_eq!(count(&fields, name), 1, "{name}");
        }
        for name in ["transfer-encoding", "connection", "upgrade", "expect", "te", "forwarded", "x-real-ip"] {
            assert_eq!(count(&fields, name), 0, "{name}");
        }
        let lengths = count(&fields, "content-length");
        assert!(lengths <= 1 && (lengths == 1 || request.body == 0), "{lengths}");
        let Reading::Whole(again) = Request::read(&sent.bytes, &mut second) else { panic!("not read again") };
        assert_eq!(
            (again.method, again.target, again.host, again.body, again.head),
            (request.method, request.target, request.host, request.body, sent.bytes.len())
        );
        assert_eq!(
            (sent.host(), sent.path()),
            (request.host, request.target.split('?').next().unwrap_or_default())
        );
        format!("{} {} {} {}", request.method, request.body > 0, request.closes, fields.len())
    });
}

#[test]
fn fuzz_answers() {
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "http-answer").samples(samples(&ANSWERS)).run(|bytes| {
        let mut said = String::new();
        for to_head in [false, true] {
            let (mut first, mut second) = (space(), space());
            let answer = match Response::read(bytes, &mut first, to_head) {
                Reading::Whole(answer) => answer,
                other => return format!("{other:?}"),
            };
            let mut out = Vec::new();
            answer.forward(&mut out, Added { cookie: Some("c=1"), date: Some("now"), closes: true });
            let fields = fields(&out);
            let (lengths, chunked) = (count(&fields, "content-length"), count(&fields, "transfer-encoding"));
            assert!(lengths + chunked <= 1, "two ends");
            assert_eq!((count(&fields, "connection"), count(&fields, "upgrade")), (1, 0));
            assert!(count(&fields, "date") >= 1);
            let Reading::Whole(again) = Response::read(&out, &mut second, to_head) else {
                panic!("not read again")
            };
            let framing = if answer.framing == Framing::Close { Framing::Chunked } else { answer.framing };
            assert_eq!((again.status, again.framing, again.is_kept), (answer.status, framing, false));
            said += &format!("{} {:?} {}", answer.status / 100, answer.framing, answer.is_kept);
        }
        said
    });
}

#[test]
fn fuzz_chunks() {
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "http-chunks").samples(samples(&CHUNKS)).run(|bytes| {
        let (mut at_once, mut slowly) = (Chunks::default(), Chunks::default());
        let whole = at_once.scan(bytes);
        let (mut passed, mut used, mut failed) = (Vec::new(), 0, false);
        for byte in bytes.chunks(1) {
            match slowly.scan(byte) {
                Ok(scanned) => {
                    passed.extend_from_slice(&byte[..scanned.passed]);
                    used += scanned.used;
                    if scanned.is_over {
                        break;
                    }
                }
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        assert_eq!(whole.is_err(), failed);
        let Ok(whole) = whole else { return "malformed".into() };
        assert_eq!((&bytes[..whole.passed], whole.used), (&passed[..], used));
        if whole.is_over {
            passed.extend_from_slice(b"\r\n");
            let data = unchunked(&passed);
            return format!("over {} {}", data.is_empty(), whole.used < bytes.len());
        }
        format!("more {}", whole.passed < whole.used)
    });
}

/// The data of a whole body, by a reader that knows nothing but the standard's plainest form.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").expect("a size's end");
        let line =
            std::str::from_utf8(body[..end].split(|byte| b"; \t".contains(byte)).next().expect("a part"))
                .expect("digits");
        let size = usize::from_str_radix(line, 16).expect("a size");
        let rest = &body[end + 2..];
        data.extend_from_slice(&rest[..size]);
        assert_eq!(&rest[size..size + 2], b"\r\n");
        body = &rest[size + 2..];
        if size == 0 {
            assert!(body.is_empty());
            return data;
        }
    }
}
