//! A gateway in this process, with what it tells: access lines, metrics, status.

use super::{Answer, Client, Req, eventually, mint, stderr};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tollgate::base::clock::Clock;
use tollgate::config;
use tollgate::config::diff::Difference;
use tollgate::gateway::Shared;
use tollgate::server::{Server, StartFault};

/// The gateway.
pub struct Gateway {
    server: Mutex<Server>,
    listeners: HashMap<String, SocketAddr>,
    admin: Option<SocketAddr>,
    clock: Clock,
    dir: TempDir,
}

impl Gateway {
    /// Starts one. Sections that the text lacks are put in: two workers, the listener `public`, an
    /// admin port and an access log in a file.
    #[track_caller]
    pub fn start(yaml: &str) -> Gateway {
        Self::with_files(yaml, &[])
    }

    /// Starts one whose config names these files.
    #[track_caller]
    pub fn with_files(yaml: &str, files: &[(&str, &str)]) -> Gateway {
        stderr::keep();
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("writes");
        }
        let text = completed(yaml, &dir);
        let env = |name: &str| (name == "TEST_SECRET").then(|| mint::SECRET.to_owned());
        let loaded = config::parse(&text, "test.yaml", dir.path(), &env)
            .unwrap_or_else(|faults| panic!("{faults}\n{text}"));
        let clock = Clock::system();
        let (asks, _) = tokio::sync::mpsc::channel(1);
        let server = Server::start(&loaded, clock.clone(), asks)
            .unwrap_or_else(|fault| panic!("does not start: {fault}\n{text}"));
        let names = loaded
            .conf
            .listeners
            .iter()
            .map(|l| l.value.name.value.to_string());
        let listeners = names
            .filter_map(|n| server.address(&n).map(|a| (n, a)))
            .collect();
        let admin = server.admin_address();
        let server = Mutex::new(server);
        Gateway {
            server,
            listeners,
            admin,
            clock,
            dir,
        }
    }

    /// What its workers share.
    pub fn shared(&self) -> Arc<Shared> {
        self.server.lock().unwrap().shared().clone()
    }

    /// The address of the listener `public`.
    pub fn address(&self) -> SocketAddr {
        self.listener("public")
    }

    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.listeners[name]
    }

    /// Has it read its certificates anew; what came of it, in words.
    pub fn reload_certificates(&self) -> Vec<String> {
        let reloaded = self.server.lock().unwrap().reload_certificates();
        reloaded.iter().map(ToString::to_string).collect()
    }

    /// Has it take up another config; what changed, or why nothing did.
    pub fn reload(&self, yaml: &str) -> Result<Vec<String>, String> {
        let loaded = self.read(yaml);
        let loaded = loaded.inspect_err(|fault| self.server.lock().unwrap().refused(fault))?;
        let done = self.server.lock().unwrap().reload(loaded);
        told(done)
    }

    /// What the watchdog would be told.
    pub fn alive(&self) -> Result<(), String> {
        self.server.lock().unwrap().alive()
    }

    /// What that would change.
    pub fn plan(&self, yaml: &str) -> Result<Vec<String>, String> {
        let loaded = self.read(yaml)?;
        let plan = self.server.lock().unwrap().plan(&loaded);
        told(plan)
    }

    fn read(&self, yaml: &str) -> Result<config::Loaded, String> {
        let text = completed(yaml, &self.dir);
        let env = |name: &str| (name == "TEST_SECRET").then(|| mint::SECRET.to_owned());
        let loaded = config::parse(&text, "test.yaml", self.dir.path(), &env);
        loaded.map_err(|faults| faults.to_string())
    }

    /// Writes one of its files.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).expect("writes");
    }

    /// The folder of its files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Drains it; true if everything in flight finished.
    pub fn drain(&self) -> bool {
        self.server.lock().unwrap().drain()
    }

    /// Opens a connection.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::open(self.address())
    }

    /// Asks on a connection of its own.
    #[track_caller]
    pub fn ask(&self, req: &Req) -> Answer {
        self.connect().ask(req)
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.ask(&Req::get(target))
    }

    /// Its clock; clones move together.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Moves all of its time forward. Connections that were open meanwhile may be closed as idle.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn advance_s(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    pub fn now_s(&self) -> u64 {
        self.clock.now().unix_s()
    }

    /// Moves time to just behind the begin of a window of so many seconds.
    pub fn begin_window(&self, seconds: u64) {
        let ms = self.clock.now().steady_ms % (seconds * 1000);
        self.advance(Duration::from_millis(seconds * 1000 - ms));
    }

    /// The access lines written so far.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.raw_lines();
        let parsed = lines
            .lines()
            .map(|l| serde_json::from_str(l).expect("JSON"));
        parsed.collect()
    }

    pub fn raw_lines(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        text[..whole].to_owned()
    }

    /// The access line of an answer.
    #[track_caller]
    pub fn line(&self, answer: &Answer) -> Value {
        self.line_where(|line| line["request_id"] == answer.request_id())
    }

    /// The only access line for which this holds; waits for it.
    #[track_caller]
    pub fn line_where(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let mut found = Vec::new();
        eventually("an access line", || {
            found = self.lines().into_iter().filter(&holds).collect();
            !found.is_empty()
        });
        assert_eq!(found.len(), 1, "one line a request: {found:?}");
        found.remove(0)
    }

    #[track_caller]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("an admin port")
    }

    /// Asks the admin port.
    #[track_caller]
    pub fn admin(&self, req: &Req) -> Answer {
        let address = self.admin_address();
        Client::open(address).ask(&req.clone().host(&address.to_string()))
    }

    #[track_caller]
    pub fn metrics(&self) -> String {
        let answer = self.admin(&Req::get("/metrics"));
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    }

    /// The value of a metric, by name and labels as rendered; 0 if it is not there.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.metrics();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |v| v.parse().expect("a whole number"))
    }

    /// Waits until a metric has this value: what is told of a request may come a moment after its
    /// answer.
    #[track_caller]
    pub fn counts(&self, name: &str, want: u64) {
        eventually(&format!("{name} {want}"), || self.metric(name) == want);
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.admin(&Req::get("/status")).json()
    }
}

fn told(done: Result<Vec<Difference>, StartFault>) -> Result<Vec<String>, String> {
    let all = done.map_err(|fault| fault.to_string())?;
    Ok(all.iter().map(ToString::to_string).collect())
}

fn completed(yaml: &str, dir: &TempDir) -> String {
    let has = |key: &str| yaml.lines().any(|l| l.starts_with(&format!("{key}:")));
    let log = dir.path().join("access.log");
    let defaults = [
        (
            "server",
            "{ workers: 2, drain: { idle: 0s, max: 5s } }".to_owned(),
        ),
        (
            "listeners",
            "[{ name: public, address: \"127.0.0.1:0\" }]".to_owned(),
        ),
        ("admin", "{ address: \"127.0.0.1:0\" }".to_owned()),
        ("log", format!("{{ access: \"{}\" }}", log.display())),
    ];
    let mut text = String::new();
    for (key, value) in defaults {
        if !has(key) {
            text.push_str(&format!("{key}: {value}\n"));
        }
    }
    text + yaml
}
