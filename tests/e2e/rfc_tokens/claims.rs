//! What a token says of itself: from whom, for whom, from when until when.

use super::super::support::*;
use super::case::{Rule, all_bad, all_good, bad, good, rule};
use super::site::{HEADER, Site, UNICODE, at, carrying};
use serde_json::{Value, json};

const MISSING: &str = "token_claim_missing";
const INVALID: &str = "token_claim_invalid";
const ISSUER: &str = "token_issuer_unknown";
const AUDIENCE: &str = "token_audience_wrong";
const EXPIRED: &str = "token_expired";
const EARLY: &str = "token_not_yet_valid";

pub fn rules(site: &Site) -> Vec<Rule> {
    let mut all = issuer_and_subject(site);
    all.extend(audience(site));
    all.extend(identifiers(site));
    all.extend(look_alikes(site));
    all.extend(dates_and_ends(site));
    all.extend(begins(site));
    all.extend(issuers(site));
    all.extend(required(site));
    all
}

fn claim<'a>(site: &'a Site, name: &'static str) -> impl Fn(&Value) -> Req + 'a {
    move |value| site.saying(json!({ name: value.clone() }))
}

fn issuer_and_subject(site: &Site) -> Vec<Rule> {
    let iss = claim(site, "iss");
    let sub = claim(site, "sub");
    let nobody = json!({ "sub": null, "client_id": null });
    vec![
        rule(
            "RFC 7519 §4.1.1",
            "iss, character by character",
            [
                good("ours", iss(&json!(mint::ISSUER))),
                all_bad(
                    ISSUER,
                    [
                        "https://auth.example.com",
                        "https://AUTH.example.com/",
                        "http://auth.example.com/",
                        "https://auth.example.com//",
                        "https://auth.example.com/ ",
                        "https://auth.example.com:443/",
                        "",
                    ],
                    |text| iss(&json!(text)),
                ),
                all_bad(INVALID, [json!([mint::ISSUER]), json!(1), json!({})], &iss),
                bad(MISSING, "none", site.saying(json!({ "iss": null }))),
            ],
        ),
        rule(
            "RFC 7519 §4.1.2",
            "sub is a text",
            [
                good("a text", sub(&json!("alice"))),
                good("none, but a client", sub(&json!(null))),
                all_bad(
                    INVALID,
                    [json!(7), json!(["alice"]), json!({}), json!(true)],
                    &sub,
                ),
                bad(MISSING, "nobody at all", site.saying(nobody)),
            ],
        ),
    ]
}

fn audience(site: &Site) -> Vec<Rule> {
    let aud = claim(site, "aud");
    vec![rule(
        "RFC 7519 §4.1.3",
        "aud holds one of us",
        [
            all_good(
                [
                    json!("api"),
                    json!("api2"),
                    json!(["api"]),
                    json!(["x", "api"]),
                ],
                &aud,
            ),
            all_bad(
                AUDIENCE,
                [
                    json!("API"),
                    json!("apis"),
                    json!("api "),
                    json!("api api2"),
                    json!(""),
                    json!([]),
                    json!(["x"]),
                    json!("*"),
                ],
                &aud,
            ),
            all_bad(
                INVALID,
                [json!(1), json!({"api": 1}), json!(["api", 1])],
                &aud,
            ),
            bad(MISSING, "none", aud(&json!(null))),
        ],
    )]
}

fn identifiers(site: &Site) -> Vec<Rule> {
    let aud = claim(site, "aud");
    vec![
        rule(
            "RFC 7519 §4.1.7",
            "jti is a text",
            [
                good("a text", site.saying(json!({ "jti": "id-1" }))),
                all_bad(
                    INVALID,
                    [json!(1), json!(["a"]), json!({})],
                    claim(site, "jti"),
                ),
            ],
        ),
        rule(
            "RFC 7519 §4.2",
            "claims that nobody asks for are ignored",
            [
                all_good(["nonce", "http://example.com/x", "_claim_names"], |name| {
                    site.saying(json!({ *name: { "x": [1, null, "y"] } }))
                }),
                bad(
                    INVALID,
                    "one that is asked for",
                    site.saying(json!({ "roles": 1 })),
                ),
            ],
        ),
        rule(
            "RFC 7519 §7.3",
            "texts are the same if their characters are",
            [
                good("escaped", {
                    let text = site.claims().to_string();
                    carrying(text.replace("\"api\"", "\"\\u0061pi\""))
                }),
                all_bad(AUDIENCE, ["Api", "a\u{440}i", "api\0", "\u{ff41}pi"], |t| {
                    aud(&json!(t))
                }),
            ],
        ),
    ]
}

fn look_alikes(site: &Site) -> Vec<Rule> {
    vec![rule(
        "RFC 7515 §10.13",
        "and not if they only look so",
        [
            good("composed", unicode(site, UNICODE)),
            bad(
                ISSUER,
                "decomposed",
                unicode(site, "https://ise\u{301}.example/"),
            ),
            bad(
                ISSUER,
                "in punycode",
                unicode(site, "https://xn--is-bja.example/"),
            ),
        ],
    )]
}

fn unicode(site: &Site, iss: &str) -> Req {
    let claims = site.but(json!({ "iss": iss }));
    at(
        "/unicode",
        &mint::sign_header("rsa-a", "RS256", HEADER, &claims),
    )
}

fn dates_and_ends(site: &Site) -> Vec<Rule> {
    let now = site.now;
    let exp = claim(site, "exp");
    // A number exactly as written.
    let written = |number: &&str| {
        let text = site.but(json!({ "exp": "HERE" })).to_string();
        carrying(text.replace("\"HERE\"", number))
    };
    let no_dates = [
        "-1",
        "-0.5",
        "1e300",
        "253402300800",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
    ];
    vec![
        rule(
            "RFC 7519 §2",
            "NumericDate: seconds, whole or not, and a number",
            [
                all_good([json!(now + 300), json!(now as f64 + 300.5)], &exp),
                all_good(["4e9", "253402300799", "4.0E+9"], written),
                all_bad(
                    INVALID,
                    [
                        json!((now + 300).to_string()),
                        json!("2030-01-01T00:00:00Z"),
                        json!(true),
                        json!([now + 300]),
                        json!({}),
                    ],
                    &exp,
                ),
                all_bad(INVALID, no_dates, written),
                bad(INVALID, "milliseconds", exp(&json!((now + 300) * 1000))),
            ],
        ),
        rule(
            "RFC 7519 §4.1.4",
            "exp is there and has not passed, but for 30 s",
            [
                all_good([now + 1, now + 86_400, now - 20], |at| exp(&json!(at))),
                all_bad(EXPIRED, [0, 1, now - 86_400, now - 31], |at| {
                    exp(&json!(at))
                }),
                bad(MISSING, "none", exp(&json!(null))),
            ],
        ),
    ]
}

fn begins(site: &Site) -> Vec<Rule> {
    let now = site.now;
    let nbf = claim(site, "nbf");
    let iat = claim(site, "iat");
    vec![
        rule(
            "RFC 7519 §4.1.5",
            "nbf has come, but for 30 s",
            [
                all_good([0, now, now + 20], |at| nbf(&json!(at))),
                all_bad(EARLY, [now + 60, now + 86_400], |at| nbf(&json!(at))),
                all_bad(INVALID, [json!("0"), json!(-1), json!([0])], &nbf),
            ],
        ),
        rule(
            "RFC 7519 §4.1.6",
            "iat is a date, and not one to come",
            [
                all_good([0, now, now + 20], |at| iat(&json!(at))),
                all_bad(EARLY, [now + 60, now + 86_400], |at| iat(&json!(at))),
                all_bad(INVALID, [json!("0"), json!(-1), json!([0])], &iat),
            ],
        ),
    ]
}

/// A token for `/both`, where issuer `one` has key a and issuer `two` has key b, both called k.
fn from(site: &Site, route: &str, iss: &str, key: &str) -> Req {
    let claims = site.but(json!({ "iss": iss }));
    at(route, &mint::sign(key, "RS256", Some("k"), &claims))
}

fn issuers(site: &Site) -> Vec<Rule> {
    vec![
        rule(
            "RFC 8725 §3.8",
            "the key is one of the issuer that the token names",
            [
                good("one's", from(site, "/both", "one", "rsa-a")),
                good("two's", from(site, "/both", "two", "rsa-b")),
                good("one's alone", from(site, "/one", "one", "rsa-a")),
                bad(
                    "token_signature_invalid",
                    "two's key",
                    from(site, "/both", "one", "rsa-b"),
                ),
                bad(
                    "token_signature_invalid",
                    "one's key",
                    from(site, "/both", "two", "rsa-a"),
                ),
                bad(ISSUER, "nobody's", from(site, "/both", "three", "rsa-a")),
                bad(ISSUER, "not taken here", from(site, "/one", "two", "rsa-b")),
                bad(
                    ISSUER,
                    "nor with a key that is",
                    from(site, "/one", "two", "rsa-a"),
                ),
                bad(INVALID, "both", {
                    let claims = site.but(json!({ "iss": ["one", "two"] }));
                    at("/both", &mint::sign("rsa-a", "RS256", Some("k"), &claims))
                }),
            ],
        ),
        rule(
            "RFC 8725 §3.9",
            "a token for somebody else is not for us",
            [
                good("for us", site.saying(json!({ "aud": "api" }))),
                all_bad(AUDIENCE, ["other-api", "web", mint::ISSUER], |aud| {
                    site.saying(json!({ "aud": aud }))
                }),
                bad(MISSING, "for nobody", site.saying(json!({ "aud": null }))),
            ],
        ),
    ]
}

fn required(site: &Site) -> Vec<Rule> {
    let ask = |changes: &Value| {
        let mut all = json!({ "realm": { "groups": ["guests", "staff"] } });
        for (name, value) in changes.as_object().expect("an object") {
            all[name] = value.clone();
        }
        let token = mint::sign_header("rsa-a", "RS256", HEADER, &site.but(all));
        at("/claims", &token)
    };
    vec![rule(
        "RFC 7519 §4",
        "claims that our configuration wants, with their values",
        [
            all_good(
                [
                    json!({}),
                    json!({ "tenant": "globex" }),
                    json!({ "realm": { "groups": "partner" } }),
                    json!({ "realm.groups": "staff" }),
                ],
                ask,
            ),
            all_bad(
                MISSING,
                [
                    json!({ "tenant": null }),
                    json!({ "realm": null }),
                    json!({ "realm": {} }),
                    json!({ "realm": "staff" }),
                    json!({ "groups": "staff", "realm": null }),
                ],
                ask,
            ),
            all_bad(
                INVALID,
                [
                    json!({ "realm": { "groups": [] } }),
                    json!({ "realm": { "groups": ["guests"] } }),
                    json!({ "realm": { "groups": "Staff" } }),
                    json!({ "realm": { "groups": "staff partner" } }),
                    json!({ "realm": { "groups": [["staff"]] } }),
                    json!({ "realm": { "groups": { "staff": true } } }),
                ],
                ask,
            ),
        ],
    )]
}
