//! The first step: who is the client, what exactly is asked for. Works on header types alone, so
//! that it can run before a proxy session exists.

use super::{forwarded, grpc, http2};
use crate::base::clock::Now;
use crate::exchange::connection::Connection;
use crate::exchange::fields::{Field, Fields};
use crate::exchange::refusal::Refusal;
use crate::exchange::{Exchange, RequestId};
use crate::observe::reason::Reason;
use crate::observe::trace::{self, TraceContext};
use crate::route::{host, path};
use crate::snapshot::Snapshot;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method, Version};
use pingora::http::RequestHeader;
use std::sync::Arc;

/// Where a request id comes and goes.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// A client's certificate, and those that signed it (RFC 9440).
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// See [`CLIENT_CERT`].
pub const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// The path of a request that is about no path.
pub const WHOLE: &str = "*";

/// Fills the exchange from the header and takes out of the header what no client may send.
///
/// # Errors
/// The target or the host can be read in more than one way, a gRPC call's deadline not at all, the
/// request asks for what nobody does, or it has been here before.
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
        exchange.client = forwarded::client(&header.headers, exchange.client, snapshot);
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
    if asks_the_whole(header) {
        WHOLE.clone_into(&mut exchange.path);
        return Ok(());
    }
    let Ok(path) = path::normalise(header.uri.path()) else {
        // As it came, for the log alone.
        exchange.path = header.uri.path().chars().take(256).collect();
        return Err(Reason::AmbiguousPath.into());
    };
    exchange.path = path.into_owned();
    if exchange.fields.has(Field::Via) && snapshot.via.marks(&header.headers) {
        return Err(Reason::ProxyLoop.into());
    }
    if exchange.fields.has(Field::Expect) {
        expectation(header)?;
    }
    drop_reserved(header, snapshot);
    deadline
}

/// A request that just came in on `conn`: its id and its trace are the caller's if they are
/// well-formed, else new ones.
pub fn identify(headers: &HeaderMap, conn: Arc<Connection>, now: Now) -> Exchange {
    let fields = Fields::of(headers);
    let sent = |field, name: HeaderName| {
        let there = fields.has(field);
        there.then(|| single(headers, &name)).flatten()
    };
    let id = sent(Field::RequestId, REQUEST_ID).filter(|id| trace::accept_request_id(id));
    let id = id.and_then(|id| RequestId::new(id.to_owned()));
    let trace = TraceContext::continue_or_start(sent(Field::Traceparent, TRACEPARENT));
    let id = id.unwrap_or_else(RequestId::random);
    let mut exchange = Exchange::new(conn, now, id, trace);
    exchange.fields = fields;
    exchange
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

/// Whether the client sends no further request on this connection (RFC 9112 §9.6).
pub fn is_last(headers: &HeaderMap) -> bool {
    let options = headers.get_all(CONNECTION).iter();
    let mut options = options.flat_map(|v| v.as_bytes().split(|b| *b == b','));
    options.any(|o| o.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Nothing but `100-continue` can be expected of us, and that only where there is a body to wait
/// for (RFC 9110 §10.1.1).
fn expectation(header: &mut RequestHeader) -> Result<(), Refusal> {
    let mut expected = header.headers.get_all(EXPECT).iter();
    let Some(first) = expected.next() else {
        return Ok(());
    };
    let known = first.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !known || expected.next().is_some() {
        return Err(Reason::ExpectationFailed.into());
    }
    let length = header.headers.get(CONTENT_LENGTH);
    let empty = length.is_none_or(|v| v.as_bytes().iter().all(|b| *b == b'0'))
        && !header.headers.contains_key(TRANSFER_ENCODING);
    // An HTTP/2 body needs neither.
    if empty && header.version == Version::HTTP_11 {
        header.remove_header(&EXPECT);
    }
    Ok(())
}

/// Whether an `OPTIONS` asks about the gateway as a whole: `*`, or a URI without path and query, which
/// means the same (RFC 9112 §3.2.4).
fn asks_the_whole(header: &RequestHeader) -> bool {
    if header.method != Method::OPTIONS {
        return false;
    }
    let target = header.raw_path();
    let rest = memchr::memmem::find(target, b"://").map(|at| &target[at + 3..]);
    let bare = |rest: &[u8]| memchr::memchr2(b'/', b'?', rest).is_none();
    target == WHOLE.as_bytes() || (!target.starts_with(b"/") && rest.is_some_and(bare))
}

fn host_of(header: &RequestHeader) -> Result<String, Refusal> {
    let authority = header.uri.authority().map(http::uri::Authority::as_str);
    let named = authority.or_else(|| single(&header.headers, &HOST));
    match named.map(host::normalise) {
        Some(Ok(host)) => Ok(host.into_owned()),
        _ => Err(Refusal::new(Reason::BadRequest).because("Host is not a host")),
    }
}

/// Names that no client may send: a proof that only TLS can give.
const OURS: [HeaderName; 2] = [CLIENT_CERT, CLIENT_CERT_CHAIN];

/// Drops every name that is ours in any spelling.
fn drop_reserved(header: &mut RequestHeader, snapshot: &Snapshot) {
    let names = || header.headers.keys();
    if !snapshot.headers.any_reserved(names()) && !names().any(|name| OURS.contains(name)) {
        return;
    }
    let ours = |name: &HeaderName| snapshot.headers.reserved(name) || OURS.contains(name);
    let ours: Vec<HeaderName> = names().filter(|name| ours(name)).cloned().collect();
    for name in &ours {
        header.remove_header(name);
    }
}
