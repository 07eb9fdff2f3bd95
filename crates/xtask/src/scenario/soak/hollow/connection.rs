//! A simulated agent's session with a manager: the real stream over the real TLS.

use agent_core::event::Event;
use model::session::AgentMessage;
use proto::{
    codec,
    v1::{SessionFrame, agents_client::AgentsClient},
};
use rpc::tls::{ClientTls, channel};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

/// Messages that may wait for the network.
const QUEUE: usize = 1_024;

/// The agent's end; dropping it closes the stream.
pub struct Connection {
    /// As the core named it.
    pub number: u64,
    frames: mpsc::Sender<SessionFrame>,
    _hang_up: oneshot::Sender<()>,
}

impl Connection {
    /// Dials; the future is the connection's work.
    pub fn dial(
        number: u64,
        address: String,
        tls: ClientTls,
        events: mpsc::Sender<Event>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (frames, queue) = mpsc::channel(QUEUE);
        let (hang_up, hung_up) = oneshot::channel::<()>();
        let work = async move {
            let reason = tokio::select! {
                reason = converse(number, &address, tls, queue, &events) => reason,
                _ = hung_up => "closed by the agent".to_owned(),
            };
            // An agent that has ended needs no news.
            drop(events.send(Event::ManagerClosed { connection: number, reason }).await);
        };
        (Self { number, frames, _hang_up: hang_up }, work)
    }

    /// False when the connection is of no use any more.
    pub fn send(&self, message: &AgentMessage) -> bool {
        self.frames.try_send(SessionFrame { message: codec::encode(message) }).is_ok()
    }
}

async fn converse(
    connection: u64,
    address: &str,
    tls: ClientTls,
    queue: mpsc::Receiver<SessionFrame>,
    events: &mpsc::Sender<Event>,
) -> String {
    if events.send(Event::ManagerConnected { connection }).await.is_err() {
        return String::new();
    }
    let mut client = AgentsClient::new(channel(address, tls));
    let mut frames = match client.session(ReceiverStream::new(queue)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status.message().to_owned(),
    };
    loop {
        let frame = match frames.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "closed by the manager".to_owned(),
            Err(status) => return status.message().to_owned(),
        };
        let message = match codec::decode(&frame.message) {
            Ok(message) => Box::new(message),
            Err(error) => return error.to_string(),
        };
        if events.send(Event::ManagerMessage { connection, message }).await.is_err() {
            return String::new();
        }
    }
}
