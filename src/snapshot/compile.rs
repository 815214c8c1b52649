//! From a config that was read to a snapshot that can serve. What fails here is told with the
//! place in the file that it comes from; nothing is half applied.

use super::identity::{self, Identities};
use super::limits::Limits;
use super::{ErrorShape, Snapshot, routes, upstreams};
use crate::base::clock::Clock;
use crate::base::net::Networks;
use crate::config::server::{ErrorFormConf, FloodConf};
use crate::config::{Fault, Faults, FileConf};
use crate::filter::flood::Flood;
use crate::limit::estimate::Estimator;
use crate::limit::sliding_window::SlidingWindow;
use crate::observe::metrics::Metrics;
use crate::upstream::pool::Pool;
use std::collections::HashMap;
use std::sync::Arc;

/// What compiling needs besides the config.
pub struct Tools<'a> {
    /// The process's clock.
    pub clock: &'a Clock,
    /// Where handles come from.
    pub metrics: &'a Arc<Metrics>,
}

/// Upstreams by name.
pub type Pools = HashMap<String, Arc<Pool>>;

/// Collects faults, so that one run tells of all of them.
#[derive(Default)]
pub struct Findings(Vec<Fault>);

impl Findings {
    /// Notes a fault and goes on without the value.
    pub fn keep<T>(&mut self, made: Result<T, Fault>) -> Option<T> {
        made.map_err(|fault| self.0.push(fault)).ok()
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
        identity,
        limits,
        upstreams,
        routes,
    } = conf;
    let mut findings = Findings::default();
    let identities = Identities::compile(identity, tools, &mut findings);
    let limits = Limits::compile(limits, tools, &mut findings);
    let flood = flood
        .as_ref()
        .and_then(|flood| findings.keep(flood_limit(flood)));
    let pools: Vec<_> = upstreams
        .iter()
        .map(|u| Arc::new(upstreams::compile(&u.value, tools)))
        .collect();
    let by_name: Pools = pools
        .iter()
        .map(|p| (p.spec.name.to_string(), p.clone()))
        .collect();
    let parts = routes::Parts {
        identities: &identities,
        limits: &limits,
        pools: &by_name,
        metrics: tools.metrics,
    };
    let compiled = routes::compile(routes, &parts, &mut findings);
    if !findings.0.is_empty() {
        return Err(Faults::sorted(findings.0));
    }
    let (table, routes) = compiled;
    Ok(Snapshot {
        errors: match server.errors.value {
            ErrorFormConf::Problem => ErrorShape::Problem,
            ErrorFormConf::Plain => ErrorShape::Plain,
        },
        trusted_proxies: Networks(trusted_proxies.iter().map(|n| n.value).collect()),
        flood,
        headers: identity::headers(&identity.headers, &identity.api_keys),
        table,
        routes,
        pools,
        providers: identities.providers,
        stores: limits.stores,
    })
}

fn flood_limit(conf: &FloodConf) -> Result<Flood, Fault> {
    let FloodConf {
        rate,
        expected_clients,
    } = conf;
    let fault = |e: crate::limit::Fault| Fault::new(&rate.place, e.to_string());
    let window_ms = u64::try_from(rate.value.per.as_millis()).unwrap_or(u64::MAX);
    let rule = SlidingWindow::new(rate.value.count, window_ms).map_err(fault)?;
    let estimator = Estimator::new(rule, expected_clients.value).map_err(fault)?;
    Ok(Flood {
        estimator: Arc::new(estimator),
    })
}
