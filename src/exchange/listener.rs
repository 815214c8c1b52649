//! One listener as its connections and their requests see it.

use super::admission::{Admission, Caps};
use crate::base::clock::Now;
use crate::base::net::Networks;
use crate::observe::metrics::ListenerMetrics;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// The most header fields any config may allow.
pub const MOST_FIELDS: usize = 200;

/// What a listener accepts of a request header.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole header, request line and final empty line included.
    pub bytes: usize,
    /// Header fields; at most [`MOST_FIELDS`].
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            bytes: 16 * 1024,
            fields: 100,
            target: 8 * 1024,
        }
    }
}

/// What a listener grants a client, and what it answers by itself.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What it accepts of a request header.
    pub head: HeadLimits,
    /// Milliseconds that a connection may be idle between requests.
    pub idle_ms: u64,
    /// Milliseconds from the first byte of a request header to its last.
    pub header_ms: u64,
    /// Milliseconds that an answer may wait for a client that takes nothing of it.
    pub write_ms: u64,
    /// Bytes a second that a request body must come with, once it has let us wait for
    /// [`super::connection::GRACE_MS`]; 0: any.
    pub min_body_rate: u64,
    /// Requests that one connection may carry.
    pub max_requests: u32,
    /// Set on a listener that answers probes and nothing else.
    pub probes: Option<Probes>,
    /// Set on a listener that only sends clients to https.
    pub redirect: Option<Redirect>,
    /// Whether a request for a host that its connection's certificate does not cover is refused.
    pub strict_host: bool,
    /// Whether services are told of a client's certificate (RFC 9440).
    pub forward_certificate: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            idle_ms: 60_000,
            header_ms: 10_000,
            write_ms: 30_000,
            min_body_rate: 240,
            max_requests: 10_000,
            probes: None,
            redirect: None,
            strict_host: false,
            forward_certificate: false,
        }
    }
}

/// What a probes listener answers, and to whom.
#[derive(Clone, Debug)]
pub struct Probes {
    /// Who may ask.
    pub networks: Networks,
    /// Whether `/metrics` is answered as well.
    pub metrics: bool,
}

/// Where a listener sends its clients.
#[derive(Clone, Copy, Debug)]
pub struct Redirect {
    /// The status.
    pub status: u16,
    /// The port of the https address.
    pub port: u16,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// Its name in the config; a label of logs and metrics.
    pub name: Arc<str>,
    /// What it grants.
    pub terms: Terms,
    /// Who is in.
    pub admission: Arc<Admission>,
    /// Its metrics.
    pub metrics: Arc<ListenerMetrics>,
    life: Arc<Life>,
}

/// What a listener has in common with those whose place it took: a connection stays with the one that
/// it came by.
#[derive(Debug)]
struct Life {
    stopping: AtomicBool,
    idle_by_ms: AtomicU64,
    max_by_ms: AtomicU64,
    lingering: AtomicUsize,
    tunnels: AtomicUsize,
    cut_off: AtomicBool,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            stopping: AtomicBool::new(false),
            idle_by_ms: AtomicU64::new(u64::MAX),
            max_by_ms: AtomicU64::new(u64::MAX),
            lingering: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            cut_off: AtomicBool::new(false),
        }
    }
}

/// How long a listener that accepts no more waits for its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Milliseconds in which an idle connection may send one more request; no more than `max_ms`.
    pub idle_ms: u64,
    /// Milliseconds after which WebSockets are ended.
    pub max_ms: u64,
}

/// Until when, in milliseconds of the worker's clock.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    /// An idle connection may send one more request.
    pub idle_by_ms: u64,
    /// A WebSocket may go on.
    pub max_by_ms: u64,
}

/// A WebSocket that goes by a listener.
#[derive(Debug)]
pub struct Tunneled(Arc<Listener>);

impl Drop for Tunneled {
    fn drop(&mut self) {
        self.0.life.tunnels.fetch_sub(1, Relaxed);
    }
}

/// A connection that is over but for the client's hanging up.
#[derive(Debug)]
pub struct Lingering(Arc<Listener>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.life.lingering.fetch_sub(1, Relaxed);
    }
}

impl Listener {
    /// A listener without connections.
    pub fn new(name: &str, metrics: Arc<ListenerMetrics>, terms: Terms, caps: Caps) -> Self {
        Self {
            name: name.into(),
            terms,
            admission: Arc::new(Admission::new(caps)),
            metrics,
            life: Arc::default(),
        }
    }

    /// The same in the place of another, if there is one. That one's connections count, and go when this
    /// one stops.
    #[must_use]
    pub fn in_place_of(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        Self {
            admission: Arc::new(before.admission.with_caps(self.admission.caps().clone())),
            life: before.life.clone(),
            ..self
        }
    }

    /// Counts a connection as one that nobody waits for any more.
    pub fn linger(self: &Arc<Self>) -> Lingering {
        self.life.lingering.fetch_add(1, Relaxed);
        Lingering(self.clone())
    }

    /// Counts a WebSocket for as long as what is given back is there.
    pub fn tunnel(self: &Arc<Self>) -> Tunneled {
        self.life.tunnels.fetch_add(1, Relaxed);
        Tunneled(self.clone())
    }

    /// From now on each connection is closed after the request it is busy with, or, if it is idle,
    /// after one more. Who was promised less before keeps to that.
    pub fn stop(&self, now: Now, patience: Patience) {
        let now_ms = now.mono_ns / 1_000_000;
        let by = |ms: u64| now_ms.saturating_add(ms);
        let idle_ms = patience.idle_ms.min(patience.max_ms);
        self.life.idle_by_ms.fetch_min(by(idle_ms), Relaxed);
        self.life.max_by_ms.fetch_min(by(patience.max_ms), Relaxed);
        self.life.stopping.store(true, Release);
    }

    /// Until when its connections may go on, if it is draining.
    pub fn leave(&self) -> Option<Leave> {
        self.stopping().then(|| Leave {
            idle_by_ms: self.life.idle_by_ms.load(Relaxed),
            max_by_ms: self.life.max_by_ms.load(Relaxed),
        })
    }

    /// Notes that a WebSocket was ended without a word.
    pub fn cut_off(&self) {
        self.life.cut_off.store(true, Relaxed);
    }

    /// Whether one was.
    pub fn has_cut_off(&self) -> bool {
        self.life.cut_off.load(Relaxed)
    }

    /// Whether the listener is draining.
    pub fn stopping(&self) -> bool {
        self.life.stopping.load(Acquire)
    }

    /// Counts a request refused while its header was read.
    pub fn refused(&self) {
        self.metrics.refused();
    }

    /// Connections that have a socket.
    pub fn open(&self) -> usize {
        self.admission.open()
    }

    /// Whether there are WebSockets, or connections that only wait for their clients to hang up: what
    /// ends by itself within moments of the end of a drain.
    pub fn has_ending(&self) -> bool {
        self.life.tunnels.load(Relaxed) + self.life.lingering.load(Relaxed) > 0
    }

    /// Connections that something is still owed, those included whose TLS is not yet agreed on.
    pub fn active(&self) -> usize {
        let lingering = self.life.lingering.load(Relaxed);
        self.admission.open().saturating_sub(lingering)
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            all: 20_000,
            each: 5_000,
            exempt: Networks(Vec::new()),
        }
    }
}
