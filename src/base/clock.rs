//! The only place that reads a clock. Everything that depends on time is handed a [`Now`].

use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of the clock, taken once where a decision begins and handed down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the clock was made; for durations.
    pub mono_ns: u64,
    /// Milliseconds since the Unix epoch, never going back: wall time at the start plus time
    /// passed. For windows, where a clock set back must not forgive or freeze anything.
    pub steady_ms: u64,
    /// Milliseconds since the Unix epoch as the system has it, followed every 50 ms; for `exp`, `nbf`
    /// and logs.
    pub unix_ms: u64,
}

impl Now {
    /// Whole seconds since the Unix epoch.
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1000
    }

    /// A reading at `ms` milliseconds on all three scales; for tests and pure cores' twins.
    pub fn at_ms(ms: u64) -> Self {
        Self {
            mono_ns: ms.saturating_mul(1_000_000),
            steady_ms: ms,
            unix_ms: ms,
        }
    }

    /// Nanoseconds since an earlier reading, 0 if it was not earlier.
    pub fn since_ns(self, earlier: Now) -> u64 {
        self.mono_ns.saturating_sub(earlier.mono_ns)
    }
}

/// Writes a date as HTTP has it (RFC 9110 §5.6.7); it is made anew once a second.
pub fn http_date(now: Now, out: &mut Vec<u8>) {
    thread_local!(static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) });
    LAST.with_borrow_mut(|(second, text)| {
        let unix_s = now.unix_s();
        if *second != unix_s || text.is_empty() {
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s));
            *second = unix_s;
        }
        out.extend_from_slice(text.as_bytes());
    });
}

/// The process's clock. Clones share one offset, so that a test which moves one moves all.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    start_unix_ms: u64,
    moved: Arc<Moved>,
}

/// How the clock's scales have moved against each other since it was made.
#[derive(Debug, Default)]
struct Moved {
    /// Milliseconds that a test has moved it forward.
    ahead_ms: AtomicU64,
    /// Milliseconds that the system's wall time has gained on the time passed.
    gained_ms: AtomicI64,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn system() -> Self {
        Self {
            start: Instant::now(),
            start_unix_ms: wall_ms(),
            moved: Arc::default(),
        }
    }

    /// A clock that goes on where another process's was, so that counts of its windows hold. What
    /// time has passed since is read from the machine.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn after(other: Elsewhere) -> Self {
        let passed_ns = machine_ns().saturating_sub(other.machine_ns);
        let clock = Self {
            start: Instant::now(),
            // Rounded up: time must not go back.
            start_unix_ms: other.steady_ms + passed_ns.div_ceil(1_000_000),
            moved: Arc::default(),
        };
        clock.follow();
        clock
    }

    /// Where this clock is, for [`Clock::after`] in another process of this machine.
    pub fn elsewhere(&self) -> Elsewhere {
        Elsewhere {
            machine_ns: machine_ns(),
            steady_ms: self.now().steady_ms,
        }
    }

    /// Reads the clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn now(&self) -> Now {
        let passed = self.start.elapsed();
        let mono_ns = passed.as_secs() * 1_000_000_000 + u64::from(passed.subsec_nanos());
        let ahead = self.moved.ahead_ms.load(Relaxed);
        let mono_ns = mono_ns.saturating_add(ahead.saturating_mul(1_000_000));
        let steady_ms = self.start_unix_ms + mono_ns / 1_000_000;
        Now {
            mono_ns,
            steady_ms,
            unix_ms: steady_ms.saturating_add_signed(self.moved.gained_ms.load(Relaxed)),
        }
    }

    /// Looks at the system's wall time, which may have been set. Done every 50 ms, so that a request
    /// reads one clock, not two.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn follow(&self) {
        // Both as if nobody had moved it.
        let passed_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let steady_ms = self.start_unix_ms.saturating_add(passed_ms);
        let gained = wall_ms().cast_signed() - steady_ms.cast_signed();
        // The one reading may fall into the next millisecond.
        if (gained - self.moved.gained_ms.load(Relaxed)).abs() > 1 {
            self.moved.gained_ms.store(gained, Relaxed);
        }
    }

    /// Moves this clock and all its clones forward, so that a test need not wait for a window.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.moved.ahead_ms.fetch_add(ms, Relaxed);
    }
}

/// A reading of one process's clock beside one that all processes of the machine share.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Nanoseconds since the machine started (`CLOCK_MONOTONIC`).
    pub machine_ns: u64,
    /// [`Now::steady_ms`] at that moment.
    pub steady_ms: u64,
}

fn machine_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let (s, ns) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    s.saturating_mul(1_000_000_000).saturating_add(ns)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
fn wall_ms() -> u64 {
    // A clock before 1970 reads as 0: every token is then not yet valid, nothing opens.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wall time that was set is followed, both ways; what a test moved stays moved.
    #[test]
    fn wall_time_is_followed() {
        let clock = Clock::system();
        for gained in [3_600_000, -3_600_000] {
            clock.moved.gained_ms.store(gained, Relaxed);
            let wrong = clock.now().unix_ms.abs_diff(wall_ms());
            assert!(wrong > 3_000_000, "{wrong}");
            clock.follow();
            let right = clock.now().unix_ms.abs_diff(wall_ms());
            assert!(right < 1000, "{right}");
        }
        clock.advance(Duration::from_secs(60));
        clock.follow();
        let ahead = clock.now().unix_ms.abs_diff(wall_ms());
        assert!((59_000..61_000).contains(&ahead), "{ahead}");
    }

    #[test]
    fn clones_move_together() {
        let clock = Clock::system();
        let twin = clock.clone();
        let before = twin.now();
        clock.advance(Duration::from_secs(60));
        let after = twin.now();
        assert!(after.since_ns(before) >= 60_000_000_000);
        assert!(after.steady_ms >= before.steady_ms + 60_000);
        assert!(after.unix_ms >= before.unix_ms + 60_000);
    }

    #[test]
    fn scales_agree_at_a_given_time() {
        let now = Now::at_ms(61_500);
        assert_eq!(now.unix_s(), 61);
        assert_eq!(now.since_ns(Now::at_ms(61_000)), 500_000_000);
        assert_eq!(Now::at_ms(0).since_ns(now), 0);
    }

    #[test]
    fn a_clock_goes_on_where_another_was() {
        let old = Clock::system();
        old.advance(Duration::from_hours(1));
        let new = Clock::after(old.elsewhere());
        let (was, is) = (old.now().steady_ms, new.now().steady_ms);
        assert!((was..was + 1000).contains(&(is + 1)), "{was} {is}");
        let wall = Clock::system().now().unix_ms;
        assert!(
            new.now().unix_ms.abs_diff(wall) < 1000,
            "wall time is wall time"
        );
    }
}
