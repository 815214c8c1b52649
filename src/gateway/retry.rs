//! The fifth step, where the first attempt failed: whether another one is safe, and worth it.

use super::{Ctx, Shared, blame, choose, fail};
use crate::upstream::trouble;
use pingora::protocols::http::v2::client::PING_TIMEDOUT;
use pingora::proxy::Session;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use pingora::{Error, ErrorSource, ErrorType, RetryType};

/// The hook after a connection that could not be made: nothing was sent, so any method may try
/// another target.
pub fn connect(shared: &Shared, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    choose::connected(ctx, false);
    unconnected(shared, ctx, &error);
    error.set_retry(may_try_again(ctx));
    error
}

/// Counts and tells of an attempt that got no connection.
fn unconnected(shared: &Shared, ctx: &Ctx, error: &Error) {
    if let Some(flight) = &ctx.flight {
        flight.pool.metrics.connect_failed();
    }
    if blame::is_tls(error) {
        insecure(shared, ctx, error);
    }
}

/// Counts and tells of an attempt that TLS put an end to.
fn insecure(shared: &Shared, ctx: &Ctx, error: &Error) {
    let Some(flight) = &ctx.flight else { return };
    flight.pool.metrics.tls_failed();
    if let Some(chosen) = &flight.chosen {
        let name = &flight.pool.spec.name;
        trouble::tell(name, &chosen.endpoint, error, shared.clock.now());
    }
}

/// The hook after a connection that broke: a replay is safe for an idempotent method (RFC 9110
/// §9.2.2), or for any if the target says that it did nothing yet (RFC 9113 §8.7), as long as the
/// body is still at hand and the client has seen nothing of an answer. A time limit that has passed
/// is no broken connection.
pub fn replay(
    shared: &Shared,
    peer: &HttpPeer,
    session: &mut Session,
    ctx: &mut Ctx,
    error: Box<Error>,
) -> Box<Error> {
    let mut error = error.more_context(format!("peer {}", peer._address));
    let from_upstream = *error.esource() == ErrorSource::Upstream;
    if from_upstream && *error.etype() == ErrorType::TLSHandshakeFailure {
        // The connection was judged unfit before anything was sent on it.
        unconnected(shared, ctx, &error);
        error.set_retry(may_try_again(ctx));
        return error;
    }
    if from_upstream && blame::is_tls(&error) {
        insecure(shared, ctx, &error);
    }
    let refuses_http2 = *error.etype() == ErrorType::H2Downgrade && peer.options.alpn != ALPN::H2;
    if refuses_http2 {
        prefer_http1(ctx);
    }
    let unharmed = session.req_header().method.is_idempotent() || is_untouched(&error);
    let safe =
        unharmed && !session.as_ref().retry_buffer_truncated() && fail::begun(session).is_none();
    let broken = from_upstream && (refuses_http2 || is_broken(&error));
    error.set_retry(broken && safe && may_try_again(ctx));
    error
}

/// Takes a target at its word that asks for HTTP/1.1 (`HTTP_1_1_REQUIRED`, RFC 9113 §7). Pingora
/// would do so for new connections alone, and those that are there are used first.
fn prefer_http1(ctx: &Ctx) {
    let Some(flight) = &ctx.flight else { return };
    let endpoint = flight.chosen.as_ref().map(|chosen| &chosen.endpoint);
    if let Some(endpoint) = endpoint.filter(|e| e.prefer_http1()) {
        let (name, target) = (&flight.pool.spec.name, &endpoint.target);
        log::info!("upstream {name}: target {target} asks for HTTP/1.1, and gets it");
    }
}

/// Whether the connection, or the stream within it, came to an end before its time.
fn is_broken(error: &Error) -> bool {
    match error.etype() {
        ErrorType::ConnectionClosed
        | ErrorType::ReadError
        | ErrorType::WriteError
        | ErrorType::H2Error
        | ErrorType::InvalidH2 => true,
        kind => *kind == PING_TIMEDOUT,
    }
}

/// Whether the target did not begin with the request: it refused the stream (`REFUSED_STREAM`), or
/// said before it goes in good order that the stream comes too late (`GOAWAY`). Pingora marks these
/// as safe to send again; other errors of HTTP/2 it does not mark.
fn is_untouched(error: &Error) -> bool {
    *error.etype() == ErrorType::H2Error && error.retry == RetryType::Decided(true)
}

fn may_try_again(ctx: &Ctx) -> bool {
    let expired = ctx.exchange.as_ref().is_some_and(|e| e.conn.expired());
    let left = |f: &choose::Flight| f.attempts <= f.pool.spec.retries;
    !expired && ctx.flight.as_ref().is_some_and(left)
}
