//! An issuer's published keys, kept fresh in the background.
//!
//! One task per issuer ([`RemoteKeys::run`]) does all the fetching. A request only ever asks it
//! ([`RemoteKeys::refetch`]) and waits a bounded time, so that a client that goes away cannot
//! break off a fetch that others wait for, and tokens with made-up key ids cost the issuer at
//! most six fetches a minute whatever their number.

#[cfg(test)]
mod tests;

use super::alg::Algs;
use super::desk::{Ask, Desk};
use super::keyset::{KeySet, KeySetFault, MAX_SET_BYTES, Origin};
use crate::base::clock::Clock;
use crate::observe::metrics::IssuerMetrics;
use arc_swap::{ArcSwapOption, Guard};
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::{Client, Url, redirect};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// How long one fetch may take, and how long a request waits for one.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest refresh interval, whatever the issuer's `Cache-Control` says.
pub const MIN_REFRESH: Duration = Duration::from_secs(60);

/// How an issuer's keys are fetched.
#[derive(Clone, Debug)]
pub struct RemoteRules {
    /// The provider's name in our configuration, for messages.
    pub provider: String,
    /// Where the key set is; `https`, or `http` for a loopback host or with `insecure_http`.
    pub url: String,
    /// How often it is fetched, at least [`MIN_REFRESH`].
    pub refresh: Duration,
    /// Whether `http` may be used for any host.
    pub insecure_http: bool,
    /// The algorithms that keys are wanted for.
    pub algorithms: Algs,
}

/// How fetching went so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchStatus {
    /// Seconds since the key set was last confirmed; none before the first time.
    pub age_s: Option<u64>,
    /// Fetches that gave a usable key set.
    pub fetches_ok: u64,
    /// Fetches that did not.
    pub fetches_failed: u64,
    /// Usable keys held now.
    pub keys: usize,
}

/// The published keys of one issuer.
pub struct RemoteKeys {
    provider: String,
    url: Url,
    refresh: Duration,
    algorithms: Algs,
    client: Client,
    clock: Clock,
    current: ArcSwapOption<KeySet>,
    confirmed_ms: AtomicU64,
    fetches_ok: AtomicU64,
    fetches_failed: AtomicU64,
    desk: Desk,
    /// Wakes the task for a fetch that was asked for.
    asked: Notify,
    /// Counts the fetches that are over.
    rounds: watch::Sender<u64>,
    /// Where fetches are counted for operators.
    metrics: OnceLock<Arc<IssuerMetrics>>,
}

#[derive(Debug, Error)]
enum FetchFault {
    #[error("{0}")]
    Transport(String),
    #[error("answered {0}, want 200 (redirects are not followed)")]
    Status(u16),
    #[error("answered with more than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("{0}")]
    Set(#[from] KeySetFault),
}

impl RemoteKeys {
    /// Prepares fetching; nothing is fetched before [`RemoteKeys::run`]. The error says what is
    /// wrong with the rules.
    pub fn new(rules: RemoteRules, clock: Clock) -> Result<RemoteKeys, String> {
        let RemoteRules {
            provider,
            url,
            refresh,
            insecure_http,
            algorithms,
        } = rules;
        let url = check_url(&url, insecure_http)?;
        if refresh < MIN_REFRESH {
            return Err(format!(
                "refresh: found {refresh:?}, want at least {MIN_REFRESH:?}"
            ));
        }
        let mut client = Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|fault| format!("url: {}", chain(&fault)))?;
        Ok(RemoteKeys {
            provider,
            url,
            refresh,
            algorithms,
            client,
            clock,
            current: ArcSwapOption::empty(),
            confirmed_ms: AtomicU64::new(0),
            fetches_ok: AtomicU64::new(0),
            fetches_failed: AtomicU64::new(0),
            desk: Desk::new(),
            asked: Notify::new(),
            rounds: watch::Sender::new(0),
            metrics: OnceLock::new(),
        })
    }

    /// Counts fetches in these metrics from now on. Only the first call counts.
    pub fn count_in(&self, metrics: Arc<IssuerMetrics>) {
        let _ = self.metrics.set(metrics);
    }

    /// The newest usable key set; none before the first fetch that worked.
    pub fn current(&self) -> Guard<Option<Arc<KeySet>>> {
        self.current.load()
    }

    /// How fetching went so far.
    pub fn status(&self) -> FetchStatus {
        let current = self.current();
        let age_ms = self
            .now_ms()
            .saturating_sub(self.confirmed_ms.load(Relaxed));
        FetchStatus {
            age_s: current.as_ref().map(|_| age_ms / 1000),
            fetches_ok: self.fetches_ok.load(Relaxed),
            fetches_failed: self.fetches_failed.load(Relaxed),
            keys: current.as_ref().map_or(0, |keys| keys.count()),
        }
    }

    /// Fetches at once, then by the clock and when asked, until `shutdown` holds true or its
    /// sender is gone. To be run by one task, without which [`RemoteKeys::refetch`] waits in vain.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let _open = self.desk.open();
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = self.keep_fresh() => {}
        }
    }

    async fn keep_fresh(&self) {
        let mut failures = 0;
        loop {
            self.desk.round_begins();
            let outcome = self.fetch().await;
            failures = if outcome.is_ok() { 0 } else { failures + 1 };
            let wait = self.settle(outcome, failures);
            // Both at once: whoever finds that none is under way waits for the next one's end.
            self.rounds.send_modify(|round| {
                *round += 1;
                self.desk.round_over();
            });
            tokio::select! {
                () = sleep(wait) => {}
                () = self.asked.notified() => {}
            }
        }
    }

    /// Waits until the first fetch is over, at most [`FETCH_TIMEOUT`]; asks for none.
    pub async fn first(&self) {
        let mut rounds = self.rounds.subscribe();
        let _ = timeout(FETCH_TIMEOUT, rounds.wait_for(|round| *round > 0)).await;
    }

    /// Asks for a fetch because a token names a key we do not have, or because there are no keys
    /// yet, and waits until it is over, at most [`FETCH_TIMEOUT`]. Joins a fetch that is under way.
    /// Returns at once when one was asked for less than [`super::desk::ASK_INTERVAL`] ago, when a
    /// fresh set was found not to hold this `kid`, or when too many wait. The caller then looks
    /// again and does not ask twice.
    pub async fn refetch(&self, kid: Option<&str>) {
        let now_ms = self.now_ms();
        // It may have come since the caller looked.
        let settled = |kid| self.holds(kid) || self.desk.known_unknown(kid, now_ms);
        if kid.is_some_and(settled) {
            return;
        }
        let Some(_seat) = self.desk.seat() else {
            return;
        };
        let mut rounds = self.rounds.subscribe();
        let asked = match self.desk.ask(now_ms) {
            Ask::Throttled => return,
            Ask::Joined => false,
            Ask::Started => {
                // Only a round that begins after this one's asking counts.
                rounds.borrow_and_update();
                true
            }
        };
        let fetches = self.fetches_ok.load(Relaxed);
        if asked {
            self.asked.notify_one();
        }
        let over = timeout(FETCH_TIMEOUT, rounds.changed()).await.is_ok();
        let fresh = over && self.fetches_ok.load(Relaxed) > fetches;
        if let Some(kid) = kid.filter(|kid| asked && fresh && !self.holds(kid)) {
            self.desk.remember_unknown(kid, now_ms);
        }
    }

    fn holds(&self, kid: &str) -> bool {
        let current = self.current();
        let mut keys = current.iter().flat_map(|set| set.keys());
        keys.any(|key| key.kid() == Some(kid))
    }

    async fn fetch(&self) -> Result<(KeySet, Option<Duration>), FetchFault> {
        let asked = self.client.get(self.url.clone());
        let asked = asked.header(ACCEPT, "application/jwk-set+json, application/json;q=0.9");
        let mut answer = asked.send().await.map_err(transport)?;
        if answer.status().as_u16() != 200 {
            return Err(FetchFault::Status(answer.status().as_u16()));
        }
        let max_age = max_age(answer.headers());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > MAX_SET_BYTES {
                return Err(FetchFault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let set = KeySet::from_jwks(&body, Origin::Fetched, self.algorithms)?;
        Ok((set, max_age))
    }

    /// Takes in what a fetch gave; says how long to wait until the next.
    fn settle(
        &self,
        outcome: Result<(KeySet, Option<Duration>), FetchFault>,
        failures: u32,
    ) -> Duration {
        match outcome {
            Ok((set, max_age)) => {
                self.adopt(set);
                self.fetches_ok.fetch_add(1, Relaxed);
                if let Some(metrics) = self.metrics.get() {
                    metrics.fetched(self.status().keys, self.clock.now().unix_s());
                }
                next_refresh(self.refresh, max_age)
            }
            Err(fault) => {
                self.fetches_failed.fetch_add(1, Relaxed);
                if let Some(metrics) = self.metrics.get() {
                    metrics.fetch_failed();
                }
                let wait = back_off(failures).min(self.refresh);
                let kept = match self.status() {
                    FetchStatus {
                        age_s: Some(age),
                        keys,
                        ..
                    } => {
                        format!("the {keys} keys of {age} s ago stay in use")
                    }
                    _ => "there are no keys yet, its tokens are refused".to_owned(),
                };
                let Self { provider, url, .. } = self;
                log::warn!(
                    "identity {provider}: fetching keys from {url} failed: {fault}; {kept}; \
                     next try in {} s",
                    wait.as_secs()
                );
                wait
            }
        }
    }

    /// Puts `set` in use, unless it holds the same keys as the one in use: cached verdicts then
    /// stay good.
    fn adopt(&self, set: KeySet) {
        self.confirmed_ms.store(self.now_ms(), Relaxed);
        if self
            .current()
            .as_ref()
            .is_some_and(|old| old.same_keys(&set))
        {
            return;
        }
        let kids: Vec<_> = set
            .keys()
            .iter()
            .map(|key| key.kid().unwrap_or("-"))
            .collect();
        let provider = &self.provider;
        log::info!(
            "identity {provider}: {} keys in use now: {kids:?}",
            set.count()
        );
        for warning in set.warnings() {
            log::warn!("identity {provider}: {warning}");
        }
        self.current.store(Some(Arc::new(set)));
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().mono_ns / 1_000_000
    }
}

fn check_url(text: &str, insecure_http: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|fault| format!("url: found {text:?}: {fault}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url: want no user name or password in it".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if insecure_http || is_loopback(&url) => Ok(url),
        "http" => Err(format!(
            "url: found {text:?}, want https (or insecure_http: true): whoever is on the way \
             could publish keys of his own"
        )),
        _ => Err(format!("url: found {text:?}, want https")),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The interval until the next refresh: the configured one, or less if the issuer says so.
fn next_refresh(refresh: Duration, max_age: Option<Duration>) -> Duration {
    max_age.map_or(refresh, |age| age.max(MIN_REFRESH).min(refresh))
}

/// How long to wait after so many failures in a row: 1 s doubled each time, at most 60 s.
fn back_off(failures: u32) -> Duration {
    let doubled = 1_u64 << failures.saturating_sub(1).min(6);
    Duration::from_secs(doubled.min(60))
}

/// `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|field| field.to_str().ok());
    let mut ages = fields
        .flat_map(|field| field.split(','))
        .filter_map(|directive| {
            let (name, value) = directive.trim().split_once('=')?;
            let age = name
                .eq_ignore_ascii_case("max-age")
                .then(|| value.trim_matches('"').parse());
            age?.ok().map(Duration::from_secs)
        });
    ages.next()
}

fn transport(fault: reqwest::Error) -> FetchFault {
    FetchFault::Transport(chain(&fault.without_url()))
}

/// An error and what caused it, in one line.
fn chain(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
