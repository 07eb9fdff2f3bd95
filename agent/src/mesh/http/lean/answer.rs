//! An answer, from a replica's words to ours.

use mesh::http1::{
    Reading,
    chunked::Chunks,
    response::{Added, Framing, Response},
    space,
};

use super::{cable::Cable, date};

/// Another protocol, from here on.
pub const SWITCHING: u16 = 101;

/// What an answer is written by.
#[derive(Debug)]
pub struct Terms {
    /// A cookie of ours.
    pub cookie: Option<String>,
    /// The client's connection is closed after it.
    pub closes: bool,
    /// It is the answer to a HEAD.
    pub to_head: bool,
}

/// An answer whose head is there.
#[derive(Debug)]
pub struct Begun {
    /// The status.
    pub status: u16,
    out: Vec<u8>,
    /// Bytes of the body in it.
    data: usize,
    body: Option<Rest>,
    /// The replica's connection takes another request after it.
    pub is_kept: bool,
}

/// What of a body is still to come.
#[derive(Debug)]
pub enum Rest {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All until the end of the connection.
    Close,
}

/// What some bytes were.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// So many are the body's.
    pub used: usize,
    /// So many of these are what it says, and not how it is framed.
    pub data: usize,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What the client is to have now.
    pub out: Vec<u8>,
    /// Bytes of the body in it.
    pub data: usize,
    /// What is still to come.
    pub body: Option<Rest>,
    /// The replica's connection.
    pub cable: Cable,
    /// It takes another request after this.
    pub is_kept: bool,
    /// The client's connection is closed after it.
    pub closes: bool,
}

impl Begun {
    /// Reads an answer's head and what came with it. What was said in between (1xx) is left out: nobody asked for it.
    pub fn read(bytes: &[u8], terms: &Terms) -> Reading<Self> {
        let mut rest = bytes;
        loop {
            let mut space = space();
            match Response::read(rest, &mut space, terms.to_head) {
                Reading::Whole(response)
                    if (100..200).contains(&response.status) && response.status != SWITCHING =>
                {
                    rest = &rest[response.head..]
                }
                Reading::Whole(response) => return Self::of(&response, &rest[response.head..], terms),
                Reading::Foreign => return Reading::Foreign,
                Reading::Partial => return Reading::Partial,
            }
        }
    }

    fn of(response: &Response<'_, '_>, bytes: &[u8], terms: &Terms) -> Reading<Self> {
        let mut out = Vec::with_capacity(response.head + bytes.len() + 128);
        let added = Added { cookie: terms.cookie.as_deref(), date: None, closes: terms.closes };
        if response.is_dated {
            response.forward(&mut out, added);
        } else {
            date::with(|date| response.forward(&mut out, Added { date: Some(date), ..added }));
        }
        let mut body = match response.framing {
            Framing::Empty => None,
            Framing::Length(length) => Some(Rest::Length(length)),
            Framing::Chunked => Some(Rest::Chunked(Chunks::default())),
            Framing::Close => Some(Rest::Close),
        };
        let mut taken = Taken::default();
        if let Some(rest) = &mut body {
            match rest.take(bytes, &mut out) {
                Some(some) => taken = some,
                None => return Reading::Foreign,
            }
        }
        body = body.filter(|rest| !rest.is_over());
        // What follows an answer was not asked for: nothing that comes after it can be trusted.
        Reading::Whole(Self {
            status: response.status,
            out,
            data: taken.data,
            body,
            is_kept: response.is_kept && taken.used == bytes.len(),
        })
    }

    /// The answer, with the connection that it came over.
    pub fn over(self, cable: Cable, is_kept: bool, closes: bool) -> Answer {
        let Self { status, out, data, body, .. } = self;
        Answer { status, out, data, body, cable, is_kept: is_kept && self.is_kept, closes }
    }
}

impl Rest {
    /// Writes the next bytes as the client is to have them; `None` when they are nonsense.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Taken> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(&bytes[..taken]);
                *left -= taken as u64;
                Some(Taken { used: taken, data: taken })
            }
            Self::Chunked(chunks) => {
                let scanned = chunks.scan(bytes).ok()?;
                out.extend_from_slice(&bytes[..scanned.passed]);
                if scanned.is_over {
                    out.extend_from_slice(b"\r\n");
                }
                Some(Taken { used: scanned.used, data: scanned.data })
            }
            Self::Close => {
                if !bytes.is_empty() {
                    out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                    out.extend_from_slice(bytes);
                    out.extend_from_slice(b"\r\n");
                }
                Some(Taken { used: bytes.len(), data: bytes.len() })
            }
        }
    }

    /// Whether nothing more is to come.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::Close => false,
        }
    }
}
