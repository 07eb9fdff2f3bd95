//! Log streams: each on a connection of its own, so that bulk never delays a heartbeat.
//!
//! A task's stream goes attempt by attempt: the engine has what the containers printed that are still there, [`Attempts`] the last
//! lines of those before them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use model::{
    id::TaskId,
    session::{LogFrame, LogOptions},
};
use proto::{
    codec,
    v1::{LogPush, agents_client::AgentsClient},
};
use rpc::tls::{ClientTls, channel};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    attempts::{Attempts, Kept, Line},
    engine::{Engine, before_now, stamped},
};

/// Followers at a time; each holds a connection to the engine and one to the manager.
const MAX_STREAMS: usize = 32;
/// Frames read ahead of the network.
const FRAMES: usize = 16;

/// Sends logs to whoever asked.
#[derive(Debug, Clone)]
pub struct Logs {
    engine: Engine,
    attempts: Attempts,
    tls: ClientTls,
    places: Arc<Semaphore>,
}

/// One stream as the manager asked for it.
#[derive(Debug)]
pub struct Wanted {
    /// Its number.
    pub stream: u64,
    /// Whose.
    pub task: TaskId,
    /// Its attempts that have a container, with the engine's ids.
    pub containers: Vec<(u32, String)>,
    /// What of it.
    pub options: LogOptions,
}

impl Logs {
    /// Reads from an engine, and what was kept of containers that are gone.
    pub fn new(engine: Engine, attempts: Attempts, tls: ClientTls) -> Self {
        Self { engine, attempts, tls, places: Arc::new(Semaphore::new(MAX_STREAMS)) }
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
            () = pour(&self.engine, &self.attempts, wanted, &frames) => {}
            () = frames.closed() => {}
        }
    }
}

/// Pours everything there is of a task, attempt by attempt; only the last container is followed. A [`LogFrame::End`] is the last frame.
/// Ends early when nobody takes the frames any more.
pub async fn pour(engine: &Engine, attempts: &Attempts, wanted: Wanted, frames: &mpsc::Sender<LogFrame>) {
    let options = wanted.options;
    let (attempts, task) = (attempts.clone(), wanted.task);
    let kept = tokio::task::spawn_blocking(move || attempts.of(task)).await.unwrap_or_default();
    let mut all: BTreeMap<u32, (Option<String>, Kept)> =
        kept.into_iter().map(|(number, kept)| (number, (None, kept))).collect();
    for (number, container) in wanted.containers {
        all.entry(number).or_default().0 = Some(container);
    }
    let mut end = all.is_empty().then(|| "the task has no container on this node".to_owned());
    let last = all.keys().next_back().copied();
    for (number, (container, kept)) in all {
        let is_last = last == Some(number);
        let options = LogOptions { follow: options.follow && is_last, ..options.clone() };
        let poured = match &container {
            Some(container) => engine.pour_log(container, &options, frames).await,
            None => send(&kept.output, &options, frames).await,
        };
        // An older container may be gone by now; what is left is still worth seeing.
        end = poured.err().filter(|_| is_last);
        drop(send(&kept.diagnosis, &options, frames).await);
    }
    drop(frames.send(LogFrame::End(end)).await);
}

/// Sends kept lines like an engine would. Nobody may take them any more: then the stream ends elsewhere.
async fn send(lines: &[Line], options: &LogOptions, frames: &mpsc::Sender<LogFrame>) -> Result<(), String> {
    let since = options.since.map(before_now);
    for line in last(lines, options.tail) {
        let (stamp, text) = stamped(&line.text);
        if stamp.zip(since).is_some_and(|(stamp, since)| stamp < since) {
            continue;
        }
        let text = if options.timestamps { &line.text } else { text };
        let bytes = Bytes::from([text, b"\n"].concat());
        drop(frames.send(LogFrame::Data { stderr: line.stderr, bytes }).await);
    }
    Ok(())
}

fn last(lines: &[Line], tail: Option<u32>) -> &[Line] {
    let surplus = tail.map_or(0, |tail| lines.len().saturating_sub(tail as usize));
    &lines[surplus..]
}
