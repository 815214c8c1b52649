//! WebSocket (RFC 6455): which requests may ask for it, and which answers switch to it. What passes
//! then is not looked at.

use super::{Ctx, Shared, choose};
use crate::exchange::refusal::Refusal;
use crate::observe::reason::Reason;
use crate::snapshot::Route;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use sha1::{Digest, Sha1};

/// What is switched to, as `Upgrade` names it.
pub const PROTOCOL: &str = "websocket";
/// Its version (RFC 6455 §4.1), the only one there is.
pub const VERSION: &str = "13";
/// What a service adds to the key to show that it has understood (RFC 6455 §1.3).
const UNIVERSAL: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that is good on the client's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// What a good answer holds in `Sec-WebSocket-Accept`.
    accept: String,
}

/// Whether a request asks for a WebSocket where the route has them. Whatever else `Upgrade` holds is
/// ignored, as RFC 9110 §7.8 allows.
pub fn asked(header: &RequestHeader, route: &Route) -> bool {
    let names = |value: &str| {
        let mut protocols = value.split(',').map(|p| p.split('/').next());
        protocols.any(|p| p.is_some_and(|p| p.trim().eq_ignore_ascii_case(PROTOCOL)))
    };
    let mut values = header.headers.get_all(UPGRADE).iter();
    route.websocket_ms.is_some()
        && header.version == Version::HTTP_11
        && values.any(|v| v.to_str().is_ok_and(names))
}

/// Judges a handshake (RFC 6455 §4.2.1). Leaves `Upgrade` in the header of a good one alone: what is
/// there goes on to the service.
///
/// # Errors
/// It is not a handshake, or of another version.
pub fn judge(header: &mut RequestHeader, asked: bool) -> Result<Option<Handshake>, Refusal> {
    if !header.headers.contains_key(UPGRADE) {
        return Ok(None);
    }
    let verdict = asked.then(|| handshake(header)).transpose();
    header.remove_header(&UPGRADE);
    let good = verdict?;
    if good.is_some() {
        let put = header.insert_header(UPGRADE, HeaderValue::from_static(PROTOCOL));
        put.map_err(|_| Refusal::new(Reason::InternalError))?;
    }
    Ok(good)
}

fn handshake(header: &RequestHeader) -> Result<Handshake, Refusal> {
    let bad = |why| Refusal::new(Reason::BadRequest).because(why);
    let fields = &header.headers;
    if header.method != Method::GET {
        return Err(bad("a WebSocket handshake is a GET"));
    }
    if !holds(fields, &UPGRADE, PROTOCOL) {
        return Err(bad("Upgrade holds more than websocket"));
    }
    if !options(fields).any(|o| o.eq_ignore_ascii_case(b"upgrade")) {
        return Err(bad("Connection does not name Upgrade"));
    }
    if options(fields).any(of_the_handshake) {
        return Err(bad("Connection names a field of the handshake"));
    }
    if fields.contains_key(CONTENT_LENGTH) || fields.contains_key(TRANSFER_ENCODING) {
        return Err(bad("a WebSocket handshake has no body"));
    }
    if !holds(fields, &SEC_WEBSOCKET_VERSION, VERSION) {
        return Err(Reason::WebSocketVersion.into());
    }
    let key = only(fields, &SEC_WEBSOCKET_KEY);
    let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16));
    let key = key.ok_or_else(|| bad("Sec-WebSocket-Key is not 16 bytes in Base64"))?;
    let accept = accept(key);
    Ok(Handshake { accept })
}

/// The answer to a key (RFC 6455 §4.2.2).
fn accept(key: &[u8]) -> String {
    STANDARD.encode(
        Sha1::new()
            .chain_update(key)
            .chain_update(UNIVERSAL)
            .finalize(),
    )
}

/// The value of a field that is there once.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = fields.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

fn holds(fields: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    only(fields, name).is_some_and(|v| v.eq_ignore_ascii_case(value.as_bytes()))
}

/// What `Connection` names.
fn options(fields: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = fields.get_all(CONNECTION).iter();
    let options = values.flat_map(|v| v.as_bytes().split(|b| *b == b','));
    options.map(<[u8]>::trim_ascii)
}

/// A field of the handshake that `Connection` names would be taken out on the way.
fn of_the_handshake(option: &[u8]) -> bool {
    let begin = option.get(..b"sec-websocket-".len());
    begin.is_some_and(|b| b.eq_ignore_ascii_case(b"sec-websocket-"))
}

/// The hook after a connection is made: its answer waits until the request is written.
pub fn connected(ctx: &Ctx) {
    if let Some(gate) = ctx.flight.as_ref().and_then(|f| f.gate.as_ref()) {
        gate.shut();
    }
}

/// The hook at a 101: opens the tunnel.
///
/// # Errors
/// Nobody asked for it, or it is no answer to what was asked (RFC 6455 §4.1).
pub fn switched(shared: &Shared, response: &ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let (Some(flight), Some(exchange)) = (&mut ctx.flight, &mut ctx.exchange) else {
        return Error::e_explain(ErrorType::InternalError, "no request");
    };
    let good = flight.handshake.as_ref().zip(flight.pause_ms);
    let good = good.filter(|(handshake, _)| answers(response, handshake));
    let Some((_, pause_ms)) = good else {
        let refusal = Refusal::new(Reason::UpstreamInvalid);
        exchange.refusal = Some(refusal.of(&flight.pool.spec.name));
        let error = Error::explain(ErrorType::InvalidHTTPHeader, "101 without an upgrade");
        return Err(error.into_up());
    };
    let now = shared.clock.now();
    flight.answered = true;
    exchange.times.first_byte_ns = now.since_ns(exchange.started);
    choose::settle(flight, false, now);
    exchange.conn.open_tunnel();
    exchange.conn.bound_by_idle(pause_ms);
    exchange.conn.moved(now);
    Ok(())
}

fn answers(response: &ResponseHeader, handshake: &Handshake) -> bool {
    let fields = &response.headers;
    let accept = only(fields, &SEC_WEBSOCKET_ACCEPT);
    response.version == Version::HTTP_11
        && holds(fields, &UPGRADE, PROTOCOL)
        && options(fields).any(|o| o.eq_ignore_ascii_case(b"upgrade"))
        && !options(fields).any(of_the_handshake)
        && accept.is_some_and(|a| a == handshake.accept.as_bytes())
}

/// Writes what goes from hop to hop into the 101; what the service wrote there is gone already.
///
/// # Errors
/// A field could not be written.
pub fn complete(response: &mut ResponseHeader) -> Result<()> {
    // A 101 has no body (RFC 9110 §15.2.2), and nothing to say of one.
    response.remove_header(&CONTENT_LENGTH);
    response.remove_header(&TRANSFER_ENCODING);
    response.insert_header(CONNECTION, HeaderValue::from_static("Upgrade"))?;
    response.insert_header(UPGRADE, HeaderValue::from_static(PROTOCOL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        let answer = accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455 §1.3");
    }

    fn request(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut header = RequestHeader::build("GET", b"/", None).expect("a request");
        for (name, value) in fields {
            header.append_header(*name, *value).expect("a field");
        }
        header
    }

    #[test]
    fn what_was_not_asked_for_is_dropped() {
        let mut header = request(&[("Upgrade", "h2c"), ("Upgrade", "websocket")]);
        assert_eq!(judge(&mut header, false).map_err(|r| r.reason), Ok(None));
        assert!(!header.headers.contains_key(UPGRADE));
    }

    #[test]
    fn a_handshake_leaves_one_upgrade_behind() {
        let mut header = request(&[
            ("Upgrade", "WebSocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let good = judge(&mut header, true).expect("a handshake");
        assert!(good.is_some());
        assert_eq!(header.headers.get(UPGRADE).expect("one"), PROTOCOL);
        header
            .append_header("Connection", "sec-WebSocket-key")
            .expect("a field");
        let bad = judge(&mut header, true).map_err(|r| r.reason);
        assert_eq!(bad, Err(Reason::BadRequest));
        assert!(
            !header.headers.contains_key(UPGRADE),
            "whatever becomes of it"
        );
    }
}
