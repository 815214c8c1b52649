//! What is said on a connection of a backend: requests in, answers out.

use super::Shared;
use crate::support::Gate;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConnection;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A request as a backend got it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Whether it came by HTTP/2.
    pub http2: bool,
    /// The name that was asked for in the handshake.
    pub sni: Option<String>,
    /// Whether the other side showed a certificate.
    pub certified: bool,
    pub method: String,
    /// `:scheme`; HTTP/1.1 has none.
    pub scheme: Option<String>,
    /// `:authority`, or `Host`.
    pub authority: String,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What a backend answers.
#[derive(Clone)]
pub enum Reply {
    /// A whole answer.
    Answer(u16, Vec<u8>),
    /// 200 with this body and these trailers; HTTP/2 alone.
    Trailers(Vec<u8>, Vec<(&'static str, &'static str)>),
    /// An interim answer first; HTTP/2 alone.
    Interim(u16, Box<Reply>),
    /// 200 and the begin of a body, then the end of the stream with this reason; HTTP/2 alone.
    Cut(Vec<u8>, Reason),
    /// The end of the stream with this reason; HTTP/2 alone.
    Reset(Reason),
    /// Waits at a gate first.
    At(Gate, Box<Reply>),
}

impl Reply {
    /// 200 with this body.
    pub fn ok(body: &str) -> Reply {
        Reply::Answer(200, body.into())
    }
}

/// A connection, and what its handshake told.
pub struct Connection {
    number: usize,
    sni: Option<String>,
    certified: bool,
    shared: Arc<Shared>,
}

impl Connection {
    pub(super) fn plain(number: usize, shared: Arc<Shared>) -> Connection {
        Connection {
            number,
            sni: None,
            certified: false,
            shared,
        }
    }

    pub(super) fn secure(number: usize, tls: &ServerConnection, shared: Arc<Shared>) -> Self {
        Connection {
            number,
            sni: tls.server_name().map(str::to_owned),
            certified: tls.peer_certificates().is_some(),
            shared,
        }
    }

    /// Notes a request that has come whole; what is to be done with it.
    fn note<B>(&self, request: &Request<B>, http2: bool, body: Vec<u8>) -> Reply {
        let uri = request.uri();
        let host = request.headers().get("host");
        let host = host.and_then(|h| h.to_str().ok()).unwrap_or_default();
        let mut all = self.shared.asked.lock().unwrap();
        let asked = Asked {
            connection: self.number,
            http2,
            sni: self.sni.clone(),
            certified: self.certified,
            method: request.method().to_string(),
            scheme: uri.scheme_str().map(str::to_owned),
            authority: uri.authority().map_or(host, |a| a.as_str()).to_owned(),
            path: uri.path_and_query().map_or("", |p| p.as_str()).to_owned(),
            headers: request.headers().clone(),
            body,
        };
        all.push(asked.clone());
        drop(all);
        let script = self.shared.script.lock().unwrap().clone();
        script(&asked)
    }
}

/// Ends a connection whose handshake failed so that the other side gets to read why.
pub(super) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = stream.shutdown().await;
    while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
}

async fn past(gate: Gate) {
    let _ = tokio::task::spawn_blocking(move || gate.pass()).await;
}

pub(super) async fn serve_http1<S>(stream: S, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = connection.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|b| b.to_bytes().to_vec());
            let request = Request::from_parts(parts, ());
            let reply = connection.note(&request, false, body.unwrap_or_default());
            Ok::<_, Infallible>(answer_http1(reply).await)
        }
    });
    let serving = hyper::server::conn::http1::Builder::new();
    let _ = serving
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer_http1(mut reply: Reply) -> Response<Full<Bytes>> {
    while let Reply::At(gate, then) = reply {
        past(gate).await;
        reply = *then;
    }
    match reply {
        Reply::Answer(status, body) => {
            let mut answer = Response::new(Full::from(body));
            *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
            answer
        }
        _ => std::future::pending().await,
    }
}

pub(super) async fn serve_http2<S>(stream: S, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut going = connection.shared.going.subscribe();
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(connection.shared.streams);
    let Ok(mut serving) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let connection = Arc::new(connection);
    loop {
        tokio::select! {
            next = serving.accept() => match next {
                Some(Ok((request, respond))) => {
                    tokio::spawn(stream_http2(request, respond, connection.clone()));
                }
                _ => return,
            },
            Ok(()) = going.changed() => serving.graceful_shutdown(),
        }
    }
}

async fn stream_http2(
    mut request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: Arc<Connection>,
) {
    let mut whole = BytesMut::new();
    let body = request.body_mut();
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else {
            return reset(&connection, &mut respond).await;
        };
        let _ = body.flow_control().release_capacity(piece.len());
        whole.extend_from_slice(&piece);
    }
    let mut reply = connection.note(&request, true, whole.to_vec());
    loop {
        match reply {
            Reply::At(gate, then) => {
                tokio::select! {
                    () = past(gate) => (),
                    () = reset(&connection, &mut respond) => return,
                }
                reply = *then;
            }
            Reply::Interim(status, then) => {
                let _ = respond.send_informational(head(status));
                reply = *then;
            }
            other => {
                let head = request.method() == Method::HEAD;
                return answer_http2(other, head, &mut respond, &connection).await;
            }
        }
    }
}

/// Waits until the other side resets the stream, and notes why.
async fn reset(connection: &Connection, respond: &mut SendResponse<Bytes>) {
    if let Ok(reason) = poll_fn(|cx| respond.poll_reset(cx)).await {
        connection.shared.reset.lock().unwrap().push(reason);
    }
}

fn head(status: u16) -> Response<()> {
    let made = Response::builder().status(status).body(());
    made.expect("a status")
}

/// Sends a body as the other side makes room for it, as long as it wants any.
async fn send(mut body: Bytes, sending: &mut SendStream<Bytes>) {
    while !body.is_empty() {
        sending.reserve_capacity(body.len().min(64 * 1024));
        match poll_fn(|cx| sending.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let piece = body.split_to(room.min(body.len()));
                let _ = sending.send_data(piece, body.is_empty());
            }
            _ => return,
        }
    }
}

async fn answer_http2(
    reply: Reply,
    to_head: bool,
    respond: &mut SendResponse<Bytes>,
    connection: &Connection,
) {
    match reply {
        Reply::Answer(status, body) => {
            let ends = to_head || body.is_empty();
            let Ok(mut sending) = respond.send_response(head(status), ends) else {
                return;
            };
            if !ends {
                send(body.into(), &mut sending).await;
            }
            // Until the other side resets it, or forgets it as whole.
            if let Ok(reason) = poll_fn(|cx| sending.poll_reset(cx)).await {
                connection.shared.reset.lock().unwrap().push(reason);
            }
        }
        Reply::Trailers(body, fields) => {
            if let Ok(mut sending) = respond.send_response(head(200), false) {
                let _ = sending.send_data(body.into(), false);
                let fields = fields.iter().map(|(name, value)| {
                    let name = http::HeaderName::from_static(name);
                    (name, http::HeaderValue::from_static(value))
                });
                let _ = sending.send_trailers(fields.collect());
            }
        }
        Reply::Cut(body, reason) => {
            if let Ok(mut sending) = respond.send_response(head(200), false) {
                let _ = sending.send_data(body.into(), false);
                // So that the bytes are on their way first.
                tokio::task::yield_now().await;
                sending.send_reset(reason);
            }
        }
        Reply::Reset(reason) => respond.send_reset(reason),
        Reply::At(..) | Reply::Interim(..) => (),
    }
}
