//! The handle of one list of API keys in Redis: what came of looking keys up, and how many are
//! remembered.

use super::handles::risen;
use super::{Handles, Metrics, Series, define};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What came of looking a key up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLookup {
    /// There is such a key.
    Found = 0,
    /// There is none.
    Unknown = 1,
    /// There is something that is no record of a key.
    Unusable = 2,
    /// Redis gave no answer.
    Failed = 3,
    /// Too many were waiting for Redis.
    Crowded = 4,
}

impl KeyLookup {
    const ALL: [&str; 5] = ["found", "unknown", "unusable", "failed", "crowded"];
}

/// All lists.
#[derive(Debug)]
pub(super) struct KeyFamilies {
    families: Arc<Families>,
    lists: Handles<KeyListMetrics>,
}

#[derive(Debug)]
struct Families {
    lookups: IntCounterVec,
    remembered: IntGaugeVec,
    evictions: IntCounterVec,
}

impl KeyFamilies {
    #[rustfmt::skip] // One family a line reads as the table it is.
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[&str]| define::counters(registry, name, help, labels);
        let gauges = |name, help| define::gauges(registry, name, help, &["list"]);
        let families = Families {
            lookups: counters("tollgate_api_key_lookups_total", "API keys looked up in Redis, by result.", &["list", "result"]),
            remembered: gauges("tollgate_api_keys_remembered", "API keys remembered of those in Redis."),
            evictions: counters("tollgate_api_key_evictions_total", "API keys forgotten for lack of room.", &["list"]),
        };
        Self { families: Arc::new(families), lists: Handles::default() }
    }
}

impl Metrics {
    /// The handle of a list of API keys in Redis, by its name; the same for the same name.
    pub fn key_list(&self, name: &str) -> Arc<KeyListMetrics> {
        let KeyFamilies { families, lists } = &self.keys;
        lists.get(name, || KeyListMetrics::new(name, families))
    }

    /// As [`Metrics::retain_routes`].
    pub fn retain_key_lists(&self, keep: impl Fn(&str) -> bool) {
        self.keys.lists.retain(keep);
    }
}

/// The handle of one list's metrics.
#[derive(Debug)]
pub struct KeyListMetrics {
    name: Box<str>,
    families: Arc<Families>,
    lookups: [IntCounter; KeyLookup::ALL.len()],
    remembered: IntGauge,
    evictions: IntCounter,
    evicted: AtomicU64,
}

impl KeyListMetrics {
    fn new(name: &str, families: &Arc<Families>) -> Self {
        let lookups = |result| families.lookups.with_label_values(&[name, result]);
        Self {
            name: name.into(),
            lookups: KeyLookup::ALL.map(lookups),
            remembered: families.remembered.with_label_values(&[name]),
            evictions: families.evictions.with_label_values(&[name]),
            evicted: AtomicU64::new(0),
            families: Arc::clone(families),
        }
    }

    /// Counts a key looked up.
    pub fn looked_up(&self, result: KeyLookup) {
        self.lookups[result as usize].inc();
    }

    /// Notes how many keys are remembered, and how many were forgotten since the list was made.
    pub fn remembers(&self, keys: u64, evicted: u64) {
        self.remembered.set(define::clamp(keys));
        self.evictions.inc_by(risen(&self.evicted, evicted));
    }
}

impl Series for KeyListMetrics {
    fn forget(&self) {
        let (families, name) = (&self.families, &*self.name);
        for result in KeyLookup::ALL {
            let _ = families.lookups.remove_label_values(&[name, result]);
        }
        let _ = families.remembered.remove_label_values(&[name]);
        let _ = families.evictions.remove_label_values(&[name]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_shown_until_it_is_gone() {
        let metrics = Metrics::new("1", 0);
        let list = metrics.key_list("apps");
        assert!(Arc::ptr_eq(&list, &metrics.key_list("apps")));
        list.looked_up(KeyLookup::Found);
        list.looked_up(KeyLookup::Unusable);
        list.remembers(3, 2);
        list.remembers(3, 5);
        let text = metrics.render();
        for line in [
            "tollgate_api_key_lookups_total{list=\"apps\",result=\"found\"} 1",
            "tollgate_api_key_lookups_total{list=\"apps\",result=\"unusable\"} 1",
            "tollgate_api_key_lookups_total{list=\"apps\",result=\"crowded\"} 0",
            "tollgate_api_keys_remembered{list=\"apps\"} 3",
            "tollgate_api_key_evictions_total{list=\"apps\"} 5",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        metrics.retain_key_lists(|_| false);
        assert!(!metrics.render().contains("apps"));
    }
}
