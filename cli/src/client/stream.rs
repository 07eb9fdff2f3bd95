//! Answers that go on: events that resume by themselves, logs that end.

use std::time::Duration;

use model::{
    event::{Event, Revision},
    id::RequestId,
    request::{LogSource, Request, Response},
    session::LogFrame,
};
use proto::{
    codec,
    v1::{CallReply, CallRequest, LogsReply, control_client::ControlClient, logs_reply::Item},
};
use tonic::{Streaming, transport::Channel};

use super::{Attempt, Attempts, Client, FIRST_PAUSE, LONGEST_PAUSE, read_reply, read_status, silent};
use crate::exit::Failure;

/// While a watch finds no manager: longer than for a call, because a person or a change is waiting on it.
const WATCH_PATIENCE: Duration = Duration::from_secs(60);

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchItem {
    /// The next events, in order, without a gap; none at the beginning of a stream.
    Events(Vec<Event>),
    /// There is a gap before this revision: read the state again.
    Resync(Revision),
    /// Everything that was asked for has been told.
    End,
}

/// Events after a revision, over as many connections as it takes.
pub struct WatchStream<'a> {
    client: &'a Client,
    after: Option<Revision>,
    until: Option<u64>,
    open: Option<Streaming<CallReply>>,
}

impl<'a> WatchStream<'a> {
    pub(super) fn new(client: &'a Client, after: Option<Revision>, until: Option<u64>) -> Self {
        Self { client, after, until, open: None }
    }

    /// The next item. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The refusal, or that no manager could be reached for a minute.
    pub async fn next(&mut self) -> Result<WatchItem, Failure> {
        let mut attempts = Attempts::new(&self.client.context, self.client.managers.len(), WATCH_PATIENCE);
        let mut pause = FIRST_PAUSE;
        loop {
            if self.open.is_none() {
                self.open = self.connect(&mut attempts).await?;
            }
            if let Some(stream) = &mut self.open {
                match stream.message().await {
                    Ok(Some(reply)) => match read_reply(reply) {
                        Attempt::Answered(reply) => {
                            if let Some(item) = self.take(reply.response, reply.index) {
                                return Ok(item);
                            }
                            continue;
                        }
                        Attempt::Refused(error) => return Err(error.into()),
                        Attempt::Busy(error) => attempts.busy(error),
                        Attempt::Failed(status) => attempts.failed(self.address(), &status)?,
                    },
                    Ok(None) => {}
                    Err(status) => self.broken(status, &mut attempts)?,
                }
                self.open = None;
            }
            self.client.rotate();
            attempts.round()?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self, attempts: &mut Attempts) -> Result<Option<Streaming<CallReply>>, Failure> {
        let request = codec::encode(&Request::Watch { after: self.after, until: self.until });
        let envelope = self.client.envelope(request, RequestId(0), Duration::ZERO);
        let mut stub = self.client.stub(self.client.current());
        let opened =
            tokio::time::timeout(attempts.opening_limit(), stub.watch(self.client.signed(envelope))).await;
        match opened.unwrap_or_else(|_| Err(silent())) {
            Ok(stream) => Ok(Some(stream.into_inner())),
            Err(status) => self.broken(status, attempts).map(|()| None),
        }
    }

    fn take(&mut self, response: Response, index: u64) -> Option<WatchItem> {
        match response {
            Response::Events(events) => {
                if let Some(last) = events.last() {
                    self.after = Some(last.revision);
                } else if self.after.is_none() {
                    self.after = Some(Revision { index, ordinal: u32::MAX });
                }
                Some(WatchItem::Events(events))
            }
            Response::Resync { at } => {
                self.after = Some(at);
                Some(WatchItem::Resync(at))
            }
            Response::EventsEnd => Some(WatchItem::End),
            _ => None,
        }
    }

    fn broken(&self, status: tonic::Status, attempts: &mut Attempts) -> Result<(), Failure> {
        match read_status(status) {
            Attempt::Failed(status) => attempts.failed(self.address(), &status),
            Attempt::Busy(error) | Attempt::Refused(error) => Err(error.into()),
            Attempt::Answered(_) => Ok(()),
        }
    }

    fn address(&self) -> String {
        self.client.current().address.clone()
    }
}

/// What a log stream delivers.
#[derive(Debug, Clone, PartialEq)]
pub struct LogItem {
    /// The source's place in the plan.
    pub source: usize,
    /// Its next frame.
    pub frame: LogFrame,
}

/// Logs of the sources of one plan.
pub struct LogStream {
    /// Where they come from.
    pub plan: Vec<LogSource>,
    stream: Streaming<LogsReply>,
}

impl LogStream {
    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, in words.
    pub async fn next(&mut self) -> Result<Option<LogItem>, String> {
        loop {
            let reply = self.stream.message().await.map_err(|status| status.message().to_owned())?;
            match reply.map(|reply| reply.item) {
                None => return Ok(None),
                Some(Some(Item::Piece(piece))) => {
                    let frame = codec::decode(&piece.frame).map_err(|error| error.to_string())?;
                    return Ok(Some(LogItem { source: piece.source as usize, frame }));
                }
                Some(Some(Item::Plan(_)) | None) => {}
            }
        }
    }
}

/// Opens the streams on one manager.
pub(super) async fn open_logs(
    mut stub: ControlClient<Channel>,
    envelope: tonic::Request<CallRequest>,
) -> Result<LogStream, Attempt> {
    let mut stream = stub.logs(envelope).await.map_err(read_status)?.into_inner();
    let first = stream.message().await.map_err(read_status)?;
    let plan = match first.and_then(|reply| reply.item) {
        Some(Item::Plan(reply)) => read_reply(reply),
        _ => return Err(Attempt::Failed(tonic::Status::unavailable("the manager closed the stream"))),
    };
    match plan {
        Attempt::Answered(reply) => match reply.response {
            Response::LogPlan(plan) => Ok(LogStream { plan, stream }),
            _ => Err(Attempt::Answered(reply)),
        },
        other => Err(other),
    }
}
