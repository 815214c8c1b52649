//! The sixth step: the upstream's answer on its way back.

use super::receive::REQUEST_ID;
use super::{Ctx, Shared, choose, fail, grpc, tunnel};
use crate::breaker::Permit;
use crate::exchange::call::Call;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

/// Hop-by-hop fields that Pingora leaves in answers (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    TE,
    TRAILER,
    UPGRADE,
];

/// The statuses by which a service says that it is in trouble; 4xx are the client's.
const FAILURES: [u16; 4] = [500, 502, 503, 504];

/// The hook: the header of an answer has come.
///
/// # Errors
/// A switch of protocols that was not asked for.
pub fn received(shared: &Shared, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let status = response.status.as_u16();
    if status == 101 {
        return tunnel::switched(shared, response, ctx);
    }
    let now = shared.clock.now();
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

/// The hook: completes the header of an answer.
///
/// # Errors
/// A header value could not be written.
pub fn prepare(session: &mut Session, response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let switched = response.status.as_u16() == 101;
    if response.status.is_informational() && !switched {
        return Ok(());
    }
    drop_hop_by_hop(response);
    if switched {
        tunnel::complete(response)?;
    }
    let Some(exchange) = &ctx.exchange else {
        return Ok(());
    };
    if exchange.is_last() {
        session.set_keepalive(None);
    }
    for (name, value) in fail::limit_headers(exchange) {
        response.insert_header(name, value)?;
    }
    let id = Bytes::copy_from_slice(exchange.request_id.as_bytes());
    if let Ok(id) = http::HeaderValue::from_maybe_shared(id) {
        response.insert_header(REQUEST_ID, id)?;
    }
    Ok(())
}

fn drop_hop_by_hop(response: &mut ResponseHeader) {
    let options = response.headers.get_all(CONNECTION).iter();
    let options = options
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    // Framing is Pingora's own; a service that names these fields means nothing by it.
    let nominated: Vec<HeaderName> = options
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(name))
        .collect();
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        if response.headers.contains_key(name) {
            response.remove_header(name);
        }
    }
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
