//! A conversation with a directory: one request at a time, on one connection, with bounds on everything that comes back.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{
    ber::{
        BOOLEAN, ENUMERATED, INTEGER, Malformed, OCTETS, Reader, SEQUENCE, SET, Written, element, length_of,
        number,
    },
    filter::{self, NoFilter},
};

/// One message: an entry that names thousands of groups has some hundred kilobytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Messages of one search.
const MAX_MESSAGES: usize = 4_096;
/// Asks for TLS (RFC 4511, 4.14).
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// No attribute at all (RFC 4511, 4.5.1.8).
pub(super) const NOTHING: &str = "1.1";

/// Results that mean something to us (RFC 4511, appendix A).
pub(super) mod code {
    pub(in super::super) const SUCCESS: u32 = 0;
    pub(in super::super) const SIZE_LIMIT: u32 = 4;
    pub(in super::super) const CONSTRAINT: u32 = 19;
    pub(in super::super) const NO_SUCH_OBJECT: u32 = 32;
    pub(in super::super) const INVALID_NAME: u32 = 34;
    pub(in super::super) const INAPPROPRIATE: u32 = 48;
    pub(in super::super) const INVALID_CREDENTIALS: u32 = 49;
    pub(in super::super) const UNWILLING: u32 = 53;
}

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it sends more than {MAX_MESSAGE} bytes or {MAX_MESSAGES} messages at once")]
    TooMuch,
    #[error(transparent)]
    Filter(#[from] NoFilter),
    #[error("it answers {what} with {code}{}{said}", if .said.is_empty() { "" } else { ": " })]
    Refused { what: &'static str, code: u32, said: String },
}

/// Where a search looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// At the entry itself.
    Entry = 0,
    /// At it and everything below.
    Subtree = 2,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// All values of the attributes that were asked for.
    pub(super) values: Vec<String>,
}

/// A connection, TLS or, until it is asked for, not.
pub(super) struct Session<S> {
    stream: S,
    last: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, last: 0 }
    }

    /// Asks for TLS; whatever was sent too early is taken for a part of it, and fails.
    pub(super) async fn start_tls(mut self) -> Result<S, SessionError> {
        self.send(&element(0x77, &[&element(0x80, &[START_TLS])])).await?;
        let message = self.receive().await?;
        let (code, said) = result(self.answer(&message, 0x78)?)?;
        match code {
            code::SUCCESS => Ok(self.stream),
            code => Err(SessionError::Refused { what: "StartTLS", code, said }),
        }
    }

    /// Logs in; the result's code. A password that is empty is never sent.
    pub(super) async fn bind(&mut self, name: &str, password: &str) -> Result<u32, SessionError> {
        if name.is_empty() || password.is_empty() {
            return Ok(code::INVALID_CREDENTIALS);
        }
        let (version, name) = (number(INTEGER, 3), element(OCTETS, &[name.as_bytes()]));
        let password = element(0x80, &[password.as_bytes()]);
        self.send(&element(0x60, &[&version, &name, &password])).await?;
        let message = self.receive().await?;
        Ok(result(self.answer(&message, 0x61)?)?.0)
    }

    /// Searches, for at most so many entries; a base that is not there has none.
    pub(super) async fn search(
        &mut self,
        (base, scope): (&str, Scope),
        filter: &str,
        attribute: &str,
        most: u32,
    ) -> Result<Vec<Entry>, SessionError> {
        let request = search_request((base, scope), &filter::encode(filter)?, attribute, most);
        self.send(&request).await?;
        let mut entries = Vec::new();
        for _ in 0..MAX_MESSAGES {
            let message = self.receive().await?;
            let (tag, contents) = self.any_answer(&message)?;
            match tag {
                0x64 => entries.push(entry(contents)?),
                // Elsewhere may be more: nobody is sent there with a password.
                0x73 => {}
                0x65 => {
                    return match result(contents)? {
                        (code::SUCCESS, _) => Ok(entries),
                        (code::NO_SUCH_OBJECT, _) => Ok(Vec::new()),
                        (code, said) => Err(SessionError::Refused { what: "the search", code, said }),
                    };
                }
                _ => return Err(Malformed.into()),
            }
        }
        Err(SessionError::TooMuch)
    }

    /// Says goodbye.
    pub(super) async fn end(mut self) {
        let goodbye = self.send(&element(0x42, &[])).await;
        if goodbye.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }

    async fn send(&mut self, operation: &Written) -> Result<(), SessionError> {
        self.last += 1;
        let message = element(SEQUENCE, &[&number(INTEGER, self.last), operation]);
        self.stream.write_all(&message).await?;
        Ok(self.stream.flush().await?)
    }

    /// The contents of the next message.
    async fn receive(&mut self) -> Result<Vec<u8>, SessionError> {
        let mut header = Vec::with_capacity(6);
        let length = loop {
            header.push(self.stream.read_u8().await?);
            if let Some((length, _)) = length_of(&header)? {
                break length;
            }
        };
        if header[0] != SEQUENCE {
            return Err(Malformed.into());
        }
        if length > MAX_MESSAGE {
            return Err(SessionError::TooMuch);
        }
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).await?;
        Ok(message)
    }

    /// What a message answers to the last request, with the tag that it must have.
    fn answer<'a>(&self, message: &'a [u8], wanted: u8) -> Result<&'a [u8], SessionError> {
        match self.any_answer(message)? {
            (tag, contents) if tag == wanted => Ok(contents),
            _ => Err(Malformed.into()),
        }
    }

    fn any_answer<'a>(&self, message: &'a [u8]) -> Result<(u8, &'a [u8]), SessionError> {
        let mut reader = Reader::new(message);
        let to = reader.number(INTEGER)?;
        let (tag, contents) = reader.next()?;
        if to == 0 && tag == 0x78 {
            let (code, said) = result(contents)?;
            return Err(SessionError::Refused { what: "the connection", code, said });
        }
        if to != self.last {
            return Err(Malformed.into());
        }
        Ok((tag, contents))
    }
}

fn search_request(
    (base, scope): (&str, Scope),
    filter: &Written,
    attribute: &str,
    most: u32,
) -> Zeroizing<Vec<u8>> {
    element(
        0x63,
        &[
            &element(OCTETS, &[base.as_bytes()]),
            &number(ENUMERATED, scope as u32),
            // Aliases are not followed: they lead where their owner likes.
            &number(ENUMERATED, 0),
            &number(INTEGER, most),
            &number(INTEGER, 5),
            &element(BOOLEAN, &[&[0]]),
            filter,
            &element(SEQUENCE, &[&element(OCTETS, &[attribute.as_bytes()])]),
        ],
    )
}

/// Code and words.
fn result(contents: &[u8]) -> Result<(u32, String), Malformed> {
    let mut reader = Reader::new(contents);
    let code = reader.number(ENUMERATED)?;
    reader.expect(OCTETS)?;
    let said = String::from_utf8_lossy(reader.expect(OCTETS)?).into_owned();
    Ok((code, said.chars().filter(|letter| !letter.is_control()).take(200).collect()))
}

fn entry(contents: &[u8]) -> Result<Entry, Malformed> {
    let mut reader = Reader::new(contents);
    let name = reader.text()?.to_owned();
    let mut values = Vec::new();
    let mut attributes = reader.inside(SEQUENCE)?;
    while !attributes.is_empty() {
        let mut attribute = attributes.inside(SEQUENCE)?;
        attribute.expect(OCTETS)?;
        let mut set = attribute.inside(SET)?;
        while !set.is_empty() {
            values.push(set.text()?.to_owned());
        }
    }
    Ok(Entry { name, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that answers with these bytes, whatever it is asked.
    async fn against(answers: Vec<u8>) -> (Result<Vec<Entry>, SessionError>, Vec<u8>) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&answers).await.expect("room");
        let mut session = Session::new(ours);
        let found = tokio::time::timeout(std::time::Duration::from_secs(5), async {
            let found = session.search(("dc=x", Scope::Subtree), "(uid=a)", "memberOf", 2).await;
            drop(session);
            found
        });
        theirs.shutdown().await.expect("closed");
        let found = found.await.expect("it ends");
        let mut asked = Vec::new();
        theirs.read_to_end(&mut asked).await.expect("read");
        (found, asked)
    }

    fn message(id: u32, operation: &Written) -> Vec<u8> {
        element(SEQUENCE, &[&number(INTEGER, id), operation]).to_vec()
    }

    fn done(tag: u8, code: u32) -> Written {
        element(tag, &[&number(ENUMERATED, code), &element(OCTETS, &[]), &element(OCTETS, &[b"no"])])
    }

    fn found() -> Vec<u8> {
        let values = element(SET, &[&element(OCTETS, &[b"cn=g"])]);
        let attribute = element(SEQUENCE, &[&element(OCTETS, &[b"memberOf"]), &values]);
        let entry = element(0x64, &[&element(OCTETS, &[b"uid=a"]), &element(SEQUENCE, &[&attribute])]);
        [message(1, &entry), message(1, &element(0x73, &[])), message(1, &done(0x65, 0))].concat()
    }

    #[tokio::test]
    async fn a_search_finds_entries_and_goes_where_nobody_sends_it() {
        let (entries, asked) = against(found()).await;
        let wanted = Entry { name: "uid=a".into(), values: vec!["cn=g".into()] };
        assert_eq!(entries.expect("found"), [wanted]);
        assert_eq!(asked[0], SEQUENCE);
        let (none, _) = against(message(1, &done(0x65, code::NO_SUCH_OBJECT))).await;
        assert_eq!(none.expect("none"), []);
        let (refused, _) = against(message(1, &done(0x65, code::SIZE_LIMIT))).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("with 4: no")));
    }

    #[tokio::test]
    async fn answers_of_any_bytes_end_in_an_error_and_nothing_worse() {
        let right = found();
        for end in 0..right.len() {
            assert!(against(right[..end].to_vec()).await.0.is_err(), "cut off after {end}");
        }
        for place in 0..right.len() {
            for bit in 0..8 {
                let mut wrong = right.clone();
                wrong[place] ^= 1 << bit;
                let _ = against(wrong).await;
            }
        }
        for wrong in [&[0x30, 0][..], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x80], b"HTTP/1.1 400"] {
            assert!(against(wrong.to_vec()).await.0.is_err(), "{wrong:?}");
        }
        assert!(matches!(against(message(2, &done(0x65, 0))).await.0, Err(SessionError::Malformed(_))));
    }

    #[tokio::test]
    async fn an_empty_password_is_never_sent() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let mut session = Session::new(ours);
        assert_eq!(session.bind("uid=a", "").await.expect("refused"), code::INVALID_CREDENTIALS);
        drop(session);
        let mut asked = Vec::new();
        theirs.read_to_end(&mut asked).await.expect("read");
        assert_eq!(asked, b"");
    }
}
