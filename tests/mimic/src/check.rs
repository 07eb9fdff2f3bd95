//! The client side: a health check for an image that holds no shell and no curl.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crate::resolve;

/// The page whose body tells a working application from a broken one.
pub const STATUS_PATH: &str = "/ispyb/ispyb-ws/rest/schema/status";
/// A check that takes longer has failed; the engine's own timeout is usually longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Exits 0 when the instance in this container answers `path` with 200, and, for the status page, without exception.
pub fn healthy(path: &str) -> ExitCode {
    let port = std::env::var("MIMIC_PORT").unwrap_or_else(|_| "8080".to_owned());
    match get(&format!("127.0.0.1:{port}"), path) {
        Ok((200, body)) if path != STATUS_PATH || body.contains("\"schemaStatus\"") => {
            println!("healthy");
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            println!("unhealthy: {status} {}", body.lines().next().unwrap_or(""));
            ExitCode::FAILURE
        }
        Err(problem) => {
            println!("unhealthy: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the body that `address` answers for `path`; exits 0 when it is a 200.
pub fn print(address: &str, path: &str) -> ExitCode {
    match get(address, path) {
        Ok((status, body)) => {
            print!("{body}");
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            eprintln!("mimic: {address}: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the addresses of `name`, one a line.
pub fn resolve(name: &str) -> ExitCode {
    match resolve::addresses(name) {
        Ok(addresses) => {
            addresses.iter().for_each(|address| println!("{address}"));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("mimic: {name}: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address} is not HOST:PORT"))?;
    let port: u16 = port.parse().map_err(|_| format!("{address} is not HOST:PORT"))?;
    let found = resolve::addresses(host)?;
    let address = SocketAddr::from((*found.first().ok_or_else(|| format!("{host} has no address"))?, port));
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("not an HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("not an HTTP answer")?;
    Ok((status, body.to_owned()))
}
