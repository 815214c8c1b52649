//! What a server sends, read as strictly as a client may: whatever breaks a rule of RFC 9113 is an
//! error of the test, whichever test it is.

use super::frame::{Code, Frame, MAX_FRAME, WINDOW, flag, kind, number, setting};
use super::hpack::{Decoder, Field};
use std::collections::{HashMap, VecDeque};

/// An answer, as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// 0 as long as no final header has come.
    pub status: u16,
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
    /// END_STREAM has come.
    pub ended: bool,
    /// RST_STREAM has come.
    pub reset: Option<Code>,
    /// DATA frames, and the largest.
    pub frames: usize,
    pub largest: usize,
    /// It answers HEAD: its length is not that of its body.
    answers_head: bool,
}

impl Reply {
    /// The value of a field; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Everything that has come on a connection.
#[derive(Default)]
pub struct Seen {
    pub settings: Vec<HashMap<u16, u32>>,
    /// Acknowledgements of our own settings.
    pub acks: usize,
    pub pongs: Vec<Vec<u8>>,
    /// Stream and increment of each WINDOW_UPDATE.
    pub updates: Vec<(u32, u32)>,
    /// Last stream and code of each GOAWAY.
    pub goaways: Vec<(u32, Code)>,
    pub replies: HashMap<u32, Reply>,
    /// The connection is over.
    pub closed: bool,
    decoder: Decoder,
    /// A header block that goes on: its HEADERS frame.
    block: Option<Frame>,
    unacknowledged: VecDeque<Vec<(u16, u32)>>,
    max_frame: usize,
    /// What may still come on the connection and on each stream, and what a new one begins with.
    window: i64,
    windows: HashMap<u32, i64>,
    initial: i64,
    /// The highest stream that we opened: those below it are not idle (§5.1.1).
    highest: u32,
    /// The same of what may still be sent.
    room: i64,
    rooms: HashMap<u32, i64>,
    first_room: i64,
}

impl Seen {
    pub fn new() -> Self {
        Self {
            max_frame: MAX_FRAME,
            window: WINDOW as i64,
            initial: WINDOW as i64,
            room: WINDOW as i64,
            first_room: WINDOW as i64,
            ..Self::default()
        }
    }

    pub fn reply(&self, stream: u32) -> Reply {
        self.replies.get(&stream).cloned().unwrap_or_default()
    }

    /// What the server announced first.
    pub fn announced(&self, id: u16) -> Option<u32> {
        self.settings.first()?.get(&id).copied()
    }

    /// Whether new streams have hardly a window to answer in.
    pub fn starved(&self) -> bool {
        self.initial < 100
    }

    /// DATA that the server takes on a stream, in octets; not below 0.
    pub fn room(&self, stream: u32) -> usize {
        let room = self.rooms.get(&stream).unwrap_or(&self.first_room);
        usize::try_from(*room.min(&self.room)).unwrap_or(0)
    }

    /// Notes what our own frames mean for what may come.
    pub fn sent(&mut self, frame: &Frame) {
        match frame.kind {
            kind::HEADERS => {
                self.highest = self.highest.max(frame.stream);
                self.windows.entry(frame.stream).or_insert(self.initial);
                self.rooms.entry(frame.stream).or_insert(self.first_room);
            }
            kind::DATA => {
                self.room -= frame.payload.len() as i64;
                *self.rooms.entry(frame.stream).or_default() -= frame.payload.len() as i64;
            }
            kind::SETTINGS if !frame.has(flag::ACK) => {
                self.unacknowledged.push_back(values(&frame.payload));
            }
            kind::WINDOW_UPDATE if frame.payload.len() == 4 => {
                let by = i64::from(number(&frame.payload) & super::frame::MOST);
                match frame.stream {
                    0 => self.window += by,
                    stream => {
                        let initial = self.initial;
                        *self.windows.entry(stream).or_insert(initial) += by;
                    }
                }
            }
            _ => (),
        }
    }

    /// A request on this stream was HEAD.
    pub fn answers_head(&mut self, stream: u32) {
        self.replies.entry(stream).or_default().answers_head = true;
    }

    /// Takes what came.
    ///
    /// # Errors
    /// The server broke a rule.
    pub fn take(&mut self, frame: Frame) -> Result<(), String> {
        let first = self.settings.is_empty() && self.acks == 0;
        if first && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return Err(format!("§3.4: the first frame is no SETTINGS: {frame:?}"));
        }
        if frame.payload.len() > self.max_frame {
            return Err(format!("§4.2: a frame of {}", frame.payload.len()));
        }
        if self.block.is_some() && frame.kind != kind::CONTINUATION {
            return Err(format!("§6.10: within a header block: {frame:?}"));
        }
        match frame.kind {
            kind::DATA => self.data(&frame),
            kind::HEADERS | kind::CONTINUATION => self.part(frame),
            kind::RST_STREAM => self.reset(&frame),
            kind::SETTINGS => self.setting(&frame),
            kind::PUSH_PROMISE => Err("§8.4: a push".into()),
            kind::PING => fixed(&frame, 8, true).map(|()| {
                if frame.has(flag::ACK) {
                    self.pongs.push(frame.payload);
                }
            }),
            kind::GOAWAY => {
                let [last, code] = [0, 4].map(|at| number(frame.payload.get(at..).unwrap_or(&[])));
                let before = self.goaways.last().map_or(u32::MAX, |(last, _)| *last);
                if frame.stream != 0 || frame.payload.len() < 8 || last > before {
                    return Err(format!("§6.8: {frame:?} behind {:?}", self.goaways));
                }
                self.goaways.push((last, Code::of(code)));
                Ok(())
            }
            kind::WINDOW_UPDATE => {
                fixed(&frame, 4, false)?;
                let by = number(&frame.payload);
                if by == 0 || by >> 31 != 0 {
                    return Err(format!("§6.9: an update by {by}"));
                }
                self.updates.push((frame.stream, by));
                match frame.stream {
                    0 => self.room += i64::from(by),
                    stream => *self.rooms.entry(stream).or_default() += i64::from(by),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The reply on a stream that may still get something.
    fn open(&mut self, frame: &Frame) -> Result<&mut Reply, String> {
        if !self.windows.contains_key(&frame.stream) {
            return Err(format!("§5.1: on a stream that is idle: {frame:?}"));
        }
        let reply = self.replies.entry(frame.stream).or_default();
        if reply.ended || reply.reset.is_some() {
            return Err(format!("§5.1: on a stream that is closed: {frame:?}"));
        }
        Ok(reply)
    }

    fn data(&mut self, frame: &Frame) -> Result<(), String> {
        let size = frame.payload.len() as i64;
        let payload = unpadded(frame)?;
        let reply = self.open(frame)?;
        if reply.status == 0 {
            return Err(format!("§8.1: DATA before HEADERS: {frame:?}"));
        }
        reply.frames += 1;
        reply.largest = reply.largest.max(payload.len());
        reply.body.extend_from_slice(payload);
        reply.ended = frame.has(flag::END_STREAM);
        let reply = reply.clone();
        self.window -= size;
        let window = self.windows.entry(frame.stream).or_default();
        *window -= size;
        if size > 0 && (*window < 0 || self.window < 0) {
            let left = (*window, self.window);
            return Err(format!("§6.9.1: {size} more than the windows: {left:?}"));
        }
        whole(&reply)
    }

    fn part(&mut self, frame: Frame) -> Result<(), String> {
        let block = match self.block.take() {
            None if frame.kind == kind::CONTINUATION => {
                return Err("§6.10: CONTINUATION of nothing".into());
            }
            None => {
                let mut block = frame;
                block.payload = unpadded(&block)?.to_vec();
                block
            }
            Some(block) if block.stream != frame.stream => {
                return Err("§6.10: CONTINUATION of another stream".into());
            }
            Some(mut block) => {
                block.payload.extend(&frame.payload);
                block.flags |= frame.flags & flag::END_HEADERS;
                block
            }
        };
        if !block.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let fields = self.decoder.decode(&block.payload);
        let fields = fields.map_err(|e| format!("RFC 7541: {e}: {:x?}", block.payload))?;
        let reply = self.open(&block)?;
        reply.ended = block.has(flag::END_STREAM);
        if reply.status == 0 {
            let status = status(&fields)?;
            if status < 200 && reply.ended {
                return Err(format!("§8.1: {status} ends the stream"));
            }
            if status >= 200 {
                (reply.status, reply.fields) = (status, fields);
            }
        } else if reply.ended {
            plain(&fields)?;
            reply.trailers = fields;
        } else {
            return Err("§8.1: trailers that do not end the stream".into());
        }
        whole(reply)
    }

    fn reset(&mut self, frame: &Frame) -> Result<(), String> {
        fixed(frame, 4, false)?;
        if frame.stream > self.highest || frame.stream == 0 {
            return Err(format!("§6.4: reset of a stream that is idle: {frame:?}"));
        }
        let code = Code::of(number(&frame.payload));
        self.replies.entry(frame.stream).or_default().reset = Some(code);
        Ok(())
    }

    fn setting(&mut self, frame: &Frame) -> Result<(), String> {
        if frame.stream != 0 || !frame.payload.len().is_multiple_of(6) {
            return Err(format!("§6.5: {frame:?}"));
        }
        if !frame.has(flag::ACK) {
            let values: HashMap<u16, u32> = values(&frame.payload).into_iter().collect();
            if let Some(first) = values.get(&setting::INITIAL_WINDOW_SIZE) {
                let by = i64::from(*first) - self.first_room;
                self.first_room += by;
                self.rooms.values_mut().for_each(|room| *room += by);
            }
            self.settings.push(values);
            return Ok(());
        }
        let acknowledged = self.unacknowledged.pop_front();
        let acknowledged = acknowledged.ok_or("§6.5.3: an ACK of nothing")?;
        self.acks += 1;
        for (id, value) in acknowledged {
            match id {
                setting::HEADER_TABLE_SIZE => self.decoder.announce(value as usize),
                setting::MAX_FRAME_SIZE => self.max_frame = value as usize,
                setting::INITIAL_WINDOW_SIZE => {
                    let by = i64::from(value) - self.initial;
                    self.initial = i64::from(value);
                    self.windows.values_mut().for_each(|window| *window += by);
                }
                _ => (),
            }
        }
        Ok(())
    }
}

fn values(payload: &[u8]) -> Vec<(u16, u32)> {
    let pair = |pair: &[u8]| ((number(&pair[..2])) as u16, number(&pair[2..]));
    payload.chunks_exact(6).map(pair).collect()
}

/// A frame of a fixed size, of the connection or of a stream or of either (WINDOW_UPDATE).
fn fixed(frame: &Frame, size: usize, of_connection: bool) -> Result<(), String> {
    if frame.payload.len() != size || of_connection && frame.stream != 0 {
        return Err(format!("§4.2: {frame:?}"));
    }
    Ok(())
}

/// The payload without padding.
fn unpadded(frame: &Frame) -> Result<&[u8], String> {
    if !frame.has(flag::PADDED) {
        return Ok(&frame.payload);
    }
    let (padding, rest) = frame.payload.split_first().ok_or("§6.1: no padding")?;
    let end = rest.len().checked_sub(usize::from(*padding));
    end.map(|end| &rest[..end])
        .ok_or_else(|| format!("§6.1: too much padding: {frame:?}"))
}

/// The status of an answer whose fields are in order (§8.2, §8.3.2).
fn status(fields: &[Field]) -> Result<u16, String> {
    let first = fields.first().filter(|(name, _)| name == ":status");
    let status = first.and_then(|(_, value)| value.parse().ok());
    let status = status.ok_or_else(|| format!("§8.3.2: no status first: {fields:?}"))?;
    plain(&fields[1..])?;
    Ok(status)
}

/// Fields that are no pseudo-header fields, and may stand in HTTP/2.
fn plain(fields: &[Field]) -> Result<(), String> {
    const HOPS: [&str; 6] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    for (name, value) in fields {
        let token = |b: u8| b > b' ' && b < 0x7f && b != b':' && !b.is_ascii_uppercase();
        if name.is_empty() || !name.bytes().all(token) {
            return Err(format!("§8.2.1: a field named {name:?}"));
        }
        if HOPS.contains(&name.as_str()) {
            return Err(format!("§8.2.2: {name}: {value}"));
        }
        if value.contains(['\0', '\r', '\n']) || value.trim_matches([' ', '\t']) != value {
            return Err(format!("§8.2.1: {name}: {value:?}"));
        }
    }
    Ok(())
}

/// Whether a complete answer is as long as it says (§8.1.1).
fn whole(reply: &Reply) -> Result<(), String> {
    let said = reply.field("content-length");
    let empty = reply.answers_head || reply.status == 304;
    if !reply.ended || said.is_empty() || empty && reply.body.is_empty() {
        return Ok(());
    }
    match said.parse::<usize>() {
        Ok(length) if reply.body.len() == length => Ok(()),
        _ => Err(format!("§8.1.1: {said} said, {} sent", reply.body.len())),
    }
}
