//! Absences: what must never reach a service, a log or a metric, whatever a client sends.

use super::support::*;
use serde_json::json;

fn identities() -> String {
    format!(
        "identity:\n\
         \x20 jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}]\n\
         \x20 api_keys: [{{ name: partners, file: keys.yaml }}]\n",
        mint::ISSUER
    )
}

/// An open route, an authenticated one, and two ways to prove oneself.
fn gateway(origin: &Origin, more: &str) -> Gateway {
    let config = format!(
        "{}{more}upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n\
         - {{ name: open, match: {{ path: /open }}, auth: none, to: up }}\n\
         - {{ name: closed, match: {{ path: /closed }}, auth: {{ any: [corp, partners] }}, to: up }}\n",
        identities()
    );
    let keys = format!("keys:\n{}", mint::api_key("acme", "key-of-acme", ""));
    Gateway::with_files(&config, &[("keys.yaml", &keys)])
}

fn token(gateway: &Gateway) -> String {
    mint::sign(mint::SECRET, "HS256", None, &mint::claims(gateway.now_s()))
}

const OURS: [&str; 5] = [
    "X-User-ID",
    "X-User-Scopes",
    "X-User-Roles",
    "X-User-Email",
    "X-Client-ID",
];

#[test]
fn identity_headers_of_clients_reach_no_service_in_any_spelling() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let good = token(&gateway);
    for name in OURS {
        let lower = name.to_lowercase();
        let spellings = [
            name.to_owned(),
            lower.clone(),
            name.to_uppercase(),
            name.replace('-', "_"),
            lower.replacen('-', "_", 1),
            lower.replace('-', "."),
            lower.replace('-', "!"),
            lower.replace('-', "~"),
        ];
        for spelling in &spellings {
            for value in ["root", ""] {
                for req in [Req::get("/open"), Req::get("/closed").bearer(&good)] {
                    let req = req.header(spelling, value).header(spelling, "root2");
                    assert_eq!(gateway.ask(&req).status, 200, "{spelling}");
                    let head = origin.last().head;
                    assert!(!head.contains("root"), "{spelling}: {head}");
                    for (sent, _) in origin.last().headers {
                        let same = sent.to_lowercase().replace(['_', '.', '!', '~'], "-");
                        let ours = OURS.iter().any(|o| o.to_lowercase() == same);
                        assert!(!ours || req_is_closed(&head), "{spelling}: {head}");
                    }
                }
            }
        }
    }
}

fn req_is_closed(head: &str) -> bool {
    head.lines()
        .any(|l| l.eq_ignore_ascii_case("x-user-id: alice"))
}

#[test]
fn nominating_a_header_in_connection_does_not_erase_it() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let good = token(&gateway);
    for nominated in [
        "X-User-ID",
        "x-user-id, x-user-roles, X-Client-ID, x-user-scopes, x-user-email",
        "close, X-Request-ID",
        "keep-alive, traceparent",
        "X-User-ID\t,\tclose",
    ] {
        let req = Req::get("/closed")
            .bearer(&good)
            .header("Connection", nominated)
            .header("X-Request-ID", "kept");
        let answer = gateway.ask(&req);
        assert_eq!(answer.status, 200, "{nominated}");
        let seen = origin.last();
        assert_eq!(seen.header("x-user-id"), Some("alice"), "{nominated}");
        assert_eq!(seen.header("x-client-id"), Some("web"), "{nominated}");
        assert_eq!(
            seen.header("x-user-roles"),
            Some("[\"admin\",\"dev\"]"),
            "{nominated}"
        );
        assert_eq!(seen.header("x-request-id"), Some("kept"), "{nominated}");
        assert!(seen.header("traceparent").is_some(), "{nominated}");
        assert!(seen.header("x-forwarded-for").is_some(), "{nominated}");
    }
    // Ours, or refused outright: never gone, and never an error of the gateway.
    for nominated in ["X-Forwarded-For", "Host", "X-Forwarded-Proto, close"] {
        let answer = gateway.ask(&Req::get("/open").header("Connection", nominated));
        if answer.status != 200 {
            assert_eq!(answer.is(), (400, "bad_request".into()), "{nominated}");
            continue;
        }
        let seen = origin.last();
        assert_eq!(
            seen.header("x-forwarded-for"),
            Some("127.0.0.1"),
            "{nominated}"
        );
        assert_eq!(seen.header("host"), Some("api.example.com"), "{nominated}");
    }
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0,);
    assert_eq!(
        gateway.metric("tollgate_refusals_total{reason=\"internal_error\"}"),
        0
    );
}

#[test]
fn authorization_nominated_away_is_not_thereby_passed_on() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    for nominated in ["Authorization", "Content-Length", "Transfer-Encoding"] {
        let req = Req::post("/closed", "body")
            .header("Connection", nominated)
            .bearer(&token(&gateway));
        let answer = gateway.ask(&req);
        if answer.status != 200 {
            assert_eq!(answer.is(), (400, "bad_request".into()), "{nominated}");
            continue;
        }
        let seen = origin.last();
        assert_eq!(seen.header("authorization"), None, "{nominated}");
        assert_eq!(
            seen.body, b"body",
            "{nominated}: framing is not the client's to drop"
        );
    }
}

#[test]
fn an_upgrade_skips_nothing_and_is_not_passed_on() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    for upgrade in ["x", "websocket", "h2c", "TLS/1.0"] {
        let with = |req: Req| {
            req.header("Connection", "Upgrade")
                .header("Upgrade", upgrade)
                .header("X-User-ID", "root")
        };
        assert_eq!(
            gateway.ask(&with(Req::get("/closed"))).status,
            401,
            "{upgrade}"
        );
        let answer = gateway.ask(&with(Req::get("/closed").bearer(&token(&gateway))));
        assert_eq!(answer.status, 200, "{upgrade}");
        let seen = origin.last();
        assert_eq!(seen.header("upgrade"), None);
        assert_eq!(seen.header("x-user-id"), Some("alice"));
        assert_eq!(gateway.ask(&with(Req::get("/open"))).status, 200);
        assert!(!origin.last().head.contains("root"));
    }
    let mut client = gateway.connect();
    client.send(
        "GET /open HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n\
         GET /closed HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.read().status, 200);
    assert_eq!(
        client.read().status,
        401,
        "what follows is a request like any other"
    );
}

#[test]
fn credentials_end_at_the_gateway() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let good = token(&gateway);
    gateway.ask(&Req::get("/closed").bearer(&good));
    assert_eq!(origin.last().header("authorization"), None);
    gateway.ask(&Req::get("/closed").header("X-API-Key", "key-of-acme"));
    assert_eq!(origin.last().header("x-api-key"), None);
    gateway.ask(
        &Req::get("/closed")
            .bearer(&good)
            .header("X-API-Key", "key-of-acme"),
    );
    assert!(!origin.last().head.contains("key-of-acme"));
    gateway.ask(&Req::get("/open").header("X-API-Key", "key-of-acme"));
    assert_eq!(
        origin.last().header("x-api-key"),
        None,
        "not on open routes either"
    );
    gateway.ask(&Req::get("/open").bearer(&good));
    assert_eq!(
        origin.last().header("authorization"),
        Some(format!("Bearer {good}").as_str()),
        "an open route's service may check it itself"
    );
    for target in [
        format!("/closed?access_token={good}"),
        format!("/closed?jwt={good}"),
    ] {
        assert_eq!(
            gateway.get(&target).status,
            401,
            "no token is read from a query"
        );
    }
    assert_eq!(
        gateway
            .ask(&Req::get("/closed").header("Cookie", &format!("token={good}")))
            .status,
        401
    );
}

#[test]
fn addresses_are_believed_from_trusted_proxies_alone() {
    let origin = Origin::start();
    let spoofed = |req: Req| {
        req.header("X-Forwarded-For", "203.0.113.9, 198.51.100.2")
            .header("X-Real-IP", "203.0.113.9")
            .header("Forwarded", "for=203.0.113.9")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "evil")
            .header("X-Forwarded-Port", "1")
            .header("X-Forwarded-Prefix", "/evil")
    };
    let strict = gateway(&origin, "trusted_proxies: [10.0.0.0/8]\n");
    let answer = strict.ask(&spoofed(Req::get("/open")));
    assert_eq!(strict.line(&answer)["client_addr"], "127.0.0.1");
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.example.com"));
    for gone in [
        "x-real-ip",
        "forwarded",
        "x-forwarded-port",
        "x-forwarded-prefix",
    ] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    let behind = gateway(&origin, "trusted_proxies: [127.0.0.0/8, 198.51.100.0/24]\n");
    let answer = behind.ask(&spoofed(Req::get("/open")));
    assert_eq!(
        behind.line(&answer)["client_addr"],
        "203.0.113.9",
        "the first that is not trusted, from the right"
    );
    let seen = origin.last();
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("203.0.113.9, 198.51.100.2, 127.0.0.1")
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    for (sent, client) in [
        ("1.2.3.4, 5.6.7.8", "5.6.7.8"),
        ("5.6.7.8, junk", "127.0.0.1"),
        ("junk, 198.51.100.2", "198.51.100.2"),
        ("198.51.100.3", "198.51.100.3"),
        ("::ffff:5.6.7.8", "5.6.7.8"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("", "127.0.0.1"),
    ] {
        let answer = behind.ask(&Req::get("/open").header("X-Forwarded-For", sent));
        assert_eq!(behind.line(&answer)["client_addr"], client, "{sent}");
    }
}

#[test]
fn no_secret_is_ever_told() {
    let origin = Origin::start();
    let more = "admin: { address: \"127.0.0.1:0\", token: \"admin-token-0123456789\" }\n";
    let gateway = gateway(&origin, more);
    let good = token(&gateway);
    let bad = mint::sign(
        "another-secret-of-more-than-32-bytes",
        "HS256",
        None,
        &mint::claims(gateway.now_s()),
    );
    gateway.ask(&Req::get("/closed").bearer(&good));
    gateway.ask(&Req::get("/closed").bearer(&bad));
    gateway.ask(&Req::get("/closed").header("X-API-Key", "key-of-acme"));
    gateway.ask(&Req::get("/closed").header("X-API-Key", "wrong-key-0123456789"));
    gateway.ask(&Req::get(&format!("/open?access_token={good}")));
    gateway.ask(&Req::get(&format!("/%00?access_token={good}")));
    gateway.ask(&Req::get("/closed").header("Authorization", "Basic cGFzc3dvcmQ6c2VjcmV0"));
    gateway
        .connect()
        .send(format!(
            "GET /x?{good} HTTP/1.0\r\nAuthorization: Bearer {good}\r\n\r\n"
        ))
        .read();
    origin.script(|_| Act::reset());
    gateway.ask(&Req::post("/closed", "body-of-a-request").bearer(&good));
    eventually("all lines", || gateway.lines().len() == 9);
    let digest = mint::digest("key-of-acme");
    let signature = |token: &str| token.rsplit('.').next().unwrap_or_default().to_owned();
    let secrets = [
        signature(&good),
        signature(&bad),
        "key-of-acme".into(),
        "wrong-key-0123456789".into(),
        digest,
        mint::SECRET.into(),
        "admin-token-0123456789".into(),
        "cGFzc3dvcmQ6c2VjcmV0".into(),
        "body-of-a-request".into(),
    ];
    let places = [
        ("access log", gateway.raw_lines()),
        ("metrics", gateway.metrics()),
        ("status", gateway.status().to_string()),
        ("operator's log", stderr::lines().join("\n")),
    ];
    for (place, text) in places {
        assert!(!text.is_empty(), "{place}");
        for secret in &secrets {
            let line = text.lines().find(|l| l.contains(secret.as_str()));
            assert_eq!(line, None, "{secret} in the {place}");
        }
    }
}

#[test]
fn no_client_writes_its_own_log_lines() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let evil = "x\",\"status_code\":200,\"y\":\"";
    let claims = mint::claims_but(
        gateway.now_s(),
        json!({ "sub": "a\n{\"request_id\":\"forged\"}", "client_id": evil }),
    );
    let answer =
        gateway.ask(&Req::get("/closed").bearer(&mint::sign(mint::SECRET, "HS256", None, &claims)));
    let line = gateway.line(&answer);
    assert_eq!(
        (&line["client_id"], &line["status_code"]),
        (&evil.into(), &200.into())
    );
    assert!(gateway.lines().iter().all(|l| l["request_id"] != "forged"));
    let raw = gateway
        .connect()
        .send("GET /a\u{1b}[31m\"} HTTP/1.1\r\nHost: a\r\n\r\n")
        .read();
    assert_eq!(raw.status, 400);
    assert!(!gateway.line(&raw).to_string().contains('\u{1b}'));
}
