//! A scripted HTTP/1 origin: records every request raw, and does what its script says.

use super::Gate;
use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A request as the origin got it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its number at this origin, from 0.
    pub n: usize,
    /// The number of its connection, from 0.
    pub connection: usize,
    pub method: String,
    pub target: String,
    /// The header as it came.
    pub head: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header that came at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = values.next()?;
        assert!(values.next().is_none(), "{name} came twice: {}", self.head);
        Some(&first.1)
    }
}

/// What becomes of a request.
#[derive(Clone)]
pub enum Act {
    /// A whole answer; the connection stays.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Exactly these bytes; the connection stays.
    Raw(Vec<u8>),
    /// Exactly these bytes, then the end of the stream.
    RawThenClose(Vec<u8>),
    /// Exactly these bytes, then a reset.
    RawThenReset(Vec<u8>),
    /// Nothing, until the connection goes.
    Hang,
    /// So many pieces of the bytes, one each so often.
    Trickle(Vec<u8>, usize, Duration),
    /// Waits at a gate first.
    At(Gate, Box<Act>),
    /// Whatever this does with the connection and what came behind the request; then its end.
    Take(Take),
}

/// Serves a connection after its request.
pub type Take = Arc<dyn Fn(&TcpStream, Vec<u8>, &Seen) + Send + Sync>;

impl Act {
    /// 200 with this body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Act {
        Act::Answer(200, Vec::new(), body.into())
    }

    /// Hands the connection over.
    pub fn take(serve: impl Fn(&TcpStream, Vec<u8>, &Seen) + Send + Sync + 'static) -> Act {
        Act::Take(Arc::new(serve))
    }

    /// This status with an empty body.
    pub fn status(status: u16) -> Act {
        Act::Answer(status, Vec::new(), Vec::new())
    }

    pub fn reset() -> Act {
        Act::RawThenReset(Vec::new())
    }
}

type Script = Arc<dyn Fn(&Seen) -> Act + Send + Sync>;

struct Inner {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    count: AtomicUsize,
    accepted: AtomicUsize,
    stopping: AtomicBool,
    open: Mutex<HashMap<usize, TcpStream>>,
}

/// The origin. Each has a loopback address of its own, so that no other test can take its port
/// while it does not listen.
pub struct Origin {
    address: SocketAddr,
    inner: Arc<Inner>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Origin {
    /// An origin that answers 200 with the request target.
    pub fn start() -> Origin {
        Self::scripted(|seen| Act::ok(seen.target.clone()))
    }

    pub fn scripted(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Origin {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [_, b, c, d] = NEXT.fetch_add(1, SeqCst).to_be_bytes();
        Self::bound(Ipv4Addr::new(127, b + 1, c, d), script)
    }

    /// An origin like [`Origin::start`] where the name `localhost` leads.
    pub fn at_localhost() -> Origin {
        Self::bound(Ipv4Addr::LOCALHOST, |seen| Act::ok(seen.target.clone()))
    }

    fn bound(ip: Ipv4Addr, script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind((ip, 0)).expect("binds");
        let inner = Arc::new(Inner {
            script: Mutex::new(Arc::new(script)),
            seen: Mutex::default(),
            count: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let address = listener.local_addr().unwrap();
        let accepting = Mutex::new(Some(accept(listener, inner.clone())));
        Origin {
            address,
            inner,
            accepting,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does from now on.
    pub fn script(&self, script: impl Fn(&Seen) -> Act + Send + Sync + 'static) {
        *self.inner.script.lock().unwrap() = Arc::new(script);
    }

    /// Every request that came whole, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// The last request.
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request at the origin")
    }

    /// How many requests came whole.
    pub fn hits(&self) -> usize {
        self.inner.seen.lock().unwrap().len()
    }

    /// How many request headers came, whatever became of their bodies.
    pub fn begun(&self) -> usize {
        self.inner.count.load(SeqCst)
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> usize {
        self.inner.accepted.load(SeqCst)
    }

    pub fn open_connections(&self) -> usize {
        self.inner.open.lock().unwrap().len()
    }

    /// Ends all open connections, as a server does whose keep-alive is over.
    pub fn close_connections(&self) {
        for stream in self.inner.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Writes on all open connections, asked or not.
    pub fn inject(&self, bytes: &[u8]) {
        for mut stream in self.inner.open.lock().unwrap().values() {
            let _ = stream.write_all(bytes);
        }
    }

    /// Stops listening and ends all connections.
    pub fn stop(&self) {
        let Some(accepting) = self.accepting.lock().unwrap().take() else {
            return;
        };
        self.inner.stopping.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        accepting.join().expect("no panic");
        self.close_connections();
    }

    /// Listens again where it did before.
    pub fn start_again(&self) {
        self.inner.stopping.store(false, SeqCst);
        let listener = TcpListener::bind(self.address).expect("binds again");
        let accepting = accept(listener, self.inner.clone());
        *self.accepting.lock().unwrap() = Some(accepting);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: TcpListener, inner: Arc<Inner>) -> JoinHandle<()> {
    thread::spawn(move || {
        for stream in listener.incoming() {
            if inner.stopping.load(SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let number = inner.accepted.fetch_add(1, SeqCst);
            let _ = stream.set_nodelay(true);
            let clone = stream.try_clone().expect("clones");
            inner.open.lock().unwrap().insert(number, clone);
            let inner = inner.clone();
            thread::spawn(move || {
                let reset = serve(&stream, number, &inner);
                inner.open.lock().unwrap().remove(&number);
                if reset {
                    let socket = socket2::SockRef::from(&stream);
                    let _ = socket.set_linger(Some(Duration::ZERO));
                } else {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            });
        }
    })
}

/// Serves a connection; true if it is to be reset.
fn serve(stream: &TcpStream, connection: usize, inner: &Inner) -> bool {
    let mut rest = Vec::new();
    while let Some(mut seen) = read_head(stream, &mut rest) {
        seen.connection = connection;
        seen.n = inner.count.fetch_add(1, SeqCst);
        let Some(body) = read_body(stream, &mut rest, &seen) else {
            return false;
        };
        seen.body = body;
        inner.seen.lock().unwrap().push(seen.clone());
        let script = inner.script.lock().unwrap().clone();
        match perform(stream, script(&seen), &seen, &mut rest) {
            After::Stay => (),
            After::Close => return false,
            After::Reset => return true,
        }
    }
    false
}

enum After {
    Stay,
    Close,
    Reset,
}

fn perform(mut stream: &TcpStream, act: Act, seen: &Seen, rest: &mut Vec<u8>) -> After {
    let mut write = |bytes: &[u8]| stream.write_all(bytes).is_ok();
    match act {
        Act::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            if !matches!(status, 204 | 304) {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            head.push_str("\r\n");
            let mut bytes = head.into_bytes();
            if seen.method != "HEAD" {
                bytes.extend(body);
            }
            if write(&bytes) {
                After::Stay
            } else {
                After::Close
            }
        }
        Act::Raw(bytes) => {
            if write(&bytes) {
                After::Stay
            } else {
                After::Close
            }
        }
        Act::RawThenClose(bytes) => {
            write(&bytes);
            After::Close
        }
        Act::RawThenReset(bytes) => {
            write(&bytes);
            After::Reset
        }
        Act::Hang => {
            while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
            After::Close
        }
        Act::Trickle(bytes, pieces, every) => {
            for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
                if !write(piece) {
                    return After::Close;
                }
                thread::sleep(every);
            }
            After::Stay
        }
        Act::At(gate, act) => {
            gate.pass();
            perform(stream, *act, seen, rest)
        }
        Act::Take(serve) => {
            serve(stream, std::mem::take(rest), seen);
            After::Close
        }
    }
}

fn read_head(stream: &TcpStream, rest: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        fill(stream, rest)?;
    };
    let head: Vec<u8> = rest.drain(..end).collect();
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let split = |l: &str| {
        l.split_once(':')
            .map(|(n, v)| (n.to_owned(), v.trim().to_owned()))
    };
    let headers = lines.filter_map(split).collect();
    Some(Seen {
        method,
        target,
        head,
        headers,
        ..Seen::default()
    })
}

fn read_body(stream: &TcpStream, rest: &mut Vec<u8>, seen: &Seen) -> Option<Vec<u8>> {
    if seen.header("transfer-encoding").is_some() {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
                    break rest.drain(..at + 2).collect::<Vec<u8>>();
                }
                fill(stream, rest)?;
            };
            let text = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(text.trim().split(';').next()?, 16).ok()?;
            let chunk = exactly(stream, rest, size + 2)?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Some(body);
            }
        }
    }
    let length = seen
        .header("content-length")
        .map_or(0, |l| l.parse().expect("a length"));
    exactly(stream, rest, length)
}

fn exactly(stream: &TcpStream, rest: &mut Vec<u8>, n: usize) -> Option<Vec<u8>> {
    while rest.len() < n {
        fill(stream, rest)?;
    }
    Some(rest.drain(..n).collect())
}

fn fill(mut stream: &TcpStream, rest: &mut Vec<u8>) -> Option<()> {
    let mut part = [0; 16 * 1024];
    let n = stream.read(&mut part).ok().filter(|n| *n > 0)?;
    rest.extend_from_slice(&part[..n]);
    Some(())
}
