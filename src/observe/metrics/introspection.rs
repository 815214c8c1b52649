//! The handle of an issuer that is asked about tokens (RFC 7662).

use super::{Metrics, Series, define, define::Families, handles::risen};
use prometheus::{Histogram, IntCounter, IntGauge};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// What came of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The token is good.
    Active = 0,
    /// Its issuer says that it is not.
    Inactive = 1,
    /// Its issuer says that it is, and it is not for us.
    Refused = 2,
    /// An answer that is none.
    Invalid = 3,
    /// No answer.
    Unavailable = 4,
}

/// What came of looking for an answer that another gateway left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// There is none.
    Miss = 0,
    /// There is one.
    Hit = 1,
    /// There is something that no gateway of ours left.
    Foreign = 2,
    /// It could not be looked for.
    Failed = 3,
}

const SHARED: [&str; 4] = ["miss", "hit", "foreign", "failed"];
const RESULTS: [&str; 6] = [
    "active",
    "inactive",
    "refused",
    "invalid",
    "unavailable",
    "skipped",
];
/// Misses and hits.
const LOOKUPS: [&str; 2] = ["miss", "hit"];

/// The handle of one such issuer's metrics.
#[derive(Debug)]
pub struct IntrospectionMetrics {
    name: Box<str>,
    families: Arc<Families>,
    queries: [IntCounter; 6],
    duration: Histogram,
    in_flight: IntGauge,
    circuit: IntGauge,
    lookups: [IntCounter; 2],
    shared: [IntCounter; 4],
    evictions: IntCounter,
    seen: AtomicU64,
}

impl Metrics {
    /// The handle of an issuer that is asked about tokens; the same for the same name.
    pub fn introspection(&self, name: &str) -> Arc<IntrospectionMetrics> {
        self.introspections
            .get(name, || IntrospectionMetrics::new(name, &self.families))
    }

    /// As [`Metrics::retain_routes`].
    pub fn retain_introspections(&self, keep: impl Fn(&str) -> bool) {
        self.introspections.retain(keep);
    }
}

impl IntrospectionMetrics {
    pub(super) fn new(name: &str, families: &Arc<Families>) -> Self {
        let queries = |result| families.introspections.with_label_values(&[name, result]);
        let lookups = |result| families.opaque_lookups.with_label_values(&[name, result]);
        let shared = |result| {
            families
                .introspection_shared
                .with_label_values(&[name, result])
        };
        Self {
            name: name.into(),
            families: Arc::clone(families),
            queries: RESULTS.map(queries),
            duration: families.introspection_duration.with_label_values(&[name]),
            in_flight: families.introspections_in_flight.with_label_values(&[name]),
            circuit: families.introspection_circuit.with_label_values(&[name]),
            lookups: LOOKUPS.map(lookups),
            shared: SHARED.map(shared),
            evictions: families.opaque_evictions.with_label_values(&[name]),
            seen: AtomicU64::new(0),
        }
    }

    /// Counts a query.
    pub fn asked(&self, result: Asked, took: Duration) {
        self.queries[result as usize].inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a query that was not made: the issuer is given up, or too many are under way.
    pub fn skipped(&self) {
        self.queries[5].inc();
    }

    /// Notes how many queries are under way.
    pub fn in_flight(&self, count: usize) {
        self.in_flight.set(define::clamp(count as u64));
    }

    /// Notes whether the issuer is given up.
    pub fn circuit(&self, open: bool) {
        self.circuit.set(i64::from(open));
    }

    /// Counts a look at what is known of a token.
    pub fn cache(&self, hit: bool) {
        self.lookups[usize::from(hit)].inc();
    }

    /// Counts a look for an answer that another gateway left.
    pub fn shared(&self, result: Shared) {
        self.shared[result as usize].inc();
    }

    /// Notes how many answers gave way to others since they are remembered.
    pub fn evicted(&self, evicted: u64) {
        self.evictions.inc_by(risen(&self.seen, evicted));
    }
}

impl Series for IntrospectionMetrics {
    fn forget(&self) {
        let (families, name) = (&self.families, &*self.name);
        for result in RESULTS {
            let _ = families.introspections.remove_label_values(&[name, result]);
        }
        for result in LOOKUPS {
            let _ = families.opaque_lookups.remove_label_values(&[name, result]);
        }
        for result in SHARED {
            let shared = &families.introspection_shared;
            let _ = shared.remove_label_values(&[name, result]);
        }
        let _ = families.introspection_duration.remove_label_values(&[name]);
        for gauges in [
            &families.introspections_in_flight,
            &families.introspection_circuit,
        ] {
            let _ = gauges.remove_label_values(&[name]);
        }
        let _ = families.opaque_evictions.remove_label_values(&[name]);
    }
}
