//! Who calls: what is refused and how it is said, and how services are told.

use super::support::*;
use serde_json::json;

/// The issuer `corp` with a shared secret and the key list `partners`.
fn identities(more: &str) -> String {
    format!(
        "identity:\n{more}\
         \x20 jwt:\n\
         \x20 - {{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256],\n\
         \x20     keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}\n\
         \x20 api_keys: [{{ name: partners, file: keys.yaml }}]\n",
        mint::ISSUER
    )
}

const ROUTES: &str = "routes:\n\
    - { name: token, match: { path: /token }, auth: { any: [corp] }, to: up }\n\
    - { name: key, match: { path: /key }, auth: { any: [partners] }, to: up }\n\
    - { name: either, match: { path: /either }, auth: { any: [corp, partners] }, to: up }\n\
    - { name: scoped, match: { path: /scoped }, auth: { any: [corp, partners], scopes: [read:a, admin:all] }, to: up }\n\
    - { name: roles, match: { path: /roles }, auth: { any: [corp], roles: [owner] }, to: up }\n\
    - { name: open, match: { path: /open }, auth: none, to: up }\n";

fn start(origin: &Origin, server: &str, headers: &str) -> Gateway {
    let up = format!("upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n");
    let config = format!("{server}{}{up}{ROUTES}", identities(headers));
    let keys = format!(
        "keys:\n{}",
        mint::api_key("acme", "key-of-acme", ", scopes: [read:a], tier: gold")
    );
    Gateway::with_files(&config, &[("keys.yaml", &keys)])
}

fn token(gateway: &Gateway, changes: serde_json::Value) -> String {
    let claims = mint::claims_but(gateway.now_s(), changes);
    mint::sign(mint::SECRET, "HS256", None, &claims)
}

const PLAIN: &str = "server: { workers: 1, errors: plain }\n";

#[test]
fn plain_refusals_say_these_words() {
    let origin = Origin::start();
    let gateway = start(&origin, PLAIN, "");
    let good = token(&gateway, json!({}));
    let old = token(&gateway, json!({ "exp": gateway.now_s() - 60 }));
    let cases = [
        (Req::get("/token"), 401, "Missing authorization header"),
        (
            Req::get("/token").header("Authorization", "Basic abc"),
            401,
            "Bearer token required",
        ),
        (Req::get("/token").bearer(&old), 401, "Token expired"),
        (
            Req::get("/token").bearer("x.y.z"),
            401,
            "Invalid or expired token",
        ),
        (Req::get("/key"), 401, "API key required"),
        (
            Req::get("/key").header("X-API-Key", "wrong"),
            401,
            "Invalid API key",
        ),
        (
            Req::get("/scoped").bearer(&good),
            403,
            "Insufficient scope. Required: 'read:a admin:all'",
        ),
        (Req::get("/nowhere"), 404, "Route not found"),
    ];
    for (req, status, text) in cases {
        let answer = gateway.ask(&req);
        assert_eq!(answer.status, status, "{req:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json(), json!({ "error": text }), "{req:?}");
        assert!(!answer.request_id().is_empty());
    }
    assert_eq!(origin.begun(), 0);
}

#[test]
fn problems_have_all_their_fields() {
    let origin = Origin::start();
    let gateway = start(&origin, "", "");
    let answer = gateway.ask(&Req::get("/token").header("X-Request-ID", "id-1"));
    let want = json!({ "type": "about:blank", "title": "Unauthorized", "status": 401,
        "detail": "Missing authorization header", "code": "credentials_missing", "request_id": "id-1" });
    assert_eq!(answer.json(), want);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn challenges_are_those_of_rfc_6750() {
    let origin = Origin::start();
    let gateway = start(&origin, "", "");
    let good = token(&gateway, json!({}));
    let key = "ApiKey realm=\"tollgate\", header=\"x-api-key\"";
    let cases = [
        (Req::get("/token"), "Bearer realm=\"tollgate\"".to_owned()),
        (
            Req::get("/token").header("Authorization", "Basic abc"),
            "Bearer realm=\"tollgate\"".into(),
        ),
        (
            Req::get("/token").bearer("bad"),
            "Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"the token is malformed\"".into(),
        ),
        (
            Req::get("/roles").bearer(&good),
            "Bearer realm=\"tollgate\", error=\"insufficient_scope\"".into(),
        ),
        (Req::get("/key"), key.to_owned()),
        (
            Req::get("/either"),
            format!("Bearer realm=\"tollgate\", {key}"),
        ),
        (
            Req::get("/scoped").bearer(&good),
            format!(
                "Bearer realm=\"tollgate\", error=\"insufficient_scope\", scope=\"read:a admin:all\", {key}"
            ),
        ),
    ];
    for (req, want) in cases {
        let answer = gateway.ask(&req);
        assert_eq!(
            answer.header("www-authenticate"),
            Some(want.as_str()),
            "{req:?}"
        );
    }
    assert_eq!(gateway.get("/open").header("www-authenticate"), None);
}

#[test]
fn each_refusal_has_a_code_of_its_own() {
    let origin = Origin::start();
    let gateway = start(&origin, "", "");
    let good = token(&gateway, json!({}));
    let old = token(&gateway, json!({ "exp": gateway.now_s() - 60 }));
    let twice = Req::get("/token").bearer(&good).bearer(&good);
    let cases = [
        (Req::get("/token"), 401, "credentials_missing"),
        (
            Req::get("/token").header("Authorization", "Bearer"),
            401,
            "bearer_required",
        ),
        (
            Req::get("/token").header("Authorization", "Bearer "),
            401,
            "bearer_required",
        ),
        (
            Req::get("/token").header("X-API-Key", "key-of-acme"),
            401,
            "credentials_missing",
        ),
        (Req::get("/token").bearer(&old), 401, "token_expired"),
        (Req::get("/token").bearer("x"), 401, "token_malformed"),
        (twice, 400, "credentials_repeated"),
        (Req::get("/key").bearer(&good), 401, "api_key_required"),
        (
            Req::get("/key").header("X-API-Key", "x"),
            401,
            "api_key_unknown",
        ),
        (
            Req::get("/key")
                .header("X-API-Key", "a")
                .header("X-API-Key", "b"),
            400,
            "credentials_repeated",
        ),
        (Req::get("/scoped").bearer(&good), 403, "scope_insufficient"),
        (Req::get("/roles").bearer(&good), 403, "role_insufficient"),
    ];
    for (req, status, code) in cases {
        let answer = gateway.ask(&req);
        assert_eq!(answer.is(), (status, code.to_owned()), "{req:?}");
        assert_eq!(gateway.line(&answer)["reason"], code);
    }
    assert_eq!(origin.begun(), 0);
}

#[test]
fn any_of_several_proofs_opens_a_route_and_a_bad_one_is_not_overlooked() {
    let origin = Origin::start();
    let gateway = start(&origin, "", "");
    let good = token(&gateway, json!({}));
    let either = || Req::get("/either");
    assert_eq!(gateway.ask(&either().bearer(&good)).status, 200);
    assert_eq!(
        gateway
            .ask(&either().header("X-API-Key", "key-of-acme"))
            .status,
        200
    );
    assert_eq!(
        gateway
            .ask(&either().header("authorization", &format!("bEaReR {good}")))
            .status,
        200
    );
    let both = either().bearer(&good).header("X-API-Key", "wrong");
    let client = |req: &Req| {
        let answer = gateway.ask(req);
        (
            answer.status,
            origin.last().header("x-client-id").map(str::to_owned),
        )
    };
    assert_eq!(
        client(&both),
        (200, Some("web".into())),
        "a token goes before a key"
    );
    let bad = either().bearer("bad").header("X-API-Key", "key-of-acme");
    assert_eq!(gateway.ask(&bad).is(), (401, "token_malformed".into()));
    let basic = either()
        .header("Authorization", "Basic x")
        .header("X-API-Key", "key-of-acme");
    assert_eq!(client(&basic), (200, Some("acme".into())));
}

#[test]
fn services_are_told_who_calls() {
    let origin = Origin::start();
    let gateway = start(&origin, "", "");
    gateway.ask(&Req::get("/token").bearer(&token(&gateway, json!({}))));
    let seen = origin.last();
    assert_eq!(seen.header("x-user-id"), Some("alice"));
    assert_eq!(seen.header("x-user-scopes"), Some("read:a write:b"));
    assert_eq!(seen.header("x-user-roles"), Some("[\"admin\",\"dev\"]"));
    assert_eq!(seen.header("x-user-email"), Some("alice@example.com"));
    assert_eq!(seen.header("x-client-id"), Some("web"));
    gateway.ask(&Req::get("/key").header("X-API-Key", "key-of-acme"));
    let seen = origin.last();
    assert_eq!(seen.header("x-client-id"), Some("acme"));
    assert_eq!(seen.header("x-user-scopes"), Some("read:a"));
    assert_eq!(seen.header("x-user-id"), None, "a key speaks for no user");
    assert_eq!(seen.header("x-user-roles"), None);
    gateway.get("/open");
    assert!(!origin.last().head.to_lowercase().contains("x-user"));
}

#[test]
fn names_and_forms_of_the_identity_headers_are_the_operators() {
    let origin = Origin::start();
    let headers = "  headers: { user: X-Account, scopes: X-Rights, scopes_form: json, roles: X-Groups, \
                   roles_form: comma, email: X-Mail, client: X-App }\n";
    let gateway = start(&origin, "", headers);
    gateway.ask(
        &Req::get("/token")
            .bearer(&token(&gateway, json!({})))
            .header("x_account", "root"),
    );
    let seen = origin.last();
    assert_eq!(seen.header("x-account"), Some("alice"));
    assert_eq!(seen.header("x-rights"), Some("[\"read:a\",\"write:b\"]"));
    assert_eq!(seen.header("x-groups"), Some("admin,dev"));
    assert_eq!(seen.header("x-mail"), Some("alice@example.com"));
    assert_eq!(seen.header("x-app"), Some("web"));
    assert_eq!(seen.header("x_account"), None);
}

#[test]
fn no_claim_can_break_out_of_its_header() {
    let origin = Origin::start();
    let gateway = start(&origin, "", "");
    let evil = json!({ "sub": "a\r\nX-Admin: 1", "email": "ü@example.com\u{0}", "roles": ["x\",\"admin", "é"],
        "scope": ["one two", "three,four"], "client_id": "50%" });
    let answer = gateway.ask(&Req::get("/token").bearer(&token(&gateway, evil)));
    assert_eq!(answer.status, 200);
    let seen = origin.last();
    assert_eq!(seen.header("x-admin"), None);
    assert_eq!(seen.header("x-user-id"), Some("a%0D%0AX-Admin: 1"));
    assert_eq!(seen.header("x-user-email"), Some("%C3%BC@example.com%00"));
    assert_eq!(
        seen.header("x-user-roles"),
        Some("[\"x\\\",\\\"admin\",\"\\u00e9\"]")
    );
    assert_eq!(seen.header("x-user-scopes"), Some("one%20two three%2Cfour"));
    assert_eq!(seen.header("x-client-id"), Some("50%25"));
    let line = gateway.line(&answer);
    assert_eq!(
        line["user_id"], "a\r\nX-Admin: 1",
        "the log escapes in its own way"
    );
}

#[test]
fn scopes_and_roles_are_all_required() {
    let origin = Origin::start();
    let gateway = start(&origin, "", "");
    let ask = |target: &str, changes: serde_json::Value| {
        gateway
            .ask(&Req::get(target).bearer(&token(&gateway, changes)))
            .status
    };
    assert_eq!(ask("/scoped", json!({ "scope": "admin:all read:a" })), 200);
    assert_eq!(
        ask("/scoped", json!({ "scope": ["admin:all", "read:a", "x"] })),
        200
    );
    assert_eq!(
        ask(
            "/scoped",
            json!({ "scope": null, "scp": ["admin:all", "read:a"] })
        ),
        200
    );
    assert_eq!(ask("/scoped", json!({ "scope": "admin:all" })), 403);
    assert_eq!(ask("/scoped", json!({ "scope": "admin:all read:ab" })), 403);
    assert_eq!(ask("/scoped", json!({ "scope": "admin:all READ:A" })), 403);
    assert_eq!(ask("/scoped", json!({ "scope": null })), 403);
    assert_eq!(ask("/roles", json!({ "roles": ["a", "owner"] })), 200);
    assert_eq!(ask("/roles", json!({ "roles": "owner" })), 200);
    assert_eq!(ask("/roles", json!({ "roles": ["owners"] })), 403);
}
