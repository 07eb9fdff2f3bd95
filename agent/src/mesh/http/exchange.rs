//! One HTTP/1.1 connection to a replica, and one request over it.
//!
//! The connection has no task of its own: whoever waits for the answer, or reads it, drives it. That saves two changes between
//! tasks for each request; an idle connection is not driven at all, and looked at before it is used again.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use mesh::balance::Failure;
use tokio::time::Instant;

use super::{body::Upload, flow::Flow, pool::Reusable};
use crate::mesh::dial::{Backend, Hold};

/// The library's type has no public name.
type Connection = dyn Future<Output = hyper::Result<()>> + Send;

/// A connection to a replica.
pub struct Line {
    sender: SendRequest<Upload>,
    /// `None` when it has ended.
    connection: Option<Pin<Box<Connection>>>,
    used: Instant,
    hold: Hold,
}

/// A request that was not answered.
#[derive(Debug)]
pub struct Unanswered {
    /// Why.
    pub failure: Failure,
    /// The request's body, when nothing of the request was sent.
    pub unsent: Option<Upload>,
}

/// What a request goes over.
#[derive(Debug)]
pub enum Carrier {
    /// A connection of its own, for as long as it takes.
    Line(Box<Line>),
    /// One that others use as well.
    Flow(Flow),
}

impl Carrier {
    /// Lets the connection read and write, if nobody else does.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Self::Line(line) = self {
            line.drive(cx);
        }
    }

    /// Sends a request and waits until its answer begins. To be dropped when that takes too long.
    ///
    /// # Errors
    /// It broke first.
    pub async fn exchange(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unanswered> {
        match self {
            Self::Line(line) => line.exchange(request).await,
            Self::Flow(flow) => flow.exchange(request).await,
        }
    }

    /// Whether a failure on it says nothing about its replica, given that it was used before: it had ended.
    pub fn had_ended(&self) -> bool {
        match self {
            Self::Line(_) => true,
            Self::Flow(flow) => flow.is_over(),
        }
    }
}

/// What a failure of the library is to us.
pub fn unanswered(mut error: TrySendError<Request<Upload>>) -> Unanswered {
    let unsent = error.take_message().map(Request::into_body);
    let failure = if unsent.is_some() { Failure::Unreachable } else { Failure::Broken };
    Unanswered { failure, unsent }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Reusable for Line {
    fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready() && !self.hold.is_retired()
    }

    fn used(&mut self) -> &mut Instant {
        &mut self.used
    }
}

impl Line {
    /// Speaks HTTP over a connection.
    ///
    /// # Errors
    /// It broke.
    pub async fn new(backend: Backend) -> Result<Self, Failure> {
        let Backend { wire, hold } = backend;
        let shaken = Builder::new().handshake(TokioIo::new(wire)).await;
        let (sender, connection) = shaken.map_err(|_| Failure::Unreachable)?;
        Ok(Self {
            sender,
            connection: Some(Box::pin(connection.with_upgrades())),
            used: Instant::now(),
            hold,
        })
    }

    /// Lets the connection read and write.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Drives it to its end: after a change of protocol the bytes are somebody else's.
    pub async fn finish(mut self) -> Hold {
        if let Some(connection) = self.connection.take() {
            // What went wrong shows on the bytes.
            drop(connection.await);
        }
        self.hold
    }

    /// Sends a request and waits until its answer begins. To be dropped when that takes too long, the line with it.
    ///
    /// # Errors
    /// It broke first.
    pub async fn exchange(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unanswered> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let answered = std::future::poll_fn(|cx| {
            if let Some(open) = connection
                && open.as_mut().poll(cx).is_ready()
            {
                *connection = None;
            }
            match answer.as_mut().poll(cx) {
                Poll::Pending if connection.is_none() => Poll::Ready(None),
                other => other.map(Some),
            }
        });
        match answered.await {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(unanswered(error)),
            None => Err(Unanswered { failure: Failure::Broken, unsent: None }),
        }
    }
}
