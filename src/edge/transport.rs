//! What carries the bytes of a client connection: TCP, TLS over TCP, or a Unix socket.

use pingora::tls::error::ErrorStack;
use pingora::tls::tokio_ssl::SslStream;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What carries the bytes.
#[derive(Debug)]
pub enum Transport {
    /// A TCP connection.
    Tcp(TcpStream),
    /// TLS, agreed on.
    Tls(Box<SslStream<TcpStream>>),
    /// A Unix socket connection (the admin port).
    Unix(UnixStream),
}

/// The library keeps its errors by thread: what another connection left there would be taken for
/// an error of this one.
fn clean() {
    let _ = ErrorStack::get();
}

impl Transport {
    /// Whether several slices leave in one call; TLS makes a record of each.
    pub fn gathers(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }

    /// Whether the client has closed its side; takes nothing of plain TCP, where it can be looked
    /// at. What is read of TLS is put into `rest`. Over a Unix socket it is not asked.
    pub fn poll_gone(
        &mut self,
        cx: &mut Context<'_>,
        rest: &mut bytes::BytesMut,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0u8; 512];
        let n = match self {
            Self::Unix(_) => return Poll::Pending,
            Self::Tcp(tcp) => ready!(tcp.poll_peek(cx, &mut ReadBuf::new(&mut bytes[..1])))?,
            Self::Tls(_) => {
                let mut buf = ReadBuf::new(&mut bytes);
                ready!(Pin::new(&mut *self).poll_read(cx, &mut buf))?;
                rest.extend_from_slice(buf.filled());
                buf.filled().len()
            }
        };
        match n {
            0 => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// Makes the drop reset the connection: what the client did not read is not kept for it.
    pub fn abandon(&self) {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref(),
            Self::Unix(_) => return,
        };
        let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => {
                clean();
                Pin::new(&mut **s).poll_read(cx, buf)
            }
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => {
                clean();
                Pin::new(&mut **s).poll_write(cx, buf)
            }
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // For one slice the kernel need not read a list.
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            tls @ Self::Tls(_) => {
                let first = bufs.iter().find(|b| !b.is_empty());
                Pin::new(tls).poll_write(cx, first.map_or(&[], |b| b))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.gathers()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // None of them holds anything back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => {
                clean();
                Pin::new(&mut **s).poll_shutdown(cx)
            }
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
