//! A real Redis server of a test's own, on a free port, with nothing on disk.

use super::pki::Leaf;
use super::{Stopwatch, patience};
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tollgate::base::clock::Clock;
use tollgate::base::secret::Secret;
use tollgate::observe::metrics::Metrics;
use tollgate::redis::{Redis, RedisRules, TlsRules, Watcher};

/// The server.
pub struct RedisServer {
    port: u16,
    tls_port: Option<u16>,
    child: Mutex<Child>,
    arguments: Vec<String>,
    dir: TempDir,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl RedisServer {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with further arguments, such as `["--appendonly", "yes"]`.
    pub fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self::begin(dir, None, arguments)
    }

    /// Starts one that takes TLS on another port, from clients that this authority signed if it is given
    /// (in PEM).
    pub fn tls(leaf: &Leaf, clients: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        leaf.write(dir.path(), "server");
        let ca = clients.unwrap_or(&leaf.cert);
        std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
        let port = free_port();
        let wanted = if clients.is_some() { "yes" } else { "no" };
        let arguments = [
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            "server.pem",
            "--tls-key-file",
            "server.key",
            "--tls-ca-cert-file",
            "ca.pem",
            "--tls-auth-clients",
            wanted,
        ];
        Self::begin(dir, Some(port), &arguments)
    }

    fn begin(dir: TempDir, tls_port: Option<u16>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let (port, arguments): (u16, Vec<String>) = (free_port(), arguments);
        let child = Mutex::new(launch(port, &dir, &arguments));
        let server = Self {
            port,
            tls_port,
            child,
            arguments,
            dir,
        };
        server.await_ready();
        server
    }

    #[track_caller]
    fn await_ready(&self) {
        let watch = Stopwatch::start();
        while self.try_run(&["PING"]).is_err() {
            assert!(watch.passed() < patience(), "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it is, without TLS.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How it is reached without TLS, with time enough for a busy machine.
    pub fn rules(&self) -> RedisRules {
        RedisRules {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            db: 0,
            tls: None,
            username: None,
            password: None,
            timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(2),
        }
    }

    /// The same over TLS.
    pub fn tls_rules(&self, ca: &str) -> RedisRules {
        RedisRules {
            port: self.tls_port.expect("with TLS"),
            tls: Some(TlsRules {
                ca: Some(ca.to_owned()),
                client: None,
            }),
            ..self.rules()
        }
    }

    /// Has it do something, past the gateway.
    pub fn try_run(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]).query(&mut connection)
    }

    #[track_caller]
    pub fn run(&self, command: &[&str]) -> redis::Value {
        let done = self.try_run(command);
        done.unwrap_or_else(|fault| panic!("{command:?}: {fault}"))
    }

    /// What it says of itself, such as `connected_clients`.
    #[track_caller]
    pub fn info(&self, field: &str) -> String {
        let redis::Value::BulkString(text) = self.run(&["INFO"]) else {
            panic!("no text");
        };
        let text = String::from_utf8(text).unwrap();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        // One that has ended already needs none.
        let _ = kill_process(pid, signal);
    }

    /// Stops it in its tracks: it takes connections and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it at once.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Starts it again on the same port, empty unless its arguments have it keep something.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        *self.child.lock().unwrap() = launch(self.port, &self.dir, &self.arguments);
        self.await_ready();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(port: u16, dir: &TempDir, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    let port = port.to_string();
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--logfile", "redis.log", "--loglevel", "notice"]);
    command.args(arguments).current_dir(dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn();
    child.expect("redis-server (`make packages` installs it)")
}

/// The product's side of a server, run by a runtime of its own.
pub struct Held {
    pub redis: Arc<Redis>,
    pub metrics: Arc<Metrics>,
    /// Moving it moves nothing but what asks for the time.
    pub clock: Clock,
    pub runtime: Runtime,
    stop: watch::Sender<bool>,
}

impl Held {
    #[track_caller]
    pub fn new(rules: RedisRules) -> Self {
        super::stderr::keep();
        let metrics = Arc::new(Metrics::new("0", 0));
        let handle = metrics.redis(&rules.address());
        let clock = Clock::system();
        let redis = Redis::new(rules, clock.clone(), handle).expect("good rules");
        let redis = Arc::new(redis);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let stop = watch::Sender::new(false);
        runtime.spawn(redis.clone().run(stop.subscribe()));
        Self {
            redis,
            metrics,
            clock,
            runtime,
            stop,
        }
    }

    /// Waits until it is up.
    #[track_caller]
    pub fn up(self) -> Self {
        super::eventually("Redis is up", || self.redis.is_up());
        self
    }

    pub fn query<T: redis::FromRedisValue>(
        &self,
        command: &[&str],
    ) -> Result<T, tollgate::redis::RedisFault> {
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        self.runtime.block_on(self.redis.query(&cmd))
    }

    /// The value of a metric, by its name and further labels.
    pub fn metric(&self, name: &str, labels: &str) -> u64 {
        let server = self.redis.address();
        let start = format!("{name}{{{labels}server=\"{server}\"}} ");
        let text = self.metrics.render();
        let line = text.lines().find_map(|l| l.strip_prefix(&start));
        line.map_or(0, |v| v.parse().expect("a whole number"))
    }

    /// What the operator was told of this server.
    pub fn told(&self) -> Vec<String> {
        let of = format!("redis {}: ", self.redis.address());
        let mut lines = super::stderr::lines();
        lines.retain(|line| line.contains(&of));
        lines
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

/// Logs in as this user.
pub fn login(mut rules: RedisRules, user: Option<&str>, password: &str) -> RedisRules {
    rules.username = user.map(ToOwned::to_owned);
    rules.password = Some(Secret::new(password));
    rules
}

/// Writes down what it is told.
#[derive(Default)]
pub struct Diary(Mutex<Vec<String>>);

impl Diary {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// How often this was written down.
    pub fn count(&self, text: &str) -> usize {
        self.all().iter().filter(|l| *l == text).count()
    }

    pub fn weak(self: &Arc<Self>) -> Weak<dyn Watcher> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }
}

impl Watcher for Diary {
    fn changed(&self, key: &[u8]) {
        self.note(format!("changed {}", String::from_utf8_lossy(key)));
    }

    fn message(&self, payload: &[u8]) {
        self.note(format!("message {}", String::from_utf8_lossy(payload)));
    }

    fn watching(&self) {
        self.note("watching");
    }

    fn lost(&self) {
        self.note("lost");
    }
}
