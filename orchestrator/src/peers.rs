//! Connections to the other members: one stream each way, kept open, never waited for by the core.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use bytes::Bytes;
use manager_core::Event;
use model::id::MemberId;
use proto::v1::{PeerFrame, peers_client::PeersClient};
use rpc::tls::{ClientTls, channel};
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, error::TrySendError},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status};

use crate::{api::MAX_MESSAGE, core_loop::Input};

/// Frames that wait for a member: Raft repairs what is dropped beyond. With at most 256 KiB a frame it bounds the memory
/// that a stuck member costs to 64 MiB.
const FRAMES: usize = 256;
/// The pauses between two attempts to connect double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(320);
/// What a broken stream's call says of its end, when it says anything.
const LAST_WORD: Duration = Duration::from_millis(500);
/// A connection that lasted so long was good: the next failure starts with the first pause again.
const LASTED: Duration = Duration::from_secs(2);

/// The connections.
pub struct Peers {
    tls: ClientTls,
    inputs: mpsc::Sender<Input>,
    runtime: Handle,
    open: BTreeMap<MemberId, Peer>,
}

struct Peer {
    address: String,
    frames: mpsc::Sender<Bytes>,
    _end: DropGuard,
}

impl Peers {
    /// None yet. The connections' tasks run on `runtime`.
    pub fn new(tls: ClientTls, inputs: mpsc::Sender<Input>, runtime: Handle) -> Self {
        Self { tls, inputs, runtime, open: BTreeMap::new() }
    }

    /// Keeps connections to these and no others.
    pub fn set(&mut self, members: Vec<(MemberId, String)>) {
        let wanted: BTreeMap<_, _> = members.into_iter().collect();
        self.open.retain(|id, peer| wanted.get(id) == Some(&peer.address));
        for (id, address) in wanted {
            if !self.open.contains_key(&id) {
                let peer = self.connect(id, address);
                self.open.insert(id, peer);
            }
        }
    }

    /// Sends a frame, or drops it when the member is gone or too far behind.
    pub fn send(&self, to: MemberId, bytes: Bytes) {
        let Some(peer) = self.open.get(&to) else { return };
        match peer.frames.try_send(bytes) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::debug!(%to, "dropped a frame: the member does not keep up")
            }
            Err(TrySendError::Closed(_)) => tracing::debug!(%to, "dropped a frame: the connection ended"),
        }
    }

    fn connect(&self, id: MemberId, address: String) -> Peer {
        let (frames, queue) = mpsc::channel(FRAMES);
        let end = CancellationToken::new();
        let link = Link { id, address: address.clone(), tls: self.tls.clone(), inputs: self.inputs.clone() };
        let ended = end.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = link.run(queue) => {}
            }
        });
        Peer { address, frames, _end: end.drop_guard() }
    }
}

struct Link {
    id: MemberId,
    address: String,
    tls: ClientTls,
    inputs: mpsc::Sender<Input>,
}

impl Link {
    /// Connects as soon as there is something to send, again and again. A stream that broke is opened once more without that:
    /// whoever was removed and has nothing to say, as a learner, would never hear why.
    async fn run(self, mut queue: mpsc::Receiver<Bytes>) {
        let mut client = PeersClient::new(channel(&self.address, self.tls.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let mut pause = FIRST_PAUSE;
        let mut knock = false;
        loop {
            let first = if knock { None } else { queue.recv().await };
            if first.is_none() && !knock {
                return;
            }
            knock = first.is_some();
            let began = std::time::Instant::now();
            let (frames, stream) = mpsc::channel(16);
            let mut call = pin!(client.exchange(ReceiverStream::new(stream)));
            let done = tokio::select! {
                done = &mut call => done,
                ended = pump(self.id, first, &mut queue, frames) => match ended {
                    Ended::Queue => return,
                    Ended::Stream => tokio::time::timeout(LAST_WORD, call).await.unwrap_or_else(|_| Err(Status::unknown("the stream broke"))),
                },
            };
            let failure = done.err().unwrap_or_else(|| Status::unknown("the member ended the stream"));
            tracing::debug!(member = %self.id, address = %self.address, reason = said(&failure), "no connection to a member");
            // Only an identity that was removed is answered so; see `api::Context::identity`.
            let event = match failure.code() {
                Code::Unauthenticated => Event::Disowned { by: self.id },
                _ => Event::PeerUnreachable { member: self.id },
            };
            let _ = self.inputs.send(Input::Core(event)).await;
            pause = if began.elapsed() > LASTED { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
            tokio::time::sleep(pause).await;
            // What queued up meanwhile is stale: Raft will say it again.
            while queue.try_recv().is_ok() {}
        }
    }
}

/// Why frames flow no more.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The member is not to be connected to any more.
    Queue,
    /// This connection is over; the queue waits for the next. Seen here or by the call, whichever is polled first.
    Stream,
}

/// Moves frames from the queue into a call.
async fn pump(
    to: MemberId,
    first: Option<Bytes>,
    queue: &mut mpsc::Receiver<Bytes>,
    frames: mpsc::Sender<PeerFrame>,
) -> Ended {
    let mut next = match first {
        Some(first) => Some(first),
        None => queue.recv().await,
    };
    while let Some(message) = next {
        if frames.send(PeerFrame { message, to: to.0 }).await.is_err() {
            return Ended::Stream;
        }
        next = queue.recv().await;
    }
    Ended::Queue
}

fn said(status: &Status) -> String {
    rpc::tls::TlsError::in_chain(status).map_or(status.message().to_owned(), |error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::SystemTime,
    };

    use model::{
        id::ClusterId,
        identity::{CertName, Identity},
        time::WallTime,
    };
    use pki::{ClusterCa, KeyAndCsr};
    use proto::v1::{
        PeerDone,
        peers_server::{Peers as PeersService, PeersServer},
    };
    use rpc::tls::{CertReloader, Credentials, Incoming, ServerTls};
    use tokio::{net::TcpListener, time::timeout};
    use tonic::{Request, Response, Streaming, transport::Server};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    /// Ends a test that hangs.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Takes one frame and ends the stream; who calls again is told that he was removed.
    #[derive(Clone, Default)]
    struct Remover {
        calls: Arc<AtomicUsize>,
        frames: Arc<AtomicUsize>,
    }

    #[tonic::async_trait]
    impl PeersService for Remover {
        async fn exchange(
            &self,
            request: Request<Streaming<PeerFrame>>,
        ) -> Result<Response<PeerDone>, Status> {
            if self.calls.fetch_add(1, Ordering::SeqCst) > 0 {
                return Err(Status::unauthenticated("manager 1 was removed from this cluster"));
            }
            let frame = request.into_inner().message().await?;
            self.frames.fetch_add(usize::from(frame.is_some()), Ordering::SeqCst);
            Ok(Response::new(PeerDone {}))
        }
    }

    fn now() -> WallTime {
        let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        WallTime(since.as_micros() as u64)
    }

    fn credentials(ca: &ClusterCa, member: u64) -> CertReloader {
        let name = CertName { cluster: ca.cluster(), identity: Identity::Manager(MemberId(member)) };
        let pair = KeyAndCsr::generate().expect("a key");
        let csr = pair.csr_pem.as_bytes();
        let leaf = ca.issue(csr, &name, HOUR, now(), member).expect("a certificate");
        CertReloader::new(
            Credentials::from_pem(&leaf, ca.certificate_pem(), &pair.key_pem()).expect("credentials"),
        )
    }

    async fn next(inputs: &mut mpsc::Receiver<Input>) -> Event {
        match timeout(PATIENCE, inputs.recv()).await.expect("the link tells nothing") {
            Some(Input::Core(event)) => event,
            _ => panic!("a link speaks to the core, as long as it is kept"),
        }
    }

    #[tokio::test]
    async fn member_with_nothing_to_say_hears_that_it_was_removed() {
        let ca = ClusterCa::generate(ClusterId(7), now()).expect("an authority");
        let server = ServerTls::new(ca.certificate_pem(), credentials(&ca, 2)).expect("settings");
        let client = ClientTls::mutual(ca.certificate_pem(), credentials(&ca, 1)).expect("settings");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let remover = Remover::default();
        let service = Server::builder().add_service(PeersServer::new(remover.clone()));
        let service = tokio::spawn(service.serve_with_incoming(Incoming::new(listener, server)));
        let (sender, mut inputs) = mpsc::channel(8);
        let mut peers = Peers::new(client, sender, Handle::current());
        peers.set(vec![(MemberId(2), address)]);

        peers.send(MemberId(2), Bytes::from_static(b"once"));

        let lost = next(&mut inputs).await;
        assert!(matches!(lost, Event::PeerUnreachable { member: MemberId(2) }), "{lost:?}");
        let told = next(&mut inputs).await;
        assert!(matches!(told, Event::Disowned { by: MemberId(2) }), "{told:?}");
        let count = |number: &AtomicUsize| number.load(Ordering::SeqCst);
        assert_eq!((count(&remover.calls), count(&remover.frames)), (2, 1));
        service.abort();
    }

    #[tokio::test]
    async fn broken_stream_is_told_from_a_member_that_is_gone() {
        let (sender, mut queue) = mpsc::channel(4);
        let (frames, stream) = mpsc::channel(1);
        drop(stream);
        let ended = pump(MemberId(2), Some(Bytes::from_static(b"a")), &mut queue, frames).await;
        assert_eq!(ended, Ended::Stream, "the link dials again");

        let (frames, mut stream) = mpsc::channel(4);
        sender.send(Bytes::from_static(b"c")).await.expect("room");
        drop(sender);
        let ended = pump(MemberId(2), Some(Bytes::from_static(b"b")), &mut queue, frames).await;
        assert_eq!(ended, Ended::Queue, "the link ends");
        assert_eq!(stream.recv().await.expect("the first").message.as_ref(), b"b");
        assert_eq!(stream.recv().await.expect("the second").message.as_ref(), b"c");
    }
}
