//! An origin that believes nothing: reads HTTP/1.1 to the letter of what a careful proxy may send,
//! keeps every request as it came, and calls everything else a fault.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

/// How a body was delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Neither length nor coding: no body.
    #[default]
    Nothing,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Took {
    /// The number of its connection, from 0.
    pub connection: usize,
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, Vec<u8>)>,
    pub framing: Framing,
    pub body: Vec<u8>,
}

impl Took {
    /// The values of a field.
    pub fn values(&self, name: &str) -> Vec<String> {
        let same = self
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.map(|(_, v)| String::from_utf8_lossy(v).into_owned())
            .collect()
    }
}

#[derive(Default)]
struct Inner {
    whole: Mutex<VecDeque<Took>>,
    cut: Mutex<Vec<Took>>,
    faults: Mutex<Vec<String>>,
    accepted: AtomicUsize,
    stopping: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// The origin; answers 200 with method, target and the number of body bytes.
pub struct Recorder {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Recorder {
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [_, b, c, d] = NEXT.fetch_add(1, SeqCst).to_be_bytes();
        let listener = TcpListener::bind((Ipv4Addr::new(127, b + 101, c, d), 0)).expect("binds");
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner::default());
        let shared = inner.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopping.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = shared.accepted.fetch_add(1, SeqCst);
                let _ = stream.set_nodelay(true);
                let clone = stream.try_clone().expect("clones");
                shared.open.lock().unwrap().push(clone);
                let inner = shared.clone();
                thread::spawn(move || {
                    let mut reader = Reader {
                        stream: &stream,
                        rest: Vec::new(),
                        inner: &inner,
                    };
                    while reader.serve(number) {}
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, inner }
    }

    /// The whole requests since the last call, in the order in which they became whole.
    pub fn take(&self) -> Vec<Took> {
        self.inner.whole.lock().unwrap().drain(..).collect()
    }

    /// The requests since the last call whose bodies were never whole; their connections are over.
    pub fn cut(&self) -> Vec<Took> {
        std::mem::take(&mut *self.inner.cut.lock().unwrap())
    }

    /// Everything that a careful proxy does not send.
    pub fn faults(&self) -> Vec<String> {
        self.inner.faults.lock().unwrap().clone()
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> usize {
        self.inner.accepted.load(SeqCst)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.inner.stopping.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        for stream in self.inner.open.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Why a connection is not read any more.
enum Stop {
    /// It ended.
    Ended,
    /// A fault.
    Fault(&'static str),
}

struct Reader<'a> {
    stream: &'a TcpStream,
    rest: Vec<u8>,
    inner: &'a Inner,
}

impl Reader<'_> {
    /// Reads and answers one request; false if the connection is over.
    fn serve(&mut self, connection: usize) -> bool {
        let mut took = match self.head() {
            Ok(took) => took,
            Err(stop) => return self.stop(stop),
        };
        took.connection = connection;
        match self.body(took.framing) {
            Ok(body) => took.body = body,
            Err(stop) => {
                self.inner.cut.lock().unwrap().push(took);
                self.rest.clear();
                return self.stop(stop);
            }
        }
        let text = format!("{} {} {}", took.method, took.target, took.body.len());
        let shown = if took.method == "HEAD" { "" } else { &text };
        let length = text.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{shown}");
        self.inner.whole.lock().unwrap().push_back(took);
        self.stream.write_all(answer.as_bytes()).is_ok()
    }

    fn stop(&self, stop: Stop) -> bool {
        let fault = match stop {
            Stop::Fault(fault) => fault,
            Stop::Ended if self.rest.is_empty() => return false,
            Stop::Ended => "a part of a header",
        };
        let shown = String::from_utf8_lossy(&self.rest).into_owned();
        let fault = format!("{fault}: {shown:?}");
        self.inner.faults.lock().unwrap().push(fault);
        false
    }

    fn head(&mut self) -> Result<Took, Stop> {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let took = parse(&self.rest[..end]).map_err(Stop::Fault)?;
        self.rest.drain(..end + 4);
        Ok(took)
    }

    fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Stop> {
        match framing {
            Framing::Nothing => Ok(Vec::new()),
            Framing::Length(n) => self.exactly(n as usize),
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    let size = self.size()?;
                    let chunk = self.exactly(size + 2)?;
                    if !chunk.ends_with(b"\r\n") {
                        return Err(Stop::Fault("a chunk without its end"));
                    }
                    body.extend_from_slice(&chunk[..size]);
                    if size == 0 {
                        return Ok(body);
                    }
                }
            }
        }
    }

    /// A chunk size: hexadecimal digits and nothing else.
    fn size(&mut self) -> Result<usize, Stop> {
        let end = loop {
            if let Some(at) = self.rest.iter().position(|b| *b == b'\n') {
                break at + 1;
            }
            self.fill()?;
        };
        let line: Vec<u8> = self.rest.drain(..end).collect();
        let digits = line.strip_suffix(b"\r\n").unwrap_or_default();
        let hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| hex);
        text.and_then(|t| usize::from_str_radix(t, 16).ok())
            .ok_or(Stop::Fault("a chunk size that is none"))
    }

    fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Stop> {
        while self.rest.len() < n {
            self.fill()?;
        }
        Ok(self.rest.drain(..n).collect())
    }

    fn fill(&mut self) -> Result<(), Stop> {
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part) {
            Ok(n @ 1..) => {
                self.rest.extend_from_slice(&part[..n]);
                Ok(())
            }
            _ => Err(Stop::Ended),
        }
    }
}

/// One request header, without its last empty line.
fn parse(head: &[u8]) -> Result<Took, &'static str> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    if lines
        .iter()
        .any(|l| l.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)))
    {
        return Err("a bare CR or LF, or a NUL");
    }
    let line = std::str::from_utf8(lines[0]).map_err(|_| "a request line beyond ASCII")?;
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err("a request line of other than three words");
    };
    let graphic = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if !method.bytes().all(is_token) || !target.starts_with('/') || !graphic(target) {
        return Err("an illegal request line");
    }
    let mut took = Took {
        method: method.to_owned(),
        target: target.to_owned(),
        ..Took::default()
    };
    for line in &lines[1..] {
        let colon = line.iter().position(|b| *b == b':').ok_or("no colon")?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err("an illegal field name");
        }
        if value
            .iter()
            .any(|b| *b != b'\t' && (*b < b' ' || *b == 0x7f))
        {
            return Err("a control character in a field");
        }
        let name = String::from_utf8_lossy(name).into_owned();
        took.fields.push((name, value.trim_ascii().to_vec()));
    }
    took.framing = framing(&took)?;
    Ok(took)
}

fn framing(took: &Took) -> Result<Framing, &'static str> {
    if took.values("host").len() != 1 || took.values("host")[0].is_empty() {
        return Err("other than one Host");
    }
    let (lengths, codings) = (
        took.values("content-length"),
        took.values("transfer-encoding"),
    );
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Nothing),
        ([], [coding]) if coding == "chunked" => Ok(Framing::Chunked),
        ([length], []) => match length.parse::<u64>() {
            Ok(n) if n.to_string() == *length => Ok(Framing::Length(n)),
            _ => Err("a length that is no plain number"),
        },
        _ => Err("framing that can be read in two ways"),
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
