//! Request limits: the rules, and the places that keep what they count.
//!
//! * [`fixed_window`], [`sliding_window`] and [`bucket`] (token bucket and leaky bucket) are rules alone:
//!   what is kept of a client and a time in, a decision out. [`rule`] puts one face on them.
//! * [`exact`] keeps known clients in a bounded table, each decision one atomic step.
//! * [`sliding_log`] is a rule and its store: the time of each request.
//! * [`estimate`] keeps counts in a sketch of fixed size, for keys that anybody can make up.
//!
//! All stores take a [`Key`]: a keyed hash of the limit and of what identifies the client.

pub mod bucket;
mod cell;
pub mod estimate;
pub mod exact;
pub mod fixed_window;
pub mod heir;
pub mod quota;
pub mod rule;
pub mod sliding_log;
pub mod sliding_window;

use crate::base::units::Rate;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// The largest limit a window may have, 268,435,454 requests: counts are kept in 28 bits, and
/// the highest value marks a cell that is being claimed.
pub const MAX_LIMIT: u64 = Rate::MAX_COUNT;

/// The longest window, 366 days, in milliseconds.
pub const MAX_WINDOW_MS: u64 = 366 * 86_400_000;

/// Seconds that a cell is kept beyond its end: to a thread that has read the clock a moment earlier it has not
/// come yet, and somebody else must not have the cell.
const SPARE_S: u64 = 1;

/// What a limit says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may pass; if so it has been counted.
    pub allowed: bool,
    /// Requests allowed in a window; of a bucket, those allowed at a stroke.
    pub limit: u64,
    /// Further requests that would be allowed at this moment, this one counted; never negative.
    pub remaining: u64,
    /// When the current window ends, in Unix milliseconds; of rules without one, when nothing is used
    /// any more.
    pub reset_ms: u64,
    /// Milliseconds until a request of the same cost would be allowed if nobody else asked, exact
    /// by the formula: 0 if this one was allowed, [`Decision::NEVER`] if its cost is over the limit.
    pub retry_after_ms: u64,
    /// Milliseconds that a request which may pass has to wait for its turn; 0 but for a shaper.
    pub delay_ms: u64,
}

impl Decision {
    /// The `retry_after_ms` of a request that costs more than the whole limit.
    pub const NEVER: u64 = u64::MAX;
}

/// Why a limit cannot be built as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The limit is 0 or over [`MAX_LIMIT`].
    #[error("found a limit of {0} requests, want 1 to {MAX_LIMIT}")]
    Limit(u64),
    /// The window, in milliseconds, is not a whole number of seconds up to [`MAX_WINDOW_MS`].
    #[error("found a window of {0} ms, want whole seconds from 1s to 366d")]
    Window(u64),
    /// The limit of a sliding log is 0 or over [`sliding_log::MAX_LIMIT`].
    #[error("found a limit of {0} requests, want 1 to {max} for a sliding log", max = sliding_log::MAX_LIMIT)]
    LogLimit(u64),
    /// The capacity of a bucket is 0 or over [`MAX_LIMIT`], or takes over [`MAX_WINDOW_MS`] to fill.
    #[error("found a capacity of {0}, want 1 to {MAX_LIMIT}, filled within 366d")]
    Capacity(u64),
    /// The longest wait of a shaper, in milliseconds, is over a day.
    #[error("found a delay of {0} ms, want at most 1d")]
    Delay(u64),
    /// The number of keys is 0 or over [`exact::MAX_KEYS`].
    #[error("found max_keys of {0}, want 1 to {max}", max = exact::MAX_KEYS)]
    MaxKeys(u64),
    /// The number of clients is 0 or over [`estimate::MAX_CLIENTS`].
    #[error("found expected_clients of {0}, want 1 to {max}", max = estimate::MAX_CLIENTS)]
    Clients(u64),
}

/// Whether a rule may have this limit and this window.
fn check_rate(limit: u64, window_ms: u64) -> Result<(), Fault> {
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Fault::Limit(limit));
    }
    if !(1000..=MAX_WINDOW_MS).contains(&window_ms) || !window_ms.is_multiple_of(1000) {
        return Err(Fault::Window(window_ms));
    }
    Ok(())
}

/// Who is counted, and by which limit: 128 bits of SipHash-1-3 under a key drawn at random when the
/// process starts. Nobody outside can aim two clients at one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl Key {
    /// The key of a client under the limit `limit_id`. Parts are told apart by their lengths:
    /// `["ab", "c"]` and `["a", "bc"]` are two clients.
    pub fn new(limit_id: u64, parts: &[&[u8]]) -> Self {
        let mut key = Self::begin(limit_id);
        for part in parts {
            key.part(part);
        }
        key.finish()
    }

    /// Begins a key under the limit `limit_id`.
    pub fn begin(limit_id: u64) -> KeyHasher {
        let (k0, k1) = process_secret();
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        hasher.write_u64(limit_id);
        KeyHasher(hasher)
    }

    fn bits(self) -> u128 {
        self.0
    }

    /// Its bits, for a process that has the same [`secret`].
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// The key that has these bits.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

/// A key that is being made.
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// Adds a part.
    pub fn part(&mut self, part: &[u8]) {
        self.0.write_u64(part.len() as u64);
        self.0.write(part);
    }

    /// The key of all parts.
    pub fn finish(self) -> Key {
        Key(self.0.finish128().as_u128())
    }
}

static SECRET: OnceLock<(u64, u64)> = OnceLock::new();

/// What keys are made with in this process. Whoever knows it can aim two clients at one count: it
/// goes to the process that takes this one's place and nowhere else.
pub fn secret() -> (u64, u64) {
    process_secret()
}

/// Takes the secret of the process whose counts are taken over. False if keys were made already.
pub fn adopt(secret: (u64, u64)) -> bool {
    SECRET.set(secret).is_ok()
}

fn process_secret() -> (u64, u64) {
    // RandomState is seeded by the operating system, anew for each process.
    *SECRET.get_or_init(|| {
        let draw = || RandomState::new().build_hasher().finish();
        (draw(), draw())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable_and_tell_parts_apart() {
        let key = Key::new(1, &[b"ab", b"c"]);
        assert_eq!(key, Key::new(1, &[b"ab", b"c"]));
        assert_ne!(key, Key::new(1, &[b"a", b"bc"]), "parts run together");
        assert_ne!(key, Key::new(1, &[b"abc"]), "parts run together");
        assert_ne!(key, Key::new(2, &[b"ab", b"c"]), "limits share a count");
        assert_ne!(Key::new(1, &[]), Key::new(1, &[b""]));
    }

    #[test]
    fn the_process_secret_is_drawn() {
        let (a, b) = process_secret();
        assert_ne!(a, b);
        assert_eq!((a, b), process_secret());
    }

    #[test]
    fn faults_say_what_was_found_and_what_is_wanted() {
        assert_eq!(
            Fault::Limit(0).to_string(),
            "found a limit of 0 requests, want 1 to 268435454"
        );
        assert_eq!(
            Fault::Window(500).to_string(),
            "found a window of 500 ms, want whole seconds from 1s to 366d"
        );
        assert_eq!(
            Fault::MaxKeys(0).to_string(),
            "found max_keys of 0, want 1 to 1073741824"
        );
    }
}
