//! One network's sockets.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use mesh::names::{self, Reply};
use model::id::NetworkId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{forward, message::Question, resolvers::Resolvers};
use crate::mesh::world::World;

/// Questions of a network that are answered at a time; what comes beyond is dropped, and the asker asks again.
const QUESTIONS: usize = 512;
/// Connections of a network.
const STREAMS: usize = 64;
/// A connection that asks nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
const LONGEST_QUESTION: usize = 4096;
/// When the process is out of descriptors, accepting again at once would only burn a core.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers for one network.
struct Server {
    world: Arc<World>,
    resolvers: Arc<Resolvers>,
    network: NetworkId,
    questions: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// Begins to answer at an address; until the token is cancelled.
///
/// # Errors
/// The address is not there, or taken.
pub fn start(
    world: &Arc<World>,
    resolvers: &Arc<Resolvers>,
    network: NetworkId,
    address: SocketAddr,
) -> io::Result<CancellationToken> {
    let (datagrams, held) = world.sockets.receive(address)?;
    let (listener, also_held) = world.sockets.listen(address)?;
    let server = Arc::new(Server {
        world: world.clone(),
        resolvers: resolvers.clone(),
        network,
        questions: Arc::new(Semaphore::new(QUESTIONS)),
        streams: Arc::new(Semaphore::new(STREAMS)),
    });
    let stop = CancellationToken::new();
    let (stopped, other) = (stop.clone(), server.clone());
    tokio::spawn(async move {
        let _held = held;
        stopped.run_until_cancelled(receive(server, Arc::new(datagrams))).await
    });
    let stopped = stop.clone();
    tokio::spawn(async move {
        let _held = also_held;
        stopped.run_until_cancelled(accept(other, listener)).await
    });
    Ok(stop)
}

async fn receive(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut bytes = vec![0; LONGEST_QUESTION];
    loop {
        let Ok((length, asker)) = socket.recv_from(&mut bytes).await else { continue };
        let Ok(place) = server.questions.clone().try_acquire_owned() else { continue };
        let (server, socket, question) = (server.clone(), socket.clone(), bytes[..length].to_vec());
        tokio::spawn(async move {
            if let Some(answer) = server.answer(&question, asker.ip(), false).await {
                // Who is gone asks again if he comes back.
                drop(socket.send_to(&answer, asker).await);
            }
            drop(place);
        });
    }
}

async fn accept(server: Arc<Server>, listener: TcpListener) {
    loop {
        let Ok(place) = server.streams.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, asker)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    // A connection that breaks or falls silent is over.
                    drop(converse(&server, stream, asker.ip()).await);
                    drop(place);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn converse(server: &Server, mut stream: TcpStream, asker: IpAddr) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut question)).await??;
        let Some(answer) = server.answer(&question, asker, true).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat())).await??;
    }
}

impl Server {
    /// The answer to a question; `None` when it was none.
    async fn answer(&self, bytes: &[u8], asker: IpAddr, by_tcp: bool) -> Option<Vec<u8>> {
        let question = Question::read(bytes)?;
        let reply = match (asker.to_canonical(), question.kind()) {
            (IpAddr::V4(asker), kind) => self.decide(asker, &question, kind),
            (IpAddr::V6(_), _) => Reply::Refused,
        };
        match question.answer(&reply) {
            Some(answer) if by_tcp || answer.len() <= question.longest_datagram() => Some(answer),
            Some(answer) => truncated(answer),
            None => {
                let number = self.world.random.next() as u16;
                let forwarded = forward::ask(&self.resolvers, bytes, by_tcp, number).await;
                forwarded.or_else(|| question.failure())
            }
        }
    }

    fn decide(&self, asker: Ipv4Addr, question: &Question, kind: Option<names::Kind>) -> Reply {
        let table = self.world.table.load();
        let network = table.networks.iter().find(|network| network.route.network == self.network);
        let Some(network) = network else { return Reply::Refused };
        match kind {
            Some(kind) => names::resolve(network, asker, &question.name(), kind, self.world.random.next()),
            None if network.route.contains(asker) => Reply::Forward,
            None => Reply::Refused,
        }
    }
}

/// Too long for a datagram: the asker is to come again by TCP. Header and question are left.
fn truncated(mut answer: Vec<u8>) -> Option<Vec<u8>> {
    *answer.get_mut(2)? |= 0x02;
    let end = 12 + answer.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
    answer.truncate(end);
    answer.get_mut(6..12)?.fill(0);
    Some(answer)
}
