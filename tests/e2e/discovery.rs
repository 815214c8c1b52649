//! Where an issuer says that its keys are, and what becomes of documents that are not as they should be.

use super::support::*;
use serde_json::json;

const OIDC: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

fn config(origin: &Origin, iss: &str, jwks: &str) -> String {
    format!(
        "identity: {{ jwt: [{{ name: corp, issuer: \"{iss}\", audiences: [api], algorithms: [RS256], jwks: {{ {jwks} }} }}] }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: up }}]\n",
    )
}

/// A document of this issuer that leads to its `/keys`.
fn document(issuer: &Origin, iss: &str) -> String {
    json!({ "issuer": iss, "jwks_uri": format!("http://{issuer}/keys"), "scopes_supported": ["a"] })
        .to_string()
}

/// Has it publish a document at one path and keys at `/keys`, and nothing else.
fn publish(issuer: &Origin, path: &str, document: String, keys: &[(&str, &str)]) {
    let (path, set) = (path.to_owned(), set(keys));
    issuer.script(move |seen| match seen.target.as_str() {
        "/keys" => Act::ok(set.clone()),
        target if target == path => Act::ok(document.clone()),
        _ => Act::status(404),
    });
}

fn set(keys: &[(&str, &str)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(key, kid)| mint::jwk(key, kid)).collect();
    mint::jwks(&keys)
}

fn ask(gateway: &Gateway, iss: &str, key: &str, kid: &str) -> (u16, String) {
    let claims = mint::claims_but(gateway.now_s(), json!({ "iss": iss }));
    let token = mint::sign(key, "RS256", Some(kid), &claims);
    gateway.ask(&Req::get("/").bearer(&token)).is()
}

fn fetches(gateway: &Gateway, result: &str) -> u64 {
    let labels = format!("{{issuer=\"corp\",result=\"{result}\"}}");
    gateway.metric(&format!("tollgate_jwks_fetches_total{labels}"))
}

#[test]
fn keys_are_where_the_issuer_says() {
    for (how, path, before, behind) in [
        ("oidc", "", "", OIDC),
        ("oidc", "/realms/x", "/realms/x", OIDC),
        ("oidc", "/realms/x/", "/realms/x", OIDC),
        ("oauth", "", OAUTH, ""),
        ("oauth", "/realms/x", OAUTH, "/realms/x"),
    ] {
        let (issuer, origin) = (Origin::start(), Origin::start());
        let iss = format!("http://{issuer}{path}");
        let place = format!("{before}{behind}");
        publish(&issuer, &place, document(&issuer, &iss), &[("rsa-a", "a")]);
        let gateway = Gateway::start(&config(&origin, &iss, &format!("discovery: {how}")));
        assert_eq!(ask(&gateway, &iss, "rsa-a", "a").0, 200, "{how} {path}");
        assert_eq!(issuer.hits(), 2, "{how} {path}");
        // A new key costs one request, as long as it is where keys were.
        publish(&issuer, &place, document(&issuer, &iss), &[("rsa-b", "b")]);
        assert_eq!(ask(&gateway, &iss, "rsa-b", "b").0, 200, "{how} {path}");
        assert_eq!(issuer.hits(), 3, "{how} {path}");
    }
}

#[test]
fn keys_that_moved_are_found_again() {
    let (issuer, origin) = (Origin::start(), Origin::start());
    let iss = format!("http://{issuer}");
    publish(&issuer, OIDC, document(&issuer, &iss), &[("rsa-a", "a")]);
    let gateway = Gateway::start(&config(&origin, &iss, "discovery: oidc"));
    let moved = document(&issuer, &iss).replace("/keys", "/other");
    let new = set(&[("rsa-b", "b")]);
    issuer.script(move |seen| match seen.target.as_str() {
        OIDC => Act::ok(moved.clone()),
        "/other" => Act::ok(new.clone()),
        _ => Act::status(404),
    });
    let (status, code) = ask(&gateway, &iss, "rsa-b", "b");
    assert_eq!((status, &*code), (401, "token_key_unknown"), "where it was");
    assert_eq!(ask(&gateway, &iss, "rsa-a", "a").0, 200, "old keys stay");
    gateway.advance_s(11);
    eventually("keys where they are now", || fetches(&gateway, "ok") == 2);
    assert_eq!(ask(&gateway, &iss, "rsa-b", "b").0, 200);
}

/// Every way in which what comes is not what should, by the result that it is counted as. The keys that
/// were there before stay; where there were none, nobody's token is good or bad.
#[test]
fn each_bad_document_has_a_result_of_its_own() {
    let (issuer, origin) = (Origin::start(), Origin::start());
    let iss = format!("http://{issuer}");
    let good = document(&issuer, &iss);
    let keys = set(&[("rsa-a", "a")]);
    let large = " ".repeat(256 * 1024 + 1);
    let many = mint::jwks(&vec![mint::jwk("rsa-a", "a"); 51]);
    let repeated = keys.replacen("{", "{\"keys\":[],", 1);
    let but = |name: &str, value: serde_json::Value| {
        let mut all: serde_json::Value = serde_json::from_str(&good).unwrap();
        all[name] = value;
        Act::ok(all.to_string())
    };
    let (discovery, published) = (
        |act| (act, Act::ok(keys.clone())),
        |act| (Act::ok(good.clone()), act),
    );
    let cases = [
        ("discovery_status", discovery(Act::status(404))),
        (
            "discovery_status",
            discovery(Act::Answer(302, vec![("Location", "/keys".into())], vec![])),
        ),
        ("discovery_transport", discovery(Act::reset())),
        ("discovery_too_large", discovery(Act::ok(large.clone()))),
        ("discovery_not_json", discovery(Act::ok("<html>"))),
        (
            "discovery_not_json",
            discovery(Act::ok(good.replacen('{', "{\"issuer\":\"x\",", 1))),
        ),
        (
            "discovery_incomplete",
            discovery(but("jwks_uri", json!(null))),
        ),
        ("discovery_incomplete", discovery(but("issuer", json!(7)))),
        (
            "issuer_mismatch",
            discovery(but("issuer", json!(format!("{iss}/")))),
        ),
        (
            "insecure_jwks_uri",
            discovery(but("jwks_uri", json!("http://keys.example/"))),
        ),
        (
            "insecure_jwks_uri",
            discovery(but("jwks_uri", json!("file:///etc/passwd"))),
        ),
        ("status", published(Act::status(500))),
        ("transport", published(Act::reset())),
        ("too_large", published(Act::ok(large.clone()))),
        ("not_json", published(Act::ok("<html>"))),
        ("not_json", published(Act::ok(repeated))),
        ("not_a_set", published(Act::ok("{\"keys\":{}}"))),
        ("too_many_keys", published(Act::ok(many))),
        ("no_usable_key", published(Act::ok("{\"keys\":[]}"))),
        (
            "no_usable_key",
            published(Act::ok(mint::jwks(&[json!({ "kty": "oct", "k": "AAAA" })]))),
        ),
    ];
    issuer.script(|_| Act::status(500));
    let gateway = Gateway::start(&config(&origin, &iss, "discovery: oidc"));
    for (result, (document, set)) in cases {
        issuer.script(move |seen| match seen.target.as_str() {
            OIDC => document.clone(),
            _ => set.clone(),
        });
        let before = fetches(&gateway, result);
        gateway.advance_s(64);
        eventually(result, || fetches(&gateway, result) > before);
        eventually("the fault in the status", || {
            let fault = gateway.status()["issuers"][0]["last_fault"].clone();
            fault["result"] == result && fault["text"].as_str().is_some_and(|t| t.len() > 10)
        });
        let refused = ask(&gateway, &iss, "rsa-a", "a");
        assert_eq!(refused, (503, "keys_unavailable".into()), "{result}");
    }
    publish(&issuer, OIDC, good.clone(), &[("rsa-a", "a")]);
    gateway.advance_s(64);
    eventually("good keys", || fetches(&gateway, "ok") == 1);
    assert_eq!(
        ask(&gateway, &iss, "rsa-a", "a").0,
        200,
        "it heals by itself"
    );
}
