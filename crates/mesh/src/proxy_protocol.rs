//! The PROXY protocol's header, version 2: tells a container who the client is.

use std::net::SocketAddr;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header of a TCP connection from `client` to `server`. Two families are written as IPv6.
pub fn header(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::with_capacity(36);
    let family = match (client, server) {
        (SocketAddr::V4(client), SocketAddr::V4(server)) => {
            addresses.extend(client.ip().octets());
            addresses.extend(server.ip().octets());
            TCP4
        }
        _ => {
            for end in [client, server] {
                let ip = match end {
                    SocketAddr::V4(end) => end.ip().to_ipv6_mapped(),
                    SocketAddr::V6(end) => *end.ip(),
                };
                addresses.extend(ip.octets());
            }
            TCP6
        }
    };
    addresses.extend(client.port().to_be_bytes());
    addresses.extend(server.port().to_be_bytes());
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([VERSION_2_PROXY, family]);
    bytes.extend(u16::try_from(addresses.len()).expect("36 at most").to_be_bytes());
    bytes.extend(addresses);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_the_bytes_of_the_specification() {
        let bytes = header("10.0.0.1:256".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert_eq!(bytes[..12], [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
        assert_eq!(bytes[12..], [0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 1, 0, 0, 80]);
        let mixed = header("[::1]:1".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert_eq!((mixed.len(), mixed[13], mixed[15]), (52, 0x21, 36));
    }
}
