//! HTTP/2 frames (RFC 9113 §4, §6), with every field open to lies.

/// Frame types (§6). What is not here is unknown to everybody.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags (§6).
pub mod flag {
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
    /// A whole request in one frame.
    pub const WHOLE: u8 = END_STREAM | END_HEADERS;
}

/// Settings (§6.5.2).
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes (§7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    No,
    Protocol,
    Internal,
    FlowControl,
    StreamClosed,
    FrameSize,
    RefusedStream,
    Cancel,
    Compression,
    Calm,
    Other(u32),
}

impl Code {
    pub fn number(self) -> u32 {
        match self {
            Self::No => 0,
            Self::Protocol => 1,
            Self::Internal => 2,
            Self::FlowControl => 3,
            Self::StreamClosed => 5,
            Self::FrameSize => 6,
            Self::RefusedStream => 7,
            Self::Cancel => 8,
            Self::Compression => 9,
            Self::Calm => 11,
            Self::Other(number) => number,
        }
    }

    pub fn of(number: u32) -> Self {
        let named = [
            Self::No,
            Self::Protocol,
            Self::Internal,
            Self::FlowControl,
            Self::StreamClosed,
            Self::FrameSize,
            Self::RefusedStream,
            Self::Cancel,
            Self::Compression,
            Self::Calm,
        ];
        let found = named.into_iter().find(|code| code.number() == number);
        found.unwrap_or(Self::Other(number))
    }
}

/// The largest frame that nobody has to announce (§4.2).
pub const MAX_FRAME: usize = 16_384;
/// The window that nobody has to announce (§6.9.2).
pub const WINDOW: usize = 65_535;
/// The largest window, and the largest stream identifier.
pub const MOST: u32 = (1 << 31) - 1;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    /// With the reserved bit, if it is to be sent.
    pub stream: u32,
    pub payload: Vec<u8>,
    /// The length written into the head, where it is not the payload's.
    pub claimed: Option<u32>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
            claimed: None,
        }
    }

    /// Sets the reserved bit before the stream identifier (§4.1).
    pub fn reserved(mut self) -> Self {
        self.stream |= 1 << 31;
        self
    }

    /// More flags.
    pub fn and(mut self, flags: u8) -> Self {
        self.flags |= flags;
        self
    }

    /// Writes another length into the head.
    pub fn claiming(mut self, length: u32) -> Self {
        self.claimed = Some(length);
        self
    }

    /// Puts padding into it (§6.1).
    pub fn padded(mut self, padding: u8) -> Self {
        self.flags |= flag::PADDED;
        self.payload.insert(0, padding);
        self.payload
            .resize(self.payload.len() + usize::from(padding), 0);
        self
    }

    /// Puts the priority fields into a HEADERS frame (§6.2): a stream it depends on, with the bit
    /// for `exclusive`, and a weight.
    pub fn prioritised(mut self, on: u32, weight: u8) -> Self {
        self.flags |= flag::PRIORITY;
        let fields = [&on.to_be_bytes()[..], &[weight]].concat();
        self.payload.splice(0..0, fields);
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let length = self.claimed.unwrap_or(self.payload.len() as u32);
        let mut out = length.to_be_bytes()[1..].to_vec();
        out.extend([self.kind, self.flags]);
        out.extend(self.stream.to_be_bytes());
        out.extend(&self.payload);
        out
    }

    /// Takes the first frame off these bytes, if it is there whole.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let head: [u8; 9] = bytes.get(..9)?.try_into().ok()?;
        let length = number(&[0, head[0], head[1], head[2]]) as usize;
        let payload = bytes.get(9..9 + length)?.to_vec();
        bytes.drain(..9 + length);
        Some(Self::new(head[3], head[4], number(&head[5..9]), payload))
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Four octets as a number; what is missing counts as 0.
pub fn number(octets: &[u8]) -> u32 {
    let four = octets.iter().take(4);
    four.fold(0, |number, octet| number << 8 | u32::from(*octet))
}

pub fn data(stream: u32, flags: u8, payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::DATA, flags, stream, payload)
}

pub fn headers(stream: u32, flags: u8, block: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::HEADERS, flags, stream, block)
}

pub fn continuation(stream: u32, flags: u8, block: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::CONTINUATION, flags, stream, block)
}

/// `on` with the bit for `exclusive`.
pub fn priority(stream: u32, on: u32, weight: u8) -> Frame {
    let payload = [&on.to_be_bytes()[..], &[weight]].concat();
    Frame::new(kind::PRIORITY, flag::NONE, stream, payload)
}

pub fn reset(stream: u32, code: Code) -> Frame {
    Frame::new(
        kind::RST_STREAM,
        flag::NONE,
        stream,
        code.number().to_be_bytes(),
    )
}

pub fn settings(values: &[(u16, u32)]) -> Frame {
    let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let payload: Vec<u8> = values.iter().flat_map(pair).collect();
    Frame::new(kind::SETTINGS, flag::NONE, 0, payload)
}

pub fn settings_ack() -> Frame {
    Frame::new(kind::SETTINGS, flag::ACK, 0, [])
}

pub fn push_promise(stream: u32, promised: u32, block: &[u8]) -> Frame {
    let payload = [&promised.to_be_bytes()[..], block].concat();
    Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, payload)
}

pub fn ping(payload: &[u8; 8]) -> Frame {
    Frame::new(kind::PING, flag::NONE, 0, *payload)
}

pub fn goaway(last: u32, code: Code) -> Frame {
    let payload = [last.to_be_bytes(), code.number().to_be_bytes()].concat();
    Frame::new(kind::GOAWAY, flag::NONE, 0, payload)
}

pub fn window_update(stream: u32, by: u32) -> Frame {
    Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, by.to_be_bytes())
}

#[test]
fn frames_read_back_as_they_were_written() {
    let frame = headers(3, flag::WHOLE, [1, 2, 3]).prioritised(1 << 31 | 1, 7);
    let frame = frame.padded(4).reserved();
    let mut bytes = frame.encode();
    assert_eq!(bytes[..3], [0, 0, 3 + 5 + 1 + 4]);
    bytes.push(9);
    assert_eq!(Frame::take(&mut bytes), Some(frame));
    assert_eq!((Frame::take(&mut bytes), bytes), (None, vec![9]));
}
