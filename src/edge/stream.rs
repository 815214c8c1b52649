//! One stream of an HTTP/2 connection, as Pingora's proxying sees it: the library's own, under the
//! marks of our edge. Whatever waits for the client here ends with the stream's time, in the way that
//! a request over HTTP/1.1 does: the hooks learn of it, the answer can still be written, and the
//! upstream's stream is cancelled without giving up the connection that it shares with others.

use crate::exchange::connection::Connection;
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The most bytes of an answer that are written at once: a client that takes this much within the
/// listener's time for writing is not a slow one.
const PIECE: usize = 16 * 1024;

/// A stream.
pub struct StreamSession {
    inner: HttpSession,
    marks: Arc<Connection>,
    tail: Tail,
}

/// The end of a body with an announced length. It goes on only when the stream ends behind it: a
/// body that is longer than it says is malformed (RFC 9113 §8.1.1), and no upstream may have had a
/// whole request of it by then.
struct Tail {
    /// How many bytes are still to come; none where no length was announced.
    left: Option<u64>,
    held: Option<Bytes>,
}

impl Tail {
    fn new(head: &RequestHeader) -> Self {
        let said = head.headers.get(http::header::CONTENT_LENGTH);
        Self {
            left: said.and_then(|value| value.to_str().ok()?.parse().ok()),
            held: None,
        }
    }

    /// Notes what came; gives it back unless it is the end and `more` may come.
    fn pass(&mut self, data: Bytes, more: bool) -> Result<Option<Bytes>> {
        if self.held.is_some() {
            if data.is_empty() {
                return Ok(None);
            }
            let why = "a body beyond its length";
            return Error::e_explain(ErrorType::InvalidHTTPHeader, why).map_err(Error::into_down);
        }
        self.left = self.left.map(|l| l.saturating_sub(data.len() as u64));
        if more && self.left == Some(0) {
            self.held = Some(data);
            return Ok(None);
        }
        Ok(Some(data))
    }
}

/// The next bytes of a body, or its end.
async fn next(inner: &mut HttpSession, tail: &mut Tail) -> Result<Option<Bytes>> {
    loop {
        if tail.held.is_some() && inner.is_body_done() {
            return Ok(tail.held.take());
        }
        let Some(data) = inner.read_body_bytes().await? else {
            return Ok(tail.held.take());
        };
        if let Some(data) = tail.pass(data, !inner.is_body_done())? {
            return Ok(Some(data));
        }
    }
}

impl StreamSession {
    /// A stream and its marks.
    pub fn new(inner: HttpSession, marks: Arc<Connection>) -> Self {
        let tail = Tail::new(inner.req_header());
        Self { inner, marks, tail }
    }

    /// Writes a body piece by piece, noting whether the client takes it.
    async fn put(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        loop {
            let piece = data.split_to(data.len().min(PIECE));
            let last = data.is_empty();
            let step = self.inner.write_body(piece, end && last);
            let written = within(&self.marks, ErrorType::WriteTimedout, step, || {
                if !self.marks.is_blocked() {
                    self.marks.set_blocked(true);
                }
            });
            let written = written.await;
            if self.marks.is_blocked() {
                self.marks.set_blocked(false);
            }
            written.map_err(Error::into_down)?;
            if last {
                return Ok(());
            }
        }
    }
}

/// Notes that bytes of a body are waited for.
fn owe(marks: &Connection, owes: bool) {
    if owes && !marks.is_owing() {
        marks.set_owing(true);
    }
}

/// Does a step until it is done or the time of the stream is over; while it waits, that is noted.
async fn within<T>(
    marks: &Connection,
    kind: ErrorType,
    step: impl Future<Output = Result<T>>,
    waiting: impl Fn(),
) -> Result<T> {
    let mut step = pin!(step);
    let mut kind = Some(kind);
    poll_fn(|cx| {
        if let Poll::Ready(done) = step.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        waiting();
        marks.wake_on_expiry(cx.waker());
        if !marks.told_to_go() {
            return Poll::Pending;
        }
        let kind = kind.take().unwrap_or(ErrorType::ReadTimedout);
        let over = Error::explain(kind, "the time of the stream is over");
        Poll::Ready(Err(over.into_down()))
    })
    .await
}

#[async_trait]
impl Session for StreamSession {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let owes = !self.is_body_done();
        let step = next(&mut self.inner, &mut self.tail);
        let waiting = || owe(&self.marks, owes);
        let read = within(&self.marks, ErrorType::ReadTimedout, step, waiting).await?;
        self.marks.came(read.as_ref().map_or(0, Bytes::len));
        Ok(read)
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.is_body_done() {
            return self.read_body_bytes().await;
        }
        let step = self.inner.read_body_or_idle(true);
        within(&self.marks, ErrorType::ReadTimedout, step, || {}).await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.inner.write_response_header(resp, end)
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.inner.write_response_header_ref(resp, end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.put(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            ended |= match task {
                HttpTask::Body(Some(data), end) if !data.is_empty() => {
                    self.put(data, end).await?;
                    end
                }
                other => self.inner.response_duplex_vec(vec![other]).await?,
            };
        }
        if ended {
            self.inner.finish().map_err(Error::into_down)?;
        }
        Ok(ended)
    }

    // The marks bound what the library's own timers would.

    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.inner.shutdown();
    }

    fn is_body_done(&mut self) -> bool {
        self.tail.held.is_none() && self.inner.is_body_done()
    }

    fn is_body_empty(&mut self) -> bool {
        self.inner.is_body_empty()
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.inner.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry_buffer_truncated()
    }

    /// What went on already: what is held goes on by itself.
    fn get_retry_buffer(&self) -> Option<Bytes> {
        let mut came = self.inner.get_retry_buffer()?;
        let held = self.tail.held.as_ref().map_or(0, Bytes::len);
        came.truncate(came.len().saturating_sub(held));
        Some(came).filter(|came| !came.is_empty())
    }

    // HTTP/2 has no messages besides bodies.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
