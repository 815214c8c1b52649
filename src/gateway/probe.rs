//! The gateway's own state: `/health` on public listeners, before authentication and limits and
//! without details; `/ready` and `/metrics` too on listeners for probes, and nothing else there.

use super::answer::Answer;
use super::{Shared, receive};
use crate::exchange::Exchange;
use crate::exchange::listener::Probes;
use crate::exchange::refusal::Refusal;
use crate::observe::reason::Reason;
use http::header::{CONTENT_TYPE, MAX_FORWARDS};
use http::{HeaderValue, Method};
use pingora::http::RequestHeader;

/// Where the process tells that it lives.
pub const HEALTH: &str = "/health";
/// Where it tells whether requests should be sent here.
pub const READY: &str = "/ready";
/// Where it tells its figures.
pub const METRICS: &str = "/metrics";

/// The answer to a probe; none if the request is not one.
///
/// # Errors
/// A listener for probes was asked by somebody else, or for something else.
pub fn answer(shared: &Shared, exchange: &Exchange) -> Result<Option<Answer>, Refusal> {
    let listener = &exchange.conn.listener;
    let reading = matches!(exchange.method, Method::GET | Method::HEAD);
    match &listener.terms.probes {
        None if exchange.path == HEALTH && reading => Ok(Some(text(200, "ok\n"))),
        None if exchange.path == receive::WHOLE => Ok(Some(text(200, ""))),
        None => Ok(None),
        Some(probes) => probe(shared, exchange, probes, reading).map(Some),
    }
}

fn probe(
    shared: &Shared,
    exchange: &Exchange,
    probes: &Probes,
    reading: bool,
) -> Result<Answer, Refusal> {
    // The peer itself: nothing that is forwarded lets a stranger in.
    if !probes.networks.contains(exchange.conn.peer.ip()) {
        return Err(Reason::ProbeDenied.into());
    }
    if !reading {
        return Err(Refusal {
            allow: "GET".parse().ok(),
            ..Reason::MethodNotAllowed.into()
        });
    }
    match exchange.path.as_str() {
        HEALTH => Ok(text(200, "ok\n")),
        READY => Ok(ready(shared)),
        METRICS if probes.metrics => Ok(metrics(shared)),
        _ => Err(Reason::RouteNotFound.into()),
    }
}

/// Whether requests should be sent here.
pub fn ready(shared: &Shared) -> Answer {
    if shared.is_ready() {
        text(200, "ready\n")
    } else {
        text(503, "draining\n")
    }
}

/// All metrics, in Prometheus' text format.
pub fn metrics(shared: &Shared) -> Answer {
    let snapshot = shared.snapshot.load();
    let now = shared.clock.now();
    for (counts, metrics) in &snapshot.stores {
        let (keys, evictions) = counts.held(now.steady_ms);
        metrics.update(keys, evictions);
    }
    let mut answer = text(200, "");
    answer.body = shared.metrics.render().into();
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers[0] = (CONTENT_TYPE, media);
    answer
}

/// The answer to an `OPTIONS` that may go no further (RFC 9110 §7.6.2).
pub fn last_hop(header: &RequestHeader) -> Option<Answer> {
    let left = receive::single(&header.headers, &MAX_FORWARDS)?;
    (header.method == Method::OPTIONS && left.parse() == Ok(0u64)).then(|| text(200, ""))
}

/// A plain text answer.
pub fn text(status: u16, body: &'static str) -> Answer {
    Answer {
        status,
        headers: vec![(CONTENT_TYPE, HeaderValue::from_static("text/plain"))],
        body: body.into(),
    }
}
