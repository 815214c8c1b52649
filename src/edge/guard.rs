//! The frames that a client sends over HTTP/2, judged before the library of the protocol sees them:
//! what that one reads too kindly, or answers with another error than RFC 9113 wants, ends here, and
//! so does who sends frames that only cost. Pure: bytes in, verdict out.

use h2::Reason;

/// Octets of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;
/// Octets of the largest payload; what is announced when nothing is said (§6.5.2).
const MOST: usize = 16_384;
/// Settings frames that come in one piece here; what clients send has some 30 octets.
const MOST_SETTINGS: usize = 4096;
/// Streams with an unfinished request that are remembered.
const MOST_OPEN: usize = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITISED: u8 = 0x20;

const HEADER_TABLE_SIZE: u16 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// What becomes of the bytes at the front of what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many go on to the library.
    Pass(usize),
    /// So many have no effect, and are thrown away.
    Drop(usize),
    /// More must come before it can be told.
    More,
    /// None of them goes on, now or later: a connection error (§5.4.1).
    Stop(Reason),
}

/// A frame's head.
#[derive(Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn of(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: number(&[0, head[0], head[1], head[2]]) as usize,
            kind: head[3],
            flags: head[4],
            // The reserved bit is ignored.
            stream: number(&head[5..]) & (u32::MAX >> 1),
        })
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Four octets as a number.
fn number(octets: &[u8]) -> u32 {
    octets.iter().fold(0, |n, octet| n << 8 | u32::from(*octet))
}

/// What is known of a connection's frames.
#[derive(Debug)]
pub struct Guard {
    /// Octets to come of a frame that is already judged, and whether they are thrown away.
    left: usize,
    dropping: bool,
    /// The client's settings have come (§3.4).
    begun: bool,
    /// The stream whose header block goes on; 0: none does.
    block: u32,
    /// The highest stream that the client has opened.
    highest: u32,
    /// Those of them on which it may still send, in no order.
    open: Vec<u32>,
    /// The highest of those that are remembered no more.
    forgotten: u32,
    /// What a GOAWAY of ours would name.
    last: u32,
    leaving: bool,
    load: Load,
    ended: Option<Reason>,
    told: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            left: 0,
            dropping: false,
            begun: false,
            block: 0,
            highest: 0,
            open: Vec::new(),
            forgotten: 0,
            last: 0,
            leaving: false,
            load: Load::default(),
            ended: None,
            told: false,
        }
    }
}

impl Guard {
    /// Takes note of the time, in milliseconds of any clock, and of whether the connection still
    /// takes on streams.
    pub fn note(&mut self, now_ms: u64, leaving: bool) {
        self.load.pass(now_ms);
        self.leaving = leaving;
    }

    /// Takes note of octets that went to the client.
    pub fn wrote(&mut self, octets: usize) {
        self.load.wrote(octets);
    }

    /// The error that ended the connection.
    pub fn ended(&self) -> Option<Reason> {
        self.ended
    }

    /// The GOAWAY frame (§6.8) that is owed for it, once.
    pub fn goaway(&mut self) -> Option<[u8; HEAD + 8]> {
        let code = self.ended.filter(|_| !self.told)?;
        self.told = true;
        let mut frame = [0; HEAD + 8];
        frame[2] = 8;
        frame[3] = GOAWAY;
        frame[HEAD..HEAD + 4].copy_from_slice(&self.last.to_be_bytes());
        frame[HEAD + 4..].copy_from_slice(&u32::from(code).to_be_bytes());
        Some(frame)
    }

    /// Judges what begins with the first of these bytes; may change some of them.
    pub fn step(&mut self, bytes: &mut [u8]) -> Step {
        if let Some(code) = self.ended {
            return Step::Stop(code);
        }
        if self.left > 0 {
            return self.rest(bytes.len());
        }
        let Some(head) = Head::of(bytes) else {
            return Step::More;
        };
        let verdict = self.judge(head).and_then(|whole| {
            let payload = bytes.get_mut(HEAD..HEAD + head.length);
            match payload {
                Some(payload) if whole => self.inside(head, payload),
                None if whole => Ok(None),
                _ => Ok(Some(head.kind > CONTINUATION || is_nothing(head))),
            }
        });
        match verdict {
            Ok(Some(dropping)) => {
                self.begun = true;
                self.left = HEAD + head.length;
                self.dropping = dropping;
                self.rest(bytes.len())
            }
            Ok(None) => Step::More,
            Err(code) => {
                self.ended = Some(code);
                Step::Stop(code)
            }
        }
    }

    /// Of the frame that is judged, what is there.
    fn rest(&mut self, there: usize) -> Step {
        let n = self.left.min(there);
        self.left -= n;
        match (n, self.dropping) {
            (0, _) => Step::More,
            (_, true) => Step::Drop(n),
            (_, false) => Step::Pass(n),
        }
    }

    /// What the head alone tells; true if its frame is looked at as a whole.
    fn judge(&self, head: Head) -> Result<bool, Reason> {
        if head.length > MOST {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let first = head.kind == SETTINGS && !head.has(ACK);
        let goes_on = head.kind == CONTINUATION && head.stream == self.block;
        if !self.begun && !first || (self.block != 0) != goes_on {
            // §3.4, §6.10.
            return Err(Reason::PROTOCOL_ERROR);
        }
        let of_connection = matches!(head.kind, SETTINGS | PING | GOAWAY);
        let of_stream = matches!(head.kind, DATA | HEADERS | PRIORITY | RST_STREAM);
        let misplaced = of_connection && head.stream != 0 || of_stream && head.stream == 0;
        if misplaced || head.kind == PUSH_PROMISE {
            // §8.4: a client cannot push.
            return Err(Reason::PROTOCOL_ERROR);
        }
        let right_size = match head.kind {
            DATA => head.length >= usize::from(head.has(PADDED)),
            HEADERS => {
                let fields = 5 * usize::from(head.has(PRIORITISED));
                head.length >= usize::from(head.has(PADDED)) + fields
            }
            PRIORITY => head.length == 5,
            RST_STREAM | WINDOW_UPDATE => head.length == 4,
            SETTINGS if head.has(ACK) => head.length == 0,
            SETTINGS => head.length.is_multiple_of(6),
            PING => head.length == 8,
            GOAWAY => head.length >= 8,
            _ => true,
        };
        if !right_size {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if head.kind == SETTINGS && head.length > MOST_SETTINGS {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        Ok(head.kind != DATA && head.kind <= CONTINUATION)
    }

    /// Takes note of a whole frame that is no DATA; whether it is thrown away.
    fn inside(&mut self, head: Head, payload: &mut [u8]) -> Result<Option<bool>, Reason> {
        let _ = (head, payload);
        Ok(Some(false))
    }
}

/// DATA that says nothing, and takes nothing of a window.
fn is_nothing(head: Head) -> bool {
    head.kind == DATA && head.length == 0 && head.flags & (END_STREAM | PADDED) == 0
}
