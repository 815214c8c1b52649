//! Counting and showing.

use super::*;
use crate::base::clock::Clock;
use crate::observe::access_log::Target;
use std::time::Duration;

fn metrics() -> Metrics {
    Metrics::new("1.2.3", 1_700_000_000)
}

/// Asserts that the text has each of these lines.
fn shows(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.render();
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "no {line} in:\n{text}");
    }
}

#[test]
fn what_never_happened_shows_as_zero() {
    let metrics = metrics();
    for reason in Reason::ALL {
        shows(
            &metrics,
            &[&format!("tollgate_refusals_total{{reason=\"{reason}\"}} 0")],
        );
    }
    metrics.refused(Reason::CircuitOpen);
    shows(
        &metrics,
        &[
            "tollgate_refusals_total{reason=\"circuit_open\"} 1",
            "tollgate_build_info{version=\"1.2.3\"} 1",
            "process_start_time_seconds 1700000000",
            "tollgate_config_last_reload_successful 0",
            "tollgate_access_log_dropped_total 0",
        ],
    );
}

#[test]
fn a_route_counts_by_method_status_and_tier() {
    let metrics = metrics();
    let route = metrics.route("users");
    assert!(Arc::ptr_eq(&route, &metrics.route("users")));
    let ms = Duration::from_millis;
    route.answered("GET", 200, None, ms(7));
    route.answered("GET", 200, Some("gold"), ms(70));
    route.answered("BREW", 299, None, ms(20_000));
    route.limited(Some("gold"));
    metrics.unrouted().answered("GET", 404, None, ms(1));
    shows(
        &metrics,
        &[
            "tollgate_requests_total{method=\"GET\",route=\"users\",status=\"200\"} 2",
            "tollgate_requests_total{method=\"other\",route=\"users\",status=\"2xx\"} 1",
            "tollgate_requests_total{method=\"GET\",route=\"-\",status=\"404\"} 1",
            "tollgate_tier_requests_total{route=\"users\",tier=\"none\"} 2",
            "tollgate_tier_requests_total{route=\"users\",tier=\"gold\"} 1",
            "tollgate_rate_limit_rejections_total{route=\"users\",tier=\"gold\"} 1",
            "tollgate_rate_limit_rejections_total{route=\"users\",tier=\"none\"} 0",
            "http_server_request_duration_seconds_bucket{route=\"users\",le=\"0.005\"} 0",
            "http_server_request_duration_seconds_bucket{route=\"users\",le=\"0.01\"} 1",
            "http_server_request_duration_seconds_bucket{route=\"users\",le=\"+Inf\"} 3",
            "http_server_request_duration_seconds_count{route=\"users\"} 3",
        ],
    );
}

#[test]
fn an_upstream_counts_attempts_and_shows_its_breaker() {
    let metrics = metrics();
    let upstream = metrics.upstream("u1");
    let first = upstream.attempt(false);
    upstream.connect_failed();
    upstream.tls_failed();
    let second = upstream.attempt(true);
    assert_eq!(upstream.in_flight(), 2);
    drop(first);
    upstream.answered(Duration::from_secs(1));
    upstream.circuit(Circuit::Open);
    upstream.targets(3, 2);
    shows(
        &metrics,
        &[
            "tollgate_upstream_attempts_total{upstream=\"u1\"} 2",
            "tollgate_upstream_retries_total{upstream=\"u1\"} 1",
            "tollgate_upstream_connect_failures_total{upstream=\"u1\"} 1",
            "tollgate_upstream_tls_failures_total{upstream=\"u1\"} 1",
            "tollgate_upstream_requests_in_flight{upstream=\"u1\"} 1",
            "tollgate_breaker_state{upstream=\"u1\"} 2",
            "tollgate_breaker_transitions_total{to=\"open\",upstream=\"u1\"} 1",
            "tollgate_breaker_transitions_total{to=\"half_open\",upstream=\"u1\"} 0",
            "tollgate_upstream_targets{upstream=\"u1\"} 3",
            "tollgate_upstream_healthy_targets{upstream=\"u1\"} 2",
            "http_client_request_duration_seconds_bucket{upstream=\"u1\",le=\"1\"} 1",
        ],
    );
    drop(second);
    shows(
        &metrics,
        &["tollgate_upstream_requests_in_flight{upstream=\"u1\"} 0"],
    );
}

#[test]
fn the_other_handles_count() {
    let metrics = metrics();
    let public = metrics.listener("public");
    let connection = public.accepted();
    drop(public.accepted());
    public.refused();
    assert_eq!(public.open(), 1);
    metrics.limiter("standard").update(12, 5);
    metrics.limiter("standard").update(10, 7);
    metrics.token_cache(true);
    metrics.config_loaded(1_700_000_100, "abad1dea");
    metrics.config_loaded(1_700_000_200, "0123abcd");
    shows(
        &metrics,
        &[
            "tollgate_connections{listener=\"public\"} 1",
            "tollgate_connections_accepted_total{listener=\"public\"} 2",
            "tollgate_front_refusals_total{listener=\"public\"} 1",
            "tollgate_limiter_keys{limit=\"standard\"} 10",
            "tollgate_limiter_evictions_total{limit=\"standard\"} 7",
            "tollgate_token_cache_lookups_total{result=\"hit\"} 1",
            "tollgate_token_cache_lookups_total{result=\"miss\"} 0",
            "tollgate_config_last_reload_successful 1",
            "tollgate_config_load_timestamp_seconds 1700000200",
            "tollgate_config_info{hash=\"0123abcd\"} 1",
        ],
    );
    assert!(!metrics.render().contains("abad1dea"), "one is in use");
    metrics.config_refused();
    shows(
        &metrics,
        &[
            "tollgate_config_last_reload_successful 0",
            "tollgate_config_load_timestamp_seconds 1700000200",
            "tollgate_config_loads_total{result=\"failed\"} 1",
        ],
    );
    drop(connection);
}

#[test]
fn lost_access_lines_show() {
    let metrics = metrics();
    let target = Target::File("/dev/full".into());
    let (log, writer) = AccessLog::start(target, 64, Clock::system()).expect("start");
    metrics.watch_access_log(&log);
    assert!(log.submit(b"x\n".to_vec()));
    writer.stop();
    assert!(!log.submit(b"y\n".to_vec()));
    for _ in 0..2 {
        shows(
            &metrics,
            &[
                "tollgate_access_log_failed_total 1",
                "tollgate_access_log_dropped_total 1",
            ],
        );
    }
}

#[test]
fn what_a_reload_took_away_is_no_longer_shown() {
    let metrics = metrics();
    let route = metrics.route("gone-r");
    route.answered("GET", 200, Some("gold"), Duration::ZERO);
    let upstream = metrics.upstream("gone-u");
    upstream.circuit(Circuit::Open);
    let guard = upstream.attempt(false);
    metrics.listener("gone-l").refused();
    metrics.issuer("gone-i").keys(1, 1);
    metrics.limiter("gone-x").update(1, 1);
    metrics
        .route("kept")
        .answered("GET", 200, None, Duration::ZERO);
    metrics.retain_routes(|name| name == "kept");
    metrics.retain_upstreams(|_| false);
    metrics.retain_listeners(|_| false);
    metrics.retain_issuers(|_| false);
    metrics.retain_limiters(|_| false);
    drop(guard);
    let text = metrics.render();
    assert!(!text.contains("gone"), "{text}");
    assert!(text.contains("route=\"kept\""), "{text}");
    assert!(!Arc::ptr_eq(&route, &metrics.route("gone-r")));
}
