//! How many requests an issuer gets, for whatever reason: at most seven in any 60 s.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// The most requests in any [`WINDOW`].
pub const MOST: usize = 7;
/// A minute, and as long as a request may take to get to the issuer after it was begun: what is
/// bounded is what the issuer sees.
pub const WINDOW: Duration = Duration::from_secs(63);

/// When the last requests began. Written by the one task that makes them, read by everybody.
#[derive(Default)]
pub(super) struct Budget {
    /// In milliseconds plus one; 0 for never.
    began: [AtomicU64; MOST],
    next: AtomicUsize,
}

impl Budget {
    /// How many requests may begin at `now_ms`.
    pub fn room(&self, now_ms: u64) -> usize {
        let over = |began: &&AtomicU64| {
            let began = began.load(SeqCst);
            began == 0 || now_ms + 1 >= began + WINDOW.as_millis() as u64
        };
        self.began.iter().filter(over).count()
    }

    /// Notes that one begins.
    pub fn take(&self, now_ms: u64) {
        let place = self.next.fetch_add(1, SeqCst) % MOST;
        self.began[place].store(now_ms + 1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_in_any_minute() {
        let budget = Budget::default();
        let mut begun = Vec::new();
        for now_ms in (0..600_000).step_by(50) {
            if budget.room(now_ms) > 0 {
                budget.take(now_ms);
                begun.push(now_ms);
            }
        }
        assert!(begun.len() > 60, "{begun:?}");
        for (at, first) in begun.iter().enumerate() {
            let minute = begun[at..].iter().filter(|ms| **ms <= first + 60_000);
            assert!(minute.count() <= MOST, "from {first}");
        }
        assert_eq!(budget.room(1_000_000), MOST);
    }
}
