//! The cache of what Redis says of API keys, against a naive twin that remembers everything that
//! happened, in order.

use proptest::prelude::*;
use std::collections::HashMap;
use tollgate::identity::key_cache::{
    Answer, CacheRules, Found, KeyCache, Memory, Ticket, UNWATCHED_MS,
};
use tollgate::identity::key_record::{KeyDigest, KeyRecord};

#[derive(Clone, Debug)]
enum Step {
    /// A question is sent; its answer comes with the next `Answer` of the key.
    Ask {
        key: u8,
    },
    Answer {
        key: u8,
        what: u8,
    },
    Get {
        key: u8,
    },
    Changed {
        key: u8,
    },
    Watching,
    Lost,
    Pass {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..20_u8;
    prop_oneof![
        4 => key().prop_map(|key| Step::Ask { key }),
        4 => (key(), 0..3_u8).prop_map(|(key, what)| Step::Answer { key, what }),
        6 => key().prop_map(|key| Step::Get { key }),
        2 => key().prop_map(|key| Step::Changed { key }),
        1 => Just(Step::Watching),
        1 => Just(Step::Lost),
        3 => (0..1500_u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

const RULES: CacheRules = CacheRules {
    ttl_ms: 4000,
    negative_ttl_ms: 2000,
    max_stale_ms: 9000,
    max_cached: 1 << 17,
};

/// What the twin knows of one answer: when it was asked for, by the clock and by the number of things
/// that had happened, and what it was.
#[derive(Clone, Copy)]
struct Told {
    at_ms: u64,
    event: usize,
    what: u8,
    number: u64,
}

#[derive(Default)]
struct Twin {
    now_ms: u64,
    /// Changes of keys, and each time it began to be told of them.
    events: Vec<Option<u8>>,
    watched: bool,
    asked: HashMap<u8, (u64, usize)>,
    told: HashMap<u8, Told>,
}

impl Twin {
    /// `fresh`, `old` or nothing, and of what.
    fn get(&self, key: u8) -> Option<(bool, u8, u64)> {
        let told = self.told.get(&key)?;
        let since = &self.events[told.event..];
        if since.contains(&Some(key)) {
            return None;
        }
        let known = told.what == 0;
        let ttl = if known {
            RULES.ttl_ms
        } else {
            RULES.negative_ttl_ms
        };
        let ttl = if self.watched {
            ttl
        } else {
            ttl.min(UNWATCHED_MS)
        };
        let age = self.now_ms - told.at_ms;
        let fresh = age < ttl && !since.contains(&None);
        let lives = fresh || known && age < RULES.max_stale_ms;
        lives.then_some((fresh, told.what, told.number))
    }
}

fn text(key: u8) -> Vec<u8> {
    format!("key number {key}").into_bytes()
}

fn answer(what: u8, number: u64) -> Answer {
    match what {
        0 => Answer::Known(KeyRecord {
            id: number.to_string().into(),
            client: "c".into(),
            ..KeyRecord::default()
        }),
        1 => Answer::Unknown,
        _ => Answer::Unusable,
    }
}

/// As [`Twin::get`] has it.
fn found(memory: Memory) -> Option<(bool, u8, u64)> {
    let (fresh, found) = match memory {
        Memory::Fresh(found) => (true, found),
        Memory::Old(found) => (false, found),
        Memory::Nothing => return None,
    };
    Some(match found {
        Found::Known(caller) => {
            let id = caller.expect("a live key").key_id.clone();
            (fresh, 0, id.expect("an id").parse().expect("a number"))
        }
        Found::Unknown => (fresh, 1, 0),
        Found::Unusable => (fresh, 2, 0),
    })
}

fn run(steps: &[Step], max_cached: usize) -> Result<bool, TestCaseError> {
    let cache = KeyCache::new(
        "apps",
        CacheRules {
            max_cached,
            ..RULES
        },
    );
    let mut tickets: HashMap<u8, Ticket> = HashMap::new();
    let (mut twin, mut complete) = (Twin::default(), true);
    for (number, step) in steps.iter().enumerate() {
        let number = number as u64;
        match *step {
            Step::Ask { key } => {
                let digest = KeyDigest::of(&text(key));
                tickets.insert(key, cache.ticket(&digest, twin.now_ms));
                twin.asked.insert(key, (twin.now_ms, twin.events.len()));
            }
            Step::Answer { key, what } => {
                let Some(ticket) = tickets.remove(&key) else {
                    continue;
                };
                cache.put(cache.mark(&text(key)), ticket, answer(what, number));
                let (at_ms, event) = twin.asked[&key];
                let number = if what == 0 { number } else { 0 };
                let told = Told {
                    at_ms,
                    event,
                    what,
                    number,
                };
                twin.told.insert(key, told);
            }
            Step::Get { key } => {
                let memory = cache.get(cache.mark(&text(key)), twin.now_ms, 0);
                let (found, want) = (found(memory), twin.get(key));
                match found {
                    Some(_) => prop_assert_eq!(found, want, "key {}", key),
                    None => complete &= want.is_none(),
                }
            }
            Step::Changed { key } => {
                cache.changed(&KeyDigest::of(&text(key)));
                twin.events.push(Some(key));
            }
            Step::Watching => {
                cache.watching();
                twin.watched = true;
                twin.events.push(None);
            }
            Step::Lost => {
                cache.lost();
                twin.watched = false;
            }
            Step::Pass { ms } => twin.now_ms += ms,
        }
    }
    Ok(complete)
}

proptest! {
    /// With room for eight, one forgets, but never says what the twin would not.
    #[test]
    fn never_answers_what_the_twin_would_not(steps in prop::collection::vec(step(), 1..400)) {
        run(&steps, 8)?;
    }

    /// With room for all, and more buckets than keys, it says all that the twin does.
    #[test]
    fn forgets_nothing_while_there_is_room(steps in prop::collection::vec(step(), 1..400)) {
        let buckets: std::collections::HashSet<u64> = (0..20)
            .map(|key| KeyDigest::of(&text(key)).head() & (RULES.max_cached as u64 - 1))
            .collect();
        prop_assert_eq!(buckets.len(), 20, "no two of these keys share a bucket");
        prop_assert!(run(&steps, RULES.max_cached)?);
    }
}

#[test]
fn many_threads_at_once_never_mix_keys_up() {
    let cache = KeyCache::new(
        "apps",
        CacheRules {
            max_cached: 16,
            ..RULES
        },
    );
    cache.watching();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..20_000_u64 {
                    let key = u8::try_from((round * 7 + thread) % 50).expect("small");
                    let (mark, digest) = (cache.mark(&text(key)), KeyDigest::of(&text(key)));
                    if let Some(found) = found(cache.get(mark, 1, 0)) {
                        assert_eq!(found, (true, 0, u64::from(key)));
                    } else {
                        let ticket = cache.ticket(&digest, 1);
                        cache.put(mark, ticket, answer(0, u64::from(key)));
                    }
                    if round % 100 == 0 {
                        cache.changed(&digest);
                    }
                }
            });
        }
    });
    assert!(cache.count() <= 16, "{}", cache.count());
}
