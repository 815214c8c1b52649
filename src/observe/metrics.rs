//! Every metric of the gateway: the only place that names one.
//!
//! Names and labels are fixed in `define`. Whoever counts holds a handle, made when the
//! configuration is compiled; counting is then an atomic increment, with no lookup by label.
//! Label values come from the configuration or from closed lists, never from a request, but for
//! tiers, whose number is bounded.

mod api_keys;
mod define;
mod handles;
mod issuer;
mod process;
mod redis;
mod route;
mod tls;

pub use api_keys::{KeyListMetrics, KeyLookup};
pub use handles::{
    Circuit, InFlight, LimiterMetrics, ListenerMetrics, TurnedAway, UpstreamMetrics,
};
pub use issuer::{FetchResult, IssuerMetrics};
pub use redis::{RedisCall, RedisMetrics};
pub use route::RouteMetrics;
pub use tls::{CertificateSeries, HandshakeFault, TlsMetrics};

use crate::observe::access_log::AccessLog;
use crate::observe::reason::Reason;
use define::Families;
use process::Process;
use prometheus::{IntCounter, IntGauge, Registry, TextEncoder};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The content type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The route label of requests that match no route.
const NO_ROUTE: &str = "-";

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    routes: Handles<RouteMetrics>,
    upstreams: Handles<UpstreamMetrics>,
    listeners: Handles<ListenerMetrics>,
    tls: Handles<TlsMetrics>,
    issuers: Handles<IssuerMetrics>,
    limiters: Handles<LimiterMetrics>,
    redis: redis::RedisFamilies,
    keys: api_keys::KeyFamilies,
    unrouted: Arc<RouteMetrics>,
    refusals: [IntCounter; Reason::COUNT],
    /// Misses and hits.
    token_cache: [IntCounter; 2],
    config: Config,
    access_log: AccessLogMetrics,
    process: Process,
}

#[derive(Debug)]
struct Config {
    ok: IntGauge,
    loaded: IntGauge,
    /// Failed and successful loads.
    loads: [IntCounter; 2],
}

#[derive(Debug)]
struct AccessLogMetrics {
    log: OnceLock<AccessLog>,
    dropped: (IntCounter, AtomicU64),
    failed: (IntCounter, AtomicU64),
}

impl Metrics {
    /// Makes every metric. `version` is shown in `tollgate_build_info`; `start_unix_s` is when the
    /// process started, in seconds since the Unix epoch.
    pub fn new(version: &str, start_unix_s: u64) -> Self {
        let registry = Registry::new();
        let families = Arc::new(Families::new(&registry));
        let help = "The version running.";
        define::info(&registry, "tollgate_build_info", help, "version", version);
        let refusal = |at: usize| {
            let code = Reason::ALL[at].code();
            families.refusals.with_label_values(&[code])
        };
        let lookups = |result| families.token_cache.with_label_values(&[result]);
        Self {
            unrouted: Arc::new(RouteMetrics::new(NO_ROUTE, &families)),
            refusals: std::array::from_fn(refusal),
            token_cache: ["miss", "hit"].map(lookups),
            config: Config::new(&registry, &families),
            access_log: AccessLogMetrics::new(&registry),
            process: Process::new(&registry, start_unix_s),
            routes: Handles::default(),
            upstreams: Handles::default(),
            listeners: Handles::default(),
            tls: Handles::default(),
            issuers: Handles::default(),
            limiters: Handles::default(),
            redis: redis::RedisFamilies::new(&registry),
            keys: api_keys::KeyFamilies::new(&registry),
            registry,
            families,
        }
    }

    /// The handle of a route; the same for the same name.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        self.routes
            .get(name, || RouteMetrics::new(name, &self.families))
    }

    /// The handle of requests that match no route, shown as route `-`.
    pub fn unrouted(&self) -> &Arc<RouteMetrics> {
        &self.unrouted
    }

    /// The handle of an upstream; the same for the same name.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        self.upstreams
            .get(name, || UpstreamMetrics::new(name, &self.families))
    }

    /// The handle of a listener; the same for the same name.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        self.listeners
            .get(name, || ListenerMetrics::new(name, &self.families))
    }

    /// The handle of a listener's TLS; the same for the same listener.
    pub fn tls(&self, listener: &str) -> Arc<TlsMetrics> {
        self.tls
            .get(listener, || TlsMetrics::new(listener, &self.families))
    }

    /// The handle of a token issuer, by its configured name; the same for the same name.
    pub fn issuer(&self, name: &str) -> Arc<IssuerMetrics> {
        self.issuers
            .get(name, || IssuerMetrics::new(name, &self.families))
    }

    /// The handle of a limit; the same for the same name.
    pub fn limiter(&self, name: &str) -> Arc<LimiterMetrics> {
        self.limiters
            .get(name, || LimiterMetrics::new(name, &self.families))
    }

    /// Stops showing routes whose name `keep` does not want, after a reload took them away.
    /// Handles still held go on counting unseen. Likewise for the other kinds.
    pub fn retain_routes(&self, keep: impl Fn(&str) -> bool) {
        self.routes.retain(keep);
    }

    /// As [`Metrics::retain_routes`]; a removed upstream's open breaker then alarms nobody.
    pub fn retain_upstreams(&self, keep: impl Fn(&str) -> bool) {
        self.upstreams.retain(keep);
    }

    /// As [`Metrics::retain_routes`]; their TLS goes with them.
    pub fn retain_listeners(&self, keep: impl Fn(&str) -> bool) {
        self.tls.retain(&keep);
        self.listeners.retain(keep);
    }

    /// As [`Metrics::retain_routes`].
    pub fn retain_issuers(&self, keep: impl Fn(&str) -> bool) {
        self.issuers.retain(keep);
    }

    /// As [`Metrics::retain_routes`].
    pub fn retain_limiters(&self, keep: impl Fn(&str) -> bool) {
        self.limiters.retain(keep);
    }

    /// Counts a request that got no upstream's answer.
    pub fn refused(&self, reason: Reason) {
        self.refusals[reason.index()].inc();
    }

    /// Counts a lookup of a token among those already verified.
    pub fn token_cache(&self, hit: bool) {
        self.token_cache[usize::from(hit)].inc();
    }

    /// Notes that a configuration was loaded and is in use, at `unix_s` seconds since the epoch; `hash`
    /// tells its file from others.
    pub fn config_loaded(&self, unix_s: u64, hash: &str) {
        let info = &self.families.config_info;
        info.reset();
        info.with_label_values(&[hash]).set(1);
        self.config.ok.set(1);
        self.config.loaded.set(define::clamp(unix_s));
        self.config.loads[1].inc();
    }

    /// Notes that a configuration was refused and the one before stays in use.
    pub fn config_refused(&self) {
        self.config.ok.set(0);
        self.config.loads[0].inc();
    }

    /// Shows an access log's lost lines from now on. Only the first call counts.
    pub fn watch_access_log(&self, log: &AccessLog) {
        self.access_log.log.get_or_init(|| log.clone());
    }

    /// Everything, in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.process.update();
        self.access_log.update();
        let text = TextEncoder::new().encode_to_string(&self.registry.gather());
        text.unwrap_or_else(|why| {
            log::error!("metrics cannot be shown: {why}");
            String::new()
        })
    }
}

impl Config {
    fn new(registry: &Registry, families: &Families) -> Self {
        let gauge = |name, help| define::gauge(registry, name, help);
        Self {
            ok: gauge(
                "tollgate_config_last_reload_successful",
                "1 if the last load of the configuration succeeded.",
            ),
            loaded: gauge(
                "tollgate_config_load_timestamp_seconds",
                "When the configuration in use was loaded, seconds since the Unix epoch.",
            ),
            loads: ["failed", "ok"].map(|result| families.reloads.with_label_values(&[result])),
        }
    }
}

impl AccessLogMetrics {
    fn new(registry: &Registry) -> Self {
        let counter = |name, help| (define::counter(registry, name, help), AtomicU64::new(0));
        Self {
            log: OnceLock::new(),
            dropped: counter(
                "tollgate_access_log_dropped_total",
                "Access log lines dropped because the queue was full.",
            ),
            failed: counter(
                "tollgate_access_log_failed_total",
                "Access log lines lost because writing failed.",
            ),
        }
    }

    fn update(&self) {
        let Some(log) = self.log.get() else { return };
        for ((counter, seen), now) in [(&self.dropped, log.dropped()), (&self.failed, log.failed())]
        {
            counter.inc_by(handles::risen(seen, now));
        }
    }
}

/// What a handle shows under its name and can stop showing.
trait Series {
    fn forget(&self);
}

/// The handles of one kind by name. Locked only when a configuration is compiled.
#[derive(Debug)]
struct Handles<T>(Mutex<BTreeMap<Box<str>, Arc<T>>>);

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Series> Handles<T> {
    fn get(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get(name) {
            return Arc::clone(handle);
        }
        let handle = Arc::new(make());
        handles.insert(name.into(), Arc::clone(&handle));
        handle
    }

    fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|name, handle| {
            let keep = keep(name);
            if !keep {
                handle.forget();
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
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
}
