//! The cache at its edges.

use super::*;

const RULES: CacheRules = CacheRules {
    ttl_ms: 60_000,
    negative_ttl_ms: 5000,
    max_stale_ms: 3_600_000,
    max_cached: 1024,
};

fn record(key: &str) -> KeyRecord {
    KeyRecord {
        id: key.into(),
        client: key.into(),
        digest: KeyDigest::of(key.as_bytes()),
        ..KeyRecord::default()
    }
}

fn cache() -> KeyCache {
    let cache = KeyCache::new("apps", RULES);
    cache.watching();
    cache
}

fn put(cache: &KeyCache, key: &str, at_ms: u64, answer: Answer) {
    let ticket = cache.ticket(&KeyDigest::of(key.as_bytes()), at_ms);
    cache.put(cache.mark(key.as_bytes()), ticket, answer);
}

/// `fresh`, `old` or `nothing`, and of whom.
fn told(cache: &KeyCache, key: &str, now_ms: u64) -> String {
    let found = |found: Found| match found {
        Found::Known(Ok(caller)) => caller.client().to_owned(),
        Found::Known(Err(fault)) => format!("{fault:?}"),
        other => format!("{other:?}"),
    };
    match cache.get(cache.mark(key.as_bytes()), now_ms, now_ms / 1000) {
        Memory::Fresh(what) => format!("fresh {}", found(what)),
        Memory::Old(what) => format!("old {}", found(what)),
        Memory::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn each_answer_holds_for_its_time() {
    let cache = cache();
    put(&cache, "a", 1000, Answer::Known(record("a")));
    put(&cache, "b", 1000, Answer::Unknown);
    put(&cache, "c", 1000, Answer::Unusable);
    for (key, at, want) in [
        ("a", 60_999, "fresh a"),
        ("a", 61_000, "old a"),
        ("a", 3_600_999, "old a"),
        ("a", 3_601_000, "nothing"),
        ("b", 5999, "fresh Unknown"),
        ("b", 6000, "nothing"),
        ("c", 5999, "fresh Unusable"),
        ("c", 6000, "nothing"),
        ("d", 1000, "nothing"),
    ] {
        assert_eq!(told(&cache, key, at), want, "{key} at {at}");
    }
}

#[test]
fn a_change_is_never_answered_from_before() {
    let cache = cache();
    let digest = KeyDigest::of(b"a");
    put(&cache, "a", 0, Answer::Known(record("a")));
    put(&cache, "b", 0, Answer::Known(record("b")));
    cache.changed(&digest);
    assert_eq!(told(&cache, "a", 1), "nothing");
    assert_eq!(told(&cache, "b", 1), "fresh b");
    // A question on its way while the key changes.
    let ticket = cache.ticket(&digest, 2);
    cache.changed(&digest);
    assert!(!cache.holds(&ticket));
    cache.put(cache.mark(b"a"), ticket, Answer::Known(record("a")));
    assert_eq!(told(&cache, "a", 3), "nothing");
    put(&cache, "a", 4, Answer::Unknown);
    assert_eq!(told(&cache, "a", 5), "fresh Unknown");
    cache.changed(&digest);
    assert_eq!(told(&cache, "a", 6), "nothing", "made a moment ago");
}

#[test]
fn what_may_have_been_missed_is_confirmed() {
    let cache = cache();
    put(&cache, "a", 0, Answer::Known(record("a")));
    cache.lost();
    assert_eq!(told(&cache, "a", UNWATCHED_MS - 1), "fresh a");
    assert_eq!(told(&cache, "a", UNWATCHED_MS), "old a");
    put(&cache, "b", 500, Answer::Unknown);
    assert_eq!(told(&cache, "b", 501), "fresh Unknown");
    cache.watching();
    assert_eq!(told(&cache, "a", 501), "old a");
    assert_eq!(told(&cache, "b", 501), "nothing");
    put(&cache, "a", 600, Answer::Known(record("a")));
    assert_eq!(told(&cache, "a", 60_599), "fresh a");
    cache.watching();
    assert_eq!(told(&cache, "a", 601), "old a", "all of it was emptied");
}

#[test]
fn what_the_record_says_is_judged_each_time() {
    let cache = cache();
    let ends = KeyRecord {
        expires_unix_s: Some(10),
        ..record("a")
    };
    put(&cache, "a", 0, Answer::Known(ends.clone()));
    assert_eq!(told(&cache, "a", 9999), "fresh a");
    assert_eq!(told(&cache, "a", 10_000), "fresh Expired");
    let disabled = true;
    put(
        &cache,
        "a",
        0,
        Answer::Known(KeyRecord { disabled, ..ends }),
    );
    assert_eq!(told(&cache, "a", 0), "fresh Disabled");
}

#[test]
fn a_caller_that_is_confirmed_is_the_same() {
    let cache = cache();
    let caller = |at_ms| match cache.get(cache.mark(b"a"), at_ms, 0) {
        Memory::Fresh(Found::Known(Ok(caller))) => caller,
        other => panic!("{other:?}"),
    };
    put(&cache, "a", 0, Answer::Known(record("a")));
    let first = caller(0);
    put(&cache, "a", 10, Answer::Known(record("a")));
    assert!(Arc::ptr_eq(&first, &caller(10)));
    let id = "other".into();
    put(
        &cache,
        "a",
        20,
        Answer::Known(KeyRecord { id, ..record("a") }),
    );
    assert_eq!(caller(20).key_id.as_deref(), Some("other"));
    put(&cache, "a", 30, Answer::Unknown);
    assert_eq!(
        (told(&cache, "a", 30).as_str(), cache.count()),
        ("fresh Unknown", 0)
    );
    put(&cache, "a", 40, Answer::Known(record("a")));
    assert_eq!(
        (told(&cache, "a", 40).as_str(), cache.count()),
        ("fresh a", 1)
    );
}

#[test]
fn bounded_and_the_longest_unconfirmed_goes_first() {
    let max_cached = WAYS;
    let cache = KeyCache::new(
        "apps",
        CacheRules {
            max_cached,
            ..RULES
        },
    );
    cache.watching();
    let names: Vec<String> = (0..=WAYS).map(|n| n.to_string()).collect();
    for (n, name) in names.iter().enumerate().take(WAYS) {
        put(&cache, name, 100 - n as u64, Answer::Known(record(name)));
    }
    for n in 0..1000 {
        put(&cache, &format!("made up {n}"), 100, Answer::Unknown);
    }
    let held = |name: &String| told(&cache, name, 200).starts_with("fresh");
    assert_eq!(
        (names.iter().filter(|n| held(n)).count(), cache.evicted()),
        (WAYS, 0)
    );
    let last = &names[WAYS];
    put(&cache, last, 200, Answer::Known(record(last)));
    assert!(!held(&names[WAYS - 1]) && names[..WAYS - 1].iter().all(held) && held(last));
    assert_eq!((cache.count(), cache.evicted()), (WAYS, 1));
}
