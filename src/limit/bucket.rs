//! Token bucket and leaky bucket: one rule, the generic cell rate algorithm (ITU-T I.371, annex A).
//!
//! A bucket of `capacity` tokens that refills at `limit` tokens in `window` holds the same as a queue of
//! that length that drains at that rate: what one calls tokens missing, the other calls backlog. Both
//! are a single figure, the time at which the bucket will be full (the queue empty) again, here called
//! `full`. A request of cost c moves it by c × window / limit, and passes where the backlog that this
//! leaves fits the capacity. There is no window, so nothing resets and no boundary can be used.
//!
//! As a shaper ([`Bucket::shaper`]) a request that the capacity has no room for is not refused but has to
//! wait for its turn, up to a bound. Turns are given out by moving `full`, so they come in the order of
//! the decisions, exactly one interval apart.
//!
//! All arithmetic is on whole numbers and exact: backlogs are counted in units of 1 / limit ms, of which a
//! request is `window_ms`, and a millisecond `limit`. What a cell keeps is a second at which the bucket
//! will be full and how many units earlier it will be.

use super::cell::Packed;
use super::{Decision, Fault, MAX_LIMIT, MAX_WINDOW_MS, SPARE_S, check_rate};

/// The units that fit the lower half of what a cell keeps: any but 28 ones, which is a claim.
const LOW: u64 = (1 << 28) - 1;

/// A bucket that refills steadily.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    limit: u64,
    window_ms: u64,
    capacity: u64,
    /// In units.
    delay: u64,
}

impl Bucket {
    /// A bucket of `capacity` tokens, 1 to [`MAX_LIMIT`], to which `limit` tokens (1 to [`MAX_LIMIT`]) come
    /// in each `window_ms` (whole seconds, 1 s to 366 days), evenly.
    ///
    /// # Errors
    /// [`Fault::Limit`] or [`Fault::Window`] if out of these ranges, [`Fault::Capacity`] also where an empty
    /// bucket would take over 366 days to fill.
    pub fn new(limit: u64, window_ms: u64, capacity: u64) -> Result<Self, Fault> {
        Self::shaper(limit, window_ms, capacity, 0)
    }

    /// The same, in which a request may wait up to `max_delay_ms` for its turn.
    ///
    /// # Errors
    /// As [`Bucket::new`]; [`Fault::Delay`] if longer than a day.
    pub fn shaper(
        limit: u64,
        window_ms: u64,
        capacity: u64,
        max_delay_ms: u64,
    ) -> Result<Self, Fault> {
        check_rate(limit, window_ms)?;
        let fills_in = |capacity: u64| capacity.saturating_mul(window_ms) / limit;
        if !(1..=MAX_LIMIT).contains(&capacity) || fills_in(capacity) > MAX_WINDOW_MS {
            return Err(Fault::Capacity(capacity));
        }
        if max_delay_ms > 86_400_000 {
            return Err(Fault::Delay(max_delay_ms));
        }
        Ok(Self {
            limit,
            window_ms,
            capacity,
            delay: max_delay_ms * limit,
        })
    }

    /// Tokens that come in a window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Length of the window in milliseconds.
    pub fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// Tokens in a full bucket.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How long a request may have to wait, in milliseconds.
    pub fn max_delay_ms(&self) -> u64 {
        self.delay / self.limit
    }

    /// Decides one request of `cost` at `now_ms` (steady Unix milliseconds) and returns what is then known
    /// of the client. To a clock that reads earlier the bucket is as much emptier: nothing is forgiven.
    pub(super) fn decide(&self, kept: Packed, now_ms: u64, cost: u32) -> (Packed, Decision) {
        let backlog = self.backlog(kept, now_ms);
        let full = self.capacity * self.window_ms;
        let price = u64::from(cost).saturating_mul(self.window_ms);
        let (most, wanted) = (full + self.delay, backlog.saturating_add(price));
        let allowed = wanted <= most;
        let after = if allowed { wanted } else { backlog };
        let in_ms = |units: u64| units.div_ceil(self.limit);
        let decision = Decision {
            allowed,
            limit: self.capacity,
            remaining: full.saturating_sub(after) / self.window_ms,
            reset_ms: now_ms + in_ms(after),
            retry_after_ms: match allowed {
                true => 0,
                false if price > most => Decision::NEVER,
                false => in_ms(wanted - most),
            },
            delay_ms: if allowed {
                in_ms(after.saturating_sub(full))
            } else {
                0
            },
        };
        let kept = if allowed {
            self.pack(after, now_ms)
        } else {
            kept
        };
        (kept, decision)
    }

    /// How much is missing from the bucket, in units.
    pub(super) fn backlog(&self, kept: Packed, now_ms: u64) -> u64 {
        let full_s_ms = kept.expiry_s.saturating_mul(1000);
        let before = u64::from(kept.high) * LOW + u64::from(kept.low);
        let ahead = full_s_ms.saturating_sub(now_ms).saturating_mul(self.limit);
        ahead.saturating_sub(before)
    }

    fn pack(&self, backlog: u64, now_ms: u64) -> Packed {
        let second = 1000 * self.limit;
        let units = (now_ms % 1000) * self.limit + backlog;
        let seconds = units.div_ceil(second) + SPARE_S;
        let before = (seconds * second).saturating_sub(units);
        Packed {
            expiry_s: now_ms / 1000 + seconds,
            high: (before / LOW) as u32,
            low: (before % LOW) as u32,
        }
    }
}
