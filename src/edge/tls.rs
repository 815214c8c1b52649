//! placeholder until the branch lands
use crate::base::clock::Clock;
use crate::config::listener::ListenerConf;
use crate::config::{Fault as ConfFault, Spanned};
use crate::exchange::tls::TlsInfo;
use crate::observe::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
pub struct Tls;
pub struct Fault;
pub struct Loaded {
    pub by_listener: Vec<(Arc<str>, Arc<Tls>)>,
    pub warnings: Vec<ConfFault>,
}
pub fn load(_: &[Spanned<ListenerConf>], _: &Clock, _: &Metrics) -> Result<Loaded, Vec<ConfFault>> {
    Ok(Loaded {
        by_listener: vec![],
        warnings: vec![],
    })
}
impl Tls {
    pub async fn accept<S>(
        &self,
        _: S,
    ) -> Result<(pingora::tls::tokio_ssl::SslStream<S>, TlsInfo), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        Err(Fault)
    }
    pub fn handshake_timeout(&self) -> Duration {
        Duration::ZERO
    }
    pub fn timed_out(&self) {}
    pub fn strict_host(&self) -> bool {
        false
    }
    pub fn forwards_client_certificate(&self) -> bool {
        false
    }
}
