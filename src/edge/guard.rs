//! The frames that a client sends over HTTP/2, judged before the library of the protocol sees them:
//! what that one reads too kindly, or answers with another error than RFC 9113 wants, ends here, and
//! so does who sends frames that only cost. Pure: bytes in, verdict out.

use block::Blocks;
use h2::Reason;
use load::{Load, PER_REQUEST};

mod block;
mod huffman;
mod load;

/// Octets of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;
/// Octets of the largest payload; what is announced when nothing is said (§6.5.2).
const MOST: usize = 16_384;
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

const HEADER_TABLE_SIZE: u32 = 1;
const INITIAL_WINDOW_SIZE: u32 = 4;

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
#[derive(Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, in any combination"
)]
pub struct Guard {
    /// Octets to come of a frame that is judged already, and whether they are thrown away.
    left: usize,
    dropping: bool,
    /// The client's settings have come (§3.4).
    begun: bool,
    /// The stream whose header block goes on; 0: none does.
    block: u32,
    /// It is that of trailers.
    trailers: bool,
    blocks: Blocks,
    /// The highest stream that the client has opened, and whether it has left any out.
    highest: u32,
    leaves_out: bool,
    /// Those of them on which it may still send, in no order.
    open: Vec<u32>,
    /// The highest of those that are remembered no more.
    forgotten: u32,
    /// The last stream that a GOAWAY of ours names.
    last: u32,
    leaving: bool,
    load: Load,
    ended: Option<Reason>,
    told: bool,
}

impl Guard {
    /// Takes note of the time, in milliseconds of any clock, and of whether the connection has told
    /// its client to open no more streams.
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

    /// The GOAWAY frame (§6.8) that is owed for it; once.
    pub fn goaway(&mut self) -> Option<[u8; HEAD + 8]> {
        let code = self.ended.filter(|_| !self.told)?;
        self.told = true;
        let mut frame = [0; HEAD + 8];
        frame[2..4].copy_from_slice(&[8, GOAWAY]);
        frame[HEAD..HEAD + 4].copy_from_slice(&self.last.to_be_bytes());
        frame[HEAD + 4..].copy_from_slice(&u32::from(code).to_be_bytes());
        Some(frame)
    }

    /// Judges what begins with the first of these bytes; may change some of them.
    pub fn step(&mut self, bytes: &mut [u8]) -> Step {
        if self.left == 0 && self.ended.is_none() {
            let Some(head) = Head::of(bytes) else {
                return Step::More;
            };
            match self.frame(head, bytes) {
                Ok(Some(dropping)) => (self.left, self.dropping) = (HEAD + head.length, dropping),
                Ok(None) => return Step::More,
                Err(code) => self.ended = Some(code),
            }
        }
        if let Some(code) = self.ended {
            return Step::Stop(code);
        }
        let n = self.left.min(bytes.len());
        self.left -= n;
        match (n, self.dropping) {
            (0, _) => Step::More,
            (_, true) => Step::Drop(n),
            (_, false) => Step::Pass(n),
        }
    }

    /// Whether a frame is thrown away; `None` as long as more of it must be seen. DATA is not kept
    /// waiting, and of unknown types nothing matters; all else is small, and judged as a whole.
    fn frame(&mut self, head: Head, bytes: &mut [u8]) -> Result<Option<bool>, Reason> {
        self.check(head)?;
        let whole = bytes.get_mut(HEAD..HEAD + head.length);
        let payload = match whole {
            _ if head.kind == DATA || head.kind > CONTINUATION => &mut [][..],
            Some(payload) => payload,
            None => return Ok(None),
        };
        self.begun = true;
        match head.kind {
            DATA => return self.data(head).map(Some),
            HEADERS => self.headers(head, payload)?,
            CONTINUATION => {
                self.load.bear(1)?;
                self.part(head, payload)?;
            }
            SETTINGS => self.settings(payload)?,
            RST_STREAM => {
                self.known(head.stream)?;
                self.close(head.stream);
                self.load.bear(1)?;
            }
            WINDOW_UPDATE if head.stream > 0 => {
                self.known(head.stream)?;
                self.load.bear(1)?;
            }
            PRIORITY => {
                independent(head, payload)?;
                self.load.bear(1)?;
            }
            // What has to be answered.
            PING if !head.has(ACK) => self.load.bear(2)?,
            _ => self.load.bear(1)?,
        }
        // Priority is no more (§5.3.2); what is wrong with it stays so.
        Ok(Some(head.kind == PRIORITY || head.kind > CONTINUATION))
    }

    /// What the head alone tells.
    fn check(&self, head: Head) -> Result<(), Reason> {
        if head.length > MOST {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let settings = head.kind == SETTINGS && !head.has(ACK);
        let continues = head.kind == CONTINUATION && head.stream == self.block;
        if !self.begun && !settings || self.block > 0 && !continues {
            // §3.4, §6.10.
            return Err(Reason::PROTOCOL_ERROR);
        }
        let misplaced = match head.kind {
            SETTINGS | PING | GOAWAY => head.stream > 0,
            DATA | HEADERS | PRIORITY | RST_STREAM => head.stream == 0,
            CONTINUATION => self.block == 0,
            // A client cannot push (§8.4).
            kind => kind == PUSH_PROMISE,
        };
        if misplaced {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let padding = usize::from(head.has(PADDED));
        let right = match head.kind {
            HEADERS if head.has(PRIORITISED) => head.length >= padding + 5,
            DATA | HEADERS => head.length >= padding,
            PRIORITY => head.length == 5,
            RST_STREAM | WINDOW_UPDATE => head.length == 4,
            SETTINGS if head.has(ACK) => head.length == 0,
            SETTINGS => head.length.is_multiple_of(6),
            PING => head.length == 8,
            GOAWAY => head.length >= 8,
            _ => true,
        };
        if right {
            Ok(())
        } else {
            Err(Reason::FRAME_SIZE_ERROR)
        }
    }

    /// Streams that nobody has opened are idle (§5.1); ours would be even, and there are none.
    fn known(&self, stream: u32) -> Result<(), Reason> {
        if stream > self.highest || stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    /// Whether the client has not ended a stream itself. Whether we have, the library knows.
    fn may_send(&self, stream: u32) -> Result<(), Reason> {
        self.known(stream)?;
        if stream <= self.forgotten || self.open.contains(&stream) {
            Ok(())
        } else {
            Err(Reason::STREAM_CLOSED)
        }
    }

    fn close(&mut self, stream: u32) {
        if let Some(at) = self.open.iter().position(|s| *s == stream) {
            self.open.swap_remove(at);
        }
    }

    fn data(&mut self, head: Head) -> Result<bool, Reason> {
        self.may_send(head.stream)?;
        if head.has(END_STREAM) {
            self.close(head.stream);
        }
        // It says nothing and takes nothing of a window.
        let nothing = head.length == 0 && !head.has(END_STREAM);
        if nothing {
            self.load.bear(1)?;
        }
        Ok(nothing)
    }

    /// Of a request or of its trailers.
    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        self.trailers = head.stream <= self.highest;
        if self.trailers {
            self.may_send(head.stream).map_err(|code| match code {
                // Not used before, but lower than one that was (§5.1.1).
                Reason::STREAM_CLOSED if self.leaves_out => Reason::PROTOCOL_ERROR,
                code => code,
            })?;
            if head.has(END_STREAM) {
                self.close(head.stream);
            }
        } else {
            self.open(head)?;
        }
        let mut at = usize::from(head.has(PADDED));
        let padding = payload[..at].first().map_or(0, |length| (*length).into());
        if head.has(PRIORITISED) {
            independent(head, &payload[at..])?;
            at += 5;
        }
        // Padding is no part of the block, and no longer than what is left of the frame (§6.2).
        let end = payload.len().checked_sub(padding);
        let part = end.and_then(|end| payload.get(at..end));
        self.part(head, part.ok_or(Reason::PROTOCOL_ERROR)?)
    }

    /// Takes a part of a header block.
    fn part(&mut self, head: Head, part: &[u8]) -> Result<(), Reason> {
        let last = head.has(END_HEADERS);
        self.block = if last { 0 } else { head.stream };
        match self.blocks.take(part, last)? {
            // Both are malformed (§8.1, §8.3.1); the library cuts the one off, and forgets the other.
            Some(block) if block.fragment || self.trailers && block.pseudo => {
                Err(Reason::PROTOCOL_ERROR)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, head: Head) -> Result<(), Reason> {
        if head.stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.leaves_out |= head.stream > self.highest + 1 + self.highest % 2;
        self.highest = head.stream;
        if !self.leaving {
            self.last = head.stream;
        }
        self.load.relieve(PER_REQUEST);
        if head.has(END_STREAM) {
            return Ok(());
        }
        if self.open.len() == MOST_OPEN {
            // Those whose requests were answered early are never ended by their clients.
            let oldest = self.open.iter().min().copied().unwrap_or_default();
            self.forgotten = self.forgotten.max(oldest);
            self.close(oldest);
        }
        self.open.push(head.stream);
        Ok(())
    }

    fn settings(&mut self, payload: &mut [u8]) -> Result<(), Reason> {
        self.load.bear(2 + payload.len() as u32 / 60)?;
        let mut table = u32::MAX;
        for setting in payload.chunks_exact_mut(6) {
            let (id, value) = (number(&setting[..2]), number(&setting[2..]));
            if id == INITIAL_WINDOW_SIZE && value > u32::MAX >> 1 {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            if id == HEADER_TABLE_SIZE {
                // Each counts (§6.5.3), the library reads the last: the smallest holds for all.
                table = table.min(value);
                setting[2..].copy_from_slice(&table.to_be_bytes());
            }
        }
        Ok(())
    }
}

/// A stream that depends on itself is an error of RFC 7540 §5.3.1. RFC 9113 does not speak of it any
/// more, but the library resets it without having decoded its block, so that the tables of both
/// sides part (§4.3).
fn independent(head: Head, priority: &[u8]) -> Result<(), Reason> {
    let on = priority.first_chunk::<4>().map(|on| number(on));
    if on.is_some_and(|on| on & (u32::MAX >> 1) == head.stream) {
        return Err(Reason::PROTOCOL_ERROR);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
