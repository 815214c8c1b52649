//! A client that sends exact bytes and reads whole answers.

use super::patience;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

/// A request as text.
#[derive(Clone, Debug)]
pub struct Req {
    method: String,
    target: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Req {
    /// The same request for another target.
    pub fn at(mut self, target: &str) -> Self {
        self.target = target.into();
        self
    }

    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            host: "api.example.com".into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).body(body)
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the body, announced by `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            out.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend(self.body.iter().flatten());
        out
    }

    fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Statuses of the interim answers before it.
    pub interim: Vec<u16>,
}

impl Answer {
    /// The value of a header that came once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = values.next()?;
        assert!(values.next().is_none(), "{name} came twice: {}", self.head);
        Some(&first.1)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {} {:?}", self.head, self.text()))
    }

    /// The `code` of a problem; empty if it is none.
    pub fn code(&self) -> String {
        match self.header("content-type") {
            Some("application/problem+json") => {
                self.json()["code"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        }
    }

    /// Status and code at once; of a problem also that its body says what its header does.
    #[track_caller]
    pub fn is(&self) -> (u16, String) {
        let code = self.code();
        if !code.is_empty() {
            let body = self.json();
            assert_eq!(body["request_id"], self.request_id(), "{}", self.head);
            assert_eq!(body["status"], self.status, "{}", self.head);
        }
        (self.status, code)
    }

    pub fn number(&self, name: &str) -> u64 {
        let value = self
            .header(name)
            .unwrap_or_else(|| panic!("no {name}: {}", self.head));
        value.parse().expect("a number")
    }

    pub fn request_id(&self) -> &str {
        self.header("x-request-id").expect("a request id")
    }
}

/// Why there is no whole answer.
#[derive(Clone, Debug)]
pub enum Broken {
    /// The connection ended before the first byte.
    Closed,
    /// The connection was reset.
    Reset,
    /// It ended within the answer; what came of it.
    Cut(Box<Answer>),
    /// Nothing came within the patience.
    Silent,
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    rest: Vec<u8>,
}

impl Client {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(patience())).unwrap();
        stream.set_write_timeout(Some(patience())).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            tls: None,
            rest: Vec::new(),
        }
    }

    /// Opens a connection and agrees on TLS, or says why not.
    pub fn secure(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        Self::secure_behind(address, b"", config, name)
    }

    /// The same, behind some bytes in plain.
    pub fn secure_behind(
        address: SocketAddr,
        before: &[u8],
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Self> {
        let mut client = Self::open(address);
        client.stream.write_all(before)?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut tls = ClientConnection::new(config.clone(), name).expect("a client");
        while tls.is_handshaking() {
            tls.complete_io(&mut client.stream)?;
        }
        client.tls = Some(Box::new(tls));
        Ok(client)
    }

    /// What its TLS came to.
    #[track_caller]
    pub fn tls(&self) -> &ClientConnection {
        self.tls.as_ref().expect("TLS")
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, &mut self.stream);
                stream.write_all(bytes)?;
                stream.flush()
            }
            None => self.stream.write_all(bytes),
        }
    }

    fn read_some(&mut self, part: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(part),
            None => self.stream.read(part),
        }
    }

    /// Sends exactly these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.write(bytes.as_ref()).expect("sends");
        self
    }

    /// Sends as long as somebody listens.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.write(bytes.as_ref()).is_ok()
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn ask(&mut self, req: &Req) -> Answer {
        self.send(req.bytes());
        let got = self.read_answer(req.is_head());
        got.unwrap_or_else(|broken| panic!("no answer to {req:?}: {broken:?}"))
    }

    #[track_caller]
    pub fn read(&mut self) -> Answer {
        self.try_read()
            .unwrap_or_else(|broken| panic!("no answer: {broken:?}"))
    }

    pub fn try_read(&mut self) -> Result<Answer, Broken> {
        self.read_answer(false)
    }

    pub fn read_answer(&mut self, to_head: bool) -> Result<Answer, Broken> {
        let mut interim = Vec::new();
        loop {
            let mut answer = self.read_head()?;
            if (100..200).contains(&answer.status) && answer.status != 101 {
                interim.push(answer.status);
                continue;
            }
            answer.interim = interim;
            let empty = to_head || matches!(answer.status, 101 | 204 | 304);
            return if empty {
                Ok(answer)
            } else {
                self.read_body(answer)
            };
        }
    }

    /// Reads one header, interim or not; its body stays unread.
    pub fn read_head(&mut self) -> Result<Answer, Broken> {
        let end = loop {
            if let Some(at) = find(&self.rest, b"\r\n\r\n") {
                break at + 4;
            }
            let before = self.rest.is_empty();
            if self.fill()? == 0 {
                return Err(if before {
                    Broken::Closed
                } else {
                    Broken::Cut(Box::default())
                });
            }
        };
        let head: Vec<u8> = self.rest.drain(..end).collect();
        let head = String::from_utf8(head).expect("a header in ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .and_then(|l| l.split(' ').nth(1))
            .and_then(|s| s.parse().ok());
        let split = |l: &str| {
            l.split_once(": ")
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
        };
        let headers = lines.filter_map(split).collect();
        let status = status.unwrap_or_else(|| panic!("no status: {head}"));
        Ok(Answer {
            status,
            head,
            headers,
            ..Answer::default()
        })
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub fn expect_bytes(&mut self, want: &[u8]) {
        let got = self.exactly(want.len(), &mut Answer::default());
        assert_eq!(got.expect("so many bytes"), want);
    }

    fn read_body(&mut self, mut answer: Answer) -> Result<Answer, Broken> {
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line(&answer)?;
                let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
                let chunk = self.exactly(size + 2, &mut answer)?;
                answer.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    return Ok(answer);
                }
            }
        }
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a length");
            answer.body = self.exactly(length, &mut answer)?;
            return Ok(answer);
        }
        while self.fill()? > 0 {}
        answer.body = std::mem::take(&mut self.rest);
        Ok(answer)
    }

    fn line(&mut self, answer: &Answer) -> Result<String, Broken> {
        loop {
            if let Some(at) = find(&self.rest, b"\r\n") {
                let line = self.rest.drain(..at + 2).collect();
                return Ok(String::from_utf8(line).expect("ASCII"));
            }
            if self.fill()? == 0 {
                return Err(Broken::Cut(Box::new(answer.clone())));
            }
        }
    }

    fn exactly(&mut self, n: usize, answer: &mut Answer) -> Result<Vec<u8>, Broken> {
        while self.rest.len() < n {
            if self.fill()? == 0 {
                answer.body.append(&mut self.rest);
                return Err(Broken::Cut(Box::new(answer.clone())));
            }
        }
        Ok(self.rest.drain(..n).collect())
    }

    fn fill(&mut self) -> Result<usize, Broken> {
        let mut part = [0; 16 * 1024];
        match self.read_some(&mut part) {
            Ok(n) => {
                self.rest.extend_from_slice(&part[..n]);
                Ok(n)
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Err(Broken::Reset),
            // TLS that ends without saying so: somebody else may have cut it.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(Broken::Reset),
            Err(_) => Err(Broken::Silent),
        }
    }

    /// Reads until the other side ends the connection in good order, with nothing more said.
    #[track_caller]
    pub fn ends(&mut self) {
        match self.try_read() {
            Err(Broken::Closed) => (),
            other => panic!("want the end of the connection, got {other:?}"),
        }
    }

    /// Waits for the other side to end the connection, by a reset or in good order, without a word.
    #[track_caller]
    pub fn is_closed(&mut self) {
        match self.try_read() {
            Err(Broken::Closed | Broken::Reset) => (),
            other => panic!("want a closed connection, got {other:?}"),
        }
    }

    /// Whether something has come that was not read yet.
    pub fn has_answer(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let came = self.stream.peek(&mut [0]).is_ok_and(|n| n > 0);
        self.stream.set_nonblocking(false).unwrap();
        came
    }

    /// Reads an answer by so many bytes at a time, with a pause before each.
    #[track_caller]
    pub fn read_slowly(&mut self, bytes: usize, pause: std::time::Duration) -> Answer {
        let mut part = vec![0; bytes];
        let mut answer = self.read_head().expect("a header");
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        answer.body.append(&mut self.rest);
        while answer.body.len() < length {
            std::thread::sleep(pause);
            let n = self.read_some(&mut part).expect("more of the body");
            assert!(n > 0, "cut after {} of {length} bytes", answer.body.len());
            answer.body.extend_from_slice(&part[..n]);
        }
        answer
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Resets the connection.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        let _ = socket.set_linger(Some(std::time::Duration::ZERO));
    }
}

/// What comes behind an answer.
impl Read for Client {
    fn read(&mut self, part: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            return self.read_some(part);
        }
        let n = part.len().min(self.rest.len());
        part[..n].copy_from_slice(&self.rest[..n]);
        self.rest.drain(..n);
        Ok(n)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Client::write(self, bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}
