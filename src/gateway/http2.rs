//! What a request over HTTP/2 must keep besides what the library of the protocol looks at, so that
//! it is judged as one over HTTP/1.1 is (there [`crate::edge::head`] does it, on the bytes).

use super::receive;
use crate::exchange::connection::Connection;
use crate::exchange::refusal::Refusal;
use crate::observe::reason::Reason;
use crate::route::path;
use http::header::{CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use pingora::http::RequestHeader;

/// Judges a request header, and joins what HTTP/2 lets clients split.
///
/// # Errors
/// It breaks a rule of RFC 9113 §8 or a limit of the listener.
pub fn judge(header: &mut RequestHeader, conn: &Connection) -> Result<(), Refusal> {
    limits(header, conn)?;
    if matches!(header.method, Method::CONNECT | Method::TRACE) {
        return Err(
            Refusal::new(Reason::MethodUnsupported).because("CONNECT and TRACE are not served")
        );
    }
    match target(header)
        .and_then(|()| scheme(header, conn))
        .and_then(|()| fields(&header.headers))
    {
        Ok(()) => {
            join_cookies(header);
            Ok(())
        }
        Err(why) => Err(Refusal::new(Reason::BadRequest).because(why)),
    }
}

/// The same limits as for HTTP/1.1, counted as the field lines would be there.
fn limits(header: &RequestHeader, conn: &Connection) -> Result<(), Refusal> {
    let limits = &conn.listener.terms.head;
    let target = header.uri.path_and_query().map_or(0, |t| t.as_str().len());
    if target > limits.target {
        return Err(Refusal::new(Reason::UriTooLong).because("the request target is too long"));
    }
    let lines = header.headers.iter();
    let bytes: usize = lines.map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    if bytes + target > limits.bytes {
        return Err(
            Refusal::new(Reason::HeadersTooLarge).because("the request header is too large")
        );
    }
    if header.headers.len() > limits.fields {
        return Err(Refusal::new(Reason::HeadersTooLarge).because("too many header fields"));
    }
    Ok(())
}

/// RFC 9113 §8.3.1: a path, and nothing that HTTP/1.1 could not carry.
fn target(header: &RequestHeader) -> Result<(), &'static str> {
    let target = header.uri.path_and_query().map_or("", |t| t.as_str());
    let whole = target == receive::WHOLE && header.method == Method::OPTIONS;
    if !target.starts_with('/') && !whole {
        return Err("the request target is not a path");
    }
    if !target.bytes().all(path::may_stand_in_target) {
        return Err("an illegal byte in the request target");
    }
    Ok(())
}

/// What the connection itself is, or what a balancer in front of it has ended.
fn scheme(header: &RequestHeader, conn: &Connection) -> Result<(), &'static str> {
    match header.uri.scheme_str() {
        Some("https") | None => Ok(()),
        Some("http") if conn.tls.is_none() => Ok(()),
        _ => Err("the scheme is not the connection's"),
    }
}

/// RFC 9110 §5.1: names of token characters, as they are over HTTP/1.1. RFC 9113 §8.2.1: no space
/// around a value. RFC 9110 §8.6: one length, of digits.
fn fields(headers: &HeaderMap) -> Result<(), &'static str> {
    // The one that the library takes for a character of a token.
    if headers.keys().any(|name| name.as_str().contains('"')) {
        return Err("an illegal character in a field name");
    }
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let padded = |value: &HeaderValue| {
        let value = value.as_bytes();
        blank(value.first()) || blank(value.last())
    };
    if headers.values().any(padded) {
        return Err("a field value begins or ends with a space");
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(());
    };
    if lengths.next().is_some() {
        return Err("Content-Length is repeated");
    }
    let digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    if !digits {
        return Err("Content-Length is not a number of bytes");
    }
    Ok(())
}

/// RFC 9113 §8.2.3: what goes on as HTTP/1.1 must have one cookie field.
fn join_cookies(header: &mut RequestHeader) {
    let mut pieces = header.headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = header
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        // Only a name that the map refuses could fail.
        let _ = header.insert_header(COOKIE, joined);
    }
}
