//! Names, without the C library's help: an image of one static file has no resolver. One question to the first server of
//! `/etc/resolv.conf`, as RFC 1035 writes it.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// A server that answers later than this hangs, as far as a test is concerned.
const PATIENCE: Duration = Duration::from_secs(3);

/// The addresses of `name`, in the server's order; empty when the name exists without one.
///
/// # Errors
/// No server, no answer in time, or the server's refusal, in words.
pub fn addresses(name: &str) -> Result<Vec<Ipv4Addr>, String> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let config =
        std::fs::read_to_string("/etc/resolv.conf").map_err(|error| format!("/etc/resolv.conf: {error}"))?;
    let server = config
        .lines()
        .find_map(|line| line.strip_prefix("nameserver "))
        .ok_or("/etc/resolv.conf names no server")?
        .trim();
    let ask = || -> std::io::Result<Vec<u8>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect((server, 53))?;
        socket.send(&question(name))?;
        let mut answer = vec![0; 4096];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("{server}: {error}"))?;
    read(&answer).ok_or_else(|| format!("{server}: not an answer"))?
}

fn question(name: &str) -> Vec<u8> {
    // Number 1, recursion desired, one question.
    let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(63).min(63));
        bytes.extend(label.bytes().take(63));
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn read(answer: &[u8]) -> Option<Result<Vec<Ipv4Addr>, String>> {
    match answer.get(3)? & 15 {
        0 => {}
        3 => return Some(Err("no such name".to_owned())),
        code => return Some(Err(format!("refused with code {code}"))),
    }
    let count = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    let mut at = skip_name(answer, 12)? + 4;
    let mut addresses = Vec::new();
    for _ in 0..count {
        at = skip_name(answer, at)?;
        let kind = u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]);
        let length = usize::from(u16::from_be_bytes([*answer.get(at + 8)?, *answer.get(at + 9)?]));
        let data = answer.get(at + 10..at + 10 + length)?;
        if kind == 1 {
            addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?));
        }
        at += 10 + length;
    }
    Some(Ok(addresses))
}

fn skip_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_its_compressed_names() {
        let mut answer = question("a.b");
        (answer[2], answer[7]) = (0x81, 1);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 130, 255, 1]);
        assert_eq!(read(&answer), Some(Ok(vec![Ipv4Addr::new(10, 130, 255, 1)])));
        answer[3] = 3;
        assert_eq!(read(&answer), Some(Err("no such name".to_owned())));
        assert_eq!(read(&answer[..5]), Some(Err("no such name".to_owned())));
        answer[3] = 0;
        assert_eq!(read(&answer[..20]), None);
    }
}
