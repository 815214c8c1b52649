//! One client's counts in one 128-bit word, so that a decision is one compare-exchange.
//!
//! A word, from the top: tag 44 bits, expiry 28, previous count 28, current count 28. The expiry is the
//! second at which the counts weigh nothing (two windows after the window's start) modulo 2^28; it
//! reads right for 2^27 s, more than four years, around it. Tag 0 is an empty cell. A current count of all
//! ones marks a cell that is being claimed: expiry and previous count then hold a serial number.

use super::sliding_window::State;

const COUNT_BITS: u32 = 28;
const COUNT_MASK: u128 = (1 << COUNT_BITS) - 1;
const EXPIRY_SHIFT: u32 = 2 * COUNT_BITS;
const TAG_SHIFT: u32 = 3 * COUNT_BITS;

/// A cell's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub u128);

impl Word {
    /// A cell that nobody uses.
    pub const EMPTY: Word = Word(0);

    /// The tag made of the low bits of a key's hash; never that of an empty cell.
    pub fn tag_of(hash: u128) -> u64 {
        (hash as u64 >> (64 - (128 - TAG_SHIFT))).max(1)
    }

    /// The counts of the client `tag` under a rule with windows of `window_s` seconds.
    pub fn counts(tag: u64, window_s: u64, state: State) -> Self {
        let expiry = state.start_ms / 1000 + 2 * window_s;
        Self(
            u128::from(tag) << TAG_SHIFT
                | (u128::from(expiry) & COUNT_MASK) << EXPIRY_SHIFT
                | u128::from(state.prev) << COUNT_BITS
                | u128::from(state.curr),
        )
    }

    /// A claim on a cell for `tag`; `serial` (56 bits) makes it unlike every other claim.
    pub fn claim(tag: u64, serial: u64) -> Self {
        let serial = u128::from(serial) & ((1 << (2 * COUNT_BITS)) - 1);
        Self(u128::from(tag) << TAG_SHIFT | serial << COUNT_BITS | COUNT_MASK)
    }

    /// Whose cell it is; 0 for an empty one.
    pub fn tag(self) -> u64 {
        (self.0 >> TAG_SHIFT) as u64
    }

    /// Whether the cell is claimed, and not yet counting.
    pub fn is_claim(self) -> bool {
        self.0 & COUNT_MASK == COUNT_MASK
    }

    /// Whether anybody may take the cell at `now_s` without loss.
    pub fn is_vacant(self, now_s: u64) -> bool {
        self.tag() == 0 || (!self.is_claim() && self.seconds_left(now_s) <= 0)
    }

    /// The counts, which weigh nothing if two windows have passed.
    pub fn state(self, now_s: u64, window_s: u64) -> State {
        let left = self.seconds_left(now_s);
        if left <= 0 {
            return State::default();
        }
        let expiry = now_s + left.unsigned_abs();
        State {
            start_ms: expiry.saturating_sub(2 * window_s) * 1000,
            prev: (self.0 >> COUNT_BITS & COUNT_MASK) as u32,
            curr: (self.0 & COUNT_MASK) as u32,
        }
    }

    /// What is lost if the cell is taken away: the requests it counts. A claim weighs most.
    pub fn weight(self) -> u64 {
        if self.is_claim() {
            return u64::MAX;
        }
        ((self.0 >> COUNT_BITS & COUNT_MASK) + (self.0 & COUNT_MASK)) as u64
    }

    /// Seconds until the counts weigh nothing; 0 or less once they do.
    fn seconds_left(self, now_s: u64) -> i64 {
        let ahead = (self.0 >> EXPIRY_SHIFT) as u32;
        let ahead = ahead.wrapping_sub(now_s as u32) << (32 - COUNT_BITS);
        i64::from(ahead.cast_signed() >> (32 - COUNT_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: State = State {
        start_ms: 1_700_000_040_000,
        prev: (1 << 28) - 2,
        curr: 77,
    };

    #[test]
    fn counts_come_back_as_they_went_in() {
        let tag = (1 << 44) - 1;
        let word = Word::counts(tag, 60, STATE);
        assert_eq!(word.tag(), tag);
        assert!(!word.is_claim());
        // From an earlier reading of the clock to the last second that weighs.
        for now_s in [1_699_999_000, 1_700_000_040, 1_700_000_159] {
            assert_eq!(word.state(now_s, 60), STATE, "at {now_s}");
            assert!(!word.is_vacant(now_s));
        }
        assert_eq!(word.state(1_700_000_160, 60), State::default());
        assert!(word.is_vacant(1_700_000_160));
        assert!(word.is_vacant(1_700_000_160 + (1 << 27) - 1));
    }

    #[test]
    fn counts_survive_the_expiry_wrapping_round() {
        let start_s = (1_u64 << 28) * 7 - 60;
        let state = State {
            start_ms: start_s * 1000,
            ..STATE
        };
        let word = Word::counts(5, 60, state);
        assert_eq!(word.state(start_s + 119, 60), state);
        assert_eq!(word.state(start_s + 120, 60), State::default());
    }

    #[test]
    fn the_longest_window_fits_the_expiry() {
        let window_s = super::super::MAX_WINDOW_MS / 1000;
        let state = State {
            start_ms: window_s * 50_000,
            ..STATE
        };
        let word = Word::counts(5, window_s, state);
        assert_eq!(word.state(state.start_ms / 1000, window_s), state);
    }

    #[test]
    fn claims_are_unlike_counts_and_each_other() {
        let claim = Word::claim(9, 1);
        assert!(claim.is_claim());
        assert_eq!(claim.tag(), 9);
        assert!(!claim.is_vacant(0) && !claim.is_vacant(1 << 27));
        assert_eq!(claim.weight(), u64::MAX);
        assert_ne!(claim, Word::claim(9, 2));
        assert!(Word::EMPTY.is_vacant(12345));
        assert_eq!(Word::tag_of(0), 1);
        assert_eq!(Word::tag_of(u128::MAX), (1 << 44) - 1);
    }
}
