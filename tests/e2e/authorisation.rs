//! What a route asks of its callers: any and all of identities, nobody in particular, permissions,
//! claims; what services are told of claims; and trying all that out without refusing anybody.

use super::support::*;
use serde_json::{Value, json};

/// Two issuers, two lists of keys in headers of their own, these routes and further keys of `identity`.
fn start(origin: &Origin, more: &str, routes: &str) -> Gateway {
    let yaml = format!(
        "identity:\n{more}\
         \x20 jwt:\n\
         \x20 - {{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}\n\
         \x20 - {{ name: other, issuer: other, audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}\n\
         \x20 api_keys:\n\
         \x20 - {{ name: partners, file: keys.yaml }}\n\
         \x20 - {{ name: machines, header: X-Machine-Key, file: machines.yaml }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n{routes}\
         - {{ name: all-of-them, match: {{ path: /unused }}, auth: {{ any: [corp, other, partners, machines] }}, to: up }}\n",
        mint::ISSUER
    );
    let partners = mint::api_key("acme", "key-of-acme", ", roles: [clerk]");
    let machines = mint::api_key("robot", "key-of-robot", "");
    let files = [
        ("keys.yaml", &*format!("keys:\n{partners}")),
        ("machines.yaml", &*format!("keys:\n{machines}")),
    ];
    Gateway::with_files(&yaml, &files)
}

fn token(gateway: &Gateway, changes: Value) -> String {
    let claims = mint::claims_but(gateway.now_s(), changes);
    mint::sign(mint::SECRET, "HS256", None, &claims)
}

#[test]
fn each_of_all_and_one_of_any_must_know_the_client() {
    let origin = Origin::start();
    let routes = "- { name: two, match: { path: /two }, auth: { all: [partners, machines] }, to: up }\n\
        - { name: mixed, match: { path: /mixed }, auth: { all: [machines], any: [corp, partners] }, to: up }\n";
    let gateway = start(&origin, "", routes);
    let good = token(&gateway, json!({}));
    let (key, machine) = (
        ("X-API-Key", "key-of-acme"),
        ("X-Machine-Key", "key-of-robot"),
    );
    let two = |sent: &[(&str, &str)]| {
        let req = sent
            .iter()
            .fold(Req::get("/two"), |r, (n, v)| r.header(n, v));
        gateway.ask(&req).is()
    };
    assert_eq!(two(&[]), (401, "api_key_required".into()));
    assert_eq!(two(&[key]), (401, "api_key_required".into()));
    assert_eq!(two(&[machine]), (401, "api_key_required".into()));
    assert_eq!(
        two(&[key, ("X-Machine-Key", "no")]),
        (401, "api_key_unknown".into())
    );
    assert_eq!(origin.begun(), 0);
    assert_eq!(two(&[key, machine]).0, 200);

    let mixed = |sent: &[(&str, &str)], bearer: Option<&str>| {
        let req = sent
            .iter()
            .fold(Req::get("/mixed"), |r, (n, v)| r.header(n, v));
        let req = bearer.into_iter().fold(req, Req::bearer);
        gateway.ask(&req).is()
    };
    assert_eq!(mixed(&[machine], None), (401, "credentials_missing".into()));
    assert_eq!(mixed(&[], Some(&good)), (401, "api_key_required".into()));
    assert_eq!(
        mixed(&[machine], Some("bad")),
        (401, "token_malformed".into())
    );
    assert_eq!(mixed(&[machine, key], None).0, 200);
    assert_eq!(
        origin.last().header("x-client-id"),
        Some("robot"),
        "the first of equals"
    );
    assert_eq!(mixed(&[machine], Some(&good)).0, 200);
    let seen = origin.last();
    assert_eq!(
        seen.header("x-user-id"),
        Some("alice"),
        "a token says more than a key"
    );
    for gone in ["authorization", "x-api-key", "x-machine-key"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}

#[test]
fn nobody_in_particular_passes_only_where_that_is_written_and_nothing_is_shown() {
    let origin = Origin::start();
    let routes = "- { name: open, match: { path: /maybe }, auth: { any: [corp, partners], anonymous: true }, to: up }\n\
        - { name: strict, match: { path: /strict }, auth: { any: [corp, partners] }, to: up }\n";
    let gateway = start(&origin, "", routes);
    assert_eq!(
        gateway.get("/strict").is(),
        (401, "credentials_missing".into())
    );
    let forged = Req::get("/maybe")
        .header("X-User-ID", "root")
        .header("X-Client-ID", "root");
    assert_eq!(gateway.ask(&forged).status, 200);
    for gone in ["x-user-id", "x-client-id"] {
        assert_eq!(origin.last().header(gone), None, "{gone}");
    }
    let good = token(&gateway, json!({}));
    assert_eq!(gateway.ask(&Req::get("/maybe").bearer(&good)).status, 200);
    assert_eq!(origin.last().header("x-user-id"), Some("alice"));
    let bad = gateway.ask(&Req::get("/maybe").bearer("bad"));
    assert_eq!(bad.is(), (401, "token_malformed".into()));
    let basic = Req::get("/maybe").header("Authorization", "Basic YTpi");
    assert_eq!(gateway.ask(&basic).is(), (401, "bearer_required".into()));
    let bad = gateway.ask(&Req::get("/maybe").header("X-API-Key", "no"));
    assert_eq!(bad.is(), (401, "api_key_unknown".into()));
}

#[test]
fn roles_give_permissions_and_claims_have_values() {
    let origin = Origin::start();
    let more = "\x20 roles: { clerk: [orders:read], admin: [orders:read, orders:write] }\n";
    let routes = "- { name: read, match: { path: /read }, auth: { any: [corp, partners], permissions: [orders:read] }, to: up }\n\
        - { name: write, match: { path: /write }, auth: { any: [corp, partners], permissions: [orders:read, orders:write] }, to: up }\n\
        - { name: claims, match: { path: /claims }, auth: { any: [corp, partners], claims: { tenant: [acme, globex], org.level: 7 } }, to: up }\n";
    let gateway = start(&origin, more, routes);
    let ask = |target: &str, changes: Value| {
        gateway
            .ask(&Req::get(target).bearer(&token(&gateway, changes)))
            .is()
    };
    let lacking = || (403, "permission_insufficient".to_owned());
    assert_eq!(ask("/read", json!({ "roles": ["clerk"] })).0, 200);
    assert_eq!(ask("/read", json!({ "roles": ["admin"] })).0, 200);
    assert_eq!(ask("/write", json!({ "roles": ["admin", "x"] })).0, 200);
    assert_eq!(ask("/write", json!({ "roles": ["clerk"] })), lacking());
    assert_eq!(
        ask("/read", json!({ "roles": ["Admin", "orders:read"] })),
        lacking()
    );
    assert_eq!(
        ask("/read", json!({ "scope": "orders:read", "roles": null })),
        lacking()
    );
    let by_key = gateway.ask(&Req::get("/read").header("X-API-Key", "key-of-acme"));
    assert_eq!(by_key.status, 200, "a key has roles too");

    let lacking = || (403, "claim_insufficient".to_owned());
    let claims =
        |tenant: Value, org: Value| ask("/claims", json!({ "tenant": tenant, "org": org }));
    assert_eq!(claims(json!("acme"), json!({ "level": 7 })).0, 200);
    assert_eq!(
        claims(json!("globex"), json!({ "level": ["8", "7"] })).0,
        200
    );
    assert_eq!(claims(json!("acme "), json!({ "level": 7 })), lacking());
    assert_eq!(claims(json!("acme"), json!({ "level": 70 })), lacking());
    assert_eq!(
        claims(json!("acme"), json!({ "level": { "7": 7 } })),
        lacking()
    );
    assert_eq!(claims(json!("acme"), Value::Null), lacking());
    let by_key = gateway.ask(&Req::get("/claims").header("X-API-Key", "key-of-acme"));
    assert_eq!(by_key.is(), lacking(), "a key has no claims");
}

/// Whoever decides behind us, as before, still has to see them.
fn credentials_go_on(req: &Req, seen: &Seen) {
    let sent = String::from_utf8_lossy(&req.bytes()).to_ascii_lowercase();
    for name in ["authorization", "x-api-key"] {
        assert_eq!(
            seen.header(name).is_some(),
            sent.contains(name),
            "{name} {req:?}"
        );
    }
}

#[test]
fn a_dry_run_refuses_nobody_and_tells_whom_it_would_have() {
    let origin = Origin::start();
    let routes = "- { name: tried, match: { path: /tried }, auth: { any: [corp, partners], scopes: [read:a], mode: dry_run }, to: up }\n";
    let gateway = start(&origin, "\x20 failures: { rate: 2/1m }\n", routes);
    let good = token(&gateway, json!({ "scope": "read:a" }));
    let poor = token(&gateway, json!({ "scope": "" }));
    let cases = [
        (Req::get("/tried"), Some("credentials_missing"), None),
        (
            Req::get("/tried").bearer(&poor),
            Some("scope_insufficient"),
            Some("alice"),
        ),
        (Req::get("/tried").bearer(&good), None, Some("alice")),
        (
            Req::get("/tried").bearer("bad"),
            Some("token_malformed"),
            None,
        ),
        (
            Req::get("/tried").bearer("bad"),
            Some("token_malformed"),
            None,
        ),
        (
            Req::get("/tried").bearer("bad"),
            Some("auth_failures_limited"),
            None,
        ),
        (
            Req::get("/tried").header("X-API-Key", "key-of-acme"),
            Some("scope_insufficient"),
            None,
        ),
    ];
    for (req, reason, user) in cases {
        let answer = gateway.ask(&req.clone().header("X-User-ID", "forged"));
        assert_eq!(answer.status, 200, "{req:?}");
        let line = gateway.line(&answer);
        assert_eq!(line["would_refuse"].as_str(), reason, "{req:?}");
        assert_eq!(line["reason"], Value::Null);
        let seen = origin.last();
        assert_eq!(seen.header("x-user-id"), user, "{req:?}");
        credentials_go_on(&req, &seen);
    }
    let counts = [
        ("token_malformed", 2),
        ("scope_insufficient", 2),
        ("auth_failures_limited", 1),
    ];
    for (reason, times) in counts {
        let labels = format!("reason=\"{reason}\",route=\"tried\"");
        let metric = format!("tollgate_auth_dry_run_refusals_total{{{labels}}}");
        gateway.counts(&metric, times);
    }
}

#[test]
fn claims_reach_services_one_value_each_and_only_from_tokens() {
    let origin = Origin::start();
    let more = "\x20 headers:\n\
        \x20   claims:\n\
        \x20   - { header: X-Department, claim: org.department }\n\
        \x20   - { header: X-Groups, claim: groups, form: comma }\n\
        \x20   - { header: X-Raw, claim: raw }\n\
        \x20   - { header: X-Plain, claim: plain, odd: refuse }\n";
    let routes = "- { name: r, match: { path: /r }, auth: { any: [corp, partners] }, to: up }\n\
        - { name: open, match: { path: /open }, auth: none, to: up }\n";
    let gateway = start(&origin, more, routes);
    let ask = |changes: Value| {
        let req = Req::get("/r").bearer(&token(&gateway, changes));
        let req = req
            .header("X-Department", "forged")
            .header("X_Raw", "forged");
        gateway.ask(&req).is()
    };
    let told = |names: [&str; 4]| {
        let seen = origin.last();
        names.map(|name| seen.header(name).map(str::to_owned))
    };
    let all = ["x-department", "x-groups", "x-raw", "x-plain"];
    let claims = json!({ "org": { "department": "sales\r\nX-Admin: 1" }, "groups": ["a b", "c,d"],
        "raw": { "k": ["ü", 1, true] }, "plain": "ok" });
    for _ in 0..2 {
        assert_eq!(ask(claims.clone()).0, 200, "from the cache too");
        let want = [
            "sales%0D%0AX-Admin: 1",
            "a%20b,c%2Cd",
            r#"{"k":["\u00fc",1,true]}"#,
            "ok",
        ];
        assert_eq!(told(all), want.map(|text| Some(text.to_owned())));
        assert_eq!(origin.last().header("x-admin"), None);
    }
    assert_eq!(ask(json!({ "groups": [], "raw": null, "plain": 5 })).0, 200);
    assert_eq!(told(all), [None, None, None, Some("5".into())]);
    for odd in [
        json!("é"),
        json!("a\nb"),
        json!(["a", "\u{7f}"]),
        json!({ "ü": 1 }),
    ] {
        let refused = ask(json!({ "plain": odd }));
        assert_eq!(refused, (401, "token_claim_invalid".into()));
    }
    for req in [
        Req::get("/r").header("X-API-Key", "key-of-acme"),
        Req::get("/open"),
    ] {
        let forged = all.iter().fold(req, |r, name| r.header(name, "forged"));
        assert_eq!(gateway.ask(&forged).status, 200);
        assert_eq!(told(all), [None, None, None, None], "no client sets them");
    }
}

/// A reload that asks for another claim must not look for it in what was kept of tokens before.
#[test]
fn a_reload_that_asks_for_more_claims_looks_at_tokens_anew() {
    let origin = Origin::start();
    let config = |auth: &str| {
        format!(
            "identity: {{ jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}] }}\n\
             upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
             routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] {auth} }}, to: up }}]\n",
            mint::ISSUER
        )
    };
    let gateway = Gateway::start(&config(", claims: { a: x }"));
    let good = token(&gateway, json!({ "a": "x", "b": "y" }));
    let ask = || gateway.ask(&Req::get("/").bearer(&good)).is();
    assert_eq!(ask().0, 200);
    gateway
        .reload(&config(", claims: { b: y }"))
        .expect("a config");
    assert_eq!(ask().0, 200);
    gateway
        .reload(&config(", claims: { b: x }"))
        .expect("a config");
    assert_eq!(ask(), (403, "claim_insufficient".into()));
}

/// A key in the query went on to the service, and into its logs, where a token had decided.
#[test]
fn a_key_in_the_query_ends_at_the_gateway_whatever_decides() {
    let origin = Origin::start();
    let text = format!(
        "identity:\n\
         \x20 jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}]\n\
         \x20 api_keys: [{{ name: partners, query: api_key, file: keys.yaml }}]\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp, partners], key_in_query: true }}, to: up }}]\n",
        mint::ISSUER
    );
    let keys = format!("keys:\n{}", mint::api_key("acme", "key-of-acme", ""));
    let gateway = Gateway::with_files(&text, &[("keys.yaml", &keys)]);
    let good = token(&gateway, json!({}));
    let target = "/a?x=1&%61pi_key=key-of-acme&y";
    for (req, caller) in [
        (Req::get(target).bearer(&good), "web"),
        (Req::get(target), "acme"),
    ] {
        assert_eq!(gateway.ask(&req).status, 200, "{req:?}");
        let seen = origin.last();
        assert_eq!(seen.target, "/a?x=1&y");
        assert_eq!(seen.header("x-client-id"), Some(caller));
    }
}
