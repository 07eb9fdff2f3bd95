//! Questions that are not ours: asked of the host's resolvers, byte for byte but for the number.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{PORT, resolvers::Resolvers};

/// One resolver may take this long until the next is asked.
const EACH: Duration = Duration::from_millis(900);
/// All of them together: shorter than the asker's own patience.
const ALL: Duration = Duration::from_secs(2);
/// The header's first two bytes.
const NUMBER: usize = 2;
/// In the header's third byte: it is an answer.
const IS_ANSWER: u8 = 0x80;
const HEADER: usize = 12;
const LONGEST_DATAGRAM: usize = 4096;

/// The resolvers' answer to a question, given the same way as it was asked; `None` when nobody answered in time.
pub async fn ask(resolvers: &Resolvers, question: &[u8], by_tcp: bool, number: u16) -> Option<Vec<u8>> {
    let mut asked = question.to_vec();
    asked.get_mut(..NUMBER)?.copy_from_slice(&number.to_be_bytes());
    let all = async {
        for resolver in resolvers.list() {
            let address = SocketAddr::from((resolver, PORT));
            let answered = async {
                if by_tcp { by_stream(address, &asked).await } else { by_datagram(address, &asked).await }
            };
            match timeout(EACH, answered).await {
                Ok(Ok(mut answer)) => {
                    answer[..NUMBER].copy_from_slice(&question[..NUMBER]);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%resolver, %error, "no answer"),
                Err(_late) => tracing::debug!(%resolver, "no answer in time"),
            }
        }
        None
    };
    timeout(ALL, all).await.ok().flatten()
}

async fn by_datagram(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each question, and connected: nobody else's datagram gets in.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut bytes = vec![0; LONGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut bytes).await?;
        if is_answer(&bytes[..length], question) {
            bytes.truncate(length);
            return Ok(bytes);
        }
    }
}

async fn by_stream(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    if is_answer(&bytes, question) { Ok(bytes) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn is_answer(answer: &[u8], question: &[u8]) -> bool {
    answer.len() >= HEADER && answer[..NUMBER] == question[..NUMBER] && answer[2] & IS_ANSWER != 0
}
