//! What containers print, as frames of a log stream.

use std::time::Duration;

use bollard::query_parameters::LogsOptionsBuilder;
use bollard::{container::LogOutput, errors::Error as DockerError, query_parameters::LogsOptions};
use bytes::Bytes;
use futures_util::StreamExt;
use model::session::{LogFrame, LogOptions};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::mpsc::Sender;

use super::{
    Engine,
    error::{Doing, sorted},
};

/// Larger frames would delay others on the same connection.
const MAX_FRAME: usize = 64 << 10;

impl Engine {
    /// Pours what a container prints; until nobody takes the frames any more, when it is followed.
    ///
    /// # Errors
    /// It cannot be read; in words.
    pub async fn pour_log(
        &self,
        container: &str,
        options: &LogOptions,
        frames: &Sender<LogFrame>,
    ) -> Result<(), String> {
        self.pour(container, options, frames).await.map_err(|error| sorted(Doing::Use, &error).message)
    }

    async fn pour(
        &self,
        container: &str,
        options: &LogOptions,
        frames: &Sender<LogFrame>,
    ) -> Result<(), DockerError> {
        let since = options.since.map(before_now);
        let mut output = self.client().await?.logs(container, Some(query(options, since)));
        while let Some(piece) = output.next().await {
            let (stderr, mut bytes): (bool, Bytes) = match piece? {
                LogOutput::StdErr { message } => (true, message),
                LogOutput::StdOut { message }
                | LogOutput::StdIn { message }
                | LogOutput::Console { message } => (false, message),
            };
            if let Some(since) = since {
                let (stamp, text) = stamped(&bytes);
                if stamp.is_some_and(|stamp| stamp < since) {
                    continue;
                }
                if !options.timestamps {
                    bytes = bytes.slice_ref(text);
                }
            }
            while !bytes.is_empty() {
                let head = bytes.split_to(bytes.len().min(MAX_FRAME));
                if frames.send(LogFrame::Data { stderr, bytes: head }).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// So long ago; the beginning of all logs where that is further than time goes.
pub(crate) fn before_now(span: Duration) -> OffsetDateTime {
    let span = time::Duration::try_from(span).ok();
    let then = span.and_then(|span| OffsetDateTime::now_utc().checked_sub(span));
    then.unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The time stamp before the first blank, and what follows.
pub(crate) fn stamped(line: &[u8]) -> (Option<OffsetDateTime>, &[u8]) {
    let blank = line.iter().position(|byte| *byte == b' ');
    let stamp = blank.and_then(|at| str::from_utf8(&line[..at]).ok());
    match (stamp.and_then(|stamp| OffsetDateTime::parse(stamp, &Rfc3339).ok()), blank) {
        (Some(stamp), Some(at)) => (Some(stamp), &line[at + 1..]),
        _ => (None, line),
    }
}

/// The engine knows whole seconds only: what it has of the first one is judged by its stamps.
fn query(options: &LogOptions, since: Option<OffsetDateTime>) -> LogsOptions {
    let tail = options.tail.map_or("all".to_owned(), |lines| lines.to_string());
    let mut query = LogsOptionsBuilder::new()
        .stdout(true)
        .stderr(true)
        .follow(options.follow)
        .timestamps(options.timestamps || since.is_some())
        .tail(&tail);
    if let Some(since) = since {
        query = query.since(i32::try_from(since.unix_timestamp()).unwrap_or(i32::MAX));
    }
    query.build()
}
