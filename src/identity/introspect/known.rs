//! What issuers said of tokens a moment ago.
//!
//! Set-associative arrays without locks. An entry is found by the token's SHA-256, of which all 256
//! bits are compared: no two texts are known to share one, so that is as good as comparing the
//! tokens, and a dump of the memory holds no token that anybody could use. Whoever sends made-up
//! tokens chooses their digests; the hash that chooses a set is therefore keyed, with a key that is
//! random per process. Refusals have an array of their own, so that made-up tokens put out no good one.

use super::answer::{Grant, OpaqueFault};
use crate::base::secret;
use arc_swap::ArcSwapOption;
use siphasher::sip::SipHasher13;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use uuid::Uuid;

/// A token's SHA-256.
pub type Digest = [u8; 32];

/// How long an answer is good for the requests that waited for it, in milliseconds, even where
/// nothing is to be remembered.
pub const HAND_OVER_MS: u64 = 2000;

/// Places in one set.
const WAYS: usize = 4;
/// For each so many good tokens one refused one is remembered.
const REFUSED_SHARE: usize = 4;

/// What is known of a token.
#[derive(Clone, Debug)]
pub enum Fact {
    /// Its issuer calls it good.
    Good(Grant),
    /// It is refused.
    Refused(OpaqueFault),
    /// Its issuer was asked and did not answer as it should. Only those who waited are told.
    NoAnswer,
}

impl Fact {
    /// Whether a token that was good has reached its `exp`.
    pub fn has_ended(&self, now_unix_ms: u64) -> bool {
        match self {
            Self::Good(grant) => grant.exp_ms.is_some_and(|exp| now_unix_ms >= exp),
            Self::Refused(_) | Self::NoAnswer => false,
        }
    }
}

/// A fact and how long it counts, on the steady scale.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// When it came in.
    pub landed_ms: u64,
    /// When it ends for those who did not wait for it.
    pub until_ms: u64,
}

impl Life {
    fn counts(self, now_ms: u64, asked: bool) -> bool {
        let until = if asked {
            self.until_ms.max(self.landed_ms + HAND_OVER_MS)
        } else {
            self.until_ms
        };
        now_ms < until
    }
}

/// The answers of one issuer. Read without locks; written by one task.
pub struct Known {
    good: Shelf,
    refused: Shelf,
}

impl Known {
    /// Room for at least so many good tokens.
    pub fn new(capacity: usize) -> Self {
        Self {
            good: Shelf::new(capacity),
            refused: Shelf::new(capacity / REFUSED_SHARE),
        }
    }

    /// What is known of the token with this digest at `now_ms` (steady). `asked` by a request that
    /// waited for the answer.
    pub fn get(&self, digest: &Digest, now_ms: u64, asked: bool) -> Option<Fact> {
        let of = |shelf: &Shelf| shelf.get(digest, now_ms, asked);
        of(&self.good).or_else(|| of(&self.refused))
    }

    /// Remembers a fact in place of whatever was known of the token.
    pub fn put(&self, digest: Digest, life: Life, fact: Fact) {
        let (into, from) = match fact {
            Fact::Good(_) => (&self.good, &self.refused),
            Fact::Refused(_) | Fact::NoAnswer => (&self.refused, &self.good),
        };
        from.remove(&digest);
        into.put(digest, life, fact);
    }

    /// Forgets what was known of the token.
    pub fn remove(&self, digest: &Digest) {
        self.good.remove(digest);
        self.refused.remove(digest);
    }

    /// How many live entries gave way to others so far.
    pub fn evicted(&self) -> u64 {
        self.good.evicted.load(Relaxed) + self.refused.evicted.load(Relaxed)
    }
}

struct Entry {
    digest: Digest,
    life: Life,
    fact: Fact,
}

/// One set. A place's tag is part of the hash of what it holds: it spares looking into places
/// that cannot match, and being out of step with the place only costs a miss.
#[derive(Default)]
struct Set {
    tags: [AtomicU32; WAYS],
    hand: AtomicU32,
    places: [ArcSwapOption<Entry>; WAYS],
}

struct Shelf {
    hasher: SipHasher13,
    sets: Box<[Set]>,
    evicted: AtomicU64,
}

impl Shelf {
    fn new(capacity: usize) -> Self {
        let count = capacity.div_ceil(WAYS).next_power_of_two();
        let [k0, k1] = [(); 2].map(|()| Uuid::new_v4().as_u64_pair().0);
        Self {
            hasher: SipHasher13::new_with_keys(k0, k1),
            sets: (0..count).map(|_| Set::default()).collect(),
            evicted: AtomicU64::new(0),
        }
    }

    fn get(&self, digest: &Digest, now_ms: u64, asked: bool) -> Option<Fact> {
        let (set, tag) = self.place(digest);
        for (own, place) in set.tags.iter().zip(&set.places) {
            if own.load(Relaxed) != tag {
                continue;
            }
            let entry = place.load();
            let same = |entry: &&Entry| secret::same(&entry.digest, digest);
            if let Some(entry) = entry.as_deref().filter(same) {
                let counts = entry.life.counts(now_ms, asked);
                return counts.then(|| entry.fact.clone());
            }
        }
        None
    }

    fn put(&self, digest: Digest, life: Life, fact: Fact) {
        let (set, tag) = self.place(&digest);
        let (way, evicts) = set.way_for(&digest, life.landed_ms);
        if evicts {
            self.evicted.fetch_add(1, Relaxed);
        }
        let entry = Entry { digest, life, fact };
        set.places[way].store(Some(Arc::new(entry)));
        set.tags[way].store(tag, Relaxed);
    }

    fn remove(&self, digest: &Digest) {
        let (set, _) = self.place(digest);
        for place in &set.places {
            let holds = |entry: &Entry| secret::same(&entry.digest, digest);
            if place.load().as_deref().is_some_and(holds) {
                place.store(None);
            }
        }
    }

    fn place(&self, digest: &Digest) -> (&Set, u32) {
        let hash = self.hasher.hash(digest);
        let index = hash as usize & (self.sets.len() - 1);
        (&self.sets[index], (hash >> 32) as u32)
    }
}

impl Set {
    /// Where to put an entry: where the token's is already, else an empty or ended place, else the
    /// next in turn, which then gives way.
    fn way_for(&self, digest: &Digest, now_ms: u64) -> (usize, bool) {
        let mut free = None;
        for (way, place) in self.places.iter().enumerate() {
            match place.load().as_deref() {
                Some(entry) if secret::same(&entry.digest, digest) => return (way, false),
                Some(entry) if entry.life.counts(now_ms, true) => {}
                _ => free = free.or(Some(way)),
            }
        }
        let next = || (self.hand.fetch_add(1, Relaxed) as usize % WAYS, true);
        free.map_or_else(next, |way| (way, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::sha256;
    use crate::identity::claims::ClaimMap;
    use crate::identity::introspect::answer::{AnswerRules, Told, read};

    fn good(user: &str) -> Fact {
        let rules = AnswerRules {
            provider: Arc::from("corp"),
            issuer: None,
            audiences: None,
            leeway_ms: 0,
            claims: ClaimMap::default(),
        };
        let answer = format!("{{\"active\":true,\"sub\":\"{user}\"}}");
        match read(answer.as_bytes(), &rules) {
            Ok(Told::Active(grant)) => Fact::Good(grant),
            other => panic!("{other:?}"),
        }
    }

    fn life(landed_ms: u64, until_ms: u64) -> Life {
        Life {
            landed_ms,
            until_ms,
        }
    }

    fn user(known: &Known, token: &[u8], now_ms: u64) -> Option<String> {
        match known.get(&sha256(token), now_ms, false)? {
            Fact::Good(grant) => grant.principal.user.clone(),
            Fact::Refused(_) | Fact::NoAnswer => None,
        }
    }

    #[test]
    fn counts_until_its_end_and_a_moment_for_those_who_waited() {
        let known = Known::new(64);
        let token = sha256(b"token");
        known.put(token, life(0, 60_000), good("u"));
        assert_eq!(user(&known, b"token", 59_999).as_deref(), Some("u"));
        assert!(known.get(&token, 60_000, false).is_none());
        assert!(known.get(&token, 60_000, true).is_none());
        known.put(token, life(70_000, 70_000), good("u"));
        assert!(known.get(&token, 70_000, false).is_none());
        assert!(known.get(&token, 71_999, true).is_some());
        assert!(known.get(&token, 72_000, true).is_none());
    }

    #[test]
    fn the_newest_fact_counts() {
        let known = Known::new(64);
        let token = sha256(b"token");
        known.put(token, life(0, 60_000), good("u"));
        let refused = Fact::Refused(OpaqueFault::Inactive);
        known.put(token, life(1, 5001), refused);
        assert!(user(&known, b"token", 2).is_none());
        assert!(matches!(
            known.get(&token, 2, false),
            Some(Fact::Refused(_))
        ));
        known.put(token, life(2, 2), Fact::NoAnswer);
        assert!(known.get(&token, 2, false).is_none());
        assert!(matches!(known.get(&token, 2, true), Some(Fact::NoAnswer)));
        known.put(token, life(3, 60_000), good("u"));
        assert!(matches!(known.get(&token, 4, false), Some(Fact::Good(_))));
        known.remove(&token);
        assert!(known.get(&token, 4, true).is_none());
    }

    #[test]
    fn bounded_and_made_up_tokens_put_out_no_good_one() {
        let known = Known::new(16);
        let tokens: Vec<_> = (0..16u8).map(|n| sha256(&[n])).collect();
        for token in &tokens {
            known.put(*token, life(0, 60_000), good("u"));
        }
        let held = || {
            tokens
                .iter()
                .filter(|t| known.get(t, 1, false).is_some())
                .count()
        };
        let (before, evicted) = (held(), known.evicted());
        assert_eq!(before as u64, 16 - evicted, "each put out is counted");
        for n in 0..10_000u32 {
            let fact = Fact::Refused(OpaqueFault::Inactive);
            known.put(sha256(&n.to_le_bytes()), life(1, 5001), fact);
        }
        assert_eq!(held(), before);
        assert!(known.evicted() > evicted + 9000);
        let refused = (0..10_000u32).map(|n| sha256(&n.to_le_bytes()));
        let left = refused.filter(|t| known.get(t, 2, false).is_some()).count();
        assert!(left <= 4, "{left}");
    }

    #[test]
    fn ended_entries_give_way_first() {
        let known = Known::new(4); // one set
        for (n, until) in [60_000, 60_000, 2000, 60_000].into_iter().enumerate() {
            known.put(sha256(&[n as u8]), life(0, until), good("u"));
        }
        known.put(sha256(b"new"), life(2000, 60_000), good("u"));
        assert_eq!(known.evicted(), 0);
        assert!(known.get(&sha256(&[2]), 2000, false).is_none());
        known.put(sha256(b"newer"), life(2000, 60_000), good("u"));
        assert_eq!(known.evicted(), 1);
    }
}
