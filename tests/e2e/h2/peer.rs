//! A client that sends frames as it is told, and what is expected of the server in return.

use super::frame::{self, Code, Frame, data, flag, headers};
use super::hpack::{Field, block};
use super::seen::{Reply, Seen};
use super::site::Door;
use crate::support::patience;
use crate::support::wire::{Got, Wire};

/// What a case has to say: nothing, or what went wrong.
pub type Verdict = Result<(), String>;

/// What a client begins a connection with (RFC 9113 §3.4), before its SETTINGS.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is said of a block that cannot be decompressed (§4.3).
pub const COMPRESSION: &[Code] = &[Code::Compression];

/// One connection.
pub struct Peer {
    pub wire: Wire,
    pub seen: Seen,
    pub scheme: &'static str,
    /// The next stream that [`Peer::ask`] opens.
    pub next: u32,
    /// Whether settings of the server are acknowledged, and its pings.
    pub answering: bool,
    rest: Vec<u8>,
    log: Vec<String>,
    pings: u64,
}

impl Peer {
    /// A connection on which nothing has been sent.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn raw(door: &Door) -> Result<Self, String> {
        Ok(Self {
            wire: door.connect()?,
            seen: Seen::new(),
            scheme: door.scheme(),
            next: 1,
            answering: true,
            rest: Vec::new(),
            log: Vec::new(),
            pings: 0,
        })
    }

    /// A connection whose settings have been exchanged.
    ///
    /// # Errors
    /// The server does not do its part.
    pub fn new(door: &Door) -> Result<Self, String> {
        Self::with(door, &[])
    }

    /// As [`Peer::new`], with these settings of the client.
    ///
    /// # Errors
    /// The server does not do its part.
    pub fn with(door: &Door, settings: &[(u16, u32)]) -> Result<Self, String> {
        let mut peer = Self::raw(door)?;
        peer.begin(settings);
        peer.until("the server's settings and its ACK", |seen| {
            seen.acks == 1 && !seen.settings.is_empty()
        })?;
        Ok(peer)
    }

    /// A connection with a request whose answer has begun and waits for a window: its stream is
    /// half-closed (remote) for the server. The stream is 1.
    ///
    /// # Errors
    /// The server does not do its part.
    pub fn holding(door: &Door) -> Result<Self, String> {
        let mut peer = Self::with(door, &[(frame::setting::INITIAL_WINDOW_SIZE, 0)])?;
        let stream = peer.get("/held");
        peer.until("the header of the answer", |seen| {
            seen.reply(stream).status == 200
        })?;
        Ok(peer)
    }

    /// Sends preface and settings.
    pub fn begin(&mut self, settings: &[(u16, u32)]) {
        self.put(PREFACE);
        self.send([frame::settings(settings)]);
    }

    /// Sends these bytes; that nobody takes them is seen by what comes back.
    pub fn put(&mut self, bytes: &[u8]) -> bool {
        self.wire.put(bytes)
    }

    /// Sends these frames in one piece; false if nobody takes them.
    pub fn send(&mut self, frames: impl IntoIterator<Item = Frame>) -> bool {
        let mut bytes = Vec::new();
        for frame in frames {
            self.seen.sent(&frame);
            self.log.push(format!("> {}", short(&frame)));
            bytes.extend(frame.encode());
        }
        self.put(&bytes)
    }

    /// The stream to open next.
    pub fn stream(&mut self) -> u32 {
        let stream = self.next;
        self.next += 2;
        stream
    }

    /// The pseudo-header fields of a request.
    pub fn fields(&self, method: &str, path: &str) -> Vec<Field> {
        let all = [
            (":method", method),
            (":scheme", self.scheme),
            (":authority", "api.example.com"),
            (":path", path),
        ];
        let owned = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
        all.into_iter().map(owned).collect()
    }

    /// Opens a stream with these fields; END_STREAM if `flags` say so.
    pub fn ask<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, fields: &[(N, V)], flags: u8) -> u32 {
        let stream = self.stream();
        self.send([headers(stream, flag::END_HEADERS | flags, block(fields))]);
        stream
    }

    pub fn get(&mut self, path: &str) -> u32 {
        let fields = self.fields("GET", path);
        self.ask(&fields, flag::END_STREAM)
    }

    /// Opens a POST whose body is still to come.
    pub fn post(&mut self, path: &str) -> u32 {
        let fields = self.fields("POST", path);
        self.ask(&fields, flag::NONE)
    }

    /// Sends DATA that ends the stream.
    pub fn end(&mut self, stream: u32, payload: &[u8]) {
        self.send([data(stream, flag::END_STREAM, payload)]);
    }

    /// Waits until the server takes so much DATA on a stream.
    ///
    /// # Errors
    /// It never does.
    pub fn room(&mut self, stream: u32, octets: usize) -> Verdict {
        self.until(&format!("room for {octets} on {stream}"), |seen| {
            seen.room(stream) >= octets
        })
    }

    /// Sends a body as the server takes it, in frames of at most `most`, and ends the stream.
    ///
    /// # Errors
    /// It stops taking it.
    pub fn upload(&mut self, stream: u32, mut body: &[u8], most: usize) -> Verdict {
        while !body.is_empty() {
            self.until(&format!("room on {stream}"), |seen| {
                seen.room(stream) > 0 || seen.reply(stream).reset.is_some()
            })?;
            if let Some(code) = self.seen.reply(stream).reset {
                return Err(self.told(&format!("the upload was reset: {code:?}")));
            }
            let part = self.seen.room(stream).min(most).min(body.len());
            let flags = if part == body.len() {
                flag::END_STREAM
            } else {
                flag::NONE
            };
            self.send([data(stream, flags, &body[..part])]);
            body = &body[part..];
        }
        Ok(())
    }

    /// Takes one frame; false once the connection is over.
    ///
    /// # Errors
    /// Nothing comes, or something that breaks a rule.
    pub fn step(&mut self) -> Result<bool, String> {
        loop {
            if let Some(frame) = Frame::take(&mut self.rest) {
                self.log.push(format!("< {}", short(&frame)));
                self.reply_to(&frame);
                return self
                    .seen
                    .take(frame)
                    .map(|()| true)
                    .map_err(|e| self.told(&e));
            }
            match self.wire.get(&mut self.rest) {
                Got::Bytes(_) => (),
                Got::End | Got::Reset => {
                    self.seen.closed = true;
                    return match self.rest.is_empty() {
                        true => Ok(false),
                        false => Err(self.told("the connection ends within a frame")),
                    };
                }
                Got::Broken(why) => return Err(self.told(&why)),
                Got::Silence => {
                    let waited = format!("nothing came for {:?}", patience());
                    return Err(self.told(&waited));
                }
            }
        }
    }

    /// Acknowledges settings and pings.
    fn reply_to(&mut self, frame: &Frame) {
        let asks = matches!(frame.kind, frame::kind::SETTINGS | frame::kind::PING);
        if asks && self.answering && !frame.has(flag::ACK) {
            let ping = frame.kind == frame::kind::PING;
            let payload = if ping { &frame.payload[..] } else { &[] };
            self.send([Frame::new(frame.kind, flag::ACK, 0, payload)]);
        }
    }

    /// Takes whatever is there already; true once the connection is over.
    ///
    /// # Errors
    /// Something came that breaks a rule.
    pub fn drain(&mut self) -> Result<bool, String> {
        loop {
            while let Some(frame) = Frame::take(&mut self.rest) {
                self.log.push(format!("< {}", short(&frame)));
                self.reply_to(&frame);
                self.seen.take(frame).map_err(|e| self.told(&e))?;
            }
            match self.wire.get(&mut self.rest) {
                Got::Bytes(_) => (),
                Got::Silence => return Ok(false),
                Got::Broken(why) => return Err(self.told(&why)),
                Got::End | Got::Reset => {
                    self.seen.closed = true;
                    return Ok(true);
                }
            }
        }
    }

    /// Takes frames until this holds.
    ///
    /// # Errors
    /// It never does.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Seen) -> bool) -> Verdict {
        while !holds(&self.seen) {
            match self.step() {
                Ok(true) => (),
                Ok(false) => return Err(self.told(&format!("closed before {what}"))),
                Err(e) => return Err(format!("want {what}: {e}")),
            }
        }
        Ok(())
    }

    /// The whole answer on a stream.
    ///
    /// # Errors
    /// There is none.
    pub fn reply(&mut self, stream: u32) -> Result<Reply, String> {
        let over = move |reply: Reply| reply.ended || reply.reset.is_some();
        self.until(&format!("an answer on stream {stream}"), |seen| {
            over(seen.reply(stream))
        })?;
        let reply = self.seen.reply(stream);
        match reply.ended {
            true => Ok(reply),
            false => Err(self.told(&format!("stream {stream} was reset: {:?}", reply.reset))),
        }
    }

    /// Wants an answer with this status.
    ///
    /// # Errors
    /// There is none, or another.
    pub fn answers(&mut self, stream: u32, status: u16) -> Verdict {
        let reply = self.reply(stream)?;
        match reply.status == status {
            true => Ok(()),
            false => Err(self.told(&format!("{} {}", reply.status, reply.text()))),
        }
    }

    /// Wants one more request to be answered well: nothing is broken.
    ///
    /// # Errors
    /// Something is.
    pub fn serves(&mut self) -> Verdict {
        let stream = self.get("/next");
        if self.seen.starved() {
            self.send([frame::window_update(stream, 1000)]);
        }
        let reply = self.reply(stream).map_err(|e| format!("afterwards: {e}"))?;
        match (reply.status, reply.text().as_str()) {
            (200, "/next") => Ok(()),
            other => Err(self.told(&format!("afterwards: {other:?}"))),
        }
    }

    /// Asks for a pong: whatever was sent before has been read once it comes (§6.7).
    ///
    /// # Errors
    /// There is none.
    pub fn ping(&mut self) -> Verdict {
        self.pings += 1;
        let payload = self.pings.to_be_bytes();
        self.send([frame::ping(&payload)]);
        self.until("a pong", |seen| {
            seen.pongs.iter().any(|pong| pong[..] == payload)
        })
    }

    /// Wants the frame before to have no consequences.
    ///
    /// # Errors
    /// It has.
    pub fn ignores(&mut self) -> Verdict {
        self.ping()?;
        self.serves()
    }

    /// Wants a connection error (§5.4.1): GOAWAY with one of these codes, then the end.
    ///
    /// # Errors
    /// There is none, or another.
    pub fn dies(&mut self, codes: &[Code]) -> Verdict {
        while !self.seen.closed {
            let wanted = |e| format!("want a connection error {codes:?}: {e}");
            self.step().map_err(wanted)?;
        }
        match self.seen.goaways.last() {
            Some((_, code)) if codes.contains(code) => Ok(()),
            Some((_, code)) => Err(self.told(&format!("GOAWAY {code:?}, want {codes:?}"))),
            None => Err(self.told(&format!("closed without GOAWAY, want {codes:?}"))),
        }
    }

    /// Wants a stream error (§5.4.2) with one of these codes, or a connection error with it, which
    /// an endpoint may always make of it (§5.4.1).
    ///
    /// # Errors
    /// There is none, or another.
    pub fn breaks(&mut self, stream: u32, codes: &[Code]) -> Verdict {
        self.until(&format!("an error {codes:?} on {stream}"), |seen| {
            seen.reply(stream).reset.is_some() || !seen.goaways.is_empty()
        })?;
        match self.seen.reply(stream).reset {
            None => self.dies(codes),
            // The end of the connection may follow.
            Some(code) if codes.contains(&code) => match self.serves() {
                Err(_) if !self.seen.goaways.is_empty() => self.dies(codes),
                verdict => verdict,
            },
            Some(code) => Err(self.told(&format!("RST_STREAM {code:?}, want {codes:?}"))),
        }
    }

    /// Wants a malformed request to be refused (§8.1.1): by an error, or by an answer that says so.
    ///
    /// # Errors
    /// It is served.
    pub fn malformed(&mut self, stream: u32) -> Verdict {
        self.until(&format!("a refusal on {stream}"), |seen| {
            let reply = seen.reply(stream);
            reply.ended || reply.reset.is_some() || !seen.goaways.is_empty()
        })?;
        let reply = self.seen.reply(stream);
        match (reply.status, reply.reset) {
            (0, _) => self.breaks(stream, &[Code::Protocol]),
            (400..=499 | 501, _) => self.serves(),
            (status, _) => Err(self.told(&format!("answered {status}, want a refusal"))),
        }
    }

    /// What went wrong, with what went before.
    pub fn told(&self, what: &str) -> String {
        let from = self.log.len().saturating_sub(14);
        format!("{what}\n      {}", self.log[from..].join("\n      "))
    }
}

fn short(frame: &Frame) -> String {
    let names = [
        "DATA",
        "HEADERS",
        "PRIORITY",
        "RST_STREAM",
        "SETTINGS",
        "PUSH_PROMISE",
        "PING",
        "GOAWAY",
        "WINDOW_UPDATE",
        "CONTINUATION",
    ];
    let name = names.get(usize::from(frame.kind)).unwrap_or(&"UNKNOWN");
    let shown = &frame.payload[..frame.payload.len().min(16)];
    let (flags, stream, length) = (frame.flags, frame.stream, frame.payload.len());
    format!("{name} {flags:#x} on {stream}: {length} bytes {shown:x?}")
}
