//! Streams that outlive the answer that began them: when what their reader may do has changed, the core is asked whether they go on.

use std::{pin::Pin, time::Duration};

use futures_util::stream;
use manager_core::Event;
use model::{
    access::{Verb, Verdict},
    identity::Identity,
    request::{ApiError, Consistency, ErrorCode, Request, Response},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::{Context, ending};
use crate::{
    core_loop::{Changed, Input},
    inputs::Class,
};

/// The core answers such a question at once; a stream whose reader it does not vouch for in time ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends a stream of logs with the refusal as soon as its reader may not read them any more.
pub fn while_allowed<T: Send + 'static>(
    lines: impl Stream<Item = Result<T, Status>> + Send + 'static,
    changes: Changed,
    context: Context,
    identity: Identity,
    of: String,
) -> Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>> {
    let refused = Box::pin(refusal(changes, context, identity, of));
    let open = Some((Box::pin(lines), refused));
    Box::pin(stream::unfold(open, |open| async move {
        let (mut lines, mut refused) = open?;
        tokio::select! {
            biased;
            status = &mut refused => Some((Err(status), None)),
            line = lines.next() => line.map(|line| (line, Some((lines, refused)))),
        }
    }))
}

/// Waits until the identity may not read these logs any more.
async fn refusal(mut changes: Changed, context: Context, identity: Identity, of: String) -> Status {
    loop {
        match changes.recv().await {
            Ok(changed) if !changed.contains(&identity) => continue,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Status::unavailable(ending().message),
        }
        match verdict(&context, &identity, &of).await {
            Ok(Verdict { allowed: true, .. }) => {}
            Ok(Verdict { reason, .. }) => return Status::permission_denied(reason),
            // What is gone writes no more, and its streams end by themselves.
            Err(error) if error.code == ErrorCode::NotFound => {}
            Err(error) if error.code == ErrorCode::Unauthenticated => {
                return Status::unauthenticated(error.message);
            }
            Err(error) => return Status::unavailable(error.message),
        }
    }
}

async fn verdict(context: &Context, identity: &Identity, of: &str) -> Result<Verdict, ApiError> {
    let (sink, mut answers) = mpsc::channel(1);
    let event = Event::Request {
        handle: context.number(),
        identity: identity.clone(),
        request_id: None,
        consistency: Consistency::Stale,
        deadline: Some(PATIENCE),
        request: Request::CanI { verb: Verb::Logs, object: Some(of.to_owned()) },
    };
    let inputs = context.inputs.of(Class::of(identity));
    inputs.send(Input::Request { event, sink }).await.map_err(|_| ending())?;
    match answers.recv().await.unwrap_or_else(|| Err(ending()))?.response {
        Response::Verdict(verdict) => Ok(verdict),
        other => Err(ApiError::new(ErrorCode::Internal, format!("an answer to another question: {other:?}"))),
    }
}
