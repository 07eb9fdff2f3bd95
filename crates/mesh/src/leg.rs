//! The first bytes of a stream between two nodes' meshes: for which task, and who asks.
//!
//! A header has [`HEADER`] bytes; all numbers are big-endian. The answer is one byte, and everything after it belongs to the task.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version of this format |
//! | 1 | what is wanted: a task, or that no more streams are opened on this connection |
//! | 2-9 | task |
//! | 10-11 | the container's port |
//! | 12-27 | the client's address (IPv4 mapped into IPv6) |
//! | 28-29 | the client's port |

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use model::id::TaskId;

/// The length of a header.
pub const HEADER: usize = 30;
/// The name of the protocol in the TLS handshake.
pub const ALPN: &[u8] = b"mesh/1";

const VERSION: u8 = 1;
const OPEN: u8 = 0;
const RETIRE: u8 = 1;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// A connection to a task.
    Open {
        /// Which.
        task: TaskId,
        /// The container's port.
        port: u16,
        /// Who asks.
        client: SocketAddr,
    },
    /// The sender's process is about to end: open further streams on another connection.
    Retire,
}

/// What the task's node says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What follows goes to the task.
    Open,
    /// No such task here.
    NoSuchTask,
    /// It is being stopped, or this mesh ends.
    Draining,
    /// Its container takes no connection.
    Unreachable,
}

impl Header {
    /// As bytes.
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = VERSION;
        match self {
            Self::Retire => bytes[1] = RETIRE,
            Self::Open { task, port, client } => {
                bytes[1] = OPEN;
                bytes[2..10].copy_from_slice(&task.0.to_be_bytes());
                bytes[10..12].copy_from_slice(&port.to_be_bytes());
                bytes[12..28].copy_from_slice(&mapped(client.ip()).octets());
                bytes[28..30].copy_from_slice(&client.port().to_be_bytes());
            }
        }
        bytes
    }

    /// From bytes; `None` when they are of another version or purpose.
    pub fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        if bytes[0] != VERSION {
            return None;
        }
        let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        match bytes[1] {
            RETIRE => Some(Self::Retire),
            OPEN => {
                let address: [u8; 16] = bytes[12..28].try_into().expect("sixteen bytes");
                let ip = Ipv6Addr::from(address).to_canonical();
                let task = u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes"));
                Some(Self::Open {
                    task: TaskId(task),
                    port: short(10),
                    client: SocketAddr::new(ip, short(28)),
                })
            }
            _ => None,
        }
    }
}

impl Answer {
    /// As a byte.
    pub fn encode(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::NoSuchTask => 1,
            Self::Draining => 2,
            Self::Unreachable => 3,
        }
    }

    /// From a byte. What a newer mesh may say besides counts as unreachable: nothing was sent, so another replica is tried.
    pub fn decode(byte: u8) -> Self {
        match byte {
            0 => Self::Open,
            1 => Self::NoSuchTask,
            2 => Self::Draining,
            _ => Self::Unreachable,
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back() {
        for client in ["10.1.2.3:4567", "[2001:db8::1]:9"] {
            let header = Header::Open { task: TaskId(77), port: 8080, client: client.parse().unwrap() };
            assert_eq!(Header::decode(&header.encode()), Some(header));
        }
        assert_eq!(Header::decode(&Header::Retire.encode()), Some(Header::Retire));
    }

    #[test]
    fn a_header_of_another_version_is_not_understood() {
        let mut bytes = Header::Retire.encode();
        bytes[0] = 2;
        assert_eq!(Header::decode(&bytes), None);
        bytes[..2].copy_from_slice(&[VERSION, 9]);
        assert_eq!(Header::decode(&bytes), None);
    }

    #[test]
    fn an_answer_reads_back_and_an_unknown_one_opens_nothing() {
        for answer in [Answer::Open, Answer::NoSuchTask, Answer::Draining, Answer::Unreachable] {
            assert_eq!(Answer::decode(answer.encode()), answer);
        }
        assert_eq!(Answer::decode(200), Answer::Unreachable);
    }
}
