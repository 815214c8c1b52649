//! What a connection costs while nothing is asked on it: the memory of the real program, with a
//! thousand of them.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "what makes certificates is shared with tests that allow it"
)]

#[path = "e2e/support/pki.rs"]
#[expect(
    dead_code,
    unused_imports,
    clippy::needless_pass_by_value,
    reason = "made for other tests, which use the rest of it"
)]
mod pki;

use pki::{Authority, Trust};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const COUNT: usize = 1000;
/// Bytes of memory that one connection may take.
const MOST: usize = 16 * 1024;
/// The same over TLS.
const MOST_TLS: usize = 24 * 1024;

/// The program, serving; ends with the test.
struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start(origin: SocketAddr) -> Self {
        Self::with(origin, "", &[])
    }

    /// One whose listener has more settings, which name these files.
    fn with(origin: SocketAddr, more: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        let path = dir.path().join("idle.yaml");
        let config = format!(
            "server: {{ workers: 1 }}\n\
             listeners: [{{ name: public, address: \"127.0.0.1:0\", idle_timeout: 5m {more} }}]\n\
             log: {{ access: off }}\n\
             upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
             routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
        );
        std::fs::write(&path, config).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["run", "--config"])
            .arg(&path)
            .env_remove("RUST_LOG")
            // In pages of 2 MiB what a thousand take is too little to be seen.
            .env("MIMALLOC_ALLOW_THP", "0")
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let told = lines.find_map(|line| {
            let line = line.expect("UTF-8");
            let (_, address) = line.rsplit_once("serving on ")?;
            address.parse().ok()
        });
        // Read to the end, so that the program never waits for its reader.
        thread::spawn(move || lines.for_each(drop));
        let address = told.expect("says where it serves");
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connects");
        let limit = Some(Duration::from_secs(15));
        stream.set_read_timeout(limit).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// Bytes of memory it has in use.
    fn memory(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let number = line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
        number.expect("kibibytes") * 1024
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers every request with two letters, whatever it is.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                    stream.write_all(ANSWER).expect("somebody listens");
                }
            });
        }
    });
    address
}

fn ask(stream: &mut (impl Read + Write)) {
    let request = b"GET /idle HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
    stream.write_all(request).expect("sends");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut part = [0; 1024];
        let n = stream.read(&mut part).expect("an answer");
        assert!(n > 0, "{:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..n]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

#[test]
fn an_idle_connection_holds_almost_nothing() {
    let gateway = Gateway::start(origin());
    // What the first requests leave behind is no connection's.
    for _ in 0..100 {
        ask(&mut gateway.connect());
    }
    let mut last = gateway.connect();
    ask(&mut last);
    let before = gateway.memory();
    let each = |now: usize| now.saturating_sub(before) / COUNT;

    let mut silent: Vec<TcpStream> = (0..COUNT).map(|_| gateway.connect()).collect();
    // The one worker accepts in order: once this one is answered, all before it are open.
    ask(&mut gateway.connect());
    let cost = each(gateway.memory());
    assert!(cost < MOST, "{cost} bytes a silent connection");

    silent.iter_mut().for_each(ask);
    let cost = each(gateway.memory());
    assert!(cost < MOST, "{cost} bytes after a request");
    println!("{cost} bytes a connection that waits for its next request");
    ask(&mut last);
    silent.iter_mut().for_each(ask);
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn secure(gateway: &Gateway, client: &Arc<ClientConfig>) -> Secure {
    let name = ServerName::try_from("a.test").unwrap();
    let tls = ClientConnection::new(client.clone(), name).unwrap();
    let mut stream = StreamOwned::new(tls, gateway.connect());
    ask(&mut stream);
    stream
}

/// The memory of one connection that has answered a request over TLS.
fn secure_cost(gateway: &Gateway, client: &Arc<ClientConfig>) -> usize {
    for _ in 0..100 {
        secure(gateway, client);
    }
    let before = gateway.memory();
    let mut open: Vec<Secure> = (0..COUNT).map(|_| secure(gateway, client)).collect();
    let cost = gateway.memory().saturating_sub(before) / COUNT;
    open.iter_mut().for_each(ask);
    cost
}

#[test]
fn an_idle_connection_over_tls_holds_little_more() {
    let authority = Authority::new("ca");
    let leaf = authority.server(&["a.test"]);
    let files = [
        ("a.pem", &*leaf.cert),
        ("a.key", &*leaf.key),
        ("ca.pem", &*authority.pem()),
    ];
    let more = ", tls: { certificates: [{ cert: a.pem, key: a.key }], \
                client_certificates: { mode: optional, ca: ca.pem } }";
    let trust = Trust::all().only(&authority);
    for (what, trust) in [
        ("TLS 1.2", trust.clone().tls12()),
        ("TLS 1.3", trust.clone().tls13()),
        (
            "TLS 1.3 and a client's certificate",
            trust.present(&authority.client("alice")),
        ),
    ] {
        // One of its own for each: what others gave back would be taken again.
        let gateway = Gateway::with(origin(), more, &files);
        let cost = secure_cost(&gateway, &trust.client());
        println!("{cost} bytes a connection: {what}");
        assert!(cost < MOST_TLS, "{cost} bytes a connection: {what}");
    }
}
