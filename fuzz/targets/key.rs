//! Any text as an API key: told from others by its form alone, as a scanner that knows nothing of the gateway
//! would do it; and of all texts only the one key of a list is found.
#![no_main]

use std::sync::{Arc, LazyLock};
use tollgate::identity::api_key::ApiKeys;
use tollgate::identity::key_format::{KeyFormat, MAX_KEY, is_ours};
use tollgate::identity::key_record::{KeyDigest, KeyFault, KeyRecord};
use tollgate_fuzz::keys::NOW_S;
use tollgate_fuzz::{api_key, mutate};

/// The key of the lists.
const KEY: &[u8] = include_bytes!("../corpus/key/listed");

/// One list for each form of keys.
static LISTS: LazyLock<[(KeyFormat, ApiKeys); 2]> = LazyLock::new(|| {
    let record = KeyRecord {
        id: "k".into(),
        digest: KeyDigest::of(KEY),
        client: "c".into(),
        ..KeyRecord::default()
    };
    [KeyFormat::Any, KeyFormat::Tollgate].map(|format| {
        let keys = ApiKeys::new("keys", format, Arc::from(vec![record.clone()]));
        (format, keys.expect("a good record"))
    })
});

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let ours = api_key::is_ours(text);
    assert_eq!(is_ours(text), ours, "the form of our keys");
    let visible =
        (1..=MAX_KEY).contains(&text.len()) && text.iter().all(|byte| (b'!'..=b'~').contains(byte));
    for (format, keys) in LISTS.iter() {
        let admits = match format {
            KeyFormat::Any => ours || visible && !text.starts_with(b"tg_"),
            KeyFormat::Tollgate => ours,
        };
        assert_eq!(format.admits(text), admits, "{format:?}");
        // Twice: by its digest, then by what is remembered.
        for _ in 0..2 {
            let found = keys
                .find(text, NOW_S)
                .map(|caller| caller.client_id.clone());
            let want = match admits {
                _ if text == KEY => Ok(Some("c".to_owned())),
                true => Err(KeyFault::Unknown),
                false => Err(KeyFault::Malformed),
            };
            assert_eq!(found, want);
        }
        assert_eq!(keys.is_known(text, NOW_S), text == KEY);
    }
    if let Some(made) = api_key::made_of(text) {
        assert!(is_ours(&made), "made by its rules: {}", made.escape_ascii());
        slips(&made, text);
    }
});

/// No slip of one character leaves a key well-formed, nor do two that change places.
fn slips(key: &[u8], text: &[u8]) {
    let other = text.last().copied().unwrap_or_default();
    for at in 0..key.len() {
        let mut slip = key.to_vec();
        if std::mem::replace(&mut slip[at], other) != other {
            assert!(
                !is_ours(&slip),
                "{} for {}",
                slip.escape_ascii(),
                key.escape_ascii()
            );
        }
        let mut slip = key.to_vec();
        slip.swap(at, (at + 1) % key.len());
        assert_eq!(is_ours(&slip), slip == key, "{}", slip.escape_ascii());
    }
}

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    mutate::bytes(data, size, room, seed, mutate::key)
});
