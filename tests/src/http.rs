//! One HTTP request over TCP, blocking, with a deadline: enough to ask the mimic how it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Asks `address` for `path`. The limit holds for the connection and for each read.
///
/// # Errors
/// Nobody answers in time, or not in HTTP.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<Answer> {
    get_with(address, path, &[], limit)
}

/// The same, with further headers.
///
/// # Errors
/// As [`get`].
pub fn get_with(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    limit: Duration,
) -> Result<Answer> {
    let mut stream =
        TcpStream::connect_timeout(&address, limit).with_context(|| format!("connect {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{more}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).with_context(|| format!("{address}{path}"))?;
    parse(&text).with_context(|| format!("{address}{path}: not an HTTP answer: {text:?}"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
