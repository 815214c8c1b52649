//! Every metric of the gateway: the only place that names one.
//!
//! Names and labels are fixed in `define`. Whoever counts holds a handle, made when the
//! configuration is compiled; counting is then an atomic increment, with no lookup by label.
//! Label values come from the configuration or from closed lists, never from a request, but for
//! tiers, whose number is bounded.

mod api_keys;
mod define;
mod handles;
mod introspection;
mod issuer;
mod process;
mod redis;
mod revocation;
mod route;
#[cfg(test)]
mod tests;
mod tls;

pub use api_keys::{KeyListMetrics, KeyLookup};
pub use handles::{
    Circuit, InFlight, LimiterMetrics, ListenerMetrics, TurnedAway, UpstreamMetrics,
};
pub use introspection::{Asked, IntrospectionMetrics, Shared};
pub use issuer::{FetchResult, IssuerMetrics};
pub use redis::{RedisCall, RedisMetrics};
pub use revocation::RevocationMetrics;
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
    introspections: Handles<IntrospectionMetrics>,
    limiters: Handles<LimiterMetrics>,
    redis: redis::RedisFamilies,
    revocations: revocation::RevocationFamilies,
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
            introspections: Handles::default(),
            limiters: Handles::default(),
            redis: redis::RedisFamilies::new(&registry),
            revocations: revocation::RevocationFamilies::new(&registry),
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
