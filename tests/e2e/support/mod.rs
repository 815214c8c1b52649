//! What the end-to-end tests stand on: a gateway in this process, scripted origins, a raw client,
//! tokens. Everything listens on port 0; nothing sleeps for a fixed time where it can wait for what
//! it wants.

pub mod backend;
pub mod client;
pub mod gateway;
pub mod mint;
pub mod origin;
pub mod pki;
pub mod recorder;
pub mod redis;
pub mod rpc;
pub mod stderr;
pub mod tls;
pub mod websocket;
pub mod wire;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tollgate::base::clock::{Clock, Now};

pub use client::{Answer, Broken, Client, Req};
pub use gateway::Gateway;
pub use origin::{Act, Origin, Seen};

/// How long a test waits for what must come: seconds in `TOLLGATE_TEST_PATIENCE`, else 15.
pub fn patience() -> Duration {
    let set = std::env::var("TOLLGATE_TEST_PATIENCE").ok();
    Duration::from_secs(set.and_then(|s| s.parse().ok()).unwrap_or(15))
}

/// Time as it passes for the tests themselves; a gateway's own clock can be moved.
pub struct Stopwatch {
    clock: Clock,
    began: Now,
}

impl Stopwatch {
    pub fn start() -> Self {
        let clock = Clock::system();
        let began = clock.now();
        Self { clock, began }
    }

    /// What has passed since the start.
    pub fn passed(&self) -> Duration {
        Duration::from_nanos(self.clock.now().since_ns(self.began))
    }

    /// Asserts that the time lies in a range of milliseconds. The upper end is generous: machines
    /// stall.
    #[track_caller]
    pub fn shows(&self, at_least_ms: u64, at_most_ms: u64) {
        let took = self.passed().as_millis() as u64;
        assert!(
            (at_least_ms..=at_most_ms).contains(&took),
            "took {took} ms, want {at_least_ms} to {at_most_ms}"
        );
    }
}

/// Waits until the condition holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let watch = Stopwatch::start();
    while !holds() {
        assert!(watch.passed() < patience(), "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A gate that scripted origins wait at.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits for it to open.
    pub fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(open, patience(), |open| !*open));
    }
}

/// A config with one upstream `up` and one open route for everything.
pub fn open_config(origin: &Origin) -> String {
    format!(
        "upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    )
}
