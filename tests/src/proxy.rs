//! A TCP proxy that makes a link slow: every byte is late, and only so many pass in a second.
//!
//! It stands on the host of the daemon that it hides and is reached by [`Host::redirect`], so that the clients' addresses
//! stay as they are. Rejected: netem, which many kernels lack.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::hosts::Host;

/// What a byte on its way costs.
#[derive(Debug, Clone, Copy)]
pub struct Slowness {
    pub delay: Duration,
    pub bytes_per_second: u32,
}

/// Read at once; also what waits on the way, times [`ON_THE_WAY`].
const PIECE: usize = 16 << 10;
const ON_THE_WAY: usize = 64;
/// How often the listener looks whether it shall end.
const LOOK: Duration = Duration::from_millis(20);

/// A running proxy; dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts it on `host`, before port `to` there.
    ///
    /// # Errors
    /// The host is off.
    pub fn start(host: &Host, to: u16, slowness: Slowness) -> Result<Proxy> {
        let there = SocketAddr::from((host.address(), to));
        host.within(|| {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            let stop = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&stop);
            // Started here, so that it and its connections are in the host's network.
            let accepting = std::thread::spawn(move || accept(&listener, there, slowness, &seen));
            Ok(Proxy { port, stop, accepting: Some(accepting) })
        })?
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

/// Takes connections until it is told to stop, then closes all of them.
fn accept(listener: &TcpListener, there: SocketAddr, slowness: Slowness, stop: &AtomicBool) {
    let mut open = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => open.extend(join(client, there, slowness)),
            Err(_) => std::thread::park_timeout(LOOK),
        }
    }
    for stream in open {
        drop(stream.shutdown(Shutdown::Both));
    }
}

/// Joins a client with the daemon; returns both ends, to be closed. `None`: the daemon is not there.
fn join(client: TcpStream, there: SocketAddr, slowness: Slowness) -> Option<TcpStream> {
    client.set_nonblocking(false).ok()?;
    let server = TcpStream::connect(there).ok()?;
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let kept = client.try_clone().ok()?;
    forward(client.try_clone().ok()?, server.try_clone().ok()?, slowness);
    forward(server, client, slowness);
    Some(kept)
}

fn forward(from: TcpStream, to: TcpStream, slowness: Slowness) {
    let (sender, receiver) = sync_channel(ON_THE_WAY);
    std::thread::spawn(move || take(from, &sender, slowness.delay));
    std::thread::spawn(move || give(to, &receiver, slowness.bytes_per_second));
}

fn take(mut from: TcpStream, on_the_way: &SyncSender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if on_the_way.send((Instant::now() + delay, piece[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn give(mut to: TcpStream, on_the_way: &Receiver<(Instant, Vec<u8>)>, bytes_per_second: u32) {
    for (due, piece) in on_the_way {
        let cost = Duration::from_secs_f64(piece.len() as f64 / f64::from(bytes_per_second));
        std::thread::sleep(due.saturating_duration_since(Instant::now()) + cost);
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
