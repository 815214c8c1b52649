//! Pools: balance, health, time limits, and answers that are none.

use super::support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::Duration;

/// One route to one upstream; `settings` are its further keys.
fn gateway(targets: &[(&Origin, u32)], settings: &str) -> Gateway {
    let target = |(o, w): &(&Origin, u32)| format!("{{ address: \"{o}\", weight: {w} }}");
    let targets: Vec<String> = targets.iter().map(target).collect();
    Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [{}], {settings} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n",
        targets.join(", ")
    ))
}

#[test]
fn round_robin_keeps_to_the_weights() {
    let (a, b, c) = (Origin::start(), Origin::start(), Origin::start());
    let gateway = gateway(&[(&a, 5), (&b, 3), (&c, 2)], "balance: round_robin");
    for _ in 0..100 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!([a.hits(), b.hits(), c.hits()], [50, 30, 20]);
}

#[test]
fn the_less_loaded_target_is_chosen() {
    let gate = Gate::new();
    let wait = gate.clone();
    let script = move |seen: &Seen| match seen.target.as_str() {
        "/held" => Act::At(wait.clone(), Box::new(Act::ok("held"))),
        _ => Act::ok("quick"),
    };
    let (a, b) = (Origin::scripted(script.clone()), Origin::scripted(script));
    let gateway = gateway(&[(&a, 1), (&b, 1)], "balance: least_loaded");
    let mut held = gateway.connect();
    held.send(Req::get("/held").bytes());
    eventually("one in flight", || a.hits() + b.hits() == 1);
    let (busy, free) = if a.hits() == 1 { (&a, &b) } else { (&b, &a) };
    let in_flight = "tollgate_upstream_requests_in_flight{upstream=\"up\"}";
    for _ in 0..20 {
        // The answer is there a moment before its place is given back.
        gateway.counts(in_flight, 1);
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!((busy.hits(), free.hits()), (1, 20));
    gate.open();
    assert_eq!(held.read().text(), "held");
}

/// An origin whose `/health` answers with a status that can be changed.
fn checked() -> (Origin, Arc<AtomicU16>) {
    let health = Arc::new(AtomicU16::new(200));
    let says = health.clone();
    let origin = Origin::scripted(move |seen| match seen.target.as_str() {
        "/health" => Act::status(says.load(SeqCst)),
        target => Act::ok(target),
    });
    (origin, health)
}

fn served(origin: &Origin) -> usize {
    origin
        .seen()
        .iter()
        .filter(|s| s.target != "/health")
        .count()
}

const CHECK: &str =
    "health_check: { http: /health, interval: 100ms, timeout: 100ms, unhealthy: 2 }";

#[test]
fn a_sick_target_gets_nothing_until_it_is_well_again() {
    let ((a, sick), (b, _)) = (checked(), checked());
    let gateway = gateway(&[(&a, 1), (&b, 1)], CHECK);
    let usable = |n: u64| gateway.metric("tollgate_upstream_healthy_targets{upstream=\"up\"}") == n;
    assert!(usable(2));
    sick.store(500, SeqCst);
    eventually("a is out", || usable(1));
    let before = served(&a);
    for _ in 0..20 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(served(&a), before);
    let status = gateway.status();
    assert_eq!(status["upstreams"][0]["targets"][0]["healthy"], false);
    sick.store(200, SeqCst);
    eventually("a is back", || usable(2));
    for _ in 0..20 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(served(&a), before + 10);
    assert!(
        a.seen()
            .iter()
            .any(|s| s.head.contains("tollgate-health-check"))
    );
}

#[test]
fn without_a_healthy_target_the_answer_is_503_at_once() {
    let (a, sick) = checked();
    sick.store(503, SeqCst);
    let gateway = gateway(&[(&a, 1)], CHECK);
    let answer = gateway.get("/");
    assert_eq!(
        answer.is(),
        (503, "no_healthy_target".into()),
        "the first round was awaited"
    );
    assert!(answer.number("retry-after") >= 1);
    assert_eq!(served(&a), 0);
    assert_eq!(gateway.line(&answer)["upstream"], "up");
    sick.store(200, SeqCst);
    eventually("it is back", || gateway.get("/").status == 200);
}

#[test]
fn a_connection_is_health_enough_for_a_tcp_check() {
    let (a, b) = (Origin::start(), Origin::start());
    let gateway = gateway(
        &[(&a, 1), (&b, 1)],
        "health_check: { tcp: true, interval: 100ms, timeout: 100ms, unhealthy: 1 }",
    );
    let usable = |n: u64| gateway.metric("tollgate_upstream_healthy_targets{upstream=\"up\"}") == n;
    a.stop();
    eventually("a is out", || usable(1));
    a.start_again();
    eventually("a is back", || usable(2));
    assert_eq!(a.hits() + b.hits(), 0, "nothing is asked");
}

#[test]
fn names_are_resolved_and_each_address_is_a_target() {
    let origin = Origin::start();
    let port = origin.address().port();
    // Nothing listens under the loopback's own address; the name cannot be another.
    let gateway = Gateway::start(&format!(
        "upstreams:\n\
         - {{ name: named, targets: [\"localhost:{port}\"], circuit_breaker: off }}\n\
         - {{ name: missing, targets: [\"no-such-host.invalid:80\"], circuit_breaker: off }}\n\
         routes:\n\
         - {{ name: a, match: {{ path: /named }}, auth: none, to: named }}\n\
         - {{ name: b, match: {{ path: /missing }}, auth: none, to: missing }}\n"
    ));
    let status = gateway.status();
    let address = &status["upstreams"][0]["targets"][0]["address"];
    assert!(
        address
            .as_str()
            .is_some_and(|a| a.ends_with(&format!(":{port}"))),
        "{status}"
    );
    assert_eq!(
        gateway.get("/named").is(),
        (502, "upstream_connect_failed".into())
    );
    assert_eq!(
        gateway.get("/missing").is(),
        (503, "no_healthy_target".into())
    );
}

#[test]
fn a_name_leads_to_its_service() {
    let origin = Origin::at_localhost();
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"localhost:{}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n",
        origin.address().port()
    ));
    for _ in 0..4 {
        let answer = gateway.get("/named");
        assert_eq!((answer.status, answer.text()), (200, "/named"));
    }
    assert_eq!(origin.hits(), 4);
}

#[test]
fn a_silent_service_is_504_at_the_total() {
    let origin = Origin::scripted(|_| Act::Hang);
    let gateway = gateway(
        &[(&origin, 1)],
        "timeouts: { connect: 300ms, total: 500ms }",
    );
    let began = Stopwatch::start();
    let answer = gateway.get("/");
    began.shows(480, 3000);
    assert_eq!(answer.is(), (504, "upstream_timeout".into()));
    assert_eq!(answer.json()["detail"], "Gateway timeout");
    assert_eq!(
        gateway.line(&answer)["attempts"],
        1,
        "a timeout is not tried again"
    );
}

#[test]
fn a_pause_longer_than_the_read_timeout_is_504() {
    let origin = Origin::scripted(|_| Act::Hang);
    let gateway = gateway(&[(&origin, 1)], "timeouts: { read: 300ms, total: 20s }");
    let began = Stopwatch::start();
    assert_eq!(gateway.get("/").is(), (504, "upstream_timeout".into()));
    began.shows(290, 5000);
}

#[test]
fn a_routes_timeout_goes_before_the_upstreams() {
    let origin = Origin::scripted(|_| Act::Hang);
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, timeout: 300ms, to: up }}]\n"
    ));
    let began = Stopwatch::start();
    assert_eq!(gateway.get("/").status, 504);
    began.shows(290, 5000);
}

#[test]
fn the_total_ends_an_answer_that_trickles() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    let whole: Vec<u8> = [&head[..], &[b'x'; 1000]].concat();
    let origin =
        Origin::scripted(move |_| Act::Trickle(whole.clone(), 200, Duration::from_millis(50)));
    let gateway = gateway(
        &[(&origin, 1)],
        "timeouts: { read: 400ms, total: 700ms, connect: 300ms }",
    );
    let mut client = gateway.connect();
    let began = Stopwatch::start();
    client.send(Req::get("/").bytes());
    match client.try_read() {
        Err(Broken::Cut(answer)) => assert!(answer.body.len() < 1000),
        other => panic!("want a cut answer, got {other:?}"),
    }
    began.shows(650, 5000);
    let line = gateway.line_where(|l| l["route"] == "r");
    assert_eq!(
        (&line["status_code"], &line["reason"]),
        (&200.into(), &"upstream_timeout".into())
    );
}

#[test]
fn a_header_that_trickles_is_504() {
    let head =
        b"HTTP/1.1 200 OK\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".to_vec();
    let origin =
        Origin::scripted(move |_| Act::Trickle(head.clone(), 70, Duration::from_millis(50)));
    let gateway = gateway(
        &[(&origin, 1)],
        "timeouts: { read: 400ms, total: 700ms, connect: 300ms }",
    );
    let began = Stopwatch::start();
    assert_eq!(gateway.get("/").is(), (504, "upstream_timeout".into()));
    began.shows(650, 5000);
}

#[test]
fn answers_that_are_not_http_are_502() {
    let origin = Origin::scripted(|seen| {
        let text: &str = match seen.target.as_str() {
            "/ssh" => "SSH-2.0-OpenSSH_9.9\r\n\r\n",
            "/status" => "HTTP/1.1 OK\r\n\r\n",
            "/field" => "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
            "/lengths" => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab",
            "/switch" => {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
            }
            _ => "\u{0}\u{1}\u{2}\r\n\r\n",
        };
        Act::RawThenClose(text.as_bytes().to_vec())
    });
    let gateway = gateway(&[(&origin, 1)], "circuit_breaker: off, retries: 0");
    for target in [
        "/ssh", "/status", "/field", "/lengths", "/length", "/switch", "/noise",
    ] {
        let answer = gateway.get(target);
        assert_eq!(answer.is(), (502, "upstream_invalid".into()), "{target}");
        assert_eq!(answer.json()["detail"], "Bad gateway");
    }
}

#[test]
fn an_answer_that_breaks_off_is_never_passed_on_as_whole() {
    let origin = Origin::scripted(|seen| match seen.target.as_str() {
        "/chunked" => Act::RawThenClose(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec(),
        ),
        "/reset" => {
            Act::RawThenReset(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec())
        }
        _ => Act::RawThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()),
    });
    let gateway = gateway(&[(&origin, 1)], "retries: 3");
    for target in ["/half", "/chunked", "/reset"] {
        let mut client = gateway.connect();
        client.send(Req::get(target).bytes());
        assert!(
            !matches!(client.try_read(), Ok(Answer { status: 200, .. })),
            "{target}"
        );
        let line = gateway.line_where(|l| l["path"] == target);
        assert_eq!(line["reason"], "upstream_reset", "{line}");
    }
    assert_eq!(
        origin.hits(),
        3,
        "what the client has seen begin is not replayed"
    );
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let origin =
        Origin::scripted(|_| Act::RawThenClose(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()));
    let gateway = gateway(&[(&origin, 1)], "retries: 0");
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Req::get("/")).text(), "until the end");
    assert_eq!(
        client.ask(&Req::get("/")).text(),
        "until the end",
        "framed anew for the client"
    );
}

#[test]
fn interim_answers_go_through_or_are_dropped_but_never_end_the_request() {
    let text = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let origin = Origin::scripted(move |_| Act::Raw(text.as_bytes().to_vec()));
    let gateway = gateway(&[(&origin, 1)], "retries: 0");
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert!(answer.interim.iter().all(|s| *s == 103));
}

#[test]
fn large_answers_come_through_whole() {
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = body.clone();
    let origin = Origin::scripted(move |_| Act::ok(sent.clone()));
    let gateway = gateway(&[(&origin, 1)], "retries: 0");
    assert!(gateway.get("/").body == body);
}
