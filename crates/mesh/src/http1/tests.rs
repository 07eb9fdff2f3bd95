use super::{
    Reading,
    chunked::{Chunks, Malformed},
    request::{Client, Request},
    response::{Added, Framing, Response},
    space,
};

const CLIENT: Client<'_> = Client { address: "10.0.0.9", secure: false };

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a replica is sent; `None` for what is left to the library.
fn forwarded(request: &str) -> Option<String> {
    match Request::read(request.as_bytes(), &mut space()) {
        Reading::Whole(request) => Some(text(&request.forward(CLIENT).bytes)),
        Reading::Foreign => None,
        Reading::Partial => panic!("partial: {request}"),
    }
}

fn with(fields: &str) -> Option<String> {
    forwarded(&format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
}

#[test]
fn a_request_goes_on_with_what_we_say_of_its_client() {
    let sent = forwarded(
        "GET /a?b=1 HTTP/1.1\r\nHost: ispyb.example:81\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\
         X-Real-IP: 1\r\nKeep-Alive: 5\r\nConnection: Keep-Alive\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    );
    assert_eq!(
        sent.unwrap(),
        "GET /a?b=1 HTTP/1.1\r\nhost: ispyb.example:81\r\nAccept: */*\r\ncookie: a=b; c=d\r\n\
         x-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\nx-forwarded-host: ispyb.example:81\r\n\r\n"
    );
}

#[test]
fn what_could_be_read_in_two_ways_is_left_to_the_library() {
    assert!(with("Content-Length: 5\r\n").is_some() && with("Content-Length: 0\r\n").is_some());
    for fields in [
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "transfer-encoding:\tchunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "A: b\r\n Content-Length: 5\r\n",
        "A: b\rContent-Length: 5\r\n",
        "A: \0\r\n",
        "Host: other\r\n",
        "Connection: close, X-Mine\r\n",
        "Connection: Content-Length\r\n",
        "Connection: close\r\nConnection: keep-alive\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Upgrade: h2c\r\n",
        "Expect: 100-continue\r\n",
        "TE: trailers\r\n",
        "Trailer: a\r\n",
        "Cookie: a=b\r\nCookie: c=d\r\n",
        "no colon\r\n",
    ] {
        assert_eq!(with(fields), None, "{fields:?}");
    }
}

#[test]
fn other_methods_versions_targets_and_hosts_are_left_to_the_library() {
    for line in [
        "CONNECT a:1 HTTP/1.1\r\nHost: h",
        "TRACE / HTTP/1.1\r\nHost: h",
        "get / HTTP/1.1\r\nHost: h",
        "GET / HTTP/1.0\r\nHost: h",
        "GET / HTTP/1.2\r\nHost: h",
        "GET / HTTP/2.0\r\nHost: h",
        "GET http://other/ HTTP/1.1\r\nHost: h",
        "OPTIONS * HTTP/1.1\r\nHost: h",
        "GET /a b HTTP/1.1\r\nHost: h",
        "GET  /a HTTP/1.1\r\nHost: h",
        "GET /a#b HTTP/1.1\r\nHost: h",
        "GET /a\\b HTTP/1.1\r\nHost: h",
        "GET /\u{e9} HTTP/1.1\r\nHost: h",
        "GET / HTTP/1.1\r\nAccept: a",
        "GET / HTTP/1.1\r\nHost:",
        "GET / HTTP/1.1\r\nHost: a b",
        "GET / HTTP/1.1\r\nHost: a/b",
        "GET / HTTP/1.1\r\nHost: a@b",
        "PRI * HTTP/2.0\r\n",
    ] {
        assert_eq!(forwarded(&format!("{line}\r\n\r\n")), None, "{line:?}");
    }
}

#[test]
fn more_fields_than_the_library_takes_are_left_to_it() {
    let fields = |count| with(&(0..count).map(|number| format!("X-{number}: 1\r\n")).collect::<String>());
    assert!(fields(99).is_some() && fields(100).is_none());
}

#[test]
fn every_beginning_of_a_request_is_partial_and_what_follows_it_is_not_its_own() {
    let request =
        b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabcGET / HTTP/1.1";
    let head = request.len() - "abcGET / HTTP/1.1".len();
    for end in 0..head {
        assert!(matches!(Request::read(&request[..end], &mut space()), Reading::Partial), "{end}");
    }
    let mut space = space();
    let Reading::Whole(read) = Request::read(request, &mut space) else { panic!("not whole") };
    assert_eq!((read.head, read.body, read.closes), (head, 3, true));
    let sent = read.forward(CLIENT);
    assert_eq!((sent.path(), sent.host(), sent.cookies()), ("/a", "h", ""));
    assert!(!text(&sent.bytes).contains("abc"));
}

fn response(head: &str, to_head: bool) -> Option<(Framing, bool)> {
    match Response::read(head.as_bytes(), &mut space(), to_head) {
        Reading::Whole(response) => Some((response.framing, response.is_kept)),
        Reading::Foreign => None,
        Reading::Partial => panic!("partial: {head}"),
    }
}

#[test]
fn an_answer_ends_where_the_standard_says() {
    let check = |head: &str, to_head, expected| {
        assert_eq!(response(&format!("HTTP/1.{head}\r\n\r\n"), to_head), expected, "{head:?}");
    };
    check("1 200 OK\r\nContent-Length: 5", false, Some((Framing::Length(5), true)));
    check("1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", false, Some((Framing::Length(5), true)));
    check("1 200 OK\r\nContent-Length: 5\r\nConnection: close", false, Some((Framing::Length(5), false)));
    check("1 200 OK\r\nContent-Length: 0", false, Some((Framing::Empty, true)));
    check("1 200 OK\r\nContent-Length: 5", true, Some((Framing::Empty, true)));
    check("1 304 Not Modified\r\nContent-Length: 5", false, Some((Framing::Empty, true)));
    check("1 204 No Content", false, Some((Framing::Empty, true)));
    check("1 100 Continue", false, Some((Framing::Empty, true)));
    check("1 200 OK\r\nTransfer-Encoding: Chunked", false, Some((Framing::Chunked, true)));
    check(
        "1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        false,
        Some((Framing::Chunked, true)),
    );
    check("1 200 OK", false, Some((Framing::Close, false)));
    check("0 200 OK\r\nContent-Length: 5", false, Some((Framing::Length(5), false)));
    check("0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", false, Some((Framing::Length(5), true)));
    for wrong in [
        "1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        "1 200 OK\r\nContent-Length: 5, 5",
        "1 200 OK\r\nContent-Length: x",
        "1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "1 200 OK\r\nTransfer-Encoding: gzip",
        "1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "0 200 OK\r\nTransfer-Encoding: chunked",
        "1 2x0 OK",
        "2 200 OK",
    ] {
        check(wrong, false, None);
    }
}

#[test]
fn an_answer_goes_on_without_what_was_for_one_connection() {
    let head = "HTTP/1.1 200 Fine\r\nServer: x\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
                Content-Length: 5\r\nContent-Length: 5\r\nUpgrade: h2c\r\n\r\n";
    let mut space = space();
    let Reading::Whole(read) = Response::read(head.as_bytes(), &mut space, false) else {
        panic!("not whole")
    };
    let mut out = Vec::new();
    read.forward(&mut out, Added { cookie: Some("a=b"), date: Some("today"), closes: true });
    assert_eq!(
        text(&out),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 5\r\nset-cookie: a=b\r\ndate: today\r\nconnection: close\r\n\r\n"
    );
}

#[test]
fn what_a_replica_says_of_its_connection_takes_no_length_and_no_date_away() {
    let head =
        "HTTP/1.1 200 OK\r\nConnection: Content-Length, Date\r\nDate: then\r\nContent-Length: 5\r\n\r\n";
    let mut space = space();
    let Reading::Whole(read) = Response::read(head.as_bytes(), &mut space, false) else {
        panic!("not whole")
    };
    let mut out = Vec::new();
    read.forward(&mut out, Added { date: Some("today"), ..Added::default() });
    assert_eq!(text(&out), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\ndate: today\r\n\r\n");
}

#[test]
fn a_body_that_ends_with_its_connection_goes_on_in_chunks() {
    let head = "HTTP/1.0 200 OK\r\nDate: then\r\n\r\n";
    let mut space = space();
    let Reading::Whole(read) = Response::read(head.as_bytes(), &mut space, false) else {
        panic!("not whole")
    };
    let mut out = Vec::new();
    read.forward(&mut out, Added { date: Some("today"), ..Added::default() });
    assert_eq!(text(&out), "HTTP/1.1 200 OK\r\nDate: then\r\ntransfer-encoding: chunked\r\n\r\n");
}

/// Scans a body in pieces of a length: what was passed on, and how many bytes were the body's.
fn scan(body: &[u8], piece: usize) -> Result<(Vec<u8>, Option<usize>), Malformed> {
    let (mut chunks, mut passed, mut used) = (Chunks::default(), Vec::new(), 0);
    for piece in body.chunks(piece) {
        let scanned = chunks.scan(piece)?;
        passed.extend_from_slice(&piece[..scanned.passed]);
        used += scanned.used;
        if scanned.is_over {
            passed.extend_from_slice(b"\r\n");
            return Ok((passed, Some(used)));
        }
    }
    Ok((passed, None))
}

#[test]
fn the_end_of_chunks_is_found_however_they_come() {
    let body = b"5\r\nhello\r\n1A; a=\"b\"\r\nabcdefghijklmnopqrstuvwxyz\r\n3  \r\n\r\n0\r\n0\r\nX: y\r\nZ: 1\r\n\r\nHTTP/1.1 200";
    let end = body.len() - "HTTP/1.1 200".len();
    let kept = &body[..end - "X: y\r\nZ: 1\r\n\r\n".len()];
    for piece in 1..=body.len() {
        let (passed, used) = scan(body, piece).unwrap();
        assert_eq!((text(&passed), used), (text(kept) + "\r\n", Some(end)), "pieces of {piece}");
    }
    for cut in 0..end {
        assert_eq!(scan(&body[..cut], 1024).map(|(_, used)| used), Ok(None), "{cut}");
    }
}

#[test]
fn what_is_no_chunk_is_refused() {
    for body in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        " 5\r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhello!\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5 5\r\n",
        "0x5\r\n",
        "1000000000000000\r\n",
        "5;a\nb\r\n",
        "0\r\n X: y\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: \ry\r\n",
        "0\r\n\rX",
    ] {
        assert_eq!(scan(body.as_bytes(), 1024), Err(Malformed), "{body:?}");
    }
    let long = format!("5;{}\r\n", "x".repeat(10_000));
    assert_eq!(scan(long.as_bytes(), 100), Err(Malformed));
}
