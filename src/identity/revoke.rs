//! What is not believed any more, though its signature or its record is good: kept in Redis for all
//! gateways, and here as an exact set that requests read without a lock.
//!
//! In Redis there is one sorted set: a member says what is revoked ([`entry`]), its score until when that is
//! remembered, in Unix seconds. Whoever adds one publishes it on the channel of the same name, so that
//! every gateway knows it within moments. The whole set is read again from time to time, and whenever
//! something may have been missed: what is gone there is forgotten here.

pub mod entry;
pub mod set;

use super::principal::Principal;
use crate::base::clock::{Clock, Now};
use crate::observe::metrics::RevocationMetrics;
use crate::redis::{Redis, RedisFault, Watch, Watcher, cmd};
use entry::{Message, Revoked, read_message};
use set::{Added, Fresh, Set};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch as channel};
use tokio::time::{sleep, timeout};

/// Entries asked for at a time.
const PAGE: u64 = 1000;
/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the time is looked at; also the least time between two scans.
const TICK: Duration = Duration::from_secs(1);
/// How often entries that are over are looked for.
const SWEEP_TICKS: u64 = 10;

/// How revocations are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRules {
    /// The name of the sorted set in Redis, and of the channel.
    pub key: String,
    /// How often the whole of it is read.
    pub scan: Duration,
    /// How long the set may be out of date.
    pub max_lag: Duration,
    /// Whether it is stale then: nobody is believed.
    pub refuse: bool,
    /// The most entries held.
    pub max_entries: usize,
}

/// How well the set is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationStatus {
    /// Entries held.
    pub entries: usize,
    /// Seconds since it was last known to be complete; none before the first time.
    pub lag_s: Option<u64>,
    /// Whether messages are heard.
    pub listening: bool,
    /// When it was last read whole, in Unix seconds.
    pub last_scan_s: Option<u64>,
    /// Whether nobody is believed because of it.
    pub stale: bool,
}

/// All that is revoked.
pub struct Revocations {
    rules: RevocationRules,
    redis: Arc<Redis>,
    list: Arc<List>,
}

/// What a change of the rules leaves as it is.
struct List {
    set: Set,
    clock: Clock,
    metrics: Arc<RevocationMetrics>,
    max_entries: AtomicUsize,
    /// Held by whoever changes the set.
    writing: Mutex<Writing>,
    /// Held while it is read whole.
    scanning: tokio::sync::Mutex<()>,
    /// Since when it may not be complete, in milliseconds of the clock; 0: it is. See [`NEVER`].
    since_ms: AtomicU64,
    /// Milliseconds of the clock when it was last read whole.
    scanned_ms: AtomicU64,
    /// The same in Unix seconds; 0 for never.
    scanned_s: AtomicU64,
    /// Wakes the task for a scan.
    wake: Notify,
    /// Whether the first attempt to read it is over.
    tried: channel::Sender<bool>,
    unknown_told: AtomicBool,
    full_told: AtomicBool,
}

/// It has never been complete.
const NEVER: u64 = u64::MAX;

#[derive(Default)]
struct Writing {
    /// What was added since a scan began, which may not have seen it.
    journal: Option<Vec<(Revoked, u64)>>,
    listening: bool,
    /// Counts how often listening began or ended.
    turn: u64,
}

impl Revocations {
    /// Prepares them; nothing is read before [`Revocations::run`]. What `before` knows is known here, if it
    /// is the same set.
    pub fn new(
        rules: RevocationRules,
        redis: Arc<Redis>,
        clock: Clock,
        metrics: Arc<RevocationMetrics>,
        before: Option<&Revocations>,
    ) -> Self {
        let before = before.filter(|before| before.rules.key == rules.key);
        let list = match before {
            Some(before) if Arc::ptr_eq(&before.redis, &redis) => before.list.clone(),
            before => {
                let old = before.map(|before| &*before.list);
                let list = Arc::new(List::new(clock, metrics, rules.max_entries, old));
                let weak: Weak<List> = Arc::downgrade(&list);
                redis.watch(Watch::Channel(rules.key.as_bytes().into()), weak);
                list
            }
        };
        Self { rules, redis, list }
    }

    /// Whether these are their rules, and this is where they are kept.
    pub fn is(&self, rules: &RevocationRules, redis: &Arc<Redis>) -> bool {
        self.rules == *rules && Arc::ptr_eq(&self.redis, redis)
    }

    /// Whether the caller is revoked. One atomic load for one who was compared with this state of the set.
    #[inline]
    pub fn covers(&self, caller: &Principal) -> bool {
        self.list.set.covers(caller)
    }

    /// Whether the set has been out of date for so long that nobody is to be believed.
    pub fn is_stale(&self, now: Now) -> bool {
        self.rules.refuse
            && match self.list.since_ms.load(Relaxed) {
                0 => false,
                NEVER => true,
                since => ms(now).saturating_sub(since) > self.max_lag_ms(),
            }
    }

    fn max_lag_ms(&self) -> u64 {
        u64::try_from(self.rules.max_lag.as_millis()).unwrap_or(u64::MAX)
    }

    /// How well the set is known.
    pub fn status(&self) -> RevocationStatus {
        let now = self.list.clock.now();
        let scanned = self.list.scanned_s.load(Relaxed);
        RevocationStatus {
            entries: self.list.set.len(),
            lag_s: self.list.lag_ms(now).map(|ms| ms / 1000),
            listening: self.list.writing().listening,
            last_scan_s: (scanned > 0).then_some(scanned),
            stale: self.is_stale(now),
        }
    }

    /// Waits until the set was read, or could not be.
    pub async fn first(&self) {
        let _ = self.list.tried.subscribe().wait_for(|over| *over).await;
    }

    /// Keeps the set fresh until `shutdown` holds true or its sender is gone. To be run by one task.
    pub async fn run(self: Arc<Self>, mut shutdown: channel::Receiver<bool>) {
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = self.keep_fresh() => {}
        }
    }

    async fn keep_fresh(&self) {
        let list = &self.list;
        list.max_entries.store(self.rules.max_entries, Relaxed);
        self.redis.first().await;
        if self.redis.is_up() {
            // Once it listens, the first scan makes the set complete.
            let _ = timeout(TICK, list.wake.notified()).await;
        }
        let mut told = false;
        loop {
            let scanned = self.scan().await;
            list.tried.send_replace(true);
            let due = if scanned { self.rules.scan } else { TICK };
            let began = list.clock.now();
            let mut ticks = 0;
            loop {
                told = self.tell(told);
                // Never sooner: whoever writes much would have us read all the time.
                sleep(TICK.min(due)).await;
                ticks += 1;
                if ticks % SWEEP_TICKS == 0 {
                    list.sweep();
                }
                let now = list.clock.now();
                let passed = Duration::from_nanos(now.since_ns(began));
                let asked = std::pin::pin!(list.wake.notified()).enable();
                if asked || passed >= due {
                    break;
                }
            }
        }
    }

    /// Tells when the set gets too old, and when that is over.
    fn tell(&self, told: bool) -> bool {
        let now = self.list.clock.now();
        self.list.look(now, self.rules.scan);
        let lag = self.list.lag_ms(now);
        let age = lag.unwrap_or_else(|| ms(now));
        self.list.metrics.state(self.list.set.len(), age / 1000);
        let key = &self.rules.key;
        // One that was never read has no age that could be borne.
        let late = lag.is_none_or(|lag| lag > self.max_lag_ms());
        if late && !told {
            let then = if self.rules.refuse {
                "nobody is let in until it is read"
            } else {
                "what was revoked since is let in"
            };
            log::warn!(
                "revocations {key}: the set may lack entries for {} s: {then}",
                age / 1000
            );
        } else if told && !late {
            log::info!("revocations {key}: the set is complete again");
        }
        late
    }

    /// Reads the whole set; false if it could not be read, or was not all taken in.
    async fn scan(&self) -> bool {
        let list = &self.list;
        let _one = list.scanning.lock().await;
        let turn = list.begin();
        let read = self.read().await;
        let whole = read.as_ref().is_ok_and(|(_, whole)| *whole);
        list.metrics.scanned(whole);
        match read {
            Ok((fresh, _)) => list.finish(fresh, whole.then_some(turn)),
            Err(_) => list.writing().journal = None,
        }
        whole
    }

    /// All entries, and whether that is all.
    async fn read(&self) -> Result<(Fresh, bool), RedisFault> {
        let list = &self.list;
        let mut fresh = Fresh::default();
        let (mut whole, mut unknown) = (true, 0_usize);
        let mut cursor = 0_u64;
        loop {
            let mut page = cmd("ZSCAN");
            page.arg(&self.rules.key).arg(cursor).arg("COUNT").arg(PAGE);
            let read = self.redis.query_within(&page, PATIENCE).await?;
            let (next, entries): (u64, Vec<(Vec<u8>, f64)>) = read;
            let now_s = list.clock.now().unix_s();
            for (member, score) in entries {
                let until = score.max(0.0) as u64;
                if until <= now_s {
                    continue;
                }
                let text = std::str::from_utf8(&member).ok();
                match text.and_then(|t| t.parse().ok()) {
                    Some(revoked) => whole &= fresh.put(&revoked, until, self.rules.max_entries),
                    None => unknown += 1,
                }
            }
            cursor = next;
            if cursor == 0 || !whole {
                break;
            }
        }
        list.note(unknown, !whole, &self.rules);
        Ok((fresh, whole))
    }
}

impl List {
    fn new(
        clock: Clock,
        metrics: Arc<RevocationMetrics>,
        max_entries: usize,
        before: Option<&List>,
    ) -> Self {
        let now_ms = ms(clock.now());
        // What was complete may not be from now on.
        let since = before.map_or(NEVER, |b| match b.since_ms.load(Relaxed) {
            0 => now_ms.max(1),
            since => since,
        });
        Self {
            set: before.map_or_else(Set::default, |before| before.set.copied()),
            clock,
            metrics,
            max_entries: AtomicUsize::new(max_entries),
            writing: Mutex::default(),
            scanning: tokio::sync::Mutex::default(),
            since_ms: AtomicU64::new(since),
            scanned_ms: AtomicU64::new(0),
            scanned_s: AtomicU64::new(0),
            wake: Notify::new(),
            tried: channel::Sender::new(false),
            unknown_told: AtomicBool::new(false),
            full_told: AtomicBool::new(false),
        }
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it has been incomplete; none if it never was complete.
    fn lag_ms(&self, now: Now) -> Option<u64> {
        match self.since_ms.load(Relaxed) {
            0 => Some(0),
            NEVER => None,
            since => Some(ms(now).saturating_sub(since)),
        }
    }

    /// It is complete no longer.
    fn incomplete(&self, since_ms: u64) {
        let _ = self
            .since_ms
            .compare_exchange(0, since_ms.max(1), Relaxed, Relaxed);
    }

    /// Finds out whether it was not read for too long.
    fn look(&self, now: Now, scan: Duration) {
        let scanned = self.scanned_ms.load(Relaxed);
        let passed = Duration::from_millis(ms(now).saturating_sub(scanned));
        // One scan may fail: messages are heard all the same.
        if passed > scan * 2 + 5 * TICK {
            self.incomplete(scanned);
        }
    }

    /// A scan begins; which turn of listening it is.
    fn begin(&self) -> u64 {
        let mut writing = self.writing();
        writing.journal = Some(Vec::new());
        writing.turn
    }

    /// Takes in what a scan has read; `whole` is the turn in which it began, if it has read all.
    fn finish(&self, mut fresh: Fresh, whole: Option<u64>) {
        let now = self.clock.now();
        let mut writing = self.writing();
        let most = self.max_entries.load(Relaxed);
        let mut room = true;
        for (revoked, until) in writing.journal.take().into_iter().flatten() {
            room &= fresh.put(&revoked, until, most);
        }
        self.set.replace(fresh);
        if let Some(turn) = whole.filter(|_| room) {
            self.scanned_ms.store(ms(now), Relaxed);
            self.scanned_s.store(now.unix_s(), Relaxed);
            // What was published before it began is in it, and since then everything was heard.
            if writing.listening && writing.turn == turn {
                self.since_ms.store(0, Relaxed);
            }
        }
    }

    /// Tells of entries that cannot be kept, once each.
    fn note(&self, unknown: usize, full: bool, rules: &RevocationRules) {
        let key = &rules.key;
        self.metrics.unknown(unknown);
        if unknown == 0 {
            self.unknown_told.store(false, Relaxed);
        } else if !self.unknown_told.swap(true, Relaxed) {
            log::error!(
                "revocations {key}: {unknown} entries there say nothing that is known here"
            );
        }
        if !full {
            self.full_told.store(false, Relaxed);
        } else if !self.full_told.swap(true, Relaxed) {
            let most = rules.max_entries;
            log::error!("revocations {key}: there are more than {most}, not all are kept");
        }
    }

    fn sweep(&self) {
        let _writing = self.writing();
        self.set.forget(self.clock.now().unix_s());
    }
}

impl Watcher for List {
    fn changed(&self, _key: &[u8]) {}

    fn message(&self, payload: &[u8]) {
        let message = read_message(payload);
        self.metrics.heard(message.is_ok());
        let now = self.clock.now();
        match message {
            Ok(Message::Added(revoked, until)) if until > now.unix_s() => {
                let mut writing = self.writing();
                let most = self.max_entries.load(Relaxed);
                if self.set.add(&revoked, until, most) == Added::Full {
                    // The scan tells of it.
                    self.incomplete(ms(now));
                    self.wake.notify_one();
                } else if let Some(journal) = &mut writing.journal {
                    journal.push((revoked, until));
                }
            }
            Ok(Message::Added(..)) => {}
            // Whether it is gone is seen there; or what there is instead of what was not understood.
            Ok(Message::TakenBack) | Err(_) => self.wake.notify_one(),
        }
    }

    fn watching(&self) {
        let mut writing = self.writing();
        writing.listening = true;
        writing.turn += 1;
        self.wake.notify_one();
    }

    fn lost(&self) {
        let mut writing = self.writing();
        writing.listening = false;
        writing.turn += 1;
        self.incomplete(ms(self.clock.now()));
    }
}

/// Milliseconds of the clock, of a reading.
fn ms(now: Now) -> u64 {
    now.mono_ns / 1_000_000
}
