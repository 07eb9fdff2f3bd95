//! What containers print, as frames of a log stream.

use bollard::query_parameters::LogsOptionsBuilder;
use bollard::{container::LogOutput, errors::Error as DockerError, query_parameters::LogsOptions};
use bytes::Bytes;
use futures_util::StreamExt;
use model::session::{LogFrame, LogOptions};
use time::OffsetDateTime;
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
        let mut output = self.client().await?.logs(container, Some(query(options)));
        while let Some(piece) = output.next().await {
            let (stderr, mut bytes): (bool, Bytes) = match piece? {
                LogOutput::StdErr { message } => (true, message),
                LogOutput::StdOut { message }
                | LogOutput::StdIn { message }
                | LogOutput::Console { message } => (false, message),
            };
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

fn query(options: &LogOptions) -> LogsOptions {
    let tail = options.tail.map_or("all".to_owned(), |lines| lines.to_string());
    let mut query = LogsOptionsBuilder::new()
        .stdout(true)
        .stderr(true)
        .follow(options.follow)
        .timestamps(options.timestamps)
        .tail(&tail);
    if let Some(span) = options.since {
        let since = OffsetDateTime::now_utc() - span;
        query = query.since(i32::try_from(since.unix_timestamp()).unwrap_or(i32::MAX));
    }
    query.build()
}
