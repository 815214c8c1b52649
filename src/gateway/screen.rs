//! The second step: may this request pass. Works on header types and the exchange; the only place
//! that awaits a lookup, and only where the route's own policy asks for one.

use super::choose::{self, Flight};
use super::{Ctx, Shared, connection, fail, probe, receive, tunnel};
use crate::base::clock::Now;
use crate::exchange::listener::Redirect;
use crate::exchange::refusal::Refusal;
use crate::exchange::{Exchange, RouteRef};
use crate::filter::{Lookup, Verdict};
use crate::observe::reason::Reason;
use crate::route::table::Found;
use crate::snapshot::{Route, Snapshot};
use crate::upstream::peer;
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::sync::Arc;
use std::time::Duration;

/// What the gateway answers by itself.
pub enum Outcome {
    /// The request goes on to an upstream.
    Proxy(Flight),
    /// A probe of the gateway itself, or a redirect.
    Answer(fail::Answer),
}

/// The most time that a lookup may take.
const LOOKUP: Duration = Duration::from_secs(3);

/// The hook: runs [`judge`] on the session's header and answers what is not proxied. True if it
/// was answered.
///
/// # Errors
/// The answer could not be written.
pub async fn enter(shared: &Shared, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let now = shared.clock.now();
    let Some(conn) = connection(session).cloned() else {
        return pingora::Error::e_explain(
            pingora::ErrorType::InternalError,
            "a connection that is not from our edge",
        );
    };
    let terms = &conn.listener.terms;
    session.set_read_timeout(Some(Duration::from_millis(terms.idle_ms)));
    if !conn.is_stream() && receive::is_last(&session.req_header().headers) {
        session.set_keepalive(None);
    }
    let snapshot = shared.snapshot.load_full();
    let (id, trace) = receive::identify(&session.req_header().headers);
    let mut exchange = Exchange::new(conn, now, id, trace);
    let outcome = judge(
        shared,
        &snapshot,
        session.req_header_mut(),
        &mut exchange,
        now,
    )
    .await;
    ctx.snapshot = Some(snapshot);
    exchange.times.screened_ns = shared.clock.now().since_ns(now);
    let answered = match outcome {
        Ok(Outcome::Proxy(flight)) => {
            // Where the route bounds the pauses, its bound holds, not the listener's.
            if let Some(pause_ms) = flight.pause_ms {
                let pause = peer::beyond(Duration::from_millis(pause_ms));
                session.set_read_timeout(Some(pause));
            }
            ctx.flight = Some(flight);
            ctx.exchange = Some(exchange);
            return Ok(false);
        }
        Ok(Outcome::Answer(answer)) => {
            ctx.exchange = Some(exchange);
            fail::write(session, answer, ctx).await
        }
        Err(refusal) => {
            exchange.refusal = Some(refusal);
            ctx.exchange = Some(exchange);
            fail::refuse(session, ctx).await
        }
    };
    answered.map(|()| true)
}

/// Decides what becomes of a request.
///
/// # Errors
/// Why it is not served.
pub async fn judge(
    shared: &Shared,
    snapshot: &Arc<Snapshot>,
    header: &mut RequestHeader,
    exchange: &mut Exchange,
    now: Now,
) -> Result<Outcome, Refusal> {
    receive::receive(header, exchange, snapshot)?;
    if let Some(answer) = probe::answer(shared, exchange)? {
        return Ok(Outcome::Answer(answer));
    }
    if let Some(redirect) = exchange.conn.listener.terms.redirect {
        return Ok(Outcome::Answer(to_https(redirect, header, exchange)?));
    }
    if let Some(flood) = &snapshot.flood {
        unwrap(flood.request(exchange.client, now))?;
    }
    let index = find(snapshot, exchange)?;
    let route = &snapshot.routes[index];
    exchange.route = Some(RouteRef {
        index,
        name: route.name.clone(),
        metrics: route.metrics.clone(),
    });
    exchange.closes = tunnel::asked(header, route);
    pass(shared, route, &header.headers, exchange, now).await?;
    if let Some(answer) = probe::last_hop(header) {
        return Ok(Outcome::Answer(answer));
    }
    let handshake = tunnel::judge(header, exchange.closes)?;
    choose::upstream(shared, route, &header.headers, exchange, handshake).map(Outcome::Proxy)
}

/// The https address of what was asked for: the same host, path and query.
fn to_https(
    redirect: Redirect,
    header: &RequestHeader,
    exchange: &Exchange,
) -> Result<fail::Answer, Refusal> {
    let port = match redirect.port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let query = header.uri.query().map(|q| format!("?{q}"));
    let (host, path, query) = (&exchange.host, &exchange.path, query.unwrap_or_default());
    let location = HeaderValue::try_from(format!("https://{host}{port}{path}{query}"));
    let location = location.map_err(|_| Refusal::from(Reason::BadRequest))?;
    let mut answer = probe::text(redirect.status, "");
    answer.headers = vec![(LOCATION, location)];
    Ok(answer)
}

fn find(snapshot: &Snapshot, exchange: &Exchange) -> Result<usize, Refusal> {
    let found = snapshot
        .table
        .find(&exchange.host, &exchange.path, &exchange.method);
    match found {
        Found::Route(id) => Ok(id as usize),
        Found::Method(allow) => Err(Refusal {
            allow: Some(allow),
            ..Reason::MethodNotAllowed.into()
        }),
        Found::Ambiguous => Err(Reason::AmbiguousPath.into()),
        Found::None => Err(Reason::RouteNotFound.into()),
    }
}

/// Runs the route's filters; makes the lookup that one asks for, once, and asks it again.
async fn pass(
    shared: &Shared,
    route: &Route,
    headers: &HeaderMap,
    exchange: &mut Exchange,
    now: Now,
) -> Result<(), Refusal> {
    for (n, filter) in route.chain.iter().enumerate() {
        let mut verdict = filter.request(headers, exchange, now, false);
        if let Verdict::Ask(lookup) = verdict {
            look_up(lookup, headers).await;
            exchange.admitted = shared.clock.now();
            verdict = filter.request(headers, exchange, exchange.admitted, true);
        }
        if let Err(refusal) = unwrap(verdict) {
            // The limits behind it are told of all the same, not counted.
            let behind = &route.chain[n + 1..];
            for filter in behind {
                filter.report(exchange, now);
            }
            return Err(refusal);
        }
    }
    Ok(())
}

async fn look_up(lookup: Lookup, headers: &HeaderMap) {
    match lookup {
        Lookup::Keys(provider) => {
            let value = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
            let token = value.and_then(|v| v.split_once(' ')).map(|(_, t)| t.trim());
            let fetch = provider.refetch(token.unwrap_or_default());
            // Late is as good as failed: the second judgement uses what there is.
            let _ = tokio::time::timeout(LOOKUP, fetch).await;
        }
    }
}

/// A verdict that cannot ask any more.
fn unwrap(verdict: Verdict) -> Result<(), Refusal> {
    match verdict {
        Verdict::Pass => Ok(()),
        Verdict::Refuse(refusal) => Err(*refusal),
        Verdict::Ask(_) => Err(Reason::KeysUnavailable.into()),
    }
}
