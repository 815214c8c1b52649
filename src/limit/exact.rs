//! Exact counts of known clients in a bounded, lock-free table.
//!
//! **Where a client is counted.** A key has two buckets of eight cells, sixteen places in a fixed
//! order, and is counted in at most one of them: the cell that bears its 44-bit tag. Buckets and tag
//! come from different halves of a keyed 128-bit hash; what tells rules apart is mixed in, so rules
//! that read a cell differently may share a table. Two given keys share a count with a probability below 4 /
//! buckets × 2^-44 (2^-59 at a million keys); a new key meets a stranger's tag with one below 16 ×
//! 2^-44 = 2^-40. They would then share one limit until both have been idle for two windows.
//!
//! **A decision** reads the client's cell, applies the rule and compare-exchanges the new counts in;
//! if the cell has changed, it starts over. As all counts of a key are in one cell, decisions on it
//! happen one after another: of any number of threads, exactly as many requests pass as the rule
//! allows. A refused request writes nothing.
//!
//! **Idle clients cost nothing.** A cell whose window is two behind weighs nothing, so it is free for
//! anyone, without a sweep and without loss. If all sixteen cells of a new key are in use, the one
//! with the fewest requests goes: its client starts again from zero, which [`Store::evictions`]
//! counts. So a flood of made-up keys (one request each) pushes out itself, not the clients that are
//! being held. The table has 1.6 cells for each of `max_keys`, so below that next to nobody is
//! evicted.
//!
//! **Claiming a cell** must not leave a key with two. A new key's cell is first *claimed* (its tag
//! and a serial number, no counts) and becomes counting only when a thread that saw that very claim
//! has then read all other fifteen places and found the key in none. What it finds there decides:
//! counts elsewhere void the claim; of two claims the later place is voided. Any thread of the key
//! may do this, so none waits for another; the one that claims always does, so no claim is left
//! behind. Why two places, a and b, can never both be counting: say a began to count first, then b,
//! and a still did. The thread that confirmed b read a after b was claimed, and a held nothing; so a
//! was claimed after that, hence after b was. The thread that confirmed a read b after a was claimed
//! and before b began to count: it saw b's claim, voided it, and so b could never be confirmed
//! (serials do not repeat), or did not confirm a. All cell accesses are `SeqCst`, which gives the
//! "after" of this argument one meaning for all threads.
//!
//! On x86-64 with `cmpxchg16b` and on `AArch64` the cells are lock-free; elsewhere `portable_atomic`
//! stands in with a lock, and all of this stays true but the speed.

mod heir;
#[cfg(test)]
mod tests;

pub use heir::{Cell, FORMAT};

use super::cell::{Packed, Word};
use super::heir::Given;
use super::quota::Quota;
use super::rule::Rule;
use super::{Decision, Fault, Key};
use portable_atomic::AtomicU128;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// The largest `max_keys`, 2^30.
pub const MAX_KEYS: u64 = 1 << 30;

const WAYS: usize = 8;
const PLACES: usize = 2 * WAYS;
/// Keys a bucket is meant to hold: five of eight, so that both buckets of a key are hardly ever full.
const KEYS_PER_BUCKET: u64 = 5;
const SEGMENT_BUCKETS: usize = 32;
/// A new key goes to its first bucket as long as that has so many free cells: found sooner later.
const ROOMY: usize = 4;

/// Eight cells on two cache lines.
#[repr(align(128))]
struct Bucket([AtomicU128; WAYS]);

/// 4 KiB of buckets, made when the first of them is needed.
type Segment = OnceLock<Box<[Bucket; SEGMENT_BUCKETS]>>;

/// The table; see the head of this file.
pub struct Store {
    segments: Box<[Segment]>,
    buckets: u64,
    serial: AtomicU64,
    evictions: AtomicU64,
    given: Given,
}

/// A key as this table and this rule see it.
struct Lookup<'a> {
    rule: &'a Rule,
    now_ms: u64,
    cost: u32,
    tag: u64,
    buckets: [u64; 2],
}

/// Where a key was found and what its cell held.
struct Found<'a> {
    cell: &'a AtomicU128,
    place: usize,
    word: Word,
}

impl Store {
    /// A table for `max_keys` (1 to [`MAX_KEYS`]) clients active within two windows. Memory grows with
    /// use, up to [`Store::memory_bytes`].
    ///
    /// # Errors
    /// [`Fault::MaxKeys`] if out of range.
    pub fn new(max_keys: u64) -> Result<Self, Fault> {
        if !(1..=MAX_KEYS).contains(&max_keys) {
            return Err(Fault::MaxKeys(max_keys));
        }
        let buckets = bucket_count(max_keys);
        let segments = buckets.div_ceil(SEGMENT_BUCKETS as u64);
        Ok(Self {
            segments: (0..segments).map(|_| Segment::new()).collect(),
            buckets,
            serial: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            given: Given::default(),
        })
    }

    /// The most memory a table for so many keys takes, in bytes.
    pub fn memory_bytes(max_keys: u64) -> u64 {
        let segments = bucket_count(max_keys).div_ceil(SEGMENT_BUCKETS as u64);
        let buckets = size_of::<[Bucket; SEGMENT_BUCKETS]>() as u64;
        segments * (size_of::<Segment>() as u64 + buckets)
    }

    /// Decides one request of `cost` and counts it if it is allowed. Linearizable: concurrent calls for one
    /// key admit what the rule would admit one after another. `now_ms` is steady Unix time.
    pub fn check(&self, rule: &Rule, key: &Key, now_ms: u64, cost: u32) -> Decision {
        if let Some(decision) = self.given.decide(|| Quota::Rule(*rule), key, cost, true) {
            return decision;
        }
        let lookup = self.lookup(rule, key, now_ms, cost);
        loop {
            let decided = match self.find(&lookup) {
                Some(found) if found.word.is_claim() => self.confirm(&lookup, &found),
                Some(found) => lookup.count(&found),
                None => self.begin(&lookup),
            };
            if let Some(decision) = decided {
                return decision;
            }
            std::hint::spin_loop();
        }
    }

    /// What [`Store::check`] would say, counting nothing and making no room.
    pub fn peek(&self, rule: &Rule, key: &Key, now_ms: u64, cost: u32) -> Decision {
        if let Some(decision) = self.given.decide(|| Quota::Rule(*rule), key, cost, false) {
            return decision;
        }
        let lookup = self.lookup(rule, key, now_ms, cost);
        let counting = self.find(&lookup).filter(|found| !found.word.is_claim());
        let kept = counting.map(|found| found.word.packed(now_ms / 1000));
        lookup.decide(kept.unwrap_or_default()).1
    }

    /// Clients in use whose cell was taken away for a new one because the table was full there; each
    /// started again from zero. A rising figure asks for a larger `max_keys`.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// The memory the table takes now, in bytes; at most [`Store::memory_bytes`].
    pub fn memory_used(&self) -> u64 {
        let made = self.segments.iter().filter_map(Segment::get).count();
        let buckets = made * size_of::<[Bucket; SEGMENT_BUCKETS]>();
        (size_of_val::<[Segment]>(&self.segments) + buckets) as u64
    }

    /// How many clients are counted at `now_ms`. Reads the whole table: for a metric, not for requests.
    pub fn live_keys(&self, now_ms: u64) -> u64 {
        let made = self.segments.iter().filter_map(Segment::get);
        let cells = made.flat_map(|buckets| buckets.iter().flat_map(|bucket| &bucket.0));
        let live = cells.filter(|cell| !read(cell).is_vacant(now_ms / 1000));
        live.count() as u64
    }

    fn lookup<'a>(&self, rule: &'a Rule, key: &Key, now_ms: u64, cost: u32) -> Lookup<'a> {
        // Odd, so that different windows differ in the low bits and with them in the tag.
        let mix = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let hash = key.bits() ^ rule.salt().wrapping_mul(mix);
        let scale = |bits: u128| (u64::from(bits as u32) * self.buckets) >> 32;
        let (first, second) = (scale(hash >> 96), scale(hash >> 64));
        let second = if first == second {
            (first + 1) % self.buckets
        } else {
            second
        };
        Lookup {
            rule,
            now_ms,
            cost,
            tag: Word::tag_of(hash),
            buckets: [first, second],
        }
    }

    /// The first place that bears the key's tag. Segments not made yet hold nobody.
    fn find(&self, lookup: &Lookup) -> Option<Found<'_>> {
        for (half, bucket) in lookup.buckets.iter().enumerate() {
            let Some(segment) = self.segments[*bucket as usize / SEGMENT_BUCKETS].get() else {
                continue;
            };
            let cells = &segment[*bucket as usize % SEGMENT_BUCKETS].0;
            for (way, cell) in cells.iter().enumerate() {
                let word = read(cell);
                if word.tag() == lookup.tag {
                    let place = half * WAYS + way;
                    return Some(Found { cell, place, word });
                }
            }
        }
        None
    }

    /// Both buckets of the key, made if need be: what confirms a claim must read real cells.
    fn both(&self, lookup: &Lookup) -> [&[AtomicU128; WAYS]; 2] {
        lookup.buckets.map(|bucket| {
            let segment = self.segments[bucket as usize / SEGMENT_BUCKETS].get_or_init(made);
            &segment[bucket as usize % SEGMENT_BUCKETS].0
        })
    }

    /// Claims a cell for a key that has none and counts there, unless another thread is at it too. A
    /// request that costs more than the limit is refused without a cell.
    fn begin(&self, lookup: &Lookup) -> Option<Decision> {
        let (_, decision) = lookup.decide(Packed::default());
        if !lookup.counts(&decision) {
            return Some(decision);
        }
        let cells = self.both(lookup);
        let words = cells.map(|bucket| bucket.each_ref().map(read));
        if words.as_flattened().iter().any(|w| w.tag() == lookup.tag) {
            return None;
        }
        let place = lookup.choose(&words);
        let (cell, old) = (
            &cells[place / WAYS][place % WAYS],
            words[place / WAYS][place % WAYS],
        );
        let claim = Word::claim(lookup.tag, self.serial.fetch_add(1, Relaxed));
        if !exchange(cell, old, claim) {
            return None;
        }
        if !old.is_vacant(lookup.now_ms / 1000) && !old.is_claim() {
            self.evictions.fetch_add(1, Relaxed);
        }
        // At once and by this thread: whoever claims sees to it that the claim ends.
        let word = claim;
        self.confirm(lookup, &Found { cell, place, word })
    }

    /// Brings a claim seen by this thread to an end: void, or counting with this request counted first.
    fn confirm(&self, lookup: &Lookup, found: &Found) -> Option<Decision> {
        let (kept, decision) = lookup.decide(Packed::default());
        if !lookup.counts(&decision) {
            return Some(decision);
        }
        let cells = self.both(lookup);
        for place in (0..PLACES).filter(|place| *place != found.place) {
            let other = &cells[place / WAYS][place % WAYS];
            let word = read(other);
            if word.tag() != lookup.tag {
                continue;
            }
            if place < found.place || !word.is_claim() {
                exchange(found.cell, found.word, Word::EMPTY);
                return None;
            }
            if !exchange(other, word, Word::EMPTY) {
                return None;
            }
        }
        let counting = Word::kept(lookup.tag, kept);
        exchange(found.cell, found.word, counting).then_some(decision)
    }
}

impl Lookup<'_> {
    /// Whether anything is to be written: a refused request leaves everything as it was, and so does one
    /// that costs nothing.
    fn counts(&self, decision: &Decision) -> bool {
        decision.allowed && self.cost > 0
    }

    fn decide(&self, kept: Packed) -> (Packed, Decision) {
        self.rule.decide(kept, self.now_ms, self.cost)
    }

    /// Decides on the key's own cell; `None` if it has changed meanwhile.
    fn count(&self, found: &Found) -> Option<Decision> {
        let before = found.word.packed(self.now_ms / 1000);
        let (after, decision) = self.decide(before);
        if !self.counts(&decision) {
            return Some(decision);
        }
        let word = Word::kept(self.tag, after);
        exchange(found.cell, found.word, word).then_some(decision)
    }

    /// Where a new key goes: to a free cell, of the first bucket while it is roomy, else of the emptier
    /// one; with none free, over the one that has used least. A claim is hardly ever taken.
    fn choose(&self, words: &[[Word; WAYS]; 2]) -> usize {
        let now_s = self.now_ms / 1000;
        let free = words.map(|bucket| bucket.iter().filter(|w| w.is_vacant(now_s)).count());
        let half = usize::from(free[0] < ROOMY && free[0] < free[1]);
        let way = words[half].iter().position(|w| w.is_vacant(now_s));
        if let Some(way) = way {
            return half * WAYS + way;
        }
        let used = |word: Word| self.rule.weight(word.packed(now_s), self.now_ms);
        let weight = |word: Word| {
            if word.is_claim() {
                u64::MAX
            } else {
                used(word)
            }
        };
        let words = words.as_flattened();
        let least = (0..PLACES).min_by_key(|place| weight(words[*place]));
        least.unwrap_or(0)
    }
}

fn made() -> Box<[Bucket; SEGMENT_BUCKETS]> {
    let cells = || std::array::from_fn(|_| AtomicU128::new(0));
    Box::new(std::array::from_fn(|_| Bucket(cells())))
}

fn read(cell: &AtomicU128) -> Word {
    Word(cell.load(SeqCst))
}

fn exchange(cell: &AtomicU128, old: Word, new: Word) -> bool {
    cell.compare_exchange(old.0, new.0, SeqCst, SeqCst).is_ok()
}

/// At least two, so that every key has two different buckets.
fn bucket_count(max_keys: u64) -> u64 {
    max_keys.div_ceil(KEYS_PER_BUCKET).max(2)
}
