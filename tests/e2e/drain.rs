//! Draining: what is in flight finishes whole, what is idle is closed, nothing new is accepted.

use super::support::*;
use std::net::TcpStream;
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
fn a_drain_ends_at_its_timeout() {
    let origin = Origin::scripted(|_| Act::Hang);
    let server = "server: { workers: 1, drain: { timeout: 300ms } }\n";
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
        "server: {{ workers: 1, drain: {{ delay: 1s, timeout: 2s }} }}\n\
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
fn a_request_that_comes_on_an_open_connection_during_the_delay_is_served() {
    let origin = Origin::start();
    let server = "server: { workers: 1, drain: { delay: 500ms, timeout: 2s } }\n";
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

#[test]
fn no_request_under_load_is_lost_to_a_drain() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let served = std::sync::atomic::AtomicUsize::new(0);
    let served = &served;
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let mut client = gateway.connect();
                loop {
                    let sent = client.try_send(Req::get("/load").bytes());
                    match client.try_read() {
                        Ok(answer) => assert_eq!(answer.status, 200),
                        // Closed while idle: the request was never taken on.
                        Err(Broken::Closed | Broken::Reset) => return,
                        Err(other) => panic!("sent {sent}: {other:?}"),
                    }
                    served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        eventually("load", || {
            served.load(std::sync::atomic::Ordering::Relaxed) > 100
        });
        thread::sleep(Duration::from_millis(20));
        assert!(gateway.drain(), "all finished");
    });
    let taken = origin.hits();
    assert_eq!(served.load(std::sync::atomic::Ordering::Relaxed), taken);
}
