//! A small HTTP/1.1 server for the demo's own services; nothing else is served by it.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// The most of a request body that is taken, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// A request as a service sees it.
pub struct Received {
    /// The method.
    pub method: Method,
    /// Path and query as they came.
    pub target: String,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Received {
    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// What a service answers.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The media type.
    pub media: &'static str,
    /// The body.
    pub body: String,
    /// How long the answer is held back.
    pub after: Duration,
}

impl Reply {
    /// A text, at once.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            media: "text/plain",
            body: body.into() + "\n",
            after: Duration::ZERO,
        }
    }

    /// JSON, at once.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            media: "application/json",
            ..Self::text(status, format!("{body:#}"))
        }
    }
}

/// One service of the demo.
pub trait Service: Send + Sync {
    /// Answers one request.
    fn answer(&self, request: &Received) -> Reply;
}

/// A service and the socket it listens on.
pub type Served = (TcpListener, Arc<dyn Service>);

/// The thread that serves; dropping it ends the services.
pub struct Host {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Serves all of `services` on a thread of their own.
    ///
    /// # Errors
    /// The thread or its runtime could not be made.
    pub fn start(services: Vec<Served>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            for (listener, service) in services {
                tokio::spawn(accept(listener, service));
            }
            let _ = stopped.await;
        };
        let thread = thread::Builder::new().name("demo-services".to_owned());
        let thread = thread.spawn(move || runtime.block_on(serve))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, service: Arc<dyn Service>) {
    let ready = listener.set_nonblocking(true);
    let listener = match ready.and_then(|()| tokio::net::TcpListener::from_std(listener)) {
        Ok(listener) => listener,
        Err(why) => return log::error!("a demo service cannot listen: {why}"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(TokioIo::new(stream), service.clone()));
            }
            // Out of descriptors, most likely: they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TokioIo<tokio::net::TcpStream>, service: Arc<dyn Service>) {
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(answer(request, service.as_ref()).await) }
    });
    // A connection that breaks is its client's loss; the gateway tells of it.
    let _ = http1::Builder::new().serve_connection(stream, answer).await;
}

async fn answer(request: Request<Incoming>, service: &dyn Service) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let reply = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => service.answer(&Received {
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
            body: body.to_bytes(),
        }),
        Err(_) => Reply::text(400, "no whole body came"),
    };
    tokio::time::sleep(reply.after).await;
    let built = Response::builder()
        .status(reply.status)
        .header(CONTENT_TYPE, reply.media)
        .body(Full::from(reply.body));
    built.expect("statuses and media types are literals of the demo's services")
}
