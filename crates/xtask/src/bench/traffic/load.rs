//! Clients: requests as fast as they are answered, connections that stay, and one that moves much.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::command::run;

use super::stage::{Mesh, Stage, Way};

/// Clients at a time.
const CLIENTS: usize = 32;
/// Bytes of one transfer: more than a second's worth would only make the rounds long.
const BULK: u64 = 1 << 30;
const BUFFER: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

/// One round of one contestant.
#[derive(Debug, Clone)]
pub struct Sample {
    requests: f64,
    seconds: f64,
    cpu: f64,
    /// The median time of a request.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

impl Sample {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests / self.seconds
    }

    /// Seconds of the proxy's CPU for a request.
    pub fn cpu_each(&self) -> f64 {
        self.cpu / self.requests
    }
}

/// Asks for `span`; each answer is checked for its status.
///
/// # Errors
/// An answer was wrong or missing.
pub fn requests(stage: &Stage, mesh: &Mesh, way: Way, span: Duration, is_kept: bool) -> Result<Sample> {
    let before = stage.cpu(mesh, way)?;
    let mut wrk = stage.clients().command("wrk");
    wrk.arg("-t1").arg(format!("-c{CLIENTS}")).arg(format!("-d{}s", span.as_secs())).arg("--latency");
    if !is_kept {
        wrk.args(["-H", "Connection: close"]);
    }
    let said = run(wrk.arg(format!("http://{}/", stage.address(way))))?;
    let cpu = stage.cpu(mesh, way)? - before;
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{way:?}:\n{said}");
    let mut sample = read(&said).with_context(|| format!("{way:?}:\n{said}"))?;
    sample.cpu = cpu;
    Ok(sample)
}

/// What wrk says.
fn read(said: &str) -> Option<Sample> {
    let after = |word: &str| {
        let line = said.lines().find(|line| line.trim_start().starts_with(word))?;
        time(line.split_whitespace().nth(1)?)
    };
    let total = said.lines().find(|line| line.contains(" requests in "))?;
    let mut words = total.split_whitespace();
    let requests = words.next()?.parse().ok()?;
    let seconds = time(words.nth(2)?.trim_end_matches(','))?.as_secs_f64();
    Some(Sample { requests, seconds, cpu: 0.0, p50: after("50%")?, p99: after("99%")? })
}

fn time(text: &str) -> Option<Duration> {
    for (unit, micros) in [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)] {
        if let Some(value) = text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok()) {
            return Some(Duration::from_secs_f64(value * micros / 1e6));
        }
    }
    None
}

/// Opens connections, has one request answered on each, and keeps them until they are dropped.
///
/// # Errors
/// One is not answered.
pub fn hold(stage: &Stage, way: Way, connections: usize) -> Result<Vec<TcpStream>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let address = stage.address(way);
    stage.clients().within(|| (0..connections).map(|_| asked(TcpStream::connect(address)?)).collect())?
}

fn asked(mut stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer)?;
    ensure!(buffer[..read].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..read]));
    Ok(stream)
}

/// Sends bulk to everybody that connects to the source, until this process ends.
///
/// # Errors
/// Its port is taken.
pub fn send_to_all(stage: &Stage) -> Result<()> {
    let address = stage.source();
    let listener = stage.servers().within(|| TcpListener::bind(address))??;
    thread::spawn(move || {
        let block = vec![b'x'; BUFFER];
        for mut client in listener.incoming().flatten() {
            let mut left = BULK;
            while left > 0 {
                let Ok(sent @ 1..) = client.write(&block[..left.min(BUFFER as u64) as usize]) else { break };
                left -= sent as u64;
            }
        }
    });
    Ok(())
}

/// Bytes a second of one transfer.
///
/// # Errors
/// It is not whole.
pub fn bulk(stage: &Stage, way: Way) -> Result<f64> {
    let address = stage.address(way);
    let transfer = || stage.clients().within(|| received(TcpStream::connect(address)?))?;
    if way == Way::Kernel { stage.forwarding(transfer) } else { transfer() }
}

fn received(mut stream: TcpStream) -> Result<f64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; BUFFER];
    let (begun, mut all) = (Instant::now(), 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => all += read as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => bail!(error),
        }
    }
    ensure!(all == BULK, "{all} of {BULK} bytes came");
    Ok(all as f64 / begun.elapsed().as_secs_f64())
}
