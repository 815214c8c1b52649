//! The sixth step: the upstream's answer on its way back.

use super::limits::limit_fields;
use super::receive::REQUEST_ID;
use super::send::{plain_length, written};
use super::{Ctx, Shared, choose, grpc, parts, tunnel};
use crate::breaker::Permit;
use crate::exchange::call::Call;
use crate::exchange::fields::{Field, Fields, is_hop_by_hop};
use crate::exchange::refusal::Refusal;
use crate::observe::reason::Reason;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use std::time::Duration;

/// The statuses by which a service says that it is in trouble; 4xx are the client's.
const FAILURES: [u16; 4] = [500, 502, 503, 504];

/// The hook: the header of an answer has come.
///
/// # Errors
/// A switch of protocols that was not asked for, or a length that can be read in two ways.
pub fn received(shared: &Shared, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let status = response.status.as_u16();
    if status == 101 {
        return tunnel::switched(shared, response, ctx);
    }
    let now = shared.clock.now();
    let seen = Fields::of(&response.headers);
    if let Err(why) = framing(response, seen) {
        return refuse(ctx, why);
    }
    settle(response, seen, ctx)?;
    let Some(flight) = &mut ctx.flight else {
        return Ok(());
    };
    if response.status.is_informational() {
        return Ok(());
    }
    flight.answered = true;
    if let Some(exchange) = &mut ctx.exchange {
        exchange.times.first_byte_ns = now.since_ns(exchange.started);
        if let (Some(pause_ms), None) = (flight.pause_ms, &flight.handshake) {
            exchange.conn.bound_by_idle(pause_ms);
            exchange.conn.moved(now);
        }
    }
    let call = ctx.exchange.as_mut().and_then(|e| e.call.as_mut());
    let said = call.map(|call| conclusion(call, &response.headers));
    let failed = FAILURES.contains(&status) || said == Some(Conclusion::Failed);
    // A probe is judged by the header, since a long answer must not keep its place, and so is what may
    // last for hours; a gRPC call's header says nothing yet, unless both hold. Any other request is
    // judged at its end, so that one that breaks off later counts once, as a failure.
    let says_all = status != 200 || said != Some(Conclusion::None);
    let long = flight.pause_ms.is_some();
    let probe = flight.permit.as_ref().is_some_and(Permit::is_probe);
    if failed || (says_all && (long || probe)) || (long && probe) {
        choose::settle(flight, failed, now);
    }
    Ok(())
}

/// What a gRPC status says of the service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conclusion {
    /// Nothing: there is no status yet.
    None,
    /// It is well.
    Well,
    /// It is in trouble.
    Failed,
}

/// Notes the status of a call, if these fields have it.
fn conclusion(call: &mut Call, fields: &HeaderMap) -> Conclusion {
    match grpc::told(fields) {
        None => Conclusion::None,
        Some(status) => {
            call.status = Some(status);
            if grpc::is_failure(call, status) {
                Conclusion::Failed
            } else {
                Conclusion::Well
            }
        }
    }
}

/// The hook: the trailers of an answer have come. Those of a gRPC call say whether the service is
/// well; a success is told at the end, like any.
pub fn concluded(shared: &Shared, trailers: &HeaderMap, ctx: &mut Ctx) {
    let call = ctx.exchange.as_mut().and_then(|e| e.call.as_mut());
    let failed = call.map(|call| conclusion(call, trailers)) == Some(Conclusion::Failed);
    let Some(flight) = ctx.flight.as_mut().filter(|_| failed) else {
        return;
    };
    choose::settle(flight, true, shared.clock.now());
}

/// Whether everybody reads the same length (RFC 9112 §6.3). What says both a length and a coding
/// has been read by the coding, and the length is gone.
fn framing(response: &ResponseHeader, seen: Fields) -> std::result::Result<(), &'static str> {
    if !seen.has(Field::TransferEncoding) && !seen.has(Field::ContentLength) {
        return Ok(());
    }
    let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !codings.next().is_none_or(chunked) || codings.next().is_some() {
        return Err("a transfer coding other than chunked");
    }
    let mut lengths = response.headers.get_all(CONTENT_LENGTH).iter();
    let digits = |v: &HeaderValue| v.as_bytes().iter().all(u8::is_ascii_digit);
    if !lengths.next().is_none_or(digits) || lengths.next().is_some() {
        return Err("a Content-Length that is not one number");
    }
    Ok(())
}

/// Ends an attempt whose answer cannot be passed on, and with it the connection it came on.
fn refuse(ctx: &mut Ctx, why: &'static str) -> Result<()> {
    if let (Some(exchange), Some(flight)) = (&mut ctx.exchange, &ctx.flight) {
        let refusal = Refusal::new(Reason::UpstreamInvalid);
        exchange.refusal = Some(refusal.of(&flight.pool.spec.name));
    }
    Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up())
}

/// What the header may not hold on its way to the client, and that it has been here.
fn settle(response: &mut ResponseHeader, seen: Fields, ctx: &Ctx) -> Result<()> {
    parts::of_response(response, |response| {
        // With what is added further on the map grows at most once.
        response.headers.reserve(ADDED);
        drop_hop_by_hop(&mut response.headers, seen);
        // RFC 9112 §6.1, RFC 9110 §8.6: none of these has a body to measure.
        let headers = &mut response.headers;
        if response.status.is_informational() || response.status.as_u16() == 204 {
            headers.remove(TRANSFER_ENCODING);
            headers.remove(CONTENT_LENGTH);
        }
        if seen.has(Field::TransferEncoding) && headers.contains_key(TRANSFER_ENCODING) {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if seen.has(Field::ContentLength)
            && let Some(length) = plain_length(headers)
        {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let Some(snapshot) = &ctx.snapshot else {
            return Ok(());
        };
        headers.append(VIA, written(snapshot.via.value(response.version))?);
        // An interim answer is none yet.
        if !response.status.is_informational() {
            tell(headers, response.status.as_u16(), ctx);
        }
        Ok(())
    })
}

/// What the client is told besides: of its limit, and by which name to ask about its request.
fn tell(headers: &mut HeaderMap, status: u16, ctx: &Ctx) {
    if let Some(exchange) = &ctx.exchange {
        limit_fields(exchange, status, |name, value| {
            headers.insert(name, value);
        });
        headers.insert(REQUEST_ID, exchange.request_id.value());
    }
}

/// Fields that most answers are given; with more, the map of many would grow for nothing.
const ADDED: usize = 6;

/// The hook: completes the header of an answer.
///
/// # Errors
/// A header value could not be written.
pub fn prepare(session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    // An older service's answer is ours once we pass it on (RFC 9112 §2.3).
    if response.version < Version::HTTP_11 {
        response.set_version(Version::HTTP_11);
    }
    if response.status.as_u16() == 101 {
        parts::of_response(response, |response| {
            let seen = Fields::of(&response.headers);
            drop_hop_by_hop(&mut response.headers, seen);
            tell(&mut response.headers, 101, ctx);
        });
        tunnel::complete(response)?;
    } else {
        let interim = response.status.is_informational();
        // An interim answer comes before the body is complete, and ends nothing.
        session.set_close_on_response_before_downstream_finish(!interim);
        if interim {
            ctx.told_to_go_on |= response.status.as_u16() == 100;
            return Ok(());
        }
    }
    if is_empty(session, response) {
        end(session, ctx);
    }
    if ctx.exchange.as_ref().is_some_and(|e| e.is_last()) {
        session.set_keepalive(None);
    }
    Ok(())
}

/// Whether the header is all of the answer.
fn is_empty(session: &Session, response: &ResponseHeader) -> bool {
    let length = response.headers.get(CONTENT_LENGTH);
    matches!(response.status.as_u16(), 204 | 304)
        || length.is_some_and(|v| v.as_bytes().iter().all(|b| *b == b'0'))
        || session.req_header().method == Method::HEAD
}

/// The last of an answer is on its way. A client that was never told to go on with its body may keep
/// it: the connection is not held for it (RFC 9110 §10.1.1).
pub fn end(session: &mut Session, ctx: &mut Ctx) {
    let request = session.req_header();
    let awaits = request.version == Version::HTTP_11 && request.headers.contains_key(EXPECT);
    if awaits && !ctx.told_to_go_on && ctx.bytes_in == 0 && !session.as_mut().is_body_done() {
        ctx.unsent = true;
        session.set_read_timeout(Some(Duration::ZERO));
    }
}

/// Drops what is between the service and us alone, and Pingora leaves in answers (RFC 9110 §7.6.1).
/// `Trailer` is such a field here: those that it announces are not passed on.
fn drop_hop_by_hop(headers: &mut HeaderMap, seen: Fields) {
    if seen.has(Field::Connection) {
        for name in nominated(headers) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if seen.has(Field::HopByHop) || seen.has(Field::Upgrade) {
        let each = headers.keys().filter(|name| is_hop_by_hop(name.as_str()));
        for name in each.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
    }
}

/// The fields that `Connection` names.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter();
    // Said by nearly all, and no names of fields.
    let usual = |v: &&HeaderValue| !matches!(v.as_bytes(), b"keep-alive" | b"close");
    let options = values.filter(usual).filter_map(|v| v.to_str().ok());
    let names = options.flat_map(|v| v.split(','));
    // Framing is Pingora's own; a service that names these fields means nothing by it.
    names
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(name))
        .collect()
}

/// The hook: counts the body as it goes out.
///
/// # Errors
/// The request's time is over: where nothing else ends it, its next byte does.
pub fn count(shared: &Shared, body: Option<&Bytes>, ctx: &mut Ctx) -> Result<()> {
    let Some(exchange) = &mut ctx.exchange else {
        return Ok(());
    };
    if exchange.conn.expired() {
        return Error::e_explain(ErrorType::ReadTimedout, "the request's time is over");
    }
    if exchange.conn.is_bound_by_idle() {
        exchange.conn.moved(shared.clock.now());
    }
    exchange.bytes_out += body.map_or(0, |b| b.len() as u64);
    Ok(())
}
