//! The sliding log: at most `limit` requests in any window whatsoever, by the time of each.
//!
//! The only rule without an estimate, and the dearest: four bytes for each request that a client may make
//! in a window, so it is for limits of up to [`MAX_LIMIT`]. A request at `t` counts until `t + window`, not
//! including that moment. Refused requests are not kept.
//!
//! Unlike the other exact rules this one takes a lock: that of the shard, one of [`SHARDS`], that the
//! client's key falls into, for as long as it takes to drop what is over and to add a time.
//!
//! Memory is bounded by `max_keys`. Idle clients go as new ones come; if a shard is full of clients that
//! are not, the one with the fewest requests of the eight next in turn goes, and is counted.

use super::heir::{Given, Heir};
use super::quota::Quota;
use super::{Decision, Fault, Key};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The largest limit, in requests.
pub const MAX_LIMIT: u64 = 1000;
/// The longest window, 31 days, in milliseconds: times are kept in 32 bits.
pub const MAX_WINDOW_MS: u64 = 31 * 86_400_000;
/// The largest `max_keys`.
pub const MAX_KEYS: u64 = 10_000_000;
/// Parts of the table, each behind its own lock.
pub const SHARDS: usize = 256;

/// Bytes of a client on its way, without its times.
const RECORD: usize = 16 + 3 * 8;
/// How many clients are looked at when one has to go.
const CANDIDATES: usize = 8;
/// How many clients are looked at for each new one, so that idle ones do not stay.
const SWEEP: usize = 2;

/// A limit of so many requests in any window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingLog {
    limit: u64,
    window_ms: u64,
}

impl SlidingLog {
    /// A limit of `limit` requests (1 to [`MAX_LIMIT`]) in any `window_ms` milliseconds (1 to
    /// [`MAX_WINDOW_MS`]).
    ///
    /// # Errors
    /// [`Fault::LogLimit`] or [`Fault::Window`] if out of these ranges.
    pub fn new(limit: u64, window_ms: u64) -> Result<Self, Fault> {
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Fault::LogLimit(limit));
        }
        if !(1..=MAX_WINDOW_MS).contains(&window_ms) {
            return Err(Fault::Window(window_ms));
        }
        Ok(Self { limit, window_ms })
    }

    /// Requests allowed in a window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Length of the window in milliseconds.
    pub fn window_ms(&self) -> u64 {
        self.window_ms
    }
}

/// One client's requests.
#[derive(Clone, Debug, Default)]
struct Log {
    /// The latest time at which it was asked for, in Unix milliseconds. It does not run backwards.
    asked_ms: u64,
    /// When nothing of it counts any more, by the window of whoever it is: callers of one limit may have
    /// windows of their own.
    over_ms: u64,
    /// The low bits of the times of all that count, oldest first; none is older than a window, which is
    /// shorter than 2^32 ms.
    times: VecDeque<u32>,
}

impl Log {
    /// The time of which these are the low bits.
    fn whole(&self, low: u32) -> u64 {
        let age = (self.asked_ms as u32).wrapping_sub(low);
        self.asked_ms.saturating_sub(u64::from(age))
    }

    /// As it travels: key, time of the last request, when it is over, number of times, times.
    fn record(&self, key: &Key) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD + 4 * self.times.len());
        bytes.extend_from_slice(&key.to_bytes());
        bytes.extend_from_slice(&self.asked_ms.to_le_bytes());
        bytes.extend_from_slice(&self.over_ms.to_le_bytes());
        bytes.extend_from_slice(&(self.times.len() as u64).to_le_bytes());
        self.times
            .iter()
            .for_each(|low| bytes.extend_from_slice(&low.to_le_bytes()));
        bytes
    }

    /// The first of some records, and those behind it; `None` where there is no whole one.
    fn read(records: &[u8]) -> Option<(Key, Log, &[u8])> {
        let (key, rest) = records.split_first_chunk()?;
        let (asked_ms, rest) = rest.split_first_chunk()?;
        let (over_ms, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let (times, rest) = rest.split_at_checked(count.checked_mul(4)?)?;
        let (times, _) = times.as_chunks();
        let log = Log {
            asked_ms: u64::from_le_bytes(*asked_ms),
            over_ms: u64::from_le_bytes(*over_ms),
            times: times.iter().map(|low| u32::from_le_bytes(*low)).collect(),
        };
        Some((Key::from_bytes(*key), log, rest))
    }

    fn is_idle(&self, now_ms: u64) -> bool {
        self.over_ms <= now_ms
    }

    /// Decides, and counts where that is wanted. A clock that reads earlier than at the last request reads
    /// that time.
    fn decide(&mut self, rule: &SlidingLog, now_ms: u64, cost: u32, count: bool) -> Decision {
        let SlidingLog { limit, window_ms } = *rule;
        let at_ms = now_ms.max(self.asked_ms);
        let is_over = |low: &u32| self.whole(*low) + window_ms <= at_ms;
        let over = self.times.partition_point(is_over);
        let (before, cost) = ((self.times.len() - over) as u64, u64::from(cost));
        let allowed = before + cost <= limit;
        let used = if allowed { before + cost } else { before };
        let retry_after_ms = match allowed {
            true => 0,
            false if cost > limit => Decision::NEVER,
            // So many of the oldest have to go first.
            false => {
                let last = self.times.get(over + (before + cost - limit - 1) as usize);
                let free_ms = last.map_or(at_ms, |low| self.whole(*low) + window_ms);
                free_ms.saturating_sub(now_ms)
            }
        };
        let newest_ms = match self.times.back() {
            _ if allowed && cost > 0 => at_ms,
            Some(low) => self.whole(*low),
            None => at_ms,
        };
        let decision = Decision {
            allowed,
            limit,
            remaining: limit.saturating_sub(used),
            reset_ms: if used == 0 {
                now_ms
            } else {
                newest_ms + window_ms
            },
            retry_after_ms,
            delay_ms: 0,
        };
        if count {
            self.times.drain(..over);
            self.asked_ms = at_ms;
            if allowed && cost > 0 {
                self.over_ms = at_ms + window_ms;
                self.times.extend((0..cost).map(|_| at_ms as u32));
            }
        }
        decision
    }
}

/// A key is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (bytes, _) = bytes.as_chunks();
        self.0 = bytes.last().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    }

    fn write_u128(&mut self, bits: u128) {
        self.0 = bits as u64;
    }
}

#[derive(Default)]
struct Shard {
    places: HashMap<Key, usize, BuildHasherDefault<AsItIs>>,
    logs: Vec<(Key, Log)>,
    /// The place to look at next.
    hand: usize,
}

impl Shard {
    fn add(&mut self, key: Key, log: Log) {
        if let Some(place) = self.places.get(&key) {
            self.logs[*place].1 = log;
        } else {
            self.places.insert(key, self.logs.len());
            self.logs.push((key, log));
        }
    }

    fn remove(&mut self, place: usize) {
        let (key, _) = self.logs.swap_remove(place);
        self.places.remove(&key);
        if let Some((moved, _)) = self.logs.get(place) {
            self.places.insert(*moved, place);
        }
    }

    /// The next place in turn.
    fn next(&mut self) -> Option<usize> {
        let place = if self.hand < self.logs.len() {
            self.hand
        } else {
            0
        };
        self.hand = place + 1;
        (place < self.logs.len()).then_some(place)
    }

    /// Takes out an idle client or two.
    fn sweep(&mut self, now_ms: u64) {
        for _ in 0..SWEEP {
            let Some(place) = self.next() else { return };
            if self.logs[place].1.is_idle(now_ms) {
                self.remove(place);
                self.hand = place;
            }
        }
    }

    /// Takes out the client that has asked least, of some; whether it was one that counted.
    fn evict(&mut self, now_ms: u64) -> bool {
        let mut least: Option<(usize, usize)> = None;
        for _ in 0..CANDIDATES.min(self.logs.len()) {
            let Some(place) = self.next() else {
                return false;
            };
            let log = &self.logs[place].1;
            let idle = log.is_idle(now_ms);
            let used = if idle { 0 } else { log.times.len() };
            if least.is_none_or(|(few, _)| used < few) {
                least = Some((used, place));
            }
        }
        let Some((used, place)) = least else {
            return false;
        };
        self.remove(place);
        used > 0
    }
}

/// The requests of each client; see the head of this file.
pub struct Logs {
    shards: Box<[Mutex<Shard>]>,
    /// The most clients of a shard.
    room: usize,
    evictions: AtomicU64,
    given: Given,
}

impl Logs {
    /// Room for about `max_keys` clients, 1 to [`MAX_KEYS`].
    ///
    /// # Errors
    /// [`Fault::MaxKeys`] if out of this range.
    pub fn new(max_keys: u64) -> Result<Self, Fault> {
        if !(1..=MAX_KEYS).contains(&max_keys) {
            return Err(Fault::MaxKeys(max_keys));
        }
        Ok(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            room: room(max_keys),
            evictions: AtomicU64::new(0),
            given: Given::default(),
        })
    }

    /// The most memory that so many clients take under a limit, in bytes.
    pub fn memory_bytes(max_keys: u64, limit: u64) -> u64 {
        // A vector and a table have up to twice the room that is in use; so has a ring of times.
        let client = 2 * (size_of::<(Key, Log)>() + size_of::<(Key, usize)>() + 1) as u64;
        let times = 4 * limit.max(4).next_power_of_two();
        (room(max_keys) * SHARDS) as u64 * (client + times)
    }

    /// Decides one request of `cost` at `now_ms` (steady Unix milliseconds) and keeps it if it may pass.
    pub fn check(&self, rule: &SlidingLog, key: &Key, now_ms: u64, cost: u32) -> Decision {
        if let Some(decision) = self.given.decide(|| Quota::Log(*rule), key, cost, true) {
            return decision;
        }
        let mut shard = self.shard(key);
        if let Some(place) = shard.places.get(key) {
            let place = *place;
            return shard.logs[place].1.decide(rule, now_ms, cost, true);
        }
        let mut log = Log::default();
        let decision = log.decide(rule, now_ms, cost, true);
        if !log.times.is_empty() {
            shard.sweep(now_ms);
            if shard.logs.len() >= self.room && shard.evict(now_ms) {
                self.evictions.fetch_add(1, Relaxed);
            }
            shard.add(*key, log);
        }
        decision
    }

    /// What [`Logs::check`] would say, keeping nothing.
    pub fn peek(&self, rule: &SlidingLog, key: &Key, now_ms: u64, cost: u32) -> Decision {
        if let Some(decision) = self.given.decide(|| Quota::Log(*rule), key, cost, false) {
            return decision;
        }
        let mut shard = self.shard(key);
        let place = shard.places.get(key).copied();
        let known = place.map(|place| shard.logs[place].1.decide(rule, now_ms, cost, false));
        known.unwrap_or_else(|| Log::default().decide(rule, now_ms, cost, false))
    }

    /// Clients that were given up although they counted.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// Clients that are kept; idle ones stay until others come.
    pub fn keys(&self) -> u64 {
        let all = self
            .shards
            .iter()
            .map(|shard| lock(shard).logs.len() as u64);
        all.sum()
    }

    /// From now on somebody else decides.
    pub fn give(&self, heir: Arc<dyn Heir>) {
        self.given.set(Some(heir));
    }

    /// Decides by itself again.
    pub fn take_back(&self) {
        self.given.set(None);
    }

    /// The clients that were asked for since a time, each as [`Logs::put`] reads it.
    pub fn records(&self, since_ms: u64) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let asked = shard
                .logs
                .iter()
                .filter(|(_, log)| log.asked_ms >= since_ms);
            all.extend(asked.map(|(key, log)| log.record(key)));
        }
        all
    }

    /// Takes up clients of another process, one record after another, in place of what is known of them.
    pub fn put(&self, mut records: &[u8]) {
        while let Some((key, log, rest)) = Log::read(records) {
            self.shard(&key).add(key, log);
            records = rest;
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        // The table inside takes the low bits.
        let index = (key.bits() >> 64) as usize % SHARDS;
        lock(&self.shards[index])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys do not fall evenly: a fifth and a few more than a shard's share.
fn room(max_keys: u64) -> usize {
    let share = max_keys.div_ceil(SHARDS as u64);
    (share + share / 5 + 8) as usize
}
