//! What the mesh answers itself, and the one type of all answers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use mesh::balance::Failure;

use super::body::Download;
use crate::mesh::access::Note;

/// An answer's body, and what is noted of it; written when this is dropped.
#[derive(Debug)]
pub struct Reply {
    body: Said,
    /// What is noted of the request.
    pub note: Note,
}

#[derive(Debug)]
enum Said {
    /// A sentence of ours; `None` once it was read.
    Own(Option<Bytes>),
    /// What the replica says.
    Theirs(Download),
}

impl From<Download> for Reply {
    fn from(body: Download) -> Self {
        Self { body: Said::Theirs(body), note: Note::default() }
    }
}

impl Reply {
    /// Nothing.
    pub fn empty() -> Self {
        Self { body: Said::Own(None), note: Note::default() }
    }

    /// Whether it is a sentence of ours.
    pub fn is_refusal(&self) -> bool {
        matches!(self.body, Said::Own(Some(_)))
    }

    /// A sentence of ours; nothing, for what a replica says.
    pub fn own(self) -> Bytes {
        match self.body {
            Said::Own(text) => text.unwrap_or_default(),
            Said::Theirs(_) => Bytes::new(),
        }
    }
}

/// A refusal in a sentence. A client may come back soon after 503.
pub fn refuse(status: StatusCode, sentence: &'static str) -> Response<Reply> {
    let mut response = Response::new(Reply {
        body: Said::Own(Some(Bytes::from_static(sentence.as_bytes()))),
        note: Note::default(),
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Why a request is not for any replica.
#[derive(Debug, Clone, Copy)]
pub enum Unrouted {
    /// Its port was published a moment ago.
    Port,
    /// No service has its host and path.
    Request,
    /// The service has no replica that takes requests.
    NoReplica,
}

impl Unrouted {
    /// The answer to it.
    pub fn refusal(self) -> Response<Reply> {
        match self {
            Self::Port => refuse(StatusCode::SERVICE_UNAVAILABLE, "this port is not published any more\n"),
            Self::Request => refuse(StatusCode::NOT_FOUND, "no service answers to this host and path\n"),
            Self::NoReplica => refuse(StatusCode::SERVICE_UNAVAILABLE, "no replica is ready\n"),
        }
    }
}

/// The answer to a request that nobody answered.
pub fn in_words(failure: Failure) -> Response<Reply> {
    match failure {
        Failure::Unreachable | Failure::Withdrawn => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, "no replica takes the request\n")
        }
        Failure::Broken => refuse(StatusCode::BAD_GATEWAY, "the replica broke the connection\n"),
        Failure::Late => refuse(StatusCode::GATEWAY_TIMEOUT, "the replica did not answer in time\n"),
    }
}

/// A refusal as gRPC says it: all in the head, and the transport is fine. Other than HTTP's 504, a status that says that it was too late
/// does not invite a client to do twice what may have been done.
pub fn in_grpc(refusal: Response<Reply>) -> Response<Reply> {
    let (head, Reply { body, note }) = refusal.into_parts();
    let status = match head.status {
        StatusCode::NOT_FOUND => "12",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "4",
        _ => "13",
    };
    let mut response = Response::new(Reply { body: Said::Own(None), note });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    if let Said::Own(Some(sentence)) = body
        && let Ok(message) = HeaderValue::from_bytes(sentence.trim_ascii_end())
    {
        headers.insert("grpc-message", message);
    }
    response.body_mut().note.is_whole();
    response
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, note } = self.get_mut();
        let frame = match body {
            Said::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Said::Theirs(body) => Pin::new(body).poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            note.passed(frame.data_ref().map_or(0, Bytes::len));
        }
        if matches!(&frame, Poll::Ready(None | Some(Ok(_)))) && body.is_end_stream() {
            note.is_whole();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Said::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Said::Theirs(body) => body.size_hint(),
        }
    }
}

impl Said {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_none(),
            Self::Theirs(body) => body.is_end_stream(),
        }
    }
}
