//! Tokens that their issuer is asked about (RFC 7662), through the gateway. What its answers mean one by
//! one is in `introspection_core`.

use super::support::redis::RedisServer;
use super::support::*;
use ::redis::Value as Stored;
use serde_json::{Value, json};
use std::time::Duration;

const SECRET: &str = "the-secret-of-the-gateway";

/// An issuer that answers about a token by its name: what stands in this list, or that it is not active.
fn issuer(answers: Value) -> Origin {
    Origin::scripted(move |seen| {
        let body = String::from_utf8(seen.body.clone()).expect("text");
        let token = body
            .strip_prefix("token=")
            .and_then(|b| b.split('&').next());
        let mut answer = answers[token.expect("a token")].clone();
        if answer.is_null() {
            return answered(&json!({"active": false}));
        }
        answer["active"] = true.into();
        answered(&answer)
    })
}

fn answered(answer: &Value) -> Act {
    let typed = ("Content-Type", "application/json".to_owned());
    Act::Answer(200, vec![typed], answer.to_string().into_bytes())
}

fn alice() -> Origin {
    issuer(json!({"good": {"sub": "alice", "client_id": "web", "scope": "read write"}}))
}

/// A config with further settings of the issuer and of the whole.
fn config(issuer: &Origin, origin: &Origin, settings: &str, more: &str) -> String {
    format!(
        "{more}\
         identity:\n\
         \x20 introspection:\n\
         \x20 - {{ name: sso, url: \"http://{issuer}/introspect\", client_id: gateway,\n\
         \x20     client_secret: {SECRET}, any_audience: true{settings} }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n\
         - {{ name: r, match: {{ path: / }}, auth: {{ any: [sso] }}, to: up }}\n\
         - {{ name: admin, match: {{ path: /admin }}, auth: {{ any: [sso], scopes: [admin] }}, to: up }}\n"
    )
}

fn gateway(issuer: &Origin, origin: &Origin) -> Gateway {
    Gateway::start(&config(issuer, origin, "", ""))
}

fn ask(gateway: &Gateway, token: &str) -> (u16, String) {
    gateway.ask(&Req::get("/").bearer(token)).is()
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn a_good_token_passes_and_is_asked_about_once_a_minute() {
    let (issuer, origin) = (alice(), Origin::start());
    let gateway = gateway(&issuer, &origin);
    assert_eq!(issuer.begun(), 0, "nobody asks before there is a token");
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "good").0, 200);
    }
    assert_eq!(issuer.hits(), 1);
    let seen = origin.last();
    assert_eq!(seen.header("x-user-id"), Some("alice"));
    assert_eq!(seen.header("x-client-id"), Some("web"));
    assert_eq!(seen.header("x-user-scopes"), Some("read write"));
    assert_eq!(seen.header("authorization"), None);
    gateway.advance_s(59);
    assert_eq!(ask(&gateway, "good").0, 200);
    assert_eq!(issuer.hits(), 1);
    gateway.advance_s(2);
    assert_eq!(ask(&gateway, "good").0, 200);
    assert_eq!(issuer.hits(), 2);
    let line = "tollgate_introspections_total{issuer=\"sso\",result=\"active\"}";
    assert_eq!(gateway.metric(line), 2);
    let told = &gateway.status()["introspection"][0];
    let want = json!({"name": "sso", "answered": 2, "failed": 0, "given_up": false});
    assert_eq!(*told, want);
}

#[test]
fn each_refusal_has_its_own_code() {
    let now_s = tollgate::base::clock::Clock::system().now().unix_s();
    let origin = Origin::start();
    let ours = |more: Value| {
        let mut all = json!({"sub": "u", "iss": "https://sso.example/", "aud": "api"});
        for (name, value) in more.as_object().expect("members") {
            all[name] = value.clone();
        }
        all
    };
    let issuer = issuer(json!({
        "good": ours(json!({})),
        "over": ours(json!({"exp": now_s - 100})),
        "early": ours(json!({"nbf": now_s + 1000})),
        "issuer": ours(json!({"iss": "https://other.example/"})),
        "audience": ours(json!({"aud": ["other"]})),
        "refresh": ours(json!({"token_type": "refresh_token"})),
        "bound": ours(json!({"cnf": {"x5t#S256": "A".repeat(43)}})),
        "dpop": ours(json!({"cnf": {"jkt": "A".repeat(43)}})),
        "roles": ours(json!({"roles": {"admin": true}})),
        "nobody": {"iss": "https://sso.example/", "aud": "api"},
    }));
    let strict = ", issuer: \"https://sso.example/\"";
    let strict = config(&issuer, &origin, strict, "");
    let gateway = Gateway::start(&strict.replace("any_audience: true", "audiences: [api]"));
    assert_eq!(ask(&gateway, "good").0, 200);
    for (token, want) in [
        ("unknown", "token_inactive"),
        ("over", "token_expired"),
        ("early", "token_not_yet_valid"),
        ("issuer", "token_issuer_unknown"),
        ("audience", "token_audience_wrong"),
        ("refresh", "token_type_wrong"),
        ("bound", "token_binding_unproven"),
        ("dpop", "token_binding_unproven"),
        ("roles", "token_claim_invalid"),
        ("nobody", "token_claim_missing"),
        ("not{a}token", "token_malformed"),
        (&"x".repeat(8193), "token_too_large"),
    ] {
        let answer = gateway.ask(&Req::get("/").bearer(token));
        assert_eq!(answer.is(), code(401, want));
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
    assert_eq!(origin.hits(), 1);
    let missing = gateway.ask(&Req::get("/"));
    assert_eq!(missing.is(), code(401, "credentials_missing"));
    let challenge = missing.header("www-authenticate");
    assert_eq!(challenge, Some("Bearer realm=\"tollgate\""));
    assert_eq!(issuer.begun(), 11, "what is no token is not asked about");
}

#[test]
fn scopes_are_asked_for() {
    let (issuer, origin) = (alice(), Origin::start());
    let gateway = gateway(&issuer, &origin);
    let answer = gateway.ask(&Req::get("/admin").bearer("good"));
    assert_eq!(answer.is(), code(403, "scope_insufficient"));
    let challenge = answer.header("www-authenticate").expect("a challenge");
    assert!(challenge.contains("error=\"insufficient_scope\", scope=\"admin\""));
}

/// 503 and not 401: the client may well be right.
#[test]
fn an_issuer_that_cannot_be_asked_is_no_refusal() {
    let (issuer, origin) = (alice(), Origin::start());
    let quick = config(&issuer, &origin, ", timeout: 200ms", "");
    let gateway = Gateway::start(&quick);
    assert_eq!(ask(&gateway, "good").0, 200);
    let typed = ("Content-Type", "application/json".to_owned());
    for (act, want) in [
        (Act::status(401), "introspection_unavailable"),
        (Act::status(500), "introspection_unavailable"),
        (Act::Hang, "introspection_unavailable"),
        (Act::reset(), "introspection_unavailable"),
        (Act::ok("<html>"), "introspection_invalid"),
        (
            Act::Answer(200, vec![typed], b"{\"active\":1}".to_vec()),
            "introspection_invalid",
        ),
        (Act::status(404), "introspection_invalid"),
    ] {
        issuer.script(move |_| act.clone());
        let answer = gateway.ask(&Req::get("/").bearer("other"));
        assert_eq!(answer.is(), code(503, want));
        assert_eq!(answer.header("www-authenticate"), None);
        assert!(answer.number("retry-after") >= 1);
        assert_eq!(ask(&gateway, "good").0, 200, "what is known goes on");
    }
    issuer.stop();
    for _ in 0..10 {
        assert_eq!(
            ask(&gateway, "more"),
            code(503, "introspection_unavailable")
        );
    }
    assert_eq!(ask(&gateway, "good").0, 200);
    let given_up = "tollgate_introspection_given_up{issuer=\"sso\"}";
    gateway.counts(given_up, 1);
    issuer.script(|_| answered(&json!({"active": true, "sub": "bob"})));
    issuer.start_again();
    gateway.advance_s(1);
    assert_eq!(ask(&gateway, "more").0, 200);
    gateway.counts(given_up, 0);
    assert_eq!(origin.last().header("x-user-id"), Some("bob"));
}

#[test]
fn many_requests_of_one_token_are_one_question() {
    let gate = Gate::new();
    let good = answered(&json!({"active": true, "sub": "alice"}));
    let act = Act::At(gate.clone(), Box::new(good));
    let (issuer, origin) = (Origin::scripted(move |_| act.clone()), Origin::start());
    let gateway = gateway(&issuer, &origin);
    let address = gateway.address();
    // Whoever asks first goes away.
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer token\r\n\r\n");
    eventually("the question", || issuer.begun() == 1);
    first.reset();
    std::thread::scope(|scope| {
        let ask = || {
            Client::open(address)
                .ask(&Req::get("/").bearer("token"))
                .status
        };
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        let misses = "tollgate_introspection_cache_lookups_total{issuer=\"sso\",result=\"miss\"}";
        gateway.counts(misses, 21);
        gate.open();
        for one in asking {
            assert_eq!(one.join().expect("no panic"), 200);
        }
    });
    assert_eq!(issuer.hits(), 1);
}

/// A token of an issuer whose keys are known never leaves the gateway.
#[test]
fn signed_tokens_and_others_beside_each_other() {
    let (issuer, origin) = (alice(), Origin::start());
    let text = config(&issuer, &origin, "", "");
    let text = text.replace("any: [sso]", "any: [corp, sso]").replace(
        "identity:\n",
        &format!(
            "identity:\n\
             \x20 jwt:\n\
             \x20 - {{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256],\n\
             \x20     keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}\n",
            mint::ISSUER
        ),
    );
    let gateway = Gateway::start(&text);
    let sign = |claims: &Value| mint::sign(mint::SECRET, "HS256", None, claims);
    let ours = mint::claims(gateway.now_s());
    assert_eq!(ask(&gateway, &sign(&ours)).0, 200);
    let over = mint::claims_but(gateway.now_s(), json!({"exp": gateway.now_s() - 100}));
    assert_eq!(ask(&gateway, &sign(&over)), code(401, "token_expired"));
    assert_eq!(issuer.begun(), 0);
    assert_eq!(ask(&gateway, "good").0, 200);
    assert_eq!(ask(&gateway, "bad"), code(401, "token_inactive"));
    let others = mint::claims_but(gateway.now_s(), json!({"iss": "https://other.example/"}));
    assert_eq!(ask(&gateway, &sign(&others)), code(401, "token_inactive"));
    assert_eq!(issuer.hits(), 3);
}

#[test]
fn a_reload_forgets_only_what_it_changes() {
    let (issuer, origin) = (alice(), Origin::start());
    let gateway = gateway(&issuer, &origin);
    assert_eq!(ask(&gateway, "good").0, 200);
    let same = config(&issuer, &origin, "", "trusted_proxies: [10.0.0.0/8]\n");
    gateway.reload(&same).expect("taken up");
    assert_eq!(ask(&gateway, "good").0, 200);
    assert_eq!(issuer.hits(), 1);
    let other = config(&issuer, &origin, ", issuer: \"https://sso.example/\"", "");
    gateway.reload(&other).expect("taken up");
    assert_eq!(ask(&gateway, "good"), code(401, "token_issuer_unknown"));
    assert_eq!(issuer.hits(), 2);
    gateway.reload(&same).expect("taken up");
    assert_eq!(ask(&gateway, "good").0, 200);
    assert_eq!(issuer.hits(), 3);
}

/// What a client sends, and what the gateway proves itself with, is in no log and no answer.
#[test]
fn nothing_is_told_that_should_not_be() {
    let (issuer, origin) = (alice(), Origin::start());
    let gateway = gateway(&issuer, &origin);
    let mut answers = Vec::new();
    let mut ask = |act: Act| {
        issuer.script(move |_| act.clone());
        let token = "unmistakable-bearer-token";
        let answer = gateway.ask(&Req::get("/").bearer(token));
        answers.push(answer.head.clone() + answer.text());
        gateway.advance_s(10);
    };
    ask(answered(
        &json!({"active": false, "note": "unmistakable-note"}),
    ));
    ask(answered(&json!({"active": "unmistakable-note"})));
    ask(Act::ok("unmistakable-note"));
    ask(Act::Answer(
        401,
        vec![("X-Note", "unmistakable-note".to_owned())],
        b"unmistakable-note".to_vec(),
    ));
    ask(Act::Raw(b"unmistakable-note\r\n\r\n".to_vec()));
    assert_eq!(issuer.hits(), 5);
    let lines = stderr::lines().join("\n");
    assert!(lines.contains("identity sso: asking the issuer"));
    let told = answers.join("\n") + &gateway.raw_lines() + &gateway.metrics() + &lines;
    for secret in ["unmistakable", SECRET] {
        assert!(!told.contains(secret), "{secret}");
    }
}

/// Whoever is known passes, whatever others at the same address did.
#[test]
fn a_known_token_passes_the_limit_on_failures() {
    let (issuer, origin) = (alice(), Origin::start());
    let text = config(&issuer, &origin, "", "");
    let text = text.replace("identity:\n", "identity:\n  failures: { rate: 3/1m }\n");
    let gateway = Gateway::start(&text);
    gateway.begin_window(60);
    assert_eq!(ask(&gateway, "good").0, 200);
    let refused: Vec<_> = (0..6).map(|n| ask(&gateway, &format!("bad{n}"))).collect();
    assert_eq!(refused[0], code(401, "token_inactive"));
    assert_eq!(refused[5], code(429, "auth_failures_limited"));
    let hits = issuer.hits();
    assert!(hits < 7, "limited ones are not asked about");
    assert_eq!(ask(&gateway, "good").0, 200);
    assert_eq!(issuer.hits(), hits);
}

fn sharing(issuer: &Origin, origin: &Origin, server: &RedisServer) -> String {
    let redis = format!("redis: {{ url: \"{}\", timeout: 1s }}\n", server.url());
    config(issuer, origin, ", shared: true", &redis)
}

fn keys(server: &RedisServer) -> Vec<String> {
    let Stored::Array(keys) = server.run(&["KEYS", "*"]) else {
        panic!("no list");
    };
    let text = |key: Stored| match key {
        Stored::BulkString(bytes) => String::from_utf8(bytes).expect("text"),
        other => panic!("{other:?}"),
    };
    keys.into_iter().map(text).collect()
}

#[test]
fn gateways_share_what_they_were_told() {
    let now_s = tollgate::base::clock::Clock::system().now().unix_s();
    let issuer = issuer(json!({
        "good": {"sub": "alice"},
        "short": {"sub": "bob", "exp": now_s + 20},
    }));
    let (origin, server) = (Origin::start(), RedisServer::start());
    let text = sharing(&issuer, &origin, &server);
    let (one, two) = (Gateway::start(&text), Gateway::start(&text));
    for token in ["good", "short", "bad"] {
        ask(&one, token);
    }
    eventually("two answers in Redis", || keys(&server).len() == 2);
    let hash = "770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c";
    let key = format!("tollgate:token:sso:{hash}");
    assert!(keys(&server).contains(&key), "the SHA-256 of `good`");
    for key in keys(&server) {
        let Stored::Int(left_ms) = server.run(&["PTTL", &key]) else {
            panic!("no number");
        };
        let most = if key.ends_with(hash) { 60_000 } else { 20_000 };
        assert!(left_ms > 0 && left_ms <= most, "{key} {left_ms}");
    }
    assert_eq!(issuer.hits(), 3);
    assert_eq!(ask(&two, "good").0, 200);
    assert_eq!(origin.last().header("x-user-id"), Some("alice"));
    assert_eq!(ask(&two, "short").0, 200);
    assert_eq!(issuer.hits(), 3, "the other gateway had asked");
    assert_eq!(ask(&two, "bad"), code(401, "token_inactive"));
    assert_eq!(issuer.hits(), 4, "refusals are not shared");
    let hits = "tollgate_introspection_shared_lookups_total{issuer=\"sso\",result=\"hit\"}";
    assert_eq!(two.metric(hits), 2);
    // From when the issuer was asked, not from when the other gateway was told.
    two.advance_s(61);
    assert_eq!(ask(&two, "good").0, 200);
    assert_eq!(issuer.hits(), 5);
}

#[test]
fn what_others_write_to_redis_is_not_believed() {
    let (issuer, origin, server) = (alice(), Origin::start(), RedisServer::start());
    let text = sharing(&issuer, &origin, &server);
    let one = Gateway::start(&text);
    assert_eq!(ask(&one, "good").0, 200);
    eventually("the answer in Redis", || keys(&server).len() == 1);
    let Stored::BulkString(value) = server.run(&["GET", &keys(&server)[0]]) else {
        panic!("no value");
    };
    let value = String::from_utf8(value).expect("text");
    for secret in ["good", SECRET] {
        assert!(!value.contains(secret), "{secret}");
    }
    // A good answer under another token's name, one made up, and one of a gateway with another secret.
    let key = |token: &str| {
        let hex = mint::digest(token);
        format!("tollgate:token:sso:{hex}")
    };
    server.run(&["SET", &key("stolen"), &value]);
    server.run(&["SET", &key("made-up"), "{\"active\":true,\"sub\":\"root\"}"]);
    server.run(&["SET", &key("changed"), &value.replace("alice", "root")]);
    server.run(&["RPUSH", &key("a-list"), "x"]);
    for token in ["stolen", "made-up", "changed", "a-list"] {
        assert_eq!(ask(&one, token), code(401, "token_inactive"), "{token}");
    }
    let foreign = "tollgate_introspection_shared_lookups_total{issuer=\"sso\",result=\"foreign\"}";
    assert_eq!(one.metric(foreign), 3);
    let other = Gateway::start(&text.replace(SECRET, "another-secret"));
    let hits = issuer.hits();
    assert_eq!(ask(&other, "good").0, 200);
    assert_eq!(issuer.hits(), hits + 1);
    assert_eq!(other.metric(foreign), 1);
}

#[test]
fn without_redis_the_issuer_is_asked() {
    let (issuer, origin, server) = (alice(), Origin::start(), RedisServer::start());
    let gateway = Gateway::start(&sharing(&issuer, &origin, &server));
    server.kill();
    assert_eq!(ask(&gateway, "good").0, 200);
    assert_eq!(ask(&gateway, "bad"), code(401, "token_inactive"));
    assert_eq!(issuer.hits(), 2);
    server.restart();
    server.pause();
    let watch = Stopwatch::start();
    assert_eq!(ask(&gateway, "other"), code(401, "token_inactive"));
    assert!(watch.passed() < Duration::from_secs(10));
    server.resume();
}
