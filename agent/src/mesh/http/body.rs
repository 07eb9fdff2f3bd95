//! Bodies on their way: a client's towards the replica, a replica's towards the client.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::pool::Lease;

/// An answer that does not move for this long is given up: its replica hangs.
pub const ANSWER_IDLE: Duration = Duration::from_secs(300);

/// A request's body.
#[derive(Debug)]
pub enum Upload {
    /// Kept in full; `None` once it was sent or when there is none.
    Kept(Option<Bytes>),
    /// Passed through.
    Streamed(Incoming, Arc<Progress>),
}

/// How far a body that is passed through has come.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    /// Milliseconds since the beginning; the top bit: it has ended.
    moved: AtomicU64,
}

const ENDED: u64 = 1 << 63;

impl Progress {
    /// Begins now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), moved: AtomicU64::new(0) })
    }

    /// When it last moved, and whether it has ended.
    pub fn last(&self) -> (Instant, bool) {
        let moved = self.moved.load(Ordering::Relaxed);
        (self.begun + Duration::from_millis(moved & !ENDED), moved & ENDED != 0)
    }

    fn note(&self, ended: bool) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(0);
        self.moved.store(millis | if ended { ENDED } else { 0 }, Ordering::Relaxed);
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(body, progress) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                progress.note(frame.is_none() || body.is_end_stream());
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(bytes) => bytes.is_none(),
            Self::Streamed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streamed(body, _) => body.size_hint(),
        }
    }
}

/// An answer's body. It drives the replica's connection, and gives it back when the answer is complete.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    lease: Option<Box<Lease>>,
    idle: Option<Pin<Box<Sleep>>>,
}

impl Download {
    /// The body of an answer that came over `lease`.
    pub fn new(body: Incoming, lease: Box<Lease>) -> Self {
        let mut download = Self { body, lease: Some(lease), idle: None };
        if download.body.is_end_stream() {
            download.release(&mut Context::from_waker(std::task::Waker::noop()));
        }
        download
    }

    fn release(&mut self, cx: &mut Context<'_>) {
        if let Some(lease) = self.lease.take() {
            lease.give_back(cx);
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some(lease) = &mut self.lease {
            lease.drive(cx);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// Whether the replica has been silent for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.idle.get_or_insert_with(|| Box::pin(sleep(ANSWER_IDLE))).as_mut().poll(cx)
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match this.poll_body(cx) {
            Poll::Ready(frame) => {
                this.idle = None;
                if frame.is_none() || this.body.is_end_stream() {
                    this.release(cx);
                }
                Poll::Ready(frame)
            }
            Poll::Pending => {
                if this.lease.is_some() && this.poll_idle(cx).is_ready() {
                    // Dropping the connection makes the body fail, and with it the client's connection.
                    this.lease = None;
                    return Pin::new(&mut this.body).poll_frame(cx);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
