//! How long to wait before the next attempt.

use crate::base::clock::Now;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(2);

/// Waits that double, each with some chance in it, so that gateways that lost the same server do not come
/// back in step.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
}

impl Pace {
    /// The next wait: between half of it and all.
    pub(super) fn next(&mut self, now: Now) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(5)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        let mut chance = SipHasher13::new();
        chance.write_u64(now.mono_ns);
        chance.write_u32(std::process::id());
        whole.mul_f64(0.5 + (chance.finish() % 1000) as f64 / 2000.0)
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_two_seconds() {
        let mut pace = Pace::default();
        for want in [100, 200, 400, 800, 1600, 2000, 2000] {
            let wait = pace.next(Now::at_ms(want)).as_millis() as u64;
            assert!((want / 2..=want).contains(&wait), "{wait} of {want}");
        }
        let spread = |ms| Pace::default().next(Now::at_ms(ms));
        assert_ne!(spread(1), spread(2));
        pace.reset();
        assert!(pace.next(Now::at_ms(0)) <= FIRST);
    }
}
