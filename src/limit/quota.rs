//! What a caller may under a limit, of whichever rule, and how rules are made of rates.

use super::Fault;
use super::bucket::Bucket;
use super::fixed_window::FixedWindow;
use super::rule::{self, Rule};
use super::sliding_log::SlidingLog;
use super::sliding_window::SlidingWindow;
use crate::base::units::Rate;

/// Bytes of a quota on its way.
pub const BYTES: usize = rule::BYTES;
/// The first of them, of a log.
const LOG: u8 = 255;

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// [`FixedWindow`].
    FixedWindow,
    /// [`SlidingWindow`].
    SlidingWindow,
    /// A [`Bucket`] that is full at first.
    TokenBucket,
    /// A [`Bucket`] as a queue that drains.
    LeakyBucket,
}

impl Algorithm {
    /// The rule for a rate. `capacity` is that of a bucket: where it is left out, as much as comes in a
    /// window, of a leaky one 1.
    ///
    /// # Errors
    /// See those of each rule.
    pub fn rule(self, rate: Rate, capacity: Option<u64>) -> Result<Rule, Fault> {
        let (count, per_ms) = (rate.count, rate.per_ms());
        Ok(match self {
            Self::FixedWindow => FixedWindow::new(count, per_ms)?.into(),
            Self::SlidingWindow => SlidingWindow::new(count, per_ms)?.into(),
            Self::TokenBucket => Bucket::new(count, per_ms, capacity.unwrap_or(count))?.into(),
            Self::LeakyBucket => Bucket::new(count, per_ms, capacity.unwrap_or(1))?.into(),
        })
    }
}

/// The sliding log for a rate.
///
/// # Errors
/// See [`SlidingLog::new`].
pub fn log(rate: Rate) -> Result<SlidingLog, Fault> {
    SlidingLog::new(rate.count, rate.per_ms())
}

/// What one caller may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// By a rule whose state fits a cell.
    Rule(Rule),
    /// By a log.
    Log(SlidingLog),
}

impl Quota {
    /// Requests in a window; of a bucket, at a stroke.
    pub fn size(self) -> u64 {
        match self {
            Self::Rule(Rule::Bucket(bucket)) => bucket.capacity(),
            Self::Rule(rule) => rule.limit(),
            Self::Log(log) => log.limit(),
        }
    }

    /// The length of a window in seconds, rounded up; of a bucket, the time that an empty one takes to fill.
    pub fn window_s(self) -> u64 {
        let ms = match self {
            Self::Rule(Rule::Bucket(bucket)) => {
                (bucket.capacity() * bucket.window_ms()).div_ceil(bucket.limit())
            }
            Self::Rule(rule) => rule.window_ms(),
            Self::Log(log) => log.window_ms(),
        };
        ms.div_ceil(1000)
    }

    /// What may be, as it travels to another process.
    pub fn to_bytes(self) -> [u8; BYTES] {
        match self {
            Self::Rule(rule) => rule.to_bytes(),
            Self::Log(log) => {
                let mut bytes = [0; BYTES];
                bytes[0] = LOG;
                bytes[1..9].copy_from_slice(&log.limit().to_le_bytes());
                bytes[9..17].copy_from_slice(&log.window_ms().to_le_bytes());
                bytes
            }
        }
    }

    /// What came; `None` if it is nothing that may be.
    pub fn from_bytes(bytes: &[u8; BYTES]) -> Option<Self> {
        if bytes[0] != LOG {
            return Rule::from_bytes(bytes).map(Self::Rule);
        }
        let (figures, _) = bytes[1..].as_chunks();
        let [limit, window_ms, ..] = figures else {
            return None;
        };
        let (limit, window_ms) = (u64::from_le_bytes(*limit), u64::from_le_bytes(*window_ms));
        SlidingLog::new(limit, window_ms).ok().map(Self::Log)
    }
}
