//! The set of all that is revoked: exact, read without a lock, written by one at a time.
//!
//! What it holds is found by a digest (SHA-256) of what an entry names, in shards that are replaced whole
//! when they change.

use super::entry::Revoked;
use crate::base::secret::sha256;
use crate::identity::principal::Principal;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A change of one entry copies a shard: of a million, a thousand entries.
const SHARDS: usize = 1024;

type Digest = [u8; 32];

/// Numbers of states, no two alike in this process, whichever set they are of. 0 is none.
static STATES: AtomicU64 = AtomicU64::new(1);

fn next_state() -> u64 {
    STATES.fetch_add(1, Ordering::Relaxed)
}

/// What an entry is found by.
struct Key {
    digest: Digest,
    /// Of a subject: tokens up to this time.
    before: Option<u64>,
}

/// Up to when the tokens of a subject are revoked, and until when that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cutoff {
    before: u64,
    until: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Shard {
    /// Each with the time until when it is remembered.
    whole: HashMap<Digest, u64>,
    subjects: HashMap<Digest, Vec<Cutoff>>,
}

impl Shard {
    /// Puts an entry in; false if it was there.
    fn put(&mut self, key: &Key, until: u64) -> bool {
        let Some(before) = key.before else {
            return self.whole.insert(key.digest, until).is_none();
        };
        let cutoffs = self.subjects.entry(key.digest).or_default();
        if let Some(known) = cutoffs.iter_mut().find(|c| c.before == before) {
            known.until = until;
            return false;
        }
        cutoffs.push(Cutoff { before, until });
        // So that two that hold the same are equal.
        cutoffs.sort_unstable_by_key(|cutoff| cutoff.before);
        true
    }

    fn holds(&self, key: &Key) -> bool {
        match key.before {
            None => self.whole.contains_key(&key.digest),
            Some(before) => {
                let cutoffs = self.subjects.get(&key.digest);
                cutoffs.is_some_and(|all| all.iter().any(|c| c.before == before))
            }
        }
    }

    /// Takes out what is not remembered any more; how many that were.
    fn forget(&mut self, now_s: u64) -> usize {
        let before = self.count();
        self.whole.retain(|_, until| *until > now_s);
        self.subjects.retain(|_, cutoffs| {
            cutoffs.retain(|cutoff| cutoff.until > now_s);
            !cutoffs.is_empty()
        });
        before - self.count()
    }

    fn any_over(&self, now_s: u64) -> bool {
        let mut subjects = self.subjects.values().flatten();
        self.whole.values().any(|until| *until <= now_s) || subjects.any(|c| c.until <= now_s)
    }

    fn count(&self) -> usize {
        self.whole.len() + self.subjects.values().map(Vec::len).sum::<usize>()
    }
}

/// The set.
pub struct Set {
    shards: Box<[ArcSwap<Shard>]>,
    count: AtomicUsize,
    /// Changed after every change that may revoke something more.
    state: AtomicU64,
}

/// What came of adding an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New,
    /// It was there.
    Known,
    /// There is no room for it.
    Full,
}

impl Default for Set {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| ArcSwap::default());
        Self {
            shards: shards.collect(),
            count: AtomicUsize::new(0),
            state: AtomicU64::new(next_state()),
        }
    }
}

impl Set {
    /// A set that begins as this one is.
    #[must_use]
    pub fn copied(&self) -> Self {
        let shards = self.shards.iter().map(|s| ArcSwap::new(s.load_full()));
        Self {
            shards: shards.collect(),
            count: AtomicUsize::new(self.len()),
            state: AtomicU64::new(next_state()),
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the caller is revoked. One atomic load for one who was compared with this state before.
    #[inline]
    pub fn covers(&self, caller: &Principal) -> bool {
        // Before the shards: whatever is put into them later changes it again.
        let state = self.state.load(Ordering::Acquire);
        if caller.unrevoked.at(state) {
            return false;
        }
        if self.names(caller) {
            return true;
        }
        caller.unrevoked.note(state);
        false
    }

    fn names(&self, caller: &Principal) -> bool {
        if self.is_empty() {
            return false;
        }
        if let Some(id) = &caller.key_id
            && self.has(digest(Kind::Key, id, ""))
        {
            return true;
        }
        let Some(issuer) = &caller.marks.issuer else {
            return false;
        };
        let of = |kind, text: &Option<Box<str>>| {
            let text = text.as_deref();
            text.is_some_and(|text| self.has(digest(kind, issuer, text)))
        };
        of(Kind::Token, &caller.marks.jti)
            || of(Kind::SigningKey, &caller.marks.kid)
            || caller.user.as_deref().is_some_and(|user| {
                let digest = digest(Kind::Subject, issuer, user);
                let shard = self.shard(&digest).load();
                let cutoffs = shard.subjects.get(&digest).into_iter().flatten();
                let issued = caller.marks.issued_s.unwrap_or(0);
                cutoffs.into_iter().any(|cutoff| issued <= cutoff.before)
            })
    }

    fn has(&self, digest: Digest) -> bool {
        self.shard(&digest).load().whole.contains_key(&digest)
    }

    fn shard(&self, digest: &Digest) -> &ArcSwap<Shard> {
        &self.shards[index(digest)]
    }

    /// Puts an entry in, unless there are `most` already. Not to be called by two at a time, as all that
    /// changes it.
    pub fn add(&self, revoked: &Revoked, until: u64, most: usize) -> Added {
        let key = key(revoked);
        let shard = self.shard(&key.digest);
        let mut changed = (**shard.load()).clone();
        if !changed.holds(&key) && self.len() >= most {
            return Added::Full;
        }
        let new = changed.put(&key, until);
        shard.store(Arc::new(changed));
        if !new {
            return Added::Known;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.state.store(next_state(), Ordering::Release);
        Added::New
    }

    /// Holds this, and nothing else, from now on.
    pub fn replace(&self, fresh: Fresh) {
        let mut changed = false;
        for (shard, new) in self.shards.iter().zip(fresh.shards) {
            if **shard.load() != new {
                shard.store(Arc::new(new));
                changed = true;
            }
        }
        self.count.store(fresh.count, Ordering::Relaxed);
        if changed {
            self.state.store(next_state(), Ordering::Release);
        }
    }

    /// Takes out what is not remembered any more. Nothing is revoked by that: the state stays.
    pub fn forget(&self, now_s: u64) {
        for shard in &self.shards {
            let held = shard.load();
            if held.any_over(now_s) {
                let mut changed = (**held).clone();
                let gone = changed.forget(now_s);
                shard.store(Arc::new(changed));
                self.count.fetch_sub(gone, Ordering::Relaxed);
            }
        }
    }
}

/// What a set is to hold.
pub struct Fresh {
    shards: Vec<Shard>,
    count: usize,
}

impl Default for Fresh {
    fn default() -> Self {
        Self {
            shards: vec![Shard::default(); SHARDS],
            count: 0,
        }
    }
}

impl Fresh {
    /// Puts an entry in; false if there are `most` already.
    pub fn put(&mut self, revoked: &Revoked, until: u64, most: usize) -> bool {
        let key = key(revoked);
        let shard = &mut self.shards[index(&key.digest)];
        if self.count >= most && !shard.holds(&key) {
            return false;
        }
        self.count += usize::from(shard.put(&key, until));
        true
    }
}

fn index(digest: &Digest) -> usize {
    usize::from(u16::from_le_bytes([digest[0], digest[1]])) % SHARDS
}

#[derive(Clone, Copy)]
enum Kind {
    Token = 0,
    Subject = 1,
    Key = 2,
    SigningKey = 3,
}

fn key(revoked: &Revoked) -> Key {
    let (digest, before) = match revoked {
        Revoked::Token { issuer, jti } => (digest(Kind::Token, issuer, jti), None),
        Revoked::Subject {
            issuer,
            subject,
            before,
        } => (digest(Kind::Subject, issuer, subject), Some(*before)),
        Revoked::Key { id } => (digest(Kind::Key, id, ""), None),
        Revoked::SigningKey { issuer, kid } => (digest(Kind::SigningKey, issuer, kid), None),
    };
    Key { digest, before }
}

fn digest(kind: Kind, first: &str, second: &str) -> Digest {
    let mut text = Vec::with_capacity(9 + first.len() + second.len());
    text.push(kind as u8);
    text.extend((first.len() as u64).to_be_bytes());
    text.extend_from_slice(first.as_bytes());
    text.extend_from_slice(second.as_bytes());
    sha256(&text)
}
