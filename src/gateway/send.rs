//! The fourth step: the header as the upstream gets it. What a client could erase by naming it in
//! `Connection` is set here, after hop-by-hop fields are gone.

use super::forwarded::{self, joined};
use super::receive::{self, CLIENT_CERT, CLIENT_CERT_CHAIN, REQUEST_ID, TRACEPARENT};
use super::{Ctx, Shared, grpc, parts};
use crate::base::clock::Clock;
use crate::exchange::Exchange;
use crate::exchange::fields::Field;
use crate::exchange::refusal::Refusal;
use crate::identity::principal::Principal;
use crate::observe::reason::Reason;
use crate::snapshot::{IdentityHeaders, ListForm, Route, Snapshot};
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, InvalidHeaderValue, MAX_FORWARDS, TE, VIA,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};
use std::fmt::Write as _;
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
        let caller = if exchange.principal.is_some() {
            TOLD
        } else {
            0
        };
        request.headers.reserve(ADDED + caller);
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
            Some(principal) => tell_identity(request, principal, &snapshot.headers),
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
    if same && raw {
        return Ok(());
    }
    let target = match request.uri.query() {
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
    if route.authenticated {
        request.headers.remove(AUTHORIZATION);
    }
    for name in &snapshot.headers.credentials {
        request.headers.remove(name);
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

fn tell_identity(
    request: &mut Parts,
    principal: &Principal,
    names: &IdentityHeaders,
) -> Result<()> {
    let headers = &mut request.headers;
    let make = || identity(principal, names);
    principal.told.put(names.mark, make, |name, value| {
        headers.insert(name, value);
    })
}

/// The most fields that tell of a caller.
const TOLD: usize = 5;

fn identity(
    principal: &Principal,
    names: &IdentityHeaders,
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut fields = Vec::with_capacity(TOLD);
    let texts = [
        (&names.user, &principal.user),
        (&names.email, &principal.email),
        (&names.client, &principal.client_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            fields.push((name.clone(), value(encode(text))?));
        }
    }
    if !principal.scopes.is_empty() {
        let scopes = list(principal.scopes.iter(), names.scopes_form);
        fields.push((names.scopes.clone(), value(scopes)?));
    }
    if !principal.roles.is_empty() {
        let roles = list(principal.roles.iter().map(String::as_str), names.roles_form);
        fields.push((names.roles.clone(), value(roles)?));
    }
    Ok(fields)
}

fn list<'a>(items: impl Iterator<Item = &'a str>, form: ListForm) -> String {
    let join = |between: &str, items: Vec<String>| items.join(between);
    match form {
        ListForm::Space => join(" ", items.map(encode_item).collect()),
        ListForm::Comma => join(",", items.map(encode_item).collect()),
        ListForm::Json => {
            let mut out = String::from("[");
            for (i, item) in items.enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                json_string(item, &mut out);
            }
            out + "]"
        }
    }
}

/// A JSON string in ASCII, so that it fits a header.
fn json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// Percent-encodes what a header value must not hold: control characters, everything beyond ASCII,
/// and `%` itself, so that it can be undone. Spaces at either end, too: whoever reads a header drops
/// them (RFC 9110 §5.5), and `alice ` would be `alice`.
fn encode(text: &str) -> String {
    let outer = text.starts_with(' ') || text.ends_with(' ');
    encode_but(text, |b| {
        (b' '..0x7f).contains(&b) && b != b'%' && !(outer && b == b' ')
    })
}

/// As [`encode`]; in a list the separators are encoded too.
fn encode_item(text: &str) -> String {
    encode_but(text, |b| b.is_ascii_graphic() && b != b'%' && b != b',')
}

fn encode_but(text: &str, plain: impl Fn(u8) -> bool) -> String {
    if text.bytes().all(&plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for b in text.bytes() {
        if plain(b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

fn value(text: String) -> Result<HeaderValue> {
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

    #[test]
    fn lists_in_each_form() {
        let items = ["read:users", "a b", "ü\"\n"];
        let all = || items.iter().copied();
        assert_eq!(list(all(), ListForm::Space), "read:users a%20b %C3%BC\"%0A");
        assert_eq!(list(all(), ListForm::Comma), "read:users,a%20b,%C3%BC\"%0A");
        let json = list(all(), ListForm::Json);
        assert_eq!(json, r#"["read:users","a b","\u00fc\"\u000a"]"#);
        let back: Vec<String> = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!(back, items);
        assert_eq!(list([].into_iter(), ListForm::Json), "[]");
    }

    #[test]
    fn no_value_can_break_out_of_its_header() {
        assert_eq!(encode("alice"), "alice");
        assert_eq!(encode("a\r\nX-Admin: 1"), "a%0D%0AX-Admin: 1");
        assert_eq!(encode("50%"), "50%25");
        assert_eq!(encode("a b"), "a b");
        assert_eq!(encode("alice "), "alice%20");
        assert_eq!(encode("\u{7f}é"), "%7F%C3%A9");
    }
}
