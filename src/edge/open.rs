//! What happens to a connection before its first request: its place is taken, its PROXY header
//! read, TLS agreed on; each within its time.

use super::front::Front;
use super::http2::Http2Limits;
use super::proxy_protocol::{self, Ends, Preface};
use super::tls::Tls;
use super::transport::Transport;
use crate::base::net::Networks;
use crate::exchange::admission::{Full, Pass};
use crate::exchange::connection::Connection;
use crate::exchange::listener::Listener;
use crate::exchange::tls::TlsInfo;
use crate::observe::metrics::TurnedAway;
use pingora::http::ResponseHeader;
use pingora::protocols::SocketDigest;
use pingora::protocols::l4::socket::SocketAddr as DigestAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};

/// How a listener lets connections in.
pub struct Entrance {
    /// The listener.
    pub listener: Arc<Listener>,
    /// Its TLS.
    pub tls: Option<Arc<Tls>>,
    /// Set where every connection begins with a PROXY header.
    pub proxied: Option<Proxied>,
    /// Whether HTTP/2 is spoken without TLS, and nothing else.
    pub h2c: bool,
    /// Limits of HTTP/2.
    pub http2: Http2Limits,
}

/// Whose PROXY header is taken.
#[derive(Clone, Debug)]
pub struct Proxied {
    /// The balancers.
    pub networks: Networks,
    /// The most time for the header.
    pub timeout: Duration,
}

/// Why there is no connection.
struct Away(TurnedAway);

impl From<Full> for Away {
    fn from(full: Full) -> Self {
        Self(match full {
            Full::All => TurnedAway::Full,
            Full::Address => TurnedAway::Address,
        })
    }
}

impl Entrance {
    /// An entrance without TLS, for HTTP/1.1.
    pub fn plain(listener: Arc<Listener>) -> Self {
        Self {
            listener,
            tls: None,
            proxied: None,
            h2c: false,
            http2: Http2Limits::default(),
        }
    }

    /// Whether a connection is ready as soon as it is accepted.
    pub fn is_immediate(&self) -> bool {
        self.tls.is_none() && self.proxied.is_none()
    }

    /// Takes a connection in that needs nothing before its first request; `None` if there is no
    /// place for it.
    pub fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Front> {
        let entered = || Ok(self.listener.admission.enter()?.of(peer.ip())?);
        let pass = self.told(entered())?;
        let socket = socket_of(&stream, peer);
        Some(self.front(Transport::Tcp(stream), peer, socket, None, pass))
    }

    /// Takes in a connection of a Unix socket.
    pub fn admit_local(&self, stream: UnixStream) -> Option<Front> {
        let pass = self.told(self.listener.admission.enter().map_err(Away::from))?;
        let peer = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let socket = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let _ = socket.peer_addr.set(Some(DigestAddr::Inet(peer)));
        Some(self.front(Transport::Unix(stream), peer, socket, None, pass))
    }

    /// Takes a connection in by all its steps; `None` if it failed at one of them.
    pub async fn open(&self, stream: TcpStream, peer: SocketAddr) -> Option<Front> {
        self.told(self.steps(stream, peer).await)
    }

    async fn steps(&self, mut stream: TcpStream, peer: SocketAddr) -> Result<Front, Away> {
        let mut pass = self.listener.admission.enter()?;
        let mut client = peer;
        if let Some(proxied) = &self.proxied {
            let ends = header(&mut stream, peer, proxied);
            let ends = ends.await.ok_or(Away(TurnedAway::Proxy))?;
            client = ends.map_or(peer, |e| e.source);
        }
        pass = pass.of(client.ip())?;
        let socket = socket_of(&stream, client);
        let Some(tls) = &self.tls else {
            return Ok(self.front(Transport::Tcp(stream), client, socket, None, pass));
        };
        let agreed = tokio::time::timeout(tls.handshake_timeout(), tls.accept(stream)).await;
        let Ok(Ok((stream, info))) = agreed else {
            if agreed.is_err() {
                tls.timed_out();
            }
            return Err(Away(TurnedAway::Tls));
        };
        let transport = Transport::Tls(Box::new(stream));
        Ok(self.front(transport, client, socket, Some(Arc::new(info)), pass))
    }

    fn front(
        &self,
        transport: Transport,
        peer: SocketAddr,
        socket: SocketDigest,
        tls: Option<Arc<TlsInfo>>,
        pass: Pass,
    ) -> Front {
        let conn = Arc::new(Connection::new(self.listener.clone(), peer, tls, pass));
        Front::new(transport, conn, socket)
    }

    fn told<T>(&self, made: Result<T, Away>) -> Option<T> {
        made.map_err(|Away(cause)| self.listener.metrics.turned_away(cause))
            .ok()
    }
}

fn socket_of(stream: &TcpStream, peer: SocketAddr) -> SocketDigest {
    let socket = SocketDigest::from_raw_fd(stream.as_raw_fd());
    let _ = socket.peer_addr.set(Some(DigestAddr::Inet(peer)));
    socket
}

/// Reads the PROXY header, and not one byte more. `None` if there is none that counts; inside,
/// `None` where it says that the socket's own addresses hold.
async fn header(stream: &mut TcpStream, peer: SocketAddr, from: &Proxied) -> Option<Option<Ends>> {
    if !from
        .networks
        .contains(crate::base::net::canonical(peer.ip()))
    {
        return None;
    }
    let read = read_header(stream);
    tokio::time::timeout(from.timeout, read)
        .await
        .ok()
        .flatten()
}

/// Only what is known to belong to the header is taken: behind it comes TLS, which reads the socket
/// itself.
async fn read_header(stream: &mut TcpStream) -> Option<Option<Ends>> {
    let mut bytes = [0; proxy_protocol::MOST_BYTES];
    let mut known = 0;
    loop {
        let seen = known + stream.peek(&mut bytes[known..]).await.ok()?;
        if seen == known {
            return None;
        }
        let (take, done) = match proxy_protocol::parse(&bytes[..seen]) {
            Preface::More => (seen, None),
            Preface::Done { len, ends } => (len, Some(ends)),
            Preface::Bad(why) => {
                log::debug!("PROXY header refused: {why}");
                return None;
            }
        };
        stream.read_exact(&mut bytes[known..take]).await.ok()?;
        known = take;
        if done.is_some() {
            return done;
        }
    }
}

/// What carries a connection through Pingora to the hooks of its requests; the way that works for
/// every protocol.
pub(super) fn carrier(conn: &Arc<Connection>) -> Option<ProxyDigest> {
    let header = ResponseHeader::build_no_case(200, Some(0)).ok()?;
    Some(ProxyDigest::new(
        Box::new(header),
        Some(Box::new(conn.clone())),
    ))
}
