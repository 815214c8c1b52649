//! From a config that was read to a snapshot that can serve. What fails here is told with the
//! place in the file that it comes from; nothing is half applied.

use super::identity::{self, Identities};
use super::kept::{Before, Kept};
use super::limits::Limits;
use super::via::Via;
use super::{ErrorShape, Forwarded, Snapshot, redis, routes, upstreams};
use crate::base::clock::Clock;
use crate::base::net::Networks;
use crate::config::server::{ErrorFormConf, FloodConf, ForwardedConf};
use crate::config::value::Name;
use crate::config::{Fault, Faults, FileConf, Place, Spanned};
use crate::filter::flood::Flood;
use crate::limit::estimate::Estimator;
use crate::limit::sliding_window::SlidingWindow;
use crate::observe::metrics::Metrics;
use crate::upstream::pool::Pool;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

/// What compiling needs besides the config.
pub struct Tools<'a> {
    /// The process's clock.
    pub clock: &'a Clock,
    /// Where handles come from.
    pub metrics: &'a Arc<Metrics>,
    /// What is in use, where there is something.
    pub before: Option<Before<'a>>,
}

/// Upstreams by name.
pub type Pools = HashMap<String, Arc<Pool>>;

/// Collects faults, so that one run tells of all of them.
#[derive(Default)]
pub struct Findings(Vec<Fault>);

/// A fault that the check of the config lets nobody reach; that it comes up after all is ours.
pub fn missed(place: &Place, why: impl Display) -> Fault {
    Fault::new(
        place,
        format!("has passed the check, yet cannot be used ({why}): please report this"),
    )
}

/// A fault of the machine we run on, which no check of the file can find.
pub fn unready(place: &Place, why: impl Display) -> Fault {
    Fault::new(place, format!("cannot be used on this machine ({why})"))
}

impl Findings {
    /// Makes the last of it, unless something was, or is, at fault.
    fn all<T>(mut self, make: impl FnOnce(&mut Self) -> T) -> Result<T, Faults> {
        let made = make(&mut self);
        if self.0.is_empty() {
            Ok(made)
        } else {
            Err(Faults::sorted(self.0))
        }
    }

    /// Notes a fault and goes on without the value.
    pub fn keep<T>(&mut self, made: Result<T, Fault>) -> Option<T> {
        made.map_err(|fault| self.0.push(fault)).ok()
    }

    /// The same of what need not be there.
    fn keep_any<T>(&mut self, made: Option<Result<T, Fault>>) -> Option<T> {
        made.and_then(|made| self.keep(made))
    }
}

/// Compiles a config.
///
/// # Errors
/// Everything in it that cannot be made to work.
pub fn compile(conf: &FileConf, tools: &Tools<'_>) -> Result<Snapshot, Faults> {
    let FileConf {
        server,
        // Bound by the server, which owns sockets and their lives.
        listeners: _,
        admin: _,
        log: _,
        trusted_proxies,
        flood,
        redis,
        identity,
        limits,
        upstreams,
        routes,
    } = conf;
    let mut findings = Findings::default();
    let shared = findings.keep_any(redis.as_ref().map(|conf| redis::compile(conf, tools)));
    let identities = Identities::compile(conf, shared.as_ref(), tools, &mut findings);
    let limits = Limits::compile(limits, &identities, tools, &mut findings);
    let flood = findings.keep_any(flood.as_ref().map(|flood| flood_limit(flood, tools)));
    let pools: Vec<_> = upstreams
        .iter()
        .filter_map(|u| findings.keep(upstreams::compile(&u.value, tools)))
        .collect();
    let by_name = pools.iter().map(|p| (p.spec.name.to_string(), p.clone()));
    let by_name: Pools = by_name.collect();
    let parts = routes::Parts {
        identities: &identities,
        limits: &limits,
        pools: &by_name,
        tools,
    };
    // Routes name upstreams; without one of those they would be said to name nothing.
    let whole = pools.len() == upstreams.len();
    let routes = if whole { routes.as_slice() } else { &[] };
    let (table, routes) = findings.all(|f| routes::compile(routes, &parts, f))?;
    Ok(Snapshot {
        errors: shape(server.errors.value),
        trusted_proxies: Networks(trusted_proxies.iter().map(|n| n.value).collect()),
        forwarded: told(server.forwarded.value),
        via: via(server.via.as_ref(), tools),
        flood,
        redis: shared,
        revocations: identities.revocations,
        headers: identity::headers(identity, &identities.wanted),
        table,
        routes,
        pools,
        providers: identities.providers,
        introspections: identities.asked,
        stores: limits.stores,
        kept: Kept {
            counts: limits.counts,
            api_keys: identities.api_keys,
            seen: identities.seen,
            failures: identities.failures,
        },
    })
}

fn via(conf: Option<&Spanned<Name>>, tools: &Tools<'_>) -> Via {
    match (conf, tools.before) {
        (Some(name), _) => Via::new(&name.value),
        (None, Some(before)) if before.conf.server.via.is_none() => before.snapshot.via.clone(),
        (None, _) => Via::unique(),
    }
}

fn shape(conf: ErrorFormConf) -> ErrorShape {
    match conf {
        ErrorFormConf::Problem => ErrorShape::Problem,
        ErrorFormConf::Plain => ErrorShape::Plain,
    }
}

fn told(conf: ForwardedConf) -> Forwarded {
    Forwarded {
        x_forwarded: conf != ForwardedConf::Forwarded,
        forwarded: conf != ForwardedConf::XForwarded,
    }
}

fn flood_limit(conf: &FloodConf, tools: &Tools<'_>) -> Result<Flood, Fault> {
    if let Some(flood) = tools.before.and_then(|before| before.flood(conf)) {
        return Ok(flood);
    }
    let FloodConf {
        rate,
        expected_clients,
    } = conf;
    let fault = |e: crate::limit::Fault| missed(&rate.place, e);
    let rule = SlidingWindow::new(rate.value.count, rate.value.per_ms()).map_err(fault)?;
    let estimator = Estimator::new(rule, expected_clients.value).map_err(fault)?;
    Ok(Flood {
        estimator: Arc::new(estimator),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TEXT: &str = "
listeners: [{ name: public, address: \"127.0.0.1:8080\" }]
identity:
  jwt:
    - { name: corp, issuer: i, audiences: [a], algorithms: [RS256], jwks: { url: \"https://a.example/k\" } }
limits: [{ name: standard, key: client, algorithm: sliding_window, rate: 100/1m }]
upstreams: [{ name: up, targets: [\"127.0.0.1:3001\"] }]
routes:
  - { name: a, match: { path: /a }, auth: { any: [corp] }, to: up }
  - { name: b, match: { path: /b }, auth: none, limits: [standard], to: up }
";

    fn read() -> FileConf {
        let loaded = crate::config::parse(TEXT, "t.yaml", Path::new(""), &|_| None);
        loaded.unwrap_or_else(|e| panic!("{e}")).conf
    }

    fn faults(conf: &FileConf) -> Vec<String> {
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new("0", 0)));
        let tools = Tools {
            clock: &clock,
            metrics: &metrics,
            before: None,
        };
        let faults = compile(conf, &tools).err().unwrap_or_default();
        faults.0.iter().map(|f| f.place.key.to_string()).collect()
    }

    /// What names something that failed is not said to name nothing.
    #[test]
    fn one_fault_is_told_once() {
        let mut conf = read();
        assert_eq!(faults(&conf), [""; 0]);
        conf.identity.jwt[0].value.claims.user.value = "c".repeat(300);
        conf.limits[0].value.rate.value.count = 0;
        let want = ["identity.jwt[corp].claims.user", "limits[standard].rate"];
        assert_eq!(faults(&conf), want);
    }
}
