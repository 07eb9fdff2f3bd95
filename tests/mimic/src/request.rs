//! The little of HTTP/1.1 that a test needs: request line, headers, keep-alive.

use std::io::{BufRead, Read};

/// Longest request head that is read; beyond it the connection is closed.
const MAX_HEAD_BYTES: u64 = 16 * 1024;
/// Longest body that is read and thrown away.
const MAX_BODY_BYTES: u64 = 1024 * 1024;

/// A request without its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    /// The session id of the JSESSIONID cookie.
    pub session: Option<String>,
    /// The client asked to close the connection, or speaks HTTP/1.0.
    pub close: bool,
}

impl Request {
    /// Reads one request; `None` when the client has closed or sent something else than HTTP.
    pub fn read(from: &mut impl BufRead) -> Option<Request> {
        let mut head = from.take(MAX_HEAD_BYTES);
        let mut line = String::new();
        head.read_line(&mut line).ok()?;
        let mut request = Request::parse_line(line.trim_end())?;
        let mut body_bytes = 0;
        loop {
            let mut header = String::new();
            if head.read_line(&mut header).ok()? == 0 {
                return None;
            }
            let header = header.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':') {
                request.take_header(name, value.trim(), &mut body_bytes);
            }
        }
        let body = std::io::copy(&mut from.take(u64::min(body_bytes, MAX_BODY_BYTES)), &mut std::io::sink());
        body.is_ok_and(|read| read == body_bytes).then_some(request)
    }

    /// The value of `name` in the query, if any.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|p| p.1)
    }

    /// The value of `name` as a number, or `default` when it is absent or not one.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.param(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    fn parse_line(line: &str) -> Option<Request> {
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        version.starts_with("HTTP/1.").then(|| Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            session: None,
            close: version == "HTTP/1.0",
        })
    }

    fn take_header(&mut self, name: &str, value: &str, body_bytes: &mut u64) {
        match name.to_ascii_lowercase().as_str() {
            "connection" => self.close = value.eq_ignore_ascii_case("close"),
            "content-length" => *body_bytes = value.parse().unwrap_or(0),
            "cookie" => {
                self.session = value
                    .split(';')
                    .find_map(|pair| pair.trim().strip_prefix("JSESSIONID="))
                    .map(str::to_owned);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Request> {
        Request::read(&mut text.as_bytes())
    }

    #[test]
    fn request_gives_path_query_and_session() {
        let request =
            read("GET /slow?ms=20&x=1 HTTP/1.1\r\nHost: a\r\nCookie: a=b; JSESSIONID=F00.h1\r\n\r\n")
                .unwrap();
        assert_eq!((request.path.as_str(), request.number("ms", 0)), ("/slow", 20));
        assert_eq!(request.session.as_deref(), Some("F00.h1"));
        assert!(!request.close);
    }

    #[test]
    fn body_is_consumed_before_the_next_request() {
        let mut stream =
            "POST /break HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n".as_bytes();
        assert_eq!(Request::read(&mut stream).unwrap().path, "/break");
        assert_eq!(Request::read(&mut stream).unwrap().path, "/");
    }

    #[test]
    fn truncated_or_foreign_input_is_no_request() {
        assert_eq!(read(""), None);
        assert_eq!(read("GET / HTTP/1.1\r\nHost: a"), None);
        assert_eq!(read("SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(read("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"), None);
    }
}
