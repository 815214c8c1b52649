//! Any text as a key set, from an issuer's address and from the operator's file: every key that is taken is one
//! that the standards allow for what it is taken for.
#![no_main]

use tollgate::identity::alg::{Alg, Algs, KeyKind};
use tollgate::identity::json::strict;
use tollgate::identity::key::Key;
use tollgate::identity::keyset::{KeySet, KeySetFault, MAX_KEYS, Origin};
use tollgate_fuzz::base64url;
use tollgate_fuzz::json::{self, Json};
use tollgate_fuzz::mutate;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let reading = json::read(text).filter(|json| !json.repeats());
    match (strict(text), &reading) {
        (None, None) => {}
        (Some(value), Some(own)) => assert!(own.is(&value), "read as {value}, which is {own:?}"),
        (value, own) => panic!("one reader has {value:?}, the other {own:?}"),
    }
    let rsa = Algs::of_kind(KeyKind::Rsa);
    for (origin, allowed) in [
        (Origin::Fetched, Algs::all()),
        (Origin::File, Algs::all()),
        (Origin::Fetched, rsa),
    ] {
        judge(text, reading.as_ref(), origin, allowed);
    }
});

fn judge(text: &[u8], reading: Option<&Json>, origin: Origin, allowed: Algs) {
    let jwks = reading.and_then(|set| set.get("keys")?.list());
    let set = match KeySet::from_jwks(text, origin, allowed) {
        Ok(set) => set,
        Err(KeySetFault::NotJson) => {
            let object = matches!(reading, Some(Json::Object(_)));
            return assert!(!object, "refused: {reading:?}");
        }
        Err(KeySetFault::NotASet) => return assert!(jwks.is_none(), "refused: {reading:?}"),
        Err(fault) => {
            return assert!(
                jwks.is_some() && fault.to_string().len() < 64 * 1024,
                "{fault}"
            );
        }
    };
    let jwks = jwks.expect("accepted: it is a set");
    assert!((1..=MAX_KEYS).contains(&set.count()));
    assert_eq!(
        set.count() + set.warnings().len(),
        jwks.len(),
        "every key is taken or told of"
    );
    let mut rest = jwks.iter();
    for key in set.keys() {
        let twins = set
            .keys()
            .iter()
            .filter(|other| key.kid().is_some() && other.kid() == key.kid());
        assert!(twins.count() <= 1, "two keys of one id");
        assert!(
            allowed.both(key.algs()) == key.algs() && !key.algs().is_empty(),
            "{key:?}"
        );
        // Keys keep their order: each is one of those behind the one before.
        let of = rest.find(|jwk| fault(key, jwk, origin).is_none());
        assert!(of.is_some(), "{key:?} is of none of {jwks:?}");
    }
    let turned = reading.map(Json::turned).unwrap_or_default();
    if let Ok(turned) = KeySet::from_jwks(turned.as_bytes(), origin, allowed) {
        assert!(turned.same_keys(&set), "the order of members counts");
    } else {
        assert!(
            turned.len() > text.len(),
            "refused with its members turned round"
        );
    }
}

/// Why `key` cannot have been made of `jwk`.
fn fault(key: &Key, jwk: &Json, origin: Origin) -> Option<&'static str> {
    let text = |name: &str| jwk.get(name).and_then(Json::text);
    let bytes = |name: &str| text(name).and_then(base64url::read);
    let only = |kind: KeyKind| key.algs().iter().all(|alg| alg.kind() == kind);
    let good = match text("kty").unwrap_or_default() {
        "oct" => {
            let length = bytes("k").map_or(0, |k| k.len());
            let covers = |alg: Alg| alg.kind() == KeyKind::Secret && length >= alg.min_secret();
            origin == Origin::File && key.algs().iter().all(covers)
        }
        "RSA" => only(KeyKind::Rsa) && is_rsa(bytes("n"), bytes("e")),
        "EC" => [("P-256", KeyKind::P256, 32), ("P-384", KeyKind::P384, 48)]
            .iter()
            .any(|(crv, kind, size)| {
                let whole = |name| bytes(name).is_some_and(|number| number.len() == *size);
                text("crv") == Some(crv) && only(*kind) && whole("x") && whole("y")
            }),
        "OKP" => {
            let whole = bytes("x").is_some_and(|x| x.len() == 32);
            text("crv") == Some("Ed25519") && only(KeyKind::Ed25519) && whole
        }
        _ => false,
    };
    let ops = jwk.get("key_ops").map(|ops| ops.list().unwrap_or_default());
    let verifies = |ops: &[Json]| ops.iter().any(|op| op.text() == Some("verify"));
    let alg = jwk.get("alg").map(|alg| alg.text().unwrap_or_default());
    let is = |own: Alg, name| own.name() == name || own == Alg::EdDSA && name == "Ed25519";
    if !good {
        Some("not of its kind (RFC 7518 §6)")
    } else if jwk.get("kid").is_some() && text("kid").is_none() || key.kid() != text("kid") {
        Some("of another id (RFC 7517 §4.5)")
    } else if jwk.get("use").is_some() && text("use") != Some("sig") {
        Some("not for signatures (RFC 7517 §4.2)")
    } else if !ops.is_none_or(verifies) {
        Some("not for verifying (RFC 7517 §4.3)")
    } else if !alg.is_none_or(|name| key.algs().iter().all(|own| is(own, name))) {
        Some("for another algorithm (RFC 7517 §4.4)")
    } else if text("kty") != Some("oct") && jwk.get("d").is_some() {
        Some("a private key (RFC 7518 §6.2.2)")
    } else {
        None
    }
}

/// A modulus and an exponent that may be used (RFC 7518 §3.3).
fn is_rsa(n: Option<Vec<u8>>, e: Option<Vec<u8>>) -> bool {
    let number = |bytes: Option<Vec<u8>>| {
        let mut bytes = bytes.unwrap_or_default();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.split_off(zeros)
    };
    let (n, e) = (number(n), number(e));
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let bits = n.len() * 8 - n.first().map_or(0, |top| top.leading_zeros() as usize);
    (2048..=8192).contains(&bits) && odd(&n) && odd(&e) && e != [1] && e.len() <= 4
}

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    mutate::bytes(data, size, room, seed, mutate::value)
});
