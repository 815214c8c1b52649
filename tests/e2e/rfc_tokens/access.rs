//! Access tokens of RFC 9068, where an issuer's are said to be such.

use super::super::support::*;
use super::case::{Rule, all_bad, all_good, bad, good, rule};
use super::site::{Site, at};
use serde_json::{Value, json};

const MISSING: &str = "token_claim_missing";
const INVALID: &str = "token_claim_invalid";
const TYPE: &str = "token_type_wrong";

/// A request with an access token that is good but for these claims and this `typ`.
fn token(site: &Site, typ: &Value, changes: &Value) -> Req {
    let mut header = json!({ "alg": "RS256", "kid": "a", "typ": typ });
    if typ.is_null() {
        header.as_object_mut().expect("an object").remove("typ");
    }
    let mut all = json!({ "iat": site.now, "jti": "id-1" });
    for (name, value) in changes.as_object().expect("an object") {
        all[name] = value.clone();
    }
    let claims = site.but(all);
    at(
        "/at",
        &mint::sign_header("rsa-a", "RS256", &header.to_string(), &claims),
    )
}

pub fn rules(site: &Site) -> Vec<Rule> {
    let mut all = types(site);
    all.extend(required(site));
    all.extend(others(site));
    all
}

fn types(site: &Site) -> Vec<Rule> {
    let typ = |typ: &Value| token(site, typ, &json!({}));
    vec![rule(
        "RFC 9068 §2.1",
        "typ is at+jwt",
        [
            all_good(
                [
                    json!("at+jwt"),
                    json!("application/at+jwt"),
                    json!("AT+JWT"),
                ],
                typ,
            ),
            all_bad(
                TYPE,
                [json!(null), json!("JWT"), json!("id+jwt"), json!("at")],
                typ,
            ),
        ],
    )]
}

fn required(site: &Site) -> Vec<Rule> {
    let with = |changes: &Value| token(site, &json!("at+jwt"), changes);
    let now = site.now;
    vec![
        rule(
            "RFC 9068 §2.2",
            "exp, iss, aud, sub, client_id, iat and jti are there",
            [
                good("all of them", with(&json!({}))),
                all_bad(
                    MISSING,
                    ["exp", "iss", "aud", "sub", "client_id", "iat", "jti"],
                    |name| with(&json!({ *name: null })),
                ),
                all_bad(INVALID, ["sub", "client_id", "jti"], |name| {
                    with(&json!({ *name: "" }))
                }),
                all_bad(INVALID, ["sub", "client_id", "jti", "iat"], |name| {
                    with(&json!({ *name: ["x"] }))
                }),
                bad(
                    "token_not_yet_valid",
                    "to come",
                    with(&json!({ "iat": now + 90 })),
                ),
            ],
        ),
        rule(
            "RFC 9068 §2.2.3",
            "scopes are one text",
            [
                all_good([json!("a b"), json!(""), json!(null)], |s| {
                    with(&json!({ "scope": s }))
                }),
                all_bad(INVALID, [json!(["a"]), json!(1), json!({})], |s| {
                    with(&json!({ "scope": s }))
                }),
            ],
        ),
    ]
}

fn others(site: &Site) -> Vec<Rule> {
    let with = |changes: &Value| token(site, &json!("at+jwt"), changes);
    let (head, body) = (
        mint::encode(r#"{"alg":"none","typ":"at+jwt"}"#),
        site.claims(),
    );
    let unsigned = format!("{head}.{}.", mint::encode(body.to_string()));
    let now = site.now;
    vec![
        rule(
            "RFC 9068 §4",
            "issuer, audience, signature and time hold as for any token",
            [
                good("a good one", with(&json!({}))),
                bad("token_issuer_unknown", "iss", with(&json!({ "iss": "x" }))),
                bad("token_audience_wrong", "aud", with(&json!({ "aud": "x" }))),
                bad("token_expired", "exp", with(&json!({ "exp": now - 60 }))),
                bad("token_algorithm_not_allowed", "alg", at("/at", &unsigned)),
            ],
        ),
        rule(
            "RFC 8725 §3.12",
            "tokens of other kinds break one of these rules",
            [
                good("an access token", with(&json!({}))),
                bad(
                    TYPE,
                    "an ID token",
                    token(site, &json!("JWT"), &json!({ "nonce": "n" })),
                ),
                bad(
                    TYPE,
                    "a logout token",
                    token(site, &json!("logout+jwt"), &json!({ "events": {} })),
                ),
                bad(TYPE, "a plain one", token(site, &json!(null), &json!({}))),
            ],
        ),
    ]
}
