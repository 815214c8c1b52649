//! The handle of a token issuer's metrics: its published keys, and what came of fetching them.

use super::{Series, define, define::Families};
use prometheus::{IntCounter, IntGauge};
use std::sync::Arc;

/// Defines [`FetchResult`] and its codes from one list, so that none can be missed.
macro_rules! results {
    ($($(#[$doc:meta])+ $name:ident = $code:literal,)+) => {
        /// What came of fetching an issuer's keys. Closed: the `result` of a metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FetchResult {
            $($(#[$doc])+ $name,)+
        }

        impl FetchResult {
            /// Every result, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable name.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }
        }
    };
}

results! {
    /// A key set with a usable key.
    Ok = "ok",
    /// No connection, no TLS, or no whole answer.
    Transport = "transport",
    /// No whole answer in time.
    Timeout = "timeout",
    /// A status other than 200.
    Status = "status",
    /// A key set of more bytes than are read.
    TooLarge = "too_large",
    /// A key set that is not strict JSON.
    NotJson = "not_json",
    /// JSON that is no key set.
    NotASet = "not_a_set",
    /// A key set of more keys than are taken.
    TooManyKeys = "too_many_keys",
    /// A key set without a usable key.
    NoUsableKey = "no_usable_key",
    /// Discovery: no connection, no TLS, or no whole answer.
    DiscoveryTransport = "discovery_transport",
    /// Discovery: no whole answer in time.
    DiscoveryTimeout = "discovery_timeout",
    /// Discovery: a status other than 200.
    DiscoveryStatus = "discovery_status",
    /// Discovery: a document of more bytes than are read.
    DiscoveryTooLarge = "discovery_too_large",
    /// Discovery: a document that is not strict JSON.
    DiscoveryNotJson = "discovery_not_json",
    /// Discovery: a document without `issuer` or `jwks_uri`.
    DiscoveryIncomplete = "discovery_incomplete",
    /// Discovery: the document of another issuer.
    IssuerMismatch = "issuer_mismatch",
    /// Discovery: keys at an address that may not be fetched.
    InsecureJwksUri = "insecure_jwks_uri",
}

/// The handle of one token issuer's metrics.
#[derive(Debug)]
pub struct IssuerMetrics {
    name: Box<str>,
    families: Arc<Families>,
    results: Vec<IntCounter>,
    keys: IntGauge,
    fetched: IntGauge,
    age: IntGauge,
}

impl IssuerMetrics {
    pub(super) fn new(name: &str, families: &Arc<Families>) -> Self {
        let result = |result: &FetchResult| {
            let labels = [name, result.code()];
            families.jwks_fetches.with_label_values(&labels)
        };
        Self {
            name: name.into(),
            families: Arc::clone(families),
            results: FetchResult::ALL.iter().map(result).collect(),
            keys: families.jwks_keys.with_label_values(&[name]),
            fetched: families.jwks_fetched.with_label_values(&[name]),
            age: families.jwks_age.with_label_values(&[name]),
        }
    }

    /// Counts a fetch.
    pub fn fetched(&self, result: FetchResult) {
        self.results[result as usize].inc();
    }

    /// Notes that a fetch confirmed the keys at `unix_s` seconds since the epoch.
    pub fn confirmed(&self, unix_s: u64) {
        self.fetched.set(define::clamp(unix_s));
    }

    /// Notes how many usable keys are held, and for how many seconds they have not been confirmed.
    pub fn keys(&self, keys: usize, age_s: u64) {
        self.keys.set(define::clamp(keys as u64));
        self.age.set(define::clamp(age_s));
    }
}

impl Series for IssuerMetrics {
    fn forget(&self) {
        let (families, name) = (&self.families, &*self.name);
        for result in FetchResult::ALL {
            let labels = [name, result.code()];
            let _ = families.jwks_fetches.remove_label_values(&labels);
        }
        for gauges in [
            &families.jwks_keys,
            &families.jwks_fetched,
            &families.jwks_age,
        ] {
            let _ = gauges.remove_label_values(&[name]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    #[test]
    fn a_result_is_its_place_and_has_a_code_of_its_own() {
        let mut codes: Vec<_> = FetchResult::ALL.iter().map(|r| r.code()).collect();
        for (at, result) in FetchResult::ALL.iter().enumerate() {
            assert_eq!(*result as usize, at);
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), FetchResult::ALL.len());
    }

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new("0", 0);
        let corp = metrics.issuer("corp");
        corp.fetched(FetchResult::Ok);
        corp.confirmed(1_700_000_100);
        corp.keys(4, 12);
        corp.fetched(FetchResult::IssuerMismatch);
        let text = metrics.render();
        for line in [
            "tollgate_jwks_fetches_total{issuer=\"corp\",result=\"ok\"} 1",
            "tollgate_jwks_fetches_total{issuer=\"corp\",result=\"issuer_mismatch\"} 1",
            "tollgate_jwks_fetches_total{issuer=\"corp\",result=\"not_json\"} 0",
            "tollgate_jwks_keys{issuer=\"corp\"} 4",
            "tollgate_jwks_age_seconds{issuer=\"corp\"} 12",
            "tollgate_jwks_last_success_timestamp_seconds{issuer=\"corp\"} 1700000100",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }
}
