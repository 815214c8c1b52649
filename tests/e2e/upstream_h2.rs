//! HTTP/2 to targets: how it is agreed on, how connections are shared, and how they end.

use super::support::backend::frames::{self, Played};
use super::support::backend::relay::Relay;
use super::support::backend::{Authority, Backend, Reply, Speaks};
use super::support::*;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const BOTH: &[&str] = &["h2", "http/1.1"];

pub fn config(target: impl ToString, settings: &str) -> String {
    let target = target.to_string();
    format!(
        "upstreams: [{{ name: up, targets: [\"{target}\"], {settings} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    )
}

/// One worker, so that its connections can be counted; HTTP/2 without TLS.
pub fn h2c(target: impl ToString, settings: &str) -> Gateway {
    let settings = format!("protocol: http2, {settings}");
    let config = config(target, &settings);
    Gateway::start(&format!("server: {{ workers: 1 }}\n{config}"))
}

/// Over TLS, with the authority in `ca.pem`.
pub fn over_tls(backend: &Backend, ca: &Authority, settings: &str) -> Gateway {
    let tls = "tls: { server_name: users.test, ca: ca.pem }";
    let config = config(backend, &format!("{tls}, {settings}"));
    Gateway::with_files(&config, &[("ca.pem", ca.pem())])
}

#[test]
fn it_is_agreed_on_where_offered_and_a_must_where_written() {
    let ca = Authority::new("internal");
    let certificate = ca.certify(&["users.test"]);
    // What the target offers, what is written, and what is spoken then.
    let cases: [(&[&str], &str, Option<bool>); 9] = [
        (BOTH, "http1", Some(false)),
        (BOTH, "http2", Some(true)),
        (BOTH, "auto", Some(true)),
        (&["http/1.1"], "http1", Some(false)),
        (&["http/1.1"], "http2", None),
        (&["http/1.1"], "auto", Some(false)),
        (&[], "http1", Some(false)),
        (&[], "http2", None),
        (&[], "auto", Some(false)),
    ];
    for (offers, protocol, spoken) in cases {
        let backend = Backend::start(Speaks::tls(&certificate, offers));
        let gateway = over_tls(&backend, &ca, &format!("protocol: {protocol}, retries: 0"));
        let answer = gateway.ask(&Req::post("/x", "body"));
        if let Some(http2) = spoken {
            assert_eq!(answer.status, 200, "{offers:?} {protocol}");
            let asked = backend.last();
            assert_eq!(asked.http2, http2, "{offers:?} {protocol}");
            assert_eq!(asked.body, b"body");
        } else {
            let is = (502, "upstream_tls_failed".into());
            assert_eq!(answer.is(), is, "{offers:?} {protocol}");
            assert_eq!(backend.hits(), 0, "nothing was sent");
        }
    }
}

#[test]
fn a_request_arrives_as_http2_has_it() {
    let ca = Authority::new("internal");
    let backend = Backend::start(Speaks::tls(&ca.certify(&["users.test"]), BOTH));
    let gateway = over_tls(&backend, &ca, "protocol: http2");
    let request = Req::new("PUT", "/a%20b?c=d")
        .header("Connection", "X-Mine, keep-alive")
        .header("Keep-Alive", "timeout=5")
        .header("X-Mine", "1")
        .header("X-Kept", "2")
        .body("all of it");
    let answer = gateway.ask(&request);
    assert_eq!((answer.status, answer.text()), (200, "/a%20b?c=d"));
    let asked = backend.last();
    assert_eq!(asked.method, "PUT");
    assert_eq!(asked.scheme.as_deref(), Some("https"));
    assert_eq!(asked.authority, "api.example.com");
    assert_eq!(asked.body, b"all of it");
    assert_eq!(asked.headers["x-kept"], "2");
    for gone in [
        "host",
        "connection",
        "keep-alive",
        "x-mine",
        "transfer-encoding",
    ] {
        assert!(!asked.headers.contains_key(gone), "{gone}");
    }
    let plain = Backend::start(Speaks::h2c());
    let gateway = h2c(&plain, "");
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(plain.last().scheme.as_deref(), Some("http"));
    let mut head = gateway.connect();
    let answer = head.ask(&Req::new("HEAD", "/"));
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(head.ask(&Req::get("/after")).text(), "/after");
}

#[test]
fn what_does_not_speak_it_is_told_from_what_is_not_there() {
    let old = Origin::start();
    let gateway = h2c(&old, "retries: 0");
    assert_eq!(gateway.get("/").is(), (502, "upstream_invalid".into()));
    old.stop();
    let answer = gateway.get("/");
    assert_eq!(answer.is(), (502, "upstream_connect_failed".into()));
}

/// So many GETs at the same time, each on a connection of its own; all must be answered.
fn at_once(gateway: &Gateway, count: usize, gate: &Gate, backend: &Backend) {
    let mut clients: Vec<Client> = (0..count).map(|_| gateway.connect()).collect();
    let before = backend.hits();
    for client in &mut clients {
        client.send(Req::get("/held").bytes());
    }
    eventually("all of them under way", || backend.hits() == before + count);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read().text(), "held");
    }
}

fn holding(speaks: Speaks) -> (Backend, Gate) {
    let gate = Gate::new();
    let wait = gate.clone();
    let backend = Backend::scripted(speaks, move |asked| match &*asked.path {
        "/held" => Reply::At(wait.clone(), Box::new(Reply::ok("held"))),
        path => Reply::ok(path),
    });
    (backend, gate)
}

#[test]
fn requests_share_connections_a_hundred_each() {
    let (backend, gate) = holding(Speaks::h2c());
    let gateway = h2c(&backend, "");
    assert_eq!(gateway.get("/first").status, 200);
    at_once(&gateway, 100, &gate, &backend);
    assert_eq!(backend.accepted(), 1);
    let (backend, gate) = holding(Speaks::h2c());
    let gateway = h2c(&backend, "");
    assert_eq!(gateway.get("/first").status, 200);
    at_once(&gateway, 250, &gate, &backend);
    let made = backend.accepted();
    assert!(
        (3..=8).contains(&made),
        "{made} connections for 250 at a time"
    );
}

#[test]
fn a_target_that_takes_fewer_at_a_time_gets_more_connections() {
    let (backend, gate) = holding(Speaks::h2c().streams(10));
    let gateway = h2c(&backend, "retries: 0");
    let mut clients: Vec<Client> = (0..40).map(|_| gateway.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        // What it takes is known once it has taken one.
        client.send(Req::get("/held").bytes());
        eventually("one more under way", || backend.hits() == n + 1);
    }
    assert_eq!(backend.accepted(), 4);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read().text(), "held");
    }
}

#[test]
fn an_unused_connection_is_given_up() {
    let backend = Backend::start(Speaks::h2c());
    let gateway = h2c(&backend, "timeouts: { idle: 200ms }");
    assert_eq!(gateway.get("/").status, 200);
    eventually("none open", || backend.open() == 0);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(backend.accepted(), 2);
}

#[test]
fn connections_that_end_in_good_order_lose_nothing() {
    let backend = Arc::new(Backend::start(Speaks::h2c()));
    let gateway = Arc::new(Gateway::start(&config(&*backend, "protocol: http2")));
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (gateway, over, served) = (gateway.clone(), over.clone(), served.clone());
            thread::spawn(move || {
                let mut client = gateway.connect();
                while !over.load(SeqCst) {
                    let answer = client.ask(&Req::get("/x"));
                    assert_eq!(answer.status, 200, "{}", answer.head);
                    served.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for n in 1..=40 {
        let before = served.load(SeqCst);
        eventually("some more answers", || served.load(SeqCst) > before + 20);
        backend.go_away();
        eventually("a new connection", || backend.accepted() > n);
    }
    over.store(true, SeqCst);
    for client in clients {
        client.join().expect("each was answered");
    }
}

/// What becomes of a request whose first attempt ends like this, and how many attempts there were.
fn after(method: &str, script: fn(&mut frames::Wire, u32), settings: &str) -> (u16, usize) {
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    let target = Played::start(move |wire| {
        while let Some(stream) = wire.request() {
            if count.fetch_add(1, SeqCst) > 0 {
                wire.answer(stream, "second");
                continue;
            }
            script(wire, stream);
        }
    });
    let gateway = h2c(&target, settings);
    let request = match method {
        "GET" => Req::get("/"),
        method => Req::new(method, "/").body("body"),
    };
    let answer = gateway.ask(&request);
    let tried = tried.load(SeqCst);
    let line = gateway.line(&answer);
    assert_eq!(line["attempts"], tried, "{line}");
    (answer.status, tried)
}

#[test]
fn what_the_target_did_not_begin_with_is_sent_again_whatever_its_method() {
    let refused: fn(&mut frames::Wire, u32) =
        |wire, stream| wire.reset(stream, frames::REFUSED_STREAM);
    // The last stream that was looked at came before this one.
    let too_late: fn(&mut frames::Wire, u32) =
        |wire, stream| wire.go_away(stream.saturating_sub(2), frames::NO_ERROR);
    for script in [refused, too_late] {
        for method in ["GET", "POST"] {
            assert_eq!(after(method, script, "retries: 1"), (200, 2), "{method}");
        }
        assert_eq!(after("GET", script, "retries: 0"), (502, 1));
    }
}

#[test]
fn what_the_target_may_have_begun_with_is_sent_again_only_if_idempotent() {
    let failed: fn(&mut frames::Wire, u32) =
        |wire, stream| wire.reset(stream, frames::INTERNAL_ERROR);
    let cancelled: fn(&mut frames::Wire, u32) = |wire, stream| wire.reset(stream, frames::CANCEL);
    // This stream was looked at, then everything ends.
    let gone: fn(&mut frames::Wire, u32) = |wire, stream| {
        wire.go_away(stream, frames::NO_ERROR);
        wire.close();
    };
    let broken: fn(&mut frames::Wire, u32) = |wire, _| wire.close();
    for (n, script) in [failed, cancelled, gone, broken].into_iter().enumerate() {
        assert_eq!(after("GET", script, "retries: 1"), (200, 2), "{n}");
        assert_eq!(after("POST", script, "retries: 1"), (502, 1), "{n}");
    }
}

#[test]
fn a_target_that_asks_for_http_1_1_gets_it_only_where_that_is_allowed() {
    let asks: fn(&mut frames::Wire, u32) =
        |wire, stream| wire.reset(stream, frames::HTTP_1_1_REQUIRED);
    assert_eq!(after("GET", asks, "retries: 1"), (502, 1));
}

#[test]
fn an_answer_that_breaks_the_rules_is_refused() {
    // Ten bytes are announced and none follows (RFC 9113 §8.1.1).
    let target = Played::start(|wire| {
        while let Some(stream) = wire.request() {
            let block = [&[0x88, 0x0f, 0x0d, 0x02][..], b"10"].concat();
            wire.headers(stream, &block, true);
        }
    });
    let gateway = h2c(&target, "retries: 0");
    assert_eq!(gateway.get("/").is(), (502, "upstream_invalid".into()));
    // A connection-specific field (§8.2.2).
    let target = Played::start(|wire| {
        while let Some(stream) = wire.request() {
            let field = [&[0x00, 0x0a][..], b"connection", &[0x05], b"close"].concat();
            wire.headers(stream, &[&[0x88][..], &field].concat(), true);
        }
    });
    let gateway = h2c(&target, "retries: 0");
    assert_eq!(gateway.get("/").is(), (502, "upstream_invalid".into()));
}

#[test]
fn an_answer_that_is_cut_off_is_cut_off_for_the_client() {
    let backend = Backend::scripted(Speaks::h2c(), |_| {
        Reply::Cut(b"some of it".to_vec(), h2::Reason::INTERNAL_ERROR)
    });
    let gateway = h2c(&backend, "");
    let mut client = gateway.connect();
    client.send(Req::get("/").bytes());
    match client.try_read() {
        Err(Broken::Cut(answer)) => assert_eq!(answer.status, 200),
        Ok(answer) => assert_eq!(answer.status, 502, "reset before a byte was passed on"),
        other => panic!("{other:?}"),
    }
    eventually("it is told", || {
        let lines = gateway.lines();
        lines.iter().any(|l| l["reason"] == "upstream_reset")
    });
}

#[test]
fn a_client_that_leaves_ends_its_stream_and_no_other() {
    let (backend, gate) = holding(Speaks::h2c());
    let gateway = h2c(&backend, "");
    assert_eq!(gateway.get("/first").status, 200);
    let (mut leaves, mut stays) = (gateway.connect(), gateway.connect());
    leaves.send(Req::get("/held").bytes());
    stays.send(Req::get("/held").bytes());
    eventually("both under way", || backend.hits() == 3);
    drop(leaves);
    eventually("the stream is cancelled", || !backend.resets().is_empty());
    assert_eq!(backend.resets(), [h2::Reason::CANCEL]);
    gate.open();
    assert_eq!(stays.read().text(), "held");
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let backend = Backend::scripted(Speaks::h2c(), |asked| match &*asked.path {
        "/much" => Reply::Answer(200, vec![b'x'; 64 << 20]),
        path => Reply::ok(path),
    });
    let gateway = h2c(&backend, "timeouts: { total: 60s }");
    assert_eq!(gateway.get("/first").status, 200);
    let stuck: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = gateway.connect();
            client.send(Req::get("/much").bytes());
            assert_eq!(client.read_head().expect("a header").status, 200);
            client
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(gateway.get("/quick").text(), "/quick");
    }
    assert_eq!(backend.accepted(), 1, "all on one connection");
    drop(stuck);
    eventually("their streams are cancelled", || {
        backend.resets() == [h2::Reason::CANCEL; 5]
    });
}

#[test]
fn a_target_that_dies_and_comes_back_is_found_again() {
    let (backend, gate) = holding(Speaks::h2c());
    let gateway = h2c(&backend, "retries: 0, circuit_breaker: off");
    for _ in 0..3 {
        assert_eq!(gateway.get("/").status, 200);
        let mut held = gateway.connect();
        let before = backend.hits();
        held.send(Req::post("/held", "once").bytes());
        eventually("it is under way", || backend.hits() > before);
        backend.kill();
        assert_eq!(held.read().is(), (502, "upstream_reset".into()));
        let answer = gateway.get("/");
        assert_eq!(answer.is(), (502, "upstream_connect_failed".into()));
        backend.start_again();
        for _ in 0..5 {
            let answer = gateway.ask(&Req::post("/", "sent once"));
            assert_eq!(answer.status, 200, "not one is lost to the dead connection");
        }
    }
    gate.open();
}

#[test]
fn a_connection_on_which_nothing_comes_back_is_not_used_again() {
    let backend = Backend::start(Speaks::h2c());
    let relay = Relay::to(backend.address());
    let settings = "timeouts: { read: 300ms, total: 5s }, retries: 0, circuit_breaker: off";
    let gateway = h2c(relay.address(), settings);
    assert_eq!(gateway.get("/").status, 200);
    relay.lose();
    let answer = gateway.get("/");
    assert_eq!(answer.is(), (504, "upstream_timeout".into()));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(relay.accepted(), 2);
}

/// Connections of this process that lead to an address, as the kernel lists them.
fn leading_to(address: SocketAddrV4) -> usize {
    let ip = u32::from_le_bytes(address.ip().octets());
    let far = format!("{ip:08X}:{:04X}", address.port());
    let all = std::fs::read_to_string("/proc/self/net/tcp").expect("a list");
    let ends = all.lines().filter_map(|l| l.split_whitespace().nth(2));
    ends.filter(|end| *end == far).count()
}

#[test]
fn a_target_that_is_cut_off_is_noticed_while_nobody_asks() {
    let target = Played::start(|wire| {
        while let Some(stream) = wire.request() {
            if wire.number == 0 {
                wire.answer(stream, "ok");
                // What we sent has arrived: nothing of ours is sent again, as by a host that is gone.
                wire.ping();
                wire.go_deaf();
            } else {
                wire.answer(stream, "again");
            }
        }
    });
    let settings = "timeouts: { idle: 1h }, retries: 0, circuit_breaker: off";
    let gateway = h2c(&target, settings);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(leading_to(target.address()), 1);
    let watch = Stopwatch::start();
    while leading_to(target.address()) > 0 {
        assert!(watch.passed() < 3 * patience(), "never given up");
        thread::sleep(Duration::from_millis(100));
    }
    let answer = gateway.ask(&Req::post("/", "sent once"));
    assert_eq!((answer.status, answer.text()), (200, "again"));
}
