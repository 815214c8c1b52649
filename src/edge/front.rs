//! Our own end of a client connection: the stream that Pingora reads a body from and writes an
//! answer to. It delimits bodies, buffers small writes, ends what lasts too long, and closes so
//! that the client still reads the answer.

mod stream;
#[cfg(test)]
mod tests;
mod tunnel;

use super::body::Delimiter;
use super::guard::{Guard, Step};
use super::linger::linger;
use super::open::carrier;
use super::sweep;
use super::transport::Transport;
use crate::exchange::connection::{Connection, Phase};
use bytes::{Buf, BytesMut};
use pingora::protocols::SocketDigest;
use pingora::protocols::raw_connect::ProxyDigest;
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tunnel::Tunnel;

/// Writes up to this many bytes are gathered, so that header and body leave in one call.
const WRITE_BUFFER: usize = 16 * 1024;
/// What one read of a header may bring.
const SCRATCH: usize = 17 * 1024;
/// Write buffers that a worker keeps for reuse; none that held an answer far larger than most.
const SPARES: usize = 64;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// One client connection.
pub struct Front {
    /// Always there until the drop.
    transport: Option<Transport>,
    /// Read and not yet given on: a header, the begin of a body, the next request.
    pub rest: BytesMut,
    /// Which of the bytes to come belong to the request being served.
    pub body: Delimiter,
    /// Its marks, shared with the sweep and with the request.
    pub conn: Arc<Connection>,
    /// Set where HTTP/2 is spoken: what comes is judged frame by frame, streams have marks of their
    /// own. And how much of `rest` has passed.
    guard: Option<Box<Guard>>,
    passed: usize,
    /// Set where the protocol is switched.
    tunnel: Option<Box<Tunnel>>,
    written: Vec<u8>,
    gone: bool,
    answered: bool,
    socket: Arc<SocketDigest>,
    /// Carries `conn` to the request's hooks; the way through Pingora that works for every protocol.
    digest: Option<Arc<ProxyDigest>>,
}

/// Without what was read or written: that may hold credentials, and Pingora logs its streams.
impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Front");
        shown.field("peer", &self.conn.peer);
        shown.finish_non_exhaustive()
    }
}

impl Front {
    /// Takes a connection into the worker's care.
    pub fn new(transport: Transport, conn: Arc<Connection>, socket: SocketDigest) -> Self {
        sweep::enlist(&conn);
        let digest = carrier(&conn).map(Arc::new);
        Self {
            transport: Some(transport),
            rest: BytesMut::new(),
            body: Delimiter::DONE,
            conn,
            guard: None,
            passed: 0,
            tunnel: None,
            written: Vec::new(),
            gone: false,
            answered: false,
            socket: Arc::new(socket),
            digest,
        }
    }

    /// From here on HTTP/2 is spoken, behind a preface of so many bytes that are in `rest`.
    pub fn speak_http2(&mut self, preface: usize) {
        self.guard = Some(Box::default());
        self.passed = preface;
    }

    /// Reads what there is into `rest`; 0 at the end of the stream or when told to go.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.poll_more(cx) {
            Poll::Pending => expire(&self.conn, cx).map(|_| Ok(0)),
            ready @ Poll::Ready(_) => ready,
        }
    }

    /// Reads what there is into `rest`, whatever the time; 0 at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(transport) = self.transport.as_mut() else {
            return Poll::Ready(Ok(0));
        };
        READ.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(transport).poll_read(cx, &mut buf))?;
            let read = buf.filled();
            self.gone = read.is_empty();
            self.rest.extend_from_slice(read);
            Poll::Ready(Ok(read.len()))
        })
    }

    /// Gathers small writes; larger ones go out together with what was gathered.
    fn put(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.answered = true;
        if self.conn.is_tunnel() {
            return self.put_tunnel(cx, bufs);
        }
        let put = ready!(self.put_some(cx, bufs));
        if let (Some(guard), Ok(n)) = (self.guard.as_deref_mut(), &put) {
            guard.wrote(*n);
        }
        Poll::Ready(put)
    }

    fn put_some(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|b| b.len()).sum();
        if self.written.len() + total <= WRITE_BUFFER {
            return Poll::Ready(Ok(self.gather(bufs)));
        }
        match &self.transport {
            Some(transport) if transport.gathers() => self.put_slices(cx, bufs),
            Some(_) => self.put_records(cx, bufs),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Lets a header be written where writes are gathered. True if it is so large that it has to be
    /// flushed before anything else is written.
    pub fn compose(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.answered = true;
        write(self.room());
        self.written.len() > WRITE_BUFFER
    }

    /// Has a whole answer go out with the next flush.
    pub fn put_whole(&mut self, answer: Vec<u8>) {
        self.answered = true;
        if self.written.is_empty() {
            self.give_back();
            self.written = answer;
        } else {
            self.written.extend_from_slice(&answer);
        }
    }

    /// Whether something gathered has not gone out.
    pub fn holds(&self) -> bool {
        !self.written.is_empty()
    }

    /// Where writes are gathered.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.written.capacity() == 0 {
            self.written = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        &mut self.written
    }

    /// Copies what fits.
    fn gather(&mut self, bufs: &[IoSlice<'_>]) -> usize {
        self.room();
        let before = self.written.len();
        for buf in bufs {
            let room = WRITE_BUFFER - self.written.len();
            self.written.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        self.written.len() - before
    }

    /// One call for what was gathered and what comes.
    fn put_slices(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let held = self.written.len();
            let mut slices = [IoSlice::new(&[]); 8];
            slices[0] = IoSlice::new(&self.written);
            let more = bufs.len().min(7);
            slices[1..=more].copy_from_slice(&bufs[..more]);
            let n = ready!(send(&mut self.transport, &self.conn, cx, &slices[..=more]))?;
            self.written.drain(..n.min(held));
            if n > held {
                return Poll::Ready(Ok(n - held));
            }
        }
    }

    /// Full records: what was gathered is filled up first.
    fn put_records(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.written.len() == WRITE_BUFFER {
            ready!(self.poll_empty(cx))?;
        }
        let first = bufs.iter().find(|b| !b.is_empty());
        match first.filter(|b| self.written.is_empty() && b.len() >= WRITE_BUFFER) {
            Some(large) => send(&mut self.transport, &self.conn, cx, &[IoSlice::new(large)]),
            None => Poll::Ready(Ok(self.gather(bufs))),
        }
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut at = 0;
        while at < self.written.len() {
            let slice = [IoSlice::new(&self.written[at..])];
            match send(&mut self.transport, &self.conn, cx, &slice) {
                Poll::Ready(Ok(n)) => at += n,
                // What is gone must not go again, not even when the connection lingers.
                other => {
                    self.written.drain(..at);
                    return other.map_ok(|_| ());
                }
            }
        }
        self.give_back();
        Poll::Ready(Ok(()))
    }

    fn give_back(&mut self) {
        if self.written.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(&mut self.written);
        buffer.clear();
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARES && buffer.capacity() <= 2 * WRITE_BUFFER {
                spare.push(buffer);
            }
        });
    }

    /// Fills `buf` with whatever comes.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            let n = buf.remaining().min(self.rest.len());
            buf.put_slice(&self.rest.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let Some(transport) = self.transport.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        let before = buf.filled().len();
        if Pin::new(transport).poll_read(cx, buf)?.is_pending() {
            return expire(&self.conn, cx).map(Err);
        }
        self.gone = buf.filled().len() == before;
        Poll::Ready(Ok(()))
    }

    /// Fills `buf` with frames that the guard lets pass. An error ends the stream for the reader;
    /// its shutdown tells the client why. When all of it ends is the affair of the connection's loop.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let ended = self.judge();
            if self.passed > 0 {
                let n = buf.remaining().min(self.passed);
                buf.put_slice(&self.rest[..n]);
                self.rest.advance(n);
                self.passed -= n;
                if self.rest.is_empty() {
                    self.rest = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if ended || ready!(self.poll_more(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Asks the guard about what is in `rest`; true once it lets nothing pass any more.
    fn judge(&mut self) -> bool {
        let Some(guard) = self.guard.as_deref_mut() else {
            return true;
        };
        guard.note(self.conn.swept_ms(), self.conn.phase() == Phase::Leaving);
        loop {
            match guard.step(&mut self.rest[self.passed..]) {
                Step::Pass(n) => self.passed += n,
                Step::Drop(n) => {
                    let tail = self.rest.split_off(self.passed);
                    self.rest.extend_from_slice(&tail[n..]);
                }
                Step::More => return false,
                Step::Stop(_) => return true,
            }
        }
    }

    /// Fills `buf` from `rest` or from the connection, but not beyond the end of the body.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Also where bytes are always at hand: an upload has no longer than the request.
        if self.conn.told_to_go() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !self.rest.is_empty() {
            let n = buf.remaining().min(self.rest.len());
            let n = self.body.take(&self.rest[..n])?;
            buf.put_slice(&self.rest.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let Some(transport) = self.transport.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        let most = match &self.body {
            Delimiter::Left(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Delimiter::Chunked(_) => usize::MAX,
        };
        let room = buf.initialize_unfilled_to(buf.remaining().min(most));
        let mut part = ReadBuf::new(room);
        if Pin::new(transport).poll_read(cx, &mut part)?.is_pending() {
            if !self.conn.is_owing() {
                self.conn.set_owing(true);
            }
            return expire(&self.conn, cx).map(Err);
        }
        let read = part.filled();
        self.gone = read.is_empty();
        self.conn.came(read.len());
        let n = self.body.take(read)?;
        self.rest.extend_from_slice(&read[n..]);
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

/// Writes, and notes whether the client takes what is written.
fn send(
    transport: &mut Option<Transport>,
    conn: &Connection,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let Some(transport) = transport else {
        return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
    };
    let Poll::Ready(sent) = Pin::new(transport).poll_write_vectored(cx, slices) else {
        if !conn.is_blocked() {
            conn.set_blocked(true);
        }
        return expire(conn, cx).map(Err);
    };
    if conn.is_blocked() {
        conn.set_blocked(false);
    }
    match sent? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        n => Poll::Ready(Ok(n)),
    }
}

/// Ready with an error once the connection's time is up; otherwise leaves a waker for then.
fn expire(conn: &Connection, cx: &mut Context<'_>) -> Poll<io::Error> {
    conn.wake_on_expiry(cx.waker());
    if conn.told_to_go() {
        return Poll::Ready(io::ErrorKind::TimedOut.into());
    }
    Poll::Pending
}

impl AsyncRead for Front {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.guard.is_some() {
            return me.poll_frames(cx, buf);
        }
        if me.conn.is_tunnel() {
            return me.poll_tunnel(cx, buf);
        }
        // Whoever reads has nothing more to write for now: of a stream, what was gathered goes out.
        if !me.written.is_empty() && me.conn.is_bound_by_idle() {
            let _ = me.poll_empty(cx)?;
        }
        if !me.body.done() {
            return me.poll_body(cx, buf);
        }
        // The body is complete: Pingora only asks whether the client has gone.
        if me.conn.told_to_go() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if me.rest.is_empty()
            && let Some(transport) = me.transport.as_mut()
            && transport.poll_gone(cx, &mut me.rest)?.is_ready()
        {
            me.gone = true;
            return Poll::Ready(Ok(()));
        }
        expire(&me.conn, cx).map(Err)
    }
}

impl AsyncWrite for Front {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().put(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().put(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_empty(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        if let Some(goaway) = self.guard.as_deref_mut().and_then(Guard::goaway) {
            self.conn.listener.refused();
            self.gather(&[IoSlice::new(&goaway)]);
            ready!(self.poll_empty(cx))?;
        }
        match self.transport.as_mut() {
            Some(transport) => Pin::new(transport).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        sweep::discharge(&self.conn);
        let written = std::mem::take(&mut self.written);
        let Some(transport) = self.transport.take() else {
            return;
        };
        if self.conn.is_slow_reader() {
            return transport.abandon();
        }
        let told = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_told());
        if self.conn.is_ending() && !told && !self.gone {
            self.conn.listener.cut_off();
        }
        // Closing a socket with unread bytes resets it, and the client loses the answer it was
        // sent (RFC 9112 §9.6): read on for a moment. So does what crosses the end of an idle one.
        let unread = (self.answered || self.conn.is_stopped()) && !self.gone;
        if let (true, Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) {
            // A drain waits for answers that are still on their way, not for clients to hang up.
            let owed = !written.is_empty() || !self.rest.is_empty() || !self.body.done();
            let lingering = (!owed).then(|| self.conn.listener.linger());
            let held = (self.conn.clone(), lingering);
            runtime.spawn(linger(transport, written, held));
        }
    }
}
