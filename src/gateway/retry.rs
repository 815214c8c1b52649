//! The fifth step, where the first attempt failed: whether another one is safe, and worth it.

use super::{Ctx, fail};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

/// The hook after a connection that could not be made: nothing was sent, so any method may try
/// another target.
pub fn connect(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    if let Some(flight) = &ctx.flight {
        flight.pool.metrics.connect_failed();
    }
    error.set_retry(may_try_again(ctx));
    error
}

/// The hook after a connection that broke: a replay is safe for an idempotent method (RFC 9110
/// §9.2.2) whose body is still at hand, as long as the client has seen nothing of an answer. A
/// time limit that has passed is no broken connection.
pub fn replay(
    peer: &HttpPeer,
    session: &mut Session,
    ctx: &mut Ctx,
    error: Box<Error>,
) -> Box<Error> {
    let mut error = error.more_context(format!("peer {}", peer._address));
    let broken = *error.esource() == ErrorSource::Upstream
        && matches!(
            error.etype(),
            ErrorType::ConnectionClosed
                | ErrorType::ReadError
                | ErrorType::WriteError
                | ErrorType::H2Error
                | ErrorType::InvalidH2
        );
    let safe = session.req_header().method.is_idempotent()
        && !session.as_ref().retry_buffer_truncated()
        && fail::begun(session).is_none();
    error.set_retry(broken && safe && may_try_again(ctx));
    error
}

fn may_try_again(ctx: &Ctx) -> bool {
    let expired = ctx.exchange.as_ref().is_some_and(|e| e.conn.expired());
    let left = |f: &super::choose::Flight| f.attempts <= f.pool.spec.retries;
    !expired && ctx.flight.as_ref().is_some_and(left)
}
