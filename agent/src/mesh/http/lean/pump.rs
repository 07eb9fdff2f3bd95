//! The rest of a long body, from a replica to a client.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{BUFFER, answer::Rest, cable::Cable, client::Client};
use crate::mesh::{access::Note, http::body::ANSWER_IDLE};

/// A body on its way.
struct Pump<'a> {
    rest: Rest,
    note: &'a mut Note,
    /// What the client has not taken yet.
    out: Vec<u8>,
    written: usize,
    /// Nothing followed the body.
    is_whole: bool,
    /// When it last moved, if it stands.
    stands: Option<Instant>,
}

/// Passes on `out` and the rest of a body. Returns the replica's connection, and whether nothing came after the body.
///
/// # Errors
/// Either side broke off: the client sees that its answer is not whole when its connection closes.
pub async fn pump<S>(
    client: &mut Client<'_, S>,
    mut cable: Cable,
    rest: Rest,
    out: Vec<u8>,
    note: &mut Note,
) -> io::Result<(Cable, bool)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pump = Pump { rest, note, out, written: 0, is_whole: true, stands: None };
    poll_fn(|cx| pump.poll(cx, client, &mut cable)).await?;
    Ok((cable, pump.is_whole))
}

impl Pump<'_> {
    fn poll<S>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<'_, S>,
        cable: &mut Cable,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while let Poll::Ready(moved) = self.poll_move(cx, client, cable) {
            self.stands = None;
            if moved? {
                return Poll::Ready(Ok(()));
            }
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let since = *self.stands.get_or_insert_with(Instant::now);
        client.patience.poll(cx, since + ANSWER_IDLE).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Moves something; whether that was the last of it.
    fn poll_move<S>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<'_, S>,
        cable: &mut Cable,
    ) -> Poll<io::Result<bool>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.written < self.out.len() {
            return client.poll_write(cx, &self.out[self.written..]).map_ok(|written| {
                self.written += written;
                false
            });
        }
        if self.rest.is_over() {
            return Poll::Ready(Ok(true));
        }
        self.written = 0;
        self.out.clear();
        let read = BUFFER.with_borrow_mut(|buffer| match cable.poll_body(cx, buffer) {
            Poll::Ready(Ok(read)) => Poll::Ready(self.take(&buffer[..read])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        });
        if read.is_pending() {
            // Nothing more at the moment: what was written goes out.
            if let Poll::Ready(Err(error)) = client.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            self.out = Vec::new();
        }
        read
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if bytes.is_empty() {
            return match self.rest {
                Rest::Close => {
                    self.out.extend_from_slice(b"0\r\n\r\n");
                    self.rest = Rest::Length(0);
                    Ok(false)
                }
                Rest::Length(_) | Rest::Chunked(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let taken = self.rest.take(bytes, &mut self.out).ok_or(io::ErrorKind::InvalidData)?;
        self.note.passed(taken.data);
        self.is_whole = taken.used == bytes.len();
        Ok(false)
    }
}
