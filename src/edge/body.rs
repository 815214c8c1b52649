//! Where a request body ends: hands Pingora the bytes of this body and not one more, so that the
//! next request on the connection stays ours.

use super::head::{BodyLength, MOST_BYTES, is_token};

/// Follows the bytes of one body.
#[derive(Debug)]
pub enum Delimiter {
    /// So many bytes are still to come; 0: the body is complete.
    Left(u64),
    /// Inside a chunked body (RFC 9112 §7.1).
    Chunked(Chunks),
}

impl Delimiter {
    /// Nothing to read.
    pub const DONE: Self = Self::Left(0);

    /// Begins a body of the given length.
    pub fn new(body: BodyLength) -> Self {
        match body {
            BodyLength::Exactly(n) => Self::Left(n),
            BodyLength::Chunked => Self::Chunked(Chunks::default()),
        }
    }

    /// Whether the body is complete.
    pub fn done(&self) -> bool {
        matches!(
            self,
            Self::Left(0)
                | Self::Chunked(Chunks {
                    state: State::Done,
                    ..
                })
        )
    }

    /// How many of the bytes at hand belong to this body.
    ///
    /// # Errors
    /// The chunked framing is not what RFC 9112 §7.1 says, to the letter.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        match self {
            Self::Left(left) => {
                let n = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                Ok(n)
            }
            Self::Chunked(chunks) => chunks.take(bytes),
        }
    }
}

/// The chunked framing is broken or ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

impl From<BadChunk> for std::io::Error {
    fn from(_: BadChunk) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, "broken chunked framing")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the first digit of a chunk size.
    #[default]
    Size,
    /// Within the digits.
    Digits,
    /// In white space before a `;`.
    Space,
    /// Behind the `;`: at the name of a chunk extension.
    NameStart,
    /// Within the name.
    Name,
    /// In white space behind the name.
    NameEnd,
    /// Behind the `=`: at the value.
    ValueStart,
    /// Within a value that is a token.
    Token,
    /// Within a value in quotes.
    Quoted,
    /// Behind a `\` in quotes.
    Escaped,
    /// Behind the closing quote.
    ValueEnd,
    /// CR of the size line seen.
    SizeLf,
    /// Within chunk data.
    Data,
    /// Data done, CR awaited.
    DataCr,
    /// CR seen, LF awaited.
    DataLf,
    /// Behind the last chunk: at the start of a trailer line.
    TrailerStart,
    /// In the name of a trailer field.
    TrailerName,
    /// In its value.
    TrailerValue,
    /// CR of a trailer line seen.
    TrailerLf,
    /// CR of the last line seen.
    EndLf,
    /// The body is complete.
    Done,
}

/// Bytes of extensions and trailers that a body may have in all; they carry nothing on.
const MOST_EXTRA: u32 = 8 * 1024;
/// Digits that a chunk size may have, leading zeros among them.
const MOST_DIGITS: u8 = 16;

/// A counter over a chunked body.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    extra: u32,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let here = (bytes.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= here as u64;
                at += here;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// One byte of framing.
    fn step(&mut self, b: u8) -> Result<State, BadChunk> {
        Ok(match (self.state, b) {
            (State::Size | State::Digits, b) if b.is_ascii_hexdigit() => self.digit(b)?,
            (State::Digits | State::Name | State::Token | State::ValueEnd, b'\r') => State::SizeLf,
            (State::SizeLf, b'\n') if self.size == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (state, b) => {
                self.extra += 1;
                let next = extension(state, b).or_else(|| trailer(state, b));
                next.filter(|_| self.extra <= MOST_EXTRA).ok_or(BadChunk)?
            }
        })
    }

    fn digit(&mut self, b: u8) -> Result<State, BadChunk> {
        let value = (b as char).to_digit(16).map_or(0, u64::from);
        let larger = self.size.checked_mul(16).and_then(|s| s.checked_add(value));
        self.size = larger.filter(|s| *s <= MOST_BYTES).ok_or(BadChunk)?;
        self.digits += 1;
        if self.digits > MOST_DIGITS {
            return Err(BadChunk);
        }
        Ok(State::Digits)
    }
}

/// One byte of a chunk extension (RFC 9112 §7.1.1): nobody needs it, but where its line ends
/// everybody must agree.
fn extension(state: State, b: u8) -> Option<State> {
    let blank = matches!(b, b' ' | b'\t');
    Some(match (state, b) {
        (State::Digits | State::Space | State::Token | State::ValueEnd, _) if blank => State::Space,
        (State::Name | State::NameEnd, _) if blank => State::NameEnd,
        (State::NameStart | State::ValueStart, _) if blank => state,
        (
            State::Digits
            | State::Space
            | State::Name
            | State::NameEnd
            | State::Token
            | State::ValueEnd,
            b';',
        ) => State::NameStart,
        (State::Name | State::NameEnd, b'=') => State::ValueStart,
        (State::ValueStart, b'"') => State::Quoted,
        (State::Quoted, b'"') => State::ValueEnd,
        (State::Quoted, b'\\') => State::Escaped,
        (State::Quoted | State::Escaped, _) if is_text(b) => State::Quoted,
        (State::NameStart | State::Name, _) if is_token(b) => State::Name,
        (State::ValueStart | State::Token, _) if is_token(b) => State::Token,
        _ => return None,
    })
}

/// One byte of a trailer field, which is a field like any other (RFC 9112 §7.1.2): what is none may
/// be a request to somebody else.
fn trailer(state: State, b: u8) -> Option<State> {
    match (state, b) {
        (State::TrailerStart | State::TrailerName, _) if is_token(b) => Some(State::TrailerName),
        (State::TrailerName, b':') => Some(State::TrailerValue),
        (State::TrailerValue, _) if is_text(b) => Some(State::TrailerValue),
        _ => None,
    }
}

/// What may stand in a field value or in quotes (RFC 9110 §5.5).
fn is_text(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the text in pieces of every size; all must agree.
    fn chunked(text: &str) -> Result<usize, BadChunk> {
        let whole = feed(text, text.len());
        for piece in 1..text.len().min(9) {
            assert_eq!(feed(text, piece), whole, "pieces of {piece} in {text:?}");
        }
        whole
    }

    fn feed(text: &str, piece: usize) -> Result<usize, BadChunk> {
        let mut body = Delimiter::new(BodyLength::Chunked);
        let mut taken = 0;
        for part in text.as_bytes().chunks(piece.max(1)) {
            let n = body.take(part)?;
            taken += n;
            if n < part.len() {
                assert!(body.done(), "stops only at the end");
                return Ok(taken);
            }
        }
        assert_eq!(body.done(), text.ends_with("\r\n\r\n"));
        Ok(taken)
    }

    #[test]
    fn a_chunked_body_ends_where_it_ends() {
        let whole = "5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(chunked(whole), Ok(whole.len()));
        assert_eq!(
            chunked(&format!("{whole}GET / HTTP/1.1\r\n")),
            Ok(whole.len())
        );
        for rich in [
            "A;name=value\r\n0123456789\r\n00\r\nTrailer: x\r\n\r\n",
            "5 \t; a\t= \"b;\\\"c\u{e9}\" ;d;e=f\r\nhello\r\n0;last\r\n\r\n",
            "0000000000000005\r\nhello\r\n0\r\nX:\r\nY:\tz \r\n\r\n",
        ] {
            assert_eq!(chunked(rich), Ok(rich.len()), "{rich:?}");
        }
    }

    #[test]
    fn sloppy_chunks_are_refused() {
        for text in [
            "\r\n",
            "5\nhello\r\n",
            "5 \r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n",
            "5;a\nb\r\nhello\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\n",
            "0\r\n\n",
            "0\r\n X\r\n",
            "8000000000000000\r\n",
            "00000000000000005\r\nhello\r\n",
            "5;\r\nhello\r\n",
            "5;a=\r\nhello\r\n",
            "5;a \r\nhello\r\n",
            "5;a=\"b\r\nhello\r\n",
            "5;a=\"b\\\r\nhello\r\n",
            "5;a=\"b\"c\r\nhello\r\n",
            "5,a\r\nhello\r\n",
            "0\r\nGET / HTTP/1.1\r\n",
            "0\r\nX : y\r\n",
            "0\r\nX: y\rz\r\n",
            "0\r\n: y\r\n",
        ] {
            assert_eq!(chunked(text), Err(BadChunk), "{text:?}");
        }
        let endless = format!("5;{}", "a".repeat(10_000));
        assert_eq!(feed(&endless, endless.len()), Err(BadChunk));
    }

    #[test]
    fn a_counted_body_takes_its_bytes_and_no_more() {
        let mut body = Delimiter::new(BodyLength::Exactly(5));
        assert_eq!(body.take(b"hel"), Ok(3));
        assert!(!body.done());
        assert_eq!(body.take(b"loGET"), Ok(2));
        assert!(body.done());
        assert_eq!(body.take(b"GET"), Ok(0));
        assert!(Delimiter::DONE.done());
    }
}
