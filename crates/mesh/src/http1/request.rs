//! A client's request.

use std::ops::Range;

use httparse::{Header, ParserConfig, Status};

use super::{Reading, Space, length, write_field};

/// Methods that say nothing about the connection.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// A request's head.
#[derive(Debug)]
pub struct Request<'h, 'b> {
    /// The method.
    pub method: &'b str,
    /// Path and query.
    pub target: &'b str,
    /// The host, as the client wrote it.
    pub host: &'b str,
    /// Bytes of the head.
    pub head: usize,
    /// Bytes of the body, which follows.
    pub body: u64,
    /// The client wants the connection closed.
    pub closes: bool,
    fields: &'h [Header<'b>],
}

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The address.
    pub address: &'a str,
    /// Over TLS.
    pub secure: bool,
}

/// A request as the replica is to have it.
#[derive(Debug, Default)]
pub struct Forwarded {
    /// All of it.
    pub bytes: Vec<u8>,
    target: Range<usize>,
    host: Range<usize>,
    cookies: Range<usize>,
}

/// What a header field is to a request on its way.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Passed,
    /// Of one connection only, or what a client might claim of itself.
    Dropped,
    Host,
    Length,
    Connection,
    Cookie,
    Foreign,
}

impl<'h, 'b> Request<'h, 'b> {
    /// Reads a head from the beginning of `bytes`.
    pub fn read(bytes: &'b [u8], space: &'h mut Space<'b>) -> Reading<Self> {
        let mut parsed = httparse::Request::new(&mut []);
        let head = match ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, bytes, space)
        {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) => return Reading::Partial,
            Err(_) => return Reading::Foreign,
        };
        Self::of(parsed, head).map_or(Reading::Foreign, Reading::Whole)
    }

    fn of(parsed: httparse::Request<'h, 'b>, head: usize) -> Option<Self> {
        let (method, target) = (parsed.method?, parsed.path?);
        if parsed.version != Some(1) || !METHODS.contains(&method) || !is_plain_target(target) {
            return None;
        }
        let fields: &'h [Header<'b>] = parsed.headers;
        let (mut host, mut body, mut connection, mut cookies) = (None, None, None, 0);
        for field in fields {
            match kind(field.name) {
                Kind::Passed | Kind::Dropped => {}
                Kind::Foreign => return None,
                Kind::Cookie => cookies += 1,
                Kind::Host => once(&mut host, plain_host(field.value)?)?,
                Kind::Length => once(&mut body, length(field.value)?)?,
                Kind::Connection => once(&mut connection, closes(field.value)?)?,
            }
        }
        // Several are joined on their way, which is rare enough to be the library's.
        (cookies <= 1).then_some(())?;
        Some(Self {
            method,
            target,
            host: host?,
            head,
            body: body.unwrap_or(0),
            closes: connection.unwrap_or(false),
            fields,
        })
    }

    /// Writes the request, without its body, as the replica is to have it.
    pub fn forward(&self, client: Client<'_>) -> Forwarded {
        let mut sent = Forwarded { bytes: Vec::with_capacity(self.head + 160), ..Forwarded::default() };
        let out = &mut sent.bytes;
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        sent.target = written(out, self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        sent.host = written(out, self.host.as_bytes());
        out.extend_from_slice(b"\r\n");
        for field in self.fields {
            match kind(field.name) {
                Kind::Passed | Kind::Length => write_field(out, field.name, field.value),
                Kind::Cookie => {
                    out.extend_from_slice(b"cookie: ");
                    sent.cookies = written(out, field.value);
                    out.extend_from_slice(b"\r\n");
                }
                Kind::Host | Kind::Dropped | Kind::Connection | Kind::Foreign => {}
            }
        }
        write_field(out, "x-forwarded-for", client.address.as_bytes());
        write_field(out, "x-forwarded-proto", if client.secure { b"https" } else { b"http" });
        write_field(out, "x-forwarded-host", self.host.as_bytes());
        out.extend_from_slice(b"\r\n");
        sent
    }
}

impl Forwarded {
    /// The method.
    pub fn method(&self) -> &str {
        self.text(&(0..self.target.start.saturating_sub(1)))
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.text(&self.target)
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        let target = self.text(&self.target);
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The host, as the client wrote it.
    pub fn host(&self) -> &str {
        self.text(&self.host)
    }

    /// The cookies; empty when there are none, or none that can be read.
    pub fn cookies(&self) -> &str {
        self.text(&self.cookies)
    }

    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[range.clone()]).unwrap_or_default()
    }
}

fn written(out: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let begin = out.len();
    out.extend_from_slice(bytes);
    begin..out.len()
}

fn once<T>(held: &mut Option<T>, value: T) -> Option<()> {
    held.replace(value).is_none().then_some(())
}

fn kind(name: &str) -> Kind {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        2 if is("te") => Kind::Foreign,
        4 if is("host") => Kind::Host,
        6 if is("cookie") => Kind::Cookie,
        6 if is("expect") => Kind::Foreign,
        7 if is("upgrade") || is("trailer") => Kind::Foreign,
        9 if is("forwarded") || is("x-real-ip") => Kind::Dropped,
        10 if is("connection") => Kind::Connection,
        10 if is("keep-alive") => Kind::Dropped,
        14 if is("content-length") => Kind::Length,
        15 if is("x-forwarded-for") => Kind::Dropped,
        16 if is("x-forwarded-host") || is("x-forwarded-port") || is("proxy-connection") => Kind::Dropped,
        17 if is("x-forwarded-proto") => Kind::Dropped,
        17 if is("transfer-encoding") => Kind::Foreign,
        19 if is("proxy-authorization") => Kind::Dropped,
        _ => Kind::Passed,
    }
}

/// A path and a query of characters that nobody reads in two ways.
fn is_plain_target(target: &str) -> bool {
    target.starts_with('/')
        && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte))
}

fn plain_host(value: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    let host = std::str::from_utf8(value).ok()?;
    (!host.is_empty() && value.iter().all(is_plain)).then_some(host)
}

/// Whether a connection is to be closed; `None` for options that concern something else.
fn closes(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        Some(false)
    } else {
        value.eq_ignore_ascii_case(b"close").then_some(true)
    }
}
