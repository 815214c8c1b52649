//! Tokens: every algorithm, the checks that are always made, and the ways to forge one.

use super::support::*;
use serde_json::{Value, json};

const ALGS: [&str; 11] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256",
    "HS512",
];

/// An issuer for each algorithm and a route for each issuer.
fn every_algorithm(origin: &Origin) -> Gateway {
    let (mut issuers, mut routes) = (String::new(), String::new());
    for alg in ALGS {
        let key = mint::key_for(alg);
        let key = if alg.starts_with("HS") {
            "secret: \"${TEST_SECRET}\"".to_owned()
        } else {
            format!("public_key: \"file:{key}.pem\"")
        };
        issuers += &format!(
            "  - {{ name: {alg}, issuer: \"{}\", audiences: [api], algorithms: [{alg}], keys: [{{ alg: {alg}, {key} }}] }}\n",
            mint::ISSUER
        );
        routes += &format!(
            "- {{ name: {alg}, match: {{ path: /{alg} }}, auth: {{ any: [{alg}] }}, to: up }}\n"
        );
    }
    let config = format!(
        "identity:\n  jwt:\n{issuers}upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\nroutes:\n{routes}"
    );
    let files = mint::PUBLIC.map(|(name, pem)| (format!("{name}.pem"), pem));
    let files = files.each_ref().map(|(name, pem)| (name.as_str(), *pem));
    Gateway::with_files(&config, &files)
}

#[test]
fn every_algorithm_opens_its_own_route_and_no_other() {
    let origin = Origin::start();
    let gateway = every_algorithm(&origin);
    let claims = mint::claims(gateway.now_s());
    for signed in ALGS {
        let token = mint::sign(mint::key_for(signed), signed, None, &claims);
        for wanted in ALGS {
            let answer = gateway.ask(&Req::get(&format!("/{wanted}")).bearer(&token));
            let want = if signed == wanted { 200 } else { 401 };
            assert_eq!(answer.status, want, "{signed} at {wanted}");
        }
    }
    assert_eq!(origin.hits(), ALGS.len());
}

/// One issuer with RSA keys.
fn rsa(origin: &Origin) -> Gateway {
    let config = format!(
        "identity:\n\
         \x20 jwt:\n\
         \x20 - {{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [RS256],\n\
         \x20     keys: [{{ kid: a, alg: RS256, public_key: \"file:a.pem\" }}] }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: up }}]\n",
        mint::ISSUER
    );
    Gateway::with_files(&config, &[("a.pem", mint::public("rsa-a"))])
}

#[track_caller]
fn judged(gateway: &Gateway, token: &str) -> String {
    let answer = gateway.ask(&Req::get("/").bearer(token));
    match answer.status {
        200 => "ok".into(),
        _ => answer.code(),
    }
}

#[test]
fn issuer_audience_and_times_are_always_checked() {
    let origin = Origin::start();
    let gateway = rsa(&origin);
    let now = gateway.now_s();
    let of = |changes: Value| {
        let token = mint::sign("rsa-a", "RS256", Some("a"), &mint::claims_but(now, changes));
        judged(&gateway, &token)
    };
    assert_eq!(of(json!({})), "ok");
    assert_eq!(of(json!({ "aud": ["other", "api"] })), "ok");
    assert_eq!(of(json!({ "exp": now - 20 })), "ok", "within the leeway");
    assert_eq!(of(json!({ "nbf": now + 20 })), "ok", "within the leeway");
    assert_eq!(of(json!({ "exp": now - 40 })), "token_expired");
    for (wrong, code) in [
        (json!({ "iss": null }), "token_claim_missing"),
        (
            json!({ "iss": "https://auth.example.com" }),
            "token_issuer_unknown",
        ),
        (json!({ "aud": null }), "token_claim_missing"),
        (json!({ "aud": "apis" }), "token_audience_wrong"),
        (json!({ "aud": [] }), "token_audience_wrong"),
        (json!({ "exp": null }), "token_claim_missing"),
        (json!({ "exp": "9999999999" }), "token_claim_invalid"),
        (json!({ "exp": -1 }), "token_claim_invalid"),
        (json!({ "exp": 1e300 }), "token_claim_invalid"),
        (json!({ "nbf": now + 60 }), "token_not_yet_valid"),
        (json!({ "nbf": "soon" }), "token_claim_invalid"),
        (json!({ "iat": now + 60 }), "token_not_yet_valid"),
        (json!({ "sub": 7 }), "token_claim_invalid"),
    ] {
        assert_eq!(of(wrong.clone()), code, "{wrong}");
    }
}

/// Tokens that nobody signed who may, and what becomes of each.
fn forged(good: &str, now: u64) -> Vec<(String, &'static str)> {
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three segments")
    };
    let claims = mint::claims(now);
    let root = mint::encode(mint::claims_but(now, json!({ "sub": "root" })).to_string());
    let by = |key: &str, alg: &str, kid: &str| mint::sign(key, alg, Some(kid), &claims);
    let mut all = vec![
        (
            format!("{head}.{root}.{signature}"),
            "token_signature_invalid",
        ),
        (format!("{head}.{body}."), "token_malformed"),
        (format!("{head}.{body}"), "token_malformed"),
        (format!("{head}.{body}.{signature}.x"), "token_malformed"),
        (format!("{head}.{body}.{signature}="), "token_malformed"),
        (format!("{head}.{body}.AAAA"), "token_signature_invalid"),
        (by("rsa-b", "RS256", "a"), "token_signature_invalid"),
        (by("rsa-a", "RS256", "../a"), "token_key_unknown"),
        (by("rsa-a", "RS512", "a"), "token_algorithm_not_allowed"),
    ];
    // The public key, as the attacker has it, used as a shared secret.
    for secret in [mint::public("rsa-a"), mint::public("rsa-a").trim_end()] {
        all.push((by(secret, "HS256", "a"), "token_algorithm_not_allowed"));
    }
    for none in ["none", "None", "NONE", "nOnE", "", "HS256\\u0000"] {
        let head = mint::encode(format!(r#"{{"alg":"{none}","kid":"a"}}"#));
        for signature in ["", signature] {
            let token = format!("{head}.{body}.{signature}");
            all.push((token, "token_algorithm_not_allowed"));
        }
        all.push((format!("{head}.{body}"), "token_malformed"));
    }
    all
}

#[test]
fn forged_tokens_open_nothing() {
    let origin = Origin::start();
    let gateway = rsa(&origin);
    let claims = mint::claims(gateway.now_s());
    let good = mint::sign("rsa-a", "RS256", Some("a"), &claims);
    assert_eq!(judged(&gateway, &good), "ok");
    let signed = |text: &str| mint::sign_header("rsa-a", "RS256", text, &claims);
    let headers = [
        (
            r#"{"alg":"RS256","alg":"none","kid":"a"}"#,
            "token_malformed",
        ),
        (
            r#"{"alg":"RS256","kid":"a","crit":["exp"]}"#,
            "token_critical_unknown",
        ),
        (
            r#"{"alg":"RS256","kid":"a","b64":false,"crit":["b64"]}"#,
            "token_critical_unknown",
        ),
    ];
    let mut all = forged(&good, gateway.now_s());
    all.extend(headers.map(|(text, code)| (signed(text), code)));
    for (token, want) in all {
        assert_eq!(judged(&gateway, &token), want, "{token}");
    }
    assert_eq!(origin.hits(), 1);
    let jku = signed(
        r#"{"alg":"RS256","kid":"a","jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/"}"#,
    );
    assert_eq!(
        judged(&gateway, &jku),
        "ok",
        "links in a header are not followed"
    );
    assert_eq!(origin.hits(), 2);
}

#[test]
fn a_cached_token_does_not_outlive_itself() {
    let origin = Origin::start();
    let gateway = rsa(&origin);
    let token = mint::sign("rsa-a", "RS256", Some("a"), &mint::claims(gateway.now_s()));
    for _ in 0..5 {
        assert_eq!(judged(&gateway, &token), "ok");
    }
    gateway.counts("tollgate_token_cache_lookups_total{result=\"hit\"}", 4);
    gateway.advance_s(300 + 31);
    assert_eq!(judged(&gateway, &token), "token_expired");
    let tail = &token[..token.len() - 2];
    assert_eq!(
        judged(&gateway, tail),
        "token_signature_invalid",
        "the whole token is compared"
    );
}

#[test]
fn a_token_is_judged_by_the_issuer_it_names() {
    let origin = Origin::start();
    let config = format!(
        "identity:\n\
         \x20 jwt:\n\
         \x20 - {{ name: one, issuer: one, audiences: [api], algorithms: [RS256], keys: [{{ kid: k, alg: RS256, public_key: \"file:a.pem\" }}] }}\n\
         \x20 - {{ name: two, issuer: two, audiences: [api], algorithms: [RS256], keys: [{{ kid: k, alg: RS256, public_key: \"file:b.pem\" }}] }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n\
         - {{ name: both, match: {{ path: /both }}, auth: {{ any: [one, two] }}, to: up }}\n\
         - {{ name: only, match: {{ path: /only }}, auth: {{ any: [one] }}, to: up }}\n"
    );
    let files = [
        ("a.pem", mint::public("rsa-a")),
        ("b.pem", mint::public("rsa-b")),
    ];
    let gateway = Gateway::with_files(&config, &files);
    let token = |key: &str, iss: &str| {
        let claims = mint::claims_but(gateway.now_s(), json!({ "iss": iss }));
        mint::sign(key, "RS256", Some("k"), &claims)
    };
    let ask = |target: &str, token: &str| gateway.ask(&Req::get(target).bearer(token)).status;
    assert_eq!(ask("/both", &token("rsa-a", "one")), 200);
    assert_eq!(ask("/both", &token("rsa-b", "two")), 200);
    assert_eq!(
        ask("/both", &token("rsa-b", "one")),
        401,
        "the same kid of another issuer"
    );
    assert_eq!(ask("/both", &token("rsa-a", "three")), 401);
    let two = token("rsa-b", "two");
    assert_eq!(ask("/both", &two), 200);
    assert_eq!(
        ask("/only", &two),
        401,
        "a cached token opens only routes that take its issuer"
    );
}

/// A gateway with one issuer, whose settings these are, and one route that asks for it.
fn one_issuer(origin: &Origin, settings: &str, files: &[(&str, &str)]) -> Gateway {
    let config = format!(
        "identity: {{ jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], {settings} }}] }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: up }}]\n",
        mint::ISSUER
    );
    Gateway::with_files(&config, files)
}

#[test]
fn a_key_set_from_a_file_opens_its_route() {
    let origin = Origin::start();
    let set = mint::jwks(&[mint::jwk("rsa-a", "a"), mint::jwk("p256", "b")]);
    let settings = "algorithms: [RS256, ES256], jwks: { file: jwks.json }";
    let gateway = one_issuer(&origin, settings, &[("jwks.json", &set)]);
    let claims = mint::claims(gateway.now_s());
    let of = |key: &str, alg: &str, kid: &str| {
        judged(&gateway, &mint::sign(key, alg, Some(kid), &claims))
    };
    assert_eq!(of("rsa-a", "RS256", "a"), "ok");
    assert_eq!(of("p256", "ES256", "b"), "ok");
    assert_eq!(of("rsa-b", "RS256", "a"), "token_signature_invalid");
    assert_eq!(of("rsa-a", "RS256", "c"), "token_key_unknown");
    assert_eq!(
        of("rsa-a", "RS256", "b"),
        "token_algorithm_not_allowed",
        "a key of another kind"
    );
    assert_eq!(origin.hits(), 2);
}

#[test]
fn a_secret_from_a_file_ends_before_its_line_feed() {
    let origin = Origin::start();
    let settings = "algorithms: [HS256], keys: [{ alg: HS256, secret: \"file:s.txt\" }]";
    let text = format!("{}\n", mint::SECRET);
    let gateway = one_issuer(&origin, settings, &[("s.txt", &text)]);
    let claims = mint::claims(gateway.now_s());
    let of = |secret: &str| judged(&gateway, &mint::sign(secret, "HS256", None, &claims));
    assert_eq!(of(mint::SECRET), "ok");
    assert_eq!(of(&text), "token_signature_invalid");
    assert_eq!(origin.hits(), 1);
}
