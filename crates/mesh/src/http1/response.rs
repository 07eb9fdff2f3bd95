//! A replica's answer.

use httparse::{Header, ParserConfig, Status};

use super::{Reading, Space, length, write_field};

/// An answer's head.
#[derive(Debug)]
pub struct Response<'h, 'b> {
    /// The status.
    pub status: u16,
    /// Bytes of the head.
    pub head: usize,
    /// Where the body ends.
    pub framing: Framing,
    /// The replica's connection takes another request after it.
    pub is_kept: bool,
    /// It says when it was made.
    pub is_dated: bool,
    /// Chunks overrule a length, also in the answer to a HEAD.
    has_chunks: bool,
    reason: &'b str,
    fields: &'h [Header<'b>],
    options: Vec<&'b [u8]>,
}

/// Where a body ends (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// What is added to an answer on its way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Added<'a> {
    /// A cookie of ours.
    pub cookie: Option<&'a str>,
    /// When it came, for one that does not say it itself.
    pub date: Option<&'a str>,
    /// The client's connection is closed after it.
    pub closes: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Passed,
    Dropped,
    Connection,
    Length,
    Transfer,
    Date,
}

impl<'h, 'b> Response<'h, 'b> {
    /// Reads a head from the beginning of `bytes`: the answer to a HEAD, or to something else.
    pub fn read(bytes: &'b [u8], space: &'h mut Space<'b>, to_head: bool) -> Reading<Self> {
        let mut parsed = httparse::Response::new(&mut []);
        let head = match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, space)
        {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) => return Reading::Partial,
            Err(_) => return Reading::Foreign,
        };
        Self::of(parsed, head, to_head).map_or(Reading::Foreign, Reading::Whole)
    }

    fn of(parsed: httparse::Response<'h, 'b>, head: usize, to_head: bool) -> Option<Self> {
        let (status, is_newest) = (parsed.code?, parsed.version? == 1);
        let fields: &'h [Header<'b>] = parsed.headers;
        let (mut stated, mut chunked, mut is_dated, mut options) = (None, false, false, Vec::new());
        let (mut closes, mut keeps) = (false, false);
        for field in fields {
            match kind(field.name) {
                Kind::Passed | Kind::Dropped => {}
                Kind::Date => is_dated = true,
                Kind::Length => {
                    let value = length(field.value)?;
                    if stated.replace(value).is_some_and(|other| other != value) {
                        return None;
                    }
                }
                Kind::Transfer => {
                    if chunked || !field.value.eq_ignore_ascii_case(b"chunked") || !is_newest {
                        return None;
                    }
                    chunked = true;
                }
                Kind::Connection => {
                    for option in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        if option.eq_ignore_ascii_case(b"close") {
                            closes = true;
                        } else if option.eq_ignore_ascii_case(b"keep-alive") {
                            keeps = true;
                        } else {
                            options.push(option);
                        }
                    }
                }
            }
        }
        is_dated &= !options.iter().any(|option: &&[u8]| option.eq_ignore_ascii_case(b"date"));
        let framing = match (status, chunked, stated) {
            (100..200 | 204 | 304, ..) => Framing::Empty,
            _ if to_head => Framing::Empty,
            (_, true, _) => Framing::Chunked,
            (_, false, Some(0)) => Framing::Empty,
            (_, false, Some(length)) => Framing::Length(length),
            (_, false, None) => Framing::Close,
        };
        let is_kept = !closes && (is_newest || keeps) && framing != Framing::Close;
        let reason = parsed.reason.unwrap_or_default();
        Some(Self { status, head, framing, is_kept, is_dated, has_chunks: chunked, reason, fields, options })
    }

    /// Writes the head as the client is to have it: a body that ends with the replica's connection goes on in chunks.
    pub fn forward(&self, out: &mut Vec<u8>, added: Added<'_>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&digits(self.status));
        out.push(b' ');
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        let is_chunked = matches!(self.framing, Framing::Chunked | Framing::Close);
        let mut has_length = self.has_chunks || self.status == 204;
        for field in self.fields {
            match kind(field.name) {
                Kind::Dropped | Kind::Connection | Kind::Transfer => {}
                // One of several that say the same.
                Kind::Length if std::mem::replace(&mut has_length, true) => {}
                Kind::Passed | Kind::Date if self.is_named(field.name) => {}
                Kind::Passed | Kind::Length | Kind::Date => write_field(out, field.name, field.value),
            }
        }
        if is_chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        if let Some(cookie) = added.cookie {
            write_field(out, "set-cookie", cookie.as_bytes());
        }
        if let Some(date) = added.date.filter(|_| !self.is_dated) {
            write_field(out, "date", date.as_bytes());
        }
        if added.closes {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the replica says that a field is for this connection only.
    fn is_named(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }
}

fn kind(name: &str) -> Kind {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        2 if is("te") => Kind::Dropped,
        4 if is("date") => Kind::Date,
        7 if is("upgrade") => Kind::Dropped,
        10 if is("connection") => Kind::Connection,
        10 if is("keep-alive") => Kind::Dropped,
        14 if is("content-length") => Kind::Length,
        16 if is("proxy-connection") => Kind::Dropped,
        17 if is("transfer-encoding") => Kind::Transfer,
        _ => Kind::Passed,
    }
}

/// A status as it is written. The parser takes three digits and nothing else.
fn digits(status: u16) -> [u8; 3] {
    [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + (digit % 10) as u8)
}
