//! Key sets: which of their keys count, for what, and which are as if they were not there.

use super::super::support::*;
use super::case::{Rule, all_bad, all_good, bad, good, rule};
use super::site::{Site, at};
use serde_json::{Value, json};

const ALGORITHM: &str = "token_algorithm_not_allowed";
const KEY: &str = "token_key_unknown";
const SIGNATURE: &str = "token_signature_invalid";

/// A public key with some of its members changed; null takes one out.
fn key(name: &str, kid: &str, changes: Value) -> Value {
    let mut all = mint::jwk(name, kid);
    for (name, value) in changes.as_object().expect("an object") {
        all[name] = value.clone();
        if value.is_null() {
            all.as_object_mut().expect("an object").remove(name);
        }
    }
    all
}

/// The set of `/published`: good keys of every kind, each named for what it is, and bad ones.
pub fn published() -> String {
    let mut all = good_ones();
    all.extend(useless());
    mint::jwks(&all)
}

/// A member of a key with its first byte left out.
fn short(name: &str, member: &str) -> String {
    let key = mint::jwk(name, "x");
    let good = key[member].as_str().expect("a text");
    mint::encode(&base64(good)[1..])
}

fn good_ones() -> Vec<Value> {
    vec![
        key(
            "rsa-a",
            "rsa",
            json!({ "x": 1, "x5c": ["not looked at"], "x5t": "AAAA" }),
        ),
        key("p256", "p256", json!({ "use": "sig" })),
        key("p384", "p384", json!({ "key_ops": ["verify"] })),
        key("ed25519", "ed", json!({ "alg": "EdDSA" })),
        key(
            "rsa-a",
            "ops",
            json!({ "use": "sig", "key_ops": ["verify", "sign"] }),
        ),
        key("rsa-a", "only-ps", json!({ "alg": "PS256" })),
    ]
}

fn useless() -> Vec<Value> {
    vec![
        key("rsa-a", "enc", json!({ "use": "enc" })),
        key("rsa-a", "use-list", json!({ "use": ["sig"] })),
        key("rsa-a", "use-case", json!({ "use": "SIG" })),
        key("rsa-a", "encrypt", json!({ "key_ops": ["encrypt"] })),
        key("rsa-a", "sign", json!({ "key_ops": ["sign"] })),
        key("rsa-a", "ops-text", json!({ "key_ops": "verify" })),
        key("rsa-a", "ops-none", json!({ "key_ops": [] })),
        key("rsa-a", "kty-case", json!({ "kty": "rsa" })),
        key("rsa-a", "kty-new", json!({ "kty": "AKP" })),
        key("rsa-a", "kty-none", json!({ "kty": null })),
        key("rsa-a", "alg-other", json!({ "alg": "RS512" })),
        key("rsa-a", "alg-enc", json!({ "alg": "RSA-OAEP" })),
        key("rsa-a", "alg-number", json!({ "alg": 256 })),
        key("rsa-a", "private", json!({ "d": "AQAB" })),
        key("rsa-a", "e-1", json!({ "e": "AQ" })),
        key("rsa-a", "e-even", json!({ "e": "Ag" })),
        key("rsa-a", "n-none", json!({ "n": null })),
        key(
            "rsa-a",
            "n-short",
            json!({ "n": mint::encode([0xff; 128]) }),
        ),
        key("rsa-a", "n-padded", json!({ "n": "AQAB=" })),
        key("p256", "crv-none", json!({ "crv": null })),
        key("p256", "crv-521", json!({ "crv": "P-521" })),
        key("p256", "crv-k", json!({ "crv": "secp256k1" })),
        key("p256", "x-short", json!({ "x": short("p256", "x") })),
        key("p256", "y-none", json!({ "y": null })),
        key("p256", "d", json!({ "d": "AQAB" })),
        key("ed25519", "ed-448", json!({ "crv": "Ed448" })),
        key("ed25519", "x25519", json!({ "crv": "X25519" })),
        key("ed25519", "ed-short", json!({ "x": short("ed25519", "x") })),
        json!({ "kty": "oct", "kid": "oct", "k": mint::encode(mint::SECRET) }),
        // Not on the curve: it loads, and verifies nothing.
        key(
            "p256",
            "off-curve",
            json!({ "y": mint::jwk("p256", "x")["x"] }),
        ),
        // Comes second to a key of its name.
        key("rsa-b", "rsa", json!({})),
    ]
}

fn base64(text: &str) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// The set of `/file`: an RSA key without a name, and a named one of another kind.
pub fn in_file() -> String {
    json!({
        "keys": [key("rsa-a", "x", json!({ "kid": null })), key("p256", "p", json!({}))],
        "more": { "nobody": "knows" },
    })
    .to_string()
}

pub fn rules(site: &Site) -> Vec<Rule> {
    let mut all = types_and_uses(site);
    all.extend(algorithms_and_names(site));
    all.extend(sets(site));
    all.extend(materials(site));
    all
}

fn of(site: &Site, key: &str, alg: &str, kid: &str) -> Req {
    at(
        "/published",
        &mint::sign(key, alg, Some(kid), &site.claims()),
    )
}

fn types_and_uses(site: &Site) -> Vec<Rule> {
    let rsa = |kid: &&str| of(site, "rsa-a", "RS256", kid);
    vec![
        rule(
            "RFC 7517 §4",
            "members that nobody knows are ignored",
            [
                good("some more", rsa(&"rsa")),
                bad(KEY, "no such key", rsa(&"RSA")),
            ],
        ),
        rule(
            "RFC 7517 §4.1",
            "kty is there, and known, case counting",
            [
                good("RSA", rsa(&"rsa")),
                all_bad(KEY, ["kty-case", "kty-new", "kty-none"], rsa),
            ],
        ),
        rule(
            "RFC 7517 §4.2",
            "a key that is not for signatures checks none",
            [
                good("sig", of(site, "p256", "ES256", "p256")),
                good("nothing said", rsa(&"rsa")),
                all_bad(KEY, ["enc", "use-list", "use-case"], rsa),
            ],
        ),
        rule(
            "RFC 7517 §4.3",
            "a key that is not for verifying verifies nothing",
            [
                good("verify", of(site, "p384", "ES384", "p384")),
                good("among others", rsa(&"ops")),
                all_bad(KEY, ["encrypt", "sign", "ops-text", "ops-none"], rsa),
            ],
        ),
    ]
}

fn algorithms_and_names(site: &Site) -> Vec<Rule> {
    let rsa = |kid: &&str| of(site, "rsa-a", "RS256", kid);
    let in_file = |key: &str, alg: &str, kid: Option<&str>| {
        at("/file", &mint::sign(key, alg, kid, &site.claims()))
    };
    vec![
        rule(
            "RFC 7517 §4.4",
            "a key that names its algorithm is for no other",
            [
                good("EdDSA", of(site, "ed25519", "EdDSA", "ed")),
                good("PS256", of(site, "rsa-a", "PS256", "only-ps")),
                bad(ALGORITHM, "another of its kind", rsa(&"only-ps")),
                all_bad(KEY, ["alg-other", "alg-enc", "alg-number"], rsa),
            ],
        ),
        rule(
            "RFC 7517 §4.5",
            "kid leads to one key; a key without one is for tokens without one",
            [
                good("named", in_file("p256", "ES256", Some("p"))),
                good("without a name", in_file("rsa-a", "RS256", None)),
                bad(
                    KEY,
                    "a name for the nameless",
                    in_file("rsa-a", "RS256", Some("x")),
                ),
                bad(SIGNATURE, "another key", in_file("rsa-b", "RS256", None)),
                bad(
                    SIGNATURE,
                    "the second of a name",
                    of(site, "rsa-b", "RS256", "rsa"),
                ),
                bad(
                    ALGORITHM,
                    "a key of another kind",
                    in_file("rsa-a", "RS256", Some("p")),
                ),
            ],
        ),
    ]
}

fn sets(site: &Site) -> Vec<Rule> {
    let rsa = |kid: &&str| of(site, "rsa-a", "RS256", kid);
    vec![
        rule(
            "RFC 7517 §4.7",
            "x5c is not looked at: the key is what its numbers say",
            [
                good("with nonsense in it", rsa(&"rsa")),
                bad(SIGNATURE, "another's", of(site, "rsa-b", "RS256", "ops")),
            ],
        ),
        rule(
            "RFC 7517 §5",
            "a set is used for the keys that can be, in whatever order",
            [
                all_good(["rsa", "ops"], rsa),
                all_bad(KEY, ["kty-new", "crv-521", "oct"], rsa),
            ],
        ),
        rule(
            "RFC 7517 §9.2",
            "what is secret and yet published is no key",
            [
                good("public", rsa(&"rsa")),
                all_bad(KEY, ["private"], rsa),
                bad(KEY, "a private point", of(site, "p256", "ES256", "d")),
                bad(
                    ALGORITHM,
                    "a secret",
                    of(site, mint::SECRET, "HS256", "oct"),
                ),
            ],
        ),
    ]
}

fn materials(site: &Site) -> Vec<Rule> {
    let es = |kid: &&str| of(site, "p256", "ES256", kid);
    vec![
        rule(
            "RFC 7518 §6.2.1",
            "a point of a known curve, its numbers whole",
            [
                good("P-256", es(&"p256")),
                good("P-384", of(site, "p384", "ES384", "p384")),
                all_bad(
                    KEY,
                    ["crv-none", "crv-521", "crv-k", "x-short", "y-none"],
                    es,
                ),
                bad(KEY, "a point beside the curve", es(&"off-curve")),
            ],
        ),
        rule(
            "RFC 7518 §6.3.1",
            "a modulus of 2048 bits or more, an odd exponent above 1",
            [
                good("2048", of(site, "rsa-a", "RS256", "rsa")),
                all_bad(
                    KEY,
                    ["e-1", "e-even", "n-none", "n-short", "n-padded"],
                    |kid| of(site, "rsa-a", "RS256", kid),
                ),
            ],
        ),
        rule(
            "RFC 8037 §2",
            "Ed25519 of 32 bytes, and no key that is for agreement",
            [
                good("Ed25519", of(site, "ed25519", "EdDSA", "ed")),
                all_bad(KEY, ["ed-448", "x25519", "ed-short"], |kid| {
                    of(site, "ed25519", "EdDSA", kid)
                }),
            ],
        ),
    ]
}
