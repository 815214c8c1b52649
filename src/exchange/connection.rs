//! What is known of one client connection, shared by the edge, the sweeper and the request on it.

use super::admission::Pass;
use super::listener::Listener;
use super::tls::TlsInfo;
use crate::base::clock::Now;
use crate::observe::metrics::InFlight;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

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
    /// An HTTP/2 connection: streams have marks of their own, idleness is between them.
    Streams,
    /// An HTTP/2 connection that takes no new streams.
    Leaving,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Idle,
        Self::Header,
        Self::Busy,
        Self::Streams,
        Self::Leaving,
    ];

    /// Whether a drain may end it.
    fn may_be_stopped(self) -> bool {
        matches!(self, Self::Idle | Self::Streams)
    }
}

/// A client that owes bytes for so long, in milliseconds, has stalled.
const STALL_MS: u64 = 500;

/// Milliseconds that a body may let us wait in all before its rate counts.
pub const GRACE_MS: u64 = 5000;

const NOT_FIRED: u8 = 0;
const DUE: u8 = 1;
const STOPPED: u8 = 2;
const SLOW_BODY: u8 = 3;
const SLOW_READER: u8 = 4;

/// One client connection, or one stream of an HTTP/2 connection. Time limits are marks that one
/// sweep a worker looks at, so that an idle connection holds no timer.
#[derive(Debug)]
pub struct Connection {
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// The client's end of the socket, or what the PROXY protocol says it is; a Unix socket counts
    /// as loopback.
    pub peer: SocketAddr,
    /// What is known of its TLS.
    pub tls: Option<Arc<TlsInfo>>,
    /// Its place in the worker's list.
    pub slot: AtomicU32,
    due_ms: AtomicU64,
    /// Set on an exchange that may last as long as bytes move: milliseconds that none may.
    idle_ms: AtomicU64,
    /// The client owes bytes of its body: they are asked for and have not come.
    owing: AtomicBool,
    /// Since which sweep, in milliseconds; 0: not yet seen by one.
    owing_since_ms: AtomicU64,
    /// For how long in all, in milliseconds, in this phase.
    owed_ms: AtomicU64,
    /// Body bytes that came in this phase.
    came: AtomicU64,
    /// Since which sweep the client has taken nothing of what is written; 0: it takes what there is.
    blocked_since_ms: AtomicU64,
    blocked: AtomicBool,
    swept_ms: AtomicU64,
    phase: AtomicU8,
    fired: AtomicU8,
    /// Requests it has carried.
    requests: AtomicU32,
    /// Of a stream: the client reset it.
    was_reset: AtomicBool,
    /// Of an HTTP/2 connection: how many of its streams were.
    resets: AtomicU32,
    /// Bytes go both ways as they come: the protocol was switched.
    tunnel: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Counts it as open, and holds its place; a stream has neither.
    _open: Option<(InFlight, Pass)>,
}

impl Connection {
    /// A new connection, idle and without a time limit yet.
    pub fn new(
        listener: Arc<Listener>,
        peer: SocketAddr,
        tls: Option<Arc<TlsInfo>>,
        pass: Pass,
    ) -> Self {
        let open = Some((listener.metrics.accepted(), pass));
        Self::make(listener, peer, tls, open)
    }

    /// A stream of an HTTP/2 connection: the same client, marks of its own.
    pub fn stream(&self) -> Self {
        Self::make(self.listener.clone(), self.peer, self.tls.clone(), None)
    }

    fn make(
        listener: Arc<Listener>,
        peer: SocketAddr,
        tls: Option<Arc<TlsInfo>>,
        open: Option<(InFlight, Pass)>,
    ) -> Self {
        Self {
            listener,
            peer,
            tls,
            slot: AtomicU32::new(0),
            due_ms: AtomicU64::new(u64::MAX),
            idle_ms: AtomicU64::new(0),
            owing: AtomicBool::new(false),
            owing_since_ms: AtomicU64::new(0),
            owed_ms: AtomicU64::new(0),
            came: AtomicU64::new(0),
            blocked_since_ms: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            swept_ms: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Idle as u8),
            fired: AtomicU8::new(NOT_FIRED),
            requests: AtomicU32::new(0),
            was_reset: AtomicBool::new(false),
            resets: AtomicU32::new(0),
            tunnel: AtomicBool::new(false),
            waker: Mutex::new(None),
            _open: open,
        }
    }

    /// Whether it came over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What is spoken on it, as the access log says it.
    pub fn protocol(&self) -> &'static str {
        if self.is_stream() {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        }
    }

    /// Counts a request.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Whether the connection is closed after the request it is busy with: its listener drains, or
    /// it has carried as many as it may.
    pub fn is_last_request(&self) -> bool {
        let most = self.listener.terms.max_requests;
        self.listener.stopping() || self.requests.load(Relaxed) >= most
    }

    /// Whether it is a stream of an HTTP/2 connection.
    pub fn is_stream(&self) -> bool {
        self._open.is_none()
    }

    /// Enters a phase that ends `limit_ms` milliseconds from `now` at the latest.
    pub fn arm(&self, phase: Phase, now: Now, limit_ms: u64) {
        self.fired.store(NOT_FIRED, Relaxed);
        self.idle_ms.store(0, Relaxed);
        self.set_owing(false);
        self.owed_ms.store(0, Relaxed);
        self.swept_ms.store(0, Relaxed);
        self.came.store(0, Relaxed);
        self.set_blocked(false);
        self.phase.store(phase as u8, Relaxed);
        self.limit(now, limit_ms);
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        let phase = usize::from(self.phase.load(Relaxed));
        Phase::ALL.get(phase).copied().unwrap_or(Phase::Busy)
    }

    /// Notes of a stream that the client reset it.
    pub fn set_reset(&self) {
        self.was_reset.store(true, Relaxed);
    }

    /// Whether the client reset it.
    pub fn was_reset(&self) -> bool {
        self.was_reset.load(Relaxed)
    }

    /// Counts a stream that was reset.
    pub fn count_reset(&self) {
        self.resets.fetch_add(1, Relaxed);
    }

    /// How many streams were reset.
    pub fn resets(&self) -> u32 {
        self.resets.load(Relaxed)
    }

    /// Sets the time limit of the phase it is in.
    pub fn limit(&self, now: Now, limit_ms: u64) {
        let due = (now.mono_ns / 1_000_000).saturating_add(limit_ms);
        self.due_ms.store(due, Release);
    }

    /// From the next byte on, the exchange lasts as long as no `idle_ms` milliseconds pass without
    /// one in either direction.
    pub fn bound_by_idle(&self, idle_ms: u64) {
        self.idle_ms.store(idle_ms, Relaxed);
    }

    /// Whether the exchange lasts as long as bytes move.
    pub fn is_bound_by_idle(&self) -> bool {
        self.idle_ms.load(Relaxed) > 0
    }

    /// Bytes moved in some direction.
    pub fn moved(&self, now: Now) {
        let idle_ms = self.idle_ms.load(Relaxed);
        if idle_ms > 0 {
            self.limit(now, idle_ms);
        }
    }

    /// The protocol is switched (RFC 9110 §7.8): from here on bytes go both ways as they come.
    pub fn open_tunnel(&self) {
        self.tunnel.store(true, Release);
    }

    /// Whether the protocol is switched.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.load(Acquire)
    }

    /// Notes whether bytes of the body are being waited for.
    pub fn set_owing(&self, owing: bool) {
        self.owing.store(owing, Relaxed);
        self.owing_since_ms.store(0, Relaxed);
    }

    /// Counts body bytes that came: nothing is owed for the moment.
    pub fn came(&self, bytes: usize) {
        if self.is_owing() {
            self.set_owing(false);
        }
        let before = self.came.load(Relaxed);
        self.came.store(before + bytes as u64, Relaxed);
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

    /// Notes whether the client takes nothing of what is written.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
        self.blocked_since_ms.store(0, Relaxed);
    }

    /// Whether the client takes nothing of what is written.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Whether a time limit of the phase has passed.
    pub fn expired(&self) -> bool {
        !matches!(self.fired.load(Acquire), NOT_FIRED | STOPPED)
    }

    /// Whether it was ended because its body came too slowly.
    pub fn is_slow_body(&self) -> bool {
        self.fired.load(Acquire) == SLOW_BODY
    }

    /// Whether it was ended because the client did not read.
    pub fn is_slow_reader(&self) -> bool {
        self.fired.load(Acquire) == SLOW_READER
    }

    /// Whether it has been told to go, by time or by a drain.
    pub fn told_to_go(&self) -> bool {
        self.fired.load(Acquire) != NOT_FIRED
    }

    /// When a sweep last looked at it, in milliseconds of the worker's clock; 0: not yet.
    pub fn swept_ms(&self) -> u64 {
        self.swept_ms.load(Relaxed)
    }

    /// Leaves a waker to be called once a time limit has passed.
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
        let now_ms = (now.mono_ns / 1_000_000).max(1);
        // Of a stream nobody knows whether it is the client that is waited for.
        let slow_body = self.is_owing() && self.owes_too_much(now_ms) && !self.is_stream();
        let slow_reader = self.is_blocked() && self.takes_nothing(now_ms);
        self.swept_ms.store(now_ms, Relaxed);
        let due = now_ms >= self.due_ms.load(Acquire);
        let may_stop = self.phase().may_be_stopped();
        let verdict = match (may_stop && self.listener.stopping(), due) {
            (true, _) => STOPPED,
            (_, true) => DUE,
            _ if slow_body => SLOW_BODY,
            _ if slow_reader => SLOW_READER,
            _ => return,
        };
        self.fired.store(verdict, Release);
        let mut kept = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = kept.take() {
            waker.wake();
        }
    }

    /// Counts what is owed; true once the body comes slower than it may.
    fn owes_too_much(&self, now_ms: u64) -> bool {
        if self.owing_since_ms.load(Relaxed) == 0 {
            self.owing_since_ms.store(now_ms, Relaxed);
        }
        // A sample: whoever is waited for now has been since the sweep before, by and large. A byte
        // that comes now and then must not begin the wait anew.
        let before = self.swept_ms.load(Relaxed);
        let more = if before > 0 {
            now_ms.saturating_sub(before)
        } else {
            0
        };
        let owed_ms = self.owed_ms.load(Relaxed) + more;
        self.owed_ms.store(owed_ms, Relaxed);
        let rate = self.listener.terms.min_body_rate;
        owed_ms > GRACE_MS && self.came.load(Relaxed) * 1000 < rate.saturating_mul(owed_ms)
    }

    fn takes_nothing(&self, now_ms: u64) -> bool {
        let since = self.blocked_since_ms.load(Relaxed);
        if since == 0 {
            self.blocked_since_ms.store(now_ms, Relaxed);
        }
        since > 0 && now_ms >= since + self.listener.terms.write_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::admission::Caps;
    use crate::exchange::listener::Terms;

    fn connection() -> Connection {
        let metrics = crate::observe::metrics::Metrics::new("0", 0).listener("public");
        let (terms, caps) = (Terms::default(), Caps::default());
        let listener = Arc::new(Listener::new("public", metrics, terms, caps));
        let pass = listener.admission.enter().expect("a place");
        Connection::new(listener, ([127, 0, 0, 1], 5000).into(), None, pass)
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
    fn a_body_that_trickles_is_ended_and_one_that_waits_for_the_service_is_not() {
        let conn = connection();
        conn.arm(Phase::Busy, Now::at_ms(0), u64::MAX);
        let second = |ms: u64, bytes: usize| {
            conn.came(bytes);
            conn.set_owing(true);
            (0..20).for_each(|i| conn.sweep(Now::at_ms(ms + i * 50)));
        };
        (1..5).for_each(|s| second(s * 1000, 1));
        assert!(!conn.expired(), "within the grace");
        conn.set_owing(false);
        (5..60).for_each(|s| conn.sweep(Now::at_ms(s * 1000)));
        assert!(
            !conn.expired(),
            "while the service takes nothing, nothing is owed"
        );
        (60..64).for_each(|s| second(s * 1000, 1));
        assert!(conn.is_slow_body() && conn.expired());
        conn.arm(Phase::Busy, Now::at_ms(100_000), u64::MAX);
        (100..200).for_each(|s| second(s * 1000, 240));
        assert!(!conn.expired(), "at the rate that is asked for");
    }

    #[test]
    fn a_client_that_reads_nothing_is_ended_and_one_that_reads_slowly_is_not() {
        let conn = connection();
        conn.arm(Phase::Busy, Now::at_ms(0), u64::MAX);
        for ms in [1000, 20_000, 30_000] {
            conn.set_blocked(true);
            conn.sweep(Now::at_ms(ms));
            conn.set_blocked(false);
        }
        conn.set_blocked(true);
        conn.sweep(Now::at_ms(40_000));
        conn.sweep(Now::at_ms(69_900));
        assert!(!conn.expired());
        conn.sweep(Now::at_ms(70_000));
        assert!(conn.is_slow_reader() && conn.expired());
    }

    #[test]
    fn an_exchange_bound_by_idle_lasts_as_long_as_bytes_move() {
        let conn = connection();
        conn.arm(Phase::Busy, Now::at_ms(0), 1000);
        conn.bound_by_idle(300);
        conn.moved(Now::at_ms(900));
        conn.sweep(Now::at_ms(1100));
        assert!(!conn.expired());
        conn.moved(Now::at_ms(1100));
        conn.sweep(Now::at_ms(1399));
        assert!(!conn.expired());
        conn.sweep(Now::at_ms(1400));
        assert!(conn.expired());
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
