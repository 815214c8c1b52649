//! What is known of one client connection, shared by the edge, the sweeper and the request on it.

use super::admission::Pass;
use super::listener::{Leave, Listener, Tunneled};
use super::tls::TlsInfo;
use crate::base::clock::Now;
use crate::base::net::canonical;
use crate::observe::metrics::InFlight;
use http::HeaderValue;
use std::any::Any;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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

    /// Whether a drain ends it: between requests once the time for another one is over, and where
    /// streams are only begun anew at once.
    fn is_stopped_by(self, leave: Leave, now_ms: u64) -> bool {
        match self {
            Self::Idle => now_ms >= leave.idle_by_ms,
            Self::Streams => true,
            Self::Header | Self::Busy | Self::Leaving => false,
        }
    }
}

/// A client that owes bytes for so long, in milliseconds, has stalled.
const STALL_MS: u64 = 500;

/// How long, in milliseconds, a tunnel whose client has said all it had to say may be silent.
const HALF_OPEN_MS: u64 = 2000;

/// Milliseconds that a tunnel which ends may wait for the end of a frame.
const LAST_FRAME_MS: u64 = 500;

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
    /// What no later limit of the phase may go beyond.
    end_ms: AtomicU64,
    /// Set on an exchange that may last as long as bytes move: milliseconds that none may.
    idle_ms: AtomicU64,
    /// Set on an exchange whose body may pause.
    unrated: AtomicBool,
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
    tunnel: OnceLock<Tunneled>,
    /// Of a tunnel: its listener drains, and its time is over.
    ending: AtomicBool,
    /// Of a tunnel: its client has ended its direction since the last sweep.
    half_closed: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// The client's address as a field has it; made by the first request that is forwarded.
    peer_field: OnceLock<HeaderValue>,
    /// What one side of Pingora hands to the other: it passes nothing on by itself.
    handed: Mutex<Option<Box<dyn Any + Send>>>,
    /// Counts it as open, and holds its place; a stream has neither.
    place: Option<(InFlight, Pass)>,
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
    #[must_use]
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
            end_ms: AtomicU64::new(u64::MAX),
            idle_ms: AtomicU64::new(0),
            unrated: AtomicBool::new(false),
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
            tunnel: OnceLock::new(),
            ending: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            waker: Mutex::new(None),
            peer_field: OnceLock::new(),
            handed: Mutex::default(),
            place: open,
        }
    }

    /// Whether it came over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The address at the other end as the value of a field.
    pub fn peer_field(&self) -> HeaderValue {
        let made = || HeaderValue::from_str(&canonical(self.peer.ip()).to_string());
        // The text of an address may stand in any field.
        let unknown = |_| HeaderValue::from_static("unknown");
        self.peer_field
            .get_or_init(|| made().unwrap_or_else(unknown))
            .clone()
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

    /// Leaves something for the other side of Pingora.
    pub fn hand(&self, thing: Box<dyn Any + Send>) {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = Some(thing);
    }

    /// Takes what the other side of Pingora left, if it is such a thing.
    pub fn take<T: Any>(&self) -> Option<Box<T>> {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        handed.take()?.downcast().ok()
    }

    /// Lets go of what was left and not taken.
    pub fn forget(&self) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let left = handed.take();
        drop(handed);
        drop(left);
    }

    /// Whether it is a stream of an HTTP/2 connection.
    pub fn is_stream(&self) -> bool {
        self.place.is_none()
    }

    /// Enters a phase that ends `limit_ms` milliseconds from `now` at the latest.
    pub fn arm(&self, phase: Phase, now: Now, limit_ms: u64) {
        self.fired.store(NOT_FIRED, Relaxed);
        self.idle_ms.store(0, Relaxed);
        self.end_ms.store(u64::MAX, Relaxed);
        self.unrated.store(false, Relaxed);
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
        self.due_ms
            .store(due.min(self.end_ms.load(Relaxed)), Release);
    }

    /// Sets an end of the phase it is in that no limit goes beyond, however bytes move.
    pub fn end_by(&self, now: Now, limit_ms: u64) {
        let end = (now.mono_ns / 1_000_000).saturating_add(limit_ms);
        self.end_ms.fetch_min(end, Relaxed);
        self.due_ms.fetch_min(end, AcqRel);
    }

    /// From the next byte on, the exchange lasts as long as no `idle_ms` milliseconds pass without
    /// one in either direction; 0: the limit of the phase stands again.
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
        self.tunnel.get_or_init(|| self.listener.tunnel());
    }

    /// Whether the protocol is switched.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.get().is_some()
    }

    /// Whether it is a tunnel that a drain ends.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Acquire)
    }

    /// Lets a tunnel that ends do so for so many more milliseconds.
    pub fn end_later(&self, more_ms: u64) {
        let end = self.swept_ms().saturating_add(more_ms);
        self.end_ms.store(end, Relaxed);
        self.due_ms.store(end, Release);
    }

    /// Notes that the client of a tunnel has ended its direction. The other one goes on as long as it
    /// is not silent: a client may still read what it is owed.
    pub fn half_close(&self) {
        self.half_closed.store(true, Relaxed);
    }

    /// The body is one of messages that come when there is something to say: it has no least rate.
    pub fn lift_rate(&self) {
        self.unrated.store(true, Relaxed);
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

    /// Whether it was ended by a drain, between requests.
    pub fn is_stopped(&self) -> bool {
        self.fired.load(Acquire) == STOPPED
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
        if self.half_closed.swap(false, Relaxed) {
            self.bound_by_idle(HALF_OPEN_MS);
            self.moved(now);
        }
        // Where pauses are part of the exchange their own bound holds.
        let rated = !self.is_bound_by_idle() && !self.unrated.load(Relaxed);
        let slow_body = self.is_owing() && self.owes_too_much(now_ms) && rated;
        let slow_reader = self.is_blocked() && self.takes_nothing(now_ms);
        self.swept_ms.store(now_ms, Relaxed);
        let due = now_ms >= self.due_ms.load(Acquire);
        let leave = self.listener.leave();
        let stop = leave.is_some_and(|leave| self.phase().is_stopped_by(leave, now_ms));
        let end = leave.is_some_and(|leave| self.is_tunnel() && now_ms >= leave.max_by_ms);
        if end && !self.ending.swap(true, AcqRel) {
            self.end_by(now, LAST_FRAME_MS);
            return self.wake();
        }
        let verdict = match (stop, due) {
            (true, _) => STOPPED,
            (_, true) => DUE,
            _ if slow_body => SLOW_BODY,
            _ if slow_reader => SLOW_READER,
            _ => return,
        };
        self.fired.store(verdict, Release);
        self.wake();
    }

    /// Wakes whoever waits for a time limit.
    fn wake(&self) {
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
mod tests;
