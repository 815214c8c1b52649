//! A request over HTTP/1.1 of which nothing comes but its header, as Pingora's proxying sees it: the
//! header is judged already, the answer is written straight to where writes are gathered. Pingora's own
//! session would read a header and a body, neither of which is there, for 6,900 instructions a request.

use super::front::Front;
use crate::base::clock::{Clock, http_date};
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use pingora::ErrorType::{ConnectionClosed, ReadError, WriteError};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::{Digest, GetProxyDigest, GetSocketDigest};
use pingora::{Error, OrErr, Result};
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

/// A request and its answer. Once that is complete the drop hands the connection back to the edge.
pub struct BareSession {
    /// Always there until the drop.
    front: Option<Box<Front>>,
    request: RequestHeader,
    digest: Digest,
    clock: Clock,
    /// The header of the final answer, once it is written.
    answer: Option<Box<ResponseHeader>>,
    body: Body,
    /// Body bytes written.
    sent: usize,
    /// Whether the connection carries another request.
    stays: bool,
}

/// How the end of the answer's body is told (RFC 9112 §6.3), and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// There is no answer yet.
    Unknown,
    /// By its length; so many bytes are still to come.
    Left(u64),
    /// By a last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
    /// All of it is written.
    Done,
}

impl Body {
    /// Of an answer to a request with `method`; `end`: nothing comes behind the header.
    fn of(answer: &ResponseHeader, method: &Method, end: bool) -> Self {
        let headers = &answer.headers;
        if *method == Method::HEAD || matches!(answer.status.as_u16(), 204 | 304) {
            return Self::Done;
        }
        if headers.contains_key(TRANSFER_ENCODING) {
            return Self::Chunked;
        }
        let length = headers
            .get(CONTENT_LENGTH)
            .map(|v| v.to_str().ok()?.parse().ok());
        match length {
            Some(Some(0)) => Self::Done,
            Some(Some(length)) => Self::Left(length),
            None if end => Self::Done,
            _ => Self::UntilClose,
        }
    }
}

impl BareSession {
    /// A request on a connection; `last`: its client says that no other comes.
    pub fn new(front: Box<Front>, request: RequestHeader, last: bool, clock: Clock) -> Self {
        let digest = Digest {
            proxy_digest: front.get_proxy_digest(),
            socket_digest: front.get_socket_digest(),
            ..Digest::default()
        };
        Self {
            front: Some(front),
            request,
            digest,
            clock,
            answer: None,
            body: Body::Unknown,
            sent: 0,
            stays: !last,
        }
    }

    fn front(&mut self) -> io::Result<&mut Front> {
        self.front
            .as_deref_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes a header, an interim one or that of the answer; `end`: nothing comes behind it.
    async fn put_header(&mut self, answer: Box<ResponseHeader>, end: bool) -> io::Result<()> {
        if self.answer.is_some() {
            return Ok(());
        }
        let interim = answer.status.is_informational();
        if !interim {
            self.body = Body::of(&answer, &self.request.method, end);
            // Said by the gateway; what the service says of its own connection does not come here.
            let closes = answer.headers.contains_key(CONNECTION);
            self.stays &= self.body != Body::UntilClose && !closes;
        }
        let mut stays = self.stays;
        let clock = &self.clock;
        let front = self
            .front
            .as_deref_mut()
            .ok_or(io::ErrorKind::NotConnected)?;
        stays &= !front.conn.is_last_request();
        let flush = front.compose(|out| {
            let dated = head(&answer, out);
            if !interim {
                if !dated {
                    out.extend_from_slice(b"date: ");
                    http_date(clock.now(), out);
                    out.extend_from_slice(b"\r\n");
                }
                let option = if stays { "keep-alive" } else { "close" };
                for part in ["connection: ", option, "\r\n"] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
            out.extend_from_slice(b"\r\n");
        });
        if !interim {
            // From here on no other answer may be written, whatever becomes of this one.
            self.stays = stays;
            self.answer = Some(answer);
        }
        if flush || interim {
            self.front()?.flush().await?;
        }
        Ok(())
    }

    /// Writes some of the body.
    async fn put_body(&mut self, data: &[u8]) -> io::Result<()> {
        let body = self.body;
        let front = self.front()?;
        let written = match body {
            _ if data.is_empty() => 0,
            Body::Unknown | Body::Done => 0,
            Body::UntilClose => {
                front.write_all(data).await?;
                data.len()
            }
            Body::Left(left) => {
                // No more than was announced, whatever the service says.
                let fits = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                front.write_all(&data[..fits]).await?;
                self.body = match left - fits as u64 {
                    0 => Body::Done,
                    left => Body::Left(left),
                };
                fits
            }
            Body::Chunked => {
                let mut size = [0; 18];
                let mut rest = &mut size[..];
                write!(rest, "{:X}\r\n", data.len())?;
                let unused = rest.len();
                front.write_all(&size[..size.len() - unused]).await?;
                front.write_all(data).await?;
                front.write_all(b"\r\n").await?;
                data.len()
            }
        };
        self.sent += written;
        Ok(())
    }

    /// Ends the body.
    async fn end(&mut self) -> Result<()> {
        match self.body {
            Body::Left(_) => {
                return Error::e_explain(ConnectionClosed, "an answer shorter than its length")
                    .map_err(Error::into_up);
            }
            Body::Chunked => {
                let front = self.front().map_err(broken)?;
                front.write_all(b"0\r\n\r\n").await.map_err(broken)?;
            }
            Body::Unknown => return Ok(()),
            Body::UntilClose | Body::Done => (),
        }
        self.body = Body::Done;
        Ok(())
    }

    /// Sends what was gathered, unless the rest of a body of known length is to come.
    async fn push(&mut self) -> Result<()> {
        if !matches!(self.body, Body::Left(_)) {
            let front = self.front().map_err(broken)?;
            front.flush().await.map_err(broken)?;
        }
        Ok(())
    }

    /// Does a step of the answer; true if it was the last one.
    async fn step(&mut self, task: HttpTask) -> Result<bool> {
        let end = match task {
            HttpTask::Header(header, end) => {
                self.put_header(header, end).await.map_err(broken)?;
                end
            }
            HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
                let data = data.unwrap_or_default();
                self.put_body(&data).await.map_err(broken)?;
                end
            }
            // Trailers do not go on over HTTP/1.1.
            HttpTask::Trailer(_) | HttpTask::Done => true,
            HttpTask::Failed(e) => {
                // What there is of the answer has gone out before the connection ends.
                let _ = self.front().map_err(broken)?.flush().await;
                return Err(e);
            }
        };
        if end {
            self.end().await?;
        }
        Ok(end || self.body == Body::Done)
    }
}

/// The answer could not be written: the client's affair.
#[expect(clippy::unnecessary_box_returns, reason = "as Pingora has its errors")]
fn broken(error: io::Error) -> Box<Error> {
    Error::because(WriteError, "writing an answer", error).into_down()
}

/// Writes the status line and the fields; the connection's options are ours to say. True if there is a
/// date among them.
fn head(answer: &ResponseHeader, out: &mut Vec<u8>) -> bool {
    let mut dated = false;
    let status = answer.status;
    let phrase = answer.get_reason_phrase().unwrap_or_default();
    for part in ["HTTP/1.1 ", status.as_str(), " ", phrase, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &answer.headers {
        if *name == CONNECTION {
            continue;
        }
        dated |= *name == DATE;
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    dated
}

impl Drop for BareSession {
    fn drop(&mut self) {
        let Some(front) = self.front.take() else {
            return;
        };
        if self.stays && self.body == Body::Done && !front.holds() {
            let conn = front.conn.clone();
            conn.hand(front);
        }
    }
}

#[async_trait]
impl Session for BareSession {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Waits for the client to go.
    async fn read_body_or_idle(&mut self, _: bool) -> Result<Option<Bytes>> {
        let front = self.front().or_err(ReadError, "waiting for an answer")?;
        let mut none = [0; 1];
        let mut buf = ReadBuf::new(&mut none);
        let gone = poll_fn(|cx| Pin::new(&mut *front).poll_read(cx, &mut buf)).await;
        gone.or_err(ReadError, "waiting for an answer")?;
        Error::e_explain(ConnectionClosed, "the client closed the connection")
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.put_header(resp, end).await.map_err(broken)?;
        self.push().await
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(resp.clone()), end)
            .await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.put_body(&data).await.map_err(broken)?;
        if end {
            self.end().await?;
        }
        self.push().await
    }

    async fn write_trailers(&mut self, _: HeaderMap) -> Result<()> {
        Ok(())
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            ended = self.step(task).await?;
        }
        self.push().await?;
        Ok(ended)
    }

    // The marks of the connection bound what the library's own timers would.

    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri.path())
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.answer.as_deref()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.stays = false;
    }

    fn is_body_done(&mut self) -> bool {
        true
    }

    fn is_body_empty(&mut self) -> bool {
        true
    }

    async fn finish(&mut self) -> Result<()> {
        self.end().await?;
        self.push().await
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        0
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    // HTTP/1.1 has no messages besides bodies.

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
