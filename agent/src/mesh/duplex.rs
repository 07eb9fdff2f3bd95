//! Two connections as one: what comes on either goes out on the other, the end of each half carried over.
//!
//! A thousand idle connections must cost next to nothing, so none has a buffer: bytes are read into one of the thread's and
//! written out at once; only what the other side does not take is kept. After [`BULK`] bytes between two sockets, the kernel
//! moves the rest ([`crate::mesh::splice`]).

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{dial::Wire, splice};

/// Uploads and archives are longer than this, pages and queries are not.
const BULK: u64 = 256 * 1024;
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    kept: Vec<u8>,
    written: usize,
    moved: u64,
    unflushed: bool,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Moving,
    Closing,
    Closed,
}

/// Carries everything between a client's socket and a backend until both have ended.
///
/// # Errors
/// One of them broke.
pub async fn join_socket(client: &mut TcpStream, backend: &mut Wire) -> io::Result<()> {
    let (mut there, mut back) = (Half::default(), Half::default());
    let is_socket = matches!(backend, Wire::Socket(_));
    let is_over = std::future::poll_fn(|cx| {
        let forth = there.poll(cx, client, backend)?;
        let aback = back.poll(cx, backend, client)?;
        if forth.is_ready() && aback.is_ready() {
            return Poll::Ready(io::Result::Ok(true));
        }
        let is_bulk = there.moved.max(back.moved) >= BULK && there.is_clear() && back.is_clear();
        if is_socket && is_bulk { Poll::Ready(Ok(false)) } else { Poll::Pending }
    })
    .await?;
    match backend {
        Wire::Socket(backend) if !is_over => {
            let forth = splice_half(&there, client, backend);
            let aback = splice_half(&back, backend, client);
            tokio::try_join!(forth, aback).map(drop)
        }
        _ => Ok(()),
    }
}

/// Carries everything between two streams until both have ended.
///
/// # Errors
/// One of them broke.
pub async fn join<A, B>(one: &mut A, other: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Half::default(), Half::default());
    std::future::poll_fn(|cx| {
        let forth = there.poll(cx, one, other)?;
        let aback = back.poll(cx, other, one)?;
        if forth.is_ready() && aback.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

async fn splice_half(half: &Half, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    match half.state {
        State::Closed => Ok(()),
        State::Moving | State::Closing => splice::forward(from, to).await,
    }
}

impl Half {
    fn is_clear(&self) -> bool {
        self.kept.is_empty() && self.state != State::Closing
    }

    fn poll<A, B>(&mut self, cx: &mut Context<'_>, from: &mut A, to: &mut B) -> Poll<io::Result<()>>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Closing => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).or_else(already_gone)?;
                    self.state = State::Closed;
                }
                State::Moving if self.kept.is_empty() => {
                    if self.poll_move(cx, from, to)?.is_pending() {
                        return self.poll_flush(cx, to);
                    }
                    if self.moved >= BULK && self.kept.is_empty() && self.state == State::Moving {
                        // Looked at from outside: the rest may go another way.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                State::Moving => ready!(self.poll_rest(cx, to))?,
            }
        }
    }

    /// Reads once and writes what the other side takes.
    fn poll_move<A, B>(&mut self, cx: &mut Context<'_>, from: &mut A, to: &mut B) -> Poll<io::Result<()>>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(cx, &mut read))?;
            let bytes = read.filled();
            if bytes.is_empty() {
                self.state = State::Closing;
                return Poll::Ready(Ok(()));
            }
            self.moved += bytes.len() as u64;
            self.unflushed = true;
            let taken = match Pin::new(to).poll_write(cx, bytes)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(taken) => taken,
                Poll::Pending => 0,
            };
            if taken < bytes.len() {
                self.kept = bytes[taken..].to_vec();
                self.written = 0;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Writes what was kept.
    fn poll_rest<B: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut B) -> Poll<io::Result<()>> {
        while self.written < self.kept.len() {
            let taken = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept[self.written..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
        }
        self.kept = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Nothing more to read at the moment: what TLS or a multiplexer holds back goes out now.
    fn poll_flush<B: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut B,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}

fn already_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (dialled, listener.accept().await.unwrap().0)
    }

    /// Sends `length` bytes through, ends that half, and expects them back from an echo that answers after the end.
    async fn check(length: usize) {
        let (mut outside, mut client) = pair().await;
        let (backend, mut echo) = pair().await;
        let mut backend = Wire::Socket(backend);
        let sent: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        let carried = async { join_socket(&mut client, &mut backend).await.unwrap() };
        let echoed = async {
            let mut all = Vec::new();
            echo.read_to_end(&mut all).await.unwrap();
            echo.write_all(&all).await.unwrap();
            echo.shutdown().await.unwrap();
        };
        let asked = async {
            outside.write_all(&sent).await.unwrap();
            outside.shutdown().await.unwrap();
            let mut all = Vec::new();
            outside.read_to_end(&mut all).await.unwrap();
            all
        };
        let (_, _, received) = tokio::join!(carried, echoed, asked);
        assert!(received == sent, "{} bytes came back of {length}", received.len());
    }

    #[tokio::test]
    async fn the_end_of_one_half_is_carried_over_while_the_other_goes_on() {
        check(1_000).await;
    }

    #[tokio::test]
    async fn bulk_arrives_whole_after_the_kernel_took_over() {
        check(20 << 20).await;
    }
}
