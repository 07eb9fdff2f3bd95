//! HTTP/1.1 as most requests and answers are, read and written where they lie.
//!
//! Two readers that disagree about where a message ends let a client smuggle a request past one of them. So what is read here is
//! only what cannot be read in two ways: one Host, at most one plain Content-Length, no Transfer-Encoding in requests, `chunked` alone in answers,
//! no folded lines, no options that this file does not know. Everything else is [`Reading::Foreign`]: of a request, the full
//! library's to read from its first byte; of an answer, a replica's fault. And nothing is passed on as it came: each line
//! is written anew from its parts, so that a replica sees what was understood here and nothing else.
//!
//! Reading order: [`request`], [`response`], [`chunked`].

pub mod chunked;
pub mod request;
pub mod response;

use std::mem::MaybeUninit;

use httparse::Header;

/// Header fields of one message; the library's own bound is the same.
pub const MAX_FIELDS: usize = 100;

/// Room for a message's header fields.
pub type Space<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// Room that is empty.
pub const fn space<'b>() -> Space<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// What bytes are.
#[derive(Debug)]
pub enum Reading<T> {
    /// The head goes on.
    Partial,
    /// Not a message of the common kind.
    Foreign,
    /// A whole head.
    Whole(T),
}

/// A Content-Length as everybody reads it: digits and nothing else, none of them in vain.
fn length(value: &[u8]) -> Option<u64> {
    let is_plain = !value.is_empty()
        && value.len() <= 18
        && value.iter().all(u8::is_ascii_digit)
        && (value.len() == 1 || value[0] != b'0');
    is_plain.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
