//! As much of HTTP/1.1 as the two ends need: where a header ends, and where an answer does.

use memchr::memmem;

/// Where the bytes after the first header begin.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// How the body of an answer ends.
enum Rest {
    Length(usize),
    Chunks,
}

/// Reads answers as they come in, in pieces of any size.
pub struct Reader {
    held: Vec<u8>,
    body: Option<(u16, Rest)>,
    /// Whether the answer said that no further one follows.
    pub closes: bool,
}

impl Reader {
    /// Before the first byte.
    pub fn new() -> Reader {
        Reader {
            held: Vec::new(),
            body: None,
            closes: false,
        }
    }

    /// Takes a piece. Returns the status once the whole answer is there.
    pub fn take(&mut self, mut piece: &[u8]) -> Result<Option<u16>, String> {
        loop {
            match &mut self.body {
                Some((status, Rest::Length(left))) => {
                    if piece.len() < *left {
                        *left -= piece.len();
                        return Ok(None);
                    }
                    let whole = (piece.len() == *left).then_some(*status);
                    self.body = None;
                    return whole
                        .map(Some)
                        .ok_or_else(|| "more came than was asked for".into());
                }
                Some((status, Rest::Chunks)) => {
                    self.held.extend_from_slice(piece);
                    let status = *status;
                    if !last_chunk(&self.held)? {
                        return Ok(None);
                    }
                    self.held.clear();
                    self.body = None;
                    return Ok(Some(status));
                }
                None => {
                    let known = self.held.len();
                    let Some(end) = self.head(piece) else {
                        self.held.extend_from_slice(piece);
                        return Ok(None);
                    };
                    if known > 0 {
                        self.held.extend_from_slice(&piece[..end - known]);
                        let head = std::mem::take(&mut self.held);
                        self.begin(&head)?;
                        self.held = head;
                        self.held.clear();
                    } else {
                        self.begin(&piece[..end])?;
                    }
                    piece = &piece[end - known..];
                }
            }
        }
    }

    /// Where the header ends, counted over what is held and this piece.
    fn head(&self, piece: &[u8]) -> Option<usize> {
        if self.held.is_empty() {
            return head_end(piece);
        }
        let mut both = self.held.clone();
        both.extend_from_slice(piece);
        head_end(&both)
    }

    /// The header is there.
    fn begin(&mut self, head: &[u8]) -> Result<(), String> {
        let status = head
            .get(9..12)
            .filter(|_| head.starts_with(b"HTTP/1.1 "))
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
            .ok_or("not an answer of HTTP/1.1")?;
        let mut rest = None;
        for line in head.split(|byte| *byte == b'\n').skip(1) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                let text = std::str::from_utf8(value).map_err(|e| e.to_string())?;
                rest = Some(Rest::Length(text.parse().map_err(|_| "bad length")?));
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                rest = Some(Rest::Chunks);
            } else if name.eq_ignore_ascii_case(b"connection") {
                self.closes |= value.eq_ignore_ascii_case(b"close");
            }
        }
        let rest = rest.ok_or("an answer whose end is not told")?;
        self.body = Some((status, rest));
        Ok(())
    }
}

/// Whether chunks are whole.
fn last_chunk(mut bytes: &[u8]) -> Result<bool, String> {
    loop {
        let Some(line) = memmem::find(bytes, b"\r\n") else {
            return Ok(false);
        };
        let size = std::str::from_utf8(&bytes[..line]).unwrap_or("?");
        let size = size.split(';').next().unwrap_or(size);
        let size = usize::from_str_radix(size, 16).map_err(|_| "a bad chunk")?;
        if size == 0 {
            return Ok(bytes.ends_with(b"\r\n\r\n"));
        }
        let next = line + 2 + size + 2;
        if bytes.len() < next {
            return Ok(false);
        }
        bytes = &bytes[next..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKS: &[u8] =
        b"HTTP/1.1 429 No\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n";

    #[test]
    fn an_answer_comes_in_pieces_of_any_size() {
        for (whole, status) in [(LENGTH, 200), (CHUNKS, 429)] {
            for size in 1..=whole.len() {
                let mut reader = Reader::new();
                for _ in 0..2 {
                    let mut got = None;
                    for piece in whole.chunks(size) {
                        assert_eq!(got, None, "pieces of {size}");
                        got = reader.take(piece).expect("a good answer");
                    }
                    assert_eq!(got, Some(status), "pieces of {size}");
                }
                assert_eq!(reader.closes, status == 429);
            }
        }
    }

    #[test]
    fn nonsense_is_told() {
        assert!(Reader::new().take(b"HTTP/1.0 200 OK\r\n\r\n").is_err());
        assert!(Reader::new().take(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Reader::new().take(&[LENGTH, b"more"].concat()).is_err());
    }
}
