//! Token keys from an issuer that rotates, fails and is flooded with made-up key ids. How it says where
//! they are is in [`super::discovery`], the same under load in [`super::rotation`].

use super::support::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tollgate::identity::budget::MOST;

/// An issuer that publishes these keys.
fn issuer(keys: &[(&str, &str)]) -> Origin {
    let issuer = Origin::start();
    publish(&issuer, keys);
    issuer
}

fn publish(issuer: &Origin, keys: &[(&str, &str)]) {
    let keys: Vec<_> = keys.iter().map(|(key, kid)| mint::jwk(key, kid)).collect();
    let set = mint::jwks(&keys);
    issuer.script(move |_| Act::ok(set.clone()));
}

fn config(issuer: &Origin, origin: &Origin, jwks: &str, settings: &str) -> String {
    format!(
        "identity:\n\
         \x20 jwt:\n\
         \x20 - {{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [RS256, ES256], {settings}\n\
         \x20     jwks: {{ url: \"http://{issuer}/jwks.json\", {jwks} }} }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: up }}]\n",
        mint::ISSUER
    )
}

fn gateway(issuer: &Origin, origin: &Origin) -> Gateway {
    Gateway::start(&config(issuer, origin, "refresh: 1h", ""))
}

/// The status of the one issuer.
fn told(gateway: &Gateway) -> serde_json::Value {
    gateway.status()["issuers"][0].clone()
}

/// Waits until the task that fetches has looked at a clock that was moved.
fn looked(gateway: &Gateway, age_s: u64) {
    eventually("a look at the clock", || {
        gateway.metric("tollgate_jwks_age_seconds{issuer=\"corp\"}") >= age_s
    });
}

fn ask(gateway: &Gateway, key: &str, alg: &str, kid: &str) -> (u16, String) {
    let token = mint::sign(key, alg, Some(kid), &mint::claims(gateway.now_s()));
    gateway.ask(&Req::get("/").bearer(&token)).is()
}

#[test]
fn published_keys_are_there_before_the_first_request() {
    let (issuer, origin) = (issuer(&[("rsa-a", "a"), ("p256", "p")]), Origin::start());
    let gateway = gateway(&issuer, &origin);
    assert_eq!(issuer.hits(), 1);
    assert_eq!(issuer.last().target, "/jwks.json");
    assert_eq!(ask(&gateway, "rsa-a", "RS256", "a").0, 200);
    assert_eq!(ask(&gateway, "p256", "ES256", "p").0, 200);
    assert_eq!(ask(&gateway, "rsa-b", "RS256", "a").0, 401);
    assert_eq!(issuer.hits(), 1, "requests do not wait for the issuer");
}

#[test]
fn a_rotated_key_is_fetched_once_and_an_old_one_stops_working() {
    let (issuer, origin) = (issuer(&[("rsa-a", "a")]), Origin::start());
    let gateway = gateway(&issuer, &origin);
    assert_eq!(ask(&gateway, "rsa-a", "RS256", "a").0, 200);
    publish(&issuer, &[("rsa-b", "b")]);
    gateway.advance_s(11);
    assert_eq!(
        ask(&gateway, "rsa-b", "RS256", "b").0,
        200,
        "the first token of the new key"
    );
    assert_eq!(issuer.hits(), 2);
    assert_eq!(ask(&gateway, "rsa-b", "RS256", "b").0, 200);
    assert_eq!(
        ask(&gateway, "rsa-a", "RS256", "a").0,
        401,
        "also out of the cache of verified tokens"
    );
    assert_eq!(ask(&gateway, "rsa-a", "RS256", "a").1, "token_key_unknown");
}

#[test]
fn made_up_key_ids_cost_the_issuer_one_fetch_in_ten_seconds() {
    let (issuer, origin) = (issuer(&[("rsa-a", "a")]), Origin::start());
    let gateway = gateway(&issuer, &origin);
    for round in 0..3 {
        gateway.advance_s(11);
        for n in 0..50 {
            let kid = format!("made-up-{round}-{n}");
            assert_eq!(
                ask(&gateway, "rsa-b", "RS256", &kid),
                (401, "token_key_unknown".into())
            );
        }
        assert_eq!(issuer.hits(), 2 + round);
    }
    assert_eq!(
        ask(&gateway, "rsa-a", "RS256", "a").0,
        200,
        "good tokens do not suffer"
    );
}

#[test]
fn an_outage_of_the_issuer_changes_nothing_for_known_keys() {
    let (issuer, origin) = (issuer(&[("rsa-a", "a")]), Origin::start());
    let gateway = gateway(&issuer, &origin);
    issuer.stop();
    gateway.advance_s(3600);
    assert_eq!(ask(&gateway, "rsa-a", "RS256", "a").0, 200);
    let began = Stopwatch::start();
    assert_eq!(ask(&gateway, "rsa-b", "RS256", "b").0, 401);
    began.shows(0, 4000);
    for broken in ["not json", "{}", "{\"keys\":[]}"] {
        issuer.start_again();
        issuer.script(move |_| Act::ok(broken));
        gateway.advance_s(11);
        assert_eq!(ask(&gateway, "rsa-b", "RS256", broken).0, 401);
        assert_eq!(
            ask(&gateway, "rsa-a", "RS256", "a").0,
            200,
            "the last good keys stay: {broken}"
        );
        issuer.stop();
    }
    issuer.start_again();
    publish(&issuer, &[("rsa-b", "b")]);
    gateway.advance_s(31);
    assert_eq!(
        ask(&gateway, "rsa-b", "RS256", "b").0,
        200,
        "it heals by itself"
    );
}

/// Keys are good for an hour: they are fetched again when between 80 and 90 % of it is over, unasked.
#[test]
fn keys_are_fetched_again_before_they_are_over() {
    let (issuer, origin) = (issuer(&[("rsa-a", "a")]), Origin::start());
    let gateway = gateway(&issuer, &origin);
    gateway.advance_s(2870);
    looked(&gateway, 2870);
    assert_eq!(issuer.hits(), 1, "not yet");
    publish(&issuer, &[("rsa-a", "a"), ("rsa-b", "b")]);
    gateway.advance_s(371);
    eventually("a fetch", || issuer.hits() == 2);
    eventually("its keys", || told(&gateway)["keys"] == 2);
    assert!(told(&gateway)["age_s"].as_u64() < Some(60));
    assert_eq!(ask(&gateway, "rsa-b", "RS256", "b").0, 200);
    assert_eq!(issuer.hits(), 2, "known before it was needed");
}

#[test]
fn an_issuer_may_say_that_its_keys_are_good_for_less() {
    let (issuer, origin) = (Origin::start(), Origin::start());
    let set = mint::jwks(&[mint::jwk("rsa-a", "a")]);
    issuer.script(move |_| {
        let fields = vec![("Cache-Control", "public, max-age=100".to_owned())];
        Act::Answer(200, fields, set.clone().into())
    });
    let gateway = gateway(&issuer, &origin);
    gateway.advance_s(79);
    looked(&gateway, 79);
    assert_eq!(issuer.hits(), 1);
    gateway.advance_s(12);
    eventually("a fetch", || issuer.hits() == 2);
}

/// Old keys are used for as long as the config says, and then not a token is believed, remembered or
/// not; nor is one refused.
#[test]
fn keys_that_cannot_be_confirmed_are_given_up_at_last() {
    let (issuer, origin) = (issuer(&[("rsa-a", "a")]), Origin::start());
    let jwks = "refresh: 1h, max_stale: 2h";
    let gateway = Gateway::start(&config(&issuer, &origin, jwks, ""));
    let claims = mint::claims(gateway.now_s() + 90_000);
    let token = mint::sign("rsa-a", "RS256", Some("a"), &claims);
    let open = || gateway.ask(&Req::get("/").bearer(&token)).is();
    assert_eq!(open().0, 200);
    issuer.stop();
    gateway.advance_s(7100);
    looked(&gateway, 7100);
    assert_eq!(open().0, 200);
    gateway.advance_s(101);
    gateway.counts("tollgate_jwks_keys{issuer=\"corp\"}", 0);
    let unknown = (503, "keys_unavailable".to_owned());
    assert_eq!(open(), unknown);
    assert_eq!(ask(&gateway, "rsa-b", "RS256", "b"), unknown);
    assert_eq!(told(&gateway)["last_fault"]["result"], "transport");
    issuer.start_again();
    gateway.advance_s(61);
    eventually("new keys", || told(&gateway)["keys"] == 1);
    assert_eq!(open().0, 200);
}

/// Whatever an issuer and its clients do, it is asked seven times in any minute at most.
#[test]
fn an_issuer_is_asked_seven_times_a_minute_at_most() {
    let (issuer, origin) = (Origin::scripted(|_| Act::status(500)), Origin::start());
    let gateway = gateway(&issuer, &origin);
    let times = Arc::new(Mutex::new(Vec::new()));
    let (asked, clock) = (times.clone(), gateway.clock());
    issuer.script(move |_| {
        asked.lock().unwrap().push(clock.now().mono_ns / 1_000_000);
        Act::status(500)
    });
    for second in 0..200 {
        gateway.advance_s(1);
        // A token that would have it fetched, once it may; and the task's own tries besides.
        let kid = format!("k{second}");
        assert_eq!(ask(&gateway, "rsa-a", "RS256", &kid).0, 503);
        if second % 10 == 0 {
            looked(&gateway, second);
        }
    }
    let times = times.lock().unwrap();
    assert!(times.len() >= 10, "{times:?}");
    for first in times.iter() {
        let minute = times
            .iter()
            .filter(|at| (*first..=first + 60_000).contains(at));
        assert!(minute.count() <= MOST, "{times:?}");
    }
}

#[test]
fn a_reload_keeps_the_keys() {
    let (issuer, origin) = (issuer(&[("rsa-a", "a")]), Origin::start());
    let with = |settings| config(&issuer, &origin, "refresh: 1h", settings);
    let gateway = Gateway::start(&with(""));
    issuer.stop();
    gateway.reload(&with("leeway: 60s,")).expect("loads");
    assert_eq!(ask(&gateway, "rsa-a", "RS256", "a").0, 200);
    gateway.reload(&with("profile: at+jwt,")).expect("loads");
    let code = ask(&gateway, "rsa-a", "RS256", "a").1;
    assert_eq!(code, "token_type_wrong", "other rules, the same keys");
    assert_eq!(told(&gateway)["fetches_ok"], 1);
}

#[test]
fn without_any_keys_a_token_is_neither_good_nor_bad() {
    let issuer = Origin::scripted(|_| Act::status(500));
    let origin = Origin::start();
    let gateway = gateway(&issuer, &origin);
    let token = mint::sign("rsa-a", "RS256", Some("a"), &mint::claims(gateway.now_s()));
    let answer = gateway.ask(&Req::get("/").bearer(&token));
    assert_eq!(answer.is(), (503, "keys_unavailable".into()));
    assert!(answer.number("retry-after") >= 1);
    publish(&issuer, &[("rsa-a", "a")]);
    gateway.advance_s(11);
    assert_eq!(gateway.ask(&Req::get("/").bearer(&token)).status, 200);
}

#[test]
fn a_slow_issuer_delays_only_those_who_need_it() {
    let (issuer, origin) = (issuer(&[("rsa-a", "a")]), Origin::start());
    let gateway = gateway(&issuer, &origin);
    gateway.advance_s(11);
    let gate = Gate::new();
    let (wait, asked) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let counter = asked.clone();
    let set = mint::jwks(&[mint::jwk("rsa-a", "a"), mint::jwk("rsa-b", "b")]);
    issuer.script(move |_| {
        counter.fetch_add(1, SeqCst);
        Act::At(wait.clone(), Box::new(Act::ok(set.clone())))
    });
    std::thread::scope(|s| {
        let waiting: Vec<_> = (0..5)
            .map(|_| s.spawn(|| ask(&gateway, "rsa-b", "RS256", "b").0))
            .collect();
        eventually("the fetch", || asked.load(SeqCst) == 1);
        assert_eq!(ask(&gateway, "rsa-a", "RS256", "a").0, 200, "not held up");
        gate.open();
        for one in waiting {
            assert_eq!(
                one.join().expect("no panic"),
                200,
                "one fetch serves all who wait"
            );
        }
    });
    assert_eq!(asked.load(SeqCst), 1);
}
