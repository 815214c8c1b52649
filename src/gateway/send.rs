//! The fourth step: the header as the upstream gets it. What a client could erase by naming it in
//! `Connection` is set here, after hop-by-hop fields are gone.

use super::forwarded::{self, joined};
use super::receive::{self, CLIENT_CERT, CLIENT_CERT_CHAIN, REQUEST_ID, TRACEPARENT};
use super::{Ctx, Shared, grpc, identity, parts};
use crate::base::clock::Clock;
use crate::exchange::Exchange;
use crate::exchange::fields::Field;
use crate::exchange::refusal::Refusal;
use crate::filter::auth::credential;
use crate::observe::reason::Reason;
use crate::snapshot::{Ends, Route, Snapshot};
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, InvalidHeaderValue, MAX_FORWARDS, TE, VIA,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};
use std::borrow::Cow;
use std::time::Duration;

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The hook: completes the header of one attempt, for a request that came in `version`.
///
/// # Errors
/// A value cannot be written into a header, or there is no request.
pub fn prepare(request: &mut RequestHeader, version: Version, ctx: &Ctx) -> Result<()> {
    let (Some(exchange), Some(snapshot)) = (&ctx.exchange, &ctx.snapshot) else {
        return Error::e_explain(ErrorType::InternalError, "no request");
    };
    let Some(route) = exchange.route.as_ref().map(|r| &snapshot.routes[r.index]) else {
        return Error::e_explain(ErrorType::InternalError, "no route");
    };
    let raw = request.raw_path().starts_with(b"/");
    parts::of_request(request, |request| {
        // Room for what is added, so that the map grows at most once.
        let caller = exchange.principal.as_ref();
        let told = caller.map_or(0, |_| identity::TOLD + snapshot.headers.claims.len());
        request.headers.reserve(ADDED + told);
        retarget(request, exchange, route, raw)?;
        strip_credentials(request, route, snapshot);
        forwarded::tell(request, exchange, snapshot)?;
        request
            .headers
            .append(VIA, written(snapshot.via.value(version))?);
        if exchange.fields.has(Field::ContentLength)
            && let Some(length) = plain_length(&request.headers)
        {
            request.headers.insert(CONTENT_LENGTH, length.into());
        }
        if exchange.fields.has(Field::MaxForwards) {
            count_hop(request);
        }
        trace(request, exchange)?;
        tell_certificate(request, exchange)?;
        match &exchange.principal {
            Some(principal) => identity::tell(request, principal, &snapshot.headers),
            None => Ok(()),
        }
    })
}

/// Fields that most requests are given.
const ADDED: usize = 8;

/// The path that was matched, and no other, without the route's prefix where it is cut off; the
/// query byte for byte. `raw`: the target came as a path.
fn retarget(request: &mut Parts, exchange: &Exchange, route: &Route, raw: bool) -> Result<()> {
    keep_host(request)?;
    let path = if route.strip {
        route.pattern.strip(&exchange.path)
    } else {
        &exchange.path
    };
    let same = request.uri.authority().is_none() && request.uri.path() == path;
    let keys = match route.ends {
        Ends::Nothing => &[],
        Ends::All | Ends::Keys => &*route.key_parameters,
    };
    if same && raw && keys.is_empty() {
        return Ok(());
    }
    let query = request.uri.query().and_then(|query| match keys {
        [] => Some(Cow::Borrowed(query)),
        keys => credential::without(query, keys).map(Cow::Owned),
    });
    let target = match query {
        Some(query) => PathAndQuery::from_maybe_shared(Bytes::from(format!("{path}?{query}"))),
        None => PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(path.as_bytes())),
    };
    let target = target.map_err(|e| {
        Error::because(
            ErrorType::InternalError,
            "a path that cannot be forwarded",
            e,
        )
    })?;
    request.uri = Uri::from(target);
    Ok(())
}

/// A client of HTTP/2 names the host in `:authority` (RFC 9113 §8.3.1), which a new target would lose.
fn keep_host(request: &mut Parts) -> Result<()> {
    let named = request.uri.authority().map(|a| a.as_str().to_owned());
    if let Some(host) = named.filter(|_| !request.headers.contains_key(HOST)) {
        request.headers.insert(HOST, value(host)?);
    }
    Ok(())
}

/// One hop fewer for an `OPTIONS` that says how many are left (RFC 9110 §7.6.2).
fn count_hop(request: &mut Parts) {
    let left = receive::single(&request.headers, &MAX_FORWARDS).and_then(|n| n.parse().ok());
    if let Some(n) = left.filter(|_| request.method == Method::OPTIONS) {
        let fewer = u64::saturating_sub(n, 1);
        request.headers.insert(MAX_FORWARDS, fewer.into());
    }
}

/// Leading zeros are legal in a length and octal to some: what it is without them, where it has any.
pub fn plain_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let padded = length.filter(|l| l.len() > 1 && l[0] == b'0')?;
    std::str::from_utf8(padded).ok()?.parse().ok()
}

fn strip_credentials(request: &mut Parts, route: &Route, snapshot: &Snapshot) {
    if route.ends == Ends::All {
        request.headers.remove(AUTHORIZATION);
    }
    if route.ends != Ends::Nothing {
        for name in &snapshot.headers.credentials {
            request.headers.remove(name);
        }
    }
}

fn trace(request: &mut Parts, exchange: &Exchange) -> Result<()> {
    let headers = &mut request.headers;
    headers.insert(REQUEST_ID, exchange.request_id.value());
    if exchange.fields.has(Field::Tracestate) {
        let state = joined(headers, &TRACESTATE);
        let kept = state
            .as_deref()
            .and_then(|s| exchange.trace.forward_tracestate(s));
        match kept {
            Some(kept) => drop(headers.insert(TRACESTATE, value(kept.to_owned())?)),
            None => drop(headers.remove(TRACESTATE)),
        }
    }
    let parent = HeaderValue::from_str(exchange.trace.to_header());
    headers.insert(TRACEPARENT, written(parent)?);
    Ok(())
}

/// The client's certificate (RFC 9440), where the listener is told to hand it on.
fn tell_certificate(request: &mut Parts, exchange: &Exchange) -> Result<()> {
    if !exchange.conn.listener.terms.forward_certificate {
        return Ok(());
    }
    let Some(client) = exchange.conn.tls.as_ref().and_then(|t| t.client.as_ref()) else {
        return Ok(());
    };
    let headers = &mut request.headers;
    headers.insert(CLIENT_CERT, value(client.field())?);
    if let Some(chain) = client.chain_field() {
        headers.insert(CLIENT_CERT_CHAIN, value(chain)?);
    }
    Ok(())
}

/// A text as the value of a header.
///
/// # Errors
/// It can be none.
pub fn value(text: String) -> Result<HeaderValue> {
    written(HeaderValue::from_maybe_shared(Bytes::from(text)))
}

/// A header value, or the fault that it is none.
pub fn written(value: std::result::Result<HeaderValue, InvalidHeaderValue>) -> Result<HeaderValue> {
    value.map_err(|e| Error::because(ErrorType::InternalError, "a header value", e))
}

/// What a gRPC call has besides: that trailers reach the client, and how long it still has, so that a
/// service does not work on for nobody.
///
/// # Errors
/// None that can happen: a duration fits a header.
pub fn tell_call(shared: &Shared, request: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let (Some(exchange), Some(flight)) = (&ctx.exchange, &ctx.flight) else {
        return Ok(());
    };
    if exchange.call.is_none() {
        return Ok(());
    }
    request.insert_header(TE, HeaderValue::from_static("trailers"))?;
    // Where pauses are bounded, the whole is not.
    let whole = flight.pause_ms.is_none();
    let total = whole.then(|| Duration::from_millis(flight.total_ms));
    match grpc::timeout(exchange, shared.clock.now(), total) {
        Some((name, text)) => request.insert_header(name, value(text)?),
        None => Ok(()),
    }
}

/// The hook: counts the body as it comes.
///
/// # Errors
/// The body is larger than the route takes.
pub fn body(clock: &Clock, body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    // An HTTP/2 body may end in an empty frame. Written to an HTTP/1 service it would be a last
    // chunk, and the end behind it a second one: a request that nobody sent.
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
    ctx.bytes_in += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
    let (Some(exchange), Some(flight)) = (&mut ctx.exchange, &ctx.flight) else {
        return Ok(());
    };
    let conn = &exchange.conn;
    if conn.is_bound_by_idle() {
        let now = clock.now();
        if end && !flight.answered {
            // The request is complete: from here on the service is waited for.
            conn.bound_by_idle(0);
            conn.limit(now, flight.total_ms);
        } else {
            conn.moved(now);
        }
    }
    if let (true, Some(gate)) = (end, &flight.gate) {
        gate.ending();
    }
    let Some(snapshot) = ctx.snapshot.as_ref().filter(|_| !conn.is_tunnel()) else {
        return Ok(());
    };
    let route = exchange.route.as_ref().map(|r| &snapshot.routes[r.index]);
    if route.is_some_and(|r| ctx.bytes_in > r.max_body) {
        exchange.refusal = Some(Refusal::new(Reason::BodyTooLarge));
        let error = Error::explain(ErrorType::HTTPStatus(413), "the body is too large");
        return Err(error.into_down());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An HTTP/2 body that ends in an empty frame came to an HTTP/1.1 service with two last chunks,
    /// the second of them a request that nobody had sent.
    #[test]
    fn an_empty_last_piece_is_no_chunk() {
        let passed = |piece: Option<&'static str>, end: bool| {
            let (mut piece, mut ctx) = (piece.map(Bytes::from), Ctx::default());
            body(&Clock::system(), &mut piece, end, &mut ctx).expect("no limit");
            (piece, ctx.bytes_in)
        };
        assert_eq!(passed(Some(""), true), (None, 0));
        assert_eq!(passed(None, true), (None, 0));
        assert_eq!(passed(Some("x"), true), (Some("x".into()), 1));
        assert_eq!(passed(Some("x"), false), (Some("x".into()), 1));
    }
}
