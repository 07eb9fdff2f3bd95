//! One connection with another node: TLS below, yamux on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use mesh::{
    balance::Failure,
    leg::{Answer, Header},
};
use model::id::NodeId;
use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_rustls::TlsStream;
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt},
    sync::CancellationToken,
};
use yamux::{Config, Connection, Mode, Stream};

use super::{
    inbound,
    leg::{Counted, Leg},
};
use crate::mesh::{socket, world::World};

/// Streams that we open on one connection; another replica is tried beyond. As many may come from the other end.
const MAX_STREAMS: usize = 512;
/// yamux ends a connection that has more: never reached, because each end keeps to its own bound.
const YAMUX_STREAMS: usize = 4 * MAX_STREAMS;
/// What may lie unread here, of all streams together: a slow reader holds up its sender. Each stream has 256 KiB to begin with,
/// and yamux wants that kept for as many as there may be; what is more is for the fast ones to grow.
const RECEIVE_WINDOW: usize = YAMUX_STREAMS * 256 * 1024 + (64 << 20);
/// Requests for a stream that wait for the connection's task.
const QUEUE: usize = 64;
/// A link that is idle notices the other node's end so soon; one with data under way by the socket's own timeout.
const KEEPALIVE: Duration = Duration::from_secs(2);

type Socket = Compat<TlsStream<TcpStream>>;
type Order = oneshot::Sender<Stream>;

/// A connection that runs.
#[derive(Debug)]
pub struct Link {
    /// Who is at the other end.
    pub node: NodeId,
    /// We made it.
    pub dialled: bool,
    orders: mpsc::Sender<Order>,
    streams: Arc<AtomicUsize>,
    retired: AtomicBool,
    cut: CancellationToken,
}

impl Link {
    /// Uses a connection after its handshake, until it ends.
    pub async fn run(world: Arc<World>, stream: TlsStream<TcpStream>, node: NodeId, dialled: bool) {
        let (orders, queue) = mpsc::channel(QUEUE);
        let link = Arc::new(Self {
            node,
            dialled,
            orders,
            streams: Arc::default(),
            retired: AtomicBool::new(false),
            cut: CancellationToken::new(),
        });
        world.peers.add(link.clone());
        // Whichever comes first, the connection or the news, the other one sees it.
        if world.table.load().removed.contains(&node) {
            link.cut();
        }
        tracing::info!(%node, dialled, "connected");
        let mut config = Config::default();
        config.set_max_num_streams(YAMUX_STREAMS).set_max_connection_receive_window(Some(RECEIVE_WINDOW));
        let mode = if dialled { Mode::Client } else { Mode::Server };
        let connection = Connection::new(stream.compat(), config, mode);
        let ended = link.cut.run_until_cancelled(drive(&world, &link, connection, queue)).await;
        world.peers.remove(&link);
        tracing::info!(%node, reason = ended.unwrap_or_default(), "disconnected");
    }

    /// Opens a stream and says what it is for.
    ///
    /// # Errors
    /// The other node does not open it, or is gone.
    pub async fn open(&self, header: Header) -> Result<Leg, Failure> {
        let counted = Counted::new(self.streams.clone());
        let (order, stream) = oneshot::channel();
        self.orders.send(order).await.map_err(|_| Failure::Unreachable)?;
        let stream = stream.await.map_err(|_| Failure::Unreachable)?;
        let mut leg = Leg::new(stream, counted);
        let answered = async {
            leg.write_all(&header.encode()).await?;
            leg.flush().await?;
            leg.read_u8().await
        };
        match answered.await.map(Answer::decode) {
            Ok(Answer::Open) => Ok(leg),
            Ok(Answer::NoSuchTask | Answer::Draining) => Err(Failure::Withdrawn),
            Ok(Answer::Unreachable) | Err(_) => Err(Failure::Unreachable),
        }
    }

    /// Streams that we opened and that live.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether a stream can be opened.
    pub fn takes_streams(&self) -> bool {
        self.streams() < MAX_STREAMS
    }

    /// The other end asked us to open streams elsewhere.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The other end asks us to open streams elsewhere.
    pub fn set_retired(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Ends it with everything on it.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

/// Tunes a socket for a link.
pub fn tune(socket: &TcpStream) -> std::io::Result<()> {
    socket::tune(socket, socket::NODE)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE)?;
    Ok(sockopt::set_tcp_keepintvl(socket, Duration::from_secs(1))?)
}

/// Moves the connection's bytes, opens what is asked for and serves what the other end opens; returns why it ended.
async fn drive(
    world: &Arc<World>,
    link: &Arc<Link>,
    mut connection: Connection<Socket>,
    mut queue: mpsc::Receiver<Order>,
) -> String {
    let mut order: Option<Order> = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(reason) = poll_orders(cx, &mut connection, &mut queue, &mut order) {
            return Poll::Ready(reason);
        }
        loop {
            match connection.poll_next_inbound(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(stream))) => {
                    world.connections.spawn(inbound::serve(world.clone(), link.clone(), stream));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(error.to_string()),
                Poll::Ready(None) => return Poll::Ready("closed by the other node".to_owned()),
            }
        }
    })
    .await
}

fn poll_orders(
    cx: &mut Context<'_>,
    connection: &mut Connection<Socket>,
    queue: &mut mpsc::Receiver<Order>,
    order: &mut Option<Order>,
) -> Poll<String> {
    loop {
        if order.as_ref().is_none_or(oneshot::Sender::is_closed) {
            match queue.poll_recv(cx) {
                Poll::Ready(Some(next)) => *order = Some(next),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
        match connection.poll_new_outbound(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(error.to_string()),
            Poll::Ready(Ok(stream)) => {
                // Who gave up in the meantime drops the stream unused.
                drop(order.take().map(|order| order.send(stream)));
            }
        }
    }
}
