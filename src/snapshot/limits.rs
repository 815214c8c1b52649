//! Compiles limits: one table of counts a limit, and an id for each route that counts by itself.

use super::compile::{Findings, Tools, missed};
use crate::config::limit::{
    AlgorithmConf, LimitConf, LimitHeadersConf, LimitKey, ResetConf, StoreConf,
};
use crate::config::{Fault, Spanned};
use crate::exchange::{LimitHeaders, Reset};
use crate::filter::rate_limit::{Counts, RateLimit, Whom};
use crate::limit::estimate::Estimator;
use crate::limit::exact::Store;
use crate::limit::sliding_window::SlidingWindow;
use crate::observe::metrics::LimiterMetrics;
use siphasher::sip::SipHasher13;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The limits of a config, by name.
pub struct Limits {
    by_name: HashMap<String, (RateLimit, bool)>,
    /// The counts of each, by name.
    pub counts: HashMap<String, Counts>,
    /// The exact ones with their metrics.
    pub stores: Vec<(Arc<Store>, Arc<LimiterMetrics>)>,
    /// The names of those that could not be compiled.
    pub failed: HashSet<String>,
}

impl Limits {
    /// Compiles all of them.
    pub fn compile(
        conf: &[Spanned<LimitConf>],
        tools: &Tools<'_>,
        findings: &mut Findings,
    ) -> Self {
        let mut all = Self {
            by_name: HashMap::new(),
            counts: HashMap::new(),
            stores: Vec::new(),
            failed: HashSet::new(),
        };
        for limit in conf {
            let name = &limit.value.name.value;
            let Some((limit_made, per_route)) = findings.keep(one(&limit.value, tools)) else {
                all.failed.insert(name.to_string());
                continue;
            };
            if let Counts::Exact(store, _) = &limit_made.counts {
                let metrics = tools.metrics.limiter(name);
                all.stores.push((store.clone(), metrics));
            }
            let counts = limit_made.counts.clone();
            all.counts.insert(name.to_string(), counts);
            all.by_name
                .insert(name.to_string(), (limit_made, per_route));
        }
        all
    }

    /// The limit as the route of a name uses it.
    pub fn on_route(&self, name: &str, route: &str) -> Option<RateLimit> {
        let (limit, per_route) = self.by_name.get(name)?;
        let mut limit = limit.clone();
        if *per_route {
            limit.id = id_of(route);
        }
        Some(limit)
    }
}

/// What tells a route's counts from another's, by its name alone: neither its place in the config nor
/// the process that counts may change it. Never 0, which is that of counts that routes share.
fn id_of(route: &str) -> u64 {
    SipHasher13::new().hash(route.as_bytes()) | 1
}

fn one(conf: &LimitConf, tools: &Tools<'_>) -> Result<(RateLimit, bool), Fault> {
    let LimitConf {
        name: _,
        key,
        algorithm,
        rate,
        store,
        max_keys,
        expected_clients,
        per_route,
        headers,
        reset,
    } = conf;
    let fault = |e: crate::limit::Fault| missed(&rate.place, e);
    let window_ms = u64::try_from(rate.value.per.as_millis()).unwrap_or(u64::MAX);
    let rule = match algorithm.value {
        AlgorithmConf::SlidingWindow => SlidingWindow::new(rate.value.count, window_ms),
    };
    let rule = rule.map_err(fault)?;
    let kept = tools.before.and_then(|before| before.counts(conf, rule));
    let counts = match (kept, store.value) {
        (Some(counts), _) => counts,
        (None, StoreConf::Exact) => {
            Counts::Exact(Arc::new(Store::new(max_keys.value).map_err(fault)?), rule)
        }
        (None, StoreConf::Estimate) => {
            let estimator = Estimator::new(rule, expected_clients.value).map_err(fault)?;
            Counts::Estimate(Arc::new(estimator))
        }
    };
    let limit = RateLimit {
        id: 0,
        whom: match key.value {
            LimitKey::Client => Whom::Client,
            LimitKey::User => Whom::User,
            LimitKey::Address => Whom::Address,
            LimitKey::Route => Whom::Route,
        },
        counts,
        headers: match headers.value {
            LimitHeadersConf::XRatelimit => LimitHeaders::XRateLimit,
            LimitHeadersConf::None => LimitHeaders::None,
        },
        reset: match reset.value {
            ResetConf::EpochS => Reset::EpochS,
            ResetConf::EpochMs => Reset::EpochMs,
            ResetConf::Delta => Reset::Delta,
        },
    };
    Ok((limit, per_route.value))
}
