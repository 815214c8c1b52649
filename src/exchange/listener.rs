//! One listener as its connections and their requests see it.

use super::admission::{Admission, Caps};
use crate::base::net::Networks;
use crate::observe::metrics::ListenerMetrics;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
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
#[derive(Debug, Default)]
struct Life {
    stopping: AtomicBool,
    lingering: AtomicUsize,
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

    /// The same in the place of another. That one's connections count, and go when this one stops.
    #[must_use]
    pub fn in_place_of(self, before: &Self) -> Self {
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

    /// From now on each connection is closed after the request it is busy with.
    pub fn stop(&self) {
        self.life.stopping.store(true, Release);
    }

    /// Whether the listener is draining.
    pub fn stopping(&self) -> bool {
        self.life.stopping.load(Acquire)
    }

    /// Counts a request refused while its header was read.
    pub fn refused(&self) {
        self.metrics.refused();
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
