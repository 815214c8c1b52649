//! Limits: who is counted where, what the client is told, and the flood limit in front.

use super::support::*;
use serde_json::json;
use std::time::Duration;

const IDENTITY: &str = "identity: { api_keys: [{ name: partners, file: keys.yaml }] }\n";

fn gateway(origin: &Origin, config: &str) -> Gateway {
    let keys = format!(
        "keys:\n{}{}",
        mint::api_key("one", "key-one", ""),
        mint::api_key("two", "key-two", ", tier: gold")
    );
    let up = format!("upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n");
    Gateway::with_files(&format!("{IDENTITY}{up}{config}"), &[("keys.yaml", &keys)])
}

const STANDARD: &str = "limits: [{ name: standard, key: client, algorithm: sliding_window, rate: 100/1m }]\n\
    routes: [{ name: r, match: { path: / }, auth: none, limits: [standard], to: up }]\n";

#[test]
fn the_hundred_and_first_is_refused_and_told_when_to_come_back() {
    let origin = Origin::start();
    let gateway = gateway(&origin, STANDARD);
    gateway.begin_window(60);
    let mut client = gateway.connect();
    for n in 0..100 {
        let answer = client.ask(&Req::get("/"));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.number("x-ratelimit-limit"), 100);
        assert_eq!(answer.number("x-ratelimit-remaining"), 99 - n);
        assert_eq!(answer.header("retry-after"), None);
    }
    let refused = client.ask(&Req::get("/"));
    assert_eq!(refused.is(), (429, "rate_limited".into()));
    assert_eq!(refused.number("x-ratelimit-limit"), 100);
    assert_eq!(refused.number("x-ratelimit-remaining"), 0);
    let reset = refused.number("x-ratelimit-reset");
    assert_eq!(reset % 60, 0, "the window's end, in Unix seconds");
    assert!((1..=60).contains(&(reset - gateway.now_s())));
    let problem = refused.json();
    assert_eq!(
        problem["detail"],
        "Rate limit exceeded. See Retry-After header."
    );
    assert_eq!(problem["retry_after"], json!(refused.number("retry-after")));
    assert_eq!(origin.hits(), 100);
    let name = "tollgate_rate_limit_rejections_total{route=\"r\",tier=\"none\"}";
    gateway.counts(name, 1);
}

#[test]
fn retry_after_is_true_to_the_second() {
    let origin = Origin::start();
    let gateway = gateway(&origin, STANDARD);
    gateway.begin_window(60);
    for _ in 0..100 {
        assert_eq!(gateway.get("/").status, 200);
    }
    let wait = gateway.get("/").number("retry-after");
    assert!(wait >= 59, "{wait}");
    gateway.advance_s(wait - 2);
    assert_eq!(gateway.get("/").status, 429, "not yet");
    gateway.advance_s(2);
    assert_eq!(gateway.get("/").status, 200, "as promised");
}

#[test]
fn the_window_slides_and_refused_requests_are_not_counted() {
    let origin = Origin::start();
    let gateway = gateway(&origin, STANDARD);
    gateway.begin_window(60);
    for n in 0..150 {
        assert_eq!(gateway.get("/").status, if n < 100 { 200 } else { 429 });
    }
    // Half a window on, half of the hundred still counts; the fifty refused never did.
    gateway.begin_window(60);
    gateway.advance_s(30);
    let passed = (0..100).filter(|_| gateway.get("/").status == 200).count();
    assert!(
        (50..=52).contains(&passed),
        "{passed}: time moves a little between them"
    );
}

#[test]
fn limit_headers_are_on_every_answer_of_a_limited_route() {
    let origin = Origin::scripted(|seen| match seen.target.as_str() {
        "/404" => Act::status(404),
        "/500" => Act::status(500),
        "/reset" => Act::reset(),
        _ => Act::Answer(200, vec![("X-RateLimit-Limit", "7".into())], Vec::new()),
    });
    let gateway = gateway(
        &origin,
        "limits: [{ name: l, key: route, algorithm: sliding_window, rate: 50/1m }]\n\
         routes:\n\
         - { name: r, match: { path: / }, auth: none, limits: [l], max_body: 10B, to: up }\n\
         - { name: free, match: { path: /free }, auth: none, to: up }\n",
    );
    let cases = [
        (Req::get("/"), 200),
        (Req::get("/404"), 404),
        (Req::get("/500"), 500),
        (Req::post("/reset", "x"), 502),
        (Req::post("/", "more than ten bytes"), 413),
    ];
    for (n, (req, status)) in cases.into_iter().enumerate() {
        let answer = gateway.ask(&req);
        assert_eq!(answer.status, status, "{req:?}");
        assert_eq!(
            answer.number("x-ratelimit-limit"),
            50,
            "ours, not the service's"
        );
        assert_eq!(answer.number("x-ratelimit-remaining"), 49 - n as u64);
        assert!(answer.number("x-ratelimit-reset") > gateway.now_s());
    }
    assert_eq!(gateway.get("/free").number("x-ratelimit-limit"), 7);
    assert_eq!(gateway.get("/%00").header("x-ratelimit-limit"), None);
}

#[test]
fn clients_are_counted_each_for_themselves_and_strangers_by_address() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "trusted_proxies: [127.0.0.0/8]\n\
         limits:\n\
         - { name: c, key: client, algorithm: sliding_window, rate: 3/1m }\n\
         - { name: a, key: address, algorithm: sliding_window, rate: 5/1m }\n\
         routes:\n\
         - { name: keyed, match: { path: /keyed }, auth: { any: [partners] }, limits: [c], to: up }\n\
         - { name: open, match: { path: /open }, auth: none, limits: [c], to: up }\n\
         - { name: by, match: { path: /by }, auth: { any: [partners] }, limits: [a], to: up }\n",
    );
    gateway.begin_window(60);
    let passes = |req: Req| {
        (0..10)
            .take_while(|_| gateway.ask(&req).status == 200)
            .count()
    };
    let from = |target: &str, address: &str| Req::get(target).header("X-Forwarded-For", address);
    assert_eq!(passes(Req::get("/keyed").header("X-API-Key", "key-one")), 3);
    assert_eq!(passes(Req::get("/keyed").header("X-API-Key", "key-two")), 3);
    assert_eq!(passes(from("/open", "192.0.2.1")), 3);
    assert_eq!(passes(from("/open", "192.0.2.2")), 3);
    assert_eq!(
        passes(from("/open", "::ffff:192.0.2.2")),
        0,
        "a mapped address is the address"
    );
    assert_eq!(passes(from("/open", "2001:db8::1")), 3);
    assert_eq!(
        passes(from("/open", "2001:db8::ffff:2")),
        0,
        "a /64 is one client"
    );
    assert_eq!(passes(from("/open", "2001:db8:0:1::1")), 3);
    let both = |key: &str| from("/by", "198.51.100.7").header("X-API-Key", key);
    assert_eq!(
        passes(both("key-one")) + passes(both("key-two")),
        5,
        "one address, two clients"
    );
}

#[test]
fn counts_are_per_route_unless_shared() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "limits:\n\
         - { name: own, key: address, algorithm: sliding_window, rate: 3/1m }\n\
         - { name: shared, key: address, algorithm: sliding_window, rate: 3/1m, per_route: false }\n\
         routes:\n\
         - { name: a, match: { path: /a }, auth: none, limits: [own], to: up }\n\
         - { name: b, match: { path: /b }, auth: none, limits: [own], to: up }\n\
         - { name: c, match: { path: /c }, auth: none, limits: [shared], to: up }\n\
         - { name: d, match: { path: /d }, auth: none, limits: [shared], to: up }\n",
    );
    gateway.begin_window(60);
    let passes = |target: &str| {
        (0..10)
            .take_while(|_| gateway.get(target).status == 200)
            .count()
    };
    assert_eq!((passes("/a"), passes("/b")), (3, 3));
    assert_eq!((passes("/c"), passes("/d")), (3, 0));
}

#[test]
fn users_of_two_issuers_are_two_users() {
    let origin = Origin::start();
    let issuer = |name: &str| {
        format!(
            "  - {{ name: {name}, issuer: {name}, audiences: [api], algorithms: [HS256], \
             keys: [{{ alg: HS256, secret: \"${{TEST_SECRET}}\" }}] }}\n"
        )
    };
    let gateway = Gateway::start(&format!(
        "identity:\n  jwt:\n{}{}upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         limits: [{{ name: u, key: user, algorithm: sliding_window, rate: 2/1m }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [one, two] }}, limits: [u], to: up }}]\n",
        issuer("one"),
        issuer("two"),
    ));
    gateway.begin_window(60);
    let passes = |iss: &str, sub: &str| {
        let claims = mint::claims_but(gateway.now_s(), json!({ "iss": iss, "sub": sub }));
        let req = Req::get("/").bearer(&mint::sign(mint::SECRET, "HS256", None, &claims));
        (0..10)
            .take_while(|_| gateway.ask(&req).status == 200)
            .count()
    };
    assert_eq!(passes("one", "alice"), 2);
    assert_eq!(passes("two", "alice"), 2);
    assert_eq!(passes("one", "bob"), 2);
    assert_eq!(passes("one", "alice"), 0, "a new token is no new user");
}

#[test]
fn several_limits_hold_together_and_the_nearest_is_told() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "limits:\n\
         - { name: wide, key: route, algorithm: sliding_window, rate: 100/1h, reset: delta }\n\
         - { name: tight, key: route, algorithm: sliding_window, rate: 2/1h, reset: epoch_ms }\n\
         - { name: quiet, key: route, algorithm: sliding_window, rate: 1/1h, headers: none }\n\
         routes:\n\
         - { name: r, match: { path: /r }, auth: none, limits: [wide, tight], to: up }\n\
         - { name: w, match: { path: /w }, auth: none, limits: [wide], to: up }\n\
         - { name: q, match: { path: /q }, auth: none, limits: [quiet], to: up }\n",
    );
    gateway.begin_window(3600);
    let answer = gateway.get("/r");
    assert_eq!(answer.number("x-ratelimit-limit"), 2);
    assert!(
        answer.number("x-ratelimit-reset") > 1_000_000_000_000,
        "milliseconds"
    );
    let delta = gateway.get("/w").number("x-ratelimit-reset");
    assert!((3590..=3600).contains(&delta), "seconds from now: {delta}");
    gateway.get("/r");
    assert_eq!(gateway.get("/r").status, 429);
    assert_eq!(gateway.get("/q").header("x-ratelimit-limit"), None);
    let refused = gateway.get("/q");
    assert_eq!(
        (refused.status, refused.header("x-ratelimit-limit")),
        (429, None)
    );
    assert!(refused.number("retry-after") > 0);
}

#[test]
fn an_estimated_limit_holds_too() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "limits: [{ name: e, key: address, algorithm: sliding_window, rate: 10/1m, store: estimate, expected_clients: 1000 }]\n\
         routes: [{ name: r, match: { path: / }, auth: none, limits: [e], to: up }]\n",
    );
    gateway.begin_window(60);
    let passed = (0..15).filter(|_| gateway.get("/").status == 200).count();
    assert_eq!(passed, 10);
    let wait = gateway.get("/").number("retry-after");
    gateway.advance_s(wait);
    assert_eq!(gateway.get("/").status, 200, "as promised");
}

#[test]
fn a_flood_is_stopped_before_anything_is_verified() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "flood: { rate: 20/10s, expected_clients: 1000 }\n\
         routes: [{ name: r, match: { path: /a }, auth: { any: [partners] }, to: up }]\n",
    );
    gateway.begin_window(10);
    let mut client = gateway.connect();
    for n in 0..20 {
        let target = if n % 2 == 0 { "/a" } else { "/nowhere" };
        let answer = client.ask(&Req::get(target).header("X-API-Key", &format!("guess-{n}")));
        assert_eq!(answer.status, if n % 2 == 0 { 401 } else { 404 });
    }
    let guess = client.ask(&Req::get("/a").header("X-API-Key", "key-one"));
    assert_eq!(
        guess.is(),
        (429, "flood_limited".into()),
        "not even the right key"
    );
    assert!((1..=20).contains(&guess.number("retry-after")));
    assert_eq!(
        gateway.line(&guess)["route"],
        json!(null),
        "no route was looked for"
    );
    assert_eq!(
        client.ask(&Req::get("/health")).status,
        200,
        "health is in front of it"
    );
    gateway.advance(Duration::from_secs(30));
    assert_eq!(
        gateway
            .ask(&Req::get("/a").header("X-API-Key", "key-one"))
            .status,
        200
    );
    assert_eq!(origin.hits(), 1);
}

#[test]
fn what_one_limit_refuses_no_other_counts() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "limits:\n\
         - { name: wide, key: route, algorithm: sliding_window, rate: 10/1h, per_route: false }\n\
         - { name: tight, key: address, algorithm: sliding_window, rate: 2/1h }\n\
         routes:\n\
         - { name: both, match: { path: /both }, auth: none, limits: [wide, tight], to: up }\n\
         - { name: wide, match: { path: /wide }, auth: none, limits: [wide], to: up }\n",
    );
    gateway.begin_window(3600);
    for n in 0..7 {
        let want = if n < 2 { 200 } else { 429 };
        assert_eq!(gateway.get("/both").status, want);
    }
    let left = gateway.get("/wide").number("x-ratelimit-remaining");
    assert_eq!(left, 7, "ten less two that passed and this one");
}

#[test]
fn a_refusal_for_another_reason_tells_of_the_limit_and_is_not_counted() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        "limits: [{ name: l, key: client, algorithm: sliding_window, rate: 5/1h }]\n\
         routes: [{ name: r, match: { path: / }, auth: { any: [partners] }, limits: [l], to: up }]\n",
    );
    gateway.begin_window(3600);
    for _ in 0..10 {
        let answer = gateway.get("/");
        assert_eq!(answer.status, 401);
        assert_eq!(answer.number("x-ratelimit-limit"), 5);
        assert_eq!(answer.number("x-ratelimit-remaining"), 5);
    }
}
