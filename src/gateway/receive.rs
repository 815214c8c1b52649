//! The first step: who is the client, what exactly is asked for. Works on header types alone, so
//! that it can run before a proxy session exists.

use super::{grpc, http2};
use crate::base::net::canonical;
use crate::exchange::Exchange;
use crate::exchange::refusal::Refusal;
use crate::observe::reason::Reason;
use crate::observe::trace::{self, TraceContext};
use crate::route::{host, path};
use crate::snapshot::Snapshot;
use http::header::HOST;
use http::{HeaderMap, HeaderName};
use pingora::http::RequestHeader;
use std::net::{IpAddr, SocketAddr};

/// Where a request id comes and goes.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// A client's certificate, and those that signed it (RFC 9440).
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// See [`CLIENT_CERT`].
pub const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// The addresses a request passed.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Fills the exchange from the header and takes out of the header what no client may send.
///
/// # Errors
/// The target or the host can be read in more than one way, or a gRPC call's deadline not at all.
pub fn receive(
    header: &mut RequestHeader,
    exchange: &mut Exchange,
    snapshot: &Snapshot,
) -> Result<(), Refusal> {
    exchange.method = header.method.clone();
    let (call, deadline) = grpc::call(header.version, &header.headers);
    exchange.call = call;
    if exchange.conn.is_stream() {
        http2::judge(header, &exchange.conn)?;
    }
    exchange.trusted_peer = snapshot.trusted_proxies.contains(exchange.client);
    if exchange.trusted_peer {
        exchange.client = client_behind(&header.headers, exchange.client, snapshot);
    }
    exchange.host = host_of(header)?;
    let terms = &exchange.conn.listener.terms;
    let covers = |host: &str| {
        exchange
            .conn
            .tls
            .as_ref()
            .is_none_or(|tls| tls.covers(host))
    };
    if terms.strict_host && !covers(&exchange.host) {
        return Err(Reason::Misdirected.into());
    }
    let Ok(path) = path::normalise(header.uri.path()) else {
        // As it came, for the log alone.
        exchange.path = header.uri.path().chars().take(256).collect();
        return Err(Reason::AmbiguousPath.into());
    };
    exchange.path = path.into_owned();
    drop_reserved(header, snapshot);
    deadline
}

/// The request id and the trace: the caller's if they are well-formed, else new ones.
pub fn identify(headers: &HeaderMap) -> (String, TraceContext) {
    let sent = single(headers, &REQUEST_ID).filter(|id| trace::accept_request_id(id));
    let id = sent.map_or_else(trace::new_request_id, str::to_owned);
    let trace = TraceContext::continue_or_start(single(headers, &TRACEPARENT));
    (id, trace)
}

/// The value of a field that came exactly once.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values
        .next()
        .is_none()
        .then(|| first.to_str().ok())
        .flatten()
}

fn host_of(header: &RequestHeader) -> Result<String, Refusal> {
    let authority = header.uri.authority().map(http::uri::Authority::as_str);
    let named = authority.or_else(|| single(&header.headers, &HOST));
    match named.map(host::normalise) {
        Some(Ok(host)) => Ok(host.into_owned()),
        _ => Err(Refusal::new(Reason::BadRequest).because("Host is not a host")),
    }
}

/// The rightmost address of `X-Forwarded-For` that is not a trusted proxy's: what stands left of
/// it anyone may have written.
fn client_behind(headers: &HeaderMap, peer: IpAddr, snapshot: &Snapshot) -> IpAddr {
    let mut client = peer;
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        let Ok(text) = value.to_str() else {
            return client;
        };
        for hop in text.rsplit(',') {
            let Some(hop) = address(hop.trim()) else {
                return client;
            };
            client = canonical(hop);
            if !snapshot.trusted_proxies.contains(client) {
                return client;
            }
        }
    }
    client
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let plain = bare.unwrap_or(text).parse().ok();
    plain.or_else(|| text.parse().ok().map(|a: SocketAddr| a.ip()))
}

/// Names that no client may send: a proof that only TLS can give.
const OURS: [HeaderName; 2] = [CLIENT_CERT, CLIENT_CERT_CHAIN];

/// Drops every name that is ours in any spelling.
fn drop_reserved(header: &mut RequestHeader, snapshot: &Snapshot) {
    let names = header.headers.keys();
    let ours: Vec<HeaderName> = names
        .filter(|name| snapshot.headers.reserved(name) || OURS.contains(name))
        .cloned()
        .collect();
    for name in &ours {
        header.remove_header(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_usual_form() {
        let v4: IpAddr = [192, 0, 2, 1].into();
        assert_eq!(address("192.0.2.1"), Some(v4));
        assert_eq!(address("192.0.2.1:4711"), Some(v4));
        let v6: Option<IpAddr> = "2001:db8::1".parse().ok();
        for text in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4711"] {
            assert_eq!(address(text), v6, "{text}");
        }
        for text in ["", "unknown", "_hidden", "192.0.2", "192.0.2.1,"] {
            assert_eq!(address(text), None, "{text:?}");
        }
    }
}
