//! How a connection ends so that its client still reads the answer: what is unread is read on for a
//! moment (RFC 9112 §9.6).

use super::transport::Transport;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long, and how much, a closed connection is still read so that its answer is not lost.
const LINGER: (Duration, u64) = (Duration::from_secs(2), 1024 * 1024);

/// What is held until then keeps the connection's place: it still has a socket.
pub(super) async fn linger<T>(transport: Transport, written: Vec<u8>, held: T) {
    let _ = tokio::time::timeout(LINGER.0, close(transport, &written)).await;
    drop(held);
}

async fn close(mut transport: Transport, written: &[u8]) -> io::Result<()> {
    transport.write_all(written).await?;
    transport.shutdown().await?;
    tokio::io::copy(&mut transport.take(LINGER.1), &mut tokio::io::sink()).await?;
    Ok(())
}
