//! A connection to a replica, one request at a time.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use mesh::{balance::Failure, http1::Reading};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    BUFFER,
    answer::{Answer, Begun, SWITCHING, Terms},
    client::{Asked, Client},
};
use crate::mesh::{
    dial::{Backend, Hold, Wire},
    http::pool::Reusable,
};

/// The longest head of an answer; the library's bound is about the same.
const MAX_HEAD: usize = 400 * 1024;

/// A connection to a replica.
#[derive(Debug)]
pub struct Cable {
    wire: Wire,
    used: Instant,
    hold: Hold,
}

/// How far a request has come.
#[derive(Debug, Default)]
struct Sending {
    sent: usize,
    is_out: bool,
}

/// A request that was not answered.
#[derive(Debug)]
pub enum Unanswered {
    /// Why; [`Failure::Unreachable`] when nothing of it was sent.
    Failed(Failure),
    /// Nobody waits for the answer any more.
    ClientGone,
    /// The replica changed the protocol, which nobody asked for.
    Changed,
}

impl Reusable for Cable {
    /// What a replica says unasked, its end above all, makes a connection useless.
    fn is_ready(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        !self.hold.is_retired()
            && Pin::new(&mut self.wire).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    fn used(&mut self) -> &mut Instant {
        &mut self.used
    }
}

impl Cable {
    /// A new one.
    pub fn new(backend: Backend) -> Self {
        let Backend { wire, hold } = backend;
        Self { wire, used: Instant::now(), hold }
    }

    /// Reads some of an answer's body into the beginning of `buffer`; nothing at the end of the connection.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.wire).poll_read(cx, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }

    /// Sends a request and waits until its answer begins, `until` at most.
    ///
    /// # Errors
    /// There is no answer; the connection is closed.
    pub async fn ask<S>(
        mut self,
        client: &mut Client<'_, S>,
        asked: &Asked,
        terms: Terms,
        until: Instant,
    ) -> Result<Answer, Unanswered>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (bytes, mut sending, mut read) = (&asked.request.bytes[..], Sending::default(), Vec::new());
        let begun = poll_fn(|cx| {
            if self.poll_send(cx, bytes, &mut sending).is_err() && sending.sent == 0 {
                return Poll::Ready(Err(Unanswered::Failed(Failure::Unreachable)));
            }
            if let Poll::Ready(answered) = self.poll_answer(cx, &mut read, &terms) {
                return Poll::Ready(answered.map_err(Unanswered::Failed));
            }
            if client.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Unanswered::ClientGone));
            }
            client.patience.poll(cx, until).map(|()| Err(Unanswered::Failed(Failure::Late)))
        })
        .await?;
        if begun.status == SWITCHING {
            return Err(Unanswered::Changed);
        }
        let is_kept = sending.is_out;
        Ok(begun.over(self, is_kept, terms.closes))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], sending: &mut Sending) -> io::Result<()> {
        while sending.sent < bytes.len() {
            match Pin::new(&mut self.wire).poll_write(cx, &bytes[sending.sent..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => sending.sent += written,
                Poll::Pending => return Ok(()),
            }
        }
        // A stream to another node holds back what it was given.
        if !sending.is_out && Pin::new(&mut self.wire).poll_flush(cx)?.is_ready() {
            sending.is_out = true;
        }
        Ok(())
    }

    /// Reads until the answer's head is there. What was read of one that is not whole is kept in `read`.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut Vec<u8>,
        terms: &Terms,
    ) -> Poll<Result<Begun, Failure>> {
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                let mut into = ReadBuf::new(buffer);
                match Pin::new(&mut self.wire).poll_read(cx, &mut into) {
                    Poll::Ready(Ok(())) if !into.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(Err(Failure::Broken)),
                    Poll::Pending => return Poll::Pending,
                }
                let bytes = if read.is_empty() {
                    into.filled()
                } else {
                    read.extend_from_slice(into.filled());
                    &read[..]
                };
                match Begun::read(bytes, terms) {
                    Reading::Whole(begun) => return Poll::Ready(Ok(begun)),
                    Reading::Foreign => return Poll::Ready(Err(Failure::Broken)),
                    Reading::Partial if bytes.len() > MAX_HEAD => return Poll::Ready(Err(Failure::Broken)),
                    Reading::Partial if read.is_empty() => read.extend_from_slice(into.filled()),
                    Reading::Partial => {}
                }
            }
        })
    }
}
