//! Uploads that take seconds, sent piece by piece: a body that is on its way cannot be sent to anybody else.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tests::hosts::namespace::enter;

use super::Beside;

const UPLOADERS: usize = 12;
const PIECES: usize = 20;
const PIECE: [u8; 8 << 10] = [b'x'; 8 << 10];
/// Between two pieces; an upload takes three seconds, less than a replica has to end what is under way.
const REST: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(10);

/// Uploads again and again while `act` goes on.
///
/// # Errors
/// `act` failed.
pub fn meanwhile(
    namespace: &str,
    targets: &[SocketAddr],
    act: impl FnOnce() -> Result<()>,
) -> Result<Beside> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let uploaders: Vec<_> = (0..UPLOADERS)
            .map(|number| {
                let (over, target) = (&over, targets[number % targets.len()]);
                scope.spawn(move || {
                    enter(namespace).expect("the clients' namespace");
                    let mut done: Vec<Result<()>> = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        done.push(upload(target));
                    }
                    done
                })
            })
            .collect();
        let acted = act();
        over.store(true, Ordering::Relaxed);
        let done: Vec<Result<()>> =
            uploaders.into_iter().flat_map(|uploader| uploader.join().expect("an uploader")).collect();
        acted?;
        let asked = done.len();
        let failures = done.into_iter().filter_map(|upload| Some(format!("{:#}", upload.err()?))).collect();
        Ok(Beside { what: "uploads of three seconds", asked, failures })
    })
}

fn upload(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = PIECES * PIECE.len();
    let head = format!(
        "POST /version HTTP/1.1\r\nHost: ispyb\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).context("sending the head")?;
    for _ in 0..PIECES {
        stream.write_all(&PIECE).context("sending the body")?;
        std::thread::sleep(REST);
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading the answer")?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "answered {}", answer.lines().next().unwrap_or("nothing"));
    Ok(())
}
