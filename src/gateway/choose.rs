//! The third step: which upstream, whether its circuit is closed, and which of its targets.

use super::tunnel::Handshake;
use super::{Ctx, Shared, grpc, receive};
use crate::base::clock::Now;
use crate::breaker::Permit;
use crate::breaker::{State, Transition};
use crate::exchange::refusal::Refusal;
use crate::exchange::{Exchange, UpstreamRef};
use crate::observe::metrics::{Circuit, InFlight};
use crate::observe::reason::Reason;
use crate::snapshot::{Choice, Destination, Route, TenantSource};
use crate::upstream::balance::Tried;
use crate::upstream::hold::Gate;
use crate::upstream::peer;
use crate::upstream::pool::{Chosen, Pool};
use http::HeaderMap;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use std::sync::Arc;
use std::time::Duration;

/// A request on its way to an upstream; what it holds is given back by the drop.
pub struct Flight {
    /// The upstream.
    pub pool: Arc<Pool>,
    /// The breaker's permit, until the verdict.
    pub permit: Option<Permit>,
    /// The target of the current attempt.
    pub chosen: Option<Chosen>,
    /// The attempt, counted.
    pub in_flight: Option<InFlight>,
    /// Targets tried before.
    pub tried: Tried,
    /// Attempts made.
    pub attempts: u32,
    /// The most time the request may take, in milliseconds; where `pause_ms` is set, until the header
    /// of its answer.
    pub total_ms: u64,
    /// How long nothing may move, in milliseconds, in an exchange whose end cannot be foreseen.
    pub pause_ms: Option<u64>,
    /// The WebSocket handshake that the request is.
    pub handshake: Option<Handshake>,
    /// Holds the answer to the handshake back until the current attempt has written it.
    pub gate: Option<Arc<Gate>>,
    /// Whether the status that the client gets was decided by the upstream.
    pub answered: bool,
}

impl Flight {
    /// How this attempt reaches its target, and how long each step of it may take.
    fn peer(&mut self, chosen: &Chosen, exchange: &Exchange, now: Now) -> Box<HttpPeer> {
        let whole = self.pause_ms.is_none() || self.handshake.is_some();
        let spent_ms = if whole {
            now.since_ns(exchange.admitted) / 1_000_000
        } else {
            // An upload may have gone on for long before this attempt.
            0
        };
        let left = Duration::from_millis(self.total_ms.saturating_sub(spent_ms).max(1));
        let pause = self.pause_ms.map(Duration::from_millis);
        let mut peer = chosen.peer(&self.pool.spec.timeouts, left, pause);
        if exchange.bare && pause.is_none() && self.pool.spec.timeouts.read.is_none() {
            // All that is waited for is the answer, and that wait ends with the request's own limit: a
            // timer of Pingora's would be set and taken back for nothing.
            peer.options.read_timeout = None;
        }
        if self.handshake.is_some() {
            let gate = Arc::new(Gate::default());
            peer::apart(&mut peer, gate.clone());
            self.gate = Some(gate);
        }
        peer
    }
}

/// Chooses the upstream of a request that may pass, and asks its breaker.
///
/// # Errors
/// The tenant is missing or unknown, the client's deadline has passed, or the circuit is open.
pub fn upstream(
    route: &Route,
    headers: &HeaderMap,
    exchange: &mut Exchange,
    handshake: Option<Handshake>,
) -> Result<Flight, Refusal> {
    let pool = choice(route, headers, exchange)?.pick().clone();
    exchange.upstream = Some(UpstreamRef {
        name: pool.spec.name.clone(),
        target: None,
        attempts: 0,
        metrics: pool.metrics.clone(),
    });
    let total = u64::try_from(pool.spec.timeouts.total.as_millis()).unwrap_or(u64::MAX);
    let total_ms = route.timeout_ms.unwrap_or(total);
    let deadline_ms = grpc::deadline_ms(exchange)?;
    if let Some(ms) = deadline_ms {
        exchange.conn.end_by(exchange.admitted, ms);
    }
    if exchange.call.is_some() {
        exchange.conn.lift_rate();
    }
    let total_ms = deadline_ms.map_or(total_ms, |ms| ms.min(total_ms));
    let pause_ms = match handshake {
        Some(_) => route.websocket_ms,
        None => route.streaming_ms,
    };
    match pause_ms.filter(|_| handshake.is_none()) {
        // Until the request is complete; then the answer's header is waited for.
        Some(pause_ms) => {
            exchange.conn.bound_by_idle(pause_ms);
            exchange.conn.moved(exchange.admitted);
        }
        None => exchange.conn.limit(exchange.admitted, total_ms),
    }
    Ok(Flight {
        permit: permit(&pool, exchange.admitted)?,
        pool,
        chosen: None,
        in_flight: None,
        tried: Tried::default(),
        attempts: 0,
        total_ms,
        pause_ms,
        handshake,
        gate: None,
        answered: false,
    })
}

/// The upstream, or the split between several, that the route leads this request to.
fn choice<'a>(
    route: &'a Route,
    headers: &HeaderMap,
    exchange: &Exchange,
) -> Result<&'a Choice, Refusal> {
    match &route.to {
        Destination::Plain(choice) => Ok(choice),
        Destination::Header {
            name,
            values,
            default,
        } => {
            let sent = receive::single(headers, name);
            Ok(sent.and_then(|v| values.get(v.trim())).unwrap_or(default))
        }
        Destination::Tenant { from, values } => {
            let tenant = match from {
                TenantSource::Header(name) => receive::single(headers, name).map(str::trim),
                TenantSource::Claim => exchange
                    .principal
                    .as_ref()
                    .and_then(|p| p.tenant.as_deref()),
            };
            let tenant = tenant
                .filter(|t| !t.is_empty())
                .ok_or(Reason::TenantMissing)?;
            values
                .get(tenant)
                .ok_or_else(|| Reason::TenantUnknown.into())
        }
    }
}

fn permit(pool: &Arc<Pool>, now: Now) -> Result<Option<Permit>, Refusal> {
    let Some(breaker) = &pool.breaker else {
        return Ok(None);
    };
    match breaker.permit(now) {
        Ok(permit) => {
            if let Some(transition) = permit.transition() {
                tell(pool, transition);
            }
            Ok(Some(permit))
        }
        Err(open) => Err(Refusal::new(Reason::CircuitOpen)
            .retry_after_ms(open.retry_after_ms)
            .of(&pool.spec.name)),
    }
}

/// Tells the breaker how the upstream did, under the request's own permit and once.
pub fn settle(flight: &mut Flight, failed: bool, now: Now) {
    let Some(permit) = flight.permit.take() else {
        return;
    };
    let verdict = if failed {
        permit.failure(now)
    } else {
        permit.success(now)
    };
    if let Some(transition) = verdict {
        tell(&flight.pool, transition);
    }
}

/// The hook, once there is a target: waits while another request makes a connection to it that both
/// may share.
pub async fn wait(ctx: &mut Ctx) {
    if let Some(chosen) = ctx.flight.as_mut().and_then(|f| f.chosen.as_mut()) {
        chosen.wait().await;
    }
}

/// Notes that an attempt is connected, or that it cannot be.
pub fn connected(ctx: &mut Ctx, well: bool) {
    if let Some(chosen) = ctx.flight.as_mut().and_then(|f| f.chosen.as_mut()) {
        chosen.connected(well);
    }
}

/// Tells of a breaker that changed: an operator's message and a metric.
pub fn tell(pool: &Pool, transition: Transition) {
    let name = &pool.spec.name;
    match transition.to() {
        State::Open => log::warn!("upstream {name}: {transition}"),
        State::HalfOpen | State::Closed => log::info!("upstream {name}: {transition}"),
    }
    pool.metrics.circuit(match transition.to() {
        State::Open => Circuit::Open,
        State::HalfOpen => Circuit::HalfOpen,
        State::Closed => Circuit::Closed,
    });
}

/// The hook: the target of the next attempt, another one than those that failed as long as there
/// is one.
///
/// # Errors
/// No target is healthy, or the request's time is over.
pub fn target(shared: &Shared, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let now = shared.clock.now();
    let (Some(flight), Some(exchange)) = (ctx.flight.as_mut(), ctx.exchange.as_mut()) else {
        return Error::e_explain(ErrorType::InternalError, "no upstream was chosen");
    };
    let fresh = flight.pool.choose(&flight.tried);
    let again = || flight.pool.choose(&Tried::default());
    let Some(chosen) = fresh.or_else(again) else {
        let refusal = Refusal::new(Reason::NoHealthyTarget).retry_after_ms(1000);
        exchange.refusal = Some(refusal.of(&flight.pool.spec.name));
        return Error::e_explain(ErrorType::ConnectNoRoute, "no healthy target");
    };
    let peer = flight.peer(&chosen, exchange, now);
    flight.tried.add(chosen.index);
    flight.attempts += 1;
    if let Some(upstream) = &mut exchange.upstream {
        upstream.attempts = flight.attempts;
        upstream.target = Some(chosen.endpoint.target.clone());
    }
    flight.in_flight = Some(flight.pool.metrics.attempt(flight.attempts > 1));
    flight.chosen = Some(chosen);
    exchange.times.connecting_ns = now.since_ns(exchange.started);
    // What an attempt before this one counted is counted again.
    ctx.bytes_in = 0;
    Ok(peer)
}
