//! The second step: may this request pass. Works on header types and the exchange; the only place
//! that awaits a lookup, and only where the route's own policy asks for one.

use super::answer::Answer;
use super::choose::{self, Flight};
use super::front::{self, Decided};
use super::{Ctx, Shared, connection, fail, probe, receive, tunnel};
use crate::base::clock::Now;
use crate::exchange::connection::Connection;
use crate::exchange::fields::Field;
use crate::exchange::listener::Redirect;
use crate::exchange::refusal::Refusal;
use crate::exchange::{Exchange, RouteRef};
use crate::filter::auth::Request;
use crate::filter::{Lookup, Verdict};
use crate::observe::reason::Reason;
use crate::route::table::Found;
use crate::snapshot::{Route, Snapshot};
use crate::upstream::peer;
use http::HeaderValue;
use http::header::LOCATION;
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
    Answer(Answer),
}

/// The most time that lookups may take; each has a bound of its own, which is at most this.
const LOOKUP: Duration = Duration::from_secs(16);

/// The hook: judges the session's request, where the edge has not done so, and answers what is not
/// proxied. True if it was answered.
///
/// # Errors
/// The answer could not be written.
pub async fn enter(shared: &Shared, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    if ctx.exchange.is_none() {
        let Some(conn) = connection(session).cloned() else {
            return pingora::Error::e_explain(
                pingora::ErrorType::InternalError,
                "a connection that is not from our edge",
            );
        };
        if let Some(decided) = conn.take::<Decided>() {
            front::take_over(session, ctx, *decided);
        } else {
            let snapshot = shared.snapshot.load_full();
            let mut case = Case::new(conn, session.req_header(), shared.clock.now());
            let header = session.req_header_mut();
            let now = case.exchange.started;
            let judged = judge(shared, &snapshot, header, &mut case.exchange, now).await;
            case.screened(shared);
            case.close(judged, snapshot, ctx);
        }
    }
    let Some(exchange) = &ctx.exchange else {
        return Ok(false);
    };
    let conn = &exchange.conn;
    let names_options = exchange.fields.has(Field::Connection) && !conn.is_stream();
    if names_options && receive::is_last(&session.req_header().headers) {
        session.set_keepalive(None);
    }
    // Where the route bounds the pauses, its bound holds, not the listener's.
    let pause_ms = ctx.flight.as_ref().and_then(|flight| flight.pause_ms);
    let pause = pause_ms.map(|ms| peer::beyond(Duration::from_millis(ms)));
    let idle = Duration::from_millis(conn.listener.terms.idle_ms);
    session.set_read_timeout(Some(pause.unwrap_or(idle)));
    if let Some(answer) = ctx.answer.take() {
        fail::write(session, answer, ctx).await?;
    } else if exchange.refusal.is_some() {
        fail::refuse(session, ctx).await?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// A request that is being judged.
pub struct Case {
    /// The request. It goes through many hands, and is large.
    pub exchange: Box<Exchange>,
}

impl Case {
    /// A request that just came in.
    pub fn new(conn: Arc<Connection>, header: &RequestHeader, now: Now) -> Self {
        let exchange = receive::identify(&header.headers, conn, now);
        Self {
            exchange: Box::new(exchange),
        }
    }

    /// Notes that it is judged.
    pub fn screened(&mut self, shared: &Shared) {
        self.exchange.times.screened_ns = shared.clock.now().since_ns(self.exchange.started);
    }

    /// Puts down what was decided.
    pub fn close(
        mut self,
        outcome: Result<Outcome, Refusal>,
        snapshot: Arc<Snapshot>,
        ctx: &mut Ctx,
    ) {
        match outcome {
            Ok(Outcome::Proxy(flight)) => ctx.flight = Some(flight),
            Ok(Outcome::Answer(answer)) => ctx.answer = Some(answer),
            Err(refusal) => self.exchange.refusal = Some(refusal),
        }
        self.exchange.request_id.keep();
        ctx.exchange = Some(self.exchange);
        ctx.snapshot = Some(snapshot);
    }
}

/// How far a request has come.
pub enum Progress {
    /// It is decided.
    Done(Outcome),
    /// A filter asks for a lookup.
    Ask(Question),
}

/// A lookup that has to be awaited before the request can go on.
pub struct Question {
    lookup: Lookup,
    /// Which filter of the route asks.
    filter: usize,
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
    match begin(shared, snapshot, header, exchange, now)? {
        Progress::Done(outcome) => Ok(outcome),
        Progress::Ask(question) => answer(question, shared, snapshot, header, exchange, now).await,
    }
}

/// Decides what becomes of a request, as far as no lookup is needed.
///
/// # Errors
/// Why it is not served.
pub fn begin(
    shared: &Shared,
    snapshot: &Arc<Snapshot>,
    header: &mut RequestHeader,
    exchange: &mut Exchange,
    now: Now,
) -> Result<Progress, Refusal> {
    receive::receive(header, exchange, snapshot)?;
    if let Some(answer) = probe::answer(shared, exchange)? {
        return Ok(Progress::Done(Outcome::Answer(answer)));
    }
    if let Some(redirect) = exchange.conn.listener.terms.redirect {
        let answer = to_https(redirect, header, exchange)?;
        return Ok(Progress::Done(Outcome::Answer(answer)));
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
    let upgrades = exchange.fields.has(Field::Upgrade);
    exchange.closes = upgrades && tunnel::asked(header, route);
    go_on(route, header, exchange, now, None)
}

/// Makes the lookups that a route's filters ask for, each once, and decides.
///
/// # Errors
/// Why the request is not served.
pub async fn answer(
    mut question: Question,
    shared: &Shared,
    snapshot: &Snapshot,
    header: &mut RequestHeader,
    exchange: &mut Exchange,
    now: Now,
) -> Result<Outcome, Refusal> {
    loop {
        // Late is as good as failed: the second judgement uses what there is.
        let _ = tokio::time::timeout(LOOKUP, question.lookup.make()).await;
        exchange.admitted = shared.clock.now();
        let index = exchange.route.as_ref().map_or(0, |r| r.index);
        let route = &snapshot.routes[index];
        let asked = Some(question.filter);
        match go_on(route, header, exchange, now, asked)? {
            Progress::Done(outcome) => return Ok(outcome),
            Progress::Ask(next) => question = next,
        }
    }
}

/// The https address of what was asked for: the same host, path and query.
fn to_https(
    redirect: Redirect,
    header: &RequestHeader,
    exchange: &Exchange,
) -> Result<Answer, Refusal> {
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

/// Runs the route's filters, from the one whose lookup was made where there was one, and chooses the
/// upstream.
fn go_on(
    route: &Route,
    header: &mut RequestHeader,
    exchange: &mut Exchange,
    now: Now,
    asked: Option<usize>,
) -> Result<Progress, Refusal> {
    for (n, filter) in route.chain.iter().enumerate().skip(asked.unwrap_or(0)) {
        let again = asked == Some(n);
        let at = if again { exchange.admitted } else { now };
        let request = Request {
            headers: &header.headers,
            query: header.uri.query(),
        };
        let verdict = match filter.request(request, exchange, at, again) {
            Verdict::Ask(lookup) if !again => {
                return Ok(Progress::Ask(Question { lookup, filter: n }));
            }
            verdict => verdict,
        };
        if let Err(refusal) = unwrap(verdict) {
            // The limits behind it are told of all the same, not counted.
            let behind = &route.chain[n + 1..];
            for filter in behind {
                filter.report(&header.headers, exchange, now);
            }
            return Err(refusal);
        }
    }
    if exchange.fields.has(Field::MaxForwards)
        && let Some(answer) = probe::last_hop(header)
    {
        return Ok(Progress::Done(Outcome::Answer(answer)));
    }
    let handshake = if exchange.fields.has(Field::Upgrade) {
        tunnel::judge(header, exchange.closes)?
    } else {
        None
    };
    let flight = choose::upstream(route, &header.headers, exchange, handshake)?;
    Ok(Progress::Done(Outcome::Proxy(flight)))
}

/// A verdict that cannot ask any more.
fn unwrap(verdict: Verdict) -> Result<(), Refusal> {
    match verdict {
        Verdict::Pass => Ok(()),
        Verdict::Refuse(refusal) => Err(*refusal),
        Verdict::Ask(_) => Err(Reason::KeysUnavailable.into()),
    }
}
