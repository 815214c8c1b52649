//! Tokens verified a moment ago, so that the next request with the same token costs a comparison
//! and not a signature.
//!
//! A set-associative array without locks: a keyed hash of the token's last 64 bytes and its length
//! chooses a set of four places, and the verdict rests on comparing the WHOLE token. Hashing the
//! tail alone is safe for that reason, and spreads well because the tail is the signature: tokens
//! get in only after they were verified, so nobody can fill a set with tails of his own choosing,
//! and the hash's key is random per process.
//!
//! An entry answers only before the token's own `exp` (the leeway is not used: in those last
//! seconds a token is verified anew each time), for the issuer as it was compiled, and while that
//! issuer has the key that verified it. A reload or the end of a key thereby forgets it at once; a
//! key that comes beside it does not.
//!
//! Memory: at most `capacity` entries of at most [`MAX_TOKEN`] bytes and the principal read from
//! them, about 10 KiB each in the worst case and about 1.5 KiB for usual tokens.

use super::principal::Principal;
use arc_swap::ArcSwapOption;
use siphasher::sip::SipHasher13;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use uuid::Uuid;

/// The longest token that is remembered, in bytes; longer ones are verified each time.
pub const MAX_TOKEN: usize = 4 * 1024;
/// Places in one set.
const WAYS: usize = 4;

/// By whom and with which key a token was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// [`super::jwt::Issuer::serial`].
    pub issuer: u64,
    /// [`super::key::Key::serial`].
    pub key: u64,
}

struct Entry {
    token: Box<[u8]>,
    stamp: Stamp,
    exp_ms: u64,
    principal: Arc<Principal>,
}

/// One set. A place's tag is part of the hash of what it holds: it spares looking into places
/// that cannot match, and being out of step with the place only costs a miss.
#[derive(Default)]
struct Set {
    tags: [AtomicU32; WAYS],
    hand: AtomicU32,
    places: [ArcSwapOption<Entry>; WAYS],
}

/// The verified tokens of one process. Shared; reading and writing need no lock.
pub struct Seen {
    hasher: SipHasher13,
    sets: Box<[Set]>,
}

impl Seen {
    /// Room for at least `capacity` tokens, rounded up to a power of two of at least 4.
    pub fn new(capacity: usize) -> Seen {
        let count = capacity.div_ceil(WAYS).next_power_of_two();
        let [k0, k1] = [(); 2].map(|()| Uuid::new_v4().as_u64_pair().0);
        Seen {
            hasher: SipHasher13::new_with_keys(k0, k1),
            sets: (0..count).map(|_| Set::default()).collect(),
        }
    }

    /// How many tokens fit.
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// The caller that `token` was found to speak for, if that still holds at `now_unix_ms`.
    /// `counts` says whether that issuer is accepted here and still has that key.
    pub fn get(
        &self,
        token: &[u8],
        now_unix_ms: u64,
        counts: impl Fn(Stamp) -> bool,
    ) -> Option<Arc<Principal>> {
        let (set, tag) = self.place(token);
        for (own, place) in set.tags.iter().zip(&set.places) {
            if own.load(Relaxed) != tag {
                continue;
            }
            let entry = place.load();
            let Some(entry) = entry.as_deref().filter(|entry| *entry.token == *token) else {
                continue;
            };
            let holds = now_unix_ms < entry.exp_ms && counts(entry.stamp);
            return holds.then(|| Arc::clone(&entry.principal));
        }
        None
    }

    /// Remembers a token that was verified just now. A token that is too long or has reached its
    /// `exp` (it may be within the leeway) is not remembered.
    pub fn put(
        &self,
        token: &[u8],
        stamp: Stamp,
        exp_ms: u64,
        now_unix_ms: u64,
        principal: Arc<Principal>,
    ) {
        if token.len() > MAX_TOKEN || now_unix_ms >= exp_ms {
            return;
        }
        let (set, tag) = self.place(token);
        let way = set.way_for(token, now_unix_ms);
        let token = Box::from(token);
        let entry = Entry {
            token,
            stamp,
            exp_ms,
            principal,
        };
        set.places[way].store(Some(Arc::new(entry)));
        set.tags[way].store(tag, Relaxed);
    }

    fn place(&self, token: &[u8]) -> (&Set, u32) {
        let tail = &token[token.len().saturating_sub(64)..];
        let hash = self.hasher.hash(tail) ^ token.len() as u64;
        let index = hash as usize & (self.sets.len() - 1);
        (&self.sets[index], (hash >> 32) as u32)
    }
}

impl Set {
    /// Where to put `token`: where it is already, else an empty or expired place, else the next
    /// in turn.
    fn way_for(&self, token: &[u8], now_unix_ms: u64) -> usize {
        let mut free = None;
        for (way, place) in self.places.iter().enumerate() {
            match place.load().as_deref() {
                Some(entry) if *entry.token == *token => return way,
                Some(entry) if now_unix_ms < entry.exp_ms => {}
                _ => free = free.or(Some(way)),
            }
        }
        free.unwrap_or_else(|| self.hand.fetch_add(1, Relaxed) as usize % WAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::principal::Method;

    const STAMP: Stamp = Stamp { issuer: 1, key: 7 };

    fn caller(name: &str) -> Arc<Principal> {
        Arc::new(Principal {
            user: Some(name.to_owned()),
            ..Principal::new(Method::Jwt, &Arc::from("corp"))
        })
    }

    fn current(stamp: Stamp) -> bool {
        stamp == STAMP
    }

    #[test]
    fn holds_until_exp_and_not_a_moment_longer() {
        let seen = Seen::new(64);
        seen.put(b"token", STAMP, 1000, 0, caller("u"));
        assert!(seen.get(b"token", 999, current).is_some());
        assert!(seen.get(b"token", 1000, current).is_none());
        seen.put(b"late", STAMP, 1000, 1000, caller("u"));
        assert!(
            seen.get(b"late", 0, current).is_none(),
            "was put within the leeway"
        );
    }

    #[test]
    fn only_for_the_same_issuer_and_key() {
        let seen = Seen::new(64);
        seen.put(b"token", STAMP, 1000, 0, caller("u"));
        assert!(seen.get(b"token", 1, |_| false).is_none());
        assert!(seen.get(b"token", 1, |stamp| stamp.key == 8).is_none());
        assert!(seen.get(b"token", 1, current).is_some());
        let moved = Stamp { issuer: 1, key: 8 };
        seen.put(b"token", moved, 1000, 0, caller("u"));
        assert!(
            seen.get(b"token", 1, current).is_none(),
            "verified with the newer key"
        );
        assert!(seen.get(b"token", 1, |stamp| stamp.key == 8).is_some());
    }

    #[test]
    fn the_whole_token_counts() {
        let seen = Seen::new(4); // one set
        let tail = "s".repeat(100);
        let (one, two) = (format!("one.{tail}"), format!("two.{tail}"));
        seen.put(one.as_bytes(), STAMP, 1000, 0, caller("one"));
        assert!(
            seen.get(two.as_bytes(), 1, current).is_none(),
            "same tail and length"
        );
        seen.put(two.as_bytes(), STAMP, 1000, 0, caller("two"));
        let user = |token: &str| seen.get(token.as_bytes(), 1, current).unwrap().user.clone();
        assert_eq!(user(&one).as_deref(), Some("one"));
        assert_eq!(user(&two).as_deref(), Some("two"));
    }

    #[test]
    fn bounded_and_expired_go_first() {
        let seen = Seen::new(1);
        assert_eq!(seen.capacity(), 4);
        seen.put(&[b'x'; MAX_TOKEN + 1], STAMP, 1000, 0, caller("u"));
        assert!(seen.get(&[b'x'; MAX_TOKEN + 1], 1, current).is_none());
        for (token, exp) in [
            ("a", 100),
            ("b", 1000),
            ("c", 1000),
            ("d", 1000),
            ("e", 1000),
        ] {
            let now = if token == "e" { 100 } else { 0 };
            seen.put(token.as_bytes(), STAMP, exp, now, caller(token));
        }
        let held = |token: &str| seen.get(token.as_bytes(), 100, current).is_some();
        assert!(!held("a") && ["b", "c", "d", "e"].into_iter().all(held));
        seen.put(b"f", STAMP, 1000, 100, caller("f"));
        assert_eq!(
            ["b", "c", "d", "e", "f"]
                .into_iter()
                .filter(|t| held(t))
                .count(),
            4
        );
        assert!(seen.get(b"", 1, current).is_none());
    }
}
