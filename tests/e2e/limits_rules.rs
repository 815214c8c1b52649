//! Limits through the gateway: each algorithm, what requests are counted by, how much each caller may, and
//! what the client is told.

use super::support::*;
use serde_json::{Value, json};

/// One issuer whose tokens say a tenant, a tier and a rate, and a list of keys with a tier and a rate of
/// their own.
const IDENTITY: &str = "identity:\n\
    \x20 jwt: [{ name: corp, issuer: \"https://auth.example.com/\", audiences: [api], algorithms: [HS256], keys: [{ alg: HS256, secret: \"${TEST_SECRET}\" }] }]\n\
    \x20 api_keys: [{ name: partners, file: keys.yaml }]\n";

fn gateway<T: AsRef<str>>(origin: &Origin, limits: &[T], routes: &[T]) -> Gateway {
    let keys = format!(
        "keys:\n{}{}{}",
        mint::api_key("one", "key-one", ""),
        mint::api_key("two", "key-two", ", tier: gold, rate_limit: 4/1m"),
        mint::api_key("three", "key-three", ", tier: tin, rate_limit: 1000/1s")
    );
    let line = |item: &T| format!("  - {{ {} }}\n", item.as_ref());
    let list = |items: &[T]| items.iter().map(line).collect::<Vec<_>>().concat();
    let config = format!(
        "{IDENTITY}upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\nlimits:\n{}routes:\n{}",
        list(limits),
        list(routes)
    );
    Gateway::with_files(&config, &[("keys.yaml", &keys)])
}

/// One limit on one route that is open to all.
fn open(origin: &Origin, limit: &str) -> Gateway {
    let limit = format!("name: l, key: address, {limit}");
    let route = "name: r, match: { path: / }, auth: none, limits: [l], to: up";
    gateway(origin, &[&*limit], &[route])
}

/// How many of so many requests pass, at once.
fn passed(gateway: &Gateway, req: &Req, of: usize) -> usize {
    let mut client = gateway.connect();
    (0..of).filter(|_| client.ask(req).status == 200).count()
}

fn token(gateway: &Gateway, more: Value) -> Req {
    let claims = mint::claims_but(gateway.now_s(), more);
    Req::get("/").bearer(&mint::sign(mint::SECRET, "HS256", None, &claims))
}

#[test]
fn a_fixed_window_begins_anew_with_the_clocks() {
    let origin = Origin::start();
    let gateway = open(&origin, "algorithm: fixed_window, rate: 10/1m");
    gateway.begin_window(60);
    gateway.advance_s(58);
    assert_eq!(passed(&gateway, &Req::get("/"), 20), 10);
    let refused = gateway.get("/");
    assert!((1..=2).contains(&refused.number("retry-after")));
    assert_eq!(refused.number("x-ratelimit-reset") % 60, 0);
    gateway.advance_s(2);
    assert_eq!(
        passed(&gateway, &Req::get("/"), 20),
        10,
        "twice the limit in 2 s"
    );
}

#[test]
fn a_burst_over_the_boundary_of_a_sliding_window_gets_two_more() {
    let origin = Origin::start();
    let gateway = open(&origin, "algorithm: sliding_window, rate: 100/1m");
    gateway.begin_window(60);
    gateway.advance_s(59);
    assert_eq!(passed(&gateway, &Req::get("/"), 100), 100);
    gateway.begin_window(60);
    assert!(passed(&gateway, &Req::get("/"), 100) <= 2);
}

#[test]
fn a_sliding_log_lets_each_request_back_in_when_its_own_time_is_over() {
    let origin = Origin::start();
    let gateway = open(&origin, "algorithm: sliding_log, rate: 4/1m");
    assert_eq!(passed(&gateway, &Req::get("/"), 2), 2);
    gateway.advance_s(30);
    assert_eq!(passed(&gateway, &Req::get("/"), 5), 2);
    assert_eq!(gateway.get("/").number("retry-after"), 30);
    gateway.advance_s(29);
    assert_eq!(passed(&gateway, &Req::get("/"), 5), 0);
    gateway.advance_s(1);
    assert_eq!(
        passed(&gateway, &Req::get("/"), 5),
        2,
        "the first two are over"
    );
    gateway.counts("tollgate_limiter_keys{limit=\"l\"}", 1);
    // A reload that changes the rate keeps what was counted.
    let config = format!(
        "{IDENTITY}upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         limits: [{{ name: l, key: address, algorithm: sliding_log, rate: 5/1m }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, limits: [l], to: up }}]\n"
    );
    gateway.reload(&config).expect("a good config");
    assert_eq!(passed(&gateway, &Req::get("/"), 5), 1);
}

#[test]
fn a_token_bucket_gives_bursts_and_then_a_steady_rate() {
    let origin = Origin::start();
    let gateway = open(
        &origin,
        "algorithm: token_bucket, rate: 60/1m, capacity: 5, reset: delta",
    );
    let first = gateway.get("/");
    assert_eq!(first.number("x-ratelimit-capacity"), 5);
    assert_eq!(first.number("x-ratelimit-tokens-remaining"), 4);
    assert_eq!(first.number("x-ratelimit-limit"), 5);
    assert_eq!(first.header("ratelimit-policy"), Some("\"l\";q=5;w=5"));
    assert_eq!(passed(&gateway, &Req::get("/"), 10), 4);
    let refused = gateway.get("/");
    assert_eq!((refused.status, refused.number("retry-after")), (429, 1));
    assert_eq!(refused.number("x-ratelimit-tokens-remaining"), 0);
    assert!(
        (4..=5).contains(&refused.number("x-ratelimit-reset")),
        "until it is full"
    );
    for _ in 0..3 {
        gateway.advance_s(1);
        assert_eq!(passed(&gateway, &Req::get("/"), 10), 1);
    }
    gateway.advance_s(60);
    assert_eq!(
        passed(&gateway, &Req::get("/"), 10),
        5,
        "no more than it holds"
    );
}

#[test]
fn a_leaky_bucket_lets_one_pass_after_another() {
    let origin = Origin::start();
    let gateway = open(&origin, "algorithm: leaky_bucket, rate: 6/1m");
    for _ in 0..3 {
        assert_eq!(passed(&gateway, &Req::get("/"), 5), 1);
        assert_eq!(gateway.get("/").number("retry-after"), 10);
        gateway.advance_s(10);
    }
}

#[test]
fn the_draft_lists_every_limit_and_the_older_fields_the_nearest() {
    let origin = Origin::scripted(|seen| match seen.target.as_str() {
        "/away" => Act::Answer(302, vec![("Location", "/".into())], Vec::new()),
        _ => Act::ok("ok"),
    });
    let gateway = gateway(
        &origin,
        &[
            "name: daily, key: route, algorithm: fixed_window, rate: 100/1d",
            "name: burst, key: route, algorithm: fixed_window, rate: 2/1h",
            "name: quiet, key: route, algorithm: fixed_window, rate: 3/1h, headers: none",
            "name: older, key: route, algorithm: fixed_window, rate: 50/1h, headers: x_ratelimit",
        ],
        &["name: r, match: { path: / }, auth: none, limits: [daily, burst, quiet, older], to: up"],
    );
    gateway.begin_window(86_400);
    let answer = gateway.get("/");
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"daily\";q=100;w=86400, \"burst\";q=2;w=3600")
    );
    let left = answer.header("ratelimit").expect("what is left");
    let (daily, burst) = left.split_once(", ").expect("two");
    assert!(daily.starts_with("\"daily\";r=99;t=86"), "{left}");
    assert!(burst.starts_with("\"burst\";r=1;t=3"), "{left}");
    assert_eq!(answer.number("x-ratelimit-limit"), 2);
    // A redirection whose limit is used up says nothing of it.
    let away = gateway.get("/away");
    assert_eq!(
        away.header("ratelimit-policy"),
        Some("\"daily\";q=100;w=86400")
    );
    let refused = gateway.get("/");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["violated-policies"], json!(["burst"]));
    assert_eq!(
        refused.json()["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    let wait = refused.number("retry-after");
    assert!(
        refused
            .header("ratelimit")
            .unwrap()
            .contains(&format!("\"burst\";r=0;t={wait}"))
    );
    assert!((3590..=3600).contains(&wait), "{wait}");
}

#[test]
fn each_tier_has_its_own_rate_and_a_strange_one_the_common() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        &[
            "name: l, key: client, algorithm: fixed_window, rate: 3/1h, tiers: { gold: 6/1h, silver: { rate: 5/1h } }",
        ],
        &["name: r, match: { path: / }, auth: { any: [corp, partners] }, limits: [l], to: up"],
    );
    gateway.begin_window(3600);
    let keyed = |key: &str| Req::get("/").header("X-API-Key", key);
    assert_eq!(passed(&gateway, &keyed("key-one"), 10), 3, "without a tier");
    assert_eq!(passed(&gateway, &keyed("key-two"), 10), 6, "gold");
    assert_eq!(
        passed(&gateway, &keyed("key-three"), 10),
        3,
        "a tier that is not listed"
    );
    for (user, tier, may) in [("a", "silver", 5), ("b", "GOLD", 3), ("c", "platinum", 3)] {
        let req = token(&gateway, json!({ "sub": user, "tier": tier }));
        assert_eq!(passed(&gateway, &req, 10), may, "{tier}");
    }
}

#[test]
fn a_callers_own_rate_holds_up_to_the_most_that_is_believed() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        &[
            "name: l, key: client, algorithm: fixed_window, rate: 3/1m, tiers: { gold: 6/1m }, own_rate: { most: 8/1m, claim: limits.rpm }",
        ],
        &["name: r, match: { path: / }, auth: { any: [corp, partners] }, limits: [l], to: up"],
    );
    gateway.begin_window(60);
    let keyed = |key: &str| Req::get("/").header("X-API-Key", key);
    assert_eq!(
        passed(&gateway, &keyed("key-one"), 20),
        3,
        "no rate of its own"
    );
    assert_eq!(
        passed(&gateway, &keyed("key-two"), 20),
        4,
        "its own, not its tier's"
    );
    assert_eq!(
        passed(&gateway, &keyed("key-three"), 20),
        8,
        "1000/1s is not believed"
    );
    for (user, claim, may) in [
        ("a", json!({ "rpm": "5/1m" }), 5),
        ("b", json!({ "rpm": 7 }), 7),
        ("c", json!({ "rpm": 1_000_000 }), 8),
        ("d", json!({ "rpm": "many" }), 3),
        ("e", json!([]), 3),
    ] {
        let req = token(
            &gateway,
            json!({ "sub": user, "tier": null, "limits": claim }),
        );
        assert_eq!(passed(&gateway, &req, 20), may, "{user}");
    }
}

/// A limit of 2 an hour for each of these keys, on a route of the same name.
fn by(origin: &Origin, keys: &[(&str, &str)]) -> Gateway {
    let limit = |(name, key): &(&str, &str)| {
        format!("name: {name}, key: {key}, fallback: route, algorithm: fixed_window, rate: 2/1h")
    };
    let route = |(name, _): &(&str, &str)| {
        format!(
            "name: {name}, match: {{ path: /{name} }}, auth: {{ any: [corp, partners] }}, limits: [{name}], to: up"
        )
    };
    let limits: Vec<String> = keys.iter().map(limit).collect();
    let routes: Vec<String> = keys.iter().map(route).collect();
    let gateway = gateway(origin, &limits, &routes);
    gateway.begin_window(3600);
    gateway
}

#[test]
fn requests_are_counted_by_what_is_said_and_by_the_fallback_without_it() {
    let origin = Origin::start();
    let keys = [
        ("key", "api_key"),
        ("tenant", "tenant"),
        ("claim", "{ claim: org.id }"),
    ];
    let gateway = by(&origin, &keys);
    let keyed = |key: &str| Req::get("/").header("X-API-Key", key);
    let (one, two) = (keyed("key-one"), keyed("key-two"));
    let with = |claims: Value| token(&gateway, claims);
    let acme = with(json!({ "sub": "a", "tenant": "acme", "org": { "id": 7 } }));
    let also_acme = with(json!({ "sub": "b", "tenant": "acme", "org": { "id": 7 } }));
    let other = with(json!({ "sub": "a", "tenant": "other", "org": { "id": "7" } }));
    let nobodys = with(json!({ "sub": "a", "tenant": null }));
    // Of each: who asks in turn, and how many of theirs pass.
    for (path, asks) in [
        ("/key", vec![(&one, 2), (&two, 2), (&acme, 2), (&other, 0)]),
        (
            "/tenant",
            vec![
                (&acme, 2),
                (&also_acme, 0),
                (&other, 2),
                (&nobodys, 2),
                (&one, 0),
            ],
        ),
        (
            "/claim",
            vec![
                (&acme, 2),
                (&also_acme, 0),
                (&other, 2),
                (&one, 2),
                (&nobodys, 0),
            ],
        ),
    ] {
        for (n, (req, may)) in asks.into_iter().enumerate() {
            let passed = passed(&gateway, &req.clone().at(path), 4);
            assert_eq!(passed, may, "{path}, {n}");
        }
    }
}

#[test]
fn several_things_together_are_one_key_and_a_header_counts_where_that_is_said() {
    let origin = Origin::start();
    let keys = [
        ("header", "{ header: X-Device }"),
        ("both", "[client, { header: X-Device }]"),
    ];
    let gateway = by(&origin, &keys);
    let ask = |path: &str, key: &str, device: Option<&str>| {
        let req = Req::get(path).header("X-API-Key", key);
        let req = match device {
            Some(device) => req.header("X-Device", device),
            None => req,
        };
        passed(&gateway, &req, 4)
    };
    assert_eq!(ask("/header", "key-one", None), 2, "the fallback");
    assert_eq!(ask("/header", "key-two", None), 0);
    assert_eq!(ask("/header", "key-one", Some("d1")), 2);
    assert_eq!(ask("/header", "key-two", Some("d1")), 0);
    assert_eq!(ask("/both", "key-one", Some("d1")), 2);
    assert_eq!(ask("/both", "key-two", Some("d1")), 2);
    assert_eq!(ask("/both", "key-two", Some("d2")), 2);
    assert_eq!(ask("/both", "key-one", None), 2, "the fallback alone");
    assert_eq!(ask("/both", "key-two", None), 0);
}

#[test]
fn a_dear_route_uses_up_more_and_one_that_is_too_dear_is_told_so() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        &["name: l, key: route, algorithm: token_bucket, rate: 10/1h, per_route: false"],
        &[
            "name: cheap, match: { path: /cheap }, auth: none, limits: [l], to: up",
            "name: dear, match: { path: /dear }, auth: none, limits: [l], cost: 4, to: up",
            "name: never, match: { path: /never }, auth: none, limits: [l], cost: 11, to: up",
        ],
    );
    assert_eq!(gateway.get("/dear").number("x-ratelimit-remaining"), 6);
    assert_eq!(gateway.get("/cheap").number("x-ratelimit-remaining"), 5);
    assert_eq!(passed(&gateway, &Req::get("/dear"), 3), 1);
    assert_eq!(passed(&gateway, &Req::get("/cheap"), 3), 1);
    let never = gateway.get("/never");
    assert_eq!((never.status, never.header("retry-after")), (429, None));
    assert_eq!(
        never.json()["detail"],
        "Rate limit exceeded: a request of this route costs more than the limit allows at once"
    );
    assert_eq!(never.json()["violated-policies"], json!(["l"]));
}

#[test]
fn a_limit_that_is_tried_out_refuses_nobody_and_counts_whom_it_would_have() {
    let origin = Origin::start();
    let gateway = gateway(
        &origin,
        &[
            "name: real, key: route, algorithm: fixed_window, rate: 6/1h",
            "name: tried, key: route, algorithm: fixed_window, rate: 2/1h, mode: dry_run",
        ],
        &["name: r, match: { path: / }, auth: none, limits: [tried, real], to: up"],
    );
    gateway.begin_window(3600);
    for n in 0..8 {
        let answer = gateway.get("/");
        assert_eq!(answer.status, if n < 6 { 200 } else { 429 });
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"real\";q=6;w=3600")
        );
        let would = (n >= 2).then_some("rate_limited");
        assert_eq!(gateway.line(&answer)["would_refuse"].as_str(), would, "{n}");
    }
    gateway.counts(
        "tollgate_limiter_refused_total{limit=\"real\",mode=\"enforce\"}",
        2,
    );
    gateway.counts(
        "tollgate_limiter_refused_total{limit=\"tried\",mode=\"dry_run\"}",
        6,
    );
    gateway.counts(
        "tollgate_limiter_refused_total{limit=\"tried\",mode=\"enforce\"}",
        0,
    );
}
