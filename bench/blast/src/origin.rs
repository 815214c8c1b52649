//! The origin: 100 bytes, 64 KiB below `/large`, an echo below `/echo`, and no answer at all below `/hang`.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, event::Event};

use crate::options::Options;
use crate::{Result, http};

/// Tokens of the origin are above this one.
pub const FIRST: usize = 1 << 40;
const LISTENERS: usize = 1 << 16;

/// What one address answers.
struct Place {
    listener: TcpListener,
    name: String,
    small: Vec<u8>,
    large: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    place: usize,
    held: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

/// All addresses of the origin and their connections.
pub struct Origin {
    places: Vec<Place>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    delay: Duration,
    delayed: VecDeque<(Instant, usize, Vec<u8>)>,
    buffer: Vec<u8>,
    /// Requests that have been asked and are not to be answered.
    pub hanging: usize,
}

impl Origin {
    /// Listens on every `address=name`.
    pub fn listen<'a>(
        poll: &Poll,
        places: impl Iterator<Item = &'a str>,
        delay: Duration,
    ) -> Result<Origin> {
        let mut origin = Origin {
            places: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            delay,
            delayed: VecDeque::new(),
            buffer: vec![0; 65_536],
            hanging: 0,
        };
        for (at, place) in places.enumerate() {
            let (address, name) = place.split_once('=').ok_or("an origin is address=name")?;
            let mut listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
            let token = Token(FIRST + at);
            poll.registry()
                .register(&mut listener, token, Interest::READABLE)?;
            origin.places.push(Place {
                listener,
                name: name.to_owned(),
                small: answer(name, "text/plain", &[b'y'; 100]),
                large: answer(name, "text/plain", &vec![b'x'; 65_536]),
            });
        }
        Ok(origin)
    }

    /// Handles what happened to one of its sockets.
    pub fn handle(&mut self, poll: &Poll, event: &Event) -> Result<()> {
        let at = event.token().0 - FIRST;
        if at < LISTENERS {
            return self.accept(poll, at);
        }
        let at = at - LISTENERS;
        let alive = self.connections.get_mut(at).and_then(Option::as_mut);
        let Some(connection) = alive else {
            return Ok(());
        };
        let mut open = true;
        if event.is_writable() && connection.written < connection.out.len() {
            open = connection.flush();
        }
        if open && event.is_readable() {
            open = self.read(at, event.is_read_closed());
        }
        if !open {
            self.connections[at] = None;
            self.free.push(at);
        }
        Ok(())
    }

    /// Sends the answers that are due, where there is a delay.
    pub fn due(&mut self) {
        while let Some((when, ..)) = self.delayed.front() {
            if *when > Instant::now() {
                return;
            }
            if let Some((_, at, bytes)) = self.delayed.pop_front()
                && let Some(connection) = self.connections[at].as_mut()
            {
                connection.out.extend_from_slice(&bytes);
                connection.flush();
            }
        }
    }

    fn accept(&mut self, poll: &Poll, place: usize) -> Result<()> {
        loop {
            let mut stream = match self.places[place].listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or(self.connections.len());
            let token = Token(FIRST + LISTENERS + at);
            poll.registry().register(
                &mut stream,
                token,
                Interest::READABLE | Interest::WRITABLE,
            )?;
            let connection = Some(Connection {
                stream,
                place,
                held: Vec::new(),
                out: Vec::new(),
                written: 0,
            });
            if at == self.connections.len() {
                self.connections.push(connection);
            } else {
                self.connections[at] = connection;
            }
        }
    }

    /// Reads and answers; whether the connection goes on.
    fn read(&mut self, at: usize, to_the_end: bool) -> bool {
        let Some(connection) = self.connections[at].as_mut() else {
            return false;
        };
        let place = &self.places[connection.place];
        loop {
            let got = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(got) => got,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            let whole =
                connection.held.is_empty() && http::head_end(&self.buffer[..got]) == Some(got);
            if whole {
                let head = &self.buffer[..got];
                self.hanging += connection.answer(place, head, &mut self.delayed, at, self.delay);
            } else {
                connection.held.extend_from_slice(&self.buffer[..got]);
                while let Some(end) = http::head_end(&connection.held) {
                    let head: Vec<u8> = connection.held.drain(..end).collect();
                    self.hanging +=
                        connection.answer(place, &head, &mut self.delayed, at, self.delay);
                }
            }
            if !connection.flush() {
                return false;
            }
            // A read that did not fill the buffer has emptied the socket.
            if got < self.buffer.len() && !to_the_end {
                return true;
            }
        }
    }
}

impl Connection {
    /// Puts the answer to one request where it belongs; 1 if it is never to be answered.
    fn answer(
        &mut self,
        place: &Place,
        head: &[u8],
        delayed: &mut VecDeque<(Instant, usize, Vec<u8>)>,
        at: usize,
        delay: Duration,
    ) -> usize {
        let line = &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())];
        let echo;
        let bytes = if memmem::find(line, b"/large").is_some() {
            &place.large
        } else if memmem::find(line, b"/hang").is_some() {
            return 1;
        } else if memmem::find(line, b"/echo").is_some() {
            echo = answer(&place.name, "application/json", &told(line, head, place));
            &echo
        } else {
            &place.small
        };
        if delay.is_zero() {
            self.out.extend_from_slice(bytes);
        } else {
            delayed.push_back((Instant::now() + delay, at, bytes.clone()));
        }
        0
    }

    /// Writes what there is to write; whether the connection goes on.
    fn flush(&mut self) -> bool {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return false,
                Ok(sent) => self.written += sent,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        self.out.clear();
        self.written = 0;
        true
    }
}

fn answer(name: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nX-Origin: {name}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// What came, as JSON.
fn told(line: &[u8], head: &[u8], place: &Place) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let first = String::from_utf8_lossy(line);
    let mut words = first.split(' ');
    let headers: Vec<_> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| [name.to_owned(), value.trim().to_owned()])
        .collect();
    let told = serde_json::json!({
        "method": words.next(), "path": words.next(), "origin": place.name, "headers": headers,
    });
    told.to_string().into_bytes()
}

/// A signal came while we waited: that is nothing.
pub fn interrupted(error: std::io::Error) -> std::io::Result<()> {
    match error.kind() {
        std::io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

/// `blast origin`: until it is ended. Waits for its sockets unless `--spin` is given.
pub fn run(options: &Options) -> Result<()> {
    let mut poll = Poll::new()?;
    let delay = Duration::from_millis(options.or("delay-ms", 0)?);
    let mut origin = Origin::listen(&poll, options.all("listen"), delay)?;
    let mut events = Events::with_capacity(1024);
    let spins = options.has("spin") || !delay.is_zero();
    println!("ready");
    loop {
        poll.poll(&mut events, spins.then_some(Duration::ZERO))
            .or_else(interrupted)?;
        for event in &events {
            origin.handle(&poll, event)?;
        }
        origin.due();
    }
}
