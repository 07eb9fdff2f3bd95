//! One connection to a manager: frames out of a bounded queue, frames in as events.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_core::event::Event;
use model::session::AgentMessage;
use proto::{
    codec,
    v1::{SessionFrame, agents_client::AgentsClient},
};
use rpc::tls::{ClientTls, Refusal, TlsError, channel};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::renew::News;

/// Messages that may wait for the network; more means that nobody reads them any more.
const QUEUE: usize = 1_024;
/// A whole desired set of a large node.
const MAX_MESSAGE: usize = 64 << 20;
/// What was sent before a farewell gets so long to leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// A session that the agent itself ended.
const OURS: &str = "closed by the agent";

/// Why each manager could not be talked to: said once, not at every try.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<String, String>>>);

impl Troubles {
    fn tell(&self, address: &str, reason: &str) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned(), reason.to_owned())
            != Some(reason.to_owned())
        {
            tracing::warn!(%address, %reason, "no session with this manager; containers go on, trying all managers");
        }
    }

    fn forget(&self, address: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }
}

/// The agent's end of a connection. Dropping it closes the connection after what was sent has left.
#[derive(Debug)]
pub struct Connection {
    /// As the core named it.
    pub number: u64,
    /// Where it leads.
    pub address: String,
    frames: mpsc::Sender<SessionFrame>,
    _hang_up: oneshot::Sender<()>,
}

impl Connection {
    /// Dials. Everything further comes as events; the future is the connection's work and is to be driven to its end.
    pub fn dial(
        number: u64,
        address: String,
        tls: ClientTls,
        (troubles, news): (Troubles, News),
        events: mpsc::Sender<Event>,
    ) -> (Self, impl Future<Output = ()>) {
        let (frames, queue) = mpsc::channel(QUEUE);
        let (hang_up, hung_up) = oneshot::channel();
        let work =
            run(Dialled { number, address: address.clone(), tls, troubles, news, queue, hung_up }, events);
        (Self { number, address, frames, _hang_up: hang_up }, work)
    }

    /// Queues a message. False when the queue is full: the connection is of no use any more.
    pub fn send(&self, message: &AgentMessage) -> bool {
        self.frames.try_send(SessionFrame { message: codec::encode(message) }).is_ok()
    }
}

struct Dialled {
    number: u64,
    address: String,
    tls: ClientTls,
    troubles: Troubles,
    news: News,
    queue: mpsc::Receiver<SessionFrame>,
    hung_up: oneshot::Receiver<()>,
}

async fn run(dialled: Dialled, events: mpsc::Sender<Event>) {
    let connection = dialled.number;
    let address = dialled.address.clone();
    // The greeting may be queued at once: it leaves with the stream's first frame, whenever the connection stands.
    if events.send(Event::ManagerConnected { connection }).await.is_err() {
        return;
    }
    let troubles = dialled.troubles.clone();
    let reason = converse(dialled, &events).await;
    if reason != OURS {
        troubles.tell(&address, &reason);
    }
    // An agent that has ended needs no news.
    drop(events.send(Event::ManagerClosed { connection, reason }).await);
}

async fn converse(dialled: Dialled, events: &mpsc::Sender<Event>) -> String {
    let Dialled { number, address, tls, troubles, news, queue, mut hung_up } = dialled;
    let mut client = AgentsClient::new(channel(&address, tls)).max_decoding_message_size(MAX_MESSAGE);
    let opening = client.session(ReceiverStream::new(queue));
    let mut frames = tokio::select! {
        opened = opening => match opened {
            Ok(response) => response.into_inner(),
            Err(status) => return told(&status, &news),
        },
        _ = &mut hung_up => return OURS.to_owned(),
    };
    loop {
        tokio::select! {
            frame = frames.message() => match frame {
                Ok(Some(frame)) => match codec::decode(&frame.message) {
                    Ok(message) => {
                        troubles.forget(&address);
                        let event = Event::ManagerMessage { connection: number, message: Box::new(message) };
                        if events.send(event).await.is_err() {
                            return "the agent ends".to_owned();
                        }
                    }
                    Err(error) => return format!("a message of the manager: {error}"),
                },
                Ok(None) => return "closed by the manager".to_owned(),
                Err(status) => return told(&status, &news),
            },
            _ = &mut hung_up => {
                // Our half of the stream has ended; the manager ends its own once it has read everything.
                let rest = async { while let Ok(Some(_)) = frames.message().await {} };
                drop(tokio::time::timeout(FAREWELL, rest).await);
                return OURS.to_owned();
            }
        }
    }
}

/// What ended the stream, by its root cause.
fn told(status: &Status, news: &News) -> String {
    let Some(error) = TlsError::in_chain(status) else { return status.message().to_owned() };
    if matches!(error, TlsError::Refused(Refusal::UnknownCa)) {
        news.disowned();
    }
    crate::engine::chain(&error)
}
