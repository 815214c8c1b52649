//! The API keys of a file: random texts of which we keep only a digest.
//!
//! A key is found by the SHA-256 of all of it. A key that was found once is found by a keyed hash of all
//! of it from then on, at a twentieth of the digest's cost where the processor has no instructions for
//! SHA-256. The hash is SipHash-2-4 with 128 bits, a pseudo-random function whose key is random for
//! each list and leaves the process nowhere: nobody can make a text that has the hash of another one,
//! and nothing is learnt from the hash kept.
//!
//! What a key costs in memory is its record, which the config holds anyway, and up to 80 bytes; the
//! caller it stands for is made when it is first presented.

use super::key_format::{KeyFormat, MAX_KEY};
use super::key_record::{KeyDigest, KeyFault, KeyRecord};
use super::principal::Principal;
use crate::base::secret::same;
use siphasher::sip128::SipHasher24;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

/// The keys of one provider, compiled.
pub struct ApiKeys {
    provider: Arc<str>,
    format: KeyFormat,
    records: Arc<[KeyRecord]>,
    /// Of each record, what is known since its key was presented.
    used: Box<[OnceLock<Used>]>,
    places: Places,
    recent: Recent,
}

/// What is known of a key that was presented.
struct Used {
    /// The keyed hash of the key itself, in two halves.
    mark: [u64; 2],
    principal: Arc<Principal>,
}

/// Where records are, by digest: open addressing, at most half full. The digests are those of the
/// file, so that nobody who presents keys can crowd them.
struct Places(Box<[u32]>);

/// Where keys that were presented are found by their keyed hash. What a place says is a hint: whether
/// it is the key is told by its entry's mark, which is written once.
struct Recent {
    hasher: SipHasher24,
    /// The upper half of a hash, and in its place of the lower bits that of an entry, from 1; 0 where
    /// there is none.
    places: Box<[AtomicU64]>,
}

/// Places of a group: half a line of the processor's cache.
const GROUP: usize = 4;
/// Bits of a hint that say which entry: more keys than fit are always found by their digest.
const WHICH: u32 = 24;

impl ApiKeys {
    /// Compiles the records of the provider `name`. Tells of every fault, each with the record's
    /// place from 0: an empty id or client, a repeated id or digest.
    pub fn new(
        name: &str,
        format: KeyFormat,
        records: Arc<[KeyRecord]>,
    ) -> Result<ApiKeys, Vec<(usize, String)>> {
        let mut places = Places::of(records.len());
        let (mut ids, mut faults) = (HashSet::new(), Vec::new());
        for (at, record) in records.iter().enumerate() {
            if record.id.is_empty() || record.client.is_empty() {
                let text = "id and client: want both, and neither empty";
                faults.push((at, text.to_owned()));
            }
            if !ids.insert(&record.id) {
                let text = format!("id: {:?} is taken by an earlier key", record.id);
                faults.push((at, text));
            }
            if !places.add(at, &records) {
                faults.push((at, "hash: the same key is listed twice".to_owned()));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(ApiKeys {
            provider: Arc::from(name),
            format,
            used: (0..records.len()).map(|_| OnceLock::new()).collect(),
            places,
            recent: Recent::of(records.len()),
            records,
        })
    }

    /// The caller that the key `presented` belongs to.
    ///
    /// # Errors
    /// It is not to be used.
    pub fn find(&self, presented: &[u8], now_unix_s: u64) -> Result<Arc<Principal>, KeyFault> {
        if presented.len() > MAX_KEY {
            return Err(KeyFault::Malformed);
        }
        let mark = self.recent.mark(presented);
        let (record, used) = match self.known(mark) {
            Some(known) => known,
            None => self.look_up(presented, mark)?,
        };
        record.usable(now_unix_s)?;
        Ok(Arc::clone(&used.principal))
    }

    /// Whether the key was presented before, and may be used.
    pub fn is_known(&self, presented: &[u8], now_unix_s: u64) -> bool {
        let short = presented.len() <= MAX_KEY;
        let known = short.then(|| self.known(self.recent.mark(presented)));
        known
            .flatten()
            .is_some_and(|(record, _)| record.usable(now_unix_s).is_ok())
    }

    fn known(&self, mark: u128) -> Option<(&KeyRecord, &Used)> {
        let is = |at: &usize| {
            let used = self.used[*at].get();
            used.filter(|used| used.mark == halves(mark))
        };
        let at = self.recent.find(mark, |at| is(&at).is_some())?;
        Some((&self.records[at], is(&at)?))
    }

    fn look_up(&self, presented: &[u8], mark: u128) -> Result<(&KeyRecord, &Used), KeyFault> {
        if !self.format.admits(presented) {
            return Err(KeyFault::Malformed);
        }
        let digest = KeyDigest::of(presented);
        let at = self.places.find(&digest, &self.records);
        let at = at.ok_or(KeyFault::Unknown)?;
        let record = &self.records[at];
        let used = self.used[at].get_or_init(|| Used {
            mark: halves(mark),
            principal: Arc::new(record.principal(&self.provider)),
        });
        if used.mark == halves(mark) {
            self.recent.note(mark, at);
        }
        Ok((record, used))
    }

    /// The provider's name in our configuration.
    pub fn name(&self) -> &str {
        &self.provider
    }

    /// How many keys there are, expired ones too.
    pub fn count(&self) -> usize {
        self.records.len()
    }
}

impl Places {
    fn of(count: usize) -> Self {
        Self(vec![0; (2 * count).next_power_of_two().max(2)].into())
    }

    /// The places to look at for a digest, in order.
    fn from(&self, digest: &KeyDigest) -> impl Iterator<Item = usize> + use<> {
        let (start, mask) = (digest.head() as usize, self.0.len() - 1);
        (0..=mask).map(move |step| (start.wrapping_add(step)) & mask)
    }

    /// Notes where a record is; false if an earlier one has the same digest.
    fn add(&mut self, at: usize, records: &[KeyRecord]) -> bool {
        let digest = &records[at].digest;
        for place in self.from(digest) {
            match self.0[place].checked_sub(1) {
                None => {
                    self.0[place] = u32::try_from(at + 1).unwrap_or(0);
                    return true;
                }
                Some(other) if records[other as usize].digest == *digest => return false,
                Some(_) => {}
            }
        }
        false
    }

    fn find(&self, digest: &KeyDigest, records: &[KeyRecord]) -> Option<usize> {
        for place in self.from(digest) {
            let at = self.0[place].checked_sub(1)? as usize;
            if same(&records[at].digest.0, &digest.0) {
                return Some(at);
            }
        }
        None
    }
}

impl Recent {
    /// Room for each of `count` keys, which then rarely take each other's place.
    fn of(count: usize) -> Self {
        let [k0, k1] = [(); 2].map(|()| Uuid::new_v4().as_u64_pair().0);
        let room = count.clamp(1, 1 << (WHICH - 2)) * 2;
        Self {
            hasher: SipHasher24::new_with_keys(k0, k1),
            places: (0..room.next_power_of_two().max(GROUP))
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// The keyed hash of a text.
    fn mark(&self, text: &[u8]) -> u128 {
        self.hasher.hash(text).as_u128()
    }

    /// The two groups of places where the entry with a mark may be noted. Of single places at half their
    /// room one key in fifty took another's, time and again.
    fn groups(&self, mark: u128) -> [&[AtomicU64]; 2] {
        let groups = self.places.len() / GROUP;
        [mark, mark >> 32].map(|bits| {
            let first = (bits as usize & (groups - 1)) * GROUP;
            &self.places[first..first + GROUP]
        })
    }

    fn find(&self, mark: u128, known: impl Fn(usize) -> bool) -> Option<usize> {
        let places = self.groups(mark).into_iter().flatten();
        let hints = places.map(|place| place.load(Relaxed));
        let mut hints = hints.filter(|hint| (hint ^ upper(mark)) >> WHICH == 0);
        let which = |hint: u64| (hint & ((1 << WHICH) - 1)).checked_sub(1);
        hints.find_map(|hint| Some(which(hint)? as usize).filter(|place| known(*place)))
    }

    /// Takes a free place of the group that has more of them, else its first.
    fn note(&self, mark: u128, place: usize) {
        let which = place as u64 + 1;
        if which >> WHICH != 0 {
            return;
        }
        let is_free = |place: &&AtomicU64| place.load(Relaxed) == 0;
        let [first, second] = self.groups(mark);
        let free = |group: &[AtomicU64]| group.iter().filter(is_free).count();
        let roomier = if free(second) > free(first) {
            second
        } else {
            first
        };
        let free = roomier.iter().find(is_free).unwrap_or(&roomier[0]);
        free.store(upper(mark) >> WHICH << WHICH | which, Relaxed);
    }
}

/// The half of a mark that tells hints apart.
fn upper(mark: u128) -> u64 {
    (mark >> 64) as u64
}

fn halves(mark: u128) -> [u64; 2] {
    [upper(mark), mark as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::key_format::generate;

    fn list(records: Vec<KeyRecord>) -> ApiKeys {
        ApiKeys::new("partners", KeyFormat::Any, records.into()).unwrap()
    }

    /// Some were looked up by their digest each time: two places for each key were too few.
    #[test]
    fn every_key_that_was_presented_is_known_from_then_on() {
        let (keys, records): (Vec<_>, Vec<_>) =
            (0..1000).map(|n| generate(&format!("client {n}"))).unzip();
        let list = ApiKeys::new("ours", KeyFormat::Any, Arc::from(records)).expect("good records");
        assert!(keys.iter().all(|key| !list.is_known(key.as_bytes(), 0)));
        assert!(keys.iter().all(|key| list.find(key.as_bytes(), 0).is_ok()));
        let forgotten = keys.iter().filter(|key| !list.is_known(key.as_bytes(), 0));
        assert!(forgotten.count() <= 1);
    }

    #[test]
    fn a_made_key_is_found_and_nothing_else() {
        let (plain, mut record) = generate("MobileApp");
        let (other, mut short) = generate("Partner");
        let (off, mut disabled) = generate("Partner");
        record.scopes = ["read", "read"].map(Box::from).into();
        record.tier = Some("gold".into());
        short.expires_unix_s = Some(1000);
        disabled.disabled = true;
        let id = record.id.clone();
        let keys = list(vec![record, short, disabled]);
        assert_eq!((keys.count(), keys.name()), (3, "partners"));
        assert!(!keys.is_known(plain.as_bytes(), 0), "nobody presented it");
        let caller = keys.find(plain.as_bytes(), u64::MAX).unwrap();
        assert_eq!(caller.client(), "MobileApp");
        assert_eq!(caller.key_id.as_deref(), Some(&*id));
        assert_eq!(caller.tier.as_deref(), Some("gold"));
        assert!(caller.scopes.has("read") && caller.user.is_none());
        assert!(keys.is_known(plain.as_bytes(), 0));
        assert!(keys.find(other.as_bytes(), 999).is_ok());
        assert!(keys.is_known(other.as_bytes(), 999) && !keys.is_known(other.as_bytes(), 1000));
        assert_eq!(keys.find(other.as_bytes(), 1000), Err(KeyFault::Expired));
        assert_eq!(keys.find(off.as_bytes(), 0), Err(KeyFault::Disabled));
        let unknown = generate("MobileApp").0;
        assert_eq!(keys.find(unknown.as_bytes(), 0), Err(KeyFault::Unknown));
        assert_eq!(keys.find(&plain.as_bytes()[1..], 0), Err(KeyFault::Unknown));
        let long = [b'a'; MAX_KEY + 1];
        let spaced = format!("{plain} ");
        for wrong in [&b""[..], b"tg_", &[0xff; 32], &long, spaced.as_bytes()] {
            assert_eq!(keys.find(wrong, 0), Err(KeyFault::Malformed));
            assert!(!keys.is_known(wrong, 0));
        }
    }

    #[test]
    fn keys_from_elsewhere_unless_the_list_is_ours_alone() {
        let record = KeyRecord {
            id: "old".into(),
            client: "c".into(),
            digest: KeyDigest::of(b"key-from-elsewhere"),
            ..KeyRecord::default()
        };
        let of = |format| ApiKeys::new("k", format, vec![record.clone()].into()).unwrap();
        assert!(of(KeyFormat::Any).find(b"key-from-elsewhere", 0).is_ok());
        let found = of(KeyFormat::Tollgate).find(b"key-from-elsewhere", 0);
        assert_eq!(found, Err(KeyFault::Malformed));
    }

    /// Whatever the short way knows or has forgotten, the digest's answer is given.
    #[test]
    fn the_short_way_finds_what_the_digest_finds() {
        let made = (0..100).map(|n| generate(&format!("client {n}")));
        let (plain, records): (Vec<_>, Vec<_>) = made.unzip();
        let mut keys = list(records);
        for room in [1, 100] {
            keys.recent = Recent::of(room);
            keys.used.iter_mut().for_each(|used| drop(used.take()));
            for _ in 0..3 {
                for (n, key) in plain.iter().enumerate() {
                    let caller = keys.find(key.as_bytes(), 0).unwrap();
                    assert_eq!(caller.client(), format!("client {n}"));
                    let mut wrong = key.clone().into_bytes();
                    wrong[n % key.len()] ^= 1;
                    keys.find(&wrong, 0).unwrap_err();
                }
            }
        }
        let known = |key: &&String| keys.is_known(key.as_bytes(), 0);
        let by_mark = plain.iter().filter(known).count();
        assert!(
            by_mark > 90,
            "{by_mark}: each was presented, and there is room"
        );
    }

    #[test]
    fn every_fault_is_told() {
        let (_, good) = generate("c");
        let twin = KeyRecord {
            id: "other".into(),
            ..good.clone()
        };
        let nameless = KeyRecord {
            client: "".into(),
            ..generate("c").1
        };
        let same_id = KeyRecord {
            id: good.id.clone(),
            ..generate("c").1
        };
        let all = vec![good, twin, nameless, same_id];
        let Err(faults) = ApiKeys::new("k", KeyFormat::Any, all.into()) else {
            panic!("accepted")
        };
        let told = faults.iter().map(|(at, why)| format!("{at} {why}"));
        let told: Vec<String> = told.collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("1 hash") && told[1].starts_with("2 id and client"));
        assert!(told[2].starts_with("3 id"));
    }
}
