//! Whose fault a failure is: each test tells of one that was put on the wrong side.

use super::support::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const CLOSED: u64 = 0;
const OPEN: u64 = 2;

fn state(gateway: &Gateway) -> u64 {
    gateway.metric("tollgate_breaker_state{upstream=\"up\"}")
}

fn gateway(address: impl std::fmt::Display, upstream: &str, route: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{address}\"], {upstream} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, {route}, to: up }}]\n"
    ))
}

/// A service that handles each connection as told.
fn service(handle: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || handle(stream));
        }
    });
    address
}

// Six clients that announced a body and stalled made a service, which gave up on idle uploads after a
// second, look dead: 502 for them and an open circuit for everybody.
#[test]
fn a_service_that_gives_up_on_stalled_uploads_is_well() {
    let address = service(|mut stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(900)));
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    });
    let gateway = gateway(address, "retries: 0", "max_body: 1MiB");
    let mut clients: Vec<Client> = (0..6).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    }
    for client in &mut clients {
        assert_eq!(client.read().is(), (408, "body_timeout".into()));
    }
    assert_eq!(state(&gateway), CLOSED);
}

// A service that took uploads and never read them was answered for with 408, after longer than the
// total, and its circuit stayed closed.
#[test]
fn a_service_that_takes_no_upload_times_out() {
    let address = service(|stream| {
        std::thread::sleep(patience());
        drop(stream);
    });
    let upstream = "timeouts: { total: 1500ms }, circuit_breaker: { consecutive_failures: 1 }";
    let gateway = gateway(address, upstream, "max_body: 100MiB");
    let began = Stopwatch::start();
    let mut client = gateway.connect();
    let sent = std::thread::scope(|s| {
        let mut upload = gateway.connect();
        let sending = s.spawn(move || {
            upload.try_send(Req::post("/", vec![b'x'; 30_000_000]).bytes());
            upload.try_read()
        });
        sending.join().expect("no panic")
    });
    // Whether the client still reads the answer while it writes is up to its system.
    if let Ok(answer) = sent {
        assert_eq!(answer.is(), (504, "upstream_timeout".into()));
    }
    began.shows(1000, 6000);
    eventually("counted", || state(&gateway) == OPEN);
    assert_eq!(
        client.ask(&Req::get("/")).is(),
        (503, "circuit_open".into())
    );
}

// Answers that broke off counted twice, so that three of them opened a circuit that asks for five, and
// a service that always broke off never reached more than half.
#[test]
fn an_answer_that_breaks_off_counts_once() {
    let broken = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec();
    let origin = Origin::scripted(move |_| Act::RawThenClose(broken.clone()));
    let upstream = "retries: 0, circuit_breaker: { failure_ratio: 100%, min_requests: 5 }";
    let gateway = gateway(&origin, upstream, "max_body: 1KiB");
    for n in 0..5 {
        assert_eq!(state(&gateway), CLOSED, "after {n}");
        let mut client = gateway.connect();
        client.send(Req::get("/").bytes());
        let _ = client.try_read();
        gateway.counts("tollgate_refusals_total{reason=\"upstream_reset\"}", n + 1);
    }
    eventually("all five failed", || state(&gateway) == OPEN);
}

// A stream that was begun while the circuit was closed took a probe's place when it ended later, and
// failed it.
#[test]
fn an_old_answer_is_no_probe() {
    let slow = Act::Trickle(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec(),
        1,
        Duration::from_millis(1),
    );
    let origin = Origin::scripted(move |seen| match seen.target.as_str() {
        "/slow" => slow.clone(),
        "/bad" => Act::status(500),
        _ => Act::ok("well"),
    });
    let upstream = "retries: 0, circuit_breaker: { probes: 1 }";
    let gateway = gateway(&origin, upstream, "timeout: 1200ms");
    let mut old = gateway.connect();
    old.send(Req::get("/slow").bytes());
    eventually("under way", || origin.begun() == 1);
    for _ in 0..5 {
        gateway.get("/bad");
    }
    assert_eq!(state(&gateway), OPEN);
    gateway.counts("tollgate_refusals_total{reason=\"upstream_timeout\"}", 1);
    gateway.advance_s(31);
    assert_eq!(gateway.get("/").text(), "well");
    assert_eq!(state(&gateway), CLOSED);
    drop(old);
}

// A long answer that the request's total cut off counted against the service.
#[test]
fn an_answer_cut_off_by_the_total_is_nobodys_fault() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc".to_vec();
    let origin = Origin::scripted(move |_| Act::Raw(head.clone()));
    let upstream = "circuit_breaker: { consecutive_failures: 1 }";
    let gateway = gateway(&origin, upstream, "timeout: 500ms");
    let mut client = gateway.connect();
    client.send(Req::get("/").bytes());
    let _ = client.try_read();
    gateway.counts("tollgate_refusals_total{reason=\"upstream_timeout\"}", 1);
    assert_eq!(state(&gateway), CLOSED);
}

// A service that said `100 Continue` and then died left its client without any answer, and the access
// log with a status of 100.
#[test]
fn an_interim_answer_is_not_the_answer() {
    let address = service(|mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        let _ = stream.read(&mut byte);
    });
    let gateway = gateway(address, "retries: 0", "max_body: 1KiB");
    let mut client = gateway.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    client.send("body");
    let answer = client.read();
    assert_eq!(answer.is(), (502, "upstream_reset".into()));
    assert_eq!(gateway.line(&answer)["status_code"], 502);
}

// A route's longer timeout ended with its upstream's.
#[test]
fn a_route_may_wait_longer_than_its_upstream_says() {
    let gate = Gate::new();
    let wait = gate.clone();
    let origin = Origin::scripted(move |_| Act::At(wait.clone(), Box::new(Act::ok("late"))));
    let gateway = gateway(&origin, "timeouts: { total: 300ms }", "timeout: 10s");
    let mut client = gateway.connect();
    client.send(Req::get("/").bytes());
    std::thread::scope(|s| {
        s.spawn(|| {
            let began = Stopwatch::start();
            eventually("longer than the upstream's total", || {
                began.passed() > Duration::from_millis(900)
            });
            gate.open();
        });
        assert_eq!(client.read().text(), "late");
    });
}

// Of two key lists in one header only the first was searched.
#[test]
fn lists_of_keys_may_share_a_header() {
    let origin = Origin::start();
    let list = |name: &str, key: &str| format!("keys:\n{}", mint::api_key(name, key, ""));
    let gateway = Gateway::with_files(
        &format!(
            "identity:\n  api_keys:\n    - {{ name: ours, file: a.yaml }}\n    - {{ name: theirs, file: b.yaml }}\n\
             upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
             routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [ours, theirs] }}, to: up }}]\n"
        ),
        &[
            ("a.yaml", &list("a", "key-of-ours")),
            ("b.yaml", &list("b", "key-of-theirs")),
        ],
    );
    let ask = |key: &str| gateway.ask(&Req::get("/").header("x-api-key", key));
    assert_eq!(ask("key-of-ours").status, 200);
    assert_eq!(ask("key-of-theirs").status, 200);
    let refused = ask("key-of-nobody");
    assert_eq!(refused.is(), (401, "api_key_unknown".into()));
    let challenge = refused.header("www-authenticate").expect("a challenge");
    assert_eq!(challenge.matches("x-api-key").count(), 1, "{challenge}");
}
