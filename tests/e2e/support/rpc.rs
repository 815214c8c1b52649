//! gRPC as it is on the wire: a client and a scripted service over HTTP/2 without TLS.

use super::patience;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

type Fields = Vec<(&'static str, String)>;

/// One thread drives all clients and services of the process.
fn runtime() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(pending::<()>()));
        handle
    })
}

#[track_caller]
fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    let within = async { tokio::time::timeout(patience(), future).await };
    let done = runtime().block_on(within);
    done.unwrap_or_else(|_| panic!("never came: {what}"))
}

fn fields(list: &[(&'static str, String)]) -> HeaderMap {
    let fields = list.iter().map(|(name, value)| {
        let value = HeaderValue::from_str(value).expect("a value");
        (HeaderName::from_static(name), value)
    });
    fields.collect()
}

/// What a call ended with.
#[derive(Debug, Default)]
pub struct Told {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// The header ended the stream.
    pub trailers_only: bool,
    /// How the stream was reset, if it was.
    pub reset: Option<Reason>,
}

impl Told {
    /// The value of a field of the trailers, or of the header if it is all there is.
    pub fn field(&self, name: &str) -> &str {
        let fields = match self.trailers_only {
            true => &self.headers,
            false => &self.trailers,
        };
        let value = fields.get(name).map(|v| v.to_str().expect("ASCII"));
        value.unwrap_or_default()
    }

    /// The gRPC status and the gateway's own code, as numbers and words to compare.
    pub fn is(&self) -> (&str, &str) {
        assert_eq!(self.status, 200, "{self:?}");
        (self.field("grpc-status"), self.field("x-error-code"))
    }
}

/// A connection of a client.
pub struct Channel(SendRequest<Bytes>);

impl Channel {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Channel {
        let opened = wait("a connection", async {
            let tcp = TcpStream::connect(address).await.expect("connects");
            let (channel, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
            tokio::spawn(connection);
            channel.ready().await.expect("ready")
        });
        Channel(opened)
    }

    /// Begins a call; further fields may be of any name.
    #[track_caller]
    pub fn begin(&self, path: &str, more: &[(&'static str, &str)]) -> Call {
        let mut request = Request::post(format!("http://api.example.com{path}"));
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            if more.iter().all(|(other, _)| *other != name) {
                request = request.header(name, value);
            }
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let mut channel = self.0.clone();
        let (answer, body) = channel.send_request(request, false).expect("sends");
        Call { answer, body }
    }

    /// A call with one small message.
    #[track_caller]
    pub fn call(&self, path: &str, more: &[(&'static str, &str)]) -> Told {
        let mut call = self.begin(path, more);
        call.send(b"\0\0\0\0\x02hi", true);
        call.told()
    }
}

/// A call under way.
pub struct Call {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Call {
    pub fn send(&mut self, bytes: &[u8], end: bool) {
        // It may be answered already, and nobody listens to the rest.
        let _ = self.body.send_data(Bytes::copy_from_slice(bytes), end);
    }

    /// Gives it up.
    pub fn cancel(&mut self) {
        self.body.send_reset(Reason::CANCEL);
    }

    /// What becomes of it.
    #[track_caller]
    pub fn told(self) -> Told {
        wait("the end of a call", told(self.answer))
    }
}

async fn told(answer: ResponseFuture) -> Told {
    let mut told = Told::default();
    if let Err(error) = gather(answer, &mut told).await {
        told.reset = Some(error.reason().expect("a reset"));
    }
    told
}

async fn gather(answer: ResponseFuture, told: &mut Told) -> Result<(), h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    (told.status, told.headers) = (head.status.as_u16(), head.headers);
    told.trailers_only = body.is_end_stream();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        told.body.extend_from_slice(&part);
    }
    told.trailers = body.trailers().await?.unwrap_or_default();
    Ok(())
}

/// A call as a service got it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub path: String,
    pub headers: HeaderMap,
    /// The number of its connection, from 0.
    pub connection: usize,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().expect("ASCII"))
    }
}

/// What a service does with a call.
#[derive(Clone)]
pub enum Does {
    /// 200, this body, these trailers.
    Answers(Vec<u8>, Fields),
    /// This status and these fields, and nothing behind them.
    EndsWith(u16, Fields),
    /// 200 and this body, then nothing more.
    Stalls(Vec<u8>),
    /// 200, then an empty message so often, for ever.
    Ticks(Duration),
    /// 200 and this body, then the end of the stream with this reason.
    Breaks(Vec<u8>, Reason),
    /// The end of the stream with this reason.
    Resets(Reason),
    /// Nothing for a while, then the end of the stream with this reason.
    Leaves(Duration, Reason),
    /// Nothing.
    Hangs,
}

impl Does {
    /// An empty message, and this status in the trailers.
    pub fn status(status: u8) -> Does {
        let trailers = vec![("grpc-status", status.to_string())];
        Does::Answers(b"\0\0\0\0\0".to_vec(), trailers)
    }
}

type Script = Box<dyn Fn(&Heard) -> Does + Send + Sync>;

struct Inner {
    script: Script,
    heard: Mutex<Vec<Heard>>,
    cancelled: Mutex<Vec<Reason>>,
}

/// A scripted service; it listens until the process ends.
pub struct Service {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Service {
    pub fn start(script: impl Fn(&Heard) -> Does + Send + Sync + 'static) -> Service {
        let inner = Arc::new(Inner {
            script: Box::new(script),
            heard: Mutex::default(),
            cancelled: Mutex::default(),
        });
        let bound = wait("a port", TcpListener::bind(("127.0.0.1", 0)));
        let listener = bound.expect("binds");
        let address = listener.local_addr().expect("an address");
        runtime().spawn(accept(listener, inner.clone()));
        Service { address, inner }
    }

    /// The calls that came.
    pub fn heard(&self) -> Vec<Heard> {
        self.inner.heard.lock().unwrap().clone()
    }

    /// How calls that it did not end were ended.
    pub fn cancelled(&self) -> Vec<Reason> {
        self.inner.cancelled.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    for connection in 0.. {
        let Ok((tcp, _)) = listener.accept().await else {
            return;
        };
        let inner = inner.clone();
        tokio::spawn(async move {
            let Ok(mut h2) = h2::server::handshake(tcp).await else {
                return;
            };
            while let Some(Ok((request, answer))) = h2.accept().await {
                tokio::spawn(serve(request, answer, connection, inner.clone()));
            }
        });
    }
}

async fn serve(
    request: Request<RecvStream>,
    answer: SendResponse<Bytes>,
    connection: usize,
    inner: Arc<Inner>,
) {
    let (head, _body) = request.into_parts();
    let heard = Heard {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        connection,
    };
    let does = (inner.script)(&heard);
    inner.heard.lock().unwrap().push(heard);
    // Whoever called may be gone.
    let _ = play(does, answer, &inner).await;
}

/// Does what the script says.
async fn play(does: Does, mut answer: SendResponse<Bytes>, inner: &Inner) -> Result<(), h2::Error> {
    match does {
        Does::EndsWith(status, list) => {
            let mut whole = Response::builder().status(status).body(()).expect("it");
            *whole.headers_mut() = fields(&list);
            answer.send_response(whole, true).map(drop)
        }
        Does::Answers(body, trailers) => {
            begun(&mut answer, body).and_then(|mut stream| stream.send_trailers(fields(&trailers)))
        }
        Does::Breaks(body, reason) => match begun(&mut answer, body) {
            Ok(mut stream) => {
                // What is still queued would go with the stream.
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.send_reset(reason);
                Ok(())
            }
            Err(error) => Err(error),
        },
        Does::Leaves(late, reason) => {
            tokio::time::sleep(late).await;
            answer.send_reset(reason);
            Ok(())
        }
        Does::Resets(reason) => {
            answer.send_reset(reason);
            Ok(())
        }
        Does::Stalls(body) => match begun(&mut answer, body) {
            Ok(mut stream) => {
                let over = poll_fn(|cx| stream.poll_reset(cx)).await;
                inner.cancelled.lock().unwrap().extend(over);
                Ok(())
            }
            Err(error) => Err(error),
        },
        Does::Ticks(every) => match begun(&mut answer, Vec::new()) {
            Ok(mut stream) => {
                let message = || Bytes::from_static(b"\0\0\0\0\0");
                while stream.send_data(message(), false).is_ok() {
                    tokio::time::sleep(every).await;
                }
                Ok(())
            }
            Err(error) => Err(error),
        },
        Does::Hangs => {
            let over = poll_fn(|cx| answer.poll_reset(cx)).await;
            inner.cancelled.lock().unwrap().extend(over);
            Ok(())
        }
    }
}

/// The begin of an answer.
fn begun(answer: &mut SendResponse<Bytes>, body: Vec<u8>) -> Result<SendStream<Bytes>, h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc");
    let head = head.body(()).expect("a header");
    let mut stream = answer.send_response(head, false)?;
    if !body.is_empty() {
        stream.send_data(body.into(), false)?;
    }
    Ok(stream)
}
