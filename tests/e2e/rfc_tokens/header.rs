//! What a header may say, and what nobody believes of it.

use super::super::support::*;
use super::case::{Case, Rule, all_bad, all_good, bad, good, rule};
use super::site::{HEADER, Site, at};
use serde_json::{Value, json};

const MALFORMED: &str = "token_malformed";
const ALGORITHM: &str = "token_algorithm_not_allowed";
const KEY: &str = "token_key_unknown";
const SIGNATURE: &str = "token_signature_invalid";
const TYPE: &str = "token_type_wrong";
const CRITICAL: &str = "token_critical_unknown";

pub fn rules(site: &Site) -> Vec<Rule> {
    let mut all = algorithm_and_key(site);
    all.extend(addresses(site));
    all.extend(media_types(site));
    all.extend(nested(site));
    all.extend(kinds(site));
    all.extend(unknown_fields(site));
    all.extend(raw_payloads(site));
    all
}

/// A good header with one field more.
fn with(name: &str, value: &Value) -> String {
    let mut header: Value = serde_json::from_str(HEADER).expect("JSON");
    header[name] = value.clone();
    header.to_string()
}

fn algorithm_and_key(site: &Site) -> Vec<Rule> {
    let alg = |alg: &Value| site.headed(with("alg", alg));
    let kid = |kid: &Value| site.headed(with("kid", kid));
    vec![
        rule(
            "RFC 7515 §4.1.1",
            "alg is there, a text, and one that is known, case counting",
            [
                good("RS256", alg(&json!("RS256"))),
                all_bad(
                    ALGORITHM,
                    [
                        "rs256", "Rs256", "RS256 ", " RS256", "RS-256", "RSA", "ES512", "ES256K",
                        "A128KW", "dir", "", "HS256\0",
                    ],
                    |name| alg(&json!(name)),
                ),
                all_bad(
                    MALFORMED,
                    [
                        json!(null),
                        json!(256),
                        json!(["RS256"]),
                        json!({"RS256": 1}),
                    ],
                    alg,
                ),
                bad(MALFORMED, "missing", site.headed(r#"{"kid":"a"}"#)),
            ],
        ),
        rule(
            "RFC 7515 §4.1.4",
            "kid is a text, only a name, case counting",
            [
                good("a", kid(&json!("a"))),
                good(
                    "written otherwise",
                    site.headed(r#"{"alg":"RS256","kid":"\u0061"}"#),
                ),
                all_bad(
                    MALFORMED,
                    [
                        json!(null),
                        json!(1),
                        json!(true),
                        json!(["a"]),
                        json!({"a": 1}),
                    ],
                    kid,
                ),
                all_bad(KEY, ["A", "a ", " a", "", "b", "a\0", "\u{ff41}"], |text| {
                    kid(&json!(text))
                }),
                bad(MALFORMED, "too long", kid(&json!("a".repeat(257)))),
            ],
        ),
    ]
}

/// A header that brings a key of its own, and a token it is right for.
fn brought(site: &Site, name: &str, value: &Value) -> Vec<Case> {
    let header = with(name, value);
    let claims = site.claims();
    let own = mint::sign_header("rsa-b", "RS256", &header, &claims);
    let mut nameless: Value = serde_json::from_str(&header).expect("JSON");
    nameless.as_object_mut().expect("an object").remove("kid");
    let nameless = mint::sign_header("rsa-b", "RS256", &nameless.to_string(), &claims);
    [
        good("ours, and it says so", site.headed(&header)),
        bad(SIGNATURE, "theirs under our kid", at("/rs", &own)),
        // The only key of this issuer has a kid, and is tried where none is named.
        bad(SIGNATURE, "theirs without a kid", at("/rs", &nameless)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn addresses(site: &Site) -> Vec<Rule> {
    let link = json!(format!("http://{}/keys.json", site.stranger));
    let jwk = mint::jwk("rsa-b", "a");
    let print = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let of = |name: &str, value: &Value| brought(site, name, value);
    vec![
        rule("RFC 7515 §4.1.2", "jku is not followed", [of("jku", &link)]),
        rule(
            "RFC 7515 §4.1.3",
            "jwk is not taken for a key",
            [of("jwk", &jwk)],
        ),
        rule("RFC 7515 §4.1.5", "x5u is not followed", [of("x5u", &link)]),
        rule(
            "RFC 7515 §4.1.6",
            "x5c is not taken for a key",
            [of("x5c", &json!(["MIIB"]))],
        ),
        rule(
            "RFC 7515 §4.1.7",
            "x5t leads to no key",
            [of("x5t", &print)],
        ),
        rule(
            "RFC 7515 §4.1.8",
            "x5t#S256 leads to no key",
            [of("x5t#S256", &print)],
        ),
    ]
}

fn media_types(site: &Site) -> Vec<Rule> {
    let typ = |typ: &Value| site.headed(with("typ", typ));
    let cty = |cty: &Value| site.headed(with("cty", cty));
    vec![
        rule(
            "RFC 7515 §4.1.9",
            "typ is a media type, with or without application/ in front",
            [
                good("left out", site.headed(HEADER)),
                all_good(["JWT", "jwt", "application/jwt", "APPLICATION/JWT"], |t| {
                    typ(&json!(t))
                }),
                all_bad(TYPE, ["JOSE", "JOSE+JSON", "text/jwt", ""], |t| {
                    typ(&json!(t))
                }),
                all_bad(MALFORMED, [json!(1), json!(null), json!(["JWT"])], typ),
            ],
        ),
        rule(
            "RFC 7515 §4.1.10",
            "cty is for content that is no JSON object",
            [
                good("json", cty(&json!("json"))),
                all_bad(TYPE, ["JWT", "jwt", "application/jwt"], |t| cty(&json!(t))),
                bad(MALFORMED, "a number", cty(&json!(1))),
            ],
        ),
        rule(
            "RFC 7519 §5.1",
            "typ of a JWT is JWT",
            [
                good("JWT", typ(&json!("JWT"))),
                all_bad(TYPE, ["JWS", "JWE", "JWT2", "JWT;v=1"], |t| typ(&json!(t))),
            ],
        ),
    ]
}

fn nested(site: &Site) -> Vec<Rule> {
    let [head, body, signature] = site.segments();
    let inner = format!("{head}.{body}.{signature}");
    let nested = mint::sign_text(
        "rsa-a",
        "RS256",
        r#"{"alg":"RS256","kid":"a","cty":"JWT"}"#,
        &inner,
    );
    vec![
        rule(
            "RFC 7519 §5.2",
            "a token in a token is none for us",
            [
                good("by itself", at("/rs", &inner)),
                bad(MALFORMED, "nested", at("/rs", &nested)),
            ],
        ),
        rule(
            "RFC 7519 §5.3",
            "claims in a header count for nothing",
            [
                all_good(["iss", "sub", "aud"], |name| {
                    site.headed(with(name, &json!("other")))
                }),
                bad("token_claim_missing", "iss in the header only", {
                    let claims = site.but(json!({ "iss": null }));
                    let header = with("iss", &json!(mint::ISSUER));
                    at(
                        "/rs",
                        &mint::sign_header("rsa-a", "RS256", &header, &claims),
                    )
                }),
            ],
        ),
    ]
}

fn kinds(site: &Site) -> Vec<Rule> {
    let typ = |typ: &Value| site.headed(with("typ", typ));
    vec![rule(
        "RFC 8725 §3.11",
        "a token of another kind says so, and is refused",
        [
            all_good(["JWT", "at+jwt"], |t| typ(&json!(t))),
            all_bad(
                TYPE,
                [
                    "dpop+jwt",
                    "secevent+jwt",
                    "logout+jwt",
                    "token-introspection+jwt",
                    "kb+jwt",
                    "oauth-authz-req+jwt",
                    "client-authentication+jwt",
                    "application/secevent+jwt",
                ],
                |t| typ(&json!(t)),
            ),
        ],
    )]
}

fn unknown_fields(site: &Site) -> Vec<Rule> {
    let crit = |crit: &Value| site.headed(with("crit", crit));
    vec![
        rule(
            "RFC 7515 §4.1.11",
            "what is critical has to be understood",
            [
                good("nothing critical", site.headed(HEADER)),
                all_bad(
                    CRITICAL,
                    [
                        json!([]),
                        json!(["exp"]),
                        json!(["alg"]),
                        json!(["x"]),
                        json!("exp"),
                        json!(null),
                        json!([1]),
                        json!(["exp", "exp"]),
                    ],
                    crit,
                ),
            ],
        ),
        rule(
            "RFC 7515 §4.2",
            "fields that nobody knows are ignored, unless they are critical",
            [
                all_good(["x", "http://example.com/x", "nonce"], |n| {
                    site.headed(with(n, &json!({"y": [1]})))
                }),
                bad(
                    CRITICAL,
                    "critical",
                    site.headed(r#"{"alg":"RS256","kid":"a","crit":["x"],"x":1}"#),
                ),
            ],
        ),
    ]
}

fn raw_payloads(site: &Site) -> Vec<Rule> {
    let b64 = |b64: &Value| site.headed(with("b64", b64));
    let claims = site.claims().to_string();
    let raw = claims.replace('.', "-");
    let head = mint::encode(r#"{"alg":"RS256","kid":"a","b64":false,"crit":["b64"]}"#);
    let raw = mint::sign_message("rsa-a", "RS256", &format!("{head}.{raw}"));
    vec![rule(
        "RFC 7797 §7",
        "a JWT's payload is always in base64url",
        [
            good("b64: true is how it is", b64(&json!(true))),
            all_bad(
                CRITICAL,
                [json!(false), json!("false"), json!(0), json!(null)],
                b64,
            ),
            bad(
                CRITICAL,
                "marked critical, as it has to be",
                site.headed(r#"{"alg":"RS256","kid":"a","b64":false,"crit":["b64"]}"#),
            ),
            bad(CRITICAL, "and really raw", {
                // What cannot stand in a header field does not come this far.
                let token = raw.replace(['"', '{', '}', ' ', ',', ':', '[', ']', '@'], "");
                at("/rs", &token)
            }),
        ],
    )]
}
