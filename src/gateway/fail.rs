//! The only place that turns a refusal or an error into an answer: status, headers, body, and
//! whether the connection goes on.

use super::limits::limit_headers;
use super::receive::REQUEST_ID;
use super::{Ctx, Shared, blame, grpc, tunnel};
use crate::exchange::Exchange;
use crate::exchange::refusal::{Challenge, Refusal};
use crate::observe::reason::Reason;
use crate::snapshot::ErrorShape;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER,
    SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Method, Version};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, Result};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

/// An answer that the gateway makes itself.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header fields besides framing.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// The status of each reason (RFC 9110 §15, RFC 6585, RFC 6750 §3.1), and what the client reads.
/// 499 is written in logs alone: nobody is there to read an answer.
pub fn status(reason: Reason) -> (u16, &'static str) {
    match reason {
        Reason::BadRequest => (400, "Bad request"),
        Reason::AmbiguousPath => (400, "Ambiguous path"),
        Reason::TenantMissing => (400, "Tenant required"),
        Reason::CredentialsMalformed => (400, "Malformed credentials"),
        Reason::CredentialsMissing => (401, "Missing authorization header"),
        Reason::BearerRequired => (401, "Bearer token required"),
        Reason::TokenExpired => (401, "Token expired"),
        Reason::TokenInvalid => (401, "Invalid or expired token"),
        Reason::ApiKeyRequired => (401, "API key required"),
        Reason::ApiKeyInvalid => (401, "Invalid API key"),
        Reason::ScopeInsufficient => (403, "Insufficient scope"),
        Reason::RoleInsufficient => (403, "Insufficient role"),
        Reason::ProbeDenied => (403, "Probes are not answered here"),
        Reason::RouteNotFound => (404, "Route not found"),
        Reason::TenantUnknown => (404, "Unknown tenant"),
        Reason::MethodNotAllowed => (405, "Method not allowed"),
        Reason::HeaderTimeout => (408, "Request header took too long"),
        Reason::BodyTimeout => (408, "Request body took too long"),
        Reason::IdleTimeout => (408, "Nothing was sent for too long"),
        Reason::BodyTooLarge => (413, "Request body too large"),
        Reason::UriTooLong => (414, "URI too long"),
        Reason::ExpectationFailed => (417, "Expectation failed"),
        Reason::Misdirected => (421, "Misdirected request"),
        Reason::WebSocketVersion => (426, "WebSocket version 13 required"),
        Reason::RateLimited | Reason::FloodLimited => {
            (429, "Rate limit exceeded. See Retry-After header.")
        }
        Reason::HeadersTooLarge => (431, "Request header too large"),
        Reason::ClientClosed => (499, "Client closed the connection"),
        Reason::ClientTooSlow => (499, "Client did not read its answer"),
        Reason::InternalError => (500, "Internal error"),
        Reason::MethodUnsupported => (501, "Method not supported"),
        Reason::CodingUnsupported => (501, "Transfer coding not supported"),
        Reason::UpstreamConnectFailed
        | Reason::UpstreamTlsFailed
        | Reason::UpstreamReset
        | Reason::UpstreamInvalid => (502, "Bad gateway"),
        Reason::ProxyLoop => (502, "The request came back to where it had been"),
        Reason::CircuitOpen | Reason::NoHealthyTarget | Reason::Overloaded => {
            (503, "Service temporarily unavailable")
        }
        Reason::KeysUnavailable => (503, "Authentication temporarily unavailable"),
        Reason::UpstreamTimeout => (504, "Gateway timeout"),
        Reason::DeadlineExceeded => (504, "Deadline exceeded"),
        Reason::VersionUnsupported => (505, "HTTP version not supported"),
    }
}

/// The answer to a refused request.
pub fn answer(refusal: &Refusal, exchange: &Exchange, shape: ErrorShape) -> Answer {
    if exchange.call.is_some() {
        return call_answer(refusal, exchange);
    }
    let (code, _) = status(refusal.reason);
    let mut headers = Vec::with_capacity(8);
    headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    headers.push((CONTENT_TYPE, media(shape)));
    if let Some(seconds) = refusal.retry_after_s {
        headers.push((RETRY_AFTER, seconds.into()));
    }
    if let Some(allow) = &refusal.allow {
        headers.extend(text(ALLOW, allow.to_string()));
    }
    if let Some(challenge) = refusal.challenge.as_deref() {
        let value = challenge_for(refusal.reason, challenge).to_owned();
        headers.extend(text(WWW_AUTHENTICATE, value).filter(|_| code == 401 || code == 403));
    }
    if refusal.reason == Reason::WebSocketVersion {
        // RFC 9110 §15.5.22, RFC 6455 §4.4.
        headers.push((UPGRADE, HeaderValue::from_static(tunnel::PROTOCOL)));
        let version = HeaderValue::from_static(tunnel::VERSION);
        headers.push((SEC_WEBSOCKET_VERSION, version));
    }
    headers.extend(limit_headers(exchange));
    headers.push((REQUEST_ID, exchange.request_id.value()));
    Answer {
        status: code,
        headers,
        body: body(refusal, exchange, shape),
    }
}

/// The answer to a refused gRPC call: all that gRPC puts into trailers, in a header with nothing
/// behind it ("Trailers-Only").
fn call_answer(refusal: &Refusal, exchange: &Exchange) -> Answer {
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (grpc::STATUS, grpc::status(refusal.reason).0.into()),
        (ERROR_CODE, HeaderValue::from_static(refusal.reason.code())),
    ];
    headers.extend(text(grpc::MESSAGE, grpc::message(&detail(refusal))));
    if let Some(seconds) = refusal.retry_after_s {
        headers.push((RETRY_AFTER, seconds.into()));
        let ms = i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX);
        headers.push((grpc::PUSHBACK, ms.into()));
    }
    headers.extend(limit_headers(exchange));
    headers.push((REQUEST_ID, exchange.request_id.value()));
    Answer {
        status: 200,
        headers,
        body: Bytes::new(),
    }
}

fn media(shape: ErrorShape) -> HeaderValue {
    HeaderValue::from_static(match shape {
        ErrorShape::Problem => "application/problem+json",
        ErrorShape::Plain => "application/json",
    })
}

fn text(name: HeaderName, value: String) -> Option<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_maybe_shared(Bytes::from(value)).ok()?;
    Some((name, value))
}

/// RFC 6750 §3: without credentials no error code; with bad ones `invalid_token`; with too few
/// rights `insufficient_scope`.
fn challenge_for(reason: Reason, challenge: &Challenge) -> &str {
    match reason {
        Reason::TokenExpired | Reason::TokenInvalid => &challenge.invalid,
        Reason::ScopeInsufficient | Reason::RoleInsufficient => &challenge.insufficient,
        _ => &challenge.missing,
    }
}

/// What the client reads. A missing scope is named; it is the route's, not the caller's.
fn detail(refusal: &Refusal) -> Cow<'static, str> {
    let (_, general) = status(refusal.reason);
    match (refusal.reason, refusal.challenge.as_deref(), refusal.detail) {
        (Reason::ScopeInsufficient, Some(challenge), _) => {
            format!("{general}. Required: '{}'", challenge.scopes).into()
        }
        (_, _, Some(exactly)) => format!("{general}: {exactly}").into(),
        _ => general.into(),
    }
}

/// A body as older clients know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plain<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
}

/// RFC 9457, with what a client and its support need besides.
#[derive(Serialize)]
struct Problem<'a> {
    code: &'a str,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    status: u16,
    title: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

fn body(refusal: &Refusal, exchange: &Exchange, shape: ErrorShape) -> Bytes {
    let mut body = Vec::with_capacity(384);
    let usual = refusal.detail.is_none() && refusal.reason != Reason::ScopeInsufficient;
    if usual && shape == ErrorShape::Problem {
        prepared(refusal, exchange, &mut body);
    } else {
        let detail = detail(refusal);
        // Strings and numbers can always be written.
        let _ = match shape {
            ErrorShape::Plain => serde_json::to_writer(
                &mut body,
                &Plain {
                    error: &detail,
                    retry_after: refusal.retry_after_s,
                    service: refusal.service.as_deref(),
                },
            ),
            ErrorShape::Problem => {
                serde_json::to_writer(&mut body, &problem(refusal, exchange, &detail))
            }
        };
    }
    body.push(b'\n');
    body.into()
}

/// Writes what [`problem`] is as JSON; of each reason all but the two values that are the request's own
/// is written once. An id of a request holds nothing that JSON escapes.
fn prepared(refusal: &Refusal, exchange: &Exchange, body: &mut Vec<u8>) {
    static TEXTS: [OnceLock<[Box<str>; 2]>; Reason::COUNT] = [const { OnceLock::new() }; _];
    const MARK: &str = "\"request_id\":\"-\"";
    let around = TEXTS[refusal.reason.index()].get_or_init(|| {
        let general = Refusal::new(refusal.reason);
        let (_, text) = status(refusal.reason);
        let whole = serde_json::to_string(&about(&general, "-", text)).unwrap_or_default();
        let (before, behind) = whole.split_once(MARK).unwrap_or((&whole, ""));
        [before.into(), behind.into()]
    });
    body.extend_from_slice(around[0].as_bytes());
    body.extend_from_slice(b"\"request_id\":\"");
    body.extend_from_slice(exchange.request_id.as_str().as_bytes());
    body.push(b'"');
    if let Some(seconds) = refusal.retry_after_s {
        body.extend_from_slice(b",\"retry_after\":");
        body.extend_from_slice(HeaderValue::from(seconds).as_bytes());
    }
    body.extend_from_slice(around[1].as_bytes());
}

/// Without a registered type the title is the status's own phrase (RFC 9457 §4.2.1).
fn problem<'a>(refusal: &Refusal, exchange: &'a Exchange, detail: &'a str) -> Problem<'a> {
    about(refusal, exchange.request_id.as_str(), detail)
}

fn about<'a>(refusal: &Refusal, request_id: &'a str, detail: &'a str) -> Problem<'a> {
    let (code, _) = status(refusal.reason);
    let phrase = http::StatusCode::from_u16(code).ok();
    let phrase = phrase.and_then(|s| s.canonical_reason()).unwrap_or("Error");
    let (kind, title) = match code {
        429 => (
            "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "Request cannot be satisfied as assigned quota has been exceeded",
        ),
        _ => ("about:blank", phrase),
    };
    Problem {
        code: refusal.reason.code(),
        detail,
        request_id,
        retry_after: refusal.retry_after_s,
        status: code,
        title,
        kind,
    }
}

/// Answers a request that was refused before it reached an upstream.
///
/// # Errors
/// The answer could not be written.
pub async fn refuse(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let shape = ctx
        .snapshot
        .as_ref()
        .map_or(ErrorShape::Problem, |s| s.errors);
    let made = ctx.exchange.as_mut().and_then(|exchange| {
        let refusal = exchange.refusal.as_ref()?;
        if let Some(call) = &mut exchange.call {
            call.status = Some(grpc::status(refusal.reason));
        }
        Some(answer(refusal, exchange, shape))
    });
    match made {
        Some(answer) => write(session, answer, ctx).await,
        None => Ok(()),
    }
}

/// Writes an answer on a session, keeping the connection where the request allows it.
///
/// # Errors
/// The answer could not be written.
pub async fn write(session: &mut Session, answer: Answer, ctx: &mut Ctx) -> Result<()> {
    let mut header = ResponseHeader::build(answer.status, Some(answer.headers.len() + 4))?;
    for (name, value) in answer.headers {
        header.insert_header(name, value)?;
    }
    let exchange = ctx.exchange.as_mut();
    let bare = exchange.as_ref().is_some_and(|e| e.call.is_some()) && answer.body.is_empty();
    if !bare {
        header.insert_header(CONTENT_LENGTH, answer.body.len())?;
    }
    let head = exchange.as_ref().is_some_and(|e| e.method == Method::HEAD);
    if exchange.as_ref().is_some_and(|e| e.is_last()) {
        session.set_keepalive(None);
        if session.req_header().version == Version::HTTP_11 {
            header.insert_header(CONNECTION, "close")?;
        }
    }
    session.set_total_drain_timeout(Some(DRAIN));
    let close = !worth_draining(session);
    session.set_close_on_response_before_downstream_finish(close);
    let body = Some(answer.body).filter(|b| !head && !b.is_empty());
    if body.is_none() && session.req_header().version == Version::HTTP_2 {
        // The header alone ends the stream: what comes behind it would be no trailers-only answer.
        let whole = vec![HttpTask::Header(Box::new(header), true)];
        let written = session.write_response_tasks(whole).await;
        return written.map(drop).map_err(Error::into_down);
    }
    // What cannot be written is the client's affair.
    let header = session.write_response_header(Box::new(header), body.is_none());
    header.await.map_err(Error::into_down)?;
    if let Some(body) = body {
        if let Some(exchange) = exchange {
            exchange.bytes_out = body.len() as u64;
        }
        let body = session.write_response_body(Some(body), true);
        body.await.map_err(Error::into_down)?;
    }
    Ok(())
}

/// Whether the body of a request that is answered early is so small that reading the rest of it is
/// cheaper than a new connection. A client that waits for `100 Continue` may never send it.
fn worth_draining(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let length: Option<u64> = length.and_then(|v| v.parse().ok());
    length.is_some_and(|n| n <= SMALL_BODY) && !headers.contains_key(EXPECT)
}

/// A refusal's reason where there is no body to say it.
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
/// Bytes of a body that may be read only to be thrown away.
const SMALL_BODY: u64 = 64 * 1024;
/// How long the rest of a refused request's body is read.
const DRAIN: Duration = Duration::from_secs(2);

/// The status of the answer that has begun; an interim one (1xx) is none, but for 101, behind which
/// no other can come.
pub fn begun(session: &Session) -> Option<u16> {
    let written = session.response_written()?.status;
    (!written.is_informational() || written.as_u16() == 101).then_some(written.as_u16())
}

/// Whether an answer that has begun ends because something is wrong, not because its time is over or
/// nobody wants it.
fn broke_off(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::ClientClosed | Reason::ClientTooSlow | Reason::DeadlineExceeded
    )
}

/// The hook after the last attempt: answers, unless an answer has begun or nobody is there.
pub async fn after(
    shared: &Shared,
    session: &mut Session,
    error: &Error,
    ctx: &mut Ctx,
) -> FailToProxy {
    let complete = session.as_mut().is_body_done();
    let exchange = ctx.exchange.as_mut().filter(|_| !ctx.unsent);
    let Some(exchange) = exchange else {
        return FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
    };
    let (blamed, refusal) = if let Some(refusal) = exchange.refusal.take() {
        (refusal.reason, refusal)
    } else {
        let blamed = blame::reason(error, &exchange.conn, complete);
        let by_service = *error.esource() == ErrorSource::Upstream;
        let reason = grpc::reason(blamed, by_service, exchange, shared.clock.now());
        let mut refusal = Refusal::new(reason);
        refusal.service = exchange.upstream.as_ref().map(|u| u.name.clone());
        (blamed, refusal)
    };
    let reason = refusal.reason;
    exchange.refusal = Some(refusal);
    if reason != Reason::DeadlineExceeded {
        blame::settle(shared, ctx, blamed);
    }
    let begun = begun(session).is_some();
    // The time limit that brought us here must not cut the answer off as well.
    if let Some(exchange) = &ctx.exchange {
        let phase = crate::exchange::connection::Phase::Busy;
        exchange.conn.arm(phase, shared.clock.now(), 5000);
    }
    let gone = begun || matches!(reason, Reason::ClientClosed | Reason::ClientTooSlow);
    if begun && broke_off(reason) && session.req_header().version == Version::HTTP_2 {
        // Not CANCEL, which the drop of the stream would say: that is what a client asks for itself.
        session.as_mut().shutdown().await;
    }
    if !gone {
        session.set_keepalive(None);
        if let Some(exchange) = &mut ctx.exchange {
            // Where a service failed, nothing is in doubt about its client: to close would answer an
            // outage with a new handshake a request.
            exchange.closes |= status(reason).0 <= 500;
        }
        let _ = refuse(session, ctx).await;
    }
    FailToProxy {
        error_code: if gone { 0 } else { status(reason).0 },
        can_reuse_downstream: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::exchange::RequestId;
    use crate::exchange::admission::Caps;
    use crate::exchange::connection::Connection;
    use crate::exchange::listener::{Listener, Terms};
    use crate::observe::metrics::Metrics;
    use crate::observe::trace::TraceContext;
    use std::sync::Arc;

    fn exchange() -> Exchange {
        let metrics = Metrics::new("test", 0).listener("test");
        let listener = Listener::new("test", metrics, Terms::default(), Caps::default());
        let pass = listener.admission.enter().expect("a place");
        let conn = Connection::new(Arc::new(listener), ([192, 0, 2, 1], 1).into(), None, pass);
        let trace = TraceContext::continue_or_start(None);
        Exchange::new(Arc::new(conn), Now::at_ms(1000), RequestId::random(), trace)
    }

    #[test]
    fn what_is_prepared_is_what_would_be_written() {
        let exchange = exchange();
        for reason in Reason::ALL {
            for wait_ms in [None, Some(61_000)] {
                let mut refusal = Refusal::new(*reason);
                refusal.retry_after_s = wait_ms.map(|ms: u64| ms / 1000);
                let (mut made, detail) = (Vec::new(), detail(&refusal));
                prepared(&refusal, &exchange, &mut made);
                let want = serde_json::to_vec(&problem(&refusal, &exchange, &detail));
                assert_eq!(made, want.expect("JSON"), "{reason:?}");
            }
        }
    }

    #[test]
    fn every_reason_has_a_status_and_a_text() {
        for reason in Reason::ALL {
            let (code, text) = status(*reason);
            assert!((400..600).contains(&code), "{reason:?}");
            assert!(!text.is_empty(), "{reason:?}");
        }
    }
}
