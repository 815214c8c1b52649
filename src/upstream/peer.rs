//! How Pingora is told to reach an endpoint. The one place that makes an `HttpPeer`, so that none
//! goes without time limits, none resolves a name on a worker, and none that speaks TLS goes
//! without a name to verify.

use super::pool::{Protocol, Spec, TargetSpec, Timeouts};
use super::tls::Secure;
use pingora::protocols::tls::{ALPN, HandshakeCompleteHook};
use pingora::protocols::{Digest, TcpKeepalive};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};
use pingora::{Error, ErrorType, Result};
use std::any::Any;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How much later than the request its last read or write ends.
const SLACK: Duration = Duration::from_millis(200);
/// Requests at a time on one HTTP/2 connection; a target may ask for fewer.
const STREAMS: u32 = 100;
/// Bytes of an answer that a target may send ahead of its client. All of a connection's streams
/// together have room for as much each: a client that does not read must not hold up the others.
const AHEAD: u32 = 512 * 1024;
/// How long the other end of an HTTP/2 connection, which many requests share, may leave it unsaid
/// that anything arrives.
const UNHEARD: Duration = Duration::from_secs(15);
/// How often an HTTP/2 connection is asked for a sign of life, a last resort for what TCP does not
/// notice; it has 5 s to give one. Servers of gRPC take more than three such questions within five
/// minutes of silence for an attack, and end the connection with all its streams.
const PING: Duration = Duration::from_secs(330);

/// The peer of one endpoint, made once.
pub fn template(address: SocketAddr, spec: &Spec, target: &TargetSpec) -> HttpPeer {
    let mut peer = match &target.secure {
        None => HttpPeer::new(address, false, String::new()),
        Some(secure) => verified(address, secure),
    };
    peer.group_key = group(spec, target);
    let options = &mut peer.options;
    options.connection_timeout = Some(spec.timeouts.connect);
    options.total_connection_timeout = Some(spec.timeouts.connect);
    let step = spec.timeouts.read.unwrap_or(spec.timeouts.total);
    (options.read_timeout, options.write_timeout) = (Some(step), Some(step));
    options.idle_timeout = Some(spec.timeouts.idle);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    options.tcp_keepalive = Some(signs_of_life(spec.protocol));
    speak(options, spec.protocol);
    peer
}

/// A peer whose certificate must be good for its name; Pingora's own defaults verify both.
fn verified(address: SocketAddr, secure: &Secure) -> HttpPeer {
    let (name, tls) = (secure.name.as_str().to_owned(), &secure.tls);
    let mut peer = match &tls.client {
        None => HttpPeer::new(address, true, name),
        Some(pair) => HttpPeer::new_mtls(address, name, pair.clone()),
    };
    peer.options.ca.clone_from(&tls.authorities);
    peer.options.upstream_tls_handshake_complete_hook = Some(note_http2());
    peer
}

/// How the kernel notices a connection whose other end is gone without a word.
fn signs_of_life(protocol: Protocol) -> TcpKeepalive {
    TcpKeepalive {
        idle: Duration::from_secs(15),
        interval: Duration::from_secs(5),
        count: 3,
        // 0 is the system's own, some 15 min. On HTTP/1.1 a request has a connection to itself, and
        // time limits that end both; a target that pauses an upload is silent in the same way.
        user_timeout: match protocol {
            Protocol::Http1 => Duration::ZERO,
            Protocol::Http2 | Protocol::Auto => UNHEARD,
        },
    }
}

fn speak(options: &mut PeerOptions, protocol: Protocol) {
    match protocol {
        Protocol::Http1 => options.set_http_version(1, 1),
        Protocol::Http2 => options.set_http_version(2, 2),
        Protocol::Auto => options.set_http_version(2, 1),
    }
    options.max_h2_streams = STREAMS as usize;
    options.h2_ping_interval = Some(PING);
    options.h2_stream_window_size = Some(AHEAD);
    options.h2_connection_window_size = Some(AHEAD * STREAMS);
}

/// Upstreams never share connections: their settings may differ. Here is all that makes one
/// definition another and that Pingora does not compare itself.
fn group(spec: &Spec, target: &TargetSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    spec.name.hash(&mut hasher);
    spec.protocol.hash(&mut hasher);
    let mark = target.secure.as_ref().map(|secure| secure.tls.mark);
    mark.hash(&mut hasher);
    hasher.finish()
}

/// Left in the digest of a connection that agreed on HTTP/2 (ALPN).
struct Http2;

fn note_http2() -> HandshakeCompleteHook {
    Arc::new(|ssl| {
        let agreed = ssl.selected_alpn_protocol() == Some(b"h2");
        agreed.then(|| Arc::new(Http2) as Arc<dyn Any + Send + Sync>)
    })
}

/// Judges a connection before anything is sent on it. Pingora shakes hands from TLS 1.0 on, and
/// falls back to HTTP/1.1 whatever it was told.
///
/// # Errors
/// The handshake was older than TLS 1.2, or HTTP/2 is a must and was not agreed on.
pub fn judge(peer: &HttpPeer, digest: Option<&Digest>) -> Result<()> {
    if !peer.is_tls() {
        return Ok(());
    }
    let tls = digest.and_then(|d| d.ssl_digest.as_deref());
    let version = tls.map_or("", |t| &*t.version);
    let why = if !matches!(version, "TLSv1.2" | "TLSv1.3") {
        format!("the target speaks no TLS newer than {version:?}")
    } else if peer.options.alpn == ALPN::H2
        && tls.is_none_or(|t| t.extension.get::<Http2>().is_none())
    {
        "the target does not speak HTTP/2 (ALPN)".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::explain(ErrorType::TLSHandshakeFailure, why).into_up())
}

/// The template with its limits cut to what is left of the request's time.
pub fn within(template: &HttpPeer, timeouts: &Timeouts, left: Duration) -> HttpPeer {
    let mut peer = template.clone();
    let options = &mut peer.options;
    if left < timeouts.connect {
        options.connection_timeout = Some(left);
        options.total_connection_timeout = Some(left);
    }
    // The request's own limit is the one that counts, and says so; this ends what it cannot reach.
    let most = left + SLACK;
    let step = timeouts.read.map_or(most, |read| read.min(most));
    (options.read_timeout, options.write_timeout) = (Some(step), Some(step));
    peer
}

/// The template for one question that leaves no connection behind.
pub fn once(template: &HttpPeer, limit: Duration) -> HttpPeer {
    let mut peer = template.clone();
    let options = &mut peer.options;
    options.connection_timeout = Some(limit);
    options.total_connection_timeout = Some(limit);
    (options.read_timeout, options.write_timeout) = (Some(limit), Some(limit));
    // With room for a second stream Pingora would keep the connection for it.
    options.max_h2_streams = 1;
    options.h2_ping_interval = None;
    peer
}
