//! Those who use the application while it is released: a writer of numbered rows and people with sessions, and the database
//! behind it, which says afterwards which rows there are.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::cluster::Cluster;
use tests::hosts::namespace;

/// As long as MXCuBE waits for an answer; then it goes on without the row.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two rows, and between two looks of a person.
const EVERY: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(200);
/// Twenty people.
pub const PEOPLE: usize = 20;
/// Failures told in full.
const TOLD: usize = 10;

/// Rows, each with how often it was stored.
type Rows = Arc<Mutex<BTreeMap<u64, u32>>>;

/// The database: a line is a row.
pub struct Database {
    address: SocketAddr,
    rows: Rows,
    next: AtomicU64,
}

impl Database {
    /// Listens on the laboratory's switch, where every container reaches it.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start(cluster: &Cluster) -> Result<Database> {
        let place = SocketAddr::from((cluster.lab().switch().address(), 0));
        let listener = cluster.lab().switch().within(|| TcpListener::bind(place))??;
        let database =
            Database { address: listener.local_addr()?, rows: Rows::default(), next: AtomicU64::new(1) };
        let rows = database.rows.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let rows = rows.clone();
                std::thread::spawn(move || drop(stored(&stream, &rows)));
            }
        });
        Ok(database)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn count(&self, row: u64) -> u32 {
        held(&self.rows).get(&row).copied().unwrap_or_default()
    }
}

fn stored(mut stream: &TcpStream, rows: &Rows) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    *held(rows).entry(line.trim().parse()?).or_default() += 1;
    Ok(stream.write_all(b"ok\n")?)
}

/// What they got.
#[derive(Debug, Default, Clone)]
pub struct Office {
    /// Rows sent.
    pub rows: usize,
    /// Those of them that were answered with 200 and are not there, or are there more than once.
    pub wrong: usize,
    /// Looks of people with a session.
    pub looks: usize,
    /// Whoever had to log in again, since the replica with the session had left.
    pub moved: usize,
    /// Requests of either that were not answered as they should have been.
    pub failures: Vec<String>,
    /// How many those are.
    pub failed: usize,
}

impl Office {
    fn failed(&mut self, what: String) {
        self.failed += 1;
        if self.failures.len() < TOLD {
            self.failures.push(what);
        }
    }

    fn add(&mut self, other: Office) {
        self.rows += other.rows;
        self.looks += other.looks;
        self.moved += other.moved;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }
}

/// Everybody at work.
pub struct Shift<'a> {
    database: &'a Database,
    stop: Arc<AtomicBool>,
    first: u64,
    threads: Vec<JoinHandle<Office>>,
}

impl<'a> Shift<'a> {
    /// They begin.
    pub fn begin(cluster: &Cluster, database: &'a Database, targets: &[SocketAddr]) -> Shift<'a> {
        let stop = Arc::<AtomicBool>::default();
        let place = cluster.lab().switch().namespace().to_owned();
        let first = database.next.load(Ordering::Relaxed);
        let mut threads = Vec::new();
        for number in 0..=PEOPLE {
            let (stop, place) = (stop.clone(), place.clone());
            let targets = targets.to_vec();
            threads.push(std::thread::spawn(move || {
                namespace::enter(&place).expect("the clients' namespace");
                let mut office = Office::default();
                match number {
                    0 => write(&mut office, first, &targets, &stop),
                    _ => look(&mut office, targets[number % targets.len()], &stop),
                }
                office
            }));
        }
        Shift { database, stop, first, threads }
    }

    /// They end.
    pub fn end(self) -> Office {
        self.stop.store(true, Ordering::Relaxed);
        let mut office = Office::default();
        self.threads.into_iter().for_each(|thread| office.add(thread.join().expect("a client")));
        let last = self.first + office.rows as u64;
        self.database.next.store(last, Ordering::Relaxed);
        office.wrong = (self.first..last).filter(|row| self.database.count(*row) != 1).count();
        office
    }
}

/// Numbered rows, one after the other, nothing twice.
fn write(office: &mut Office, first: u64, targets: &[SocketAddr], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let row = first + office.rows as u64;
        let target = targets[office.rows % targets.len()];
        office.rows += 1;
        match ask(target, "POST", &format!("/row?n={row}"), None) {
            Ok((200, _)) => {}
            Ok((status, _)) => office.failed(format!("row {row}: {status}")),
            Err(error) => office.failed(format!("row {row}: {error:#}")),
        }
        std::thread::sleep(EVERY);
    }
}

/// Somebody with a browser.
fn look(office: &mut Office, target: SocketAddr, stop: &AtomicBool) {
    let mut session: Option<String> = None;
    let mut known = false;
    while !stop.load(Ordering::Relaxed) {
        office.looks += 1;
        let path = if session.is_some() { "/me" } else { "/login?user=opid30" };
        match ask(target, "GET", path, session.as_deref()) {
            Ok((200, cookie)) => {
                office.moved += usize::from(known && session.is_none());
                session = cookie.or(session);
                known = true;
            }
            Ok((401, _)) => session = None,
            Ok((status, _)) => office.failed(format!("{path}: {status}")),
            Err(error) => office.failed(format!("{path}: {error:#}")),
        }
        std::thread::sleep(LOOK);
    }
}

/// One request; its status and the cookies that came.
fn ask(target: SocketAddr, method: &str, path: &str, cookies: Option<&str>) -> Result<(u16, Option<String>)> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let cookies = cookies.map_or_else(String::new, |cookies| format!("Cookie: {cookies}\r\n"));
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: ispyb\r\n{cookies}{length}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).context("sending")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading the answer")?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let set = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("set-cookie").then(|| value.split(';').next().unwrap_or_default().trim())
    });
    let set: Vec<&str> = set.collect();
    Ok((status, (!set.is_empty()).then(|| set.join("; "))))
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
