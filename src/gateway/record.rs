//! The last step: the access line and the figures of a request, however it ended.

use super::{Ctx, Shared, answer, choose, fail};
use crate::base::clock::Now;
use crate::exchange::Exchange;
use crate::exchange::refusal::Refusal;
use crate::observe::access_log::Record;
use crate::observe::reason::Reason;
use pingora::Error;
use pingora::proxy::Session;
use std::time::Duration;

/// The hook: an attempt is connected.
pub fn connected(shared: &Shared, ctx: &mut Ctx) {
    if let Some(exchange) = &mut ctx.exchange {
        exchange.times.connected_ns = shared.clock.now().since_ns(exchange.started);
    }
}

/// The hook at the end of every request that reached Pingora.
pub fn end(shared: &Shared, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
    let Some(exchange) = ctx.exchange.as_mut() else {
        return;
    };
    if let (Some(_), None, false) = (error, &exchange.refusal, ctx.unsent) {
        exchange.refusal = Some(Refusal::new(Reason::InternalError));
    }
    if exchange.conn.is_ending() {
        // Whatever else was the end of it.
        exchange.refusal = Some(Refusal::new(Reason::GoingAway));
    }
    let sent = Sent {
        status: fail::begun(session).unwrap_or(0),
        bytes_in: ctx.bytes_in,
        protocol: exchange.conn.protocol(),
    };
    let reason = exchange.refusal.as_ref().map(|r| r.reason);
    if reason == Some(Reason::ClientClosed) {
        exchange.conn.set_reset();
    }
    let now = shared.clock.now();
    tell(shared, exchange, &sent, now);
    // Whatever is still held of an upstream is given back now, not when the task ends.
    let Some(mut flight) = ctx.flight.take() else {
        return;
    };
    let permit = flight.permit.take().filter(|_| flight.answered);
    if let Some(transition) = permit.and_then(|p| p.success(now)) {
        choose::tell(&flight.pool, transition);
    }
}

/// What was exchanged with the client.
pub struct Sent {
    /// The status; 0 if none was sent.
    pub status: u16,
    /// Body bytes received.
    pub bytes_in: u64,
    /// The protocol.
    pub protocol: &'static str,
}

/// Writes the access line and counts; the request ended `now`.
pub fn tell(shared: &Shared, exchange: &Exchange, sent: &Sent, now: Now) {
    let took_ns = now.since_ns(exchange.started);
    let reason = exchange.refusal.as_ref().map(|r| r.reason);
    let status = match (sent.status, reason) {
        (0, Some(reason)) => answer::status(reason).0,
        (status, _) => status,
    };
    count(shared, exchange, status, took_ns);
    if shared.access_log.enabled() {
        let us = |ns: u64| (ns > 0).then_some(ns / 1000);
        let times = &exchange.times;
        let principal = exchange.principal.as_deref();
        let upstream = exchange.upstream.as_ref();
        let ended = times.connecting_ns > 0;
        shared.access_log.record(&Record {
            unix_ms: exchange.started.unix_ms,
            request_id: exchange.request_id.as_bytes(),
            trace_id: Some(exchange.trace.trace_id_bytes()),
            client_addr: exchange.client,
            client_id: principal.and_then(|p| p.client_id.as_deref()),
            user_id: principal.and_then(|p| p.user.as_deref()),
            method: exchange.method.as_str(),
            host: Some(exchange.host.as_str()).filter(|h| !h.is_empty()),
            path: &exchange.path,
            route: exchange.route.as_ref().map(|r| &*r.name),
            upstream: upstream.map(|u| &*u.name),
            target: upstream.and_then(|u| u.target.as_deref()),
            status_code: status,
            grpc_status: exchange.call.and_then(|c| c.status).map(|s| s.0),
            reason: reason.map(Reason::code),
            would_refuse: exchange.would_refuse.map(Reason::code),
            latency_us: took_ns / 1000,
            screen_us: us(times.screened_ns),
            connect_us: us(times.connected_ns.saturating_sub(times.connecting_ns)),
            ttfb_us: us(times.first_byte_ns.saturating_sub(times.connected_ns)),
            upstream_us: ended.then(|| took_ns.saturating_sub(times.connecting_ns) / 1000),
            bytes_in: sent.bytes_in,
            bytes_out: exchange.bytes_out,
            attempts: upstream.map_or(0, |u| u.attempts),
            protocol: sent.protocol,
            listener: &exchange.conn.listener.name,
            tier: principal.and_then(|p| p.tier.as_deref()),
        });
    }
}

fn count(shared: &Shared, exchange: &Exchange, status: u16, took_ns: u64) {
    let tier = exchange.principal.as_ref().and_then(|p| p.tier.as_deref());
    let route = exchange.route.as_ref().map(|r| &r.metrics);
    let metrics = route.unwrap_or_else(|| shared.metrics.unrouted());
    if let Some(reason) = exchange.would_refuse {
        metrics.would_refuse(reason);
    }
    let took = Duration::from_nanos(took_ns);
    metrics.answered(exchange.method.as_str(), status, tier, took);
    if let Some(refusal) = &exchange.refusal {
        shared.metrics.refused(refusal.reason);
        if refusal.reason == Reason::RateLimited {
            metrics.limited(tier);
        }
    }
    if let (Some(upstream), true) = (&exchange.upstream, exchange.times.first_byte_ns > 0) {
        let spent = took_ns.saturating_sub(exchange.times.connecting_ns);
        upstream.metrics.answered(Duration::from_nanos(spent));
    }
}
