//! The handle of a set of revocations: how many there are, how well they are known.

use super::{Handles, Metrics, Series, define};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use std::sync::Arc;

const MESSAGES: [&str; 2] = ["unknown", "ok"];
const RESULTS: [&str; 2] = ["failed", "ok"];

/// All sets.
#[derive(Debug)]
pub(super) struct RevocationFamilies {
    families: Arc<Families>,
    sets: Handles<RevocationMetrics>,
}

#[derive(Debug)]
struct Families {
    entries: IntGaugeVec,
    unknown: IntGaugeVec,
    lag: IntGaugeVec,
    messages: IntCounterVec,
    scans: IntCounterVec,
}

impl RevocationFamilies {
    #[rustfmt::skip] // One family a line reads as the table it is.
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help| define::counters(registry, name, help, &["set", "result"]);
        let gauges = |name, help| define::gauges(registry, name, help, &["set"]);
        let families = Families {
            entries: gauges("tollgate_revocations", "Revocations held."),
            unknown: gauges("tollgate_revocations_unknown", "Entries in Redis that say nothing known here, as of the last scan."),
            lag: gauges("tollgate_revocations_lag_seconds", "Seconds since the revocations were last known to be complete."),
            messages: counters("tollgate_revocation_messages_total", "Messages about revocations, by whether they are understood."),
            scans: counters("tollgate_revocation_scans_total", "Scans of all revocations, by result."),
        };
        Self { families: Arc::new(families), sets: Handles::default() }
    }
}

impl Metrics {
    /// The handle of a set of revocations, by its name; the same for the same name.
    pub fn revocations(&self, name: &str) -> Arc<RevocationMetrics> {
        let RevocationFamilies { families, sets } = &self.revocations;
        sets.get(name, || RevocationMetrics::new(name, families))
    }

    /// As [`Metrics::retain_routes`].
    pub fn retain_revocations(&self, keep: impl Fn(&str) -> bool) {
        self.revocations.sets.retain(keep);
    }
}

/// The handle of one set's metrics.
#[derive(Debug)]
pub struct RevocationMetrics {
    set: Box<str>,
    families: Arc<Families>,
    entries: IntGauge,
    unknown: IntGauge,
    lag: IntGauge,
    messages: [IntCounter; 2],
    scans: [IntCounter; 2],
}

impl RevocationMetrics {
    fn new(set: &str, families: &Arc<Families>) -> Self {
        let messages = |result| families.messages.with_label_values(&[set, result]);
        let scans = |result| families.scans.with_label_values(&[set, result]);
        Self {
            set: set.into(),
            families: Arc::clone(families),
            entries: families.entries.with_label_values(&[set]),
            unknown: families.unknown.with_label_values(&[set]),
            lag: families.lag.with_label_values(&[set]),
            messages: MESSAGES.map(messages),
            scans: RESULTS.map(scans),
        }
    }

    /// Notes how many are held, and for how many seconds they may have been incomplete.
    pub fn state(&self, entries: usize, lag_s: u64) {
        self.entries.set(define::clamp(entries as u64));
        self.lag.set(define::clamp(lag_s));
    }

    /// Notes how many entries were not understood.
    pub fn unknown(&self, count: usize) {
        self.unknown.set(define::clamp(count as u64));
    }

    /// Counts a message.
    pub fn heard(&self, understood: bool) {
        self.messages[usize::from(understood)].inc();
    }

    /// Counts a scan.
    pub fn scanned(&self, ok: bool) {
        self.scans[usize::from(ok)].inc();
    }
}

impl Series for RevocationMetrics {
    fn forget(&self) {
        let (families, set) = (&self.families, &*self.set);
        for gauges in [&families.entries, &families.unknown, &families.lag] {
            let _ = gauges.remove_label_values(&[set]);
        }
        for result in MESSAGES {
            let _ = families.messages.remove_label_values(&[set, result]);
        }
        for result in RESULTS {
            let _ = families.scans.remove_label_values(&[set, result]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_shown_and_forgotten() {
        let metrics = Metrics::new("0", 0);
        let set = metrics.revocations("a:b");
        set.state(7, 3);
        set.unknown(2);
        set.heard(true);
        set.scanned(false);
        let text = metrics.render();
        for line in [
            "tollgate_revocations{set=\"a:b\"} 7",
            "tollgate_revocations_lag_seconds{set=\"a:b\"} 3",
            "tollgate_revocations_unknown{set=\"a:b\"} 2",
            "tollgate_revocation_messages_total{result=\"ok\",set=\"a:b\"} 1",
            "tollgate_revocation_messages_total{result=\"unknown\",set=\"a:b\"} 0",
            "tollgate_revocation_scans_total{result=\"failed\",set=\"a:b\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
        }
        metrics.retain_revocations(|_| false);
        assert!(!metrics.render().contains("a:b"));
    }
}
