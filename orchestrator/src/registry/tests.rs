//! The client against small servers on loopback that say what registries say.

mod cosign;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
};

use manager_core::{RegistryQuestion, RegistryRefusal, RegistryWish, RegistryWord};
use model::{
    registry::{Login, RegistrySpec, Secret},
    signature::FoundSignature,
};

/// One request as the server got it: its first line, its headers, its body.
type Seen = Vec<String>;

/// Answers one connection after the other with what `answer` says of the request, on plain HTTP.
fn serve(answer: impl Fn(&str, &Seen) -> String + Send + 'static) -> (String, mpsc::Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, seen) = mpsc::channel();
    let own = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut request: Seen = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                match line.trim_end() {
                    "" => break,
                    line => request.push(line.to_owned()),
                }
            }
            let length = request.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            reader.read_exact(&mut body).unwrap();
            request.push(String::from_utf8(body).unwrap());
            reader.get_mut().write_all(answer(&own, &request).as_bytes()).unwrap();
            if tell.send(request).is_err() {
                return;
            }
        }
    });
    (address, seen)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn ask(host: &str, login: Option<Login>, wish: RegistryWish) -> super::RegistryAnswer {
    let registry = RegistrySpec { host: host.to_owned(), login, plain_http: true, ..RegistrySpec::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(super::ask(RegistryQuestion { registry, wish }))
}

fn wish() -> RegistryWish {
    RegistryWish::Digest { repository: "mx/web".into(), reference: "prod".into() }
}

fn password() -> Option<Login> {
    Some(Login::Password { username: "ci".into(), password: Secret::new("hunter2") })
}

fn digest(letter: &str) -> String {
    format!("sha256:{}", letter.repeat(64))
}

#[test]
fn tag_is_answered_by_the_head_or_by_the_hash_of_the_body() {
    let expected = digest("a");
    let header = format!("Docker-Content-Digest: {expected}\r\n");
    let (host, _seen) = serve(move |_, _| format!("HTTP/1.1 200 OK\r\n{header}content-length: 1234\r\n\r\n"));
    assert_eq!(ask(&host, None, wish()), Ok(RegistryWord::Digest(expected)));

    let (host, seen) = serve(|_, request| match request[0].starts_with("HEAD") {
        true => "HTTP/1.1 200 OK\r\nDocker-Content-Digest: nonsense\r\n\r\n".into(),
        false => http("200 OK", "", "{}"),
    });
    // The SHA-256 of "{}".
    let hash = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(ask(&host, None, wish()), Ok(RegistryWord::Digest(hash.to_owned())));
    let first = seen.recv().unwrap();
    assert_eq!(first[0], "HEAD /v2/mx/web/manifests/prod HTTP/1.1");
    assert!(first.iter().any(|line| line.starts_with("accept: ") && line.contains("image.index.v1+json")));
}

/// Sends to a token server, which is itself, and wants the token afterwards.
fn with_token(own: &str, request: &Seen) -> String {
    let authorized = |value: &str| request.iter().any(|line| line == &format!("authorization: {value}"));
    // ci:hunter2
    if request[0].starts_with("GET /token?service=reg&scope=repository%3Amx%2Fweb%3Apull ") {
        return match authorized("Basic Y2k6aHVudGVyMg==") {
            true => http("200 OK", "", r#"{"token": "t0ken"}"#),
            false => http("401 Unauthorized", "", r#"{"errors": [{"code": "DENIED", "message": "who?"}]}"#),
        };
    }
    if request[0].starts_with("POST /token ") && request.last().unwrap().contains("refresh_token=refresh") {
        return http("200 OK", "", r#"{"access_token": "t0ken"}"#);
    }
    let digest = digest("b");
    match authorized("Bearer t0ken") {
        true => format!("HTTP/1.1 200 OK\r\nDocker-Content-Digest: {digest}\r\n\r\n"),
        false => {
            let realm = format!("realm=\"http://{own}/token\"");
            let scope = "service=\"reg\",scope=\"repository:mx/web:pull\"";
            format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer {realm},{scope}\r\ncontent-length: 0\r\n\r\n"
            )
        }
    }
}

#[test]
fn token_is_fetched_with_the_password_or_the_identity_token() {
    let (host, seen) = serve(with_token);
    assert_eq!(ask(&host, password(), wish()), Ok(RegistryWord::Digest(digest("b"))));
    assert!(seen.recv().unwrap().iter().all(|line| !line.starts_with("authorization")), "nothing unasked");
    let token = Some(Login::Token(Secret::new("refresh")));
    assert_eq!(ask(&host, token, wish()), Ok(RegistryWord::Digest(digest("b"))));
    let wrong = Login::Password { username: "ci".into(), password: Secret::new("old") };
    let Err(RegistryRefusal::Denied(why)) = ask(&host, Some(wrong), wish()) else { panic!("denied") };
    assert!(why.contains("login of ci (401: who?)") && !why.contains("old"), "{why}");
}

#[test]
fn missing_image_is_told_from_what_is_no_registry_and_from_one_that_is_down() {
    let unknown = r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}"#;
    let (host, _seen) = serve(move |_, request| match request[0].starts_with("HEAD") {
        true => "HTTP/1.1 404 Not Found\r\n\r\n".into(),
        false => http("404 Not Found", "", unknown),
    });
    let Err(RegistryRefusal::Missing(why)) = ask(&host, None, wish()) else { panic!("missing") };
    assert!(why.contains("manifest unknown"), "{why}");
    let (host, _seen) = serve(|_, _| http("404 Not Found", "", "<html>nothing here</html>"));
    assert!(matches!(ask(&host, None, wish()), Err(RegistryRefusal::Unreachable(_))));
    let (host, _seen) = serve(|_, _| "SSH-2.0-OpenSSH_9.2\r\n".into());
    assert!(matches!(ask(&host, None, wish()), Err(RegistryRefusal::Unreachable(_))));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert!(matches!(ask(&nobody, None, wish()), Err(RegistryRefusal::Unreachable(_))));
}

#[test]
fn login_goes_to_no_other_host_and_nothing_goes_round_for_ever() {
    let (elsewhere, seen) = serve(|_, _| http("200 OK", "", "{}"));
    let target = elsewhere.clone();
    let (host, _first) =
        serve(move |_, request| match request.iter().any(|line| line.starts_with("authorization: Basic")) {
            true => format!("HTTP/1.1 307 Moved\r\nLocation: http://{target}/m\r\ncontent-length: 0\r\n\r\n"),
            false => http("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
        });
    assert!(ask(&host, password(), RegistryWish::Greeting).is_ok());
    assert!(seen.recv().unwrap().iter().all(|line| !line.starts_with("authorization")));
    let (round, _seen) = serve(|_, _| http("302 Found", "Location: /again\r\n", ""));
    assert!(matches!(ask(&round, None, RegistryWish::Greeting), Err(RegistryRefusal::Unreachable(_))));
    let (away, _seen) = serve(|_, _| http("302 Found", "Location: ftp://x/\r\n", ""));
    assert!(matches!(ask(&away, None, RegistryWish::Greeting), Err(RegistryRefusal::Unreachable(_))));
}

#[test]
fn identity_token_is_never_sent_on() {
    let (elsewhere, seen) = serve(|_, _| http("200 OK", "", r#"{"access_token": "t0ken"}"#));
    let target = elsewhere.clone();
    let (host, _first) = serve(move |own, request| match request[0].starts_with("POST") {
        true => http("307 Moved", &format!("Location: http://{target}/token?x=hunter2\r\n"), ""),
        false => http(
            "401 Unauthorized",
            &format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\"\r\n"),
            "",
        ),
    });
    let token = Some(Login::Token(Secret::new("refresh")));
    let Err(RegistryRefusal::Unreachable(why)) = ask(&host, token, wish()) else { panic!("not followed") };
    assert!(why.contains("http://127.0.0.1") && !why.contains("hunter2"), "{why}");
    assert!(seen.try_recv().is_err(), "nobody else was asked");
}

#[test]
fn words_of_a_refusal_never_hold_the_secret() {
    let (host, _seen) = serve(|_, request| {
        let sent = request.iter().find_map(|line| line.strip_prefix("authorization: "));
        let echo = format!("no hunter2, no {}", sent.unwrap_or_default());
        let body = format!(r#"{{"errors": [{{"code": "DENIED", "message": "{echo}"}}]}}"#);
        http("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", &body)
    });
    let Err(RegistryRefusal::Denied(why)) = ask(&host, password(), wish()) else { panic!("denied") };
    assert!(why.contains("no …, no Basic …") && !why.contains("Y2k6"), "{why}");
}

#[test]
fn token_server_that_is_not_there_says_nothing_about_an_image() {
    let unknown = r#"{"errors": [{"code": "NOT_FOUND", "message": "no such page"}]}"#;
    let (host, _seen) = serve(move |own, request| match request[0].starts_with("GET /token") {
        true => http("404 Not Found", "", unknown),
        false => http(
            "401 Unauthorized",
            &format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\"\r\n"),
            "",
        ),
    });
    assert!(matches!(ask(&host, password(), wish()), Err(RegistryRefusal::Unreachable(_))));
}

#[test]
fn first_challenge_that_can_be_met_is_taken_wherever_it_stands() {
    let (host, _seen) =
        serve(|_, request| match request.iter().any(|line| line.starts_with("authorization: Basic")) {
            true => http("200 OK", "", "{}"),
            false => {
                let ways = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";
                http("401 Unauthorized", ways, "")
            }
        });
    assert_eq!(ask(&host, password(), RegistryWish::Greeting), Ok(RegistryWord::Welcome));
}

#[test]
fn greeting_says_whether_a_login_is_wanted_and_right() {
    let basic = |_: &str, request: &Seen| match request
        .iter()
        .any(|line| line == "authorization: Basic Y2k6aHVudGVyMg==")
    {
        true => http("200 OK", "", "{}"),
        false => http("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
    };
    let (host, _seen) = serve(basic);
    assert_eq!(ask(&host, password(), RegistryWish::Greeting), Ok(RegistryWord::Welcome));
    let Err(RegistryRefusal::Denied(why)) = ask(&host, None, RegistryWish::Greeting) else {
        panic!("denied")
    };
    assert!(why.contains("registry set"), "{why}");
    let wrong = Login::Password { username: "ci".into(), password: Secret::new("old") };
    assert!(matches!(ask(&host, Some(wrong), RegistryWish::Greeting), Err(RegistryRefusal::Denied(_))));
}

/// A registry with one image and what lies beside it as its signatures; `payload` is the blob.
fn with_signatures(manifest: &str, payload: &str) -> (String, mpsc::Receiver<Seen>) {
    let (manifest, payload) = (manifest.to_owned(), payload.to_owned());
    serve(move |_, request| {
        let line = request[0].clone();
        if line.starts_with("HEAD ") {
            return format!("HTTP/1.1 200 OK\r\nDocker-Content-Digest: {}\r\n\r\n", digest("a"));
        }
        let unknown = r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}"#;
        match line.split(' ').nth(1).unwrap() {
            path if path.ends_with(&format!("/manifests/sha256-{}.sig", "a".repeat(64))) => {
                match &*manifest {
                    "" => http("404 Not Found", "", unknown),
                    manifest => http("200 OK", "", manifest),
                }
            }
            path if path.starts_with("/v2/mx/web/blobs/sha256:") => http("200 OK", "", &payload),
            // Nothing refers to the image, in a registry that has no list of what does.
            path if path.starts_with("/v2/mx/web/referrers/") => http("404 Not Found", "", "no such page"),
            path if path.ends_with(&format!("/manifests/sha256-{}", "a".repeat(64))) => {
                http("404 Not Found", "", unknown)
            }
            path => panic!("{path}"),
        }
    })
}

fn layer(digest: &str, kind: &str, size: usize) -> String {
    format!(
        r#"{{"mediaType": "{kind}", "digest": "{digest}", "size": {size},
            "annotations": {{"dev.cosignproject.cosign/signature": "c2ln"}}}}"#
    )
}

#[test]
fn signatures_are_read_where_cosign_puts_them_and_what_is_none_is_left_out() {
    let wish = || RegistryWish::Signatures { repository: "mx/web".into(), reference: "prod".into() };
    let one = || FoundSignature { payload: "{}".into(), signature: "c2ln".into(), certified: None };
    let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
    // The SHA-256 of "{}".
    let braces = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let good = layer(braces, kind, 2);
    for (layers, found) in [
        (vec![good.clone()], vec![one()]),
        (vec![good.clone(), good.clone()], vec![one(), one()]),
        (vec![layer(braces, "application/octet-stream", 2)], vec![]),
        (vec![layer(braces, kind, 9 << 10)], vec![]),
        // The blob is not what the manifest says.
        (vec![layer(&digest("b"), kind, 2)], vec![]),
        (vec![layer("../../secret", kind, 2)], vec![]),
        (vec![good.clone(); 40], vec![one(); 16]),
        (vec![], vec![]),
    ] {
        let (host, _seen) = with_signatures(&format!(r#"{{"layers": [{}]}}"#, layers.join(", ")), "{}");
        assert_eq!(ask(&host, None, wish()), Ok(RegistryWord::Signatures(digest("a"), found)), "{layers:?}");
    }
    let (host, _seen) = with_signatures("", "{}");
    assert_eq!(ask(&host, None, wish()), Ok(RegistryWord::Signatures(digest("a"), vec![])));
    let (damaged, _seen) = with_signatures("no manifest", "{}");
    assert!(matches!(ask(&damaged, None, wish()), Err(RegistryRefusal::Unreachable(_))));
    let large = format!(r#"{{"layers": [], "x": "{}"}}"#, "x".repeat(1 << 20));
    let (host, _seen) = with_signatures(&large, "{}");
    assert!(matches!(ask(&host, None, wish()), Err(RegistryRefusal::Unreachable(_))));
}
