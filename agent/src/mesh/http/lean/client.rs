//! A client's connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use mesh::{
    http1::{
        Reading,
        request::{Client as From, Forwarded, Request},
        space,
    },
    retry,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};

use super::{BUFFER, SCRATCH, date, patience::Patience};
use crate::mesh::http::{
    reply::Reply,
    request::{BODY_IDLE, SMALL_BODY},
    resumed::Resumed,
    serve::{Arrival, HEAD, MAX_HEAD},
};

/// A client's connection between its bytes and its requests.
pub struct Client<'a, S> {
    arrival: &'a Arrival,
    stream: S,
    /// What was read and belongs to no request so far. Empty while a client waits for its answer, as most do.
    read: Vec<u8>,
    address: String,
    /// For whatever is waited for on this connection.
    pub patience: Patience,
}

/// A request that was read in full.
#[derive(Debug)]
pub struct Asked {
    /// As the replica is to have it.
    pub request: Forwarded,
    /// Its answer has no body.
    pub to_head: bool,
    /// Twice is as good as once.
    pub idempotent: bool,
    /// The connection is closed after it.
    pub closes: bool,
    /// When it was there.
    pub began: Instant,
}

/// What comes next on a connection.
pub enum Next {
    /// A request.
    Asked(Asked),
    /// A request whose body did not come.
    Late,
    /// Something that the library is to read.
    Foreign,
    /// Nothing: the client has gone, or says nothing.
    Over,
}

/// What bytes are so far.
enum Understood {
    Asked(Asked, usize),
    Foreign,
    /// The head, or so many bytes with the body, are not there yet.
    Head,
    Body(usize),
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Client<'a, S> {
    /// A connection of which nothing was read so far.
    pub fn new(arrival: &'a Arrival, stream: S) -> Self {
        let address = arrival.client.ip().to_string();
        Self { arrival, stream, read: Vec::new(), address, patience: Patience::default() }
    }

    /// The next request. Clients that take too long for it are not waited for.
    pub async fn next(&mut self) -> Next {
        let (mut until, mut wanted, mut is_new) = (Instant::now() + HEAD, None, !self.read.is_empty());
        poll_fn(|cx| {
            BUFFER.with_borrow_mut(|buffer| {
                loop {
                    let has_enough = wanted.is_none_or(|wanted| self.read.len() >= wanted);
                    if std::mem::take(&mut is_new) && has_enough {
                        match self.understand(&self.read) {
                            Understood::Asked(asked, used) => {
                                self.read.drain(..used);
                                if self.read.is_empty() {
                                    self.read = Vec::new();
                                }
                                return Poll::Ready(Next::Asked(asked));
                            }
                            Understood::Foreign => return Poll::Ready(Next::Foreign),
                            Understood::Head => {}
                            Understood::Body(length) => {
                                (wanted, until) = (Some(length), Instant::now() + BODY_IDLE);
                            }
                        }
                    }
                    let mut into = ReadBuf::new(buffer);
                    match Pin::new(&mut self.stream).poll_read(cx, &mut into) {
                        Poll::Ready(Ok(())) if !into.filled().is_empty() => {}
                        Poll::Ready(_) => return Poll::Ready(Next::Over),
                        Poll::Pending => {
                            ready!(self.patience.poll(cx, until));
                            return Poll::Ready(if wanted.is_some() { Next::Late } else { Next::Over });
                        }
                    }
                    let bytes = into.filled();
                    if self.read.is_empty()
                        && let Understood::Asked(asked, used) = self.understand(bytes)
                    {
                        self.read.extend_from_slice(&bytes[used..]);
                        return Poll::Ready(Next::Asked(asked));
                    }
                    // A head is looked at again only when a line of it has ended.
                    is_new = self.read.is_empty() || wanted.is_some() || bytes.contains(&b'\n');
                    self.read.extend_from_slice(bytes);
                    if wanted.is_some() {
                        until = Instant::now() + BODY_IDLE;
                    } else if self.read.len() > MAX_HEAD {
                        return Poll::Ready(Next::Foreign);
                    }
                }
            })
        })
        .await
    }

    fn understand(&self, bytes: &[u8]) -> Understood {
        let mut space = space();
        let request = match Request::read(bytes, &mut space) {
            Reading::Whole(request) if request.body <= SMALL_BODY && request.head <= MAX_HEAD => request,
            Reading::Whole(_) | Reading::Foreign => return Understood::Foreign,
            Reading::Partial => return Understood::Head,
        };
        // Both are bounded.
        let length = request.head + request.body as usize;
        let Some(body) = bytes.get(request.head..length) else { return Understood::Body(length) };
        let mut forwarded = request.forward(From { address: &self.address, secure: self.arrival.secure });
        forwarded.bytes.extend_from_slice(body);
        let asked = Asked {
            to_head: request.method == "HEAD",
            idempotent: retry::is_idempotent(request.method),
            closes: request.closes,
            began: Instant::now(),
            request: forwarded,
        };
        Understood::Asked(asked, length)
    }

    /// Looks whether the client is still there while it waits for its answer; what it says meanwhile is kept for later.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut some = [0; 1024];
        while self.read.len() < SCRATCH {
            let mut into = ReadBuf::new(&mut some);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => self.read.extend_from_slice(into.filled()),
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Writes some of what the client is to have.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(Ok(written)),
        }
    }

    /// Lets out what TLS holds back.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Writes all of an answer.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.flush().await
    }

    /// Lets out what TLS holds back.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }

    /// Answers a request with a sentence of ours; one that did not come in full is the connection's last. Whether it takes another.
    pub async fn refuse(&mut self, refusal: Response<Reply>, asked: Option<&Asked>) -> bool {
        let (head, body) = refusal.into_parts();
        let text = body.own();
        let closes = asked.is_none_or(|asked| asked.closes) || self.arrival.world.retiring.is_cancelled();
        let reason = head.status.canonical_reason().unwrap_or_default();
        let mut out = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16()).into_bytes();
        for (name, value) in &head.headers {
            out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        if closes {
            out.extend_from_slice(b"connection: close\r\n");
        }
        date::with(|date| {
            out.extend(format!("content-length: {}\r\ndate: {date}\r\n\r\n", text.len()).bytes());
        });
        if asked.is_none_or(|asked| !asked.to_head) {
            out.extend_from_slice(&text);
        }
        self.send(&out).await.is_ok() && !closes
    }

    /// Ends the connection in order: TLS says so, a socket does when it is closed. Who is gone already does not mind.
    pub async fn close(mut self) {
        if self.arrival.secure {
            drop(self.stream.shutdown().await);
        }
    }

    /// The connection, for the library, from a request on that was read already. What was made of it for the replica is the same
    /// request, and what was added to that is written anew.
    pub fn into_resumed_before(self, asked: &Asked) -> Resumed<S> {
        let bytes = &asked.request.bytes;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| end + 2);
        let closes: &[u8] = if asked.closes { b"connection: close\r\n" } else { b"" };
        Resumed::new([&bytes[..end], closes, &bytes[end..], &self.read].concat(), self.stream)
    }

    /// The connection, for the library.
    pub fn into_resumed(self) -> Resumed<S> {
        Resumed::new(self.read, self.stream)
    }
}
