//! Whose fault a failed request is: a reason for the answer, a verdict for the breaker.

use super::{Ctx, Shared, choose};
use crate::exchange::connection::Connection;
use crate::observe::reason::Reason;
use pingora::{Error, ErrorSource, ErrorType};
use std::io;

/// The reason behind an error of Pingora's. `body_complete`: the whole request body has come.
pub fn reason(error: &Error, conn: &Connection, body_complete: bool) -> Reason {
    match (error.esource(), error.etype()) {
        // A client that does not read its answer holds up the write, not the service.
        (ErrorSource::Downstream, ErrorType::WriteError | ErrorType::WriteTimedout) => {
            return Reason::ClientClosed;
        }
        _ if conn.expired() => return slow(body_complete),
        _ => (),
    }
    match error.esource() {
        ErrorSource::Upstream => upstream(error, body_complete),
        ErrorSource::Downstream if broken_framing(error) => Reason::BadRequest,
        ErrorSource::Downstream => downstream(error),
        ErrorSource::Internal | ErrorSource::Unset => Reason::InternalError,
    }
}

/// Too slow: the client, as long as its own upload is not complete; else the service.
fn slow(body_complete: bool) -> Reason {
    if body_complete {
        Reason::UpstreamTimeout
    } else {
        Reason::BodyTimeout
    }
}

fn upstream(error: &Error, body_complete: bool) -> Reason {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Reason::UpstreamTimeout,
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::BindError
        | ErrorType::SocketError
        | ErrorType::TLSHandshakeFailure
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError => Reason::UpstreamConnectFailed,
        // The clock of an upstream read runs while the client is still uploading.
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => slow(body_complete),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => {
            Reason::UpstreamReset
        }
        _ => Reason::UpstreamInvalid,
    }
}

fn downstream(error: &Error) -> Reason {
    match error.etype() {
        ErrorType::ReadTimedout => Reason::BodyTimeout,
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::Custom(_) => {
            Reason::BadRequest
        }
        _ => Reason::ClientClosed,
    }
}

/// Whether the edge gave up on the framing of a chunked body (RFC 9112 §7.1).
fn broken_framing(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|e| e.kind() == io::ErrorKind::InvalidData)
}

/// Whether the service is to blame.
fn is_failure(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UpstreamConnectFailed
            | Reason::UpstreamReset
            | Reason::UpstreamInvalid
            | Reason::UpstreamTimeout
    )
}

/// Tells the breaker of a request that failed. What is the client's or our own fault is no verdict:
/// the permit is given back unused.
pub fn settle(shared: &Shared, ctx: &mut Ctx, reason: Reason) {
    let Some(flight) = &mut ctx.flight else {
        return;
    };
    let now = shared.clock.now();
    let permit = flight.permit.take();
    if !is_failure(reason) {
        return;
    }
    // An answer that began well and broke off has had its verdict; the break counts as well.
    let late = || {
        flight
            .pool
            .breaker
            .as_ref()
            .and_then(|b| b.permit(now).ok())
    };
    if let Some(transition) = permit.or_else(late).and_then(|p| p.failure(now)) {
        choose::tell(&flight.pool, transition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::exchange::connection::{Listener, Phase};
    use std::sync::Arc;

    fn conn() -> Connection {
        let metrics = crate::observe::metrics::Metrics::new("0", 0).listener("public");
        let listener = Arc::new(Listener::new("public", metrics, None, 60_000, 10_000));
        Connection::new(listener, ([127, 0, 0, 1], 5000).into())
    }

    fn of(kind: ErrorType, from_upstream: bool, complete: bool) -> Reason {
        let error = Error::explain(kind, "a test");
        let error = if from_upstream {
            error.into_up()
        } else {
            error.into_down()
        };
        reason(&error, &conn(), complete)
    }

    #[test]
    fn a_stalled_upload_is_never_the_services_fault() {
        let timeout = ErrorType::ReadTimedout;
        assert_eq!(of(timeout.clone(), true, true), Reason::UpstreamTimeout);
        assert_eq!(of(timeout.clone(), true, false), Reason::BodyTimeout);
        assert_eq!(of(timeout, false, false), Reason::BodyTimeout);
        assert!(!is_failure(Reason::BodyTimeout));
    }

    #[test]
    fn an_expired_connection_names_who_was_awaited() {
        let conn = conn();
        conn.arm(Phase::Busy, Now::at_ms(0), 100);
        conn.sweep(Now::at_ms(200));
        let error = Error::explain(ErrorType::ReadError, "a test").into_down();
        assert_eq!(reason(&error, &conn, true), Reason::UpstreamTimeout);
        assert_eq!(reason(&error, &conn, false), Reason::BodyTimeout);
    }

    #[test]
    fn a_client_that_does_not_read_is_not_the_services_fault() {
        let conn = conn();
        conn.arm(Phase::Busy, Now::at_ms(0), 100);
        conn.sweep(Now::at_ms(200));
        let error = Error::explain(ErrorType::WriteError, "a test").into_down();
        assert_eq!(reason(&error, &conn, true), Reason::ClientClosed);
    }

    #[test]
    fn connecting_breaking_and_leaving_are_told_apart() {
        let connect = of(ErrorType::ConnectRefused, true, true);
        assert_eq!(connect, Reason::UpstreamConnectFailed);
        let slow = of(ErrorType::ConnectTimedout, true, true);
        assert_eq!(slow, Reason::UpstreamTimeout);
        let reset = of(ErrorType::ConnectionClosed, true, true);
        assert_eq!(reset, Reason::UpstreamReset);
        let odd = of(ErrorType::InvalidHTTPHeader, true, true);
        assert_eq!(odd, Reason::UpstreamInvalid);
        let gone = of(ErrorType::ConnectionClosed, false, true);
        assert_eq!(gone, Reason::ClientClosed);
        assert!(!is_failure(gone));
    }
}
