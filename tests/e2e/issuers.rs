//! Token keys from an issuer that rotates, fails and is flooded with made-up key ids.

use super::support::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

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

fn gateway(issuer: &Origin, origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "identity:\n\
         \x20 jwt:\n\
         \x20 - {{ name: corp, issuer: \"{}\", audiences: [api], algorithms: [RS256, ES256],\n\
         \x20     jwks: {{ url: \"http://{issuer}/jwks.json\", refresh: 1h }} }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [corp] }}, to: up }}]\n",
        mint::ISSUER
    ))
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
    assert_eq!(ask(&gateway, "rsa-a", "RS256", "a").1, "token_invalid");
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
                (401, "token_invalid".into())
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
    let (wait, asked) = (gate.clone(), std::sync::Arc::new(AtomicUsize::new(0)));
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
