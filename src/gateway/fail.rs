//! The only place that answers a refusal or an error on a session, and says whether the connection
//! goes on.

use super::answer::{Answer, answer, status};
use super::{Ctx, Shared, blame, grpc};
use crate::exchange::refusal::Refusal;
use crate::observe::reason::Reason;
use crate::snapshot::ErrorShape;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::{Method, Version};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, Result};
use std::time::Duration;

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
