//! Backends over TLS and HTTP/2: one that answers as it is told ([`Backend`]), one that plays exact
//! frames ([`frames`]), and a way to it that can be cut ([`relay`]).

pub mod authority;
pub mod frames;
mod http;
pub mod relay;

pub use authority::{Authority, Certificate};
pub use http::{Asked, Reply};

use super::eventually;
use http::Connection;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What a backend speaks and shows.
#[derive(Clone, Default)]
pub struct Speaks {
    certificate: Option<Certificate>,
    offers: Vec<Vec<u8>>,
    clients: Option<CertificateDer<'static>>,
    tls12: bool,
    streams: Option<u32>,
}

impl Speaks {
    /// HTTP/2 by prior knowledge, without TLS.
    pub fn h2c() -> Speaks {
        Speaks::default()
    }

    /// TLS with this certificate, and what is offered by ALPN, if anything.
    pub fn tls(certificate: &Certificate, offers: &[&str]) -> Speaks {
        Speaks {
            certificate: Some(certificate.clone()),
            offers: offers.iter().map(|o| o.as_bytes().to_vec()).collect(),
            ..Speaks::default()
        }
    }

    /// To clients with a certificate of this authority alone.
    pub fn only_to(mut self, clients: &Authority) -> Speaks {
        self.clients = Some(clients.der());
        self
    }

    /// TLS 1.2 and nothing newer.
    pub fn tls12(mut self) -> Speaks {
        self.tls12 = true;
        self
    }

    /// So many streams at a time on one connection; else 250.
    pub fn streams(mut self, most: u32) -> Speaks {
        self.streams = Some(most);
        self
    }

    fn config(&self) -> Option<Arc<ServerConfig>> {
        let certificate = self.certificate.as_ref()?;
        let versions: &[&SupportedProtocolVersion] = match self.tls12 {
            true => &[&rustls::version::TLS12],
            false => rustls::ALL_VERSIONS,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(versions).expect("versions");
        let builder = match self.clients.clone() {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients).expect("an authority");
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let chain = vec![certificate.der.clone()];
        let config = builder.with_single_cert(chain, certificate.key());
        let mut config = config.expect("a certificate");
        config.alpn_protocols.clone_from(&self.offers);
        Some(Arc::new(config))
    }
}

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// What all connections of a backend share.
struct Shared {
    tls: Option<Arc<ServerConfig>>,
    streams: u32,
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    accepted: AtomicUsize,
    listening: AtomicUsize,
    open: AtomicUsize,
    refused: AtomicUsize,
    reset: Mutex<Vec<h2::Reason>>,
    /// How often all connections were told to go.
    going: watch::Sender<u32>,
}

/// The backend. Each has a loopback address of its own.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Mutex<Option<Runtime>>,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Backend {
    /// One that answers 200 with the path.
    pub fn start(speaks: Speaks) -> Backend {
        Self::scripted(speaks, |asked| Reply::ok(&asked.path))
    }

    pub fn scripted(
        speaks: Speaks,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Backend {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [_, b, c, d] = NEXT.fetch_add(1, SeqCst).to_be_bytes();
        Self::bound(Ipv4Addr::new(127, b + 100, c, d), speaks, script)
    }

    /// One where the name `localhost` leads.
    pub fn at_localhost(speaks: Speaks) -> Backend {
        Self::bound(Ipv4Addr::LOCALHOST, speaks, |asked| Reply::ok(&asked.path))
    }

    fn bound(
        ip: Ipv4Addr,
        speaks: Speaks,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Backend {
        let shared = Arc::new(Shared {
            tls: speaks.config(),
            streams: speaks.streams.unwrap_or(250),
            script: Mutex::new(Arc::new(script)),
            asked: Mutex::default(),
            accepted: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            reset: Mutex::default(),
            going: watch::channel(0).0,
        });
        let (address, running) = run((ip, 0).into(), &shared);
        Backend {
            address,
            shared,
            running: Mutex::new(Some(running)),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request that came whole, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn last(&self) -> Asked {
        self.asked().pop().expect("a request at the backend")
    }

    pub fn hits(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// Connections that were made, whatever became of their handshakes.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// Handshakes that failed.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(SeqCst)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// Why streams were reset by the other side.
    pub fn resets(&self) -> Vec<h2::Reason> {
        self.shared.reset.lock().unwrap().clone()
    }

    /// Ends every connection in good order (GOAWAY): what is under way is answered.
    pub fn go_away(&self) {
        self.shared.going.send_modify(|n| *n += 1);
    }

    /// Stops listening and drops every connection where it is.
    pub fn kill(&self) {
        let Some(runtime) = self.running.lock().unwrap().take() else {
            return;
        };
        runtime.shutdown_background();
        let listening = || self.shared.listening.load(SeqCst);
        eventually("it to be gone", || listening() + self.open() == 0);
    }

    /// Listens again where it did before.
    pub fn start_again(&self) {
        let (_, running) = run(self.address, &self.shared);
        *self.running.lock().unwrap() = Some(running);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Binds and serves in the background, until the runtime is shut down.
fn run(address: SocketAddr, shared: &Arc<Shared>) -> (SocketAddr, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind(address));
    let listener = listener.expect("binds");
    let address = listener.local_addr().expect("an address");
    let shared = shared.clone();
    runtime.spawn(async move {
        // Declared first, dropped last: by then the port is free.
        let _listening = Counted::new(&shared, |s| &s.listening);
        let listener = listener;
        while let Ok((stream, _)) = listener.accept().await {
            let number = shared.accepted.fetch_add(1, SeqCst);
            tokio::spawn(connection(stream, number, shared.clone()));
        }
    });
    (address, runtime)
}

/// Counts something until it is dropped.
struct Counted(Arc<Shared>, fn(&Shared) -> &AtomicUsize);

impl Counted {
    fn new(shared: &Arc<Shared>, what: fn(&Shared) -> &AtomicUsize) -> Counted {
        what(shared).fetch_add(1, SeqCst);
        Counted(shared.clone(), what)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, SeqCst);
    }
}

async fn connection(stream: TcpStream, number: usize, shared: Arc<Shared>) {
    let _open = Counted::new(&shared, |s| &s.open);
    let _ = stream.set_nodelay(true);
    let Some(tls) = shared.tls.clone() else {
        let connection = Connection::plain(number, shared);
        return http::serve_http2(stream, connection).await;
    };
    let accepting = TlsAcceptor::from(tls).accept(stream);
    let stream = match accepting.into_fallible().await {
        Ok(stream) => stream,
        Err((_, stream)) => {
            shared.refused.fetch_add(1, SeqCst);
            return http::linger(stream).await;
        }
    };
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let connection = Connection::secure(number, session, shared);
    if http2 {
        http::serve_http2(stream, connection).await;
    } else {
        http::serve_http1(stream, connection).await;
    }
}
