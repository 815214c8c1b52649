//! How Pingora is told to reach an endpoint. The one place that makes an `HttpPeer`, so that none
//! goes without time limits, none resolves a name on a worker, and none that speaks TLS goes
//! without a name to verify.

use super::hold::{Connect, Gate};
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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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

/// Judges a connection before anything is sent on it. Pingora shakes hands from TLS 1.0 on and
/// with keys that are not forgotten, and falls back to HTTP/1.1 whatever it was told.
///
/// # Errors
/// What was agreed on is older than TLS 1.2, or has no forward secrecy (RFC 9325 §4.1), or HTTP/2 is
/// a must and was not agreed on.
pub fn judge(peer: &HttpPeer, digest: Option<&Digest>) -> Result<()> {
    if !peer.is_tls() {
        return Ok(());
    }
    let tls = digest.and_then(|d| d.ssl_digest.as_deref());
    let (version, cipher) = tls.map_or(("", ""), |t| (&*t.version, &*t.cipher));
    let modern = version == "TLSv1.3" || (version == "TLSv1.2" && cipher.starts_with("ECDHE-"));
    let http2 = || tls.is_some_and(|t| t.extension.get::<Http2>().is_some());
    let why = if !modern {
        format!("the target speaks nothing better than {version} with {cipher}")
    } else if peer.options.alpn == ALPN::H2 && !http2() {
        "the target does not speak HTTP/2 (ALPN)".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::explain(ErrorType::TLSHandshakeFailure, why).into_up())
}

/// The template with its limits cut to what is left of the request's time; where it is a `pause` that
/// bounds the exchange, each step has that long, and the upstream's own bound on steps does not count.
pub fn within(
    template: &HttpPeer,
    timeouts: &Timeouts,
    left: Duration,
    pause: Option<Duration>,
) -> HttpPeer {
    let mut peer = template.clone();
    let options = &mut peer.options;
    if left < timeouts.connect {
        options.connection_timeout = Some(left);
        options.total_connection_timeout = Some(left);
    }
    // The request's own limit is the one that counts, and says so; this ends what it cannot reach.
    let most = left + SLACK;
    let whole = || timeouts.read.map_or(most, |read| read.min(most));
    let step = pause.map_or_else(whole, |pause| beyond(pause.max(left)));
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

/// A limit of Pingora's that comes after our own, which alone knows what moves in the other direction.
pub fn beyond(own: Duration) -> Duration {
    own + Duration::from_secs(1)
}

/// Makes it a peer for one WebSocket handshake: a new connection behind a gate, which nobody uses
/// again. It speaks HTTP/1.1, and its request may ask for a WebSocket.
pub fn apart(peer: &mut HttpPeer, gate: Arc<Gate>) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = DefaultHasher::new();
    (peer.group_key, NEXT.fetch_add(1, Relaxed)).hash(&mut hasher);
    peer.group_key = hasher.finish();
    let options = &mut peer.options;
    options.custom_l4 = Some(Arc::new(Connect(gate)));
    options.set_http_version(1, 1);
    // After an answer other than 101 the connection is of no use either.
    options.idle_timeout = Some(Duration::from_millis(1));
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
}

#[cfg(test)]
mod tests {
    use super::super::pool::pool_for_tests;
    use super::super::tls::{Name, Tls};
    use super::*;
    use pingora::upstreams::peer::Peer;

    const TIMES: Timeouts = Timeouts {
        connect: Duration::from_secs(2),
        read: Some(Duration::from_secs(3)),
        total: Duration::from_secs(10),
        idle: Duration::from_secs(50),
    };

    fn plain() -> HttpPeer {
        HttpPeer::new(SocketAddr::from(([127, 0, 0, 1], 80)), false, String::new())
    }

    #[test]
    fn a_step_lasts_as_long_as_what_bounds_the_exchange() {
        let seconds = |left, pause: Option<u64>| {
            let left = Duration::from_secs(left);
            let peer = within(&plain(), &TIMES, left, pause.map(Duration::from_secs));
            assert_eq!(peer.options.read_timeout, peer.options.write_timeout);
            peer.options.read_timeout.map(|t| t.as_secs())
        };
        assert_eq!(seconds(10, None), Some(3));
        assert_eq!(seconds(1, None), Some(1), "cut to what is left");
        assert_eq!(
            seconds(10, Some(300)),
            Some(301),
            "our own limit comes first"
        );
        assert_eq!(
            seconds(10, Some(1)),
            Some(11),
            "the wait for the header, too"
        );
    }

    /// Also under one name: a reload may change what stands behind it.
    #[test]
    fn what_pingora_does_not_compare_keeps_connections_apart() {
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        let certificate = include_bytes!("../../tests/keys/test-rsa-a.cert.pem");
        let key = |protocol: Protocol, ca: Option<&[u8]>| {
            let pool = pool_for_tests(&["127.0.0.1:443"]);
            let mut spec = Arc::into_inner(pool).expect("the only one").spec;
            spec.protocol = protocol;
            spec.targets[0].secure = Some(Secure {
                name: Name::new("users.test").expect("a name"),
                tls: Arc::new(Tls::new(ca, None).expect("a certificate")),
            });
            template(address, &spec, &spec.targets[0]).reuse_hash()
        };
        let keys = [
            key(Protocol::Http1, None),
            key(Protocol::Http2, None),
            key(Protocol::Http2, Some(certificate)),
        ];
        assert_eq!(keys[0], key(Protocol::Http1, None));
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    }

    #[test]
    fn a_connection_for_a_handshake_is_nobody_elses() {
        let made = || {
            let mut peer = plain();
            apart(&mut peer, Arc::default());
            peer
        };
        let (one, other) = (made(), made());
        assert_ne!(one.reuse_hash(), other.reuse_hash());
        assert_ne!(one.reuse_hash(), plain().reuse_hash());
        assert!(one.options.idle_timeout < Some(Duration::from_secs(1)));
    }
}
