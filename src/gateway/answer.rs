//! What the gateway answers by itself: the status, the fields and the body that a refusal is told with,
//! as a session takes them or as the edge writes them.

use super::limits::limit_fields;
use super::receive::REQUEST_ID;
use super::{grpc, tunnel};
use crate::base::decimal;
use crate::exchange::refusal::{Challenge, Refusal};
use crate::exchange::{Exchange, RequestId};
use crate::observe::reason::Reason;
use crate::snapshot::ErrorShape;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::OnceLock;

/// A refusal's reason where there is no body to say it.
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");

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
        Reason::GoingAway => (503, "Going away"),
        Reason::UpstreamTimeout => (504, "Gateway timeout"),
        Reason::DeadlineExceeded => (504, "Deadline exceeded"),
        Reason::VersionUnsupported => (505, "HTTP version not supported"),
        _ => of_identity(reason),
    }
}

/// The same of the reasons that have to do with who calls. The texts say no more than a stranger should
/// know; the codes do.
fn of_identity(reason: Reason) -> (u16, &'static str) {
    match reason {
        Reason::CredentialsMalformed => (400, "Malformed credentials"),
        Reason::CredentialsRepeated => (400, "Credentials sent more than once"),
        Reason::CredentialsMissing => (401, "Missing authorization header"),
        Reason::BearerRequired => (401, "Bearer token required"),
        Reason::TokenExpired => (401, "Token expired"),
        Reason::TokenMalformed
        | Reason::TokenTooLarge
        | Reason::TokenType
        | Reason::TokenCritical
        | Reason::TokenAlgorithm
        | Reason::TokenKey
        | Reason::TokenSignature
        | Reason::TokenNotYetValid
        | Reason::TokenIssuer
        | Reason::TokenAudience
        | Reason::TokenClaimMissing
        | Reason::TokenClaim
        | Reason::TokenInactive
        | Reason::TokenRevoked
        | Reason::TokenUnproven => (401, "Invalid or expired token"),
        Reason::ApiKeyRequired => (401, "API key required"),
        Reason::ApiKeyMalformed
        | Reason::ApiKeyUnknown
        | Reason::ApiKeyExpired
        | Reason::ApiKeyDisabled
        | Reason::ApiKeyRevoked => (401, "Invalid API key"),
        Reason::CertificateRequired => (401, "Client certificate required"),
        Reason::CertificateUnknown => (403, "Unknown client certificate"),
        Reason::ScopeInsufficient => (403, "Insufficient scope"),
        Reason::RoleInsufficient => (403, "Insufficient role"),
        Reason::PermissionInsufficient => (403, "Insufficient permission"),
        Reason::ClaimInsufficient => (403, "Insufficient claim"),
        Reason::AuthFailuresLimited => (429, "Too many failed authentications"),
        Reason::KeysUnavailable
        | Reason::ApiKeysUnavailable
        | Reason::IntrospectionUnavailable
        | Reason::IntrospectionInvalid
        | Reason::RevocationsUnavailable => (503, "Authentication temporarily unavailable"),
        _ => (500, "Internal error"),
    }
}

/// The answer to a refused request.
pub fn answer(refusal: &Refusal, exchange: &Exchange, shape: ErrorShape) -> Answer {
    let mut headers = Vec::with_capacity(8);
    let mut put = |name, said: Said<'_>| headers.push((name, said.value()));
    if exchange.call.is_none() {
        general(shape, &mut put);
    }
    particular(refusal, exchange, put);
    let mut text = Vec::new();
    body(refusal, exchange, shape, &mut text);
    Answer {
        // gRPC says elsewhere what it has to say.
        status: exchange.call.map_or(status(refusal.reason).0, |_| 200),
        headers,
        body: text.into(),
    }
}

/// What a field of an answer says. Numbers and ids become field values only where a session wants
/// them: the edge writes them as they are.
pub enum Said<'a> {
    /// A text of ours.
    Fixed(&'static str),
    /// A number.
    Number(u64),
    /// The request's id.
    Id(&'a RequestId),
    /// Something that may stand in a field.
    Value(HeaderValue),
}

impl Said<'_> {
    /// As the value of a field.
    fn value(self) -> HeaderValue {
        match self {
            Said::Fixed(text) => HeaderValue::from_static(text),
            Said::Number(n) => n.into(),
            Said::Id(id) => id.value(),
            Said::Value(value) => value,
        }
    }

    /// As it goes out.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Said::Fixed(text) => out.extend_from_slice(text.as_bytes()),
            Said::Number(n) => decimal::push(out, *n),
            Said::Id(id) => out.extend_from_slice(id.as_bytes()),
            Said::Value(value) => out.extend_from_slice(value.as_bytes()),
        }
    }
}

/// Tells of the fields that every answer to a refused request has, unless it is a gRPC call.
pub fn general(shape: ErrorShape, mut put: impl FnMut(HeaderName, Said<'static>)) {
    put(CACHE_CONTROL, Said::Fixed("no-store"));
    put(CONTENT_TYPE, Said::Fixed(media(shape)));
}

/// Tells of each other field of the answer to a refused request but those that delimit it.
pub fn particular<'a>(
    refusal: &Refusal,
    exchange: &'a Exchange,
    mut put: impl FnMut(HeaderName, Said<'a>),
) {
    if exchange.call.is_some() {
        call_fields(refusal, &mut put);
    } else {
        own_fields(refusal, &mut put);
    }
    limit_fields(exchange, status(refusal.reason).0, |name, value| {
        put(name, Said::Value(value));
    });
    put(REQUEST_ID, Said::Id(&exchange.request_id));
}

/// Those of the refusal itself.
fn own_fields<'a>(refusal: &Refusal, put: &mut impl FnMut(HeaderName, Said<'a>)) {
    if let Some(seconds) = refusal.retry_after_s {
        put(RETRY_AFTER, Said::Number(seconds));
    }
    if let Some(allow) = &refusal.allow {
        text(ALLOW, allow.to_string(), put);
    }
    if let Some(challenge) = refusal.challenge.as_deref()
        && matches!(status(refusal.reason).0, 401 | 403)
    {
        let value = challenge_for(refusal.reason, challenge);
        text(WWW_AUTHENTICATE, value.into_owned(), put);
    }
    if refusal.reason == Reason::WebSocketVersion {
        // RFC 9110 §15.5.22, RFC 6455 §4.4.
        put(UPGRADE, Said::Fixed(tunnel::PROTOCOL));
        put(SEC_WEBSOCKET_VERSION, Said::Fixed(tunnel::VERSION));
    }
}

/// Those of a refused gRPC call: all that gRPC puts into trailers, in a header with nothing behind it
/// ("Trailers-Only").
fn call_fields<'a>(refusal: &Refusal, put: &mut impl FnMut(HeaderName, Said<'a>)) {
    put(CONTENT_TYPE, Said::Fixed("application/grpc"));
    let status = u64::from(grpc::status(refusal.reason).0);
    put(grpc::STATUS, Said::Number(status));
    put(ERROR_CODE, Said::Fixed(refusal.reason.code()));
    text(grpc::MESSAGE, grpc::message(&detail(refusal)), put);
    if let Some(seconds) = refusal.retry_after_s {
        put(RETRY_AFTER, Said::Number(seconds));
        // What is read is an int32.
        let ms = seconds.saturating_mul(1000).min(i32::MAX as u64);
        put(grpc::PUSHBACK, Said::Number(ms));
    }
}

fn media(shape: ErrorShape) -> &'static str {
    match shape {
        ErrorShape::Problem => "application/problem+json",
        ErrorShape::Plain => "application/json",
    }
}

/// A field made for this answer; left out where it can stand in none.
fn text<'a>(name: HeaderName, value: String, put: &mut impl FnMut(HeaderName, Said<'a>)) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        put(name, Said::Value(value));
    }
}

/// RFC 6750 §3: without credentials no error code; with a bad token `invalid_token`; with too few
/// rights `insufficient_scope`.
fn challenge_for(reason: Reason, challenge: &Challenge) -> Cow<'_, str> {
    let wrong = token_fault(reason).zip(challenge.invalid.as_ref());
    match wrong {
        Some((fault, invalid)) => {
            let others = &challenge.others;
            format!("{invalid}, error_description=\"{fault}\"{others}").into()
        }
        None if status(reason).0 == 403 => challenge.insufficient.as_str().into(),
        None => challenge.missing.as_str().into(),
    }
}

/// What is wrong with a token, from a fixed list (RFC 6750 §3: `error_description`).
fn token_fault(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::TokenMalformed => "the token is malformed",
        Reason::TokenTooLarge => "the token is too long",
        Reason::TokenType => "the token is of another type",
        Reason::TokenCritical => "the token has an unknown critical header",
        Reason::TokenAlgorithm => "the token's algorithm is not allowed",
        Reason::TokenKey => "the token's key is not known",
        Reason::TokenSignature => "the token's signature is wrong",
        Reason::TokenExpired => "the token is expired",
        Reason::TokenNotYetValid => "the token is not valid yet",
        Reason::TokenIssuer => "the token is from an unknown issuer",
        Reason::TokenAudience => "the token is for another audience",
        Reason::TokenClaimMissing => "the token lacks a claim",
        Reason::TokenClaim => "a claim of the token is not acceptable",
        Reason::TokenInactive => "the token is not active",
        Reason::TokenRevoked => "the token is revoked",
        Reason::TokenUnproven => "the token is bound to a certificate that was not presented",
        _ => return None,
    })
}

/// What the client reads. A missing scope is named; it is the route's, not the caller's.
fn detail(refusal: &Refusal) -> Cow<'static, str> {
    let (_, general) = status(refusal.reason);
    match (refusal.reason, refusal.challenge.as_deref(), refusal.detail) {
        (Reason::ScopeInsufficient, Some(challenge), _) => {
            format!("{general}. Required: '{}'", challenge.scopes).into()
        }
        // Its general text tells to wait.
        (Reason::RateLimited, _, Some(exactly)) => format!("Rate limit exceeded: {exactly}").into(),
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

/// Writes the body of the answer to a refused request; a gRPC call has none.
pub fn body(refusal: &Refusal, exchange: &Exchange, shape: ErrorShape, body: &mut Vec<u8>) {
    if exchange.call.is_some() {
        return;
    }
    body.reserve(384);
    let usual = refusal.detail.is_none() && refusal.reason != Reason::ScopeInsufficient;
    if usual && shape == ErrorShape::Problem {
        prepared(refusal, exchange, body);
    } else {
        let detail = detail(refusal);
        // Strings and numbers can always be written.
        let _ = match shape {
            ErrorShape::Plain => serde_json::to_writer(
                &mut *body,
                &Plain {
                    error: &detail,
                    retry_after: refusal.retry_after_s,
                    service: refusal.service.as_deref(),
                },
            ),
            ErrorShape::Problem => {
                serde_json::to_writer(&mut *body, &problem(refusal, exchange, &detail))
            }
        };
    }
    if shape == ErrorShape::Problem && refusal.reason == Reason::RateLimited {
        violated(exchange, body);
    }
    body.push(b'\n');
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
    body.extend_from_slice(exchange.request_id.as_bytes());
    body.push(b'"');
    if let Some(seconds) = refusal.retry_after_s {
        body.extend_from_slice(b",\"retry_after\":");
        decimal::push(body, seconds);
    }
    body.extend_from_slice(around[1].as_bytes());
}

/// Adds to an object which limits were exceeded (draft-ietf-httpapi-ratelimit-headers-10 §6.1). Names of
/// limits hold nothing that JSON escapes.
fn violated(exchange: &Exchange, body: &mut Vec<u8>) {
    let mut names = exchange.limits.violated();
    let Some(first) = names.next() else { return };
    body.pop();
    body.extend_from_slice(b",\"violated-policies\":[\"");
    body.extend_from_slice(first.as_bytes());
    for name in names {
        body.extend_from_slice(b"\",\"");
        body.extend_from_slice(name.as_bytes());
    }
    body.extend_from_slice(b"\"]}");
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
            assert_eq!(code == 500, *reason == Reason::InternalError, "{reason:?}");
        }
    }
}
