//! The real binary as a child process: what it printed, how it ended, and a gateway that serves.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;
use tollgate::base::clock::Clock;

/// How long a test waits for what must come: seconds in `TOLLGATE_TEST_PATIENCE`, else 15.
pub fn patience() -> Duration {
    let set = std::env::var("TOLLGATE_TEST_PATIENCE").ok();
    Duration::from_secs(set.and_then(|s| s.parse().ok()).unwrap_or(15))
}

/// Waits until there is something.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    let began = clock.now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        let passed = Duration::from_nanos(clock.now().since_ns(began));
        assert!(passed < patience(), "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The binary, without what the environment of the tests would tell it.
pub fn tollgate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(args).env_remove("RUST_LOG");
    command.stdin(Stdio::null());
    command
}

/// How a call ended that ends by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it to its end. The lines of its log, which begin with the time, are left out.
#[track_caller]
pub fn call(args: &[&str]) -> Ended {
    let output = tollgate(args).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let stderr = text(output.stderr);
    let said = stderr
        .split_inclusive('\n')
        .filter(|l| !l.starts_with("[2"));
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: said.collect(),
    }
}

/// What a wrong call leaves: a code and words for the operator alone.
pub fn failed(code: i32, stderr: &str) -> Ended {
    Ended {
        code: Some(code),
        stdout: String::new(),
        stderr: stderr.to_owned(),
    }
}

/// A folder for a config and what it names.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("writes");
        self.text(name)
    }

    /// A file's path as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// What a file holds; nothing if it is not there.
pub fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A config with the listener `public` at `address` and one open route; `more` goes in front.
pub fn config(address: &str, target: &str, more: &str) -> String {
    format!(
        "{more}\n\
         listeners: [{{ name: public, address: \"{address}\" }}]\n\
         upstreams: [{{ name: up, targets: [\"{target}\"] }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    )
}

/// A service whose answers the test gives itself, one connection after another.
pub struct Service(TcpListener);

impl Service {
    pub fn open() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        Service(listener)
    }

    pub fn address(&self) -> String {
        self.0.local_addr().expect("bound").to_string()
    }

    /// Takes the next connection and reads one request's header.
    #[track_caller]
    pub fn request(&self) -> TcpStream {
        let accepted = eventually("a connection", || match self.0.accept() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            other => Some(other.expect("accepts").0),
        });
        accepted.set_nonblocking(false).expect("a stream");
        let mut stream = patient(accepted);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        stream
    }
}

/// Answers a request that [`Service::request`] took.
pub fn answer(mut stream: TcpStream) {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    stream.write_all(answer.as_bytes()).expect("answers");
}

fn patient(stream: TcpStream) -> TcpStream {
    let set = stream.set_read_timeout(Some(patience()));
    set.expect("a time limit");
    stream
}

/// A gateway: `tollgate run`.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    address: SocketAddr,
}

impl Running {
    /// Starts it and waits until the listener `public` serves.
    #[track_caller]
    pub fn start(config: &str) -> Running {
        Self::start_as(env!("CARGO_BIN_EXE_tollgate"), config)
    }

    /// The same from another file.
    #[track_caller]
    pub fn start_as(program: &str, config: &str) -> Running {
        Self::start_with(program, config, &[])
    }

    /// The same with variables in its environment.
    #[track_caller]
    pub fn start_with(program: &str, config: &str, env: &[(&str, &str)]) -> Running {
        let mut command = Command::new(program);
        command.envs(env.iter().copied());
        command.args(["run", "-c", config]).env_remove("RUST_LOG");
        command.stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let lines = follow(child.stderr.take().expect("piped"));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Running {
            child,
            lines,
            address,
        };
        let said = running.says("listener public: serving on ");
        let (_, address) = said.rsplit_once(' ').expect("an address at its end");
        running.address = address.parse().expect("an address");
        running
    }

    /// Waits for a line of its log that holds `text`; what came before is passed over.
    #[track_caller]
    pub fn says(&self, text: &str) -> String {
        let mut passed = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(patience()) else {
                panic!("it never said {text:?}, but {passed:#?}");
            };
            if line.contains(text) {
                return line;
            }
            passed.push(line);
        }
    }

    /// The lines of its log that nobody has waited for.
    pub fn said(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.child.id().to_string());
        let sent = Command::new("kill").args([signal, pid]).status();
        assert!(sent.expect("kill runs").success(), "SIG{name}");
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub fn send(&self, target: &str, more: &str) -> TcpStream {
        let mut stream = patient(TcpStream::connect(self.address).expect("connects"));
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).expect("sends");
        stream
    }

    /// The status of a request that needs no service.
    #[track_caller]
    pub fn status(&self, target: &str, more: &str) -> String {
        status(self.send(target, more))
    }

    /// Whether a connection is still taken.
    pub fn takes_connections(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits for its end; the exit code, none if a signal ended it.
    #[track_caller]
    pub fn end(&mut self) -> Option<i32> {
        eventually("its end", || self.ended()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the whole answer; its status.
#[track_caller]
pub fn status(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1);
    status.unwrap_or_default().to_owned()
}

/// Passes on what the child says, so that it never waits for a reader.
fn follow(stderr: ChildStderr) -> Receiver<String> {
    let (lines, said) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    said
}
