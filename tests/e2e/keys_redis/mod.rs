//! API keys in Redis, with a real server: records, changes, outages, and the commands that make them.

mod commands;

use crate::support::redis::RedisServer;
use crate::support::*;
use std::process::Command;
use tollgate::identity::key_format::generate;
use tollgate::redis::Value as Reply;

/// A server, an origin, and a config for both.
struct Place {
    redis: RedisServer,
    origin: Origin,
}

impl Place {
    fn new() -> Self {
        Self {
            redis: RedisServer::start(),
            origin: Origin::start(),
        }
    }

    fn config(&self, login: &str) -> String {
        let (url, origin) = (self.redis.url(), &self.origin);
        format!(
            "redis: {{ url: \"{url}\", timeout: 500ms{login} }}\n\
             identity:\n\
             \x20 failures: off\n\
             \x20 api_keys: [{{ name: apps, query: api_key, redis: {{ negative_ttl: 1m, ttl: 1h }} }}]\n\
             upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
             routes:\n\
             - {{ name: r, match: {{ path: / }}, auth: {{ any: [apps] }}, to: up }}\n\
             - {{ name: s, match: {{ path: /scoped }}, auth: {{ any: [apps], scopes: [read] }}, to: up }}\n\
             - {{ name: q, match: {{ path: /query }}, auth: {{ any: [apps], key_in_query: true }}, to: up }}\n"
        )
    }

    /// A gateway that is told of changes.
    fn gateway(&self) -> Gateway {
        let gateway = Gateway::start(&self.config(""));
        listening(&gateway);
        gateway
    }

    fn set(&self, key: &str, record: &str) {
        self.redis.run(&["SET", &name(key), record]);
    }

    fn delete(&self, key: &str) {
        self.redis.run(&["DEL", &name(key)]);
    }

    /// How often Redis was asked for a record.
    fn asked(&self) -> u64 {
        let Reply::BulkString(text) = self.redis.run(&["INFO", "commandstats"]) else {
            panic!("no text");
        };
        let text = String::from_utf8(text).unwrap();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("cmdstat_get:calls="));
        let calls = line.and_then(|l| l.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    }
}

fn listening(gateway: &Gateway) {
    eventually("changes are told", || {
        let text = gateway.metrics();
        let mut lines = text.lines();
        lines.any(|l| l.starts_with("tollgate_redis_listening{") && l.ends_with(" 1"))
    });
}

fn name(key: &str) -> String {
    format!("apikey:{}", mint::digest(key))
}

fn ask(gateway: &Gateway, key: &str) -> (u16, String) {
    gateway.ask(&Req::get("/").header("X-API-Key", key)).is()
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

const MOBILE: &str = r#"{"client":"MobileApp","rate_limit":"1000/hr","scopes":["read"]}"#;

/// Records, and what is answered to their keys: on a route that asks for no scope, and on one that does.
const RECORDS: [(&str, u16, u16); 11] = [
    (MOBILE, 200, 200),
    (
        r#"{"client":"a","scopes":"read write","id":"k1","tier":"gold","more":{"x":1}}"#,
        200,
        200,
    ),
    (r#"{"client":"a"}"#, 200, 403),
    (
        r#"{"client":"a","expires":"2999-01-01T00:00:00Z","disabled":false}"#,
        200,
        403,
    ),
    (r#"{"client":"a","expires":4102444800}"#, 200, 403),
    (r#"{"client":"a","expires":1000}"#, 401, 401),
    (r#"{"client":"a","disabled":true}"#, 401, 401),
    ("MobileApp", 503, 503),
    ("{}", 503, 503),
    (r#"{"client":"a","client":"b"}"#, 503, 503),
    (r#"{"client":"a","scopes":7}"#, 503, 503),
];

#[test]
fn records_of_every_form() {
    let place = Place::new();
    let gateway = place.gateway();
    let unusable = is(503, "api_keys_unavailable");
    let long = format!(r#"{{"client":"a","x":"{}"}}"#, "x".repeat(17_000));
    let records = RECORDS.into_iter().chain([(&*long, 503, 503)]);
    for (n, (record, root, scoped)) in records.enumerate() {
        let key = format!("moved-from-elsewhere-{n}");
        place.set(&key, record);
        let found = ask(&gateway, &key);
        assert_eq!(found.0, root, "{record}");
        match root {
            401 if record.contains("disabled") => assert_eq!(found, is(401, "api_key_disabled")),
            401 => assert_eq!(found, is(401, "api_key_expired")),
            503 => assert_eq!(found, unusable),
            _ => {}
        }
        let scope = Req::get("/scoped").header("X-API-Key", &key);
        assert_eq!(gateway.ask(&scope).status, scoped, "{record}");
    }
    let answer = gateway.ask(&Req::get("/").header("X-API-Key", "moved-from-elsewhere-0"));
    assert_eq!(place.origin.last().header("x-client-id"), Some("MobileApp"));
    let line = gateway.line(&answer);
    assert_eq!(line["client_id"], "MobileApp");
    // The operator is told of the first that is no record, by eight digits and not more often.
    let told = || {
        stderr::lines()
            .into_iter()
            .filter(|l| l.contains("API keys `apps`: the record"))
    };
    let begin = |n: usize| name(&format!("moved-from-elsewhere-{n}"))[..15].to_owned();
    assert_eq!(told().filter(|l| l.contains(&begin(7))).count(), 1);
    assert_eq!(
        told().filter(|l| l.contains(&begin(9))).count(),
        0,
        "a moment later"
    );
    assert!(told().all(|l| !l.contains(&name("moved-from-elsewhere-7"))));
    // Word of our own writing may come behind an answer, which is then asked for once more.
    for (result, least) in [("unusable", 5), ("found", 7)] {
        let name = format!("tollgate_api_key_lookups_total{{list=\"apps\",result=\"{result}\"}}");
        assert!(gateway.metric(&name) >= least, "{name}");
    }
    gateway.counts("tollgate_api_keys_remembered{list=\"apps\"}", 7);
}

#[test]
fn a_deleted_key_is_refused_within_a_second_at_two_gateways() {
    let place = Place::new();
    let gateways = [place.gateway(), place.gateway()];
    place.set("mobile", MOBILE);
    place.set("other", MOBILE);
    for gateway in &gateways {
        assert_eq!(ask(gateway, "mobile").0, 200);
        assert_eq!(ask(gateway, "other").0, 200);
    }
    let watch = Stopwatch::start();
    place.delete("mobile");
    eventually("it is refused everywhere", || {
        gateways
            .iter()
            .all(|g| ask(g, "mobile") == is(401, "api_key_unknown"))
    });
    watch.shows(0, 1000);
    for gateway in &gateways {
        assert_eq!(ask(gateway, "other").0, 200);
    }
    // What was refused a moment ago is good as soon as it is there again, and what it says counts.
    let watch = Stopwatch::start();
    place.set("mobile", MOBILE);
    eventually("it is good everywhere", || {
        gateways.iter().all(|g| ask(g, "mobile").0 == 200)
    });
    place.set("other", r#"{"client":"a","disabled":true}"#);
    eventually("it is off everywhere", || {
        gateways.iter().all(|g| ask(g, "other").0 == 401)
    });
    watch.shows(0, 2000);
    // One that ends by itself.
    place.redis.run(&["PEXPIRE", &name("mobile"), "50"]);
    eventually("it has ended", || {
        gateways.iter().all(|g| ask(g, "mobile").0 == 401)
    });
}

/// Where Redis does not tell of changes, a second is all that they take.
#[test]
fn without_word_of_changes_a_key_is_confirmed_every_second() {
    let place = Place::new();
    let user = ["on", ">secret", "~*", "&*", "+@all", "-client|tracking"];
    place
        .redis
        .run(&[&["ACL", "SETUSER", "deaf"][..], &user].concat());
    let gateway = Gateway::start(&place.config(", username: deaf, password: secret"));
    place.set("mobile", MOBILE);
    assert_eq!(ask(&gateway, "mobile").0, 200);
    let asked = place.asked();
    place.delete("mobile");
    gateway.advance_s(1);
    assert_eq!(ask(&gateway, "mobile"), is(401, "api_key_unknown"));
    assert_eq!(place.asked(), asked + 1);
    place.set("mobile", MOBILE);
    gateway.advance_s(1);
    assert_eq!(ask(&gateway, "mobile").0, 200);
}

#[track_caller]
fn outage(stop: fn(&RedisServer), again: fn(&RedisServer)) {
    let place = Place::new();
    let gateway = place.gateway();
    place.set("known", MOBILE);
    // On a busy machine the first answers of Redis may be late.
    eventually("it is known", || ask(&gateway, "known").0 == 200);
    eventually("the other is not", || {
        ask(&gateway, "not-known") == is(401, "api_key_unknown")
    });
    stop(&place.redis);
    let unavailable = is(503, "api_keys_unavailable");
    for n in 0..20 {
        assert_eq!(ask(&gateway, "known").0, 200, "while Redis is away, {n}");
        assert_eq!(ask(&gateway, &format!("never-seen-{n}")), unavailable);
    }
    eventually("nothing is said of the other any more", || {
        ask(&gateway, "not-known") == unavailable
    });
    // What has the wrong form is known to be no key.
    assert_eq!(ask(&gateway, "tg_not-one"), is(401, "api_key_malformed"));
    gateway.advance_s(50 * 60);
    assert_eq!(
        ask(&gateway, "known").0,
        200,
        "it was confirmed within the hour"
    );
    gateway.advance_s(11 * 60);
    assert_eq!(ask(&gateway, "known"), unavailable, "it was not");
    again(&place.redis);
    place.set("known", MOBILE);
    eventually("it is good again", || ask(&gateway, "known").0 == 200);
    eventually("others are not", || {
        ask(&gateway, "not-known") == is(401, "api_key_unknown")
    });
}

#[test]
fn while_redis_is_away_known_keys_pass_and_others_are_not_refused() {
    outage(RedisServer::kill, RedisServer::restart);
}

#[test]
fn while_redis_is_stuck_known_keys_pass_and_others_are_not_refused() {
    outage(RedisServer::pause, RedisServer::resume);
}

/// What was changed while nobody was told is found when Redis is back.
#[test]
fn after_an_outage_every_key_is_confirmed() {
    let place = Place::new();
    let gateway = place.gateway();
    place.set("gone", MOBILE);
    assert_eq!(ask(&gateway, "gone").0, 200);
    // It comes back empty.
    place.redis.kill();
    assert_eq!(ask(&gateway, "gone").0, 200);
    place.redis.restart();
    eventually("it is gone", || {
        ask(&gateway, "gone") == is(401, "api_key_unknown")
    });
}

#[test]
fn a_malformed_key_costs_redis_nothing() {
    let place = Place::new();
    let gateway = place.gateway();
    let (good, _) = generate("c");
    let asked = place.asked();
    // That one letter: where it was one of the prefix's too, the slip was no key of ours at all.
    let mut slip = good.clone();
    slip.replace_range(20..21, if &good[20..21] == "x" { "y" } else { "x" });
    for key in [
        "tg_",
        "tg_a_b",
        &good[..59],
        &slip,
        "a b",
        "ä",
        &"k".repeat(600),
    ] {
        let answer = gateway.ask(&Req::get("/").header("X-API-Key", key));
        assert_eq!(answer.is(), is(401, "api_key_malformed"), "{key}");
        assert_eq!(
            gateway.line(&answer)["reason"],
            "api_key_malformed",
            "{key}"
        );
        assert!(!gateway.raw_lines().contains(&slip) && !answer.text().contains(&slip));
    }
    assert_eq!(place.asked(), asked);
    assert_eq!(ask(&gateway, &good), is(401, "api_key_unknown"));
    assert_eq!(ask(&gateway, &good), is(401, "api_key_unknown"));
    assert_eq!(
        place.asked(),
        asked + 1,
        "one that may be a key is looked up, once"
    );
}

#[test]
fn many_requests_with_one_new_key_are_one_question() {
    let place = Place::new();
    let gateway = place.gateway();
    place.set("mobile", MOBILE);
    let asked = place.asked();
    place.redis.run(&["CLIENT", "PAUSE", "300", "ALL"]);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| ask(&gateway, "mobile").0))
            .collect();
        for one in all {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
    assert_eq!(place.asked(), asked + 1);
}

#[test]
fn what_is_remembered_outlives_a_reload() {
    let place = Place::new();
    let gateway = place.gateway();
    place.set("mobile", MOBILE);
    assert_eq!(ask(&gateway, "mobile").0, 200);
    let asked = place.asked();
    let config = place.config("").replace("name: s,", "name: t,");
    gateway
        .reload(&config.replace("query: api_key", "query: key"))
        .expect("a good config");
    assert_eq!(ask(&gateway, "mobile").0, 200);
    assert_eq!(place.asked(), asked);
    gateway
        .reload(&config.replace("ttl: 1h", "ttl: 2m"))
        .expect("a good config");
    assert_eq!(ask(&gateway, "mobile").0, 200);
    assert_eq!(place.asked(), asked + 1, "other settings, another memory");
}

#[test]
fn a_key_in_the_query_only_where_a_route_takes_it() {
    let place = Place::new();
    let gateway = place.gateway();
    place.set("mobile", MOBILE);
    let answer = gateway.get("/query/x?a=1&api_key=mobile&b=2");
    assert_eq!(answer.status, 200);
    assert!(
        place.origin.last().target.ends_with("?a=1&b=2"),
        "{}",
        place.origin.last().target
    );
    assert_eq!(
        gateway.get("/?api_key=mobile").is(),
        is(401, "api_key_required")
    );
    gateway.line(&answer);
    assert!(!gateway.raw_lines().contains("mobile"));
}

/// Runs `tollgate keys`: what it printed, or why it failed.
fn keys(gateway: &Gateway, config: &str, args: &[&str]) -> Result<String, String> {
    gateway.write(
        "cli.yaml",
        &format!("listeners: [{{ name: l, address: \"127.0.0.1:0\" }}]\n{config}"),
    );
    let path = gateway.dir().join("cli.yaml");
    let path = path.to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .arg("keys")
        .args(args)
        .args(["-c", path, "--list", "apps"]);
    let done = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if done.status.success() {
        Ok(text(done.stdout))
    } else {
        Err(text(done.stderr))
    }
}

fn made(stdout: &str) -> String {
    let first = stdout.lines().next().expect("a line");
    first
        .strip_prefix("key (shown once): ")
        .expect(first)
        .to_owned()
}
