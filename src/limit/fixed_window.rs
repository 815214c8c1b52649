//! The fixed-window rule: at most `limit` requests in each window, windows aligned to the Unix epoch.
//!
//! The cheapest to explain ("100 a minute, from full minute to full minute") and the loosest: around the
//! boundary of two windows up to twice the limit passes within one window's length. Refused requests are
//! not counted.

use super::cell::Packed;
use super::{Decision, Fault, SPARE_S, check_rate};

/// A limit of so many requests in each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedWindow {
    limit: u64,
    window_ms: u64,
}

/// What is known of one client. The default is one never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    start_ms: u64,
    count: u64,
}

impl FixedWindow {
    /// A limit of `limit` requests (1 to [`super::MAX_LIMIT`]) in `window_ms` milliseconds (whole seconds,
    /// 1 s to 366 days).
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

    /// Decides one request of `cost` at `now_ms` (steady Unix milliseconds) and returns what is then known
    /// of the client. A clock that reads earlier than the window that was counted last counts in that one.
    pub(super) fn decide(&self, kept: Packed, now_ms: u64, cost: u32) -> (Packed, Decision) {
        let state = self.roll(self.unpack(kept), now_ms);
        let cost = u64::from(cost);
        let allowed = state.count + cost <= self.limit;
        let after = State {
            count: state.count + if allowed { cost } else { 0 },
            ..state
        };
        let reset_ms = state.start_ms + self.window_ms;
        let retry_after_ms = match allowed {
            true => 0,
            false if cost > self.limit => Decision::NEVER,
            false => reset_ms.saturating_sub(now_ms),
        };
        let decision = Decision {
            allowed,
            limit: self.limit,
            remaining: self.limit.saturating_sub(after.count),
            reset_ms,
            retry_after_ms,
            delay_ms: 0,
        };
        (self.pack(after), decision)
    }

    fn roll(&self, state: State, now_ms: u64) -> State {
        let start_ms = now_ms - now_ms % self.window_ms;
        if start_ms <= state.start_ms {
            return state;
        }
        State { start_ms, count: 0 }
    }

    fn unpack(&self, kept: Packed) -> State {
        State {
            start_ms: (kept.expiry_s * 1000).saturating_sub(self.window_ms + SPARE_S * 1000),
            count: u64::from(kept.low),
        }
    }

    fn pack(&self, state: State) -> Packed {
        Packed {
            expiry_s: (state.start_ms + self.window_ms) / 1000 + SPARE_S,
            high: 0,
            low: state.count as u32,
        }
    }
}
