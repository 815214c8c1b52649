//! The handle of one Redis server: whether it is there, what came of the calls, how long they took.

use super::{Handles, Metrics, Series, define};
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};
use std::sync::Arc;
use std::time::Duration;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisCall {
    /// It was answered.
    Ok = 0,
    /// No answer came in time.
    Late = 1,
    /// The server was known to be away, or went.
    Down = 2,
    /// It was refused.
    Refused = 3,
}

impl RedisCall {
    const ALL: [&str; 4] = ["ok", "late", "down", "refused"];
}

const RESULTS: [&str; 2] = ["failed", "ok"];
/// Upper bounds of the calls' durations, in seconds: a budget is tens of milliseconds.
const BUCKETS: [f64; 10] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1,
];

/// All servers.
#[derive(Debug)]
pub(super) struct RedisFamilies {
    families: Arc<Families>,
    servers: Handles<RedisMetrics>,
}

#[derive(Debug)]
struct Families {
    up: IntGaugeVec,
    listening: IntGaugeVec,
    connects: IntCounterVec,
    calls: IntCounterVec,
    duration: HistogramVec,
}

impl RedisFamilies {
    #[rustfmt::skip] // One family a line reads as the table it is.
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[&str]| define::counters(registry, name, help, labels);
        let gauges = |name, help| define::gauges(registry, name, help, &["server"]);
        let families = Families {
            up: gauges("tollgate_redis_up", "1 while Redis answers."),
            listening: gauges("tollgate_redis_listening", "1 while changes in Redis are heard of."),
            connects: counters("tollgate_redis_connects_total", "Connections to Redis made, or not, by result.", &["server", "result"]),
            calls: counters("tollgate_redis_calls_total", "Calls of Redis for requests, by result.", &["server", "result"]),
            duration: define::seconds_within(registry, "tollgate_redis_call_duration_seconds", "From a call of Redis for a request to its answer.", &["server"], &BUCKETS),
        };
        Self { families: Arc::new(families), servers: Handles::default() }
    }
}

impl Metrics {
    /// The handle of a Redis server, by its address; the same for the same address.
    pub fn redis(&self, address: &str) -> Arc<RedisMetrics> {
        let RedisFamilies { families, servers } = &self.redis;
        servers.get(address, || RedisMetrics::new(address, families))
    }

    /// As [`Metrics::retain_routes`].
    pub fn retain_redis(&self, keep: impl Fn(&str) -> bool) {
        self.redis.servers.retain(keep);
    }
}

/// The handle of one server's metrics.
#[derive(Debug)]
pub struct RedisMetrics {
    server: Box<str>,
    families: Arc<Families>,
    up: IntGauge,
    listening: IntGauge,
    /// Failed ones and those that were made.
    connects: [IntCounter; 2],
    calls: [IntCounter; 4],
    duration: Histogram,
}

impl RedisMetrics {
    fn new(server: &str, families: &Arc<Families>) -> Self {
        let connects = |result| families.connects.with_label_values(&[server, result]);
        let calls = |result| families.calls.with_label_values(&[server, result]);
        Self {
            server: server.into(),
            families: Arc::clone(families),
            up: families.up.with_label_values(&[server]),
            listening: families.listening.with_label_values(&[server]),
            connects: RESULTS.map(connects),
            calls: RedisCall::ALL.map(calls),
            duration: families.duration.with_label_values(&[server]),
        }
    }

    /// Notes whether it answers.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// Notes whether its changes are heard of.
    pub fn listening(&self, listening: bool) {
        self.listening.set(i64::from(listening));
    }

    /// Counts an attempt to connect.
    pub fn connected(&self, ok: bool) {
        self.connects[usize::from(ok)].inc();
    }

    /// Counts a call.
    pub fn called(&self, result: RedisCall) {
        self.calls[result as usize].inc();
    }

    /// Counts how long a call took that was made.
    pub fn took(&self, time: Duration) {
        self.duration.observe(time.as_secs_f64());
    }
}

impl Series for RedisMetrics {
    fn forget(&self) {
        let (families, server) = (&self.families, &*self.server);
        let _ = families.up.remove_label_values(&[server]);
        let _ = families.listening.remove_label_values(&[server]);
        let _ = families.duration.remove_label_values(&[server]);
        for result in RESULTS {
            let _ = families.connects.remove_label_values(&[server, result]);
        }
        for result in RedisCall::ALL {
            let _ = families.calls.remove_label_values(&[server, result]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_shown_and_forgotten() {
        let metrics = Metrics::new("0", 0);
        let redis = metrics.redis("10.0.0.1:6379");
        redis.up(true);
        redis.connected(false);
        redis.called(RedisCall::Late);
        redis.took(Duration::from_millis(3));
        let text = metrics.render();
        for line in [
            "tollgate_redis_up{server=\"10.0.0.1:6379\"} 1",
            "tollgate_redis_listening{server=\"10.0.0.1:6379\"} 0",
            "tollgate_redis_connects_total{result=\"failed\",server=\"10.0.0.1:6379\"} 1",
            "tollgate_redis_calls_total{result=\"late\",server=\"10.0.0.1:6379\"} 1",
            "tollgate_redis_calls_total{result=\"ok\",server=\"10.0.0.1:6379\"} 0",
            "tollgate_redis_call_duration_seconds_bucket{server=\"10.0.0.1:6379\",le=\"0.0025\"} 0",
            "tollgate_redis_call_duration_seconds_bucket{server=\"10.0.0.1:6379\",le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
        }
        metrics.retain_redis(|_| false);
        assert!(!metrics.render().contains("10.0.0.1"));
    }
}
