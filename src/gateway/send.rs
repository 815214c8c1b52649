//! The fourth step: the header as the upstream gets it. What a client could erase by naming it in
//! `Connection` is set here, after hop-by-hop fields are gone.

use super::receive::{CLIENT_CERT, CLIENT_CERT_CHAIN, FORWARDED_FOR, REQUEST_ID, TRACEPARENT};
use super::{Ctx, Shared, grpc};
use crate::exchange::Exchange;
use crate::exchange::refusal::Refusal;
use crate::identity::principal::Principal;
use crate::observe::reason::Reason;
use crate::snapshot::{IdentityHeaders, ListForm, Route, Snapshot};
use bytes::Bytes;
use http::header::{AUTHORIZATION, FORWARDED, HOST, TE};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};
use std::fmt::Write as _;
use std::time::Duration;

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What tells of the way a request came; believed from trusted proxies alone.
const ORIGIN: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-real-ip"),
    FORWARDED,
];

/// The hook: completes the header of one attempt.
///
/// # Errors
/// A value cannot be written into a header, or there is no request.
pub fn prepare(request: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let (Some(exchange), Some(snapshot)) = (&ctx.exchange, &ctx.snapshot) else {
        return Error::e_explain(ErrorType::InternalError, "no request");
    };
    let Some(route) = exchange.route.as_ref().map(|r| &snapshot.routes[r.index]) else {
        return Error::e_explain(ErrorType::InternalError, "no route");
    };
    retarget(request, exchange, route)?;
    strip_credentials(request, route, snapshot);
    tell_origin(request, exchange)?;
    trace(request, exchange)?;
    tell_certificate(request, exchange)?;
    if let Some(principal) = &exchange.principal {
        tell_identity(request, principal, &snapshot.headers)?;
    }
    Ok(())
}

/// The path that was matched, and no other, without the route's prefix where it is cut off; the
/// query byte for byte.
fn retarget(request: &mut RequestHeader, exchange: &Exchange, route: &Route) -> Result<()> {
    keep_host(request)?;
    let path = if route.strip {
        route.pattern.strip(&exchange.path)
    } else {
        &exchange.path
    };
    let same = request.uri.authority().is_none() && request.uri.path() == path;
    if same && request.raw_path().starts_with(b"/") {
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
    request.set_uri(Uri::from(target));
    Ok(())
}

/// A client of HTTP/2 names the host in `:authority` (RFC 9113 §8.3.1), which a new target would lose.
fn keep_host(request: &mut RequestHeader) -> Result<()> {
    let named = request.uri.authority().map(|a| a.as_str().to_owned());
    match named.filter(|_| !request.headers.contains_key(HOST)) {
        Some(host) => request.insert_header(HOST, value(host)?),
        None => Ok(()),
    }
}

fn strip_credentials(request: &mut RequestHeader, route: &Route, snapshot: &Snapshot) {
    if route.authenticated {
        request.remove_header(&AUTHORIZATION);
    }
    for name in &snapshot.headers.credentials {
        if request.headers.contains_key(name) {
            request.remove_header(name);
        }
    }
}

/// Says where the request comes from: appended to what a trusted proxy said, else instead of what
/// the client said.
fn tell_origin(request: &mut RequestHeader, exchange: &Exchange) -> Result<()> {
    let peer = crate::base::net::canonical(exchange.conn.peer.ip());
    if !exchange.trusted_peer {
        for name in ORIGIN.iter().chain([&FORWARDED_PROTO, &FORWARDED_HOST]) {
            if request.headers.contains_key(name) {
                request.remove_header(name);
            }
        }
    }
    let before = exchange
        .trusted_peer
        .then(|| joined(request, &FORWARDED_FOR))
        .flatten();
    let hops = match before {
        Some(before) => format!("{before}, {peer}"),
        None => peer.to_string(),
    };
    request.insert_header(FORWARDED_FOR, value(hops)?)?;
    if !request.headers.contains_key(&FORWARDED_PROTO) {
        let proto = if exchange.conn.is_tls() {
            "https"
        } else {
            "http"
        };
        request.insert_header(FORWARDED_PROTO, HeaderValue::from_static(proto))?;
    }
    if !request.headers.contains_key(&FORWARDED_HOST)
        && let Some(host) = request.headers.get(HOST).cloned()
    {
        request.insert_header(FORWARDED_HOST, host)?;
    }
    Ok(())
}

/// All values of a field as one list (RFC 9110 §5.3).
fn joined(request: &RequestHeader, name: &HeaderName) -> Option<String> {
    let values = request.headers.get_all(name).iter();
    let texts: Vec<&str> = values.filter_map(|v| v.to_str().ok()).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn trace(request: &mut RequestHeader, exchange: &Exchange) -> Result<()> {
    request.insert_header(REQUEST_ID, value(exchange.request_id.clone())?)?;
    let state = joined(request, &TRACESTATE);
    let kept = state
        .as_deref()
        .and_then(|s| exchange.trace.forward_tracestate(s));
    match kept {
        Some(kept) => request.insert_header(TRACESTATE, value(kept.to_owned())?)?,
        None if state.is_some() => {
            request.remove_header(&TRACESTATE);
        }
        None => (),
    }
    request.insert_header(TRACEPARENT, value(exchange.trace.to_header().to_owned())?)
}

/// The client's certificate (RFC 9440), where the listener is told to hand it on.
fn tell_certificate(request: &mut RequestHeader, exchange: &Exchange) -> Result<()> {
    if !exchange.conn.listener.terms.forward_certificate {
        return Ok(());
    }
    let Some(client) = exchange.conn.tls.as_ref().and_then(|t| t.client.as_ref()) else {
        return Ok(());
    };
    request.insert_header(CLIENT_CERT, value(client.field())?)?;
    match client.chain_field() {
        Some(chain) => request.insert_header(CLIENT_CERT_CHAIN, value(chain)?),
        None => Ok(()),
    }
}

fn tell_identity(
    request: &mut RequestHeader,
    principal: &Principal,
    headers: &IdentityHeaders,
) -> Result<()> {
    let texts = [
        (&headers.user, &principal.user),
        (&headers.email, &principal.email),
        (&headers.client, &principal.client_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            request.insert_header(name.clone(), value(encode(text))?)?;
        }
    }
    if !principal.scopes.is_empty() {
        let scopes = list(principal.scopes.iter(), headers.scopes_form);
        request.insert_header(headers.scopes.clone(), value(scopes)?)?;
    }
    if !principal.roles.is_empty() {
        let roles = list(
            principal.roles.iter().map(String::as_str),
            headers.roles_form,
        );
        request.insert_header(headers.roles.clone(), value(roles)?)?;
    }
    Ok(())
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
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .map_err(|e| Error::because(ErrorType::InternalError, "a header value", e))
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
pub fn body(shared: &Shared, body: Option<&Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    ctx.bytes_in += body.map_or(0, |bytes| bytes.len() as u64);
    let (Some(exchange), Some(flight)) = (&mut ctx.exchange, &ctx.flight) else {
        return Ok(());
    };
    let conn = &exchange.conn;
    if conn.is_bound_by_idle() {
        let now = shared.clock.now();
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
