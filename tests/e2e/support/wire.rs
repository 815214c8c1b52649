//! A blocking connection, plain or over TLS, for clients that write their bytes themselves.

use super::patience;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// So many bytes were appended.
    Bytes(usize),
    /// The other side has ended the connection.
    End,
    /// The connection was reset.
    Reset,
    /// It broke for another reason.
    Broken(String),
    /// Nothing came in time.
    Silence,
}

/// The connection.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Opens a plain connection.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        connect(address).map(Self::Plain)
    }

    /// Opens a connection and shakes hands.
    ///
    /// # Errors
    /// It cannot be opened, or the handshake fails.
    pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let mut tcp = connect(address)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(tls, tcp))))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }

    /// The protocol that was agreed on (ALPN).
    pub fn protocol(&self) -> Option<String> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => {
                let agreed = tls.conn.alpn_protocol()?;
                Some(String::from_utf8_lossy(agreed).into_owned())
            }
        }
    }

    /// Changes how long a read waits.
    pub fn wait_at_most(&self, time: Duration) {
        let _ = self.tcp().set_read_timeout(Some(time));
    }

    /// Writes all of it; false if the other side does not take it.
    pub fn put(&mut self, bytes: &[u8]) -> bool {
        let put = match self {
            Self::Plain(tcp) => tcp.write_all(bytes),
            Self::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
        put.is_ok()
    }

    /// Appends what comes next.
    pub fn get(&mut self, into: &mut Vec<u8>) -> Got {
        let mut part = [0; 32 * 1024];
        let read = match self {
            Self::Plain(tcp) => tcp.read(&mut part),
            Self::Tls(tls) => tls.read(&mut part),
        };
        match read {
            Ok(0) => Got::End,
            Ok(n) => {
                into.extend_from_slice(&part[..n]);
                Got::Bytes(n)
            }
            Err(e) => match e.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Got::Silence,
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Got::Reset,
                // TLS cut off without its goodbye.
                ErrorKind::UnexpectedEof => Got::End,
                _ => Got::Broken(e.to_string()),
            },
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(patience()))?;
    tcp.set_write_timeout(Some(patience()))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
