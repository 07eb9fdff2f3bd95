//! What a container says before it goes: its last lines, and what it answers when it is asked what it does.

use std::time::Duration;

use agent_core::engine::{AttemptId, EngineError, OpOutcome};
use bollard::{
    container::LogOutput,
    errors::Error as DockerError,
    query_parameters::{KillContainerOptionsBuilder, LogsOptionsBuilder},
};
use futures_util::{StreamExt, TryStreamExt};
use model::probe::{Diagnosis, DiagnosisBy};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;

use super::{
    Engine, chain,
    error::{Doing, sorted},
};
use crate::attempts::{self, Line, What};

/// For the last lines of a container; it is removed with or without them.
const WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    /// Keeps the last lines of a container that is about to be removed. What cannot be read or written is only said.
    pub(super) async fn keep_last_words(&self, container: &str, attempt: AttemptId) {
        let read = timeout(WITHIN, self.last_lines(container)).await;
        match read {
            Ok(Ok(lines)) => self.keep(attempt, What::Output, lines).await,
            Ok(Err(error)) => {
                tracing::debug!(container, reason = chain(&error), "its last lines cannot be read");
            }
            Err(_) => tracing::debug!(container, "its last lines did not come in time"),
        }
    }

    /// Asks a container what it does, and keeps what a program prints. The program's end is not waited for beyond its time; neither that
    /// nor its failure is an error.
    pub(super) async fn diagnose(
        &self,
        container: &str,
        diagnosis: &Diagnosis,
        attempt: AttemptId,
    ) -> Result<OpOutcome, EngineError> {
        match &diagnosis.by {
            DiagnosisBy::Signal(signal) => {
                let options = KillContainerOptionsBuilder::new().signal(signal).build();
                let client = self.client().await.map_err(using)?;
                client.kill_container(container, Some(options)).await.map_err(using)?;
                // A process that the signal ends has nothing more to print.
                let mut end = client.wait_container(container, None);
                let _ = timeout(diagnosis.within(), end.next()).await;
            }
            DiagnosisBy::Exec(command) => {
                let mut printed = Vec::new();
                let ran = timeout(diagnosis.within(), self.run(container, command, &mut printed)).await;
                let end = match ran {
                    Ok(Ok(code)) => format!("ended with {code}"),
                    Ok(Err(error)) => return Err(using(error)),
                    Err(_) => format!("did not end within {:?}", diagnosis.within()),
                };
                self.keep(attempt, What::Diagnosis, report(&command.join(" "), &end, &printed)).await;
            }
        }
        Ok(OpOutcome::Done)
    }

    /// On a thread of its own: a disk that stalls must not hold up the heartbeats.
    async fn keep(&self, attempt: AttemptId, what: What, lines: Vec<Line>) {
        let Some(attempts) = self.0.attempts.clone() else { return };
        let kept = tokio::task::spawn_blocking(move || attempts.keep(attempt, what, &lines));
        if let Ok(Err(error)) = kept.await {
            tracing::warn!(task = %attempt.task, attempt = attempt.number, %error, "what is left of an attempt cannot be kept");
        }
    }

    async fn last_lines(&self, container: &str) -> Result<Vec<Line>, DockerError> {
        let query = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .tail(&attempts::LINES.to_string())
            .build();
        let pieces = self.client().await?.logs(container, Some(query));
        let pieces: Vec<LogOutput> = pieces.try_collect().await?;
        Ok(pieces.into_iter().flat_map(lines).collect())
    }
}

fn using(error: DockerError) -> EngineError {
    sorted(Doing::Use, &error)
}

fn lines(piece: LogOutput) -> Vec<Line> {
    let stderr = matches!(piece, LogOutput::StdErr { .. });
    let bytes = piece.into_bytes();
    let texts = bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty());
    texts.map(|text| Line { stderr, text: text.trim_ascii_end().to_vec() }).collect()
}

/// A diagnosis as lines of standard error, each with the present time like a line of the engine's.
fn report(command: &str, end: &str, printed: &[u8]) -> Vec<Line> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let head = format!("diagnosis: {command} {end}");
    let texts = printed.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let texts = std::iter::once(head.as_bytes()).chain(texts.filter(|text| !text.is_empty()));
    texts.map(|text| Line { stderr: true, text: [now.as_bytes(), b" ", text].concat() }).collect()
}
