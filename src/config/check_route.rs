//! What has to go together in `routes`, and what they refer to.

use super::auth::AuthConf;
use super::check::{Findings, Known};
use super::check_auth;
use super::check_identity::not_an_identity_header;
use super::decode::Spanned;
use super::error::{Place, message};
use super::file::FileConf;
use super::limit::LimitKey;
use super::route::{MatchConf, RouteConf, SplitConf, TenantSource, ToConf, WeightsConf};
use super::upstream::UpstreamProtocolConf;
use crate::route::{Entry, MethodSet, PathPattern, Table};
use http::Method;

/// The most that weights may add up to.
const MAX_WEIGHTS: u64 = 10_000;

/// Judges all routes.
pub(super) fn check(conf: &FileConf, f: &mut Findings) {
    let identities = || conf.identity.names();
    let limits = || conf.limits.iter().map(|l| &l.name);
    let upstreams = || conf.upstreams.iter().map(|u| &u.name);
    let mut known = All {
        identities: Known::new("an identity", "identity", identities()),
        limits: Known::new("a limit", "limits", limits()),
        upstreams: Known::new("an upstream", "upstreams", upstreams()),
    };
    for route in &conf.routes {
        path(route, f);
        if let AuthConf::Required(auth) = &route.auth.value {
            check_auth::check(auth, &route.auth.place, conf, &mut known.identities, f);
        }
        for limit in &route.limits {
            known.limits.refer(limit, f);
        }
        each_reference_once(&route.limits, f);
        user_limits(route, conf, f);
        for split in route.to.splits() {
            one_split(split, &mut known, f);
        }
        choice(route, conf, f);
        websocket(route, conf, f);
        shadowed(route, f);
    }
    known.identities.unused(identities(), f);
    known.limits.unused(limits(), f);
    known.upstreams.unused(upstreams(), f);
    clashes(&conf.routes, f);
}

/// Everything a route can refer to.
struct All<'a> {
    identities: Known<'a>,
    limits: Known<'a>,
    upstreams: Known<'a>,
}

pub(super) fn each_reference_once(names: &[Spanned<String>], f: &mut Findings) {
    let sound = names.iter().filter_map(|n| Some((n.sound()?, &n.place)));
    f.listed_once(sound);
}

fn path(route: &RouteConf, f: &mut Findings) {
    let matching = &route.matching;
    if let (Some(_), Some(exact)) = (&matching.path, &matching.exact) {
        f.fault(
            &exact.place,
            message!("stands beside `path` (found both, want only one of them)"),
        );
    }
    let neither = matching.path.is_none() && matching.exact.is_none();
    if neither && matching.sound().is_some() {
        f.fault(
            &matching.place,
            message!(
                "has no path (found neither `path` nor `exact`, want one, `path: /` for every path)"
            ),
        );
    }
    let exact = matching.exact.as_ref().is_some_and(|e| e.sound().is_some());
    let path = matching.path.as_ref().and_then(Spanned::sound);
    if let Some(strip) = &route.strip_prefix
        && (exact || path.is_some_and(|p| !p.is_prefix()))
    {
        f.fault(&strip.place, message!("has no prefix to strip (found an exact path, want this left out, or a `path` that is a prefix)"));
    }
}

/// Warns of limits by what nobody has where nobody is known.
fn user_limits(route: &RouteConf, conf: &FileConf, f: &mut Findings) {
    if route.auth.value != AuthConf::None {
        return;
    }
    let told = |key: &&LimitKey| {
        let by_whom = LimitKey::may_be_missing(key);
        by_whom && !matches!(key, LimitKey::Client | LimitKey::Header(_))
    };
    for name in &route.limits {
        let named = |l: &&Spanned<_>| name_of(l) == name.value;
        let keys = conf.limits.iter().find(named).and_then(|l| l.key.sound());
        if let Some(key) = keys.and_then(|keys| keys.0.iter().find(told)) {
            f.warn(&name.place, message!("counts by {key}, but with `auth: none` nobody is known and addresses are counted (found `{}`, want a limit by `address`, or `auth`)", name.value));
        }
    }
}

fn name_of(limit: &super::limit::LimitConf) -> &str {
    &limit.name
}

fn one_split(split: &SplitConf, known: &mut All, f: &mut Findings) {
    for name in split.upstreams() {
        known.upstreams.refer(name, f);
    }
    if let SplitConf::Weights(split) = split {
        weights(split, f);
    }
}

fn weights(split: &WeightsConf, f: &mut Findings) {
    let all = &split.weights.0;
    let Some((first, _)) = all.first() else {
        return;
    };
    if all.iter().any(|(_, weight)| weight.sound().is_none()) {
        return;
    }
    let sum: u64 = all.iter().map(|(_, weight)| u64::from(weight.value)).sum();
    if sum == 0 {
        f.fault(
            &first.place,
            message!("sends nothing anywhere (found weights that are all 0, want one above 0)"),
        );
    }
    if sum > MAX_WEIGHTS {
        f.fault(
            &first.place,
            message!(
                "is a split too fine (found weights of {sum} together, want at most {MAX_WEIGHTS})"
            ),
        );
    }
}

fn choice(route: &RouteConf, conf: &FileConf, f: &mut Findings) {
    match &route.to {
        ToConf::Split(_) => {}
        ToConf::Header(choice) => {
            not_an_identity_header(&choice.header, &conf.identity.headers, f);
            printable(choice.values.0.iter().map(|(value, _)| value), f);
        }
        ToConf::Tenant(choice) => {
            printable(choice.values.0.iter().map(|(value, _)| value), f);
            match choice.tenant.sound() {
                Some(TenantSource::Header(header)) => {
                    let header = Spanned {
                        value: header.clone(),
                        place: choice.tenant.place.clone(),
                        origin: choice.tenant.origin,
                    };
                    not_an_identity_header(&header, &conf.identity.headers, f);
                }
                Some(TenantSource::Claim) => tenant_claim(route, conf, &choice.tenant.place, f),
                None => {}
            }
        }
    }
}

/// Values that a header can have: printable ASCII, no space at either end.
fn printable<'a>(values: impl Iterator<Item = &'a Spanned<String>>, f: &mut Findings) {
    for value in values {
        let plain = value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if value.is_empty() || !plain || value.trim() != value.value {
            f.fault(&value.place, message!("is a value that never comes (found `{}`, want printable ASCII without a space at either end)", value.value));
        }
    }
}

/// A tenant can be claimed only where a token may be shown.
fn tenant_claim(route: &RouteConf, conf: &FileConf, place: &Place, f: &mut Findings) {
    let token = |name: &Spanned<String>| {
        let mut issuers = conf.identity.token_names();
        issuers.any(|j| j.sound().is_none_or(|n| **n == **name))
    };
    let shown = match route.auth.sound() {
        None => true,
        Some(AuthConf::None) => false,
        Some(AuthConf::Required(auth)) => {
            auth.identities().any(|n| n.sound().is_none() || token(n))
        }
    };
    if !shown {
        f.fault(place, message!("wants the tenant that a token names (found no issuer of tokens in `auth`, want one, or a header such as `X-Tenant-ID`)"));
    }
}

/// WebSocket begins with a GET (RFC 6455 §4.1), and goes on over HTTP/1.1: what it is over HTTP/2
/// (RFC 8441) is not spoken.
fn websocket(route: &RouteConf, conf: &FileConf, f: &mut Findings) {
    let Some(websocket) = &route.websocket else {
        return;
    };
    if !takes(&route.matching, &[Method::GET]) {
        f.fault(&websocket.place, message!("has no way in (found no `GET` among `match.methods`, want it there: WebSocket begins with one)"));
    }
    let http2 = |name: &&Spanned<String>| {
        let mut upstreams = conf.upstreams.iter();
        let named = upstreams.find(|u| *u.name.value == *name.value);
        named.is_some_and(|u| u.protocol.sound() == Some(&UpstreamProtocolConf::Http2))
    };
    let splits = route.to.splits().into_iter();
    let upstreams: Vec<_> = splits.flat_map(SplitConf::upstreams).collect();
    if !upstreams.is_empty() && upstreams.iter().all(http2) {
        f.fault(&websocket.place, message!("has no way on (found only upstreams of `protocol: http2`, want one of `http1` or `auto`: WebSocket is not spoken over HTTP/2)"));
    }
}

/// Whether a route takes one of these methods; one that could not be read may be any.
fn takes(matching: &MatchConf, methods: &[Method]) -> bool {
    let one = |set: &MethodSet| methods.iter().any(|m| set.contains(m));
    let listed = &matching.methods;
    listed.is_empty() || listed.iter().any(|m| m.sound().is_none_or(one))
}

/// What every listener answers by itself, before any route (`gateway/probe`): GET and HEAD of this path.
const HEALTH: &str = "/health";

/// Warns of a route for a path that is answered before it is asked.
fn shadowed(route: &RouteConf, f: &mut Findings) {
    let matching = &route.matching;
    let exact = matching.exact.as_ref().map(|e| (&e.value.0, &e.place));
    let path = matching.path.as_ref().map(|p| (&p.value, &p.place));
    if let Some((pattern, place)) = exact.or(path)
        && pattern.to_string() == HEALTH
        && takes(matching, &[Method::GET, Method::HEAD])
    {
        f.warn(place, message!("gets no GET or HEAD of `{HEALTH}` itself (found that path, which the gateway answers before any route, want another)"));
    }
}

/// Notes routes between which nothing decides.
fn clashes(routes: &[Spanned<RouteConf>], f: &mut Findings) {
    let entries = (0..)
        .zip(routes)
        .filter_map(|(id, route)| entry(id, route, f))
        .collect();
    let Err(found) = Table::build(entries) else {
        return;
    };
    let mut told = std::collections::HashSet::new();
    for clash in found {
        let (first, later) = (&routes[clash.a as usize], &routes[clash.b as usize]);
        if told.insert((clash.a, clash.b)) {
            let (name, at) = (&first.name.value, first.matching.place.spot());
            f.fault(&later.matching.place, message!("takes requests that another route takes too (found the same host, path and method in `{name}` at {at}, want one of them to differ)"));
        }
    }
}

/// A route's line of the table, unless something in it could not be read.
fn entry(id: u32, route: &RouteConf, f: &mut Findings) -> Option<Entry> {
    let matching = &route.matching;
    let sound = matching
        .hosts
        .iter()
        .filter_map(|h| Some((h.sound()?, &h.place)));
    f.listed_once(sound);
    let mut hosts = Vec::new();
    for host in &matching.hosts {
        let host = host.sound()?;
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    let mut methods = MethodSet::default();
    for method in &matching.methods {
        methods = methods.union(*method.sound()?);
    }
    let exact = matching.exact.as_ref().map(|e| e.sound().map(|e| &e.0));
    let path = matching.path.as_ref().map(Spanned::sound);
    let path: PathPattern = exact.or(path)??.clone();
    let methods = (!matching.methods.is_empty()).then_some(methods);
    Some(Entry {
        id,
        hosts,
        path,
        methods,
    })
}
