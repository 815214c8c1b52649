//! What is counted. Each function is kept whole by name, so that callgrind can switch itself on at
//! its first instruction and off at its last.

use crate::keys::Keys;
use crate::setup::{Bench, ROUTES};
use crate::uncached::Uncached;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tollgate::exchange::Exchange;
use tollgate::filter;
use tollgate::filter::auth::Request;
use tollgate::filter::chain::Filter;
use tollgate::filter::rate_limit::Counts;
use tollgate::gateway::receive;
use tollgate::gateway::screen::{self, Outcome};
use tollgate::identity::key_cache::Found::Known;
use tollgate::identity::key_cache::Memory;
use tollgate::identity::provider::{self, Verdict};
use tollgate::limit::Key;
use tollgate::route::table::Found;
use tollgate::upstream::balance::Tried;

/// A request that just came in, as `gateway::screen` begins with it.
#[inline]
fn begin(bench: &Bench) -> Exchange {
    receive::identify(&bench.header.headers, bench.conn.clone(), bench.now)
}

/// A whole decision, from a parsed header to a target: everything `gateway::screen` does (request
/// id, trace, normalisation, route, verified token, limit, body limit, choice by header and weight,
/// breaker permit), the balancer's choice, the breaker's verdict, and giving all of it back.
#[inline(never)]
pub fn decide(bench: &mut Bench) {
    let mut exchange = begin(bench);
    let judged = screen::judge(
        &bench.shared,
        &bench.snapshot,
        &mut bench.header,
        &mut exchange,
        bench.now,
    );
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(Outcome::Proxy(mut flight))) = pin!(judged).poll(&mut context) else {
        unreachable!("the request is good and nothing has to be awaited");
    };
    black_box(flight.pool.choose(&Tried::default()));
    let permit = flight.permit.take().expect("every upstream has a breaker");
    black_box(permit.success(bench.now));
}

/// The first step alone: request id, trace, host and path normalised, reserved names dropped.
#[inline(never)]
pub fn arrive(bench: &mut Bench) {
    let mut exchange = begin(bench);
    let received = receive::receive(&mut bench.header, &mut exchange, &bench.snapshot);
    black_box((received.is_ok(), exchange));
}

/// The route among 1,000.
#[inline(never)]
pub fn route(bench: &mut Bench) {
    let found = bench
        .snapshot
        .table
        .find(bench.host, &bench.path, &http::Method::GET);
    assert!(matches!(found, Found::Route(_)));
}

/// A token that was verified a moment ago.
#[inline(never)]
pub fn token(bench: &mut Bench) {
    let Some(Filter::Auth(auth)) = bench.route().chain.first() else {
        unreachable!("authentication comes first");
    };
    let now = bench.now.unix_ms;
    let verdict =
        provider::authenticate(&auth.gates[0].tokens, &auth.seen, &bench.token, now, true);
    assert!(matches!(verdict, Verdict::Seen(_) | Verdict::Verified(_)));
}

/// The whole filter for a token that was verified a moment ago: the credential is found among the header
/// fields, who is behind it is known, and may what the route asks.
#[inline(never)]
pub fn auth(bench: &mut Bench) {
    let Some(Filter::Auth(auth)) = bench.snapshot.routes[bench.route].chain.first() else {
        unreachable!("authentication comes first");
    };
    let request = Request {
        headers: &bench.header.headers,
        query: None,
    };
    let exchange = bench.arrived.as_mut().expect("a request came in");
    let verdict = auth.request(request, exchange, bench.now, false);
    assert!(matches!(verdict, filter::Verdict::Pass));
}

/// A token that comes for the first time.
#[inline(never)]
pub fn first(tokens: &Uncached, now_ms: u64) {
    let verdict =
        provider::authenticate(&tokens.providers, &tokens.seen, tokens.text(), now_ms, true);
    assert!(matches!(verdict, Verdict::Verified(_)));
}

/// Its signature alone, the key prepared.
#[inline(never)]
pub fn bare(tokens: &Uncached) {
    let signed = tokens.signed();
    let verified = tokens.key.verify_sig(&signed.message, &signed.signature);
    assert!(verified.is_ok());
}

/// A key of a file, whether it comes for the first time or again.
#[inline(never)]
pub fn key(keys: &Keys) {
    let (presented, now_s) = keys.presented();
    let file = keys.file.as_ref().expect("keys of a file");
    assert!(file.find(presented, now_s).is_ok());
}

/// A key that Redis has told of a moment ago.
#[inline(never)]
pub fn cached_key(keys: &Keys) {
    let (presented, now_s) = keys.presented();
    let cache = keys.cache.as_ref().expect("keys of Redis");
    let memory = cache.get(cache.mark(presented), 2, now_s);
    assert!(matches!(memory, Memory::Fresh(Known(Ok(_)))));
}

/// One exact sliding-window check, its key included.
#[inline(never)]
pub fn limit(bench: &mut Bench) {
    let limit = bench.route().chain.iter().find_map(|f| match f {
        Filter::RateLimit(of_route) => of_route.limits.first(),
        _ => None,
    });
    let Some(Counts::Exact(store, rates)) = limit.map(|l| &l.counts) else {
        unreachable!("the route has an exact limit");
    };
    let key = Key::new(1, &[b"u", b"corp", b"user-1"]);
    assert!(
        store
            .check(&rates.of(None), &key, bench.now.steady_ms, 1)
            .allowed
    );
}

/// The upstream, by header and by weight, and its breaker's permit, given back unused.
#[inline(never)]
pub fn choose(bench: &mut Bench) {
    let mut exchange = begin(bench);
    let flight = tollgate::gateway::choose::upstream(
        &bench.snapshot.routes[bench.route],
        &bench.header.headers,
        &mut exchange,
        None,
    );
    assert!(flight.is_ok());
}

/// The upstream of a tenant, where there is one.
#[inline(never)]
pub fn tenant_of_one(bench: &mut Bench) {
    let exchange = begin(bench);
    assert!(bench.leads_on(ROUTES, exchange));
}

/// The upstream of a tenant among a thousand.
#[inline(never)]
pub fn tenant_of_a_thousand(bench: &mut Bench) {
    let exchange = begin(bench);
    assert!(bench.leads_on(ROUTES + 1, exchange));
}

/// A permit of a closed circuit, and its verdict.
#[inline(never)]
pub fn breaker(bench: &mut Bench) {
    let breaker = bench.pool().breaker.as_ref().expect("a breaker");
    let Ok(permit) = breaker.permit(bench.now) else {
        unreachable!("the circuit is closed");
    };
    black_box(permit.success(bench.now));
}

/// A target of the pool, taken and given back.
#[inline(never)]
pub fn balance(bench: &mut Bench) {
    let chosen = bench.pool().choose(&Tried::default());
    assert!(chosen.is_some());
}
