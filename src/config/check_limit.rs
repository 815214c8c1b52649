//! Judges limits: what an algorithm can count, where, and by what.

use super::Spanned;
use super::check::{Findings, rate};
use super::error::message;
use super::limit::{
    AlgorithmConf, LimitConf, LimitHeadersConf, LimitKey, LimitKeys, OwnRateConf, StoreConf,
};
use crate::base::units::Rate;
use crate::identity::claims::ClaimPath;
use crate::limit::MAX_WINDOW_MS;
use crate::limit::sliding_log;

/// Judges one limit.
pub(super) fn check(limit: &LimitConf, f: &mut Findings) {
    rates(limit, f);
    store(limit, f);
    keys(limit, f);
    if limit.headers.sound() == Some(&LimitHeadersConf::None) {
        f.idle(&limit.reset, "headers: none");
    }
}

fn rates(limit: &LimitConf, f: &mut Findings) {
    let algorithm = limit.algorithm.value;
    let is_bucket = matches!(
        algorithm,
        AlgorithmConf::TokenBucket | AlgorithmConf::LeakyBucket
    );
    let tiers = limit.tiers.0.iter();
    let tiers = tiers.map(|(_, tier)| (&tier.rate, tier.capacity.as_ref()));
    let own = limit.own_rate.iter().map(|own| (&own.most, None));
    let first = (&limit.rate, limit.capacity.as_ref());
    for (each, capacity) in std::iter::once(first).chain(tiers).chain(own) {
        rate(each, f);
        if let Some(capacity) = capacity.filter(|_| !is_bucket) {
            f.idle(capacity, format_args!("algorithm: {}", word(algorithm)));
        }
        let Some(found) = each.sound().filter(|rate| rate.is_countable()) else {
            continue;
        };
        if algorithm == AlgorithmConf::SlidingLog && found.count > sliding_log::MAX_LIMIT {
            let most = sliding_log::MAX_LIMIT;
            f.fault(&each.place, message!("is more than a `sliding_log` keeps (found {found}, want at most {most} requests, or `algorithm: sliding_window`)"));
        }
        let fills = capacity.and_then(Spanned::sound).filter(|_| is_bucket);
        if let Some((full, place)) = fills.zip(capacity.map(|c| &c.place))
            && fills_in_ms(*full, *found) > MAX_WINDOW_MS
        {
            f.fault(place, message!("takes too long to fill (found {full} at {found}, want what comes in within 366d)"));
        }
    }
    if let Some(OwnRateConf {
        claim: Some(claim), ..
    }) = &limit.own_rate
    {
        path(claim, &claim.value, f);
    }
}

fn fills_in_ms(capacity: u64, rate: Rate) -> u64 {
    capacity.saturating_mul(rate.per_ms()) / rate.count
}

/// An algorithm's name in the config.
fn word(algorithm: AlgorithmConf) -> &'static str {
    match algorithm {
        AlgorithmConf::FixedWindow => "fixed_window",
        AlgorithmConf::SlidingWindow => "sliding_window",
        AlgorithmConf::SlidingLog => "sliding_log",
        AlgorithmConf::TokenBucket => "token_bucket",
        AlgorithmConf::LeakyBucket => "leaky_bucket",
    }
}

fn store(limit: &LimitConf, f: &mut Findings) {
    let algorithm = limit.algorithm.value;
    match limit.store.sound() {
        Some(StoreConf::Exact) => f.idle(&limit.expected_clients, "store: exact"),
        Some(StoreConf::Estimate) => {
            if let Some(keys) = &limit.max_keys {
                f.idle(keys, "store: estimate");
            }
            estimate(limit, f);
        }
        None => {}
    }
    let most = sliding_log::MAX_KEYS;
    if let Some(keys) = limit.max_keys.as_ref().and_then(Spanned::sound)
        && algorithm == AlgorithmConf::SlidingLog
        && *keys > most
    {
        let place = limit
            .max_keys
            .as_ref()
            .map_or(&limit.name.place, |keys| &keys.place);
        f.fault(
            place,
            message!("is more than a `sliding_log` keeps (found {keys}, want at most {most})"),
        );
    }
}

/// A sketch holds counts, all of one limit.
fn estimate(limit: &LimitConf, f: &mut Findings) {
    let (place, algorithm) = (&limit.store.place, limit.algorithm.value);
    let why = match algorithm {
        AlgorithmConf::SlidingWindow => None,
        AlgorithmConf::FixedWindow => {
            Some("a sketch keeps the window before anyway: `sliding_window` costs no more")
        }
        AlgorithmConf::SlidingLog => Some("a sketch holds counts, not the time of each request"),
        AlgorithmConf::TokenBucket | AlgorithmConf::LeakyBucket => {
            Some("a sketch holds counts, not how full each bucket is")
        }
    };
    if let Some(why) = why {
        let word = word(algorithm);
        f.fault(
            place,
            message!("does not go with `{word}` (found estimate, want exact: {why})"),
        );
    }
    if let Some((tier, _)) = limit.tiers.0.first() {
        f.fault(&tier.place, message!("does not go with `store: estimate` (found it there, want `store: exact`: a sketch is made for one rate)"));
    }
    if let Some(own) = &limit.own_rate {
        f.fault(&own.most.place, message!("does not go with `store: estimate` (found it there, want `store: exact`: a sketch is made for one rate)"));
    }
}

fn keys(limit: &LimitConf, f: &mut Findings) {
    let Some(LimitKeys(keys)) = limit.key.sound() else {
        return;
    };
    for (n, key) in keys.iter().enumerate() {
        if keys[..n].contains(key) {
            f.fault(
                &limit.key.place,
                message!("counts by one thing twice (found `{key}` twice, want it once)"),
            );
        }
        if let LimitKey::Claim(name) = key {
            path(&limit.key, name, f);
        }
    }
    let missing = keys.iter().find(|key| key.may_be_missing());
    match (&limit.fallback, missing) {
        (Some(fallback), None) => f.idle(fallback, format_args!("key: {}", listed(keys))),
        (Some(fallback), Some(_)) => {
            let sound = fallback.sound().map(|keys| keys.0.as_slice());
            let lost = sound
                .unwrap_or_default()
                .iter()
                .find(|key| key.may_be_missing());
            if let Some(lost) = lost {
                f.fault(
                    &fallback.place,
                    message!(
                        "may be missing itself (found `{lost}`, want `address`, `route` or both)"
                    ),
                );
            }
        }
        (None, Some(key)) if !is_caller(keys) => {
            f.fault(&limit.key.place, message!("may be missing (found `{key}` and no `fallback`, want `fallback: address`, or what else such requests are counted by)"));
        }
        (None, _) => {}
    }
}

/// Whether addresses stand in where nobody is known.
fn is_caller(keys: &[LimitKey]) -> bool {
    matches!(keys, [LimitKey::Client | LimitKey::User])
}

fn listed(keys: &[LimitKey]) -> String {
    let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn path<T>(at: &Spanned<T>, name: &str, f: &mut Findings) {
    if let Err(why) = name.parse::<ClaimPath>() {
        f.fault(&at.place, message!("names no claim ({why})"));
    }
}
