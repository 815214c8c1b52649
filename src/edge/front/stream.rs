//! What Pingora asks of a client's stream besides its bytes.

use super::Front;
use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID,
};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

#[async_trait]
impl Shutdown for Front {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Front {
    fn id(&self) -> i32 {
        i32::try_from(self.conn.slot.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or(-1)
    }
}

impl Ssl for Front {}

impl Peek for Front {}

impl GetTimingDigest for Front {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Front {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.digest.clone()
    }
}

impl GetSocketDigest for Front {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}
