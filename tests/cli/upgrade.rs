//! Another process takes a running one's place: nothing is refused, reset or counted twice, and whatever
//! cannot take over leaves the old one as it was.

use super::process::{
    Folder, Running, Service, answer, call, config, content, eventually, status, tollgate,
};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A gateway run from a file that can be replaced, and whoever took its place.
pub struct Deployed {
    folder: Folder,
    config: String,
    pub running: Running,
    taken: Option<u32>,
}

impl Deployed {
    fn start(service: &str, more: &str) -> Deployed {
        Self::start_in(Folder::new(), service, more, &[])
    }

    pub fn start_in(folder: Folder, service: &str, more: &str, env: &[(&str, &str)]) -> Deployed {
        link(&folder);
        let admin = folder.text("admin.sock");
        let more = format!(
            "admin: {{ address: \"unix:{admin}\", token: {TOKEN} }}\nlog: {{ access: off }}\n{more}"
        );
        let config = folder.write("t.yaml", &config("127.0.0.1:0", service, &more));
        let program = folder.text("tollgate");
        let running = Running::start_with(&program, &config, env);
        Deployed {
            folder,
            config,
            running,
            taken: None,
        }
    }

    /// Runs `tollgate upgrade`: what it printed; or what it said was wrong, and its code.
    fn try_upgrade(&mut self, more: &[&str]) -> Result<u32, (Option<i32>, String)> {
        let args = [&["upgrade", "-c", &self.config], more].concat();
        let ended = call(&args);
        if ended.code != Some(0) {
            return Err((ended.code, ended.stderr));
        }
        let said = ended.stdout.trim_end();
        let pid = said
            .strip_prefix("upgraded: process ")
            .and_then(|s| s.strip_suffix(" serves"))
            .and_then(|s| s.parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("{said}"));
        self.taken = Some(pid);
        Ok(pid)
    }

    #[track_caller]
    pub fn upgrade(&mut self) -> u32 {
        let done = self.try_upgrade(&[]);
        done.unwrap_or_else(|e| panic!("{e:?}"))
    }

    fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// What the admin port says of the process that serves.
    #[track_caller]
    fn status(&self) -> serde_json::Value {
        let mut stream =
            UnixStream::connect(self.folder.path("admin.sock")).expect("an admin port");
        let ask = b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(ask).expect("asks");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let body = text.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str(body).expect("JSON")
    }

    fn pid(&self) -> u32 {
        let pid = self.status()["pid"].as_u64().expect("a number");
        u32::try_from(pid).expect("a process")
    }

    /// Ends the process that took over last.
    pub fn end(mut self) {
        let taken = self.taken.take().expect("there was an upgrade");
        signal("TERM", taken);
        eventually("its end", || (!lives(taken)).then_some(()));
        let socket = self.folder.path("admin.sock");
        assert!(!socket.exists(), "the last one clears it away");
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        if let Some(taken) = self.taken {
            signal("KILL", taken);
        }
    }
}

/// Puts the binary under test where the gateway was run from.
fn link(folder: &Folder) {
    replace(folder, |path| {
        let binary = env!("CARGO_BIN_EXE_tollgate");
        if fs::hard_link(binary, path).is_err() {
            fs::copy(binary, path).expect("copies");
        }
    });
}

/// Puts another file there, as a package does it.
fn replace(folder: &Folder, write: impl FnOnce(&Path)) {
    let draft = folder.path("tollgate.new");
    write(&draft);
    fs::rename(&draft, folder.path("tollgate")).expect("renames");
}

fn script(folder: &Folder, text: &str, mode: u32) {
    replace(folder, |path| {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("writes");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    });
}

pub fn signal(name: &str, pid: u32) {
    let args = [format!("-{name}"), pid.to_string()];
    let sent = Command::new("kill").args(args).status();
    assert!(sent.is_ok());
}

/// Whether a process is there and not just waiting to be buried.
fn lives(pid: u32) -> bool {
    let stat = content(Path::new(&format!("/proc/{pid}/stat")));
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// One answer on a connection; its status, and whether the connection stays.
fn read_one(stream: &mut TcpStream) -> std::io::Result<(u16, bool)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let field = |name: &str| {
        let line = head.lines().find_map(|l| l.strip_prefix(name));
        line.map(|v| v.trim_start_matches(':').trim().to_owned())
    };
    let length = field("content-length")
        .and_then(|l| l.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let stays = field("connection").as_deref() != Some("close");
    Ok((status.unwrap_or(0), stays))
}

/// Sends requests one after another until told to stop, each on a connection of its own or as many on
/// one as it carries. Panics at the first that fails; says how many were answered with 200.
fn ask(address: SocketAddr, keep: bool, stop: impl Fn() -> bool) -> usize {
    let (mut passed, mut kept) = (0, None);
    while !stop() {
        let mut stream = kept
            .take()
            .unwrap_or_else(|| TcpStream::connect(address).expect("nobody is refused"));
        let option = if keep { "keep-alive" } else { "close" };
        let request = format!("GET /load HTTP/1.1\r\nHost: a\r\nConnection: {option}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("is taken");
        let (status, stays) = read_one(&mut stream).expect("a whole answer");
        assert!(matches!(status, 200 | 429), "{status}");
        passed += usize::from(status == 200);
        if keep && stays {
            kept = Some(stream);
        }
    }
    passed
}

/// A service that answers everybody.
fn busy_service() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_all(stream));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                .is_err()
            {
                return;
            }
        }
    }
}

#[test]
fn the_new_process_serves_and_the_old_one_ends_with_its_last_request() {
    let service = Service::open();
    let mut gateway = Deployed::start(&service.address(), "");
    let old = gateway.pid();
    let held = gateway.running.send("/held", "");
    let taken = service.request();
    let new = gateway.upgrade();
    assert_ne!(old, new);
    assert_eq!(gateway.pid(), new, "the admin port is the new one's");
    gateway
        .running
        .says(&format!("took over from process {old}"));
    let client = gateway.running.send("/new", "");
    answer(service.request());
    assert_eq!(status(client), "200", "the same port");
    assert_eq!(gateway.running.ended(), None, "a request is in flight");
    answer(taken);
    assert_eq!(status(held), "200");
    assert_eq!(gateway.running.end(), Some(0), "nothing is left to do");
    let parent = content(Path::new(&format!("/proc/{new}/status")));
    assert!(lives(new) && !parent.contains(&format!("PPid:\t{old}\n")));
    // The one that took over is taken over as well.
    let newer = gateway.upgrade();
    assert_eq!(gateway.pid(), newer);
    eventually("its end", || (!lives(new)).then_some(()));
    gateway.end();
}

/// The short form of the bar: in a real systemd it is 20 and 200.
#[test]
fn no_request_fails_in_upgrades_and_reloads_under_load() {
    let service = busy_service();
    let mut gateway = Deployed::start(&service.to_string(), "");
    let (address, done) = (gateway.address(), AtomicBool::new(false));
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for n in 0..4 {
            let (done, answered) = (&done, &answered);
            scope.spawn(move || {
                let passed = ask(address, n % 2 == 0, || {
                    answered.fetch_add(1, Relaxed);
                    done.load(Relaxed)
                });
                assert!(passed > 10, "{passed}");
            });
        }
        for upgrade in 1..=3 {
            for _ in 0..7 {
                let before = answered.load(Relaxed);
                let reloaded = call(&["reload", "-c", &gateway.config]);
                assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
                eventually("load", || {
                    (answered.load(Relaxed) > before + 20).then_some(())
                });
            }
            let before = answered.load(Relaxed);
            gateway.upgrade();
            eventually("load", || {
                (answered.load(Relaxed) > before + 20).then_some(())
            });
            assert!(!done.load(Relaxed), "{upgrade}");
        }
        done.store(true, Relaxed);
    });
    gateway.end();
}

/// One client, over several connections, at ten times its limit, with upgrades in one window while there is
/// room below it. 4 upgrades; 20 with `TOLLGATE_LONG`.
#[test]
fn a_limit_holds_over_upgrades() {
    let long = std::env::var_os("TOLLGATE_LONG").is_some();
    holds("sliding_window", if long { 20 } else { 4 });
}

/// The same of every other algorithm, two upgrades each: a bucket holds its whole limit at first, and
/// next to nothing comes in meanwhile.
#[test]
fn limits_of_every_algorithm_hold_over_upgrades() {
    holds("fixed_window", 2);
    holds("sliding_log", 2);
    holds("token_bucket", 2);
    holds("leaky_bucket, capacity: 750", 2);
}

fn holds(algorithm: &str, upgrades: usize) {
    let service = busy_service();
    let limit = 375 * upgrades;
    let limits = format!(
        "limits: [{{ name: few, key: address, algorithm: {algorithm}, rate: {limit}/31d }}]"
    );
    let mut gateway = Deployed::start(&service.to_string(), &limits);
    let text = content(Path::new(&gateway.config));
    let text = text.replace("auth: none,", "auth: none, limits: [few],");
    fs::write(&gateway.config, text).expect("writes");
    let reloaded = call(&["reload", "-c", &gateway.config]);
    assert_eq!(reloaded.stdout, "route `all`: changed\nreloaded\n");
    let address = gateway.address();
    let (sent, upgraded) = (AtomicUsize::new(0), AtomicBool::new(false));
    let before = AtomicUsize::new(0);
    let passed: usize = thread::scope(|scope| {
        let (sent, upgraded) = (&sent, &upgraded);
        let client = |n| {
            move || {
                ask(address, n % 2 == 0, || {
                    if !upgraded.load(Relaxed) {
                        // Slow enough that upgrades come before the limit is used up.
                        thread::sleep(Duration::from_millis(10));
                    }
                    sent.fetch_add(1, Relaxed) >= 10 * limit
                })
            }
        };
        let clients: Vec<_> = (0..4).map(|n| scope.spawn(client(n))).collect();
        for _ in 0..upgrades {
            gateway.upgrade();
        }
        before.store(sent.load(Relaxed), Relaxed);
        upgraded.store(true, Relaxed);
        clients
            .into_iter()
            .map(|c| c.join().expect("no panic"))
            .sum()
    });
    let said = gateway.running.said().join("\n");
    assert!(
        !said.contains("does not say"),
        "it was asked in vain:\n{said}"
    );
    let before = before.load(Relaxed);
    assert!(before > 10 * upgrades, "there was load: {before}");
    assert_eq!(
        passed, limit,
        "{algorithm}: {upgrades} upgrades, {before} requests meanwhile"
    );
    gateway.end();
}

/// The process of this number serves as if nothing had been.
#[track_caller]
fn unharmed(gateway: &Deployed, old: u32) {
    assert_eq!(gateway.pid(), old);
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Relaxed) == 3;
    assert_eq!(ask(gateway.address(), true, stop), 3);
}

#[test]
fn what_cannot_take_over_leaves_the_old_one_as_it_was() {
    let service = busy_service();
    let mut gateway = Deployed::start(&service.to_string(), "");
    let old = gateway.pid();
    for (text, mode, says) in [
        ("exit 3", 0o755, "the new process ended with exit code 3"),
        (
            "kill -SEGV $$",
            0o755,
            "the new process was ended by signal 11",
        ),
        ("exit 3", 0o644, "cannot be run: Permission denied"),
        (
            "exec 0<&-; echo $$ >$(dirname $0)/hung; sleep 600",
            0o755,
            "closed its end of the line",
        ),
        (
            "echo $$ >$(dirname $0)/hung; sleep 600",
            0o755,
            "was not ready within 1s and was ended",
        ),
    ] {
        script(&gateway.folder, text, mode);
        let (code, stderr) = gateway.try_upgrade(&["--timeout", "1s"]).expect_err(text);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(
            stderr.contains("not upgraded, the running gateway serves on"),
            "{stderr}"
        );
        assert!(stderr.contains(says), "{stderr}");
        unharmed(&gateway, old);
    }
    let hung: u32 = content(&gateway.folder.path("hung"))
        .trim()
        .parse()
        .expect("a process");
    eventually("its end", || (!lives(hung)).then_some(()));
    link(&gateway.folder);
    gateway.upgrade();
    gateway.end();
}

#[test]
fn a_config_that_cannot_be_served_leaves_the_old_one_as_it_was() {
    let service = busy_service();
    let mut gateway = Deployed::start(&service.to_string(), "");
    let old = gateway.pid();
    // A config that the command takes and the new process cannot: its port is taken.
    let good = content(Path::new(&gateway.config));
    let second = format!("listeners: [{{ name: second, address: \"{service}\" }}, ");
    fs::write(&gateway.config, good.replace("listeners: [", &second)).expect("writes");
    let (code, stderr) = gateway.try_upgrade(&[]).expect_err("a port that is taken");
    assert_eq!(code, Some(1));
    assert!(stderr.contains("listener second: cannot bind"), "{stderr}");
    unharmed(&gateway, old);
    fs::write(&gateway.config, good.replace("to: up", "to: nowhere")).expect("writes");
    let (code, stderr) = gateway.try_upgrade(&[]).expect_err("a config that is none");
    assert_eq!(code, Some(64));
    assert!(stderr.contains("nowhere"), "{stderr}");
    unharmed(&gateway, old);
    fs::write(&gateway.config, good).expect("writes");
    gateway.upgrade();
    gateway.end();
}

/// Killed while a new process starts, the old one leaves nothing behind that serves or waits.
#[test]
fn a_process_that_is_killed_while_it_upgrades_leaves_nobody() {
    let gateway = Deployed::start("127.0.0.1:1", "");
    script(&gateway.folder, "echo $$ >$(dirname $0)/hung; cat", 0o755);
    let mut asking = tollgate(&["upgrade", "-c", &gateway.config]);
    let mut asking = asking.spawn().expect("runs");
    let hung: u32 = eventually("a new process", || {
        content(&gateway.folder.path("hung")).trim().parse().ok()
    });
    gateway.running.signal("KILL");
    eventually("its end", || (!lives(hung)).then_some(()));
    assert_eq!(asking.wait().expect("ends").code(), Some(1));
}

#[test]
fn nobody_takes_over_by_hand() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", &config("127.0.0.1:0", "127.0.0.1:1", ""));
    let ended = call(&["run", "-c", &path, "--take-over", "serve"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("see tollgate upgrade"),
        "{}",
        ended.stderr
    );
    let gateway = Deployed::start("127.0.0.1:1", "");
    for (head, status) in [
        ("POST /upgrade HTTP/1.1\r\n", "401"),
        ("POST /reload HTTP/1.1\r\n", "401"),
        ("GET /upgrade HTTP/1.1\r\n", "404"),
        (
            "POST /upgrade HTTP/1.1\r\nAuthorization: Bearer wrong\r\n",
            "401",
        ),
        (
            &*format!("POST /upgrade?timeout=0 HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n"),
            "400",
        ),
    ] {
        let mut stream = UnixStream::connect(gateway.folder.path("admin.sock")).expect("connects");
        let more = "Host: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream
            .write_all(format!("{head}{more}").as_bytes())
            .expect("asks");
        let mut text = String::new();
        match stream.read_to_string(&mut text) {
            Err(e) if e.kind() != ErrorKind::ConnectionReset => panic!("{e}"),
            _ => assert_eq!(text.split(' ').nth(1), Some(status), "{head}"),
        }
    }
}
