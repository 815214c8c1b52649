//! A backend that plays exact frames (RFC 9113 §4): what well-behaved servers do not do on demand.

use crate::support::patience;
use socket2::{SockFilter, SockRef};
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const INTERNAL_ERROR: u32 = 2;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const HTTP_1_1_REQUIRED: u32 = 13;

/// A frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it ends the request.
    fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// A connection to the gateway.
pub struct Wire {
    stream: TcpStream,
    /// Its number, from 0.
    pub number: usize,
}

impl Wire {
    /// The next frame that is no matter of the connection itself; its own affairs are seen to.
    /// `None` at the end of the connection.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any()?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                PING if frame.flags & ACK == 0 => self.send(PING, ACK, 0, &frame.payload),
                DATA | HEADERS | RST_STREAM => return Some(frame),
                _ => (),
            }
        }
    }

    /// The next frame, whatever it is.
    pub fn any(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: stream & 0x7fff_ffff,
            payload,
        })
    }

    /// The stream of the next request that has come whole.
    pub fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.frame()?;
            if frame.ends() {
                return Some(frame.stream);
            }
        }
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        let _ = self.stream.write_all(&bytes);
    }

    /// Answers 200 with this body. `:status: 200` is entry 8 of the static table (RFC 7541 §A).
    pub fn answer(&mut self, stream: u32, body: &str) {
        self.send(HEADERS, END_HEADERS, stream, &[0x88]);
        self.send(DATA, END_STREAM, stream, body.as_bytes());
    }

    /// A header block as it is.
    pub fn headers(&mut self, stream: u32, block: &[u8], end: bool) {
        let end = if end { END_STREAM } else { 0 };
        self.send(HEADERS, END_HEADERS | end, stream, block);
    }

    pub fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    pub fn go_away(&mut self, last: u32, code: u32) {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload);
    }

    /// Ends the connection.
    pub fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Asks for a sign of life, and waits for it: whatever was sent before has arrived by then.
    pub fn ping(&mut self) {
        self.send(PING, 0, 0, b"are-you?");
        while let Some(frame) = self.any() {
            if frame.kind == PING && frame.flags & ACK != 0 {
                return;
            }
        }
    }

    /// Has the kernel drop whatever arrives, before TCP sees it: as if the cable were cut.
    pub fn go_deaf(&self) {
        // The shortest filter there is (`man 4 bpf`): of each packet, keep 0 bytes.
        let nothing = SockFilter::new(0x06, 0, 0, 0);
        let socket = SockRef::from(&self.stream);
        socket.attach_filter(&[nothing]).expect("a filter");
    }
}

/// The backend. It ends with the process.
pub struct Played {
    address: SocketAddrV4,
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Played {
    /// Plays a script on each connection, after the preface; its end closes the connection.
    pub fn start(script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Played {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [_, b, c, d] = NEXT.fetch_add(1, SeqCst).to_be_bytes();
        let ip = Ipv4Addr::new(127, b + 200, c, d);
        let listener = TcpListener::bind((ip, 0)).expect("binds");
        let port = listener.local_addr().expect("an address").port();
        let address = SocketAddrV4::new(ip, port);
        let script = Arc::new(script);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let script = script.clone();
                thread::spawn(move || {
                    if let Some(mut wire) = begin(stream, number) {
                        script(&mut wire);
                    }
                });
            }
        });
        Played { address }
    }

    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

fn begin(mut stream: TcpStream, number: usize) -> Option<Wire> {
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(4 * patience())).ok()?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).ok()?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut wire = Wire { stream, number };
    wire.send(SETTINGS, 0, 0, &[]);
    Some(wire)
}
