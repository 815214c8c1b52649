//! An issuer's published keys, kept fresh in the background.
//!
//! One task per issuer ([`RemoteKeys::run`]) does all the fetching, by the process's clock. A request
//! only ever asks it ([`RemoteKeys::refetch`]) and waits a bounded time, so that a client that goes
//! away cannot break off a fetch that others wait for, and tokens with made-up key ids cost the
//! issuer no more than [`super::budget`] allows, whatever their number.

mod http;
#[cfg(test)]
mod tests;

use super::alg::Algs;
use super::desk::{Ask, Desk};
use super::discovery::{self, Discovery};
use super::keyset::{KeySet, Origin};
use crate::base::clock::Clock;
use crate::observe::metrics::{FetchResult, IssuerMetrics};
use arc_swap::{ArcSwapOption, Guard};
use http::{FetchFault, Fetcher};
use reqwest::Url;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

pub use http::FETCH_TIMEOUT;
pub(super) use http::chain;

/// The shortest lifetime of keys, whatever the issuer's `Cache-Control` says.
pub const MIN_REFRESH: Duration = Duration::from_secs(60);
/// How often the task looks at the clock, which may have been moved.
const LOOK: Duration = Duration::from_millis(250);

/// How an issuer's keys are fetched.
#[derive(Clone, Debug)]
pub struct RemoteRules {
    /// The provider's name in our configuration, for messages.
    pub provider: String,
    /// Where the key set is.
    pub place: Place,
    /// How long keys are good for, at least [`MIN_REFRESH`]; they are fetched again before.
    pub refresh: Duration,
    /// How long the last good keys stay in use while no newer ones can be had.
    pub max_stale: Duration,
    /// Whether `http` may be used for any host.
    pub insecure_http: bool,
    /// The algorithms that keys are wanted for.
    pub algorithms: Algs,
}

/// Where a key set is.
#[derive(Clone, Debug)]
pub enum Place {
    /// At this address; `https`, or `http` for a loopback host or with `insecure_http`.
    Url(String),
    /// Where the issuer of this name says.
    Discovered(Discovery, String),
}

/// How fetching went so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchStatus {
    /// Seconds since the key set was last confirmed; none before the first time.
    pub age_s: Option<u64>,
    /// Fetches that gave a usable key set.
    pub fetches_ok: u64,
    /// Fetches that did not.
    pub fetches_failed: u64,
    /// Usable keys held now.
    pub keys: usize,
    /// The last fetch that did not; none if all did.
    pub last_fault: Option<Arc<LastFault>>,
}

/// A fetch that gave no usable key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastFault {
    /// When, in Unix seconds.
    pub unix_s: u64,
    /// Which way it went.
    pub result: FetchResult,
    /// What was wrong, for the operator.
    pub text: String,
}

/// The published keys of one issuer.
pub struct RemoteKeys {
    provider: String,
    place: Place,
    refresh: Duration,
    max_stale: Duration,
    insecure_http: bool,
    algorithms: Algs,
    fetcher: Fetcher,
    /// The address of the document that discovery begins with, or of the keys.
    begin: Url,
    /// Where discovery has led.
    found: ArcSwapOption<Url>,
    /// Whether discovery is to be made anew before keys are fetched.
    lost: AtomicBool,
    clock: Clock,
    current: ArcSwapOption<KeySet>,
    started_ms: u64,
    /// When the keys were last confirmed, in milliseconds plus one; 0 for never.
    confirmed_ms: AtomicU64,
    fetches_ok: AtomicU64,
    fetches_failed: AtomicU64,
    last_fault: ArcSwapOption<LastFault>,
    desk: Desk,
    /// Wakes the task for a fetch that was asked for.
    asked: Notify,
    /// Counts the fetches that are over.
    rounds: watch::Sender<u64>,
    /// Where fetches are counted for operators.
    metrics: OnceLock<Arc<IssuerMetrics>>,
}

/// Why a fetch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A request asked for it.
    Asked,
    /// It was due.
    Clock,
}

impl RemoteKeys {
    /// Prepares fetching; nothing is fetched before [`RemoteKeys::run`]. The error says what is
    /// wrong with the rules.
    pub fn new(rules: RemoteRules, clock: Clock) -> Result<RemoteKeys, String> {
        let RemoteRules {
            provider,
            place,
            refresh,
            max_stale,
            insecure_http,
            algorithms,
        } = rules;
        let begin = match &place {
            Place::Url(url) => discovery::address(url, insecure_http),
            Place::Discovered(how, issuer) => how.address(issuer, insecure_http),
        };
        let begin = begin.map_err(|why| format!("its address: {why}"))?;
        if refresh < MIN_REFRESH {
            return Err(format!(
                "refresh: found {refresh:?}, want at least {MIN_REFRESH:?}"
            ));
        }
        if max_stale < refresh {
            return Err(format!(
                "max_stale: found {max_stale:?}, want at least {refresh:?}"
            ));
        }
        let started_ms = clock.now().mono_ns / 1_000_000;
        Ok(RemoteKeys {
            provider,
            place,
            refresh,
            max_stale,
            insecure_http,
            algorithms,
            fetcher: Fetcher::new(discovery::is_loopback(&begin))?,
            begin,
            found: ArcSwapOption::empty(),
            lost: AtomicBool::new(true),
            clock,
            current: ArcSwapOption::empty(),
            started_ms,
            confirmed_ms: AtomicU64::new(0),
            fetches_ok: AtomicU64::new(0),
            fetches_failed: AtomicU64::new(0),
            last_fault: ArcSwapOption::empty(),
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

    /// The newest usable key set; none before the first fetch that worked, and none once it could not
    /// be confirmed for too long.
    pub fn current(&self) -> Guard<Option<Arc<KeySet>>> {
        self.current.load()
    }

    /// How fetching went so far.
    pub fn status(&self) -> FetchStatus {
        let ever = self.confirmed_ms.load(Relaxed) > 0;
        FetchStatus {
            age_s: ever.then(|| self.age_ms() / 1000),
            fetches_ok: self.fetches_ok.load(Relaxed),
            fetches_failed: self.fetches_failed.load(Relaxed),
            keys: self.count(),
            last_fault: self.last_fault.load_full(),
        }
    }

    fn count(&self) -> usize {
        self.current().as_ref().map_or(0, |keys| keys.count())
    }

    /// How long ago the keys were confirmed; where they never were, how long we wait for them.
    fn age_ms(&self) -> u64 {
        let confirmed = self.confirmed_ms.load(Relaxed).checked_sub(1);
        let since = confirmed.unwrap_or(self.started_ms);
        self.now_ms().saturating_sub(since)
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
            let due_ms = self.now_ms() + wait.as_millis() as u64;
            self.round_over();
            if self.wait(due_ms).await == Turn::Clock && self.room() > 1 {
                self.lost.store(true, Relaxed);
            }
        }
    }

    /// How many requests the issuer may get now.
    fn room(&self) -> usize {
        self.desk.budget.room(self.now_ms())
    }

    fn round_over(&self) {
        // Both at once: whoever finds that none is under way waits for the next one's end.
        self.rounds.send_modify(|round| {
            *round += 1;
            self.desk.round_over();
        });
    }

    /// Waits until a fetch is asked for or due, and the issuer may be asked.
    async fn wait(&self, due_ms: u64) -> Turn {
        loop {
            let now_ms = self.now_ms();
            self.look_at_age();
            let wanted = self.desk.is_wanted();
            let may = self.room() >= self.requests();
            if may && wanted {
                return Turn::Asked;
            }
            if may && now_ms >= due_ms {
                return Turn::Clock;
            }
            if wanted {
                // Not now; whoever waits is not to wait for longer.
                self.desk.round_begins();
                self.round_over();
            }
            let left = Duration::from_millis(due_ms.saturating_sub(now_ms).max(1));
            let look = if may { left.min(LOOK) } else { LOOK };
            tokio::select! {
                () = sleep(look) => {}
                () = self.asked.notified() => {}
            }
        }
    }

    /// Gives up keys that were not confirmed for too long, and tells how old they are.
    fn look_at_age(&self) {
        let age_ms = self.age_ms();
        if u128::from(age_ms) > self.max_stale.as_millis() && self.current().is_some() {
            self.current.store(None);
            log::warn!(
                "identity {}: its keys were last confirmed {} s ago, longer than max_stale: they \
                 are not used any more, its tokens are neither trusted nor refused",
                self.provider,
                age_ms / 1000
            );
        }
        if let Some(metrics) = self.metrics.get() {
            metrics.keys(self.count(), age_ms / 1000);
        }
    }

    /// Waits until the first fetch is over, at most [`FETCH_TIMEOUT`]; asks for none.
    pub async fn first(&self) {
        let mut rounds = self.rounds.subscribe();
        let _ = timeout(FETCH_TIMEOUT, rounds.wait_for(|round| *round > 0)).await;
    }

    /// Asks for a fetch because a token names a key we do not have, or because there are no keys
    /// yet, and waits until it is over, at most [`FETCH_TIMEOUT`]. Joins a fetch that is under way.
    /// Returns at once when the key is there by now, when a fetch was asked for less than
    /// [`super::desk::ASK_INTERVAL`] ago, when the issuer was asked too often, when a fresh set was
    /// found not to hold this `kid`, or when too many wait. The caller then looks again and does
    /// not ask twice.
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
        let asked = match self.desk.ask(now_ms, self.requests()) {
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

    /// How many requests the next fetch takes.
    fn requests(&self) -> usize {
        let discovers = matches!(self.place, Place::Discovered(..));
        1 + usize::from(discovers && self.lost.load(Relaxed))
    }

    async fn fetch(&self) -> Result<(KeySet, Option<Duration>), FetchFault> {
        let url = self.discover().await?;
        self.desk.budget.take(self.now_ms());
        let (body, max_age) = self.fetcher.get(&url).await?;
        let set = KeySet::from_jwks(&body, Origin::Fetched, self.algorithms)?;
        Ok((set, max_age))
    }

    /// Where the keys are. The document is read again after every fetch that failed, and with every
    /// fetch by the clock that there is room for.
    async fn discover(&self) -> Result<Arc<Url>, FetchFault> {
        let Place::Discovered(_, issuer) = &self.place else {
            return Ok(Arc::new(self.begin.clone()));
        };
        let known = self.found.load_full();
        if let Some(known) = known.filter(|_| !self.lost.load(Relaxed)) {
            return Ok(known);
        }
        self.desk.budget.take(self.now_ms());
        let answer = self.fetcher.get(&self.begin).await;
        let (body, _) = answer.map_err(|fault| FetchFault::Discovery(Box::new(fault)))?;
        let url = discovery::keys_address(&body, issuer, &self.begin, self.insecure_http)?;
        let url = Arc::new(url);
        self.found.store(Some(url.clone()));
        self.lost.store(false, Relaxed);
        Ok(url)
    }

    /// Takes in what a fetch gave; says how long to wait until the next.
    fn settle(
        &self,
        outcome: Result<(KeySet, Option<Duration>), FetchFault>,
        failures: u32,
    ) -> Duration {
        let result = outcome
            .as_ref()
            .map_or_else(FetchFault::result, |_| FetchResult::Ok);
        if let Some(metrics) = self.metrics.get() {
            metrics.fetched(result);
        }
        match outcome {
            Ok((set, max_age)) => {
                self.adopt(set);
                self.fetches_ok.fetch_add(1, Relaxed);
                next_refresh(self.refresh, max_age, Uuid::new_v4().as_u64_pair().0)
            }
            Err(fault) => {
                self.fetches_failed.fetch_add(1, Relaxed);
                self.lost.store(true, Relaxed);
                self.last_fault.store(Some(Arc::new(LastFault {
                    unix_s: self.clock.now().unix_s(),
                    result,
                    text: fault.to_string(),
                })));
                let wait = back_off(failures, self.count() > 0).min(self.refresh);
                self.complain(&fault, wait);
                wait
            }
        }
    }

    fn complain(&self, fault: &FetchFault, wait: Duration) {
        let Self {
            provider, begin, ..
        } = self;
        let kept = match self.count() {
            0 => "there are no keys, its tokens are neither trusted nor refused".to_owned(),
            keys => format!(
                "the {keys} keys of {} s ago stay in use",
                self.age_ms() / 1000
            ),
        };
        log::warn!(
            "identity {provider}: fetching keys from {begin} failed: {fault}; {kept}; next try in \
             {} s",
            wait.as_secs()
        );
    }

    /// Puts `set` in use, unless it holds the same keys as the one in use: cached verdicts then
    /// stay good.
    fn adopt(&self, set: KeySet) {
        self.confirmed_ms.store(self.now_ms() + 1, Relaxed);
        if let Some(metrics) = self.metrics.get() {
            metrics.confirmed(self.clock.now().unix_s());
        }
        let known = |old: &Arc<KeySet>| old.same_keys(&set);
        if self.current().as_ref().is_some_and(known) {
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

/// How long to wait after a fetch that worked: the configured lifetime, or less if the issuer says so,
/// and of that a tenth or two less, by chance, so that keys are there before they are over and not all
/// gateways come at once.
fn next_refresh(refresh: Duration, max_age: Option<Duration>, chance: u64) -> Duration {
    let lifetime = max_age.map_or(refresh, |age| age.max(MIN_REFRESH).min(refresh));
    let tenth = lifetime / 10;
    let jitter = chance % (tenth.as_millis() as u64 + 1);
    lifetime.saturating_sub(tenth + Duration::from_millis(jitter))
}

/// How long to wait after so many failures in a row: while there are keys 10 s doubled each time,
/// else 1 s; at most 60 s.
fn back_off(failures: u32, keys: bool) -> Duration {
    let first = if keys { 10 } else { 1 };
    let doubled = first << failures.saturating_sub(1).min(6);
    Duration::from_secs(doubled.min(60))
}
