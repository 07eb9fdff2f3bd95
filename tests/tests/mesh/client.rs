//! A client: one request at a time over a connection that is kept, or a steady load from several of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::stage::LIMIT;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A connection to a published port.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &&str| line.split_once(": ").is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }

    /// `NAME=VALUE` of our cookie.
    pub fn cookie(&self) -> Option<String> {
        let set = self
            .head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(_, value)| value.starts_with("orch_"));
        set.map(|(_, value)| value.split(';').next().unwrap().to_owned()).next()
    }
}

impl Client {
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).context("send")
    }

    /// Whether the other side has closed.
    pub fn is_closed(&mut self, within: Duration) -> bool {
        self.stream.get_ref().set_read_timeout(Some(within)).unwrap();
        match self.stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Reads exactly so much.
    pub fn read(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).context("read")?;
        Ok(bytes)
    }

    /// Reads until the other side has closed, or says nothing for so long.
    pub fn read_all(&mut self, quiet: Duration) -> Vec<u8> {
        self.stream.get_ref().set_read_timeout(Some(quiet)).unwrap();
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = self.stream.read(&mut some) {
            all.extend_from_slice(&some[..read]);
        }
        all
    }

    /// Reads an answer.
    pub fn receive(&mut self) -> Result<Answer> {
        let mut answer = self.receive_head()?;
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body = String::from_utf8(self.read(length)?)?;
        Ok(answer)
    }

    /// Reads an answer that has no body.
    pub fn receive_head(&mut self) -> Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).context("the answer's head")? == 0 {
                bail!("closed after {head:?}");
            }
        }
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok(Answer { status, head, body: String::new() })
    }

    /// Reads an answer in chunks; its body.
    pub fn receive_chunked(&mut self) -> Result<String> {
        let head = self.receive_head()?;
        if head.header("transfer-encoding") != Some("chunked") {
            bail!("no chunks: {}", head.head);
        }
        let mut body = String::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).context("a chunk's size")?;
            let size = usize::from_str_radix(line.trim(), 16)?;
            let chunk = self.read(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body.push_str(std::str::from_utf8(&chunk[..size])?);
        }
    }

    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Result<Answer> {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: ispyb.example\r\n{headers}{length}\r\n{body}");
        self.send(request.as_bytes())?;
        self.receive()
    }
}

/// One request on a connection of its own.
pub fn get(port: u16, path: &str) -> Answer {
    Client::connect(port).unwrap().ask("GET", path, "", "").unwrap()
}

/// Clients that ask without a pause until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Begins; `fresh`: a connection for each request.
    pub fn start(port: u16, clients: usize, method: &'static str, fresh: bool) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..clients).map(|_| {
            let (stop, done) = (stop.clone(), done.clone());
            thread::spawn(move || ask_until(&stop, &done, port, method, fresh))
        });
        Self { stop: stop.clone(), done: done.clone(), clients: clients.collect() }
    }

    /// Waits until so many requests more have ended.
    pub fn wait_for(&self, requests: usize) {
        let begun = self.done.load(Ordering::SeqCst);
        let enough = || self.done.load(Ordering::SeqCst) >= begun + requests;
        tests::wait::until_true("the load to go on", 3 * LIMIT, enough).unwrap();
    }

    /// Ends it: how many requests there were, and what went wrong with some.
    pub fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let failed = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.done.load(Ordering::SeqCst), failed)
    }
}

fn ask_until(stop: &AtomicBool, done: &AtomicUsize, port: u16, method: &str, fresh: bool) -> Vec<String> {
    let (mut failed, mut kept) = (Vec::new(), None);
    while !stop.load(Ordering::SeqCst) {
        let mut asked = || -> Result<bool> {
            let client: &mut Client = match &mut kept {
                Some(client) if !fresh => client,
                _ => kept.insert(Client::connect(port)?),
            };
            let body = if method == "PUT" { "a small body" } else { "" };
            let answer = client.ask(method, "/", "", body)?;
            if answer.status != 200 {
                bail!("{} {}", answer.status, answer.body);
            }
            Ok(answer.header("connection") == Some("close"))
        };
        match asked() {
            Ok(false) => {}
            Ok(true) => kept = None,
            Err(error) => {
                failed.push(format!("{error:#}"));
                kept = None;
            }
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    failed
}
