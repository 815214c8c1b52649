//! The rules whose whole state fits a cell, behind one face.

use super::Decision;
use super::bucket::Bucket;
use super::cell::Packed;
use super::fixed_window::FixedWindow;
use super::sliding_window::SlidingWindow;

/// A rule: what is kept of a client and a time in, what is then kept and a decision out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// So many in each window.
    FixedWindow(FixedWindow),
    /// So many in any window, by two counters.
    SlidingWindow(SlidingWindow),
    /// So many at a stroke, and so many in the long run.
    Bucket(Bucket),
}

impl Rule {
    /// Decides one request of `cost` at `now_ms`, steady Unix milliseconds.
    pub(super) fn decide(&self, kept: Packed, now_ms: u64, cost: u32) -> (Packed, Decision) {
        match self {
            Rule::FixedWindow(rule) => rule.decide(kept, now_ms, cost),
            Rule::SlidingWindow(rule) => {
                let (after, decision) = rule.decide(rule.unpack(kept), now_ms, cost);
                (rule.pack(after), decision)
            }
            Rule::Bucket(rule) => rule.decide(kept, now_ms, cost),
        }
    }

    /// What tells apart the cells of rules that read them differently. Cells that stay readable when a
    /// limit changes, as counts do, are the same before and after.
    pub(super) fn salt(&self) -> u128 {
        let (kind, window_ms, rate) = match self {
            Rule::SlidingWindow(rule) => (0, rule.window_ms(), 0),
            Rule::FixedWindow(rule) => (1, rule.window_ms(), 0),
            // Backlogs are counted in parts that depend on the rate.
            Rule::Bucket(rule) => (2, rule.window_ms(), rule.limit()),
        };
        u128::from(window_ms / 1000) | u128::from(rate) << 32 | kind << 64
    }

    /// How much a client has used of it: what has the least is given up first.
    pub(super) fn weight(&self, kept: Packed, now_ms: u64) -> u64 {
        match self {
            Rule::FixedWindow(_) | Rule::SlidingWindow(_) => {
                u64::from(kept.high) + u64::from(kept.low)
            }
            Rule::Bucket(rule) => rule.backlog(kept, now_ms),
        }
    }

    /// Requests allowed in a window; of a bucket, tokens that come in one.
    pub fn limit(&self) -> u64 {
        match self {
            Rule::FixedWindow(rule) => rule.limit(),
            Rule::SlidingWindow(rule) => rule.limit(),
            Rule::Bucket(rule) => rule.limit(),
        }
    }

    /// Length of the window in milliseconds.
    pub fn window_ms(&self) -> u64 {
        match self {
            Rule::FixedWindow(rule) => rule.window_ms(),
            Rule::SlidingWindow(rule) => rule.window_ms(),
            Rule::Bucket(rule) => rule.window_ms(),
        }
    }
}

/// Bytes of a rule on its way to another process.
pub const BYTES: usize = 1 + 4 * 8;

impl Rule {
    /// The rule as it travels.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let (kind, figures) = match self {
            Rule::FixedWindow(rule) => (0, [rule.limit(), rule.window_ms(), 0, 0]),
            Rule::SlidingWindow(rule) => (1, [rule.limit(), rule.window_ms(), 0, 0]),
            Rule::Bucket(rule) => {
                let (capacity, delay) = (rule.capacity(), rule.max_delay_ms());
                (2, [rule.limit(), rule.window_ms(), capacity, delay])
            }
        };
        let mut bytes = [0; BYTES];
        bytes[0] = kind;
        for (place, figure) in bytes[1..].chunks_exact_mut(8).zip(figures) {
            place.copy_from_slice(&figure.to_le_bytes());
        }
        bytes
    }

    /// A rule that came; `None` if it is none.
    pub fn from_bytes(bytes: &[u8; BYTES]) -> Option<Rule> {
        let (figures, _) = bytes[1..].as_chunks();
        let figure = |n: usize| figures.get(n).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let (limit, window_ms) = (figure(0), figure(1));
        Some(match bytes[0] {
            0 => FixedWindow::new(limit, window_ms).ok()?.into(),
            1 => SlidingWindow::new(limit, window_ms).ok()?.into(),
            2 => Bucket::shaper(limit, window_ms, figure(2), figure(3))
                .ok()?
                .into(),
            _ => return None,
        })
    }
}

impl From<SlidingWindow> for Rule {
    fn from(rule: SlidingWindow) -> Self {
        Rule::SlidingWindow(rule)
    }
}

impl From<FixedWindow> for Rule {
    fn from(rule: FixedWindow) -> Self {
        Rule::FixedWindow(rule)
    }
}

impl From<Bucket> for Rule {
    fn from(rule: Bucket) -> Self {
        Rule::Bucket(rule)
    }
}
