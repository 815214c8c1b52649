//! Compiles routes: the table, and what stands between a request and its upstream.

use super::auth;
use super::compile::{Findings, Pools, Tools, missed};
use super::identity::{Identities, unknown};
use super::limits::Limits;
use super::{Choice, Destination, Ends, Route, TenantSource};
use crate::config::auth::{AuthConf, ModeConf};
use crate::config::route::{
    HeaderChoiceConf, MatchConf, RouteConf, SplitConf, StreamingConf, TenantChoiceConf,
    TenantSource as TenantConf, ToConf, WebSocketConf, WeightsConf,
};
use crate::config::{Entries, Fault, Place, Spanned};
use crate::filter::auth::gate::KeyPlace;
use crate::filter::body_limit::BodyLimit;
use crate::filter::chain::Filter;
use crate::filter::rate_limit::RateLimits;
use crate::route::method::MethodSet;
use crate::route::pattern::PathPattern;
use crate::route::table::{Entry, Table};
use crate::upstream::balance::splitmix64;
use crate::upstream::pool::Pool;
use crate::upstream::split::Split;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What routes refer to.
pub struct Parts<'a> {
    /// Who may be believed.
    pub identities: &'a Identities,
    /// Limits.
    pub limits: &'a Limits,
    /// Upstreams.
    pub pools: &'a Pools,
    /// What compiling needs besides.
    pub tools: &'a Tools<'a>,
}

impl Parts<'_> {
    /// Where a split begins. At the start, with the first; after a reload anywhere, so that one reload
    /// after the other does not prefer those that come first.
    fn turn(&self) -> u64 {
        match self.tools.before {
            Some(_) => splitmix64(self.tools.clock.now().mono_ns),
            None => 0,
        }
    }
}

/// Compiles all routes and the table that finds them.
pub fn compile(
    conf: &[Spanned<RouteConf>],
    parts: &Parts<'_>,
    findings: &mut Findings,
) -> (Table, Vec<Route>) {
    let mut routes = Vec::with_capacity(conf.len());
    let mut entries = Vec::with_capacity(conf.len());
    for route in conf {
        if names_a_failure(&route.value, parts) {
            continue;
        }
        let index = routes.len();
        if let Some((made, entry)) = findings.keep(one(route, index, parts)) {
            routes.push(made);
            entries.push(entry);
        }
    }
    let table = Table::build(entries).map_err(|clashes| {
        let clash = clashes.first().and_then(|c| routes.get(c.b as usize));
        let at = |made: &Route| conf.iter().find(|r| *r.value.name.value == *made.name);
        let place = clash.and_then(at).map(|r| r.place.clone());
        let place = place.unwrap_or_else(|| Place::start_of(&"config".into(), "routes"));
        missed(&place, "clashes with another route")
    });
    (findings.keep(table).unwrap_or_default(), routes)
}

/// Whether a route names what could not be compiled. It is left out without a word: the config is
/// refused already, and saying that nothing has this name would be wrong.
fn names_a_failure(conf: &RouteConf, parts: &Parts<'_>) -> bool {
    let identities = match &conf.auth.value {
        AuthConf::Required(required) => Some(required.identities()),
        AuthConf::None => None,
    };
    let failed = &parts.identities.failed;
    let mut identities = identities.into_iter().flatten();
    let mut limits = conf.limits.iter();
    identities.any(|name| failed.contains(&name.value))
        || limits.any(|name| parts.limits.failed.contains(&name.value))
}

fn one(
    conf: &Spanned<RouteConf>,
    index: usize,
    parts: &Parts<'_>,
) -> Result<(Route, Entry), Fault> {
    let strip = conf.value.strips_prefix();
    let RouteConf {
        name,
        matching,
        strip_prefix: _,
        auth: who,
        limits,
        cost,
        max_body,
        timeout,
        streaming,
        websocket,
        to,
    } = &conf.value;
    let (pattern, entry) = entry(index, matching)?;
    let (mut chain, mut key_parameters) = (Vec::new(), Vec::new());
    if let AuthConf::Required(required) = &who.value {
        let auth = auth::compile(required, &who.place, parts)?;
        let places = auth.gates.iter().flat_map(|gate| &gate.keys);
        key_parameters.extend(places.filter_map(KeyPlace::parameter).map(Box::from));
        chain.push(Filter::Auth(auth));
    }
    if !limits.is_empty() {
        let limits = route_limits(limits, cost.value, &name.value, parts)?;
        chain.push(Filter::RateLimit(limits));
    }
    let max_bytes = max_body.value.0;
    chain.push(Filter::BodyLimit(BodyLimit { max_bytes }));
    let route = Route {
        name: Arc::from(&*name.value),
        metrics: parts.tools.metrics.route(&name.value),
        pattern,
        strip,
        ends: ends(&who.value),
        key_parameters: key_parameters.into(),
        chain: chain.into(),
        max_body: max_bytes,
        timeout_ms: timeout.as_ref().map(|t| t.value.as_ms()),
        streaming_ms: streaming.as_ref().map(|s| {
            let StreamingConf { idle_timeout } = &s.value;
            idle_timeout.value.as_ms()
        }),
        websocket_ms: websocket.as_ref().map(|w| {
            let WebSocketConf { idle_timeout } = &w.value;
            idle_timeout.value.as_ms()
        }),
        to: destination(to, parts)?,
    };
    Ok((route, entry))
}

fn ends(auth: &AuthConf) -> Ends {
    match auth {
        AuthConf::None => Ends::Keys,
        AuthConf::Required(required) => match required.mode.value {
            ModeConf::Enforce => Ends::All,
            ModeConf::DryRun => Ends::Nothing,
        },
    }
}

fn route_limits(
    names: &[Spanned<String>],
    cost: u32,
    route: &str,
    parts: &Parts<'_>,
) -> Result<RateLimits, Fault> {
    let found = names.iter().map(|name| {
        let limit = parts.limits.on_route(&name.value, route);
        limit.ok_or_else(|| unknown(&name.place, "limit", &name.value))
    });
    let (limits, policies): (Vec<_>, Vec<_>) =
        found.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok(RateLimits {
        limits: limits.into(),
        policies: policies.into(),
        cost,
    })
}

fn entry(index: usize, conf: &Spanned<MatchConf>) -> Result<(PathPattern, Entry), Fault> {
    let pattern = conf.value.pattern().cloned();
    let pattern = pattern.ok_or_else(|| missed(&conf.place, "no path"))?;
    let MatchConf {
        hosts,
        path: _,
        exact: _,
        methods,
    } = &conf.value;
    let all = methods.iter().map(|m| m.value);
    let entry = Entry {
        id: u32::try_from(index).unwrap_or(u32::MAX),
        hosts: hosts.iter().map(|h| h.value.clone()).collect(),
        path: pattern.clone(),
        methods: all.reduce(MethodSet::union),
    };
    Ok((pattern, entry))
}

fn destination(conf: &ToConf, parts: &Parts<'_>) -> Result<Destination, Fault> {
    Ok(match conf {
        ToConf::Split(split) => Destination::Plain(choice(split, parts)?),
        ToConf::Header(HeaderChoiceConf {
            header,
            values,
            default,
        }) => Destination::Header {
            name: header.value.name(),
            values: by_value(values, parts)?,
            default: choice(default, parts)?,
        },
        ToConf::Tenant(TenantChoiceConf { tenant, values }) => Destination::Tenant {
            from: match &tenant.value {
                TenantConf::Header(header) => TenantSource::Header(header.name()),
                TenantConf::Claim => TenantSource::Claim,
            },
            values: by_value(values, parts)?,
        },
    })
}

fn by_value(
    values: &Entries<SplitConf>,
    parts: &Parts<'_>,
) -> Result<HashMap<Box<str>, Choice>, Fault> {
    let entries = values.0.iter();
    entries
        .map(|(value, split)| Ok((value.value.clone().into(), choice(split, parts)?)))
        .collect()
}

fn choice(conf: &SplitConf, parts: &Parts<'_>) -> Result<Choice, Fault> {
    let pool = |name: &Spanned<String>| -> Result<Arc<Pool>, Fault> {
        let found = parts.pools.get(&name.value).cloned();
        found.ok_or_else(|| unknown(&name.place, "upstream", &name.value))
    };
    match conf {
        SplitConf::One(name) => Ok(Choice::One(pool(name)?)),
        SplitConf::Weights(WeightsConf { weights }) => {
            let items = weights.0.iter();
            let items: Result<Vec<_>, Fault> = items
                .map(|(name, weight)| Ok((pool(name)?, weight.value)))
                .collect();
            let place = weights.0.first().map(|(name, _)| &name.place);
            match (Split::new(&items?), place) {
                (Some(split), _) => Ok(Choice::Weighted(split, AtomicU64::new(parts.turn()))),
                (None, Some(place)) => Err(missed(place, "every weight is 0")),
                (None, None) => Err(unknown(
                    &Place::start_of(&"config".into(), "routes"),
                    "upstream",
                    "",
                )),
            }
        }
    }
}
