//! What is known of one client connection, shared by the edge, the sweeper and the request on it.

use crate::base::clock::Now;
use crate::base::net::Networks;
use crate::observe::metrics::{InFlight, ListenerMetrics};
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// One listener as its connections see it.
#[derive(Debug)]
pub struct Listener {
    /// Its name in the config; a label of logs and metrics.
    pub name: Arc<str>,
    /// Set on a listener that answers probes and nothing else.
    pub probes: Option<Probes>,
    /// Milliseconds that a connection may be idle between requests.
    pub idle_ms: u64,
    /// Milliseconds from the first byte of a request header to its last.
    pub header_ms: u64,
    metrics: Arc<ListenerMetrics>,
    stopping: AtomicBool,
    active: AtomicUsize,
}

/// What a probes listener answers, and to whom.
#[derive(Clone, Debug)]
pub struct Probes {
    /// Who may ask.
    pub networks: Networks,
    /// Whether `/metrics` is answered as well.
    pub metrics: bool,
}

impl Listener {
    /// A listener without connections.
    pub fn new(
        name: &str,
        metrics: Arc<ListenerMetrics>,
        probes: Option<Probes>,
        idle_ms: u64,
        header_ms: u64,
    ) -> Self {
        Self {
            name: name.into(),
            metrics,
            probes,
            idle_ms,
            header_ms,
            stopping: AtomicBool::new(false),
            active: AtomicUsize::new(0),
        }
    }

    /// From now on each connection is closed after the request it is busy with.
    pub fn stop(&self) {
        self.stopping.store(true, Release);
    }

    /// Whether the listener is draining.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Acquire)
    }

    /// Counts a request refused while its header was read.
    pub fn refused(&self) {
        self.metrics.refused();
    }

    /// Connections open now.
    pub fn active(&self) -> usize {
        self.active.load(Relaxed)
    }
}

/// What a connection is doing, for the sweeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Between requests.
    Idle,
    /// Some of a request header has come.
    Header,
    /// A request is being served.
    Busy,
}

/// A client that owes bytes for so long, in milliseconds, has stalled.
const STALL_MS: u64 = 500;

const NOT_FIRED: u8 = 0;
const DUE: u8 = 1;
const STOPPED: u8 = 2;

/// One client connection. Time limits are marks that one sweep a worker looks at, so that an idle
/// connection holds no timer.
#[derive(Debug)]
pub struct Connection {
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// The other end of the socket; a Unix socket counts as loopback.
    pub peer: SocketAddr,
    /// Its place in the worker's list.
    pub slot: AtomicU32,
    due_ms: AtomicU64,
    /// The client owes bytes of its body: they are asked for and have not come.
    owing: AtomicBool,
    /// Since which sweep, in milliseconds; 0: not yet seen by one.
    owing_since_ms: AtomicU64,
    swept_ms: AtomicU64,
    phase: AtomicU8,
    fired: AtomicU8,
    waker: Mutex<Option<Waker>>,
    /// Counts it as open.
    _open: InFlight,
}

impl Connection {
    /// A new connection, idle and without a time limit yet.
    pub fn new(listener: Arc<Listener>, peer: SocketAddr) -> Self {
        listener.active.fetch_add(1, Relaxed);
        Self {
            peer,
            slot: AtomicU32::new(0),
            due_ms: AtomicU64::new(u64::MAX),
            owing: AtomicBool::new(false),
            owing_since_ms: AtomicU64::new(0),
            swept_ms: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Idle as u8),
            fired: AtomicU8::new(NOT_FIRED),
            waker: Mutex::new(None),
            _open: listener.metrics.accepted(),
            listener,
        }
    }

    /// Enters a phase that ends `limit_ms` milliseconds from `now` at the latest.
    pub fn arm(&self, phase: Phase, now: Now, limit_ms: u64) {
        self.fired.store(NOT_FIRED, Relaxed);
        self.set_owing(false);
        self.phase.store(phase as u8, Relaxed);
        self.limit(now, limit_ms);
    }

    /// Sets the time limit of the phase it is in.
    pub fn limit(&self, now: Now, limit_ms: u64) {
        let due = (now.mono_ns / 1_000_000).saturating_add(limit_ms);
        self.due_ms.store(due, Release);
    }

    /// Notes whether bytes of the body are being waited for.
    pub fn set_owing(&self, owing: bool) {
        self.owing.store(owing, Relaxed);
        self.owing_since_ms.store(0, Relaxed);
    }

    /// Whether the client owes bytes of its body at this moment. While an upstream does not take what
    /// has come, nobody asks the client for more, and it owes nothing.
    pub fn is_owing(&self) -> bool {
        self.owing.load(Relaxed)
    }

    /// Whether the client has let a good part of a second pass without a byte that it owes.
    pub fn is_stalled(&self) -> bool {
        let since = self.owing_since_ms.load(Relaxed);
        self.is_owing() && since > 0 && self.swept_ms.load(Relaxed) >= since + STALL_MS
    }

    /// Whether the time limit of the phase has passed.
    pub fn expired(&self) -> bool {
        self.fired.load(Acquire) == DUE
    }

    /// Whether an idle connection has been told to go, by time or by a drain.
    pub fn told_to_go(&self) -> bool {
        self.fired.load(Acquire) != NOT_FIRED
    }

    /// Leaves a waker to be called once the time limit has passed.
    pub fn wake_on_expiry(&self, waker: &Waker) {
        let mut kept = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.as_ref().is_some_and(|k| k.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Looks at the clock for this connection; called by its worker's sweep.
    pub fn sweep(&self, now: Now) {
        if self.fired.load(Relaxed) != NOT_FIRED {
            return;
        }
        let now_ms = now.mono_ns / 1_000_000;
        if self.is_owing() {
            self.swept_ms.store(now_ms, Relaxed);
            if self.owing_since_ms.load(Relaxed) == 0 {
                self.owing_since_ms.store(now_ms.max(1), Relaxed);
            }
        }
        let due = now_ms >= self.due_ms.load(Acquire);
        let idle = self.phase.load(Relaxed) == Phase::Idle as u8;
        let verdict = match (due, idle && self.listener.stopping()) {
            (_, true) => STOPPED,
            (true, false) => DUE,
            (false, false) => return,
        };
        self.fired.store(verdict, Release);
        let mut kept = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = kept.take() {
            waker.wake();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.listener.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let metrics = crate::observe::metrics::Metrics::new("0", 0).listener("public");
        let listener = Arc::new(Listener::new("public", metrics, None, 60_000, 10_000));
        Connection::new(listener, ([127, 0, 0, 1], 5000).into())
    }

    #[test]
    fn a_limit_fires_once_it_has_passed_and_not_before() {
        let conn = connection();
        conn.arm(Phase::Busy, Now::at_ms(1000), 500);
        conn.sweep(Now::at_ms(1499));
        assert!(!conn.expired());
        conn.sweep(Now::at_ms(1500));
        assert!(conn.expired());
        conn.arm(Phase::Idle, Now::at_ms(1600), 500);
        assert!(!conn.told_to_go(), "a new phase begins with a new limit");
    }

    #[test]
    fn a_drain_ends_idle_connections_only() {
        let conn = connection();
        conn.listener.stop();
        conn.arm(Phase::Busy, Now::at_ms(0), 60_000);
        conn.sweep(Now::at_ms(10));
        assert!(!conn.told_to_go());
        conn.arm(Phase::Idle, Now::at_ms(0), 60_000);
        conn.sweep(Now::at_ms(10));
        assert!(conn.told_to_go() && !conn.expired());
    }

    #[test]
    fn a_client_stalls_once_it_has_owed_bytes_for_long() {
        let conn = connection();
        conn.arm(Phase::Busy, Now::at_ms(0), 60_000);
        conn.set_owing(true);
        assert!(conn.is_owing());
        for ms in [1000, 1400] {
            conn.sweep(Now::at_ms(ms));
            assert!(!conn.is_stalled(), "{ms}");
        }
        conn.set_owing(true);
        conn.sweep(Now::at_ms(1450));
        conn.sweep(Now::at_ms(1900));
        assert!(!conn.is_stalled(), "bytes came in between");
        conn.sweep(Now::at_ms(1950));
        assert!(conn.is_stalled());
        conn.set_owing(false);
        assert!(!conn.is_stalled() && !conn.is_owing());
    }

    #[test]
    fn open_connections_are_counted() {
        let conn = connection();
        let listener = conn.listener.clone();
        assert_eq!(listener.active(), 1);
        drop(conn);
        assert_eq!(listener.active(), 0);
    }
}
