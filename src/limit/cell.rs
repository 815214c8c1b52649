//! One client's counts in one 128-bit word, so that a decision is one compare-exchange.
//!
//! A word, from the top: tag 44 bits, expiry 28, and two figures of 28 bits that the rule reads and writes.
//! The expiry is the second at which they mean nothing any more, modulo 2^28; it reads right for 2^27 s,
//! more than four years, around it. Tag 0 is an empty cell. A low figure of all ones marks a cell
//! that is being claimed: expiry and high figure then hold a serial number.

/// What a rule keeps of a client. The default is a client never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed {
    /// The second, in Unix time, from which on the client is as one never seen.
    pub expiry_s: u64,
    /// Up to 28 bits.
    pub high: u32,
    /// Up to 28 bits, never all of them ones.
    pub low: u32,
}

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

    /// What is kept of the client `tag`.
    pub fn kept(tag: u64, kept: Packed) -> Self {
        Self(
            u128::from(tag) << TAG_SHIFT
                | (u128::from(kept.expiry_s) & COUNT_MASK) << EXPIRY_SHIFT
                | u128::from(kept.high) << COUNT_BITS
                | u128::from(kept.low),
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

    /// What is kept of the client whose cell it is; nothing once that has expired.
    pub fn packed(self, now_s: u64) -> Packed {
        let left = self.seconds_left(now_s);
        if left <= 0 {
            return Packed::default();
        }
        Packed {
            expiry_s: now_s + left.unsigned_abs(),
            high: (self.0 >> COUNT_BITS & COUNT_MASK) as u32,
            low: (self.0 & COUNT_MASK) as u32,
        }
    }

    /// Seconds until it expires; 0 or less once it has.
    fn seconds_left(self, now_s: u64) -> i64 {
        let ahead = (self.0 >> EXPIRY_SHIFT) as u32;
        let ahead = ahead.wrapping_sub(now_s as u32) << (32 - COUNT_BITS);
        i64::from(ahead.cast_signed() >> (32 - COUNT_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Packed = Packed {
        expiry_s: 1_700_000_160,
        high: (1 << 28) - 1,
        low: (1 << 28) - 2,
    };

    #[test]
    fn what_is_kept_comes_back_as_it_went_in() {
        let tag = (1 << 44) - 1;
        let word = Word::kept(tag, KEPT);
        assert_eq!(word.tag(), tag);
        assert!(!word.is_claim());
        // From an earlier reading of the clock to the last second that counts.
        for now_s in [1_699_999_000, 1_700_000_040, 1_700_000_159] {
            assert_eq!(word.packed(now_s), KEPT, "at {now_s}");
            assert!(!word.is_vacant(now_s));
        }
        assert_eq!(word.packed(1_700_000_160), Packed::default());
        assert!(word.is_vacant(1_700_000_160));
        assert!(word.is_vacant(1_700_000_160 + (1 << 27) - 1));
    }

    #[test]
    fn it_survives_the_expiry_wrapping_round() {
        let expiry_s = (1_u64 << 28) * 7 + 60;
        let kept = Packed { expiry_s, ..KEPT };
        let word = Word::kept(5, kept);
        assert_eq!(word.packed(expiry_s - 119), kept);
        assert_eq!(word.packed(expiry_s), Packed::default());
    }

    #[test]
    fn the_longest_window_fits_the_expiry() {
        let window_s = super::super::MAX_WINDOW_MS / 1000;
        let expiry_s = window_s * 50_000 + 2 * window_s;
        let kept = Packed { expiry_s, ..KEPT };
        let word = Word::kept(5, kept);
        assert_eq!(word.packed(window_s * 50_000), kept);
    }

    #[test]
    fn claims_are_unlike_counts_and_each_other() {
        let claim = Word::claim(9, 1);
        assert!(claim.is_claim());
        assert_eq!(claim.tag(), 9);
        assert!(!claim.is_vacant(0) && !claim.is_vacant(1 << 27));
        assert_ne!(claim, Word::claim(9, 2));
        assert!(Word::EMPTY.is_vacant(12345));
        assert_eq!(Word::tag_of(0), 1);
        assert_eq!(Word::tag_of(u128::MAX), (1 << 44) - 1);
    }
}
