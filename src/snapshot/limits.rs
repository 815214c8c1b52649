//! Compiles limits: one table of counts a limit, what each caller may under it, and an id for each route
//! that counts by itself.

use super::compile::{Findings, Tools, missed};
use super::identity::Identities;
use crate::base::units::Rate;
use crate::config::auth::ModeConf;
use crate::config::limit::{
    AlgorithmConf, LimitConf, LimitHeadersConf, LimitKey, LimitKeys, OwnRateConf, PrefixesConf,
    ResetConf, StoreConf, TierConf,
};
use crate::config::{Fault, Spanned};
use crate::exchange::limits::{LimitHeaders, Policy, Reset};
use crate::filter::rate_limit::rates::{OwnRate, Rates};
use crate::filter::rate_limit::whom::{Part, Whom};
use crate::filter::rate_limit::{Counts, RateLimit};
use crate::identity::claims::ClaimPath;
use crate::limit::estimate::Estimator;
use crate::limit::exact::Store;
use crate::limit::quota::{self, Algorithm};
use crate::limit::sliding_log::Logs;
use crate::limit::sliding_window::SlidingWindow;
use crate::observe::metrics::LimiterMetrics;
use siphasher::sip::SipHasher13;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The limits of a config, by name.
pub struct Limits {
    by_name: HashMap<String, Made>,
    /// The counts of each, by name.
    pub counts: HashMap<String, Counts>,
    /// The exact ones with their metrics.
    pub stores: Vec<(Counts, Arc<LimiterMetrics>)>,
    /// The names of those that could not be compiled.
    pub failed: HashSet<String>,
}

/// A limit, for any route.
struct Made {
    limit: RateLimit,
    policy: Policy,
    per_route: bool,
}

impl Limits {
    /// Compiles all of them.
    pub fn compile(
        conf: &[Spanned<LimitConf>],
        identities: &Identities,
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
            let Some(made) = findings.keep(one(&limit.value, identities, tools)) else {
                all.failed.insert(name.to_string());
                continue;
            };
            let counts = made.limit.counts.clone();
            if !matches!(counts, Counts::Estimate(_)) {
                let metrics = made.limit.metrics.clone();
                all.stores.push((counts.clone(), metrics));
            }
            all.counts.insert(name.to_string(), counts);
            all.by_name.insert(name.to_string(), made);
        }
        all
    }

    /// The limit as the route of a name uses it, and what is told of it.
    pub fn on_route(&self, name: &str, route: &str) -> Option<(RateLimit, Policy)> {
        let made = self.by_name.get(name)?;
        let mut limit = made.limit.clone();
        if made.per_route {
            limit.id = id_of(route);
        }
        Some((limit, made.policy.clone()))
    }
}

/// What tells a route's counts from another's, by its name alone: neither its place in the config nor
/// the process that counts may change it. Never 0, which is that of counts that routes share.
fn id_of(route: &str) -> u64 {
    SipHasher13::new().hash(route.as_bytes()) | 1
}

fn one(conf: &LimitConf, identities: &Identities, tools: &Tools<'_>) -> Result<Made, Fault> {
    let LimitConf {
        name,
        key,
        fallback,
        algorithm: _,
        rate: _,
        capacity: _,
        tiers: _,
        own_rate: _,
        store: _,
        max_keys: _,
        expected_clients: _,
        per_route,
        mode,
        headers,
        reset,
    } = conf;
    let limit = RateLimit {
        id: 0,
        whom: Arc::new(whom(key, fallback.as_ref(), identities)?),
        counts: counts(conf, identities, tools)?,
        dry_run: mode.value == ModeConf::DryRun,
        metrics: tools.metrics.limiter(&name.value),
    };
    let policy = Policy {
        name: Box::from(&*name.value),
        headers: told(headers.value),
        reset: match reset.value {
            ResetConf::EpochS => Reset::EpochS,
            ResetConf::EpochMs => Reset::EpochMs,
            ResetConf::Delta => Reset::Delta,
        },
        has_tokens: conf.algorithm.value == AlgorithmConf::TokenBucket,
    };
    Ok(Made {
        limit,
        policy,
        per_route: per_route.value,
    })
}

fn told(conf: LimitHeadersConf) -> LimitHeaders {
    LimitHeaders {
        x_ratelimit: matches!(conf, LimitHeadersConf::Both | LimitHeadersConf::XRatelimit),
        draft: matches!(conf, LimitHeadersConf::Both | LimitHeadersConf::Draft),
    }
}

/// Where a limit counts, and how much each caller may there.
fn counts(conf: &LimitConf, identities: &Identities, tools: &Tools<'_>) -> Result<Counts, Fault> {
    let fault = |e: crate::limit::Fault| missed(&conf.rate.place, e);
    let kept = tools.before.and_then(|before| before.counts(conf));
    if conf.store.value == StoreConf::Estimate {
        if let Some(Counts::Estimate(kept)) = kept {
            return Ok(Counts::Estimate(kept));
        }
        let rate = conf.rate.value;
        let rule = SlidingWindow::new(rate.count, rate.per_ms()).map_err(fault)?;
        let estimator = Estimator::new(rule, conf.expected_clients.value).map_err(fault)?;
        return Ok(Counts::Estimate(Arc::new(estimator)));
    }
    let algorithm = match conf.algorithm.value {
        AlgorithmConf::SlidingLog => {
            let make = |rate: Rate, _: Option<u64>| quota::log(rate);
            let rates = rates(conf, identities, make, |rate| quota::log(rate).ok())?;
            let logs = match kept {
                Some(Counts::Log(logs, _)) => logs,
                _ => Arc::new(Logs::new(conf.keys_held()).map_err(fault)?),
            };
            return Ok(Counts::Log(logs, Arc::new(rates)));
        }
        AlgorithmConf::FixedWindow => Algorithm::FixedWindow,
        AlgorithmConf::SlidingWindow => Algorithm::SlidingWindow,
        AlgorithmConf::TokenBucket => Algorithm::TokenBucket,
        AlgorithmConf::LeakyBucket => Algorithm::LeakyBucket,
    };
    let make = move |rate: Rate, capacity: Option<u64>| algorithm.rule(rate, capacity);
    // A leaky bucket is as long for whoever brings a rate; a token bucket holds what comes in a window.
    let length = conf.capacity.as_ref().map(|c| c.value);
    let length = length.filter(|_| algorithm == Algorithm::LeakyBucket);
    let own = move |rate: Rate| algorithm.rule(rate, length).ok();
    let rates = rates(conf, identities, make, own)?;
    let store = match kept {
        Some(Counts::Exact(store, _)) => store,
        _ => Arc::new(Store::new(conf.keys_held()).map_err(fault)?),
    };
    Ok(Counts::Exact(store, Arc::new(rates)))
}

fn rates<R>(
    conf: &LimitConf,
    identities: &Identities,
    make: impl Fn(Rate, Option<u64>) -> Result<R, crate::limit::Fault>,
    own: impl Fn(Rate) -> Option<R> + Send + Sync + 'static,
) -> Result<Rates<R>, Fault> {
    let made = |rate: &Spanned<Rate>, capacity: Option<&Spanned<u64>>| {
        let made = make(rate.value, capacity.map(|c| c.value));
        made.map_err(|e| missed(&rate.place, e))
    };
    let tiers = conf.tiers.0.iter().map(|(name, tier)| {
        let TierConf { rate, capacity } = tier;
        Ok((
            Box::from(name.value.as_str()),
            made(rate, capacity.as_ref())?,
        ))
    });
    let own = conf.own_rate.as_ref().map(|conf_own| {
        let OwnRateConf { most, claim } = conf_own;
        let claim = claim
            .as_ref()
            .map(|claim| place(claim, &claim.value, identities));
        Ok(OwnRate {
            most: most.value,
            claim: claim.transpose()?,
            per: conf.rate.value.per,
            make: Box::new(own),
        })
    });
    Ok(Rates {
        all: made(&conf.rate, conf.capacity.as_ref())?,
        tiers: tiers.collect::<Result<_, Fault>>()?,
        own: own.transpose()?,
    })
}

fn whom(
    key: &Spanned<LimitKeys>,
    fallback: Option<&Spanned<LimitKeys>>,
    identities: &Identities,
) -> Result<Whom, Fault> {
    let parts = |keys: &Spanned<LimitKeys>| -> Result<Box<[Part]>, Fault> {
        let LimitKeys(all) = &keys.value;
        let made = all.iter().map(|one| part(one, keys, identities));
        made.collect()
    };
    Ok(Whom {
        parts: parts(key)?,
        fallback: match fallback {
            Some(fallback) => parts(fallback)?,
            None => Box::new([Part::Address { ipv4: 32, ipv6: 64 }]),
        },
    })
}

fn part<T>(conf: &LimitKey, at: &Spanned<T>, identities: &Identities) -> Result<Part, Fault> {
    Ok(match conf {
        LimitKey::Client => Part::Client,
        LimitKey::User => Part::User,
        LimitKey::ApiKey => Part::ApiKey,
        LimitKey::Tenant => Part::Tenant,
        LimitKey::Route => Part::Route,
        LimitKey::Claim(name) => Part::Claim(place(at, name, identities)?),
        LimitKey::Header(name) => {
            let name = name.as_str().parse();
            Part::Header(name.map_err(|_| missed(&at.place, "no header's name"))?)
        }
        LimitKey::Address(PrefixesConf { ipv4, ipv6 }) => Part::Address {
            ipv4: u8::try_from(ipv4.value).unwrap_or(32),
            ipv6: u8::try_from(ipv6.value).unwrap_or(128),
        },
    })
}

/// The place of a claim among those that are kept.
fn place<T>(at: &Spanned<T>, name: &str, identities: &Identities) -> Result<usize, Fault> {
    let path: ClaimPath = name.parse().map_err(|e: String| missed(&at.place, e))?;
    let found = identities
        .wanted
        .iter()
        .position(|wanted| wanted.path == path);
    found.ok_or_else(|| missed(&at.place, "a claim that nobody keeps"))
}
