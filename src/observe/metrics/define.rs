//! Defining metrics: short forms over the `prometheus` crate, and every family that has labels.

use prometheus::core::Collector;
use prometheus::{
    Counter, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Upper bounds of the duration histograms, in seconds: those that OpenTelemetry's HTTP
/// conventions ask for.
const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// What makes a failure here impossible: names are literals, each used once in one registry.
const STATIC: &str = "metric names and labels are valid and distinct";

/// Every metric family with labels. Their names are the operator's interface: never renamed
/// lightly.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) tier_requests: IntCounterVec,
    pub(super) rejections: IntCounterVec,
    pub(super) would_refuse: IntCounterVec,
    pub(super) server_duration: HistogramVec,
    pub(super) client_duration: HistogramVec,
    pub(super) attempts: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) connect_failures: IntCounterVec,
    pub(super) upstream_tls_failures: IntCounterVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) breaker_state: IntGaugeVec,
    pub(super) breaker_transitions: IntCounterVec,
    pub(super) targets: IntGaugeVec,
    pub(super) healthy_targets: IntGaugeVec,
    pub(super) refusals: IntCounterVec,
    pub(super) connections: IntGaugeVec,
    pub(super) connections_accepted: IntCounterVec,
    pub(super) front_refusals: IntCounterVec,
    pub(super) turned_away: IntCounterVec,
    pub(super) jwks_fetches: IntCounterVec,
    pub(super) jwks_keys: IntGaugeVec,
    pub(super) jwks_fetched: IntGaugeVec,
    pub(super) jwks_age: IntGaugeVec,
    pub(super) token_cache: IntCounterVec,
    pub(super) introspections: IntCounterVec,
    pub(super) introspection_duration: HistogramVec,
    pub(super) introspections_in_flight: IntGaugeVec,
    pub(super) introspection_circuit: IntGaugeVec,
    pub(super) opaque_lookups: IntCounterVec,
    pub(super) opaque_evictions: IntCounterVec,
    pub(super) introspection_shared: IntCounterVec,
    pub(super) limiter_keys: IntGaugeVec,
    pub(super) limiter_evictions: IntCounterVec,
    pub(super) limiter_refused: IntCounterVec,
    pub(super) reloads: IntCounterVec,
    pub(super) config_info: IntGaugeVec,
    pub(super) tls_handshakes: IntCounterVec,
    pub(super) tls_failures: IntCounterVec,
    pub(super) certificate_ends: IntGaugeVec,
    pub(super) certificate_reloads: IntCounterVec,
}

impl Families {
    #[rustfmt::skip] // One family a line reads as the table it is.
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[&str]| counters(registry, name, help, labels);
        let gauges = |name, help, labels: &[&str]| gauges(registry, name, help, labels);
        let seconds = |name, help, labels: &[&str]| seconds(registry, name, help, labels);
        Self {
            requests: counters("tollgate_requests_total", "Requests answered.", &["route", "method", "status"]),
            tier_requests: counters("tollgate_tier_requests_total", "Requests by the client's tier.", &["route", "tier"]),
            rejections: counters("tollgate_rate_limit_rejections_total", "Requests refused by a limit.", &["route", "tier"]),
            would_refuse: counters("tollgate_auth_dry_run_refusals_total", "Requests that passed because their route's auth is a dry run, by the reason they would have been refused for.", &["route", "reason"]),
            server_duration: seconds("http_server_request_duration_seconds", "From a request's first byte to the last of its answer.", &["route"]),
            client_duration: seconds("http_client_request_duration_seconds", "From choosing a target to the last byte of its answer.", &["upstream"]),
            attempts: counters("tollgate_upstream_attempts_total", "Attempts to send a request to a target.", &["upstream"]),
            retries: counters("tollgate_upstream_retries_total", "Attempts after the first of a request.", &["upstream"]),
            connect_failures: counters("tollgate_upstream_connect_failures_total", "Attempts that got no connection.", &["upstream"]),
            upstream_tls_failures: counters("tollgate_upstream_tls_failures_total", "Attempts that got no TLS with a target.", &["upstream"]),
            in_flight: gauges("tollgate_upstream_requests_in_flight", "Attempts under way.", &["upstream"]),
            breaker_state: gauges("tollgate_breaker_state", "Circuit breaker: 0 closed, 1 half-open, 2 open.", &["upstream"]),
            breaker_transitions: counters("tollgate_breaker_transitions_total", "Changes of the circuit breaker, by new state.", &["upstream", "to"]),
            targets: gauges("tollgate_upstream_targets", "Targets known.", &["upstream"]),
            healthy_targets: gauges("tollgate_upstream_healthy_targets", "Targets fit to be chosen.", &["upstream"]),
            refusals: counters("tollgate_refusals_total", "Requests not answered by an upstream, by reason.", &["reason"]),
            connections: gauges("tollgate_connections", "Client connections open.", &["listener"]),
            connections_accepted: counters("tollgate_connections_accepted_total", "Client connections accepted.", &["listener"]),
            front_refusals: counters("tollgate_front_refusals_total", "Requests refused while their header was read.", &["listener"]),
            turned_away: counters("tollgate_connections_refused_total", "Client connections closed before a request was read, by cause.", &["listener", "cause"]),
            jwks_fetches: counters("tollgate_jwks_fetches_total", "Fetches of an issuer's keys, by result.", &["issuer", "result"]),
            jwks_keys: gauges("tollgate_jwks_keys", "Keys in use of an issuer that publishes them.", &["issuer"]),
            jwks_fetched: gauges("tollgate_jwks_last_success_timestamp_seconds", "When an issuer's keys were last fetched; 0 for never.", &["issuer"]),
            jwks_age: gauges("tollgate_jwks_age_seconds", "Since an issuer\'s keys were last fetched, or since the start where they never were.", &["issuer"]),
            token_cache: counters("tollgate_token_cache_lookups_total", "Lookups of tokens already verified, by result.", &["result"]),
            introspections: counters("tollgate_introspections_total", "Queries about tokens at their issuer, by result.", &["issuer", "result"]),
            introspection_duration: seconds("tollgate_introspection_duration_seconds", "From a query about a token to the end of its answer.", &["issuer"]),
            introspections_in_flight: gauges("tollgate_introspections_in_flight", "Queries about tokens under way.", &["issuer"]),
            introspection_circuit: gauges("tollgate_introspection_given_up", "1 while an issuer fails again and again and is asked once a second only.", &["issuer"]),
            opaque_lookups: counters("tollgate_introspection_cache_lookups_total", "Lookups of tokens that their issuer was asked about, by result.", &["issuer", "result"]),
            introspection_shared: counters("tollgate_introspection_shared_lookups_total", "Looks for answers about tokens that other gateways left, by result.", &["issuer", "result"]),
            opaque_evictions: counters("tollgate_introspection_cache_evictions_total", "Answers about tokens given up for lack of room.", &["issuer"]),
            limiter_keys: gauges("tollgate_limiter_keys", "Keys a limit holds.", &["limit"]),
            limiter_evictions: counters("tollgate_limiter_evictions_total", "Keys a limit gave up for lack of room.", &["limit"]),
            limiter_refused: counters("tollgate_limiter_refused_total", "Requests that a limit refused, or would have, by its mode.", &["limit", "mode"]),
            reloads: counters("tollgate_config_loads_total", "Loads of the configuration, by result.", &["result"]),
            config_info: gauges("tollgate_config_info", "Always 1: the configuration in use, by the begin of the SHA-256 of its file.", &["hash"]),
            tls_handshakes: counters("tollgate_tls_handshakes_total", "TLS handshakes completed.", &["listener", "version", "resumed"]),
            tls_failures: counters("tollgate_tls_handshake_failures_total", "TLS handshakes that failed, by cause.", &["listener", "cause"]),
            certificate_ends: gauges("tollgate_certificate_not_after_seconds", "When a certificate ends, seconds since the Unix epoch.", &["listener", "certificate", "kind"]),
            certificate_reloads: counters("tollgate_certificate_reloads_total", "Changed certificates taken up, or not, by result.", &["listener", "result"]),
        }
    }
}

fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect(STATIC);
    registry.register(Box::new(metric.clone())).expect(STATIC);
    metric
}

/// Counters with labels.
pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

/// Gauges with labels.
pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn seconds(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    seconds_within(registry, name, help, labels, &BUCKETS)
}

/// Durations with labels, by their upper bounds.
pub(super) fn seconds_within(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    bounds: &[f64],
) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
    register(registry, HistogramVec::new(opts, labels))
}

/// A counter without labels.
pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

/// A counter of fractions without labels.
pub(super) fn float_counter(registry: &Registry, name: &str, help: &str) -> Counter {
    register(registry, Counter::new(name, help))
}

/// A gauge without labels.
pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

/// A gauge that is always 1 and says `value` by its one label.
pub(super) fn info(registry: &Registry, name: &str, help: &str, label: &str, value: &str) {
    let opts = Opts::new(name, help).const_label(label, value);
    register(registry, IntGauge::with_opts(opts)).set(1);
}

/// A count as a gauge holds it.
pub(super) fn clamp(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
