//! A client connection from its first byte to its last: waits holding almost nothing, reads one
//! request header at a time within its limits, refuses what is not HTTP, and hands the rest on.

use super::bare::BareSession;
use super::body::Delimiter;
use super::front::Front;
use super::head::{self, Head};
use super::http2;
use super::open::Entrance;
use super::request::Parts;
use crate::base::clock::{Clock, Now};
use crate::exchange::connection::{Connection, Phase};
use crate::exchange::listener::Listener;
use crate::gateway::front::{Answered, Decided, Judged};
use crate::observe::reason::Reason;
use bytes::BytesMut;
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use std::mem;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Makes the answer to a refused header.
pub type Refuse = Arc<dyn Fn(&Arc<Connection>, Refused<'_>) -> Answered + Send + Sync>;

/// Tells of an answer, log line and metric like any, and whether all of it has gone out.
pub type Tell = Arc<dyn Fn(Answered, bool) + Send + Sync>;

/// Decides what becomes of a request, which may have a body and was complete at a time.
pub type Judge = Arc<dyn Fn(&Arc<Connection>, RequestHeader, bool, Now) -> Judged + Send + Sync>;

/// What the edge asks the gateway.
#[derive(Clone)]
pub struct Counsel {
    /// Answers what is not a request.
    pub refuse: Refuse,
    /// Is told of each answer that the edge has written.
    pub tell: Tell,
    /// Decides what becomes of a request over HTTP/1.1, before Pingora has it; without one the app
    /// does.
    pub judge: Option<Judge>,
}

/// A request refused before it was one.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Why.
    pub reason: Reason,
    /// What exactly, from a fixed list.
    pub detail: &'static str,
    /// What was read of the header.
    pub header: &'a [u8],
}

/// Milliseconds for a request that has no limit of its own (yet).
const UNROUTED_MS: u64 = 60_000;

/// What the connections of one listener on one worker share.
pub struct Door<A> {
    /// Serves the requests.
    pub app: Arc<A>,
    /// The listener.
    pub listener: Arc<Listener>,
    /// How connections come in.
    pub entrance: Arc<Entrance>,
    /// The clock.
    pub clock: Clock,
    /// Who is asked.
    pub counsel: Counsel,
    /// Never true: a drain is told to each connection by its listener.
    pub running: ShutdownWatch,
}

/// Serves a connection until either side closes it.
pub async fn serve<A>(front: Box<Front>, door: Arc<Door<A>>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let http2 = front.conn.tls.as_ref().is_some_and(|tls| tls.http2);
    if http2 || door.entrance.h2c {
        Box::pin(http2::serve(front, door)).await;
    } else {
        http1(front, door).await;
    }
}

/// Serves one request after the other (RFC 9112).
async fn http1<A>(mut front: Box<Front>, door: Arc<Door<A>>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    loop {
        if !await_request(&mut front, &door).await {
            return;
        }
        let verdict = match look(&front, &door) {
            (Head::More, _) => Box::pin(slow_header(&mut front, &door)).await,
            verdict => Some(verdict),
        };
        let (len, body, parts) = match verdict {
            Some((Head::Whole { len, body }, Some(parts))) => (len, body, parts),
            Some((Head::Bad(reason, detail), _)) => {
                return Box::pin(answer(&mut front, &door, reason, detail)).await;
            }
            _ => return,
        };
        front.body = Delimiter::new(body);
        front.conn.count_request();
        // A proxied request sets its own limit once its route is known.
        let now = door.clock.now();
        front.conn.arm(Phase::Busy, now, UNROUTED_MS);
        let header = cut(&mut front.rest, len);
        match serve_one(front, &door, header, parts, now).await {
            Some(back) if back.body.done() => front = back,
            // What is left of the body cannot be told from a next request.
            _ => return,
        }
    }
}

/// Waits for the first byte of a request, holding nothing. Empty lines before it are dropped
/// (RFC 9112 §2.2); they start no header's clock. False if the connection is over.
async fn await_request<A>(front: &mut Front, door: &Door<A>) -> bool {
    let mut waited = false;
    loop {
        let blank = head::empty_lines(&front.rest);
        if blank > 0 && blank == front.rest.len() {
            front.rest = BytesMut::new();
        } else if blank > 0 {
            let _ = front.rest.split_to(blank);
        }
        if !front.rest.is_empty() {
            return true;
        }
        if !waited {
            front
                .conn
                .arm(Phase::Idle, door.clock.now(), door.listener.terms.idle_ms);
            waited = true;
        }
        if front.fill().await.unwrap_or(0) == 0 {
            return false;
        }
    }
}

/// Judges what has come of a header.
fn look<A>(front: &Front, door: &Door<A>) -> (Head, Option<Parts>) {
    let limits = &door.listener.terms.head;
    head::read(&front.rest, limits, |request| {
        Parts::of(request, &front.rest)
    })
}

/// The header alone; what came behind it stays.
fn cut(rest: &mut BytesMut, len: usize) -> BytesMut {
    if len == rest.len() {
        return mem::take(rest);
    }
    let header = rest.split_to(len);
    // Not a view of the same buffer: what is left must not keep the header's memory.
    *rest = BytesMut::from(&rest[..]);
    header
}

/// All of a header that Pingora reads of a request that is judged already: its own is put in its place
/// before anything looks at it. It names no host: were it ever judged itself, it would be refused.
const PLACEHOLDER: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// Serves a request; the connection, if it goes on.
async fn serve_one<A>(
    mut front: Box<Front>,
    door: &Door<A>,
    header: BytesMut,
    parts: Parts,
    now: Now,
) -> Option<Box<Front>>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Some(judge) = &door.counsel.judge else {
        return hand_over(front, door, header).await;
    };
    let Ok(request) = parts.assemble(&header.freeze()) else {
        // Nothing that the parser lets pass is known to end here. What is left is none of the header,
        // and may not be told as such.
        front.rest = BytesMut::new();
        Box::pin(answer(
            &mut front,
            door,
            Reason::BadRequest,
            "malformed request",
        ))
        .await;
        return None;
    };
    let mut judged = judge(&front.conn, request, !front.body.done(), now);
    if let Judged::Later(waiting) = judged {
        judged = waiting.await;
    }
    match judged {
        Judged::Session(decided) if decided.bare => proxy(front, door, decided).await,
        Judged::Session(decided) => {
            front.conn.hand(decided);
            hand_over(front, door, BytesMut::from(PLACEHOLDER)).await
        }
        Judged::Answer(answered) => {
            let stays = !answered.last;
            let written = give(&mut front, door, answered).await;
            (written && stays).then_some(front)
        }
        Judged::Later(_) => None,
    }
}

/// Lets Pingora proxy a request of which nothing more comes.
async fn proxy<A>(
    front: Box<Front>,
    door: &Door<A>,
    mut decided: Box<Decided>,
) -> Option<Box<Front>>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let home = Home(front.conn.clone());
    let (header, last) = (decided.header.take()?, decided.last);
    home.0.hand(decided);
    let session = BareSession::new(front, header, last, door.clock.clone());
    let session = ServerSession::new_custom(Box::new(session));
    door.app.process_new_http(session, &door.running).await;
    home.0.take()
}

/// Whatever is handed over and not taken goes with the request, also when that is cancelled or panics:
/// it holds the connection that holds it.
struct Home(Arc<Connection>);

impl Drop for Home {
    fn drop(&mut self) {
        self.0.forget();
    }
}

/// Gives Pingora exactly the header; the stream gives it exactly the body.
async fn hand_over<A>(front: Box<Front>, door: &Door<A>, header: BytesMut) -> Option<Box<Front>>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let _home = Home(front.conn.clone());
    let mut session = ServerSession::new_http1(front);
    session.set_pipelined_prefix(header);
    let reused = door.app.process_new_http(session, &door.running).await?;
    let (stream, _) = reused.consume();
    stream.into_any().downcast::<Front>().ok()
}

/// The rest of a header that did not come in one piece: the only place that holds a buffer.
async fn slow_header<A>(front: &mut Front, door: &Door<A>) -> Option<(Head, Option<Parts>)> {
    let now = door.clock.now();
    front
        .conn
        .arm(Phase::Header, now, door.listener.terms.header_ms);
    loop {
        let read = front.fill().await;
        if front.conn.expired() {
            let why = "the request header took too long";
            return Some((Head::Bad(Reason::HeaderTimeout, why), None));
        }
        if read.unwrap_or(0) == 0 {
            return None;
        }
        match look(front, door) {
            (Head::More, _) => (),
            verdict => return Some(verdict),
        }
    }
}

/// Answers what is no request.
pub(super) async fn answer<A>(
    front: &mut Front,
    door: &Door<A>,
    reason: Reason,
    detail: &'static str,
) {
    let refused = Refused {
        reason,
        detail,
        header: &front.rest,
    };
    let answered = (door.counsel.refuse)(&front.conn, refused);
    front
        .conn
        .arm(Phase::Busy, door.clock.now(), door.listener.terms.header_ms);
    // Whether the client still reads it is its own affair; the drop lingers.
    give(front, door, answered).await;
}

/// Writes an answer and tells of it. True if all of it has gone out.
async fn give<A>(front: &mut Front, door: &Door<A>, mut answered: Answered) -> bool {
    front.put_whole(mem::take(&mut answered.bytes));
    let written = front.flush().await.is_ok();
    (door.counsel.tell)(answered, written);
    written
}
