//! What holds where nothing is written: the numbers of the documents, asked of the smallest config.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tollgate::base::clock::Clock;
use tollgate::config::upstream::CircuitBreakerConf;
use tollgate::config::{self, Loaded};
use tollgate::observe::metrics::Metrics;
use tollgate::snapshot::Snapshot;
use tollgate::snapshot::compile::{Tools, compile};
use tollgate::upstream::pool::{Balance, Timeouts};

fn minimal() -> Loaded {
    config::load(Path::new("conf/minimal.yaml"), &|_| None).expect("loads")
}

fn compiled() -> Snapshot {
    let metrics = Arc::new(Metrics::new("0", 0));
    let clock = Clock::system();
    let tools = Tools {
        clock: &clock,
        metrics: &metrics,
    };
    compile(&minimal().conf, &tools).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn an_upstream_has_these_limits_of_time() {
    let snapshot = compiled();
    let spec = &snapshot.pools[0].spec;
    let want = Timeouts {
        connect: Duration::from_secs(2),
        read: None,
        total: Duration::from_secs(10),
        idle: Duration::from_secs(50),
    };
    assert_eq!(spec.timeouts, want);
    assert_eq!(spec.balance, Balance::RoundRobin);
    assert_eq!(spec.retries, 1);
    assert_eq!(spec.dns_refresh, Duration::from_secs(30));
    assert!(spec.probe.is_none(), "nobody is asked unasked");
}

#[test]
fn a_breaker_is_on_with_these_numbers() {
    assert!(compiled().pools[0].breaker.is_some());
    let loaded = minimal();
    let CircuitBreakerConf::On(rule) = &loaded.conf.upstreams[0].value.circuit_breaker else {
        panic!("off");
    };
    let share = rule.failure_ratio.value.share();
    assert!((share - 0.5).abs() < f64::EPSILON, "{share}");
    assert_eq!(rule.min_requests.value, 5);
    assert_eq!(rule.window.value.0, Duration::from_secs(10));
    assert_eq!(rule.consecutive_failures.value, 20);
    assert_eq!(rule.open_for.value.0, Duration::from_secs(30));
    assert_eq!(rule.probes.value, 2);
}

#[test]
fn a_route_cuts_its_prefix_and_bounds_its_body() {
    let snapshot = compiled();
    let route = &snapshot.routes[0];
    assert!(route.strip);
    assert_eq!(route.max_body, 10 * 1024 * 1024);
    assert_eq!(route.timeout_ms, None, "the upstream's total holds");
}

#[test]
fn a_listener_and_the_drain_have_these_bounds() {
    let loaded = minimal();
    let listener = &loaded.conf.listeners[0].value;
    assert_eq!(listener.header_timeout.value.0, Duration::from_secs(10));
    assert_eq!(listener.idle_timeout.value.0, Duration::from_secs(60));
    assert_eq!(listener.max_header_bytes.value.0, 16 * 1024);
    assert_eq!(listener.max_headers.value, 100);
    assert_eq!(listener.max_uri_bytes.value.0, 8 * 1024);
    let drain = &loaded.conf.server.drain;
    assert_eq!(drain.delay.value.0, Duration::ZERO);
    assert_eq!(drain.timeout.value.0, Duration::from_secs(30));
}
