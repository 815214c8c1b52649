//! API keys in Redis: under a prefix and the SHA-256 of the whole key, in hexadecimal, lies its record.
//!
//! What was answered is remembered ([`super::key_cache`]) and Redis tells of every change, a plain `DEL`
//! or an expiry too, so that a key that is taken out is refused a moment later and a new one works at
//! once. Where it does not tell, answers are confirmed every second. While Redis is away nobody waits:
//! known keys go on for `max_stale`, of all others nothing can be said.

use super::key_cache::{Answer, CacheRules, Found, KeyCache, Mark, Memory};
use super::key_format::{KeyFormat, MAX_KEY};
use super::key_list::KeyVerdict;
use super::key_record::{KeyDigest, KeyFault, KeyRecord, RecordFault};
use crate::base::clock::{Clock, Now};
use crate::observe::metrics::{KeyListMetrics, KeyLookup};
use crate::redis::{Redis, Watch, Watcher, cmd};
use arc_swap::ArcSwapOption;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Weak};
use tokio::sync::Semaphore;

/// Questions under way that others may wait for.
const FLIGHTS: usize = 1024;
/// Requests of one list that may wait for Redis; further ones are answered at once.
const MAX_WAITING: usize = 4096;
/// How often a question is asked again because the key was changed meanwhile.
const MAX_ASKED: usize = 3;
/// The least time between two warnings of records that cannot be used, in milliseconds.
const WARN_EVERY_MS: u64 = 10_000;

/// What a list in Redis is made of.
#[derive(Clone, Debug)]
pub struct RedisList {
    /// Its name in our configuration.
    pub name: String,
    /// What stands before a digest.
    pub prefix: String,
    /// Which texts are looked up.
    pub format: KeyFormat,
    /// How long answers are good.
    pub cache: CacheRules,
}

/// A list of API keys in Redis.
pub struct RedisKeys {
    cache: KeyCache,
    prefix: String,
    format: KeyFormat,
    redis: Arc<Redis>,
    clock: Clock,
    metrics: Arc<KeyListMetrics>,
    flights: Flights,
    waiting: AtomicUsize,
    /// When it was last warned of a record, in milliseconds plus one; 0 for never.
    warned: AtomicU64,
}

impl RedisKeys {
    /// A list that asks this server, and is told by it what changes.
    pub fn new(
        list: RedisList,
        redis: Arc<Redis>,
        clock: Clock,
        metrics: Arc<KeyListMetrics>,
    ) -> Arc<Self> {
        let RedisList {
            name,
            prefix,
            format,
            cache,
        } = list;
        let keys = Arc::new(Self {
            cache: KeyCache::new(&name, cache),
            prefix,
            format,
            redis,
            clock,
            metrics,
            flights: Flights::new(),
            waiting: AtomicUsize::new(0),
            warned: AtomicU64::new(0),
        });
        let weak: Weak<Self> = Arc::downgrade(&keys);
        keys.redis
            .watch(Watch::Keys(keys.prefix.as_bytes().into()), weak);
        keys
    }

    /// The list's name.
    pub fn name(&self) -> &str {
        self.cache.name()
    }

    /// What is to be said of a key without asking. `asked`: it was looked up just now.
    pub fn judge(&self, presented: &[u8], now: Now, asked: bool) -> KeyVerdict {
        if presented.len() > MAX_KEY {
            return KeyVerdict::Refused(KeyFault::Malformed);
        }
        let mark = self.cache.mark(presented);
        match self.cache.get(mark, mono_ms(now), now.unix_s()) {
            Memory::Fresh(Found::Known(Ok(principal))) => KeyVerdict::Found(principal),
            // Who cannot be asked cannot be said not to know it.
            Memory::Fresh(Found::Unknown) if !self.redis.is_up() => KeyVerdict::Unavailable,
            Memory::Fresh(found) => said(found),
            Memory::Old(found) if asked || !self.redis.is_up() => said(found),
            Memory::Nothing if !self.format.admits(presented) => {
                KeyVerdict::Refused(KeyFault::Malformed)
            }
            Memory::Nothing if asked || !self.redis.is_up() => KeyVerdict::Unavailable,
            Memory::Old(_) | Memory::Nothing => KeyVerdict::Ask,
        }
    }

    /// Whether the key was found before and may be used, as far as is known here.
    pub fn is_known(&self, presented: &[u8], now: Now) -> bool {
        if presented.len() > MAX_KEY {
            return false;
        }
        let mark = self.cache.mark(presented);
        let memory = self.cache.get(mark, mono_ms(now), now.unix_s());
        matches!(
            memory,
            Memory::Fresh(Found::Known(Ok(_))) | Memory::Old(Found::Known(Ok(_)))
        )
    }

    /// Asks Redis for a key, and remembers what it says. Many requests for one key are one question.
    pub async fn look_up(&self, presented: &[u8]) {
        let mark = self.cache.mark(presented);
        let Some(_seat) = self.seat() else {
            self.metrics.looked_up(KeyLookup::Crowded);
            return;
        };
        loop {
            let now = self.clock.now();
            let memory = self.cache.get(mark, mono_ms(now), now.unix_s());
            if matches!(memory, Memory::Fresh(_)) {
                return;
            }
            match self.flights.board(mark) {
                Boarded::First(flight) => {
                    self.ask(presented, mark).await;
                    flight.over();
                    return;
                }
                Boarded::Alone => return self.ask(presented, mark).await,
                Boarded::With(flight) => {
                    // The one that asks may go away before there is an answer.
                    if flight.wait().await {
                        return;
                    }
                }
            }
        }
    }

    async fn ask(&self, presented: &[u8], mark: Mark) {
        let digest = KeyDigest::of(presented);
        let mut get = cmd("GET");
        get.arg(format!("{}{}", self.prefix, digest.hex()));
        for _ in 0..MAX_ASKED {
            let ticket = self.cache.ticket(&digest, mono_ms(self.clock.now()));
            let answer = match self.redis.query::<Option<Vec<u8>>>(&get).await {
                Err(_) => return self.metrics.looked_up(KeyLookup::Failed),
                Ok(None) => Answer::Unknown,
                Ok(Some(text)) => match KeyRecord::from_json(&text, digest) {
                    Ok(record) => Answer::Known(record),
                    Err(fault) => {
                        self.warn(&digest, fault);
                        Answer::Unusable
                    }
                },
            };
            self.metrics.looked_up(match &answer {
                Answer::Known(_) => KeyLookup::Found,
                Answer::Unknown => KeyLookup::Unknown,
                Answer::Unusable => KeyLookup::Unusable,
            });
            self.cache.put(mark, ticket, answer);
            if self.cache.holds(&ticket) {
                break;
            }
        }
        let (held, evicted) = (self.cache.count(), self.cache.evicted());
        self.metrics.remembers(held as u64, evicted);
    }

    /// Tells the operator of a record that cannot be used, not more often than somebody reads.
    fn warn(&self, digest: &KeyDigest, fault: RecordFault) {
        let now_ms = mono_ms(self.clock.now());
        let last = self.warned.load(Relaxed);
        let due = last == 0 || now_ms + 1 >= last + WARN_EVERY_MS;
        let ours = || {
            self.warned
                .compare_exchange(last, now_ms + 1, SeqCst, SeqCst)
        };
        if due && ours().is_ok() {
            let (name, prefix, begin) = (self.name(), &self.prefix, digest.short());
            log::warn!(
                "API keys `{name}`: the record {prefix}{begin}… {fault}: its key is refused"
            );
        }
    }

    fn seat(&self) -> Option<Seat<'_>> {
        let seat = Seat(&self.waiting);
        (self.waiting.fetch_add(1, Relaxed) < MAX_WAITING).then_some(seat)
    }
}

impl Watcher for RedisKeys {
    fn changed(&self, key: &[u8]) {
        let hex = key.strip_prefix(self.prefix.as_bytes());
        if let Some(digest) = hex.and_then(KeyDigest::from_hex) {
            self.cache.changed(&digest);
        }
    }

    fn message(&self, _payload: &[u8]) {}

    fn watching(&self) {
        self.cache.watching();
    }

    fn lost(&self) {
        self.cache.lost();
    }
}

fn said(found: Found) -> KeyVerdict {
    match found {
        Found::Known(Ok(principal)) => KeyVerdict::Found(principal),
        Found::Known(Err(fault)) => KeyVerdict::Refused(fault),
        Found::Unknown => KeyVerdict::Refused(KeyFault::Unknown),
        Found::Unusable => KeyVerdict::Unavailable,
    }
}

fn mono_ms(now: Now) -> u64 {
    now.mono_ns / 1_000_000
}

/// A place among those that wait, given back when it is dropped.
struct Seat<'a>(&'a AtomicUsize);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Questions under way. Two keys that share a place are asked for without heed of each other.
struct Flights(Box<[ArcSwapOption<Flight>]>);

struct Flight {
    mark: Mark,
    answered: AtomicBool,
    /// Closed once it is over.
    wait: Semaphore,
}

enum Boarded<'a> {
    First(Lead<'a>),
    With(Arc<Flight>),
    Alone,
}

/// Whoever asks; when it is dropped, those who wait go on.
struct Lead<'a> {
    place: &'a ArcSwapOption<Flight>,
    flight: Arc<Flight>,
}

impl Flights {
    fn new() -> Self {
        Self((0..FLIGHTS).map(|_| ArcSwapOption::empty()).collect())
    }

    fn board(&self, mark: Mark) -> Boarded<'_> {
        let place = &self.0[mark.spread(FLIGHTS)];
        if let Some(flight) = place.load_full() {
            return if flight.mark == mark {
                Boarded::With(flight)
            } else {
                Boarded::Alone
            };
        }
        let flight = Arc::new(Flight {
            mark,
            answered: AtomicBool::new(false),
            wait: Semaphore::new(0),
        });
        let before = place.compare_and_swap(&None::<Arc<Flight>>, Some(flight.clone()));
        match before.as_ref() {
            None => Boarded::First(Lead { place, flight }),
            Some(other) if other.mark == mark => Boarded::With(other.clone()),
            Some(_) => Boarded::Alone,
        }
    }
}

impl Flight {
    /// Waits until it is over; says whether there was an answer, be it none.
    async fn wait(&self) -> bool {
        // There never is a permit: it ends when the flight does.
        let _ = self.wait.acquire().await;
        self.answered.load(SeqCst)
    }
}

impl Lead<'_> {
    /// The question was answered, or nobody could be asked.
    fn over(&self) {
        self.flight.answered.store(true, SeqCst);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.place.store(None);
        self.flight.wait.close();
    }
}
