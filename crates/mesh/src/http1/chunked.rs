//! The end of a body that comes in chunks, found without changing it (RFC 9112, 7.1).
//!
//! What is passed on is what came, so nothing may be read in two ways: every line ends in CRLF, sizes are hexadecimal digits. Trailers
//! are left out, as nobody asked for them.

/// Digits of a chunk's size.
const MAX_DIGITS: u8 = 15;
/// Bytes beside the data in one chunk, or of all trailers.
const MAX_EXTRA: u16 = 8 * 1024;

/// Where a body stands.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    extra: u16,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within a chunk's size.
    #[default]
    Size,
    /// After it: blanks, an extension.
    Blank,
    Extension,
    /// The line feed after the size's line is next.
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the beginning of a trailer, or of the last line.
    Trailer,
    TrailerText,
    TrailerEnd,
    LastEnd,
    Over,
}

/// What some bytes of a body are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// So many are passed on.
    pub passed: usize,
    /// So many are the body's.
    pub used: usize,
    /// So many of these are data.
    pub data: usize,
    /// The body has ended; a last empty line is to be written.
    pub is_over: bool,
}

/// They are no chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Chunks {
    /// Goes through the next bytes. Not to be called again once the body has ended.
    ///
    /// # Errors
    /// They are no chunks; nothing after them can be understood.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, Malformed> {
        let (mut at, mut passed, mut data) = (0, 0, 0);
        while at < bytes.len() && self.state != State::Over {
            if self.state == State::Data {
                let moved = self.size.min((bytes.len() - at) as u64);
                self.size -= moved;
                // At most what is here.
                at += moved as usize;
                data += moved as usize;
                if self.size == 0 {
                    self.state = State::DataReturn;
                }
            } else {
                self.state = self.step(bytes[at])?;
                at += 1;
            }
            if !self.is_trailing() {
                passed = at;
            } else if passed < at && self.state == State::Trailer && self.extra == 0 {
                // The line of the last chunk itself.
                passed = at;
            }
        }
        Ok(Scanned { passed, used: at, data, is_over: self.state == State::Over })
    }

    /// Whether the body has ended.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn is_trailing(&self) -> bool {
        matches!(
            self.state,
            State::Trailer | State::TrailerText | State::TrailerEnd | State::LastEnd | State::Over
        )
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                self.size = self.size << 4 | u64::from(digit);
                self.digits += 1;
                if self.digits > MAX_DIGITS {
                    return Err(Malformed);
                }
                State::Size
            }
            (State::Size, _) if self.digits == 0 => return Err(Malformed),
            (State::Size | State::Blank, b' ' | b'\t') => self.more(State::Blank)?,
            (State::Size | State::Blank, b';') => self.more(State::Extension)?,
            (State::Size | State::Blank | State::Extension, b'\r') => State::SizeEnd,
            (State::Extension | State::TrailerText, b'\t' | b' '..=b'~' | 0x80..) => self.more(self.state)?,
            (State::SizeEnd, b'\n') => {
                (self.digits, self.extra) = (0, 0);
                if self.size == 0 { State::Trailer } else { State::Data }
            }
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size,
            (State::Trailer, b'\r') => self.more(State::LastEnd)?,
            (State::Trailer, b'!'..=b'~') => self.more(State::TrailerText)?,
            (State::TrailerText, b'\r') => State::TrailerEnd,
            (State::TrailerEnd, b'\n') => State::Trailer,
            (State::LastEnd, b'\n') => State::Over,
            _ => return Err(Malformed),
        })
    }

    fn more(&mut self, state: State) -> Result<State, Malformed> {
        self.extra += 1;
        if self.extra > MAX_EXTRA { Err(Malformed) } else { Ok(state) }
    }
}
