//! Why TLS to a target fails, told to the operator; an answer says only that it does.

use super::pool::Endpoint;
use super::tls::Secure;
use crate::base::clock::Now;
use pingora::tls::ext::ssl_set_verify_cert_store;
use pingora::tls::ssl::{HandshakeError, SslConnector, SslMethod};
use pingora::tls::x509::store::X509StoreBuilder;
use pingora::{Error, ErrorType};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often the same target's trouble is told, in milliseconds: requests must not make the log the
/// bottleneck.
const EVERY_MS: u64 = 60_000;
/// For each step of asking a target why.
const LIMIT: Duration = Duration::from_secs(2);

/// When a target's trouble may be told next, in steady milliseconds.
#[derive(Debug, Default)]
pub struct Told(AtomicU64);

impl Told {
    /// Whether it is time; true once in [`EVERY_MS`].
    fn due(&self, now: Now) -> bool {
        let next = self.0.load(Relaxed);
        let then = now.steady_ms + EVERY_MS;
        let exchanged = || self.0.compare_exchange(next, then, Relaxed, Relaxed);
        now.steady_ms >= next && exchanged().is_ok()
    }
}

/// Tells of a request's handshake that failed, in the background and not of each one.
pub fn tell(upstream: &Arc<str>, endpoint: &Arc<Endpoint>, error: &Error, now: Now) {
    if !endpoint.told.due(now) {
        return;
    }
    let (upstream, endpoint) = (upstream.clone(), endpoint.clone());
    let (said, refused) = (error.to_string(), is_refusal(error));
    tokio::spawn(async move {
        let why = explain(&endpoint, said, refused).await;
        let (target, address) = (&endpoint.target, endpoint.address);
        log::warn!("upstream {upstream}: target {target} ({address}): TLS failed: {why}");
    });
}

/// Whether it is our verdict over a certificate.
pub fn is_refusal(error: &Error) -> bool {
    *error.etype() == ErrorType::InvalidCert
}

/// What is wrong, more exactly than the error `said` if that was a refused certificate: Pingora
/// tells that it was refused, but not why.
pub async fn explain(endpoint: &Arc<Endpoint>, said: String, refused: bool) -> String {
    let Some(secure) = endpoint.secure.clone().filter(|_| refused) else {
        return said;
    };
    let address = endpoint.address;
    let asked = tokio::task::spawn_blocking(move || verdict(address, &secure));
    asked.await.ok().flatten().unwrap_or(said)
}

/// Shakes hands once more to see what is wrong with a certificate; `None` if nothing is. Blocks.
fn verdict(address: SocketAddr, secure: &Secure) -> Option<String> {
    let stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    let connector = SslConnector::builder(SslMethod::tls()).ok()?.build();
    let mut handshake = connector.configure().ok()?;
    if let Some(authorities) = &secure.tls.authorities {
        let mut store = X509StoreBuilder::new().ok()?;
        for one in authorities.iter() {
            store.add_cert(one).ok()?;
        }
        ssl_set_verify_cert_store(&mut handshake, &store.build()).ok()?;
    }
    let name = secure.name.as_str();
    match handshake.connect(name, stream) {
        Err(HandshakeError::Failure(broken)) => {
            let why = broken.ssl().verify_result().err()?;
            Some(format!("certificate refused: {why} (asked for {name})"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_told_once_a_minute() {
        let told = Told::default();
        let due: Vec<bool> = [0, 1, 59_999, 60_000, 60_001, 200_000]
            .map(|ms| told.due(Now::at_ms(ms)))
            .into();
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
