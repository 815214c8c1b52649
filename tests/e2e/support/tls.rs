//! The TLS end of a listener without the listener, and one client of it at a time.

use rustls::client::ClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, ProtocolVersion};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tollgate::base::clock::Clock;
use tollgate::config;
use tollgate::edge::tls::{self, Fault, Tls};
use tollgate::exchange::tls::TlsInfo;
use tollgate::observe::metrics::{HandshakeFault, Metrics};

use super::pki::Leaf;

/// The end and its files.
pub struct End {
    pub tls: Arc<Tls>,
    pub clock: Clock,
    pub warnings: Vec<config::Fault>,
    metrics: Metrics,
    dir: TempDir,
}

impl End {
    /// One that serves these certificates, in this order.
    #[track_caller]
    pub fn new(settings: &str, leaves: &[(&str, &Leaf)]) -> Self {
        let entry = |(stem, _): &(&str, &Leaf)| format!("{{ cert: {stem}.pem, key: {stem}.key }}");
        let entries: Vec<_> = leaves.iter().map(entry).collect();
        Self::with_entries(settings, &entries.join(", "), leaves)
    }

    /// One with these entries in its list of certificates.
    #[track_caller]
    pub fn with_entries(settings: &str, entries: &str, leaves: &[(&str, &Leaf)]) -> Self {
        Self::with_files(settings, entries, leaves, &[])
            .unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    /// One with these files beside it, or why it cannot be.
    #[track_caller]
    pub fn with_files(
        settings: &str,
        entries: &str,
        leaves: &[(&str, &Leaf)],
        files: &[(&str, &str)],
    ) -> Result<Self, Vec<String>> {
        super::stderr::keep();
        let dir = tempfile::tempdir().unwrap();
        for (stem, leaf) in leaves {
            leaf.write(dir.path(), stem);
        }
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let comma = if settings.is_empty() { "" } else { ", " };
        let text = format!(
            "listeners:\n\
             - name: public\n\
             \x20 address: \"127.0.0.1:0\"\n\
             \x20 tls: {{ certificates: [{entries}]{comma}{settings} }}\n\
             upstreams: [{{ name: up, targets: [\"127.0.0.1:1\"] }}]\n\
             routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
        );
        let loaded = config::parse(&text, "t.yaml", dir.path(), &|_| None)
            .unwrap_or_else(|faults| panic!("{faults}\n{text}"));
        let (clock, metrics) = (Clock::system(), Metrics::new("0", 0));
        let shown = |faults: Vec<config::Fault>| {
            let folder = format!("{}/", dir.path().display());
            let texts = faults.iter().map(ToString::to_string);
            texts
                .map(|text| text.replace(&folder, ""))
                .collect::<Vec<_>>()
        };
        let loaded = tls::load(&loaded.conf.listeners, &clock, &metrics).map_err(shown)?;
        let (_, tls) = loaded.by_listener.into_iter().next().unwrap();
        Ok(Self {
            tls,
            clock,
            warnings: loaded.warnings,
            metrics,
            dir,
        })
    }

    /// The folder of its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One client comes by, and a byte goes each way.
    pub fn meet(&self, client: &Arc<ClientConfig>, name: &str) -> Met {
        runtime().block_on(meet(&self.tls, client, name))
    }

    /// What a client is refused for that sends this and goes.
    pub fn send(&self, bytes: &[u8]) -> HandshakeFault {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        runtime().block_on(async {
            theirs.write_all(bytes).await.unwrap();
            theirs.shutdown().await.unwrap();
            match self.tls.accept(ours).await {
                Ok((_, info)) => panic!("was let in: {info:?}"),
                Err(fault) => fault.cause,
            }
        })
    }

    /// Asserts that a counter shows this.
    #[track_caller]
    pub fn counts(&self, name: &str, labels: &str, count: u64) {
        let text = self.metrics.render();
        let of = |line: &&str| line.starts_with(name) && line.contains(labels);
        let found: Vec<_> = text.lines().filter(of).collect();
        let sum: u64 = found
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum, count, "{name} {labels}: {found:?}");
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// How a handshake went, as both ends saw it.
pub struct Met {
    pub server: Result<TlsInfo, Fault>,
    pub client: Result<Seen, std::io::Error>,
}

/// What a client saw.
pub struct Seen {
    pub leaf: Option<CertificateDer<'static>>,
    pub kind: Option<HandshakeKind>,
    pub version: Option<ProtocolVersion>,
    pub cipher: Option<String>,
    pub group: Option<String>,
    pub alpn: Option<String>,
}

/// One handshake and a byte each way.
pub async fn meet(tls: &Tls, client: &Arc<ClientConfig>, name: &str) -> Met {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (server, client) = tokio::join!(serve(tls, ours), visit(client, name, theirs));
    Met { server, client }
}

async fn serve(tls: &Tls, stream: DuplexStream) -> Result<TlsInfo, Fault> {
    let (mut stream, info) = tls.accept(stream).await?;
    let mut byte = [0];
    // A client that does not trust us after all says so instead of the byte.
    if stream.read_exact(&mut byte).await.is_ok() {
        let _ = stream.write_all(&byte).await;
        let _ = stream.flush().await;
    }
    Ok(info)
}

async fn visit(
    client: &Arc<ClientConfig>,
    name: &str,
    stream: DuplexStream,
) -> std::io::Result<Seen> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(client.clone())
        .connect(name, stream)
        .await?;
    stream.write_all(b"!").await?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    assert_eq!(&byte, b"!");
    Ok(seen(stream.get_ref().1))
}

fn seen(conn: &ClientConnection) -> Seen {
    let alpn = conn
        .alpn_protocol()
        .map(|p| String::from_utf8_lossy(p).into_owned());
    let cipher = conn.negotiated_cipher_suite();
    let group = conn.negotiated_key_exchange_group();
    Seen {
        leaf: conn.peer_certificates().map(|c| c[0].clone().into_owned()),
        kind: conn.handshake_kind(),
        version: conn.protocol_version(),
        cipher: cipher.map(|c| format!("{:?}", c.suite()).replace("TLS13_", "TLS_")),
        group: group.map(|g| format!("{:?}", g.name())),
        alpn,
    }
}

impl Met {
    /// What our end knows.
    #[track_caller]
    pub fn info(&self) -> &TlsInfo {
        self.server.as_ref().unwrap_or_else(|f| panic!("{f}"))
    }

    /// What the client saw.
    #[track_caller]
    pub fn client(&self) -> &Seen {
        self.client.as_ref().unwrap_or_else(|e| panic!("{e}"))
    }

    /// The certificate the client was given.
    #[track_caller]
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.client().leaf.clone().unwrap()
    }

    /// Why our end refused.
    #[track_caller]
    pub fn fault(&self) -> HandshakeFault {
        self.server.as_ref().expect_err("was refused").cause
    }

    /// The alert the client was sent.
    #[track_caller]
    pub fn alert(&self) -> AlertDescription {
        let Err(error) = &self.client else {
            panic!("was not refused");
        };
        let inner = error.get_ref().and_then(|e| e.downcast_ref());
        match inner {
            Some(rustls::Error::AlertReceived(alert)) => *alert,
            _ => panic!("no alert: {error}"),
        }
    }
}
