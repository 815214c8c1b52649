//! The handles of upstreams, listeners and limits: resolved once, then only incremented.

use super::{Series, define, define::Families};
use prometheus::{Histogram, IntCounter, IntGauge};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A circuit breaker's state as its gauge shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// 0: requests pass.
    Closed = 0,
    /// 1: a few requests probe.
    HalfOpen = 1,
    /// 2: no request passes.
    Open = 2,
}

impl Circuit {
    const ALL: [(Circuit, &str); 3] = [
        (Circuit::Closed, "closed"),
        (Circuit::HalfOpen, "half_open"),
        (Circuit::Open, "open"),
    ];
}

/// The handle of one upstream's metrics.
#[derive(Debug)]
pub struct UpstreamMetrics {
    name: Box<str>,
    families: Arc<Families>,
    duration: Histogram,
    attempts: IntCounter,
    retries: IntCounter,
    connect_failures: IntCounter,
    tls_failures: IntCounter,
    in_flight: IntGauge,
    breaker_state: IntGauge,
    breaker_transitions: [IntCounter; 3],
    targets: IntGauge,
    healthy_targets: IntGauge,
}

impl UpstreamMetrics {
    pub(super) fn new(name: &str, families: &Arc<Families>) -> Self {
        let labels = [name];
        let to =
            |(_, to): (Circuit, &str)| families.breaker_transitions.with_label_values(&[name, to]);
        Self {
            name: name.into(),
            families: Arc::clone(families),
            duration: families.client_duration.with_label_values(&labels),
            attempts: families.attempts.with_label_values(&labels),
            retries: families.retries.with_label_values(&labels),
            connect_failures: families.connect_failures.with_label_values(&labels),
            tls_failures: families.upstream_tls_failures.with_label_values(&labels),
            in_flight: families.in_flight.with_label_values(&labels),
            breaker_state: families.breaker_state.with_label_values(&labels),
            breaker_transitions: Circuit::ALL.map(to),
            targets: families.targets.with_label_values(&labels),
            healthy_targets: families.healthy_targets.with_label_values(&labels),
        }
    }

    /// Counts an attempt, `retry` if it is not the request's first, and holds it as in flight
    /// until the guard is dropped, whichever way the request ends.
    pub fn attempt(&self, retry: bool) -> InFlight {
        self.attempts.inc();
        if retry {
            self.retries.inc();
        }
        InFlight::new(&self.in_flight)
    }

    /// Counts an attempt that got no connection.
    pub fn connect_failed(&self) {
        self.connect_failures.inc();
    }

    /// Counts an attempt that got no TLS with its target, on top of whatever else is counted of it.
    pub fn tls_failed(&self) {
        self.tls_failures.inc();
    }

    /// Counts an answer: the time from choosing a target to its last byte.
    pub fn answered(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// Notes that the circuit breaker changed to a state.
    pub fn circuit(&self, to: Circuit) {
        self.breaker_state.set(to as i64);
        self.breaker_transitions[to as usize].inc();
    }

    /// Notes how many targets there are and how many of them are fit to be chosen.
    pub fn targets(&self, all: usize, healthy: usize) {
        self.targets.set(define::clamp(all as u64));
        self.healthy_targets.set(define::clamp(healthy as u64));
    }
}

impl Series for UpstreamMetrics {
    fn forget(&self) {
        let families = &self.families;
        let labels = [&*self.name];
        let _ = families.client_duration.remove_label_values(&labels);
        for counters in [
            &families.attempts,
            &families.retries,
            &families.connect_failures,
            &families.upstream_tls_failures,
        ] {
            let _ = counters.remove_label_values(&labels);
        }
        for gauges in [
            &families.in_flight,
            &families.breaker_state,
            &families.targets,
            &families.healthy_targets,
        ] {
            let _ = gauges.remove_label_values(&labels);
        }
        for (_, to) in Circuit::ALL {
            let labels = [&*self.name, to];
            let _ = families.breaker_transitions.remove_label_values(&labels);
        }
    }
}

/// Something under way, counted in a gauge until this is dropped.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The handle of one listener's metrics.
#[derive(Debug)]
pub struct ListenerMetrics {
    name: Box<str>,
    families: Arc<Families>,
    open: IntGauge,
    accepted: IntCounter,
    refused: IntCounter,
    turned_away: [IntCounter; 4],
}

/// Why a connection is closed before a request is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// The listener has as many as it may.
    Full = 0,
    /// Its address has as many as it may.
    Address = 1,
    /// What it begins with is no PROXY header, or not from whom one is taken.
    Proxy = 2,
    /// No TLS was agreed on.
    Tls = 3,
}

impl TurnedAway {
    const ALL: [&str; 4] = ["full", "address", "proxy_protocol", "tls"];
}

impl ListenerMetrics {
    pub(super) fn new(name: &str, families: &Arc<Families>) -> Self {
        Self {
            name: name.into(),
            families: Arc::clone(families),
            open: families.connections.with_label_values(&[name]),
            accepted: families.connections_accepted.with_label_values(&[name]),
            refused: families.front_refusals.with_label_values(&[name]),
            turned_away: TurnedAway::ALL
                .map(|cause| families.turned_away.with_label_values(&[name, cause])),
        }
    }

    /// Counts a connection that was closed before a request was read from it.
    pub fn turned_away(&self, cause: TurnedAway) {
        self.turned_away[cause as usize].inc();
    }

    /// Counts an accepted connection and holds it as open until the guard is dropped.
    pub fn accepted(&self) -> InFlight {
        self.accepted.inc();
        InFlight::new(&self.open)
    }

    /// Counts a request refused while its header was read.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// Connections open.
    pub fn open(&self) -> u64 {
        u64::try_from(self.open.get()).unwrap_or(0)
    }
}

impl Series for ListenerMetrics {
    fn forget(&self) {
        let labels = [&*self.name];
        let families = &self.families;
        let _ = families.connections.remove_label_values(&labels);
        let _ = families.connections_accepted.remove_label_values(&labels);
        let _ = families.front_refusals.remove_label_values(&labels);
        for cause in TurnedAway::ALL {
            let labels = [&*self.name, cause];
            let _ = families.turned_away.remove_label_values(&labels);
        }
    }
}

/// The handle of one limit's metrics.
#[derive(Debug)]
pub struct LimiterMetrics {
    name: Box<str>,
    families: Arc<Families>,
    keys: IntGauge,
    evictions: IntCounter,
    refused: IntCounter,
    would_refuse: IntCounter,
    seen: AtomicU64,
}

impl LimiterMetrics {
    pub(super) fn new(name: &str, families: &Arc<Families>) -> Self {
        Self {
            name: name.into(),
            families: Arc::clone(families),
            keys: families.limiter_keys.with_label_values(&[name]),
            evictions: families.limiter_evictions.with_label_values(&[name]),
            refused: families
                .limiter_refused
                .with_label_values(&[name, "enforce"]),
            would_refuse: families
                .limiter_refused
                .with_label_values(&[name, "dry_run"]),
            seen: AtomicU64::new(0),
        }
    }

    /// Counts a request that a limit refused.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// Counts a request that it would have refused, were it not only tried out.
    pub fn would_refuse(&self) {
        self.would_refuse.inc();
    }

    /// Notes the keys a limiter holds and how many it has evicted since it was made; to be called
    /// when metrics are asked for. A limiter made anew may begin at 0 again.
    pub fn update(&self, keys: u64, evicted: u64) {
        self.keys.set(define::clamp(keys));
        self.evictions.inc_by(risen(&self.seen, evicted));
    }
}

impl Series for LimiterMetrics {
    fn forget(&self) {
        let labels = [&*self.name];
        let _ = self.families.limiter_keys.remove_label_values(&labels);
        let _ = self.families.limiter_evictions.remove_label_values(&labels);
        for mode in ["enforce", "dry_run"] {
            let labels = [&*self.name, mode];
            let _ = self.families.limiter_refused.remove_label_values(&labels);
        }
    }
}

/// How far a count kept elsewhere has risen since the last look; one below the last look began at
/// 0 again.
pub(super) fn risen(seen: &AtomicU64, count: u64) -> u64 {
    let before = seen.swap(count, Relaxed);
    count.checked_sub(before).unwrap_or(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_restarts_is_added_whole() {
        let seen = AtomicU64::new(0);
        let steps = [5, 5, 9, 2].map(|count| risen(&seen, count));
        assert_eq!(steps, [5, 0, 4, 2]);
    }
}
