//! The circuit breaker on the way of requests: what opens it, what an open one costs, how it heals.

use super::support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

fn gateway(origin: &Origin, settings: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{origin}\"], {settings} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, max_body: 10B, to: up }}]\n"
    ))
}

fn state(gateway: &Gateway) -> u64 {
    gateway.metric("tollgate_breaker_state{upstream=\"up\"}")
}

const CLOSED: u64 = 0;
const HALF_OPEN: u64 = 1;
const OPEN: u64 = 2;

#[test]
fn it_opens_answers_by_itself_and_heals() {
    let origin = Origin::scripted(|_| Act::status(500));
    let gateway = gateway(&origin, "retries: 0");
    for _ in 0..5 {
        assert_eq!(
            gateway.get("/").status,
            500,
            "the service's own answer is passed on"
        );
    }
    assert_eq!(state(&gateway), OPEN);
    assert_eq!(gateway.status()["upstreams"][0]["circuit"], "open");
    let (hits, accepted) = (origin.hits(), origin.accepted());
    for _ in 0..20 {
        let answer = gateway.get("/");
        assert_eq!(answer.is(), (503, "circuit_open".into()));
        assert!((1..=30).contains(&answer.number("retry-after")));
        assert_eq!(answer.json()["detail"], "Service temporarily unavailable");
    }
    assert_eq!(
        (origin.hits(), origin.accepted()),
        (hits, accepted),
        "no socket is touched"
    );
    let wait = gateway.get("/").number("retry-after");
    origin.script(|_| Act::ok("well"));
    gateway.advance_s(wait);
    assert_eq!(
        gateway.get("/").text(),
        "well",
        "a probe, when it was promised"
    );
    assert_eq!(state(&gateway), HALF_OPEN);
    assert_eq!(gateway.get("/").text(), "well");
    assert_eq!(state(&gateway), CLOSED);
    let transitions = |to: &str| {
        gateway.metric(&format!(
            "tollgate_breaker_transitions_total{{to=\"{to}\",upstream=\"up\"}}"
        ))
    };
    assert_eq!(
        [
            transitions("open"),
            transitions("half_open"),
            transitions("closed")
        ],
        [1; 3]
    );
}

#[test]
fn a_failed_probe_opens_it_again() {
    let origin = Origin::scripted(|_| Act::status(503));
    let gateway = gateway(&origin, "retries: 0");
    (0..5).for_each(|_| drop(gateway.get("/")));
    gateway.advance_s(30);
    let hits = origin.hits();
    assert_eq!(
        gateway.get("/").header("content-type"),
        None,
        "the service's own 503"
    );
    assert_eq!(state(&gateway), OPEN);
    assert_eq!(gateway.get("/").code(), "circuit_open");
    assert_eq!(origin.hits(), hits + 1);
}

#[test]
fn half_open_lets_no_more_than_the_probes_through_and_takes_lost_ones_back() {
    let origin = Origin::scripted(|_| Act::status(500));
    let gateway = gateway(&origin, "retries: 0, circuit_breaker: { probes: 2 }");
    (0..5).for_each(|_| drop(gateway.get("/")));
    gateway.advance_s(30);
    let gate = Gate::new();
    let wait = gate.clone();
    origin.script(move |_| Act::At(wait.clone(), Box::new(Act::ok("well"))));
    let mut probes: Vec<Client> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut probes {
        client.send(Req::get("/").bytes());
    }
    eventually("both probes", || origin.hits() == 7);
    for _ in 0..10 {
        assert_eq!(gateway.get("/").code(), "circuit_open");
    }
    assert_eq!(origin.hits(), 7);
    // A client that goes away gives its probe's place back and proves nothing.
    probes.remove(0).reset();
    let mut third = gateway.connect();
    eventually("a free place", || {
        third = gateway.connect();
        third.send(Req::get("/").bytes());
        let begun = Stopwatch::start();
        while begun.passed() < Duration::from_millis(100) && origin.hits() == 7 {
            std::thread::yield_now();
        }
        origin.hits() == 8
    });
    gate.open();
    assert_eq!(probes[0].read().text(), "well");
    assert_eq!(third.read().text(), "well");
    assert_eq!(state(&gateway), CLOSED);
}

#[test]
fn connects_resets_and_timeouts_count() {
    type Script = fn(&Seen) -> Act;
    let cases: [(Script, u16); 3] = [
        (|_| Act::reset(), 502),
        (|_| Act::Hang, 504),
        (|_| Act::RawThenClose(b"nonsense\r\n\r\n".to_vec()), 502),
    ];
    for (script, status) in cases {
        let origin = Origin::scripted(script);
        let gateway = gateway(
            &origin,
            "retries: 0, timeouts: { connect: 100ms, total: 200ms }",
        );
        for _ in 0..5 {
            assert_eq!(gateway.get("/").status, status);
        }
        assert_eq!(gateway.get("/").code(), "circuit_open");
    }
    let origin = Origin::start();
    let gateway = gateway(&origin, "retries: 0");
    origin.stop();
    for _ in 0..5 {
        assert_eq!(
            gateway.get("/").is(),
            (502, "upstream_connect_failed".into())
        );
    }
    assert_eq!(gateway.get("/").code(), "circuit_open");
}

#[test]
fn the_clients_own_errors_do_not_count() {
    let origin = Origin::scripted(|seen| Act::status(seen.target[1..].parse().unwrap_or(200)));
    let gateway = gateway(&origin, "retries: 0");
    for status in [400, 401, 403, 404, 409, 422, 429, 501, 505].repeat(5) {
        assert_eq!(gateway.get(&format!("/{status}")).status, status);
    }
    for _ in 0..20 {
        assert_eq!(
            gateway
                .ask(&Req::post("/200", "more than ten bytes"))
                .status,
            413
        );
        assert_eq!(gateway.get("/%00").status, 400);
    }
    assert_eq!(state(&gateway), CLOSED);
}

#[test]
fn clients_that_leave_do_not_count() {
    let origin = Origin::scripted(|_| Act::Hang);
    let gateway = gateway(
        &origin,
        "retries: 0, circuit_breaker: { consecutive_failures: 1 }",
    );
    for n in 0..10 {
        let mut client = gateway.connect();
        client.send(Req::get("/").bytes());
        eventually("at the origin", || origin.hits() == n + 1);
        if n % 2 == 0 {
            client.reset();
        } else {
            drop(client);
        }
    }
    let name = "tollgate_refusals_total{reason=\"client_closed\"}";
    eventually("all told", || gateway.metric(name) == 10);
    assert_eq!(state(&gateway), CLOSED);
    for line in gateway.lines() {
        assert_eq!(
            (&line["status_code"], &line["reason"]),
            (&499.into(), &"client_closed".into())
        );
    }
    eventually("given back", || {
        gateway.metric("tollgate_upstream_requests_in_flight{upstream=\"up\"}") == 0
    });
}

#[test]
fn the_ratio_needs_its_minimum_and_its_share() {
    let bad = Arc::new(AtomicBool::new(true));
    let is_bad = bad.clone();
    let origin =
        Origin::scripted(move |_| Act::status(if is_bad.load(SeqCst) { 502 } else { 200 }));
    let few = gateway(&origin, "retries: 0");
    (0..4).for_each(|_| drop(few.get("/")));
    assert_eq!(state(&few), CLOSED, "four are too few to judge");
    let gateway = gateway(&origin, "retries: 0");
    bad.store(false, SeqCst);
    (0..5).for_each(|_| drop(gateway.get("/")));
    bad.store(true, SeqCst);
    (0..4).for_each(|_| drop(gateway.get("/")));
    assert_eq!(state(&gateway), CLOSED, "four of nine are less than half");
    gateway.get("/");
    assert_eq!(state(&gateway), OPEN, "five of ten");
}

#[test]
fn old_failures_are_forgotten_and_a_run_can_be_enough() {
    let origin = Origin::scripted(|_| Act::status(504));
    let slow = gateway(&origin, "retries: 0");
    for _ in 0..10 {
        slow.get("/");
        slow.advance_s(3);
    }
    assert_eq!(state(&slow), CLOSED, "never five within ten seconds");
    let run = gateway(
        &origin,
        "retries: 0, circuit_breaker: { failure_ratio: 0%, consecutive_failures: 3 }",
    );
    (0..3).for_each(|_| drop(run.get("/")));
    assert_eq!(state(&run), OPEN);
    let off = gateway(&origin, "retries: 0, circuit_breaker: off");
    (0..20).for_each(|_| assert_eq!(off.get("/").status, 504));
}

#[test]
fn killing_every_target_opens_it_and_bringing_them_back_heals_it() {
    let (a, b) = (Origin::start(), Origin::start());
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{a}\", \"{b}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    let served = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                // Bar: not one idempotent request is lost while a target lives.
                let mut client = gateway.connect();
                while served.fetch_add(1, SeqCst) < 4000 {
                    assert_eq!(client.ask(&Req::get("/load")).status, 200);
                }
            });
        }
        eventually("load", || served.load(SeqCst) > 1000);
        a.stop();
        eventually("more load", || served.load(SeqCst) > 3000);
    });
    b.stop();
    eventually("open", || gateway.get("/").code() == "circuit_open");
    a.start_again();
    b.start_again();
    let accepted = a.accepted() + b.accepted();
    (0..20).for_each(|_| assert_eq!(gateway.get("/").code(), "circuit_open"));
    assert_eq!(
        a.accepted() + b.accepted(),
        accepted,
        "no socket is touched"
    );
    gateway.advance_s(30);
    (0..20).for_each(|_| assert_eq!(gateway.get("/").status, 200));
    assert_eq!(state(&gateway), CLOSED);
}
