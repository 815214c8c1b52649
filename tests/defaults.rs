//! What holds where nothing is written: the numbers of the documents, asked of the smallest config.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tollgate::base::clock::Clock;
use tollgate::config::listener::{ListenerConf, ProtocolConf, RedirectStatusConf};
use tollgate::config::server::ForwardedConf;
use tollgate::config::tls::{TlsVersionConf, UnknownNamesConf};
use tollgate::config::upstream::{CircuitBreakerConf, UpstreamProtocolConf};
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
        before: None,
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
    assert_eq!(listener.protocol.value, ProtocolConf::Http);
    assert!(listener.tls.is_none() && listener.proxy_protocol.is_none());
    assert!(listener.redirect_to_https.is_none() && listener.probes.is_none());
    assert_eq!(listener.max_connections.value, 20_000);
    assert_eq!(listener.max_connections_per_address.value, 5000);
    assert_eq!(listener.max_requests_per_connection.value, 10_000);
    assert_eq!(listener.write_timeout.value.0, Duration::from_secs(30));
    assert_eq!(listener.min_body_rate.value.0, 240);
    let drain = &loaded.conf.server.drain;
    assert_eq!(drain.notice.value.0, Duration::ZERO);
    assert_eq!(drain.idle.value.0, Duration::from_secs(5));
    assert_eq!(drain.max.value.0, Duration::from_secs(30));
    let server = &loaded.conf.server;
    assert_eq!(server.forwarded.value, ForwardedConf::XForwarded);
    assert!(server.via.is_none(), "made up when it starts");
}

#[test]
fn http2_has_these_bounds() {
    let loaded = minimal();
    let http2 = &loaded.conf.listeners[0].value.http2;
    assert_eq!(http2.max_streams.value, 100);
    assert_eq!(http2.stream_window.value.0, 256 * 1024);
    assert_eq!(http2.connection_window.value.0, 1024 * 1024);
    assert_eq!(http2.max_resets.value, 200);
}

/// The listener that this is the rest of, after its name and address.
fn listener(rest: &str) -> ListenerConf {
    let text = format!(
        "listeners: [{{ name: a, address: \"127.0.0.1:0\", {rest} }}]
upstreams: [{{ name: up, targets: [\"10.0.0.1:80\"] }}]
routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]"
    );
    let loaded = config::parse(&text, "a.yaml", Path::new("conf"), &|_| None);
    let mut loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
    loaded.conf.listeners.remove(0).value
}

#[test]
fn a_default_fits_itself_to_what_is_written() {
    let bounds = |rest: &str| {
        let of = listener(rest);
        let http2 = of.http2.connection_window.value.0;
        (of.max_connections_per_address.value, http2)
    };
    assert_eq!(bounds("max_connections: 100"), (100, 1024 * 1024));
    let most = "protocol: h2c, http2: { stream_window: 2MiB }";
    assert_eq!(bounds(most), (5000, 2 * 1024 * 1024));
}

#[test]
fn tls_proxies_and_redirects_have_these_settings() {
    let pair = "certificates: [{ cert: keys/tls/api-rsa.pem, key: keys/tls/api-rsa.key }]";
    let of = listener(&format!("tls: {{ {pair} }}"));
    let tls = of.tls.expect("TLS");
    assert_eq!(tls.unknown_names.value, UnknownNamesConf::Default);
    assert_eq!(tls.min_version.value, TlsVersionConf::Tls12);
    assert!(tls.http2.value && tls.resumption.value && !tls.strict_host.value);
    assert_eq!(tls.handshake_timeout.value.0, Duration::from_secs(10));
    assert!(tls.client_certificates.is_none(), "nobody is asked for one");
    assert!(tls.certificates[0].names.is_empty(), "those in it");
    let of = listener("proxy_protocol: { networks: [10.0.0.0/8] }");
    let proxies = of.proxy_protocol.expect("the PROXY protocol");
    assert_eq!(proxies.timeout.value.0, Duration::from_secs(5));
    let of = listener("redirect_to_https: {}");
    let redirect = of.redirect_to_https.expect("a redirect");
    assert_eq!(redirect.port.value, 443);
    assert_eq!(redirect.status.value, RedirectStatusConf::S308);
}

#[test]
fn an_exchange_without_end_may_pause_for_five_minutes() {
    let loaded = config::parse(
        "listeners: [{ name: a, address: \"127.0.0.1:0\" }]
upstreams: [{ name: up, targets: [\"10.0.0.1:80\"] }]
routes: [{ name: all, match: { path: / }, auth: none, to: up, streaming: {}, websocket: {} }]",
        "a.yaml",
        Path::new(""),
        &|_| None,
    );
    let conf = loaded.unwrap_or_else(|faults| panic!("{faults}")).conf;
    let route = &conf.routes[0];
    let five = Duration::from_secs(300);
    let streaming = route.streaming.as_ref().map(|s| s.idle_timeout.value.0);
    let websocket = route.websocket.as_ref().map(|w| w.idle_timeout.value.0);
    assert_eq!((streaming, websocket), (Some(five), Some(five)));
    let upstream = &conf.upstreams[0];
    assert_eq!(upstream.protocol.value, UpstreamProtocolConf::Http1);
    assert!(upstream.tls.is_none());
    let plain = &minimal().conf.routes[0].value;
    assert!(plain.streaming.is_none() && plain.websocket.is_none());
}
