//! Whose fault a failed request is: a reason for the answer, a verdict for the breaker.

use super::{Ctx, Shared, choose};
use crate::exchange::connection::Connection;
use crate::observe::reason::Reason;
use pingora::protocols::http::v2::client::PING_TIMEDOUT;
use pingora::{Error, ErrorSource, ErrorType};
use std::io;

/// The reason behind an error of Pingora's. `body_complete`: the whole request body has come.
pub fn reason(error: &Error, conn: &Connection, body_complete: bool) -> Reason {
    match (error.esource(), error.etype()) {
        _ if conn.is_ending() => return Reason::GoingAway,
        // A client that does not read its answer holds up the write, not the service.
        (ErrorSource::Downstream, ErrorType::WriteTimedout) => return Reason::ClientTooSlow,
        (ErrorSource::Downstream, ErrorType::WriteError) if conn.is_slow_reader() => {
            return Reason::ClientTooSlow;
        }
        (ErrorSource::Downstream, ErrorType::WriteError) => return Reason::ClientClosed,
        _ if conn.is_slow_reader() => return Reason::ClientTooSlow,
        _ if conn.is_slow_body() => return Reason::BodyTimeout,
        _ if conn.expired() && conn.is_tunnel() => return Reason::IdleTimeout,
        _ if conn.expired() => return slow(conn, body_complete),
        _ => (),
    }
    match error.esource() {
        ErrorSource::Upstream => upstream(error, conn, body_complete),
        ErrorSource::Downstream if broken_framing(error) => Reason::BadRequest,
        ErrorSource::Downstream => downstream(error),
        ErrorSource::Internal | ErrorSource::Unset => Reason::InternalError,
    }
}

/// Too slow: the client, as long as it owes bytes of its upload; else the service, which did not
/// answer or did not take what came.
fn slow(conn: &Connection, body_complete: bool) -> Reason {
    if !body_complete && conn.is_owing() {
        Reason::BodyTimeout
    } else {
        Reason::UpstreamTimeout
    }
}

fn upstream(error: &Error, conn: &Connection, body_complete: bool) -> Reason {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout | ErrorType::WriteTimedout => {
            Reason::UpstreamTimeout
        }
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::BindError
        | ErrorType::SocketError
        | ErrorType::HandshakeError => Reason::UpstreamConnectFailed,
        _ if is_tls(error) => Reason::UpstreamTlsFailed,
        // The clock of an upstream read runs while the client is still uploading.
        ErrorType::ReadTimedout => slow(conn, body_complete),
        kind if *kind == PING_TIMEDOUT => Reason::UpstreamTimeout,
        _ if breaks_http2(error) => Reason::UpstreamInvalid,
        ErrorType::ConnectionClosed
        | ErrorType::ReadError
        | ErrorType::WriteError
        | ErrorType::H2Error => {
            // A service may give up on an upload that has stalled; that is no fault of its own.
            if !body_complete && conn.is_stalled() {
                Reason::BodyTimeout
            } else {
                Reason::UpstreamReset
            }
        }
        _ => Reason::UpstreamInvalid,
    }
}

/// Whether it is TLS that keeps us from a target: its certificate is refused, the handshake fails or
/// agrees on too little, or the target takes offence at it later. In TLS 1.3 it judges our certificate
/// when its own handshake is over, and the alert (RFC 8446 §6) comes in place of an answer.
pub fn is_tls(error: &Error) -> bool {
    match error.etype() {
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => true,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::H2Error => {
            error.root_cause().to_string().contains("_ALERT_")
        }
        _ => false,
    }
}

/// Whether the target broke the rules of HTTP/2, rather than end a stream or the connection.
fn breaks_http2(error: &Error) -> bool {
    match error.root_cause().downcast_ref::<h2::Error>() {
        Some(cause) => cause.is_library(),
        // What h2 lets pass is judged by Pingora itself.
        None => *error.etype() == ErrorType::H2Error,
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
            | Reason::UpstreamTlsFailed
            | Reason::UpstreamReset
            | Reason::UpstreamInvalid
            | Reason::UpstreamTimeout
    )
}

/// Tells the breaker of a request that failed, under the request's own permit and once. What is the
/// client's or our own fault is no verdict. An answer that was still coming when the request's total
/// ended is none either: it may be a long one, or the client a slow one.
pub fn settle(shared: &Shared, ctx: &mut Ctx, reason: Reason) {
    let Some(flight) = ctx.flight.as_mut().filter(|_| is_failure(reason)) else {
        return;
    };
    let expired = ctx.exchange.as_ref().is_some_and(|e| e.conn.expired());
    let cut_off = expired && flight.answered;
    let permit = flight.permit.take().filter(|_| !cut_off);
    if let Some(transition) = permit.and_then(|p| p.failure(shared.clock.now())) {
        choose::tell(&flight.pool, transition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::exchange::admission::Caps;
    use crate::exchange::connection::Phase;
    use crate::exchange::listener::{Listener, Terms};
    use std::sync::Arc;

    fn conn() -> Connection {
        let metrics = crate::observe::metrics::Metrics::new("0", 0).listener("public");
        let (terms, caps) = (Terms::default(), Caps::default());
        let listener = Arc::new(Listener::new("public", metrics, terms, caps));
        let pass = listener.admission.enter().expect("a place");
        Connection::new(listener, ([127, 0, 0, 1], 5000).into(), None, pass)
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

    fn owing(kind: ErrorType, complete: bool) -> Reason {
        let conn = conn();
        conn.set_owing(true);
        conn.sweep(Now::at_ms(1000));
        conn.sweep(Now::at_ms(1600));
        reason(&Error::explain(kind, "a test").into_up(), &conn, complete)
    }

    #[test]
    fn a_stalled_upload_is_never_the_services_fault() {
        for kind in [ErrorType::ReadTimedout, ErrorType::ConnectionClosed] {
            assert_eq!(owing(kind, false), Reason::BodyTimeout);
        }
        let slow = of(ErrorType::ReadTimedout, false, false);
        assert_eq!(slow, Reason::BodyTimeout);
        assert!(!is_failure(Reason::BodyTimeout));
        let late = owing(ErrorType::ReadTimedout, true);
        assert_eq!(late, Reason::UpstreamTimeout, "all of it has come");
    }

    // A service that took the connection and never read a 30 MiB upload was answered for with 408.
    #[test]
    fn a_service_that_takes_no_upload_is_to_blame() {
        for kind in [ErrorType::ReadTimedout, ErrorType::WriteTimedout] {
            assert_eq!(of(kind, true, false), Reason::UpstreamTimeout);
        }
        let closed = of(ErrorType::ConnectionClosed, true, false);
        assert_eq!(closed, Reason::UpstreamReset, "while the upload flowed");
    }

    #[test]
    fn an_expired_connection_names_who_was_awaited() {
        let conn = conn();
        conn.arm(Phase::Busy, Now::at_ms(0), 100);
        conn.sweep(Now::at_ms(200));
        let error = Error::explain(ErrorType::ReadError, "a test").into_down();
        assert_eq!(reason(&error, &conn, true), Reason::UpstreamTimeout);
        assert_eq!(reason(&error, &conn, false), Reason::UpstreamTimeout);
        conn.set_owing(true);
        assert_eq!(reason(&error, &conn, false), Reason::BodyTimeout);
    }

    #[test]
    fn ending_a_stream_and_breaking_the_rules_are_told_apart() {
        let because = |cause: h2::Error| {
            let error = Error::because(ErrorType::H2Error, "a test", cause).into_up();
            reason(&error, &conn(), true)
        };
        // As the h2 crate makes them: a bare reason is no verdict of its own.
        assert_eq!(because(h2::Reason::CANCEL.into()), Reason::UpstreamReset);
        let judged = of(ErrorType::H2Error, true, true);
        assert_eq!(judged, Reason::UpstreamInvalid, "by Pingora");
    }

    #[test]
    fn an_alert_in_place_of_an_answer_is_tls() {
        let alert = io::Error::other("[TLSV1_ALERT_CERTIFICATE_REQUIRED]");
        let error = Error::because(ErrorType::ReadError, "a test", alert).into_up();
        assert_eq!(reason(&error, &conn(), true), Reason::UpstreamTlsFailed);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = Error::because(ErrorType::ReadError, "a test", reset).into_up();
        assert_eq!(reason(&error, &conn(), true), Reason::UpstreamReset);
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
        let silent = of(PING_TIMEDOUT, true, true);
        assert_eq!(silent, Reason::UpstreamTimeout);
        for kind in [ErrorType::InvalidCert, ErrorType::TLSHandshakeFailure] {
            let insecure = of(kind, true, true);
            assert_eq!(insecure, Reason::UpstreamTlsFailed);
            assert!(is_failure(insecure));
        }
        let odd = of(ErrorType::InvalidHTTPHeader, true, true);
        assert_eq!(odd, Reason::UpstreamInvalid);
        let gone = of(ErrorType::ConnectionClosed, false, true);
        assert_eq!(gone, Reason::ClientClosed);
        assert!(!is_failure(gone));
    }
}
