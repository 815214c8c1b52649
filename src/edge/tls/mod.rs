//! The TLS end of a listener: handshakes, the choice of a certificate by name and by what the client
//! can verify, certificates of clients, and the reload of all of them while it runs.
//!
//! - `certificate`, `client`: what is in the files, judged
//! - `choose`: which certificate a client gets
//! - `context`: what the library is told
//! - `book`: the files, and when to look at them again
//! - `reload`: taking up what changed
//! - `fault`: why a handshake failed

mod book;
mod certificate;
mod choose;
mod client;
mod context;
mod fault;
mod reload;
#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use reload::{Reloaded, watch};

use crate::base::clock::Clock;
use crate::config;
use crate::config::Spanned;
use crate::config::listener::ListenerConf;
use crate::config::tls::{
    ClientCertificateModeConf, ClientCertificatesConf, TlsConf, TlsVersionConf, UnknownNamesConf,
};
use crate::exchange::tls::{TlsInfo, Version};
use crate::observe::metrics::{HandshakeFault, Metrics, TlsMetrics};
use arc_swap::ArcSwap;
use book::Book;
use choose::Table;
use context::Policy;
use pingora::tls::ssl::{NameType, Ssl, SslCipherRef, SslContext, SslRef, SslVersion};
use pingora::tls::tokio_ssl::SslStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// What is wrong with a pair of files, by the one of them that it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wrong {
    /// The certificate.
    Cert(String),
    /// The key.
    Key(String),
}

/// The TLS of every listener that has it.
pub struct Loaded {
    /// By the listener's name.
    pub by_listener: Vec<(Arc<str>, Arc<Tls>)>,
    /// What will do, but probably not for long or not for all.
    pub warnings: Vec<config::Fault>,
}

/// Loads and judges the certificates of every listener.
///
/// # Errors
/// Everything in them that cannot be served, with its place in the config.
pub fn load(
    listeners: &[Spanned<ListenerConf>],
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Loaded, Vec<config::Fault>> {
    let mut loaded = Loaded {
        by_listener: Vec::new(),
        warnings: Vec::new(),
    };
    let mut faults = Vec::new();
    for listener in listeners {
        let Some(conf) = &listener.value.tls else {
            continue;
        };
        let name: Arc<str> = (*listener.value.name.value).into();
        match Tls::load(&name, conf, clock, metrics) {
            Ok((tls, warnings)) => {
                loaded.by_listener.push((name, Arc::new(tls)));
                loaded.warnings.extend(warnings);
            }
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() {
        Ok(loaded)
    } else {
        Err(faults)
    }
}

/// The TLS end of one listener, shared by its workers.
pub struct Tls {
    policy: Policy,
    base: SslContext,
    table: Arc<ArcSwap<Table>>,
    /// What the table is made from; locked only to load files.
    book: Mutex<Book>,
    handshake_timeout: Duration,
    strict_host: bool,
    forward: bool,
    refuse_unknown: bool,
    clock: Clock,
    metrics: Arc<TlsMetrics>,
}

impl Tls {
    /// Loads the certificates of a listener. Beside it, what is probably not meant.
    ///
    /// # Errors
    /// Everything in them that cannot be served.
    pub fn load(
        listener: &Arc<str>,
        conf: &Spanned<TlsConf>,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<(Self, Vec<config::Fault>), Vec<config::Fault>> {
        let TlsConf {
            certificates,
            unknown_names,
            min_version,
            http2,
            resumption,
            handshake_timeout,
            strict_host,
            client_certificates,
        } = &conf.value;
        let clients = client_certificates.as_ref().map(|clients| {
            let ClientCertificatesConf { mode, ca, forward } = &clients.value;
            (mode.value, ca, forward.value)
        });
        let policy = Policy {
            listener: listener.clone(),
            tls13_only: min_version.value == TlsVersionConf::Tls13,
            http2: http2.value,
            resumption: resumption.value,
            client_required: clients.map(|(mode, ..)| mode == ClientCertificateModeConf::Required),
        };
        let refuse_unknown = unknown_names.value == UnknownNamesConf::Refuse;
        let now = clock.now();
        let book = Book::open(&policy, certificates, clients.map(|(_, ca, _)| ca), now)?;
        let warnings = book.warnings(now);
        let table = Table::new(&book.ready(), refuse_unknown);
        let table = Arc::new(ArcSwap::from_pointee(table));
        let base = context::base(&policy, &table);
        let base = base.map_err(|e| vec![book::unusable(&conf.place, &e)])?;
        let tls = Self {
            base,
            table,
            book: Mutex::new(book),
            handshake_timeout: handshake_timeout.value.0,
            strict_host: strict_host.value,
            forward: clients.is_some_and(|(_, _, forward)| forward),
            refuse_unknown,
            clock: clock.clone(),
            metrics: metrics.tls(listener),
            policy,
        };
        tls.show();
        Ok((tls, warnings))
    }

    /// The server's side of a handshake; counts how it went. The caller limits its time to
    /// [`Tls::handshake_timeout`].
    ///
    /// # Errors
    /// See [`HandshakeFault`]. The client has been sent its alert, if it can be.
    pub async fn accept<S>(&self, stream: S) -> Result<(SslStream<S>, TlsInfo), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let done = self.handshake(stream).await;
        match &done {
            Ok((_, info)) => self
                .metrics
                .completed(info.version == Version::Tls13, info.resumed),
            Err(fault) => {
                self.metrics.failed(fault.cause);
                log::debug!("listener {}: no TLS: {fault}", self.policy.listener);
            }
        }
        done
    }

    async fn handshake<S>(&self, stream: S) -> Result<(SslStream<S>, TlsInfo), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let ssl = Ssl::new(&self.base).map_err(|e| Fault::setup(&e))?;
        let mut stream = SslStream::new(ssl, stream).map_err(|e| Fault::setup(&e))?;
        if let Err(e) = Pin::new(&mut stream).accept().await {
            return Err(Fault::of(&e, stream.ssl()));
        }
        let info = self.info(stream.ssl())?;
        Ok((stream, info))
    }

    fn info(&self, ssl: &SslRef) -> Result<TlsInfo, Fault> {
        let cipher = ssl.current_cipher().and_then(SslCipherRef::standard_name);
        let names = context::chosen(ssl);
        let (Some(cipher), Some(names)) = (cipher, names) else {
            return Err(Fault::new(HandshakeFault::Other, "nothing was agreed on"));
        };
        let asked = ssl.servername(NameType::HOST_NAME);
        let info = TlsInfo {
            server_name: asked.map(|name| name.to_ascii_lowercase().into()),
            version: match ssl.version2() {
                Some(SslVersion::TLS1_3) => Version::Tls13,
                _ => Version::Tls12,
            },
            cipher,
            resumed: ssl.session_reused(),
            http2: context::speaks_http2(ssl),
            client: client::presented(ssl)?.map(Arc::new),
            names,
        };
        self.check_client(&info)?;
        Ok(info)
    }

    /// A session may outlive the certificate that its first handshake verified.
    fn check_client(&self, info: &TlsInfo) -> Result<(), Fault> {
        let bad = |why| Err(Fault::new(HandshakeFault::BadClientCertificate, why));
        match &info.client {
            None if self.policy.client_required == Some(true) => bad("there is none"),
            Some(client) if client.not_after < self.clock.now().unix_s() => {
                bad("it has ended since its session began")
            }
            _ => Ok(()),
        }
    }

    /// How long a handshake may take.
    pub fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// Counts a handshake that its time limit ended.
    pub fn timed_out(&self) {
        self.metrics.failed(HandshakeFault::Timeout);
    }

    /// Whether a request for a host that its connection's certificate does not cover is refused.
    pub fn strict_host(&self) -> bool {
        self.strict_host
    }

    /// Whether backends are told of a client's certificate.
    pub fn forwards_client_certificate(&self) -> bool {
        self.forward
    }
}
