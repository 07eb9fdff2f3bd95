//! Where an agent's log stream meets the client that asked for it. Bulk never passes the core or the session.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use model::session::LogFrame;
use tokio::sync::{Notify, mpsc};

/// Frames of at most 64 KiB that wait for a slow reader, per stream; the agent waits for more room.
const FRAMES: usize = 16;

/// The streams that clients wait for. Clones share the list.
#[derive(Clone, Default)]
pub struct LogStreams(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<HashMap<u64, mpsc::Sender<LogFrame>>>,
    added: Notify,
}

/// A client's side of a stream; dropping it forgets the stream.
pub struct LogReader {
    streams: LogStreams,
    number: u64,
    /// The frames.
    pub frames: mpsc::Receiver<LogFrame>,
}

impl LogStreams {
    /// Waits for the stream of that number.
    pub fn expect(&self, number: u64) -> LogReader {
        let (sink, frames) = mpsc::channel(FRAMES);
        self.waiting().insert(number, sink);
        self.0.added.notify_waiters();
        LogReader { streams: self.clone(), number, frames }
    }

    /// The client's side of a stream that an agent opened; `None` when nobody asks for it within `patience`.
    pub async fn take(&self, number: u64, patience: Duration) -> Option<mpsc::Sender<LogFrame>> {
        let search = async {
            loop {
                let added = self.0.added.notified();
                if let Some(sink) = self.waiting().remove(&number) {
                    return sink;
                }
                added.await;
            }
        };
        tokio::time::timeout(patience, search).await.ok()
    }

    /// A panic elsewhere cannot leave the list half-changed, so a poisoned lock is as good as a healthy one.
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::Sender<LogFrame>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.streams.waiting().remove(&self.number);
    }
}
