//! Clients that ask at a fixed rate whether or not they are answered, and count what they did not get.
//!
//! Open loop: a request that is late does not hold the next one up, so that a pause of the service shows as what it costs. Each
//! client behaves like MXCuBE: it waits three seconds for an answer and tries nothing twice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::hosts::namespace::enter;
use crate::http::Answer;

/// As long as a client waits.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Failures told in full.
const TOLD: usize = 20;

/// What clients do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the clients are: the name of a network namespace.
    pub namespace: String,
    /// Whom they ask, in turn.
    pub targets: Vec<SocketAddr>,
    /// `GET /version` and the like.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// So many clients.
    pub clients: usize,
    /// Between two requests of one client.
    pub every: Duration,
    /// One connection for all requests of a client, until it breaks; else one for each.
    pub keep_alive: bool,
}

/// What they got.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Requests sent.
    pub asked: usize,
    /// Answered with 200.
    pub answered: usize,
    /// The others: when, since the beginning, and what happened; the first of them.
    pub failures: Vec<(Duration, String)>,
    /// The slowest answer.
    pub slowest: Duration,
}

impl Outcome {
    /// How many requests were not answered as they should have been.
    pub fn failed(&self) -> usize {
        self.asked - self.answered
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    outcome: Arc<Mutex<Outcome>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Sends them off.
    ///
    /// # Panics
    /// There is no target, or the namespace is gone.
    pub fn start(plan: Plan) -> Load {
        assert!(!plan.targets.is_empty(), "whom to ask");
        let load = Load {
            stop: Arc::default(),
            asked: Arc::default(),
            outcome: Arc::default(),
            threads: Vec::new(),
        };
        let began = Instant::now();
        let threads = (0..plan.clients).map(|number| {
            let (plan, stop, asked, outcome) =
                (plan.clone(), load.stop.clone(), load.asked.clone(), load.outcome.clone());
            std::thread::spawn(move || {
                enter(&plan.namespace).expect("the clients' namespace");
                let mut client = Client { plan, number, connection: None };
                client.work(began, &stop, &asked, &outcome);
            })
        });
        Load { threads: threads.collect(), ..load }
    }

    /// Requests sent so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were sent.
    ///
    /// # Errors
    /// The clients are stuck.
    pub fn wait_for(&self, more: usize) -> Result<()> {
        let until = self.asked() + more;
        crate::wait::until_true("requests to be sent", Duration::from_secs(120), || self.asked() >= until)
    }

    /// Ends them and says what they got.
    ///
    /// # Panics
    /// A client panicked.
    pub fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client");
        }
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.clone()
    }
}

struct Client {
    plan: Plan,
    number: usize,
    connection: Option<TcpStream>,
}

impl Client {
    fn work(&mut self, began: Instant, stop: &AtomicBool, asked: &AtomicUsize, outcome: &Mutex<Outcome>) {
        let offset = self.plan.every * u32::try_from(self.number).unwrap_or(0)
            / u32::try_from(self.plan.clients.max(1)).unwrap_or(1);
        let mut due = began + offset;
        let mut target = self.number;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += self.plan.every;
            let address = self.plan.targets[target % self.plan.targets.len()];
            target += 1;
            asked.fetch_add(1, Ordering::Relaxed);
            let sent = Instant::now();
            let answer = self.ask(address);
            let took = sent.elapsed();
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            outcome.asked += 1;
            outcome.slowest = outcome.slowest.max(took);
            match answer {
                Ok(answer) if answer.status == 200 => outcome.answered += 1,
                _ if outcome.failures.len() >= TOLD => {}
                Ok(answer) => {
                    let said = format!("{} {}", answer.status, answer.body.trim());
                    outcome.failures.push((sent - began, said));
                }
                Err(error) => {
                    outcome.failures.push((sent - began, format!("{error:#} after {} ms", took.as_millis())));
                }
            }
        }
    }

    fn ask(&mut self, address: SocketAddr) -> Result<Answer> {
        let kept = self.connection.take().filter(|_| self.plan.keep_alive);
        let mut stream = match kept {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&address, PATIENCE).context("connect")?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let close = if self.plan.keep_alive { "" } else { "Connection: close\r\n" };
        let (method, path) = (self.plan.method, &self.plan.path);
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: mimic.example\r\n{length}{close}\r\n");
        stream.write_all(request.as_bytes()).context("send")?;
        let (answer, closes) = read(&mut stream)?;
        if self.plan.keep_alive && !closes {
            self.connection = Some(stream);
        }
        Ok(answer)
    }
}

/// One answer with a length; whether the server closes the connection after it.
fn read(stream: &mut TcpStream) -> Result<(Answer, bool)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let field = |name: &str| {
                head.lines().filter_map(|line| line.split_once(':')).find_map(|(key, value)| {
                    key.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
                })
            };
            let length: usize = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let status =
                    head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
                let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                let closes = field("connection").is_some_and(|value| value == "close");
                return Ok((Answer { status, head, body }, closes));
            }
        }
        let count = stream.read(&mut chunk).context("receive")?;
        ensure!(count > 0, "the connection ended within an answer of {} bytes", bytes.len());
        bytes.extend_from_slice(&chunk[..count]);
    }
}
