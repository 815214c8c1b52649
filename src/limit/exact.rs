//! Exact counts of known clients in a bounded, lock-free table.
//!
//! **Where a client is counted.** A key has two buckets of eight cells, sixteen places in a fixed
//! order, and is counted in at most one of them: the cell that bears its 44-bit tag. Buckets and tag
//! come from different halves of a keyed 128-bit hash; the window's length is mixed in, so rules with
//! different windows may share a table. Two given keys share a count with a probability below 4 /
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

use super::cell::Word;
use super::sliding_window::{SlidingWindow, State};
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
}

/// A key as this table and this rule see it.
struct Lookup<'a> {
    rule: &'a SlidingWindow,
    window_s: u64,
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
    pub fn check(&self, rule: &SlidingWindow, key: &Key, now_ms: u64, cost: u32) -> Decision {
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
    pub fn peek(&self, rule: &SlidingWindow, key: &Key, now_ms: u64, cost: u32) -> Decision {
        let lookup = self.lookup(rule, key, now_ms, cost);
        let counting = self.find(&lookup).filter(|found| !found.word.is_claim());
        let state = counting.map(|found| found.word.state(now_ms / 1000, lookup.window_s));
        lookup.decide(state.unwrap_or_default()).1
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

    fn lookup<'a>(&self, rule: &'a SlidingWindow, key: &Key, now_ms: u64, cost: u32) -> Lookup<'a> {
        let window_s = rule.window_ms() / 1000;
        // Odd, so that different windows differ in the low bits and with them in the tag.
        let mix = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let hash = key.bits() ^ u128::from(window_s).wrapping_mul(mix);
        let scale = |bits: u128| (u64::from(bits as u32) * self.buckets) >> 32;
        let (first, second) = (scale(hash >> 96), scale(hash >> 64));
        let second = if first == second {
            (first + 1) % self.buckets
        } else {
            second
        };
        Lookup {
            rule,
            window_s,
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
            let segment = self.segments[bucket as usize / SEGMENT_BUCKETS].get_or_init(|| {
                Box::new(std::array::from_fn(|_| {
                    Bucket(std::array::from_fn(|_| AtomicU128::new(0)))
                }))
            });
            &segment[bucket as usize % SEGMENT_BUCKETS].0
        })
    }

    /// Claims a cell for a key that has none and counts there, unless another thread is at it too. A
    /// request that costs more than the limit is refused without a cell.
    fn begin(&self, lookup: &Lookup) -> Option<Decision> {
        let (_, decision) = lookup.decide(State::default());
        if !decision.allowed {
            return Some(decision);
        }
        let cells = self.both(lookup);
        let words = cells.map(|bucket| bucket.each_ref().map(read));
        if words.as_flattened().iter().any(|w| w.tag() == lookup.tag) {
            return None;
        }
        let place = choose(&words, lookup.now_ms / 1000);
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
        let (state, decision) = lookup.decide(State::default());
        if !decision.allowed {
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
        let counting = Word::counts(lookup.tag, lookup.window_s, state);
        exchange(found.cell, found.word, counting).then_some(decision)
    }
}

impl Lookup<'_> {
    fn decide(&self, state: State) -> (State, Decision) {
        self.rule.decide(state, self.now_ms, self.cost)
    }

    /// Decides on the key's own cell; `None` if it has changed meanwhile.
    fn count(&self, found: &Found) -> Option<Decision> {
        let before = found.word.state(self.now_ms / 1000, self.window_s);
        let (after, decision) = self.decide(before);
        if !decision.allowed {
            return Some(decision);
        }
        let word = Word::counts(self.tag, self.window_s, after);
        exchange(found.cell, found.word, word).then_some(decision)
    }
}

/// Where a new key goes: to a free cell, of the first bucket while it is roomy, else of the emptier one;
/// with none free, over the least counted cell.
fn choose(words: &[[Word; WAYS]; 2], now_s: u64) -> usize {
    let free = words.map(|bucket| bucket.iter().filter(|w| w.is_vacant(now_s)).count());
    let half = usize::from(free[0] < ROOMY && free[0] < free[1]);
    let way = words[half].iter().position(|w| w.is_vacant(now_s));
    if let Some(way) = way {
        return half * WAYS + way;
    }
    let words = words.as_flattened();
    let least = (0..PLACES).min_by_key(|place| words[*place].weight());
    least.unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    const NOW: u64 = 1_700_000_000_000;

    fn key(n: u64) -> Key {
        Key::new(1, &[&n.to_le_bytes()])
    }

    fn rule(limit: u64, seconds: u64) -> SlidingWindow {
        SlidingWindow::new(limit, seconds * 1000).unwrap()
    }

    #[test]
    fn a_peek_says_what_a_check_would_and_counts_nothing() {
        let (store, rule) = (Store::new(100).unwrap(), rule(2, 60));
        assert_eq!(store.peek(&rule, &key(1), NOW, 1).remaining, 1);
        assert_eq!(store.live_keys(NOW), 0);
        for left in [1, 0] {
            let peeked = store.peek(&rule, &key(1), NOW, 1);
            assert_eq!(peeked, store.check(&rule, &key(1), NOW, 1));
            assert_eq!(peeked.remaining, left);
        }
        assert_eq!(store.peek(&rule, &key(1), NOW, 0).remaining, 0);
        let refused = store.peek(&rule, &key(1), NOW, 1);
        assert!(!refused.allowed);
        assert_eq!(refused, store.check(&rule, &key(1), NOW, 1));
    }

    #[test]
    fn counts_each_key_and_each_window_length_alone() {
        let store = Store::new(100).unwrap();
        for (rule, n) in [(rule(3, 60), 1), (rule(3, 60), 2), (rule(3, 10), 1)] {
            for left in [2, 1, 0] {
                let decision = store.check(&rule, &key(n), NOW, 1);
                assert!(decision.allowed);
                assert_eq!(decision.remaining, left);
            }
            assert!(!store.check(&rule, &key(n), NOW, 1).allowed);
        }
        assert_eq!(store.live_keys(NOW), 3);
        assert_eq!(store.live_keys(NOW + 20_000), 2);
        assert_eq!(store.live_keys(NOW + 120_000), 0);
    }

    #[test]
    fn a_changed_limit_takes_over_the_counts() {
        let store = Store::new(100).unwrap();
        for _ in 0..10 {
            assert!(store.check(&rule(10, 60), &key(1), NOW, 1).allowed);
        }
        assert!(!store.check(&rule(5, 60), &key(1), NOW, 1).allowed);
        let decision = store.check(&rule(20, 60), &key(1), NOW, 1);
        assert_eq!((decision.allowed, decision.remaining), (true, 9));
    }

    #[test]
    fn a_request_that_can_never_pass_takes_no_cell() {
        let store = Store::new(100).unwrap();
        let decision = store.check(&rule(10, 60), &key(1), NOW, 11);
        assert_eq!(decision.retry_after_ms, Decision::NEVER);
        assert_eq!(store.live_keys(NOW), 0);
    }

    #[test]
    fn a_full_table_lets_the_least_counted_go() {
        let store = Store::new(1).unwrap();
        assert_eq!(store.buckets, 2);
        let rule = rule(10, 60);
        for _ in 0..10 {
            store.check(&rule, &key(0), NOW, 1);
        }
        for n in 1..=1000 {
            assert!(store.check(&rule, &key(n), NOW, 1).allowed);
        }
        assert_eq!(store.evictions(), 1001 - 16);
        assert_eq!(store.live_keys(NOW), 16);
        assert!(
            !store.check(&rule, &key(0), NOW, 1).allowed,
            "the client that was being held got away"
        );
    }

    #[test]
    fn idle_cells_are_taken_without_an_eviction() {
        let store = Store::new(1).unwrap();
        for round in 0..50 {
            for n in 0..16 {
                let now = NOW + round * 20_000;
                assert!(
                    store
                        .check(&rule(1, 10), &key(round * 16 + n), now, 1)
                        .allowed
                );
            }
        }
        assert_eq!(store.evictions(), 0);
    }

    #[test]
    fn holds_max_keys() {
        let store = Store::new(60_000).unwrap();
        for n in 0..60_000 {
            store.check(&rule(10, 60), &key(n), NOW, 1);
        }
        assert!(store.evictions() < 6, "{} evictions", store.evictions());
    }

    #[test]
    fn memory_grows_with_use_and_is_bounded() {
        let store = Store::new(1_000_000).unwrap();
        assert!(store.memory_used() < 101_000);
        store.check(&rule(1, 60), &key(1), NOW, 1);
        assert!(store.memory_used() < 110_000);
        assert_eq!(size_of::<Bucket>(), 128);
        assert!(
            Store::memory_bytes(1_000_000) < 25 << 20,
            "more than 25 MiB"
        );
        assert_eq!(Store::new(0).err(), Some(Fault::MaxKeys(0)));
        assert!(Store::new(MAX_KEYS + 1).is_err());
    }

    /// Leftover claims, as a stalled thread would leave them, in every order: the key is counted once.
    #[test]
    fn stray_claims_are_brought_to_an_end() {
        for (a, b) in [(0, 5), (5, 0), (2, 12), (12, 2), (9, 15)] {
            let store = Store::new(1).unwrap();
            let rule = rule(3, 60);
            let lookup = store.lookup(&rule, &key(1), NOW, 1);
            for (serial, place) in [(100, a), (101, b)] {
                let cell = &store.both(&lookup)[place / WAYS][place % WAYS];
                cell.store(Word::claim(lookup.tag, serial).0, SeqCst);
            }
            let passed = (0..9).filter(|_| store.check(&rule, &key(1), NOW, 1).allowed);
            assert_eq!(passed.count(), 3);
            assert_eq!(store.live_keys(NOW), 1, "a claim was left behind");
        }
    }

    /// Counts and a claim at once: the claim goes.
    #[test]
    fn counts_void_a_claim() {
        for place in [0, 3, 15] {
            let store = Store::new(1).unwrap();
            let rule = rule(3, 60);
            let lookup = store.lookup(&rule, &key(1), NOW, 1);
            let cells = store.both(&lookup);
            let state = State {
                start_ms: NOW - NOW % 60_000,
                prev: 0,
                curr: 2,
            };
            cells[0][7].store(Word::counts(lookup.tag, 60, state).0, SeqCst);
            cells[place / WAYS][place % WAYS].store(Word::claim(lookup.tag, 1).0, SeqCst);
            let passed = (0..9).filter(|_| store.check(&rule, &key(1), NOW, 1).allowed);
            assert_eq!(passed.count(), 1, "claim at {place}");
        }
    }

    #[test]
    fn threads_that_race_for_new_keys_admit_exactly_the_limit() {
        const THREADS: usize = 8;
        for round in 0..300 {
            let (store, rule) = (Store::new(1).unwrap(), rule(5, 60));
            // Half of the cells taken by idle clients, so that the place to claim is not always the first.
            for n in 0..round % 16 {
                store.check(&rule, &key(1_000_000 + n), NOW - 120_000, 1);
            }
            let barrier = Barrier::new(THREADS);
            let admit = |by: u64| {
                barrier.wait();
                (0..4 * 4)
                    .filter(|i| store.check(&rule, &key((i + by) % 4), NOW, 1).allowed)
                    .count()
            };
            let admitted: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS as u64)
                    .map(|by| scope.spawn(move || admit(by)))
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).sum()
            });
            assert_eq!(admitted, 4 * 5, "round {round}");
            assert_eq!(store.live_keys(NOW), 4, "round {round}");
        }
    }
}
