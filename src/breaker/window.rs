//! Outcomes of the last while, in ten slices of a rolling window; one atomic word a slice.
//!
//! A word, from the top: generation 8 bits, slice number 16, requests 20, failures 20. A word of another
//! generation or another time counts for nothing and is overwritten, so a new generation of the
//! circuit begins with an empty window without anything being cleared. A slice that is full (a million
//! requests) is halved, which keeps its ratio. Slice numbers repeat after 65,536: an outcome could be counted
//! again only by a circuit that reported nothing into its slice for exactly that long.

use std::array;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

const SLICES: u64 = 10;
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const LABEL_SHIFT: u32 = 2 * COUNT_BITS;

/// Requests in the window and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Successes and failures.
    pub total: u32,
    /// Failures alone.
    pub failures: u32,
}

/// The window of one circuit.
#[derive(Debug)]
pub struct Window {
    slice_ms: u64,
    slices: [AtomicU64; SLICES as usize],
    /// The slice number of the latest failure: a window without one needs no adding up.
    failed_at: AtomicU64,
    /// Generation (32 bits) and failures in a row (32 bits).
    run: AtomicU64,
}

impl Window {
    /// A window of `window_ms`, rounded up to ten equal slices.
    pub fn new(window_ms: u64) -> Self {
        Self {
            slice_ms: window_ms.div_ceil(SLICES).max(1),
            slices: array::from_fn(|_| AtomicU64::new(0)),
            failed_at: AtomicU64::new(0),
            run: AtomicU64::new(0),
        }
    }

    /// Counts one outcome and returns the counts of this generation's window, it included; `None` if the
    /// window is known to hold no failure.
    pub fn record(&self, generation: u64, now_ms: u64, failed: bool) -> Option<Counts> {
        let slice = now_ms / self.slice_ms;
        let label = label(generation, slice);
        let cell = &self.slices[(slice % SLICES) as usize];
        let mut old = cell.load(Relaxed);
        loop {
            let new = add(old, label, failed);
            match cell.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(current) => old = current,
            }
        }
        if failed {
            self.failed_at.fetch_max(slice, Relaxed);
        } else if self.failed_at.load(Relaxed) + SLICES <= slice {
            return None;
        }
        Some(self.counts(label))
    }

    /// Notes an outcome for the failures in a row and returns how many there are now.
    pub fn run(&self, generation: u64, failed: bool) -> u32 {
        let generation = generation << 32;
        let mut old = self.run.load(Relaxed);
        loop {
            let run = if old & !0 << 32 == generation {
                old as u32
            } else {
                0
            };
            let run = if failed { run.saturating_add(1) } else { 0 };
            let new = generation | u64::from(run);
            if new == old {
                return run;
            }
            match self.run.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return run,
                Err(current) => old = current,
            }
        }
    }

    /// Sums the slices of the label's generation that lie at most nine slices before it.
    fn counts(&self, label: u64) -> Counts {
        let mut counts = Counts::default();
        for cell in &self.slices {
            let word = cell.load(Acquire);
            let (other, total, failures) = parts(word);
            let age = (label as u16).wrapping_sub(other as u16);
            if other >> 16 == label >> 16 && u64::from(age) < SLICES {
                counts.total += total;
                counts.failures += failures;
            }
        }
        counts
    }
}

fn label(generation: u64, slice: u64) -> u64 {
    (generation & 0xff) << 16 | slice & 0xffff
}

fn parts(word: u64) -> (u64, u32, u32) {
    let total = word >> COUNT_BITS & COUNT_MASK;
    (
        word >> LABEL_SHIFT,
        total as u32,
        (word & COUNT_MASK) as u32,
    )
}

fn add(word: u64, label: u64, failed: bool) -> u64 {
    let one = 1 << COUNT_BITS | u64::from(failed);
    let (other, total, failures) = parts(word);
    if other != label {
        label << LABEL_SHIFT | one
    } else if u64::from(total) < COUNT_MASK {
        word + one
    } else {
        let (total, failures) = (u64::from(total / 2), u64::from(failures / 2));
        (label << LABEL_SHIFT | total << COUNT_BITS | failures) + one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(total: u32, failures: u32) -> Counts {
        Counts { total, failures }
    }

    #[test]
    fn rolls_by_tenths() {
        let window = Window::new(10_000);
        assert_eq!(window.record(0, 500, true), Some(counts(1, 1)));
        assert_eq!(window.record(0, 999, false), Some(counts(2, 1)));
        assert_eq!(window.record(0, 9_999, false), Some(counts(3, 1)));
        assert_eq!(window.record(0, 9_999, true), Some(counts(4, 2)));
        assert_eq!(window.record(0, 10_000, false), Some(counts(3, 1)));
        assert_eq!(window.record(0, 19_000, false), None, "no failure is left");
        assert_eq!(window.record(0, 500_000, true), Some(counts(1, 1)));
    }

    #[test]
    fn a_new_generation_starts_empty() {
        let window = Window::new(10_000);
        window.record(3, 500, true);
        assert_eq!(window.record(4, 600, false), Some(counts(1, 0)));
        assert_eq!(window.run(4, true), 1);
        assert_eq!(window.run(4, true), 2);
        assert_eq!(window.run(4, false), 0);
        assert_eq!(window.run(4, true), 1);
        assert_eq!(window.run(5, true), 1);
        assert_eq!(window.run(5, true), 2);
    }

    #[test]
    fn a_full_slice_is_halved() {
        let label = label(1, 7);
        let mut word = 0;
        for n in 0..3_000_000_u64 {
            word = add(word, label, n % 4 == 0);
        }
        let (_, total, failures) = parts(word);
        let ratio = f64::from(failures) / f64::from(total);
        assert!((0.249..0.251).contains(&ratio), "{failures} of {total}");
    }

    #[test]
    fn a_long_sleep_does_not_stop_the_counting() {
        let window = Window::new(10_000);
        for hours in 0..100 {
            let now = hours * 3_600_000;
            assert_eq!(
                window.record(0, now, true),
                Some(counts(1, 1)),
                "after {hours} h"
            );
        }
    }

    #[test]
    fn threads_lose_no_outcome() {
        let window = Window::new(10_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000 {
                        window.record(0, n, n % 2 == 0);
                    }
                });
            }
        });
        assert_eq!(window.record(0, 9_999, false), Some(counts(40_001, 20_000)));
    }
}
