//! Refused credentials are limited by address, before anything is spent on them; what was found good a
//! moment ago passes all the same.

use super::support::*;
use serde_json::json;

fn start(origin: &Origin, failures: &str) -> Gateway {
    let yaml = format!(
        "trusted_proxies: [127.0.0.0/8]\n\
         identity:\n\
         \x20 failures: {failures}\n\
         \x20 jwt: [{{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}]\n\
         \x20 api_keys: [{{ name: partners, file: keys.yaml }}]\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n\
         - {{ name: r, match: {{ path: / }}, auth: {{ any: [corp, partners] }}, to: up }}\n\
         - {{ name: open, match: {{ path: /open }}, auth: none, to: up }}\n",
        mint::ISSUER
    );
    let keys = format!("keys:\n{}", mint::api_key("acme", "key-of-acme", ""));
    Gateway::with_files(&yaml, &[("keys.yaml", &keys)])
}

fn token(gateway: &Gateway, user: &str) -> String {
    let claims = mint::claims_but(gateway.now_s(), json!({ "sub": user }));
    mint::sign(mint::SECRET, "HS256", None, &claims)
}

fn from(address: &str) -> Req {
    Req::get("/").header("X-Forwarded-For", address)
}

#[test]
fn an_office_behind_one_address_does_not_lock_itself_out() {
    let origin = Origin::start();
    let gateway = start(&origin, "{ rate: 5/1m }");
    gateway.begin_window(60);
    let (known, new) = (token(&gateway, "known"), token(&gateway, "new"));
    let office = || from("192.0.2.1");
    assert_eq!(gateway.ask(&office().bearer(&known)).status, 200);
    for n in 0..5 {
        let req = match n % 2 {
            0 => office().bearer("guess"),
            _ => office().header("X-API-Key", "guess"),
        };
        assert_eq!(gateway.ask(&req).status, 401, "{n}");
    }
    let barred = gateway.ask(&office().bearer("guess"));
    assert_eq!(barred.is(), (429, "auth_failures_limited".into()));
    assert!((1..=120).contains(&barred.number("retry-after")));
    let unseen = gateway.ask(&office().bearer(&new));
    assert_eq!(
        unseen.is(),
        (429, "auth_failures_limited".into()),
        "not looked at"
    );
    for req in [
        office().bearer(&known),
        office().header("X-API-Key", "key-of-acme"),
        from("192.0.2.2").bearer(&new),
    ] {
        assert_eq!(gateway.ask(&req).status, 200, "{req:?}");
    }
    assert_eq!(
        gateway.ask(&office().bearer(&new)).status,
        200,
        "remembered since"
    );
    let open = Req::get("/open").header("X-Forwarded-For", "192.0.2.1");
    assert_eq!(gateway.ask(&open).status, 200);
    // Nothing at all is no guess.
    assert_eq!(
        gateway.ask(&office()).is(),
        (401, "credentials_missing".into())
    );
    gateway.advance_s(121);
    assert_eq!(
        gateway.ask(&office().bearer("guess")).status,
        401,
        "it is over"
    );
}

#[test]
fn one_network_of_ipv6_is_one_address_and_lack_of_rights_is_no_failure() {
    let origin = Origin::start();
    let gateway = start(&origin, "{ rate: 2/1m }");
    gateway.begin_window(60);
    let guess = |address: &str| gateway.ask(&from(address).bearer("guess")).status;
    assert_eq!(guess("2001:db8::1"), 401);
    assert_eq!(guess("2001:db8::ffff:2"), 401);
    assert_eq!(guess("2001:db8::3"), 429);
    assert_eq!(guess("2001:db8:0:1::1"), 401);
}

#[test]
fn where_it_is_off_nobody_is_barred() {
    let origin = Origin::start();
    let gateway = start(&origin, "off");
    let mut client = gateway.connect();
    for _ in 0..700 {
        assert_eq!(client.ask(&from("192.0.2.1").bearer("guess")).status, 401);
    }
}

#[test]
fn a_reload_forgets_no_failure() {
    let origin = Origin::start();
    let gateway = start(&origin, "{ rate: 3/1m }");
    gateway.begin_window(60);
    let guess = || gateway.ask(&from("192.0.2.1").bearer("guess")).status;
    assert_eq!([guess(), guess(), guess(), guess()], [401, 401, 401, 429]);
    let config = |rate: &str| {
        format!(
            "trusted_proxies: [127.0.0.0/8]\n\
             identity:\n\
             \x20 failures: {{ rate: {rate} }}\n\
             \x20 jwt: [{{ name: corp, issuer: i, audiences: [api], algorithms: [HS256], keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}]\n\
             upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
             routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: up }}]\n"
        )
    };
    gateway.reload(&config("2/1m")).expect("a config");
    assert_eq!(guess(), 429);
    gateway.reload(&config("4/1m")).expect("a config");
    assert_eq!([guess(), guess()], [401, 429]);
}
