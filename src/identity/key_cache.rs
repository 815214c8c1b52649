//! What Redis said of API keys a moment ago, so that the next request with the same key costs a hash and
//! a comparison.
//!
//! Two set-associative arrays without locks, one for keys that are known and a smaller one for those
//! that are not, so that made-up keys push no known one out. A keyed hash of the whole key chooses the
//! set and decides: SipHash-2-4 with 128 bits, a pseudo-random function whose key is random for each
//! cache and leaves the process nowhere, so that nobody can make a text with the hash of another key.
//!
//! When an answer may be used is told by the ticket that was drawn before the question:
//!
//! - the key was changed since (its bucket of change counters has moved): never;
//! - changes may have been missed since, as the connection that tells of them was made anew, or the
//!   answer is older than its time to live, or changes are not being told at all and it is older than
//!   [`UNWATCHED_MS`]: it has to be confirmed. While nobody can be asked, a known key goes on until
//!   `max_stale`.
//!
//! The ticket is drawn before the question is sent, so an answer that crosses a change on its way is
//! remembered as one from before the change. Several keys share a bucket: a change of one of them costs
//! the others a question.

#[cfg(test)]
mod tests;

use super::key_record::{KeyDigest, KeyFault, KeyRecord, usable};
use super::principal::Principal;
use arc_swap::ArcSwapOption;
use siphasher::sip128::SipHasher24;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, SeqCst},
};
use uuid::Uuid;

/// How long an answer is good while changes are not being told, in milliseconds.
pub const UNWATCHED_MS: u64 = 1000;
/// The most keys remembered as unknown or unusable.
const MAX_UNKNOWN: usize = 16_384;
/// Counters of changes.
const MAX_BUCKETS: usize = 1 << 17;
/// Places in one set.
const WAYS: usize = 8;

/// How long answers are good, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheRules {
    /// Of keys that are known, while changes are told.
    pub ttl_ms: u64,
    /// Of keys that are not.
    pub negative_ttl_ms: u64,
    /// Of keys that are known, while nobody can be asked; since they were last confirmed.
    pub max_stale_ms: u64,
    /// How many known keys are remembered.
    pub max_cached: usize,
}

/// The keyed hash of a whole key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u128);

impl Mark {
    /// One of so many places, by the upper 32 bits.
    pub(super) fn spread(self, places: usize) -> usize {
        ((self.0 >> 96) as usize * places) >> 32
    }
}

/// When a question was asked, and what had happened until then.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    bucket: u32,
    changes: u64,
    epoch: u64,
    at_ms: u64,
}

/// What was answered.
#[derive(Debug)]
pub enum Answer {
    /// There is such a key.
    Known(KeyRecord),
    /// There is none.
    Unknown,
    /// There is something that is no record of a key.
    Unusable,
}

/// What is remembered of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It speaks for this caller, or may not be used any more.
    Known(Result<Arc<Principal>, KeyFault>),
    /// There is no such key.
    Unknown,
    /// What lies under its digest is no record.
    Unusable,
}

/// How good what is remembered is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// As good as new.
    Fresh(Found),
    /// To be confirmed; where nobody can be asked, this is what goes on.
    Old(Found),
    /// Nothing that may be used.
    Nothing,
}

/// A remembered answer.
struct Entry<T> {
    mark: Mark,
    ticket: Ticket,
    what: T,
}

struct Known {
    record: KeyRecord,
    principal: Arc<Principal>,
}

/// Whether an answer may be used.
#[derive(PartialEq, Eq)]
enum Standing {
    Fresh,
    /// So many milliseconds old.
    Old(u64),
    Changed,
}

/// The answers of one list. Shared; reading and writing need no lock.
pub struct KeyCache {
    rules: CacheRules,
    provider: Arc<str>,
    hasher: SipHasher24,
    known: Table<Known>,
    /// Whether there is something unusable.
    unknown: Table<bool>,
    /// How many changes each bucket of keys has seen.
    changes: Box<[AtomicU64]>,
    /// How often it began to be told of changes, times two; odd while it is told.
    watch: AtomicU64,
}

impl KeyCache {
    /// An empty one for the list of this name.
    pub fn new(name: &str, rules: CacheRules) -> Self {
        let [k0, k1] = [(); 2].map(|()| Uuid::new_v4().as_u64_pair().0);
        let buckets = rules.max_cached.clamp(1024, MAX_BUCKETS);
        Self {
            provider: Arc::from(name),
            hasher: SipHasher24::new_with_keys(k0, k1),
            known: Table::of(rules.max_cached),
            unknown: Table::of(rules.max_cached.min(MAX_UNKNOWN)),
            changes: (0..buckets.next_power_of_two())
                .map(|_| AtomicU64::new(0))
                .collect(),
            watch: AtomicU64::new(0),
            rules,
        }
    }

    /// The list's name.
    pub fn name(&self) -> &str {
        &self.provider
    }

    /// The keyed hash of a key.
    pub fn mark(&self, key: &[u8]) -> Mark {
        Mark(self.hasher.hash(key).as_u128())
    }

    /// What is remembered of a key.
    pub fn get(&self, mark: Mark, now_ms: u64, now_unix_s: u64) -> Memory {
        let known = self.known.with(mark, |entry| {
            let ttl = self.rules.ttl_ms;
            let good = match self.standing(&entry.ticket, ttl, now_ms) {
                Standing::Fresh => true,
                Standing::Old(age) if age < self.rules.max_stale_ms => false,
                Standing::Old(_) | Standing::Changed => return Memory::Nothing,
            };
            let Known { record, principal } = &entry.what;
            let may = usable(record.disabled, record.expires_unix_s, now_unix_s);
            let found = Found::Known(may.map(|()| Arc::clone(principal)));
            if good {
                Memory::Fresh(found)
            } else {
                Memory::Old(found)
            }
        });
        known
            .or_else(|| self.unknown(mark, now_ms))
            .unwrap_or(Memory::Nothing)
    }

    fn unknown(&self, mark: Mark, now_ms: u64) -> Option<Memory> {
        self.unknown.with(mark, |entry| {
            let ttl = self.rules.negative_ttl_ms;
            let found = if entry.what {
                Found::Unusable
            } else {
                Found::Unknown
            };
            match self.standing(&entry.ticket, ttl, now_ms) {
                Standing::Fresh => Memory::Fresh(found),
                // Nothing is said of a key that may have been made since.
                Standing::Old(_) | Standing::Changed => Memory::Nothing,
            }
        })
    }

    fn standing(&self, ticket: &Ticket, ttl_ms: u64, now_ms: u64) -> Standing {
        if self.changes[ticket.bucket as usize].load(Acquire) != ticket.changes {
            return Standing::Changed;
        }
        let watch = self.watch.load(Acquire);
        let age = now_ms.saturating_sub(ticket.at_ms);
        let watched = watch & 1 == 1;
        let ttl_ms = if watched {
            ttl_ms
        } else {
            ttl_ms.min(UNWATCHED_MS)
        };
        if watch >> 1 == ticket.epoch && age < ttl_ms {
            Standing::Fresh
        } else {
            Standing::Old(age)
        }
    }

    fn bucket(&self, digest: &KeyDigest) -> u32 {
        (digest.head() as usize & (self.changes.len() - 1)) as u32
    }

    /// To be drawn before it is asked for a key.
    pub fn ticket(&self, digest: &KeyDigest, now_ms: u64) -> Ticket {
        let bucket = self.bucket(digest);
        Ticket {
            bucket,
            changes: self.changes[bucket as usize].load(SeqCst),
            epoch: self.watch.load(SeqCst) >> 1,
            at_ms: now_ms,
        }
    }

    /// Whether nothing that is known of has changed the key since the ticket was drawn.
    pub fn holds(&self, ticket: &Ticket) -> bool {
        self.changes[ticket.bucket as usize].load(SeqCst) == ticket.changes
    }

    /// Remembers an answer.
    pub fn put(&self, mark: Mark, ticket: Ticket, answer: Answer) {
        let unusable = match answer {
            Answer::Known(record) => {
                // Whoever is confirmed stays the same: what is known of the caller besides holds on.
                let same = self.known.with(mark, |entry| {
                    let same = entry.what.record == record;
                    same.then(|| Arc::clone(&entry.what.principal))
                });
                let fresh = || Arc::new(record.principal(&self.provider));
                let principal = same.flatten().unwrap_or_else(fresh);
                let what = Known { record, principal };
                self.unknown.take_out(mark);
                self.known.put(Entry { mark, ticket, what });
                return;
            }
            Answer::Unknown => false,
            Answer::Unusable => true,
        };
        self.known.take_out(mark);
        let what = unusable;
        self.unknown.put(Entry { mark, ticket, what });
    }

    /// The key with this digest was changed.
    pub fn changed(&self, digest: &KeyDigest) {
        self.changes[self.bucket(digest) as usize].fetch_add(1, SeqCst);
    }

    /// Changes are told from now on; some may have been missed before.
    pub fn watching(&self) {
        let next = |watch: u64| Some(((watch >> 1) + 1) << 1 | 1);
        let _ = self.watch.fetch_update(SeqCst, SeqCst, next);
    }

    /// Changes are not told any more.
    pub fn lost(&self) {
        self.watch.fetch_and(!1, SeqCst);
    }

    /// How many known keys are remembered.
    pub fn count(&self) -> usize {
        self.known.held.load(Relaxed)
    }

    /// How many known keys were given up for lack of room.
    pub fn evicted(&self) -> u64 {
        self.known.evicted.load(Relaxed)
    }
}

/// One set. A place's tag is part of the hash of what it holds: it spares looking into places that
/// cannot match, and being out of step with the place only costs a miss.
struct Set<T> {
    tags: [AtomicU32; WAYS],
    places: [ArcSwapOption<Entry<T>>; WAYS],
}

struct Table<T> {
    sets: Box<[Set<T>]>,
    held: AtomicUsize,
    evicted: AtomicU64,
}

impl<T> Table<T> {
    /// Room for about so many: whole sets, and not more.
    fn of(capacity: usize) -> Self {
        let set = || Set {
            tags: std::array::from_fn(|_| AtomicU32::new(0)),
            places: std::array::from_fn(|_| ArcSwapOption::empty()),
        };
        Self {
            sets: (0..(capacity / WAYS).max(1)).map(|_| set()).collect(),
            held: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    fn set(&self, mark: Mark) -> (&Set<T>, u32) {
        (&self.sets[mark.spread(self.sets.len())], mark.0 as u32)
    }

    /// What `see` makes of the entry with this mark.
    fn with<R>(&self, mark: Mark, see: impl FnOnce(&Entry<T>) -> R) -> Option<R> {
        let (set, tag) = self.set(mark);
        for (own, place) in set.tags.iter().zip(&set.places) {
            if own.load(Relaxed) != tag {
                continue;
            }
            let entry = place.load();
            if let Some(entry) = entry.as_deref().filter(|entry| entry.mark == mark) {
                return Some(see(entry));
            }
        }
        None
    }

    /// Puts an entry where its key is already, else in a free place, else in place of the one that was
    /// confirmed the longest ago.
    fn put(&self, entry: Entry<T>) {
        let (set, tag) = self.set(entry.mark);
        let mut best = (u64::MAX, 0);
        for (way, place) in set.places.iter().enumerate() {
            let rank = match place.load().as_deref() {
                Some(old) if old.mark == entry.mark => {
                    best = (0, way);
                    break;
                }
                // Later than any free place.
                Some(old) => old.ticket.at_ms.saturating_add(1),
                None => 0,
            };
            if rank < best.0 {
                best = (rank, way);
            }
        }
        let mark = entry.mark;
        let old = set.places[best.1].swap(Some(Arc::new(entry)));
        set.tags[best.1].store(tag, Relaxed);
        match old {
            None => drop(self.held.fetch_add(1, Relaxed)),
            Some(old) if old.mark != mark => drop(self.evicted.fetch_add(1, Relaxed)),
            Some(_) => {}
        }
    }

    fn take_out(&self, mark: Mark) {
        let (set, _) = self.set(mark);
        for place in &set.places {
            let held = place.load();
            if held.as_deref().is_some_and(|entry| entry.mark == mark) {
                let old = place.compare_and_swap(&held, None);
                let ours = |old: &Arc<Entry<T>>| held.as_ref().is_some_and(|h| Arc::ptr_eq(h, old));
                if old.as_ref().is_some_and(ours) {
                    self.held.fetch_sub(1, Relaxed);
                }
            }
        }
    }
}
