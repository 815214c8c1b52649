//! Load that costs little to make: few threads, connections that stay, answers read no further than
//! their status and length.

use super::super::support::mint;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, RwLock};
use std::thread::{self, Scope};
use std::time::Duration;

use super::super::support::{Stopwatch, patience};

/// Threads that flood.
const THREADS: usize = 2;

/// Answers by status.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<u16, u64>>);

impl Tally {
    pub fn count(&self, status: u16) {
        *self.0.lock().expect("no panic").entry(status).or_default() += 1;
    }

    pub fn all(&self) -> u64 {
        self.0.lock().expect("no panic").values().sum()
    }

    pub fn of(&self, status: u16) -> u64 {
        let all = self.0.lock().expect("no panic");
        all.get(&status).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.lock().expect("no panic"))
    }
}

/// A client at an address of its own, on a connection that is opened again when it was closed.
pub struct Asker {
    from: Ipv4Addr,
    to: SocketAddr,
    stream: Option<TcpStream>,
    rest: Vec<u8>,
}

impl Asker {
    pub fn new(from: Ipv4Addr, to: SocketAddr) -> Self {
        Self {
            from,
            to,
            stream: None,
            rest: Vec::new(),
        }
    }

    fn open(&mut self) -> &mut TcpStream {
        let (from, to) = (self.from, self.to);
        self.stream.get_or_insert_with(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket
                .bind(&SocketAddr::from((from, 0)).into())
                .expect("binds");
            socket.connect(&to.into()).expect("connects");
            socket.set_tcp_nodelay(true).expect("is TCP");
            socket.set_read_timeout(Some(patience())).expect("is TCP");
            socket.into()
        })
    }

    /// Asks with a token; the status of the answer. A connection that was closed in good order before
    /// an answer began is no answer: it is asked again on another one.
    pub fn ask(&mut self, token: &str) -> u16 {
        for _ in 0..3 {
            if self.send(token).is_ok()
                && let Ok(status) = self.read()
            {
                return status;
            }
            self.stream = None;
            self.rest.clear();
        }
        0
    }

    fn send(&mut self, token: &str) -> io::Result<()> {
        let request = format!(
            "GET /x HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        self.open().write_all(request.as_bytes())
    }

    fn read(&mut self) -> io::Result<u16> {
        let mut buffer = [0; 4096];
        loop {
            if let Some((status, length)) = whole(&self.rest) {
                self.rest.drain(..length);
                return Ok(status);
            }
            let Some(stream) = &mut self.stream else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.rest.extend_from_slice(&buffer[..read]),
            }
        }
    }
}

/// The status and the length of the answer that these bytes begin with, once it is whole.
fn whole(bytes: &[u8]) -> Option<(u16, usize)> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("ASCII");
    let status = text.get(9..12)?.parse().expect("a status");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().expect("a length"))
    });
    let whole = head + length.expect("answers here have a length");
    (bytes.len() >= whole).then_some((status, whole))
}

/// Made-up tokens from many addresses.
pub struct Flood {
    askers: Vec<Asker>,
    /// Requests a second, all together.
    rate: u64,
}

impl Flood {
    pub fn new(from: impl Iterator<Item = Ipv4Addr>, to: SocketAddr, rate: u64) -> Self {
        let askers = from.map(|from| Asker::new(from, to)).collect();
        Self { askers, rate }
    }

    /// Floods in threads of their own until it is over; not while the clock is moved.
    pub fn run<'s>(
        self,
        scope: &'s Scope<'s, '_>,
        moving: &'s RwLock<()>,
        over: &'s AtomicBool,
        tally: &'s Tally,
    ) {
        let share = self.askers.len().div_ceil(THREADS);
        let pause = Duration::from_secs_f64(self.askers.len() as f64 / self.rate as f64);
        let mut askers = self.askers.into_iter().peekable();
        while askers.peek().is_some() {
            let mut own: Vec<Asker> = askers.by_ref().take(share).collect();
            scope.spawn(move || {
                let tail = tail();
                while !over.load(SeqCst) {
                    let watch = Stopwatch::start();
                    sweep(&mut own, &tail, moving, tally);
                    thread::sleep(pause.saturating_sub(watch.passed()));
                }
            });
        }
    }
}

/// All but the header of a token that nobody signed.
fn tail() -> String {
    let claims = mint::claims_but(4_000_000_000, serde_json::json!({}));
    let signature = mint::encode([7; 256]);
    format!("{}.{signature}", mint::encode(claims.to_string()))
}

/// One request of each: sent first, then read, few at a time.
fn sweep(askers: &mut [Asker], tail: &str, moving: &RwLock<()>, tally: &Tally) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for some in askers.chunks_mut(32) {
        let _nobody_moves = moving.read().expect("no panic");
        let tokens: Vec<String> = some
            .iter_mut()
            .map(|asker| {
                let n = NEXT.fetch_add(1, SeqCst);
                let header = mint::encode(format!(r#"{{"alg":"RS256","kid":"made-up-{n:x}"}}"#));
                let token = format!("{header}.{tail}");
                if asker.send(&token).is_err() {
                    asker.stream = None;
                }
                token
            })
            .collect();
        for (asker, token) in some.iter_mut().zip(tokens) {
            let status = asker.read();
            tally.count(status.unwrap_or_else(|_| {
                asker.stream = None;
                asker.rest.clear();
                asker.ask(&token)
            }));
        }
    }
}
