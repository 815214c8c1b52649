//! Request limits: the sliding-window rule and the two places that keep its counts.
//!
//! * [`sliding_window`] is the rule alone: counts and a time in, a decision out.
//! * [`exact`] keeps the counts of known clients in a bounded table, each decision one atomic step.
//! * [`estimate`] keeps them in a sketch of fixed size, for keys that anybody can make up.
//!
//! Both stores take a [`Key`]: a keyed hash of the limit and of what identifies the client.

mod cell;
pub mod estimate;
pub mod exact;
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

/// What a limit says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may pass; if so it has been counted.
    pub allowed: bool,
    /// Requests allowed in a window.
    pub limit: u64,
    /// Further requests that would be allowed at this moment, this one counted; never negative.
    pub remaining: u64,
    /// When the current window ends, in Unix milliseconds.
    pub reset_ms: u64,
    /// Milliseconds until a request of the same cost would be allowed if nobody else asked, exact
    /// by the formula: 0 if this one was allowed, [`Decision::NEVER`] if its cost is over the limit.
    pub retry_after_ms: u64,
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
    /// The number of keys is 0 or over [`exact::MAX_KEYS`].
    #[error("found max_keys of {0}, want 1 to {max}", max = exact::MAX_KEYS)]
    MaxKeys(u64),
    /// The number of clients is 0 or over [`estimate::MAX_CLIENTS`].
    #[error("found expected_clients of {0}, want 1 to {max}", max = estimate::MAX_CLIENTS)]
    Clients(u64),
}

/// Who is counted, and by which limit: 128 bits of SipHash-1-3 under a key drawn at random when the
/// process starts. Nobody outside can aim two clients at one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl Key {
    /// The key of a client under the limit `limit_id`. Parts are told apart by their lengths:
    /// `["ab", "c"]` and `["a", "bc"]` are two clients.
    pub fn new(limit_id: u64, parts: &[&[u8]]) -> Self {
        let (k0, k1) = process_secret();
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        hasher.write_u64(limit_id);
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        Self(hasher.finish128().as_u128())
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
