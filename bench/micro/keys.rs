//! Lists of API keys of any length, and keys out of them.

use std::sync::Arc;
use tollgate::base::clock::Clock;
use tollgate::identity::api_key::ApiKeys;
use tollgate::identity::key_cache::{Answer, CacheRules, KeyCache};
use tollgate::identity::key_format::{KeyFormat, generate};
use tollgate::identity::key_record::{KeyDigest, KeyRecord};

/// How many keys are presented; fewer than the shortest list has.
const PRESENTED: usize = 600;
/// When.
const NOW_S: u64 = 1_800_000_000;

/// A list, and the keys that are presented to it in turn.
pub struct Keys {
    /// Those of a file.
    pub file: Option<ApiKeys>,
    /// Those that Redis has told of.
    pub cache: Option<KeyCache>,
    presented: Vec<String>,
    turn: usize,
}

impl Keys {
    /// So many keys in a file, of which each that is presented comes for the first time.
    pub fn first(count: usize) -> Keys {
        let (presented, mut records): (Vec<_>, Vec<_>) = (0..PRESENTED)
            .map(|n| generate(&format!("client {n}")))
            .unzip();
        records.extend((PRESENTED..count).map(other));
        let file = ApiKeys::new("bench", KeyFormat::Any, Arc::from(records));
        Keys {
            file: Some(file.expect("good records")),
            cache: None,
            presented,
            turn: 0,
        }
    }

    /// So many keys in a file, of which each that is presented was presented before.
    pub fn again(count: usize) -> Keys {
        let keys = Keys::first(count);
        for key in &keys.presented {
            let found = keys
                .file
                .as_ref()
                .map(|file| file.find(key.as_bytes(), NOW_S));
            assert!(found.is_some_and(|found| found.is_ok()));
        }
        keys
    }

    /// So many keys that were looked up in Redis a moment ago.
    pub fn cached(count: usize) -> Keys {
        let rules = CacheRules {
            ttl_ms: 60_000,
            negative_ttl_ms: 10_000,
            max_stale_ms: 60_000,
            // With room to spare, as sets are filled unevenly.
            max_cached: count * 4,
        };
        let cache = KeyCache::new("bench", rules);
        cache.watching();
        let put = |key: &str, record: KeyRecord| {
            let ticket = cache.ticket(&record.digest, 1);
            cache.put(cache.mark(key.as_bytes()), ticket, Answer::Known(record));
        };
        // Before those that are presented: however unevenly sets are filled, none of these has to go.
        (PRESENTED..count).for_each(|n| put(&format!("other {n}"), other(n)));
        let mut presented = Vec::new();
        for n in 0..PRESENTED {
            let (key, record) = generate(&format!("client {n}"));
            put(&key, record);
            presented.push(key);
        }
        Keys {
            file: None,
            cache: Some(cache),
            presented,
            turn: 0,
        }
    }

    /// The key whose turn it is, and when it is presented, in Unix seconds.
    pub fn presented(&self) -> (&[u8], u64) {
        (self.presented[self.turn].as_bytes(), NOW_S)
    }

    /// Nanoseconds that one round takes; each has the next key.
    pub fn run(&mut self, part: fn(&Keys), rounds: u32) -> f64 {
        let clock = Clock::system();
        let begin = clock.now();
        for round in 0..rounds {
            self.turn = round as usize % PRESENTED;
            part(self);
        }
        clock.now().since_ns(begin) as f64 / f64::from(rounds)
    }
}

/// A key that nobody presents; its digest only has to look like one.
fn other(n: usize) -> KeyRecord {
    let mut digest = [0; 32];
    for (place, part) in digest.chunks_mut(8).enumerate() {
        let mixed = ((n * 4 + place) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        part.copy_from_slice(
            &(mixed ^ mixed >> 29)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                .to_be_bytes(),
        );
    }
    KeyRecord {
        id: format!("other-{n}").into(),
        digest: KeyDigest(digest),
        client: "other".into(),
        ..KeyRecord::default()
    }
}
