//! Estimated counts for keys that anybody can make up (client addresses, unknown API keys).
//!
//! A count-min sketch of fixed size: no number of keys makes it grow, and none is ever evicted. The price
//! is that a client's count may include requests of others, never fewer than its own: it may be refused
//! early. [`Estimator::error_bound`] says how much; the sketch is sized so that it does not matter for
//! the declared number of clients.
//!
//! **Refused requests count here** (unlike in the exact store): a client that keeps hammering stays refused
//! until it slows down. The verdict rests on the value that the counting itself returned, not on a second
//! look. As a count stands in four places that are not changed at one stroke, threads at work on
//! one client at the same instant may be given the same value: at most one request too many for each such
//! thread passes.
//!
//! Three sketches take turns: this window, the one before and one already cleared for the next.
//! `pingora_limits::rate::Rate` would keep two and its own clock; with that, a thread that reads the clock
//! before another resets the pair can wipe both (or panic, for windows under 1 s), and windows could
//! not be aligned to the steady clock by which everything else here is judged.

use super::sliding_window::{SlidingWindow, State};
use super::{Decision, Fault, Key};
use pingora_limits::estimator::Estimator as Sketch;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// The largest `expected_clients`, ten million (1.3 GB).
pub const MAX_CLIENTS: u64 = 10_000_000;

const HASHES: u64 = 4;
const SKETCHES: u64 = 3;
const MIN_SLOTS: u64 = 1024;

/// A sliding-window limit over an open key space; see the head of this file.
pub struct Estimator {
    rule: SlidingWindow,
    sketches: [Sketch; SKETCHES as usize],
    /// A packed [`Turn`].
    turn: AtomicU64,
    /// Held by the thread that turns; the others go on counting meanwhile.
    turning: AtomicBool,
}

/// Which sketch counts now.
#[derive(Clone, Copy)]
struct Turn {
    /// Windows since the Unix epoch.
    window: u64,
    /// Whether the sketch before this one counted the window just before.
    adjacent: bool,
    sketch: u64,
}

impl Estimator {
    /// Estimates for about `expected_clients` (1 to [`MAX_CLIENTS`]) clients in a window.
    ///
    /// # Errors
    /// [`Fault::Clients`] if out of range.
    pub fn new(rule: SlidingWindow, expected_clients: u64) -> Result<Self, Fault> {
        if !(1..=MAX_CLIENTS).contains(&expected_clients) {
            return Err(Fault::Clients(expected_clients));
        }
        let slots = slots(expected_clients) as usize;
        Ok(Self {
            rule,
            sketches: std::array::from_fn(|_| Sketch::new(HASHES as usize, slots)),
            turn: AtomicU64::new(0),
            turning: AtomicBool::new(false),
        })
    }

    /// The limit it enforces.
    pub fn rule(&self) -> &SlidingWindow {
        &self.rule
    }

    /// Memory for so many expected clients, in bytes; taken at once, and all there ever is.
    pub fn memory_bytes(expected_clients: u64) -> u64 {
        SKETCHES * HASHES * slots(expected_clients) * size_of::<isize>() as u64
    }

    /// How far a count may be off under a limit for so many clients, in words, for `check`.
    pub fn error_bound(limit: u64, clients: u64) -> String {
        let total = clients.saturating_mul(limit) / 4;
        let off = std::f64::consts::E * total as f64 / slots(clients) as f64;
        format!(
            "a client's count may include up to {off:.0} requests of others (limit {limit}, certainty 98 %) \
             while all clients together send at most {total} in a window \
             ({clients} clients at a quarter of the limit); more traffic raises this in proportion"
        )
    }

    /// Counts one request of `cost` and decides it. A refused request stays counted, and `retry_after_ms`
    /// takes it into account. `now_ms` is steady Unix time.
    pub fn check(&self, key: &Key, now_ms: u64, cost: u32) -> Decision {
        let turn = self.turn(now_ms);
        let sketch = &self.sketches[turn.sketch as usize];
        let counted = sketch.incr(key.bits(), cost.try_into().unwrap_or(isize::MAX));
        let after = self.state(key, turn, counted);
        let before = State {
            curr: after.curr.saturating_sub(cost),
            ..after
        };
        let (_, mut decision) = self.rule.decide(before, now_ms, cost);
        if !decision.allowed {
            decision.retry_after_ms = self.rule.wait(after, now_ms, cost);
        }
        decision
    }

    /// What is known of a key, counting nothing: a decision on one more request of `cost`.
    pub fn peek(&self, key: &Key, now_ms: u64, cost: u32) -> Decision {
        let turn = self.turn(now_ms);
        let counted = self.sketches[turn.sketch as usize].get(key.bits());
        let state = self.state(key, turn, counted);
        self.rule.decide(state, now_ms, cost).1
    }

    fn state(&self, key: &Key, turn: Turn, counted: isize) -> State {
        let before = (turn.sketch as usize + 2) % 3;
        let prev = turn
            .adjacent
            .then(|| count(self.sketches[before].get(key.bits())));
        State {
            start_ms: turn.window * self.rule.window_ms(),
            prev: prev.unwrap_or(0),
            curr: count(counted),
        }
    }

    /// The sketch to count in; if a window has begun, the next one, which was cleared before.
    ///
    /// One thread turns, and clears the sketch after next when all others already count in the new one.
    /// Until it is done nobody turns again: should that ever take a whole window, the rule treats the
    /// old window's count as what it is.
    fn turn(&self, now_ms: u64) -> Turn {
        let window = now_ms / self.rule.window_ms();
        let turn = Turn::unpack(self.turn.load(Acquire));
        if window <= turn.window || self.turning.swap(true, AcqRel) {
            return turn;
        }
        let mut turn = Turn::unpack(self.turn.load(Acquire));
        if window > turn.window {
            turn = Turn {
                window,
                adjacent: window == turn.window + 1,
                sketch: (turn.sketch + 1) % SKETCHES,
            };
            self.turn.store(turn.pack(), Release);
            self.sketches[(turn.sketch as usize + 1) % 3].reset();
        }
        self.turning.store(false, Release);
        turn
    }
}

impl Turn {
    fn pack(self) -> u64 {
        self.window << 3 | u64::from(self.adjacent) << 2 | self.sketch
    }

    fn unpack(bits: u64) -> Self {
        Self {
            window: bits >> 3,
            adjacent: bits & 4 != 0,
            sketch: bits & 3,
        }
    }
}

/// Counters per hash. The error of a count is `e / slots × N` for N requests in all; N is a quarter of the
/// limit for each client, the error half of the limit.
fn slots(expected_clients: u64) -> u64 {
    let slots = std::f64::consts::E / 2.0 * expected_clients as f64;
    (slots.ceil() as u64).max(MIN_SLOTS)
}

/// A sketch's count; one that overflowed reads as more than any limit.
fn count(value: isize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_040_000;

    fn key(n: u64) -> Key {
        Key::new(7, &[&n.to_le_bytes()])
    }

    fn estimator(limit: u64, clients: u64) -> Estimator {
        Estimator::new(SlidingWindow::new(limit, 60_000).unwrap(), clients).unwrap()
    }

    #[test]
    fn allows_the_limit_and_weighs_the_window_before() {
        let flood = estimator(100, 1000);
        for left in (0..100).rev() {
            let decision = flood.check(&key(1), NOW, 1);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, left);
        }
        assert!(!flood.check(&key(1), NOW, 1).allowed);
        assert!(flood.check(&key(2), NOW, 1).allowed);
        // 101 counted before, three quarters through: 25.25 used.
        let decision = flood.check(&key(1), NOW + 105_000, 1);
        assert_eq!((decision.allowed, decision.remaining), (true, 74));
        assert_eq!(decision.reset_ms, NOW + 120_000);
        let decision = flood.check(&key(1), NOW + 300_000, 1);
        assert_eq!(decision.remaining, 99, "an idle gap is forgotten");
    }

    #[test]
    fn refused_requests_count_and_the_wait_is_exact() {
        let flood = estimator(10, 1000);
        let last = (0..20)
            .map(|_| flood.check(&key(1), NOW, 1))
            .last()
            .unwrap();
        assert!(!last.allowed);
        // 20 counted: next window, once 20 × left < 10.
        let wait = 60_000 + 60_000 / 2 + 1;
        assert_eq!(last.retry_after_ms, wait);
        let early = estimator(10, 1000);
        for _ in 0..20 {
            early.check(&key(1), NOW, 1);
        }
        assert!(!early.check(&key(1), NOW + wait - 1, 1).allowed);
        assert!(flood.check(&key(1), NOW + wait, 1).allowed);
    }

    #[test]
    fn sketches_take_turns_for_many_windows() {
        let flood = estimator(10, 1000);
        for window in 0..20 {
            let now = NOW + window * 180_000;
            for _ in 0..10 {
                assert!(flood.check(&key(1), now, 1).allowed, "window {window}");
            }
            assert!(!flood.check(&key(1), now + 60_000, 1).allowed);
        }
    }

    #[test]
    fn an_earlier_clock_reading_counts_in_the_newer_window() {
        let flood = estimator(2, 1000);
        assert!(flood.check(&key(1), NOW, 1).allowed);
        assert!(flood.check(&key(1), NOW - 1, 1).allowed);
        assert!(!flood.check(&key(1), NOW - 1, 1).allowed);
        assert!(!flood.check(&key(1), NOW, 1).allowed);
    }

    #[test]
    fn expected_clients_at_a_quarter_of_the_limit_are_not_refused() {
        let flood = estimator(8, 20_000);
        for n in (0..20_000).chain(0..20_000) {
            assert!(flood.check(&key(n), NOW, 1).allowed, "client {n}");
        }
    }

    #[test]
    fn racing_threads_admit_hardly_more_than_the_limit() {
        let flood = estimator(1000, 1000);
        let admitted: usize = std::thread::scope(|scope| {
            let ask = || {
                (0..1000)
                    .filter(|_| flood.check(&key(1), NOW, 1).allowed)
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert!((1000..1004).contains(&admitted), "{admitted} of 1000");
    }

    #[test]
    fn says_how_far_off_it_may_be() {
        let flood = estimator(1000, 100_000);
        assert_eq!(
            Estimator::error_bound(1000, 100_000),
            "a client's count may include up to 500 requests of others (limit 1000, certainty 98 %) \
             while all clients together send at most 25000000 in a window (100000 clients at a quarter of \
             the limit); more traffic raises this in proportion"
        );
        assert_eq!(Estimator::memory_bytes(100_000), 3 * 4 * 135_915 * 8);
        assert!(Estimator::new(*flood.rule(), 0).is_err());
    }
}
