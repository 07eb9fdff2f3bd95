//! Log streams: each on a connection of its own, so that bulk never delays a heartbeat.

use std::sync::Arc;

use futures_util::StreamExt;
use model::session::{LogFrame, LogOptions};
use proto::{
    codec,
    v1::{LogPush, agents_client::AgentsClient},
};
use rpc::tls::{ClientTls, channel};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::engine::Engine;

/// Followers at a time; each holds a connection to the engine and one to the manager.
const MAX_STREAMS: usize = 32;
/// Frames read ahead of the network.
const FRAMES: usize = 16;

/// Sends logs to whoever asked.
#[derive(Debug, Clone)]
pub struct Logs {
    engine: Engine,
    tls: ClientTls,
    places: Arc<Semaphore>,
}

/// One stream as the manager asked for it.
#[derive(Debug)]
pub struct Wanted {
    /// Its number.
    pub stream: u64,
    /// Whose output, oldest first.
    pub containers: Vec<String>,
    /// What of it.
    pub options: LogOptions,
}

impl Logs {
    /// Reads from an engine.
    pub fn new(engine: Engine, tls: ClientTls) -> Self {
        Self { engine, tls, places: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    /// Sends one stream until it ends, or until the manager hangs up.
    pub async fn push(self, address: String, wanted: Wanted) {
        let number = wanted.stream;
        let (sender, frames) = mpsc::channel(FRAMES);
        let pushes = ReceiverStream::new(frames)
            .map(move |frame| LogPush { stream: number, frame: codec::encode(&frame) });
        let mut client = AgentsClient::new(channel(&address, self.tls.clone()));
        let (pushed, ()) = tokio::join!(client.push_logs(pushes), self.pour(wanted, sender));
        if let Err(status) = pushed {
            tracing::debug!(stream = number, reason = status.message(), "a log stream ended early");
        }
    }

    async fn pour(self, wanted: Wanted, frames: mpsc::Sender<LogFrame>) {
        let Ok(_place) = self.places.try_acquire() else {
            let full = format!("this node sends {MAX_STREAMS} log streams already; end one of them");
            drop(frames.send(LogFrame::End(Some(full))).await);
            return;
        };
        // A follower of a silent container learns only from this that nobody listens any more.
        tokio::select! {
            () = self.engine.pour_logs(wanted.containers, wanted.options, frames.clone()) => {}
            () = frames.closed() => {}
        }
    }
}
