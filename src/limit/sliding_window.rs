//! The sliding-window rule: at most `limit` requests in any window, judged by two counters.
//!
//! Windows are aligned to the Unix epoch. The estimate of the last window's length of time is
//! `prev × (1 − progress) + curr`, where `prev` is the count of the window before, taken to be
//! spread evenly over it, and `progress` how much of the current window has passed. A request is
//! refused if the estimate has reached the limit, and is then not counted; one of a cost above 1 is
//! refused where the last of so many single requests would be.
//!
//! All arithmetic is on whole numbers and exact. As counts and limit are whole,
//! `prev × left / window + curr < limit` holds if and only if it holds with the first term rounded
//! down; that term's product stays below 2^63 (counts under 2^28, windows under 2^35 ms).

use super::cell::Packed;
use super::{Decision, Fault, MAX_LIMIT, check_rate};

/// A limit of so many requests in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    limit: u64,
    window_ms: u64,
}

/// What is known of one client: the window it was last seen in, the count of that window and
/// of the one before. The default is a client never seen. Counts over [`MAX_LIMIT`] are read as that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Start of the window that `curr` counts, in Unix milliseconds, a multiple of the window.
    pub start_ms: u64,
    /// Requests let through in the window before.
    pub prev: u32,
    /// Requests let through in this window.
    pub curr: u32,
}

impl SlidingWindow {
    /// A limit of `limit` requests (1 to [`MAX_LIMIT`]) in `window_ms` milliseconds (whole seconds, 1 s
    /// to 366 days).
    ///
    /// # Errors
    /// [`Fault::Limit`] or [`Fault::Window`] if out of these ranges.
    pub fn new(limit: u64, window_ms: u64) -> Result<Self, Fault> {
        check_rate(limit, window_ms)?;
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

    /// Decides one request of the given cost at `now_ms` (steady Unix milliseconds) and returns what is
    /// then known of the client; a refused request adds nothing.
    ///
    /// A state two windows old counts for nothing. If `now_ms` lies before the state's window (a
    /// thread that read the clock earlier), the request is judged and counted at that window's start.
    pub fn decide(&self, state: State, now_ms: u64, cost: u32) -> (State, Decision) {
        let state = self.roll(state, now_ms);
        let at_ms = now_ms.max(state.start_ms);
        let (used, price) = (self.used(state, at_ms), u64::from(cost));
        let allowed = used + price <= self.limit;
        let (counted, wait_ms) = if allowed {
            (price, 0)
        } else {
            (0, self.wait(state, now_ms, cost))
        };
        let after = State {
            curr: state.curr + counted as u32,
            ..state
        };
        let decision = Decision {
            allowed,
            limit: self.limit,
            remaining: self.limit.saturating_sub(used + counted),
            reset_ms: state.start_ms + self.window_ms,
            retry_after_ms: wait_ms,
            delay_ms: 0,
        };
        (after, decision)
    }

    /// Milliseconds from `now_ms` until a request of this cost is allowed if nobody else asks: 0 if it is
    /// at once, [`Decision::NEVER`] if its cost is over the limit.
    pub fn wait(&self, state: State, now_ms: u64, cost: u32) -> u64 {
        let state = self.roll(state, now_ms);
        let Some(room) = self.limit.checked_sub(u64::from(cost)) else {
            return Decision::NEVER;
        };
        let (prev, curr) = (u64::from(state.prev), u64::from(state.curr));
        // The window may begin to weigh `count` down to the room there is when this much of it is left.
        let left = |room: u64, count: u64| ((room + 1) * self.window_ms - 1).checked_div(count);
        let free_ms = if let Some(room) = room.checked_sub(curr) {
            let left = left(room, prev).map_or(self.window_ms, |ms| ms.min(self.window_ms));
            state.start_ms + self.window_ms - left
        } else {
            // Not before `curr` itself has become the previous window's count and weighs less.
            let left = left(room, curr).unwrap_or(self.window_ms);
            state.start_ms + 2 * self.window_ms - left
        };
        free_ms.saturating_sub(now_ms)
    }

    /// The state as seen from the window that holds `now_ms`, never an earlier one than its own.
    /// What is known of a client whose cell keeps this: it weighs nothing two windows after its start.
    pub(super) fn unpack(&self, kept: Packed) -> State {
        State {
            start_ms: (kept.expiry_s * 1000).saturating_sub(2 * self.window_ms),
            prev: kept.high,
            curr: kept.low,
        }
    }

    pub(super) fn pack(&self, state: State) -> Packed {
        Packed {
            expiry_s: (state.start_ms + 2 * self.window_ms) / 1000,
            high: state.prev,
            low: state.curr,
        }
    }

    fn roll(&self, state: State, now_ms: u64) -> State {
        let start_ms = now_ms - now_ms % self.window_ms;
        let state = State {
            prev: state.prev.min(MAX_LIMIT as u32),
            curr: state.curr.min(MAX_LIMIT as u32),
            ..state
        };
        if start_ms <= state.start_ms {
            return state;
        }
        let adjacent = start_ms - state.start_ms == self.window_ms;
        State {
            start_ms,
            prev: if adjacent { state.curr } else { 0 },
            curr: 0,
        }
    }

    /// The estimate at `at_ms`, a time not before the state's window, rounded down.
    fn used(&self, state: State, at_ms: u64) -> u64 {
        let left_ms = self.window_ms.saturating_sub(at_ms - state.start_ms);
        let before = u64::from(state.prev) * left_ms;
        u64::from(state.curr) + before / self.window_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::MAX_WINDOW_MS;

    const MINUTE: u64 = 60_000;

    fn hundred() -> SlidingWindow {
        SlidingWindow::new(100, MINUTE).unwrap()
    }

    /// Sends `n` requests at one moment and says how many passed.
    fn send(rule: &SlidingWindow, state: &mut State, now_ms: u64, n: u32) -> u32 {
        (0..n)
            .filter(|_| {
                let (after, decision) = rule.decide(*state, now_ms, 1);
                *state = after;
                decision.allowed
            })
            .count() as u32
    }

    #[test]
    fn weighs_the_window_before_by_what_is_left() {
        // 60 before, three quarters through, 30 now: 60 × 0.25 + 30 = 45 of 100.
        let state = State {
            start_ms: 7 * MINUTE,
            prev: 60,
            curr: 30,
        };
        let (after, decision) = hundred().decide(state, 7 * MINUTE + 45_000, 1);
        assert!(decision.allowed);
        assert_eq!(decision.remaining, 100 - 46);
        assert_eq!(decision.reset_ms, 8 * MINUTE);
        assert_eq!(decision.retry_after_ms, 0);
        assert_eq!((after.prev, after.curr), (60, 31));
    }

    #[test]
    fn a_fresh_window_allows_the_limit_and_no_more() {
        let mut state = State::default();
        let now = 1_700_000_000_000;
        assert_eq!(send(&hundred(), &mut state, now, 100), 100);
        let (after, decision) = hundred().decide(state, now, 1);
        assert!(!decision.allowed, "request 101 passed");
        assert_eq!(decision.remaining, 0);
        assert_eq!(after, state, "a refused request was counted");
    }

    #[test]
    fn a_burst_over_the_boundary_gets_one_limit_not_two() {
        let mut state = State::default();
        assert_eq!(send(&hundred(), &mut state, 10 * MINUTE - 1000, 1000), 100);
        // One second into the next window, 98.3 of the burst still weigh: 98.3 and 99.3 are below 100.
        assert_eq!(send(&hundred(), &mut state, 10 * MINUTE + 1000, 1000), 2);
    }

    #[test]
    fn a_client_that_hammers_recovers() {
        let mut state = State::default();
        let mut passed = 0;
        for second in 0..600 {
            passed += send(&hundred(), &mut state, second * 1000, 50);
        }
        assert!(
            passed >= 900,
            "refused requests were held against it: {passed}"
        );
    }

    #[test]
    fn two_windows_later_nothing_is_left() {
        let state = State {
            start_ms: 3 * MINUTE,
            prev: 100,
            curr: 100,
        };
        let (after, decision) = hundred().decide(state, 5 * MINUTE, 1);
        assert!(decision.allowed);
        assert_eq!(decision.remaining, 99);
        assert_eq!((after.start_ms, after.prev, after.curr), (5 * MINUTE, 0, 1));
    }

    #[test]
    fn an_earlier_clock_reading_forgives_nothing() {
        let state = State {
            start_ms: 5 * MINUTE,
            prev: 40,
            curr: 59,
        };
        for now in [0, 3 * MINUTE, 5 * MINUTE - 1] {
            let (after, decision) = hundred().decide(state, now, 1);
            assert!(decision.allowed);
            assert_eq!(
                (after.start_ms, after.prev, after.curr),
                (5 * MINUTE, 40, 60)
            );
            let (last, decision) = hundred().decide(after, now, 1);
            assert!(!decision.allowed);
            assert_eq!(last, after);
            assert_eq!(decision.reset_ms, 6 * MINUTE);
            // 60 and 40 × (1 − 1/60,000): just below 100.
            assert_eq!(now + decision.retry_after_ms, 5 * MINUTE + 1);
        }
    }

    #[test]
    fn a_cost_over_the_limit_never_passes() {
        let (after, decision) = hundred().decide(State::default(), MINUTE, 101);
        assert!(!decision.allowed);
        assert_eq!(decision.retry_after_ms, Decision::NEVER);
        assert_eq!(decision.remaining, 100);
        assert_eq!(after.curr, 0);
        assert!(hundred().decide(State::default(), MINUTE, 100).1.allowed);
    }

    #[test]
    fn a_lowered_limit_leaves_nothing_remaining() {
        let state = State {
            start_ms: MINUTE,
            prev: u32::MAX,
            curr: u32::MAX,
        };
        let (after, decision) = hundred().decide(state, MINUTE + 1, 1);
        assert!(!decision.allowed);
        assert_eq!(decision.remaining, 0);
        assert_eq!(u64::from(after.curr), MAX_LIMIT);
        let free = MINUTE + 1 + decision.retry_after_ms;
        assert!(hundred().decide(after, free, 1).1.allowed);
        assert!(!hundred().decide(after, free - 1, 1).1.allowed);
    }

    #[test]
    fn the_largest_rule_does_not_overflow() {
        let rule = SlidingWindow::new(MAX_LIMIT, MAX_WINDOW_MS).unwrap();
        let state = State {
            start_ms: 0,
            prev: u32::MAX,
            curr: 0,
        };
        assert!(!rule.decide(state, 0, 1).1.allowed);
        assert_eq!(rule.decide(state, 0, 1).1.retry_after_ms, 1);
        // 117 ms are less than a 268,435,454th of the 366 days; a second request waits for 118.
        let (state, first) = rule.decide(state, 117, 1);
        assert!(first.allowed);
        let (_, second) = rule.decide(state, 117, 1);
        assert!(!second.allowed);
        assert_eq!(117 + second.retry_after_ms, 118);
    }

    #[test]
    fn refuses_what_it_cannot_count() {
        assert_eq!(SlidingWindow::new(0, 1000), Err(Fault::Limit(0)));
        assert_eq!(
            SlidingWindow::new(1 << 28, 1000),
            Err(Fault::Limit(1 << 28))
        );
        for ms in [0, 999, 1500, MAX_WINDOW_MS + 1000] {
            assert_eq!(SlidingWindow::new(1, ms), Err(Fault::Window(ms)));
        }
        assert!(SlidingWindow::new(MAX_LIMIT, MAX_WINDOW_MS).is_ok());
    }
}
