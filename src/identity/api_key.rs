//! API keys: random texts of which we keep only a digest.
//!
//! A key is found by the SHA-256 of all of it. A fast digest is enough because keys are made by
//! [`generate`] with more than 192 random bits: there is nothing to guess from the digest.
//!
//! A key that was found once is found by a keyed hash of all of it from then on, at a twentieth of the
//! digest's cost where the processor has no instructions for SHA-256. The hash is SipHash-2-4 with 128
//! bits, a pseudo-random function whose key is random for each list and leaves the process nowhere:
//! nobody can make a text that has the hash of another one, and nothing is learnt from the hash kept.

use super::principal::{Method, Principal, Scopes};
use crate::base::secret::{same, sha256};
use siphasher::sip128::SipHasher24;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

/// What a key's digest starts with in a key file: `sha256:` and 64 hexadecimal digits.
pub const HASH_PREFIX: &str = "sha256:";
/// What every key made by [`generate`] starts with.
pub const KEY_PREFIX: &str = "tg_";
/// The longest key that is looked at, in bytes.
pub const MAX_KEY: usize = 512;
/// Characters of the random part of a key, of 62 kinds: 238 bits.
const RANDOM: usize = 40;
/// Characters of a key's id.
const ID: usize = 10;

/// One key as written in a key file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// The key's public id, for logs and revocation.
    pub id: String,
    /// [`HASH_PREFIX`] and the hexadecimal SHA-256 of the whole key.
    pub hash: String,
    /// The client the key belongs to.
    pub client: String,
    /// The client's service tier.
    pub tier: Option<String>,
    /// What the key allows.
    pub scopes: Vec<String>,
    /// The roles it gives.
    pub roles: Vec<String>,
    /// When it stops working, in Unix seconds; never if none.
    pub expires_unix_s: Option<u64>,
}

/// Why a presented key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// No such key.
    #[error("not a known API key")]
    Unknown,
    /// The key's time is over.
    #[error("an expired API key")]
    Expired,
}

struct Entry {
    hash: [u8; 32],
    expires_unix_s: Option<u64>,
    principal: Arc<Principal>,
    /// The keyed hash of the key itself, once it was presented.
    mark: OnceLock<u128>,
}

/// The keys of one provider, compiled.
pub struct ApiKeys {
    name: String,
    entries: Vec<Entry>,
    /// By digest, the place of each.
    keys: HashMap<[u8; 32], usize>,
    recent: Recent,
}

/// Where keys that were presented are found by their keyed hash. What a place says is a hint: whether
/// it is the key is told by its entry's mark, which is written once.
struct Recent {
    hasher: SipHasher24,
    /// The upper half of a hash, and in its place of the lower bits that of an entry, from 1; 0 where
    /// there is none.
    places: Box<[AtomicU64]>,
}

/// Bits of a hint that say which entry: more keys than fit are always found by their digest.
const WHICH: u32 = 24;

impl ApiKeys {
    /// Compiles the records of the provider `name`. Tells of every fault, each with the record's
    /// place from 0: an empty id or client, a hash of another form, a repeated id or hash.
    pub fn new(name: &str, records: Vec<ApiKeyRecord>) -> Result<ApiKeys, Vec<(usize, String)>> {
        let provider: Arc<str> = Arc::from(name);
        let mut keys = HashMap::with_capacity(records.len());
        let mut entries = Vec::with_capacity(records.len());
        let (mut ids, mut faults) = (HashSet::new(), Vec::new());
        for (place, record) in records.into_iter().enumerate() {
            if !ids.insert(record.id.clone()) {
                faults.push((
                    place,
                    format!("id: {:?} is taken by an earlier key", record.id),
                ));
            }
            match Entry::new(record, &provider) {
                Err(fault) => faults.push((place, fault)),
                Ok(entry) => {
                    if keys.insert(entry.hash, entries.len()).is_some() {
                        faults.push((place, "hash: the same key is listed twice".to_owned()));
                    }
                    entries.push(entry);
                }
            }
        }
        let name = name.to_owned();
        if faults.is_empty() {
            let recent = Recent::of(entries.len());
            Ok(ApiKeys {
                name,
                entries,
                keys,
                recent,
            })
        } else {
            Err(faults)
        }
    }

    /// The caller that the key `presented` belongs to.
    pub fn find(&self, presented: &[u8], now_unix_s: u64) -> Result<Arc<Principal>, KeyFault> {
        if presented.is_empty() || presented.len() > MAX_KEY {
            return Err(KeyFault::Unknown);
        }
        let entry = self.look_up(presented).ok_or(KeyFault::Unknown)?;
        if entry.expires_unix_s.is_some_and(|end| now_unix_s >= end) {
            return Err(KeyFault::Expired);
        }
        Ok(Arc::clone(&entry.principal))
    }

    fn look_up(&self, presented: &[u8]) -> Option<&Entry> {
        let mark = self.recent.mark(presented);
        let known = |place: usize| self.entries[place].mark.get() == Some(&mark);
        if let Some(place) = self.recent.find(mark, known) {
            return Some(&self.entries[place]);
        }
        let hash = sha256(presented);
        let place = *self.keys.get(&hash)?;
        let entry = &self.entries[place];
        if !same(&entry.hash, &hash) {
            return None;
        }
        if entry.mark.get_or_init(|| mark) == &mark {
            self.recent.note(mark, place);
        }
        Some(entry)
    }

    /// The provider's name in our configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many keys there are, expired ones too.
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}

impl Recent {
    /// Room for each of `count` keys, which then rarely take each other's place.
    fn of(count: usize) -> Self {
        let [k0, k1] = [(); 2].map(|()| Uuid::new_v4().as_u64_pair().0);
        let room = count.clamp(1, 1 << (WHICH - 2)) * 2;
        Self {
            hasher: SipHasher24::new_with_keys(k0, k1),
            places: (0..room.next_power_of_two())
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// The keyed hash of a text.
    fn mark(&self, text: &[u8]) -> u128 {
        self.hasher.hash(text).as_u128()
    }

    /// The two places where the entry with a mark may be noted.
    fn places(&self, mark: u128) -> [&AtomicU64; 2] {
        [mark, mark >> 32].map(|bits| &self.places[bits as usize & (self.places.len() - 1)])
    }

    fn find(&self, mark: u128, known: impl Fn(usize) -> bool) -> Option<usize> {
        let hints = self.places(mark).map(|place| place.load(Relaxed));
        let mut hints = hints
            .iter()
            .filter(|hint| (*hint ^ upper(mark)) >> WHICH == 0);
        let which = |hint: &u64| (hint & ((1 << WHICH) - 1)).checked_sub(1);
        hints.find_map(|hint| Some(which(hint)? as usize).filter(|place| known(*place)))
    }

    /// Takes the first place that is free, else the first.
    fn note(&self, mark: u128, place: usize) {
        let which = place as u64 + 1;
        if which >> WHICH != 0 {
            return;
        }
        let places = self.places(mark);
        let free = places.iter().find(|place| place.load(Relaxed) == 0);
        free.unwrap_or(&places[0])
            .store(upper(mark) >> WHICH << WHICH | which, Relaxed);
    }
}

/// The half of a mark that tells hints apart.
fn upper(mark: u128) -> u64 {
    (mark >> 64) as u64
}

impl Entry {
    fn new(record: ApiKeyRecord, provider: &Arc<str>) -> Result<Entry, String> {
        let ApiKeyRecord {
            id,
            hash,
            client,
            tier,
            scopes,
            roles,
            expires_unix_s,
        } = record;
        if id.is_empty() || client.is_empty() {
            return Err("id and client: want both, and neither empty".to_owned());
        }
        let hash = read_hash(&hash)?;
        let principal = Arc::new(Principal {
            client_id: Some(client),
            scopes: scopes.into_iter().collect::<Scopes>(),
            roles,
            tier: tier.filter(|tier| !tier.is_empty()),
            key_id: Some(id),
            ..Principal::new(Method::ApiKey, provider)
        });
        Ok(Entry {
            hash,
            expires_unix_s,
            principal,
            mark: OnceLock::new(),
        })
    }
}

/// Makes a new key for `client`: the key itself, to be shown once, and the record to keep, with
/// no tier, scopes, roles or end yet.
pub fn generate(client: &str) -> (String, ApiKeyRecord) {
    let id = random_text(ID);
    let plain = format!("{KEY_PREFIX}{id}_{}", random_text(RANDOM));
    let hash = write_hash(&sha256(plain.as_bytes()));
    let client = client.to_owned();
    (
        plain,
        ApiKeyRecord {
            id,
            hash,
            client,
            ..ApiKeyRecord::default()
        },
    )
}

/// `length` random letters and digits, each of the 62 equally likely.
fn random_text(length: usize) -> String {
    const CHARS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let bytes = Uuid::new_v4().into_bytes();
        // Bytes 6 and 8 hold the version and variant; 248 is the last multiple of 62 in a byte.
        let random = bytes
            .iter()
            .enumerate()
            .filter(|(at, b)| *at != 6 && *at != 8 && **b < 248);
        let chars = random.map(|(_, b)| char::from(CHARS[usize::from(b % 62)]));
        text.extend(chars.take(length - text.len()));
    }
    text
}

fn write_hash(hash: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
    let hex = hash.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    HASH_PREFIX.chars().chain(hex).collect()
}

fn read_hash(text: &str) -> Result<[u8; 32], String> {
    // The text is not repeated in the message: someone may have put the key itself there.
    let wrong = || format!("hash: want {HASH_PREFIX} and 64 hexadecimal digits");
    let hex = text.strip_prefix(HASH_PREFIX).ok_or_else(wrong)?;
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect();
    let digits = digits.filter(|d| d.len() == 64).ok_or_else(wrong)?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_found_and_nothing_else() {
        let (plain, mut record) = generate("MobileApp");
        let (other, mut short) = generate("Partner");
        record.scopes = vec!["read".into(), "read".into()];
        record.tier = Some("gold".into());
        short.expires_unix_s = Some(1000);
        let id = record.id.clone();
        let keys = ApiKeys::new("partners", vec![record, short]).unwrap();
        assert_eq!((keys.count(), keys.name()), (2, "partners"));
        let caller = keys.find(plain.as_bytes(), u64::MAX).unwrap();
        assert_eq!(caller.client(), "MobileApp");
        assert_eq!(caller.key_id.as_deref(), Some(id.as_str()));
        assert_eq!(caller.tier.as_deref(), Some("gold"));
        assert!(caller.scopes.has("read") && caller.user.is_none());
        assert!(keys.find(other.as_bytes(), 999).is_ok());
        assert_eq!(keys.find(other.as_bytes(), 1000), Err(KeyFault::Expired));
        let long = [b'a'; MAX_KEY + 1];
        for wrong in [&b""[..], b"tg_", &plain.as_bytes()[1..], &[0xff; 32], &long] {
            assert_eq!(keys.find(wrong, 0), Err(KeyFault::Unknown));
        }
        assert_eq!(
            keys.find(format!("{plain} ").as_bytes(), 0),
            Err(KeyFault::Unknown)
        );
    }

    /// Whatever the short way knows or has forgotten, the digest's answer is given.
    #[test]
    fn the_short_way_finds_what_the_digest_finds() {
        let (plain, records): (Vec<_>, Vec<_>) =
            (0..100).map(|n| generate(&format!("client {n}"))).unzip();
        let mut keys = ApiKeys::new("k", records).unwrap();
        for room in [1, 100] {
            keys.recent = Recent::of(room);
            keys.entries
                .iter_mut()
                .for_each(|e| e.mark = OnceLock::new());
            for _ in 0..3 {
                for (n, key) in plain.iter().enumerate() {
                    let caller = keys.find(key.as_bytes(), 0).unwrap();
                    assert_eq!(caller.client(), format!("client {n}"));
                    let mut wrong = key.clone().into_bytes();
                    wrong[n % key.len()] ^= 1;
                    assert_eq!(keys.find(&wrong, 0), Err(KeyFault::Unknown));
                }
            }
        }
        let known = |key: &String| {
            let mark = keys.recent.mark(key.as_bytes());
            let is = |place: usize| keys.entries[place].mark.get() == Some(&mark);
            keys.recent.find(mark, is).is_some()
        };
        let by_mark = plain.iter().filter(|key| known(key)).count();
        assert!(
            by_mark > 90,
            "{by_mark}: each was presented, and there is room"
        );
    }

    #[test]
    fn made_keys_have_the_form_and_never_meet() {
        let mut all = HashSet::new();
        for _ in 0..500 {
            let (plain, record) = generate("c");
            let parts: Vec<&str> = plain.split('_').collect();
            assert_eq!(parts[..2], ["tg", record.id.as_str()]);
            assert_eq!(
                (parts[1].len(), parts[2].len(), parts.len()),
                (ID, RANDOM, 3)
            );
            assert!(
                plain
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_')
            );
            assert!(!record.hash.contains(parts[2]));
            assert!(all.insert(plain) && all.insert(record.id));
        }
    }

    #[test]
    fn hashes_there_and_back() {
        let hash = sha256(b"abc");
        let text = write_hash(&hash);
        assert!(text.starts_with("sha256:ba7816bf8f01cfea"));
        assert_eq!(read_hash(&text), Ok(hash));
        assert_eq!(read_hash(&text.replace("ba78", "BA78")), Ok(hash));
        for wrong in [
            "",
            "sha256:",
            &text[7..],
            &text[..70],
            &format!("{text}0"),
            "md5:00",
        ] {
            let why = read_hash(wrong).unwrap_err();
            assert!(wrong.len() < 8 || !why.contains(wrong), "{why}");
        }
    }

    #[test]
    fn every_fault_is_told() {
        let (_, good) = generate("c");
        let twin = ApiKeyRecord {
            id: "other".into(),
            ..good.clone()
        };
        let nameless = ApiKeyRecord {
            client: String::new(),
            ..generate("c").1
        };
        let hashless = ApiKeyRecord {
            hash: "secret".into(),
            ..generate("c").1
        };
        let same_id = ApiKeyRecord {
            id: good.id.clone(),
            ..generate("c").1
        };
        let all = vec![good, twin, nameless, hashless, same_id];
        let Err(faults) = ApiKeys::new("k", all) else {
            panic!("accepted")
        };
        let told: Vec<String> = faults
            .iter()
            .map(|(at, why)| format!("{at} {why}"))
            .collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].starts_with("1 hash") && told[1].starts_with("2 id and client"));
        assert!(told[2].starts_with("3 hash") && told[3].starts_with("4 id"));
    }
}
