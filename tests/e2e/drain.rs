//! Draining: what is in flight finishes whole, what is idle may send one more request,
//! nothing new is accepted.

use super::support::*;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

#[test]
fn requests_in_flight_finish_and_their_connections_close() {
    let gate = Gate::new();
    let wait = gate.clone();
    let origin = Origin::scripted(move |seen| match seen.target.as_str() {
        "/held" => Act::At(wait.clone(), Box::new(Act::ok("x".repeat(100_000)))),
        _ => Act::ok("quick"),
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut busy: Vec<Client> = (0..10).map(|_| gateway.connect()).collect();
    let mut idle = gateway.connect();
    assert_eq!(idle.ask(&Req::get("/")).status, 200);
    for client in &mut busy {
        client.send(Req::get("/held").bytes());
    }
    eventually("all in flight", || origin.hits() == 11);
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        idle.ends();
        eventually("no more accepting", || {
            TcpStream::connect(gateway.address()).is_err()
        });
        assert!(!draining.is_finished(), "waits for what is in flight");
        gate.open();
        for client in &mut busy {
            let answer = client.read();
            assert_eq!((answer.status, answer.body.len()), (200, 100_000));
            assert_eq!(answer.header("connection"), Some("close"));
            client.ends();
        }
        assert!(draining.join().expect("no panic"), "all finished");
    });
}

#[test]
fn a_drain_ends_at_its_max() {
    let origin = Origin::scripted(|_| Act::Hang);
    let server = "server: { workers: 1, drain: { max: 300ms } }\n";
    let gateway = Gateway::start(&format!("{server}{}", open_config(&origin)));
    let mut client = gateway.connect();
    client.send(Req::get("/").bytes());
    eventually("in flight", || origin.hits() == 1);
    let began = Stopwatch::start();
    assert!(!gateway.drain(), "not all finished");
    began.shows(290, 5000);
}

#[test]
fn a_drain_without_requests_ends_at_once() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let began = Stopwatch::start();
    assert!(gateway.drain());
    began.shows(0, 2000);
}

#[test]
fn readiness_fails_before_accepting_stops() {
    let origin = Origin::start();
    let config = format!(
        "server: {{ workers: 1, drain: {{ notice: 1s, idle: 0s, max: 2s }} }}\n\
         listeners:\n\
         - {{ name: public, address: \"127.0.0.1:0\" }}\n\
         - {{ name: probes, address: \"127.0.0.1:0\", probes: {{ networks: [127.0.0.0/8] }} }}\n{}",
        open_config(&origin)
    );
    let gateway = Gateway::start(&config);
    let ready = || {
        Client::open(gateway.listener("probes"))
            .ask(&Req::get("/ready"))
            .status
    };
    assert_eq!(ready(), 200);
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        eventually("not ready", || ready() == 503);
        assert_eq!(gateway.admin(&Req::get("/ready")).status, 503);
        assert_eq!(
            gateway.get("/").status,
            200,
            "still served while load balancers notice"
        );
        assert!(draining.join().expect("no panic"));
    });
    assert!(TcpStream::connect(gateway.address()).is_err());
}

#[test]
fn a_request_that_comes_on_an_open_connection_during_the_notice_is_served() {
    let origin = Origin::start();
    let server = "server: { workers: 1, drain: { notice: 500ms, idle: 0s, max: 2s } }\n";
    let gateway = Gateway::start(&format!("{server}{}", open_config(&origin)));
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Req::get("/")).status, 200);
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        eventually("not ready", || {
            gateway.admin(&Req::get("/ready")).status == 503
        });
        assert_eq!(client.ask(&Req::get("/")).status, 200);
        assert!(draining.join().expect("no panic"));
    });
}

/// Every client is told by an answer that its connection ends; none finds out by losing a request.
#[test]
fn no_request_under_load_is_lost_to_a_drain() {
    let origin = Origin::start();
    let gateway = Gateway::start(&granting("idle: 10s, max: 20s", &open_config(&origin)));
    let served = AtomicUsize::new(0);
    let served = &served;
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let mut client = gateway.connect();
                loop {
                    let answer = client.ask(&Req::get("/load"));
                    assert_eq!(answer.status, 200);
                    served.fetch_add(1, SeqCst);
                    if answer.header("connection") == Some("close") {
                        return client.ends();
                    }
                }
            });
        }
        eventually("load", || served.load(SeqCst) > 100);
        assert!(gateway.drain(), "all finished");
    });
    assert_eq!(served.load(SeqCst), origin.hits());
}

/// A config with this drain.
fn granting(drain: &str, rest: &str) -> String {
    format!("server: {{ workers: 2, drain: {{ {drain} }} }}\n{rest}")
}

/// Waits until nobody is let in any more.
#[track_caller]
fn closed(gateway: &Gateway) {
    eventually("no more accepting", || {
        TcpStream::connect(gateway.address()).is_err()
    });
}

#[test]
fn an_idle_connection_may_send_one_more_request() {
    let origin = Origin::scripted(|seen| match seen.target.as_str() {
        "/chunked" => Act::Raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_vec(),
        ),
        _ => Act::ok("x".repeat(50_000)),
    });
    let gateway = Gateway::start(&granting("idle: 60s, max: 60s", &open_config(&origin)));
    // Proxied with and without a body, answered by the gateway, refused; on connections that have
    // carried a request and on ones that never did.
    let requests = [
        Req::get("/"),
        Req::get("/chunked"),
        Req::post("/", "body"),
        Req::get("/health"),
        Req::new("TRACE", "/"),
    ];
    let mut clients: Vec<(Client, &Req)> = Vec::new();
    for req in &requests {
        let mut used = gateway.connect();
        let answer = used.ask(&Req::get("/health"));
        assert_ne!(answer.header("connection"), Some("close"), "not yet");
        clients.extend([(used, req), (gateway.connect(), req)]);
    }
    let open = "tollgate_connections{listener=\"public\"}";
    gateway.counts(open, clients.len() as u64);
    let began = Stopwatch::start();
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        closed(&gateway);
        for (mut client, req) in clients {
            assert!(!draining.is_finished(), "there are idle connections");
            let answer = client.ask(req);
            let status = if req.bytes().starts_with(b"TRACE") {
                501
            } else {
                200
            };
            assert_eq!(answer.status, status, "{req:?}");
            assert_eq!(answer.header("connection"), Some("close"), "{req:?}");
            client.ends();
        }
        assert!(draining.join().expect("no panic"), "all finished");
    });
    began.shows(0, 30_000);
}

/// What comes too late is read and thrown away: a reset would tell nothing, and could take an answer
/// along that was not yet read.
#[test]
fn a_request_that_crosses_the_end_is_not_answered_by_a_reset() {
    let origin = Origin::start();
    let gateway = Gateway::start(&granting("idle: 400ms, max: 20s", &open_config(&origin)));
    let (mut used, mut fresh) = (gateway.connect(), gateway.connect());
    assert_eq!(used.ask(&Req::get("/")).status, 200);
    gateway.counts("tollgate_connections{listener=\"public\"}", 2);
    let began = Stopwatch::start();
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        for client in [&mut used, &mut fresh] {
            client.ends();
        }
        began.shows(390, 8000);
        for client in [&mut used, &mut fresh] {
            // The first one would be answered by a reset, of which the second one tells.
            for _ in 0..2 {
                assert!(client.try_send(Req::get("/late").bytes()), "still read");
            }
            client.ends();
        }
        let watch = Stopwatch::start();
        while watch.passed() < Duration::from_millis(500) {
            assert!(!draining.is_finished(), "what comes now is read");
            thread::sleep(Duration::from_millis(5));
        }
        drop((used, fresh));
        assert!(draining.join().expect("no panic"), "nothing was cut off");
    });
    assert_eq!(origin.hits(), 1, "nor is it a request");
}

#[test]
fn a_drain_ends_with_its_last_connection() {
    let origin = Origin::start();
    let gateway = Gateway::start(&granting("idle: 5m, max: 1h", &open_config(&origin)));
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Req::get("/")).status, 200);
    let began = Stopwatch::start();
    thread::scope(|s| {
        let draining = s.spawn(|| gateway.drain());
        closed(&gateway);
        assert!(!draining.is_finished(), "a request may come");
        drop(client);
        assert!(draining.join().expect("no panic"));
    });
    began.shows(0, 20_000);
}

#[test]
fn idle_connections_get_no_longer_than_all_get() {
    let origin = Origin::start();
    let gateway = Gateway::start(&granting("idle: 5m, max: 300ms", &open_config(&origin)));
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Req::get("/")).status, 200);
    let began = Stopwatch::start();
    assert!(gateway.drain(), "nobody was cut off");
    client.ends();
    began.shows(290, 8000);
}
