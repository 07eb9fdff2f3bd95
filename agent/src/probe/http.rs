//! One request over HTTP/1.1 on a connection of its own.

use std::net::SocketAddrV4;

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use model::probe::{HttpCheck, MAX_BODY, pattern};

use super::connect;
use crate::engine::chain;

/// What a body that did not please is quoted with.
const MAX_QUOTE: usize = 80;

pub(super) fn path(check: &HttpCheck) -> &str {
    if check.path.is_empty() { "/" } else { &check.path }
}

pub(super) async fn ask(address: SocketAddrV4, check: &HttpCheck) -> Result<(), String> {
    let stream = connect(address).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let request = request(address, check)?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let status = response.status();
        if !check.accepts(status.as_u16()) {
            return Err(wrong_status(status));
        }
        if !check.reads_body() {
            return Ok(());
        }
        look(check, &read(response.into_body()).await?)
    };
    tokio::pin!(asked);
    // The connection has no life of its own: it ends with the question.
    tokio::select! {
        answer = &mut asked => answer,
        ended = connection => {
            ended.map_err(|error| chain(&error))?;
            asked.await
        }
    }
}

fn request(address: SocketAddrV4, check: &HttpCheck) -> Result<Request<Empty<Bytes>>, String> {
    let method = if check.method.is_empty() { "GET" } else { &check.method };
    let mut request = Request::builder().method(method).uri(path(check));
    let says_host = check.headers.keys().any(|name| name.eq_ignore_ascii_case("host"));
    if !says_host {
        request = request.header(HOST, address.to_string());
    }
    request = request
        .header(USER_AGENT, concat!("orch-agent/", env!("CARGO_PKG_VERSION"), " (probe)"))
        .header(CONNECTION, "close");
    for (name, value) in &check.headers {
        request = request.header(name, value);
    }
    request.body(Empty::new()).map_err(|error| error.to_string())
}

fn wrong_status(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("status {} {reason}", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    }
}

/// The first [`MAX_BODY`] bytes; the rest is not waited for.
async fn read(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY {
        match body.frame().await {
            None => break,
            Some(frame) => {
                let frame = frame.map_err(|error| format!("its body broke off: {error}"))?;
                bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            }
        }
    }
    bytes.truncate(MAX_BODY);
    Ok(bytes)
}

fn look(check: &HttpCheck, body: &[u8]) -> Result<(), String> {
    if !check.body.is_empty() && !pattern(&check.body)?.is_match(body) {
        return Err(format!("the body does not match {}: {}", check.body, quote(body)));
    }
    if !check.body_not.is_empty()
        && let Some(found) = pattern(&check.body_not)?.find(body)
    {
        return Err(format!("the body matches {}: {}", check.body_not, quote(&body[found.start()..])));
    }
    if check.json.is_empty() {
        return Ok(());
    }
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    for (pointer, expected) in &check.json {
        let found = match json.pointer(pointer) {
            None => return Err(format!("the body has no {pointer}")),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if found != *expected {
            return Err(format!("{pointer} is {}, not {expected}", quote(found.as_bytes())));
        }
    }
    Ok(())
}

/// The first line, shortened.
fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_QUOTE)]);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let clean: String = line.trim().chars().filter(|letter| !letter.is_control()).take(MAX_QUOTE).collect();
    if clean.is_empty() { "it is empty".to_owned() } else { format!("\"{clean}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_200_that_tells_of_an_exception_is_no_good_answer() {
        let check = HttpCheck { body_not: "Exception".into(), ..HttpCheck::default() };
        assert_eq!(look(&check, b"<html>fine"), Ok(()));
        let told = look(&check, b"<html>\njavax.ejb.EJBException: no connection\n at x").unwrap_err();
        assert_eq!(told, "the body matches Exception: \"Exception: no connection\"");
        let wanted = HttpCheck { body: "^OK$".into(), ..HttpCheck::default() };
        assert_eq!(look(&wanted, b"").unwrap_err(), "the body does not match ^OK$: it is empty");
    }

    #[test]
    fn a_value_in_a_json_body_is_compared_as_text() {
        let expects = |pointer: &str, value: &str| HttpCheck {
            json: [(pointer.to_owned(), value.to_owned())].into(),
            ..HttpCheck::default()
        };
        let body = br#"{"status":"UP","db":{"pool":4,"ok":true}}"#;
        assert_eq!(look(&expects("/status", "UP"), body), Ok(()));
        assert_eq!(look(&expects("/db/ok", "true"), body), Ok(()));
        assert_eq!(look(&expects("/db/pool", "5"), body).unwrap_err(), "/db/pool is \"4\", not 5");
        assert_eq!(look(&expects("/disk", "UP"), body).unwrap_err(), "the body has no /disk");
        assert!(look(&expects("/disk", "UP"), b"OK").unwrap_err().starts_with("the body is no JSON"));
    }
}
