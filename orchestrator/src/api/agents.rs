//! The agents' sessions and the log streams that they push.

use std::{pin::Pin, time::Duration};

use manager_core::Event;
use model::{
    identity::Identity,
    session::{AgentMessage, LogFrame},
};
use proto::{
    codec,
    v1::{LogPush, LogsTaken, SessionFrame, agents_server},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::Context;
use crate::{core_loop::Input, inputs::Class};

/// Messages that wait for a slow agent; an agent behind by more is cut and comes back afresh. A set of the largest
/// declarations, a thousand tasks of it, still fits.
const OUTBOX: usize = 1_024;
/// An agent's log stream may arrive before the client's side of it is ready.
const STREAM_PATIENCE: Duration = Duration::from_secs(5);

/// The service.
pub struct Agents {
    /// What every service needs.
    pub context: Context,
}

#[tonic::async_trait]
impl agents_server::Agents for Agents {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionFrame, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let identity = self.context.identity(&request)?;
        if !matches!(identity, Identity::Node(_)) {
            let refused = "only nodes' agents of this cluster may open a session";
            return Err(self.context.turn_away_from(&request, Status::permission_denied(refused)));
        }
        let connection = self.context.number();
        let (sink, outbox) = mpsc::channel(OUTBOX);
        let opened = Input::AgentOpened { connection, identity, sink };
        let ending = |_| Status::unavailable("this manager is shutting down");
        let inputs = self.context.inputs.of(Class::Nodes).clone();
        inputs.send(opened).await.map_err(ending)?;
        let frames = request.into_inner();
        tokio::spawn(async move {
            if let Err(reason) = receive(connection, frames, &inputs).await {
                tracing::debug!(connection, reason, "an agent's session ended");
            }
            let _ = inputs.send(Input::Core(Event::AgentClosed { connection })).await;
        });
        let answers =
            ReceiverStream::new(outbox).map(|message| Ok(SessionFrame { message: codec::encode(&message) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn push_logs(&self, request: Request<Streaming<LogPush>>) -> Result<Response<LogsTaken>, Status> {
        let Identity::Node(_) = self.context.identity(&request)? else {
            let refused = "only nodes' agents of this cluster may push logs";
            return Err(self.context.turn_away_from(&request, Status::permission_denied(refused)));
        };
        let mut pieces = request.into_inner();
        let mut sink = None;
        while let Some(piece) = pieces.message().await? {
            if sink.is_none() {
                let found = self.context.streams.take(piece.stream, STREAM_PATIENCE).await;
                sink = Some(found.ok_or_else(|| Status::not_found("nobody waits for this log stream"))?);
            }
            let frame: LogFrame =
                codec::decode(&piece.frame).map_err(|e| Status::invalid_argument(e.to_string()))?;
            // The reader went away: ending the call tells the agent to stop.
            if sink.as_ref().expect("set above").send(frame).await.is_err() {
                break;
            }
        }
        Ok(Response::new(LogsTaken {}))
    }
}

async fn receive(
    connection: u64,
    mut frames: Streaming<SessionFrame>,
    inputs: &mpsc::Sender<Input>,
) -> Result<(), String> {
    while let Some(frame) = frames.message().await.map_err(|status| status.message().to_owned())? {
        let message: AgentMessage = codec::decode(&frame.message).map_err(|error| error.to_string())?;
        let event = Event::AgentMessage { connection, message };
        inputs.send(Input::Core(event)).await.map_err(|_| "the manager is shutting down".to_owned())?;
    }
    Ok(())
}
