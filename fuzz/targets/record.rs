//! Any text as what lies in Redis under an API key: what is read out of it is what stands there, and comes back
//! from what is written.
#![no_main]

use std::sync::Arc;
use tollgate::identity::key_record::{KeyDigest, KeyRecord, MAX_RECORD, RecordFault};
use tollgate_fuzz::json::{self, Json};
use tollgate_fuzz::mutate;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let digest = KeyDigest::of(b"key");
    let reading = json::object(text).filter(|_| text.len() <= MAX_RECORD);
    let record = match KeyRecord::from_json(text, digest) {
        Ok(record) => record,
        Err(fault) => {
            let none = matches!(fault, RecordFault::TooLarge | RecordFault::NotAnObject);
            return assert_eq!(none, reading.is_none(), "{fault}");
        }
    };
    let reading = reading.expect("accepted: it is an object");
    said(&record, &reading);
    let written = serde_json::Value::from(record.to_json()).to_string();
    let again = KeyRecord::from_json(written.as_bytes(), digest);
    assert_eq!(again.as_ref(), Ok(&record), "written as {written}");
});

/// The record says no more than the text.
fn said(record: &KeyRecord, reading: &Json) {
    let member = |name: &str| reading.get(name).filter(|value| **value != Json::Null);
    let text = |name: &str| member(name).and_then(Json::text);
    assert_eq!(Some(&*record.client), text("client"));
    assert!(!record.client.trim().is_empty(), "a key of nobody's");
    assert_eq!(record.tier.as_deref(), text("tier"));
    assert_eq!(
        record.disabled,
        member("disabled") == Some(&Json::Bool(true))
    );
    assert_eq!(record.rate_limit.is_some(), member("rate_limit").is_some());
    assert_eq!(
        record.expires_unix_s.is_some(),
        member("expires").is_some(),
        "a key without its end"
    );
    let caller = record.principal(&Arc::from("keys"));
    let named = |name: &str, item: &str| match member(name) {
        Some(Json::Text(all)) => all.split(' ').any(|own| own == item),
        Some(Json::List(all)) => all.iter().any(|own| own.text() == Some(item)),
        _ => false,
    };
    for scope in &record.scopes {
        assert!(
            named("scopes", scope) && caller.scopes.has(scope),
            "{scope:?}"
        );
        assert!(
            !scope.contains([' ', '"', '\\']) && !scope.contains(char::is_control),
            "{scope:?}"
        );
    }
    assert!(record.roles.iter().all(|role| named("roles", role)));
    for scope in ["read", "admin"] {
        assert_eq!(
            caller.scopes.has(scope),
            named("scopes", scope),
            "the scope {scope}"
        );
    }
}

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    mutate::bytes(data, size, room, seed, mutate::value)
});
