//! A connection to a service whose answer is not read before the request is known to be complete.
//!
//! Pingora 0.9.1 takes the end of the request's empty body for the end of the tunnel if it learns of
//! it after the 101: a service that answers at once loses its tunnel. So a handshake goes out on a
//! connection of its own, which hands out nothing until Pingora has finished writing the request.

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, Result};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Everything passes: a TLS handshake goes both ways before there is a request.
const OPEN: u8 = 0;
/// A request is being written; nothing is read.
const SHUT: u8 = 1;
/// Pingora has seen the end of its body; what it writes last is a flush.
const ENDING: u8 = 2;

/// Says when the answer may be read. Both ends are on one task: the lock is never waited for.
#[derive(Debug, Default)]
pub struct Gate {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    /// From here on nothing is read: the connection is made, the request not yet begun.
    pub fn shut(&self) {
        self.state.store(SHUT, Relaxed);
    }

    /// The request's body, which is empty, has ended; to be told before Pingora writes that end.
    pub fn ending(&self) {
        let _ = self.state.compare_exchange(SHUT, ENDING, Relaxed, Relaxed);
    }

    fn flushed(&self) {
        let opened = self.state.compare_exchange(ENDING, OPEN, Relaxed, Relaxed);
        if opened.is_ok()
            && let Some(waker) = self.kept().take()
        {
            waker.wake();
        }
    }

    fn poll_pass(&self, cx: &Context<'_>) -> Poll<()> {
        if self.state.load(Relaxed) == OPEN {
            return Poll::Ready(());
        }
        *self.kept() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the one connection that a gate stands in.
#[derive(Debug)]
pub struct Connect(pub Arc<Gate>);

#[async_trait]
impl L4Connect for Connect {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "not an IP address");
        };
        let tcp = ext::connect(address, None).await?;
        let gate = self.0.clone();
        Ok(VirtualSocketStream::new(Box::new(Held { tcp, gate })).into())
    }
}

/// A TCP connection behind a gate.
#[derive(Debug)]
struct Held {
    tcp: TcpStream,
    gate: Arc<Gate>,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.gate.poll_pass(cx));
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_flush(cx))?;
        self.gate.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl VirtualSocket for Held {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.tcp.set_nodelay(true),
            VirtualSockOpt::KeepAlive(times) => {
                ext::set_tcp_keepalive(&self.tcp, &times).map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A connection, and its other end, which has said `early`.
    async fn pair() -> (Held, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let tcp = TcpStream::connect(address).await.expect("connects");
        let (mut other, _) = listener.accept().await.expect("accepts");
        other.write_all(b"early").await.expect("writes");
        tcp.readable().await.expect("readable");
        let gate = Arc::new(Gate::default());
        (Held { tcp, gate }, other)
    }

    async fn pending(held: &mut Held) -> bool {
        let mut space = [0; 5];
        poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut space);
            Poll::Ready(Pin::new(&mut *held).poll_read(cx, &mut buf).is_pending())
        })
        .await
    }

    #[tokio::test]
    async fn nothing_is_read_before_the_request_is_written_to_its_end() {
        let (mut held, _other) = pair().await;
        held.gate.shut();
        assert!(pending(&mut held).await, "the request has not been written");
        held.write_all(b"GET").await.expect("writes");
        held.flush().await.expect("flushes");
        assert!(pending(&mut held).await, "its header, not its end");
        held.gate.ending();
        assert!(pending(&mut held).await, "Pingora has not written the end");
        held.flush().await.expect("flushes");
        let mut came = [0; 5];
        held.read_exact(&mut came).await.expect("reads");
        assert_eq!(&came, b"early");
        held.gate.ending();
        assert!(pending(&mut held).await, "there is no more");
        held.flush().await.expect("flushes");
    }

    #[tokio::test]
    async fn before_the_request_everything_passes() {
        let (mut held, _other) = pair().await;
        held.gate.ending();
        let mut came = [0; 5];
        held.read_exact(&mut came).await.expect("reads");
        assert_eq!(&came, b"early");
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let (mut held, _other) = pair().await;
        let gate = held.gate.clone();
        gate.shut();
        let reading = tokio::spawn(async move {
            let mut came = [0; 5];
            held.read_exact(&mut came).await.map(|_| came)
        });
        tokio::task::yield_now().await;
        gate.ending();
        gate.flushed();
        let came = reading.await.expect("no panic").expect("reads");
        assert_eq!(&came, b"early");
    }
}
