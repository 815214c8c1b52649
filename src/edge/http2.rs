//! An HTTP/2 connection (RFC 9113): its preface under a deadline, streams handed over one by one,
//! its end by idleness, by a drain, by its number of requests or by misbehaviour.
//!
//! Frames are the `h2` crate's, through Pingora; what it refuses by itself never becomes a request
//! and is counted, not logged.

use super::connection::Door;
use super::front::Front;
use super::open::carrier;
use super::stream::StreamSession;
use super::sweep;
use crate::exchange::connection::{Connection, Phase};
use crate::observe::reason::Reason;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::{Digest, GetSocketDigest, SocketDigest, Stream};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire};
use std::task::Poll;
use std::time::Duration;

/// What every HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Milliseconds that a client has to hang up once nothing of it is left to serve.
const LEAVE_MS: u64 = 2000;
/// Milliseconds for a request that has no limit of its own (yet).
const UNROUTED_MS: u64 = 60_000;
/// The most bytes of an answer that a stream holds for a client to take.
const SEND_BUFFER: usize = 64 * 1024;
/// What DATA frames of less than 256 bytes may lack to that in all before they are read, in bytes:
/// room for some 16,000 messages of a few bytes at once, each of which costs some 200 here.
const SMALL_FRAMES: usize = 4 * 1024 * 1024;
/// How long a stream that was reset is remembered: what its client had sent by then is thrown away.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What a client may ask of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Http2Limits {
    /// Streams open at a time.
    pub streams: u32,
    /// Body bytes that a stream may send unasked.
    pub stream_window: u32,
    /// The same for all of them.
    pub connection_window: u32,
    /// Streams that may be reset, or be malformed, before the connection is closed.
    pub resets: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            resets: 200,
        }
    }
}

type H2 = h2::server::Connection<Stream, bytes::Bytes>;

/// Serves a connection whose client is known to speak HTTP/2.
pub async fn serve<A>(mut front: Box<Front>, door: Arc<Door<A>>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    if !preface(&mut front, &door).await {
        return;
    }
    front.speak_http2(PREFACE.len());
    let conn = front.conn.clone();
    let Some(socket) = front.get_socket_digest() else {
        return;
    };
    conn.arm(
        Phase::Streams,
        door.clock.now(),
        door.listener.terms.header_ms,
    );
    let Ok(h2) = handshake(front, Some(options(&door))).await else {
        return;
    };
    conn.arm(
        Phase::Streams,
        door.clock.now(),
        door.listener.terms.idle_ms,
    );
    let streams = Streams {
        conn,
        socket,
        open: Arc::default(),
        door,
    };
    streams.serve(h2).await;
}

/// Reads the preface under the header's deadline; a drain ends the wait for it as that for a request.
/// What is no HTTP/2 gets an answer that says so, unless TLS had it promised.
async fn preface<A>(front: &mut Front, door: &Door<A>) -> bool {
    let deadline = door.listener.terms.header_ms;
    front.conn.arm(Phase::Idle, door.clock.now(), deadline);
    loop {
        let known = front.rest.len().min(PREFACE.len());
        if front.rest[..known] != PREFACE[..known] {
            let why = "only HTTP/2 is spoken here";
            if front.conn.tls.is_none() {
                super::connection::answer(front, door, Reason::VersionUnsupported, why).await;
            }
            return false;
        }
        if known == PREFACE.len() {
            return true;
        }
        if front.fill().await.unwrap_or(0) == 0 {
            return false;
        }
    }
}

fn options<A>(door: &Door<A>) -> H2Options {
    let Http2Limits {
        streams,
        stream_window,
        connection_window,
        resets,
    } = door.entrance.http2;
    // The safe limits of the library's own are where we start from.
    let mut options = default_h2_options();
    // More than the listener takes: what goes beyond that is refused with a word and a log line.
    let most = u32::try_from(2 * door.listener.terms.head.bytes).unwrap_or(u32::MAX);
    options
        .max_concurrent_streams(streams)
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_header_list_size(most)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES)
        .max_concurrent_reset_streams(2 * streams as usize)
        .reset_stream_duration(REMEMBERED)
        .max_pending_accept_reset_streams(resets as usize)
        .max_local_error_reset_streams(Some(resets as usize));
    options
}

/// The streams of one connection.
struct Streams<A> {
    conn: Arc<Connection>,
    socket: Arc<SocketDigest>,
    open: Arc<AtomicU32>,
    door: Arc<Door<A>>,
}

impl<A> Streams<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// Until either side ends it.
    async fn serve(self, mut h2: H2) {
        let (mut leaving, mut gone) = (false, false);
        let mut malformed = 0;
        let mut requests = 0;
        loop {
            let stream = Arc::new(self.conn.stream());
            let digest = Arc::new(digest(&stream, &self.socket));
            let accepted = tokio::select! {
                biased;
                () = told_to_go(&self.conn) => {
                    if gone || self.conn.is_slow_reader() {
                        return;
                    }
                    gone = leaving;
                    leaving = true;
                    self.leave(&mut h2, gone);
                    continue;
                }
                accepted = HttpSession::from_h2_conn(&mut h2, digest) => accepted,
            };
            match accepted {
                Ok(Some(H2Accept::Session(session))) => {
                    requests += 1;
                    self.begin(stream, session);
                }
                Ok(Some(H2Accept::Rejected)) => {
                    malformed += 1;
                    self.door.listener.refused();
                }
                Ok(None) | Err(_) => return,
            }
            if malformed + self.conn.resets() > self.door.entrance.http2.resets {
                h2.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                self.conn
                    .arm(Phase::Leaving, self.door.clock.now(), LEAVE_MS);
                leaving = true;
            } else if requests >= self.door.listener.terms.max_requests && !leaving {
                leaving = true;
                self.leave(&mut h2, false);
            }
        }
    }

    /// Says goodbye (RFC 9113 §6.8): streams that are open finish, new ones go elsewhere. A client
    /// that has not taken the hint in time is told where it ends.
    fn leave(&self, h2: &mut H2, at_once: bool) {
        if at_once {
            h2.abrupt_shutdown(h2::Reason::NO_ERROR);
        } else {
            h2.graceful_shutdown();
        }
        let busy = !at_once && self.open.load(Acquire) > 0;
        let limit_ms = if busy { u64::MAX } else { LEAVE_MS };
        self.conn
            .arm(Phase::Leaving, self.door.clock.now(), limit_ms);
    }

    /// Hands one request over.
    fn begin(&self, stream: Arc<Connection>, session: HttpSession) {
        let now = self.door.clock.now();
        stream.arm(Phase::Busy, now, UNROUTED_MS);
        if self.open.fetch_add(1, AcqRel) == 0 {
            self.conn.limit(now, u64::MAX);
        }
        sweep::enlist(&stream);
        let guard = Open {
            stream,
            conn: self.conn.clone(),
            count: self.open.clone(),
            clock: self.door.clock.clone(),
        };
        let door = self.door.clone();
        let session = StreamSession::new(session, guard.stream.clone());
        tokio::spawn(async move {
            let session = ServerSession::new_custom(Box::new(session));
            door.app.process_new_http(session, &door.running).await;
            drop(guard);
        });
    }
}

/// A stream under way; taken off the books by the drop, however it ends.
struct Open {
    stream: Arc<Connection>,
    conn: Arc<Connection>,
    count: Arc<AtomicU32>,
    clock: crate::base::clock::Clock,
}

impl Drop for Open {
    fn drop(&mut self) {
        sweep::discharge(&self.stream);
        if self.stream.was_reset() {
            self.conn.count_reset();
        }
        if self.count.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        let leaving = self.conn.phase() == Phase::Leaving;
        let limit_ms = if leaving {
            LEAVE_MS
        } else {
            self.conn.listener.terms.idle_ms
        };
        self.conn.limit(self.clock.now(), limit_ms);
    }
}

async fn told_to_go(conn: &Connection) {
    poll_fn(|cx| {
        conn.wake_on_expiry(cx.waker());
        if conn.told_to_go() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// How hooks find the stream they are on.
fn digest(stream: &Arc<Connection>, socket: &Arc<SocketDigest>) -> Digest {
    Digest {
        proxy_digest: carrier(stream).map(Arc::new),
        socket_digest: Some(socket.clone()),
        ..Digest::default()
    }
}
