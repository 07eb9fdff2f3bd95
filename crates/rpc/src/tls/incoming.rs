//! Accepted connections, handshake done, as a stream for tonic's `serve_with_incoming`.
//!
//! Handshakes run beside each other and beside the accept loop: one slow client must not keep the others waiting. They
//! are bounded in number and in time, and each belongs to the [`Incoming`] that accepted it: when that is dropped, so
//! are they.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::connections::Listed;
use super::{Connections, HANDSHAKE_TIMEOUT, ServerTls, TlsError, tune};
use crate::identity::{Peer, PeerCertificate};
use crate::offences::Offences;
use crate::places::{Place, Places};

/// After a power cut thousands of agents come back at once. With a signature of about 0.1 ms per handshake, 256 keep
/// every core busy, while memory stays at some 10 MiB; the rest waits in the kernel's backlog.
const CONCURRENT_HANDSHAKES: usize = 256;

/// Besides, those of addresses that failed lately, most of which wait for their turn: they take no place of others.
const LATE_HANDSHAKES: usize = 64;

/// Of all these from one address: a slow or hostile one leaves half of the places to the others. Connections beyond are closed at
/// once; who means well comes again.
const HANDSHAKES_OF_ONE_ADDRESS: usize = CONCURRENT_HANDSHAKES / 2;

/// Who has no certificate and is allowed nothing for so long is cut off, however slowly it goes on sending.
const STRANGER_PATIENCE: Duration = Duration::from_secs(30);

/// Refusals that wait for who listens to them.
const REFUSED: usize = 256;

/// When the process is out of file descriptors, accepting again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The stream of connections of one listener. It never ends and never fails: what goes wrong with one connection is
/// logged and concerns that one only.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    tls: ServerTls,
    handshakes: JoinSet<Result<TlsConnection, TlsError>>,
    /// Of addresses that failed lately.
    late: JoinSet<Result<TlsConnection, TlsError>>,
    shaking: Places<IpAddr>,
    pause: Option<Pin<Box<Sleep>>>,
    connections: Connections,
    offences: Offences,
    refused: Option<mpsc::Sender<(IpAddr, TlsError)>>,
    patience: Duration,
}

/// One accepted connection. Its [`Peer`] is in the extensions of every request that arrives on it.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    patience: Option<Pin<Box<Sleep>>>,
    _listed: Listed,
}

impl Incoming {
    /// Accepts on `listener`.
    pub fn new(listener: TcpListener, tls: ServerTls) -> Self {
        Self {
            listener,
            tls,
            handshakes: JoinSet::new(),
            late: JoinSet::new(),
            shaking: Places::default(),
            pause: None,
            connections: Connections::default(),
            offences: Offences::default(),
            refused: None,
            patience: STRANGER_PATIENCE,
        }
    }

    /// Cuts who has no certificate and is allowed nothing for so long, in place of 30 s.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Who failed lately; a service that refuses a proof of its own, such as a token, notes it here. Take it before the server
    /// consumes the stream.
    pub fn offences(&self) -> Offences {
        self.offences.clone()
    }

    /// Who is refused from here on because of a certificate that proves nothing, and why. Whoever does not keep up misses some. Take it
    /// before the server consumes the stream.
    pub fn refused(&mut self) -> mpsc::Receiver<(IpAddr, TlsError)> {
        let (tell, refused) = mpsc::channel(REFUSED);
        self.refused = Some(tell);
        refused
    }

    /// The connections that are open, for revocation. Take it before the server consumes the stream.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Where it listens, for example after binding port 0.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts as long as there are clients and free places; registers for the next one.
    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        while self.handshakes.len() < CONCURRENT_HANDSHAKES {
            if let Some(pause) = self.pause.as_mut() {
                if pause.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((socket, address))) => self.begin(socket, address),
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
                Poll::Pending => return,
            }
        }
    }
}

impl Incoming {
    /// Begins a handshake, at once or when it is the address's turn; hangs up when it has too many under way or too many wait.
    fn begin(&mut self, socket: TcpStream, address: SocketAddr) {
        let Some(place) = self.shaking.take(&address.ip(), HANDSHAKES_OF_ONE_ADDRESS) else {
            tracing::debug!(peer = %address, "hung up on: its address has too many handshakes under way");
            return;
        };
        let door = Door {
            tls: self.tls.clone(),
            connections: self.connections.clone(),
            offences: self.offences.clone(),
            refused: self.refused.clone(),
            patience: self.patience,
            _place: place,
        };
        let wait = self.offences.turn(address.ip(), Instant::now());
        if wait.is_zero() {
            self.handshakes.spawn(door.shake_hands(socket, address));
        } else if self.late.len() < LATE_HANDSHAKES {
            self.late.spawn(async move {
                sleep(wait).await;
                door.shake_hands(socket, address).await
            });
        } else {
            tracing::debug!(peer = %address, "hung up on: its address fails too often");
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            self.poll_accept(cx);
            match ready!(self.poll_handshake(cx)) {
                Some(connection) => return Poll::Ready(Some(Ok(connection))),
                None => continue,
            }
        }
    }
}

impl Incoming {
    /// The next finished handshake; `None` when it failed and its place is free.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Option<TlsConnection>> {
        for handshakes in [&mut self.handshakes, &mut self.late] {
            match handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Ok(connection)))) => return Poll::Ready(Some(connection)),
                Poll::Ready(Some(Ok(Err(_logged)))) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    tracing::error!(%error, "a TLS handshake panicked");
                    return Poll::Ready(None);
                }
                // Nobody is shaking hands: the listener alone wakes this task.
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

/// What a handshake needs.
struct Door {
    tls: ServerTls,
    connections: Connections,
    offences: Offences,
    refused: Option<mpsc::Sender<(IpAddr, TlsError)>>,
    patience: Duration,
    _place: Place<IpAddr>,
}

impl Door {
    async fn shake_hands(self, socket: TcpStream, address: SocketAddr) -> Result<TlsConnection, TlsError> {
        let result = self.accept(socket, address).await;
        if let Err(error) = &result {
            tracing::info!(peer = %address, %error, "connection refused");
            if error.is_failed_proof() {
                self.offences.note(address.ip(), Instant::now());
                if let Some(tell) = &self.refused {
                    let _ = tell.try_send((address.ip(), error.clone()));
                }
            }
        }
        result
    }

    async fn accept(&self, socket: TcpStream, address: SocketAddr) -> Result<TlsConnection, TlsError> {
        tune(&socket).map_err(|error| TlsError::of_io(&error))?;
        let presented = self.tls.credentials.current();
        let handshake = TlsAcceptor::from(self.tls.config()).accept(socket);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_elapsed| TlsError::TimedOut { limit: HANDSHAKE_TIMEOUT })?
            .map_err(|error| TlsError::of_io(&error).with_clock_of(presented.as_deref()))?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = leaf.map(|leaf| PeerCertificate::read(leaf.clone().into_owned())).transpose()?;
        let peer = Peer::new(address, certificate);
        let cut = Box::pin(peer.cut().cancelled_owned());
        let listed = self.connections.list(peer.clone()).ok_or(TlsError::TooManyStrangers)?;
        let patience = peer.certificate().is_none().then(|| Box::pin(sleep(self.patience)));
        Ok(TlsConnection { stream, peer, cut, patience, _listed: listed })
    }
}

impl TlsConnection {
    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the patience with somebody who has no certificate is at its end.
    fn is_unwelcome(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(patience) = &mut self.patience else { return false };
        if patience.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.patience = None;
        !self.peer.is_welcome()
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    /// An HTTP/2 connection always waits in a read, so this is where a cut reaches it.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() || self.is_unwelcome(cx) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection was cut",
            )));
        }
        pin!(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use model::id::{ClusterId, MemberId};
    use model::identity::{CertName, Identity};
    use model::time::WallTime;
    use pki::{ClusterCa, KeyAndCsr};

    use super::*;
    use crate::tls::{CertReloader, ClientTls, Credentials, Refusal, Standing};

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_server_whose_certificate_expired_learns_it_from_a_client_that_refuses_it() {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        let ago = |hours: u32| WallTime((now - HOUR * hours).as_micros() as u64);
        let ca = ClusterCa::generate(ClusterId(1), ago(9)).expect("an authority");
        let name = CertName { cluster: ca.cluster(), identity: Identity::Manager(MemberId(1)) };
        let pair = KeyAndCsr::generate().expect("a key");
        let leaf = ca.issue(pair.csr_pem.as_bytes(), &name, HOUR, ago(2), 1).expect("a certificate");
        let credentials = Credentials::from_pem(&leaf, ca.certificate_pem(), &pair.key_pem());
        let credentials = CertReloader::new(credentials.expect("credentials"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let there = listener.local_addr().expect("bound").to_string();
        let door = Door {
            tls: ServerTls::new(ca.certificate_pem(), credentials).expect("settings"),
            connections: Connections::default(),
            offences: Offences::default(),
            refused: None,
            patience: STRANGER_PATIENCE,
            _place: Places::default().take(&std::net::Ipv4Addr::LOCALHOST.into(), 1).expect("the first"),
        };
        let client = ClientTls::anonymous(ca.certificate_pem()).expect("settings");
        let accept = async {
            let (socket, address) = listener.accept().await.expect("a connection");
            door.accept(socket, address).await
        };

        let (accepted, connected) = tokio::join!(accept, client.connect(&there));

        assert!(matches!(connected, Err(TlsError::Expired { .. })), "{connected:?}");
        let error = accepted.expect_err("the client hung up");
        let TlsError::Refused(Refusal::Clock(Some(Standing::Expired { since }))) = error else {
            panic!("{error:?}")
        };
        assert!((3600..3700).contains(&since), "{since}");
    }
}
