//! Attacks that other gateways and libraries fell to.

use super::super::support::*;
use super::case::{Rule, all_bad, bad, good, rule};
use super::site::{HEADER, Site, at, carrying};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

const ALGORITHM: &str = "token_algorithm_not_allowed";
const KEY: &str = "token_key_unknown";
const SIGNATURE: &str = "token_signature_invalid";
const MALFORMED: &str = "token_malformed";
const MISSING: &str = "token_claim_missing";

pub fn rules(site: &Site) -> Vec<Rule> {
    let mut all = confusion(site);
    all.extend(injections(site));
    all.extend(empty_proofs(site));
    all.extend(empty_signatures(site));
    all.extend(endless(site));
    all.extend(misplaced(site));
    all.extend(costly(site));
    all
}

/// What an attacker can know of our public key.
fn known_of_a_key() -> Vec<Vec<u8>> {
    let pem = mint::public("rsa-a");
    let inner: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let jwk = mint::jwk("rsa-a", "a");
    let modulus = jwk["n"].as_str().expect("a text").to_owned();
    vec![
        pem.into(),
        pem.trim_end().into(),
        pem.replace('\n', "\r\n").into(),
        inner.clone().into(),
        STANDARD.decode(&inner).expect("base64"),
        jwk.to_string().into(),
        modulus.into(),
    ]
}

fn hmac(secret: &[u8], header: &str, claims: &str) -> String {
    let message = format!("{}.{}", mint::encode(header), mint::encode(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let mac = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
    format!("{message}.{}", mac.expect("signs"))
}

fn confusion(site: &Site) -> Vec<Rule> {
    let claims = site.claims().to_string();
    let confused = |secret: &Vec<u8>| {
        at(
            "/rs",
            &hmac(secret, r#"{"alg":"HS256","kid":"a"}"#, &claims),
        )
    };
    // Named as the algorithm that is configured.
    let relabelled = |secret: &Vec<u8>| at("/rs", &hmac(secret, HEADER, &claims));
    let ours = at(
        "/rs",
        &mint::sign_header("rsa-a", "RS256", HEADER, &site.claims()),
    );
    vec![rule(
        "RFC 8725 §3.1",
        "a public key as an HMAC secret (CVE-2015-9235, CVE-2026-39999)",
        [
            good("its own signature", ours.clone()),
            all_bad(ALGORITHM, known_of_a_key(), confused),
            all_bad(SIGNATURE, known_of_a_key(), relabelled),
        ],
    )]
}

fn injections(site: &Site) -> Vec<Rule> {
    let kid = |kid: &&str| {
        let header = json!({ "alg": "RS256", "kid": kid }).to_string();
        site.headed(header)
    };
    vec![rule(
        "RFC 8725 §3.10",
        "a kid that is a path, a query, a command or a template",
        [
            good("a name", kid(&"a")),
            all_bad(
                KEY,
                [
                    "../a",
                    "../../../../dev/null",
                    "/dev/null",
                    "/proc/self/environ",
                    "rsa-a.pem",
                    "file:rsa-a.pem",
                    "a' OR '1'='1",
                    "' UNION SELECT 'x'; --",
                    "a; id",
                    "$(id)",
                    "`id`",
                    "|id",
                    "${TEST_SECRET}",
                    "{{7*7}}",
                    "%61",
                    "a\r\nX-Y: z",
                    "a\0b",
                    "http://127.0.0.1/",
                    "__proto__",
                    "constructor",
                ],
                kid,
            ),
        ],
    )]
}

fn empty_proofs(site: &Site) -> Vec<Rule> {
    let claims = site.claims().to_string();
    let psychic = |kid: &str, alg: &str, bytes: usize| {
        let head = mint::encode(format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#));
        let nothing = mint::encode(vec![0; bytes]);
        at(
            "/published",
            &format!("{head}.{}.{nothing}", mint::encode(&claims)),
        )
    };
    vec![rule(
        "RFC 8725 §3.4",
        "an empty proof (CVE-2022-21449)",
        [
            good(
                "a real one",
                at(
                    "/published",
                    &mint::sign("p256", "ES256", Some("p256"), &site.claims()),
                ),
            ),
            bad(SIGNATURE, "ES256", psychic("p256", "ES256", 64)),
            bad(SIGNATURE, "ES384", psychic("p384", "ES384", 96)),
            bad(SIGNATURE, "EdDSA", psychic("ed", "EdDSA", 64)),
            bad(SIGNATURE, "RS256", psychic("rsa", "RS256", 256)),
            bad(KEY, "beside the curve", psychic("off-curve", "ES256", 64)),
        ],
    )]
}

fn empty_signatures(site: &Site) -> Vec<Rule> {
    let ours = at(
        "/rs",
        &mint::sign_header("rsa-a", "RS256", HEADER, &site.claims()),
    );
    let [head, body, _] = site.segments();
    let seen = |suffix: &str| at("/rs", &format!("{head}.{body}.{suffix}"));
    vec![rule(
        "RFC 7515 §5.3",
        "a signature left out, or put off",
        [
            good("there", ours),
            bad(MALFORMED, "empty", seen("")),
            bad(MALFORMED, "a space", seen("%20")),
            bad(SIGNATURE, "null", seen("bnVsbA")),
            bad(
                SIGNATURE,
                "the empty text's hash",
                seen("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"),
            ),
        ],
    )]
}

/// What others let pass unless told otherwise.
fn endless(site: &Site) -> Vec<Rule> {
    let now = site.now;
    let hs = |changes| {
        let token = mint::sign(mint::SECRET, "HS256", None, &site.but(changes));
        at("/alg/HS256", &token)
    };
    vec![
        rule(
            "RFC 7519 §4.1.4",
            "tokens that have expired, or never do",
            [
                good(
                    "20 s ago, which is within the leeway",
                    site.saying(json!({ "exp": now - 20 })),
                ),
                bad(
                    "token_expired",
                    "40 s ago",
                    site.saying(json!({ "exp": now - 40 })),
                ),
                bad(MISSING, "never", site.saying(json!({ "exp": null }))),
                bad(MISSING, "never, by a secret", hs(json!({ "exp": null }))),
            ],
        ),
        rule(
            "RFC 8725 §3.8",
            "tokens from nobody",
            [
                good("from somebody", hs(json!({}))),
                bad(MISSING, "from nobody", hs(json!({ "iss": null }))),
                bad(
                    "token_issuer_unknown",
                    "from another",
                    hs(json!({ "iss": "x" })),
                ),
            ],
        ),
    ]
}

fn misplaced(site: &Site) -> Vec<Rule> {
    let [head, body, signature] = site.segments();
    let whole = format!("{head}.{body}.{signature}");
    let hs = |changes| {
        let token = mint::sign(mint::SECRET, "HS256", None, &site.but(changes));
        at("/alg/HS256", &token)
    };
    let query = |name: &&str| Req::get(&format!("/rs?{name}={whole}"));
    let cookie = Req::get("/rs").header("Cookie", &format!("access_token={whole}; jwt={whole}"));
    vec![
        rule(
            "RFC 8725 §3.9",
            "tokens for nobody",
            [
                good("for us", hs(json!({}))),
                bad(MISSING, "for nobody", hs(json!({ "aud": null }))),
                bad(
                    "token_audience_wrong",
                    "for an empty list",
                    hs(json!({ "aud": [] })),
                ),
            ],
        ),
        rule(
            "RFC 6750 §2.3",
            "tokens where they are written down by everybody on the way",
            [
                good("in the header", at("/rs", &whole)),
                all_bad(
                    "credentials_missing",
                    ["access_token", "jwt", "token", "id_token"],
                    query,
                ),
                bad("credentials_missing", "in a cookie", cookie),
            ],
        ),
    ]
}

fn costly(site: &Site) -> Vec<Rule> {
    vec![rule(
        "RFC 7519 §7.2",
        "tokens of a size that costs",
        [
            good("6 KiB", site.saying(json!({ "x": "y".repeat(4000) }))),
            bad(
                "token_too_large",
                "above 8 KiB",
                site.saying(json!({ "x": "y".repeat(6500) })),
            ),
            bad(MALFORMED, "nested deeper than is read", {
                let deep = "[".repeat(200) + &"]".repeat(200);
                let text = site.claims().to_string();
                let open = text.trim_end_matches('}');
                carrying(format!("{open},\"x\":{deep}}}"))
            }),
        ],
    )]
}
