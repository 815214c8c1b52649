//! Exchanges without a foreseeable end: nothing is held back, and what bounds them is silence.

use super::support::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A gateway with the route `/stream` as given, and the same without streaming at `/whole`.
#[track_caller]
fn gateway(origin: &Origin, timeout: &str, streaming: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: [{{ name: public, address: \"127.0.0.1:0\", idle_timeout: 500ms }}]\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"], retries: 0, timeouts: {{ read: 400ms }},\n\
         \x20 circuit_breaker: {{ consecutive_failures: 3 }} }}]\n\
         routes:\n\
         - {{ name: s, match: {{ path: /stream }}, auth: none, timeout: {timeout}, streaming: {streaming}, to: up }}\n\
         - {{ name: w, match: {{ path: /whole }}, auth: none, timeout: {timeout}, to: up }}\n"
    ))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
const EVENT: &[u8] = b"id: 1\nevent: greeting\ndata: hello\n\n";

/// How the end of an answer is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Chunked,
    UntilClose,
    Counted,
}

/// Writes events octet by octet, each in a packet (and a chunk) of its own; notes when one was out.
fn octets(framing: Framing, out: Arc<Mutex<Vec<Duration>>>, watch: Arc<Stopwatch>) -> Act {
    Act::take(move |mut stream, _, _| {
        let head = match framing {
            Framing::Chunked => format!("{EVENTS}Transfer-Encoding: chunked\r\n\r\n"),
            Framing::UntilClose => format!("{EVENTS}Connection: close\r\n\r\n"),
            Framing::Counted => format!("{EVENTS}Content-Length: 1000000\r\n\r\n"),
        };
        let mut open = stream.write_all(head.as_bytes()).is_ok();
        while open {
            for octet in EVENT {
                let chunk = [b'1', b'\r', b'\n', *octet, b'\r', b'\n'];
                let piece = match framing {
                    Framing::Chunked => &chunk[..],
                    _ => std::slice::from_ref(octet),
                };
                open &= stream.write_all(piece).is_ok();
            }
            out.lock().unwrap().push(watch.passed());
            thread::sleep(ms(30));
        }
    })
}

/// When each of so many events was there whole.
fn events(client: &mut Client, framing: Framing, watch: &Stopwatch, n: usize) -> Vec<Duration> {
    let (mut at, mut came, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    while at.len() < n {
        if framing == Framing::Counted {
            plain.append(&mut came);
        } else {
            // Re-framed as chunks of whatever size.
            while let Some(end) = came.windows(2).position(|w| w == b"\r\n") {
                let size = std::str::from_utf8(&came[..end]).expect("ASCII");
                let size = usize::from_str_radix(size, 16).expect("a size");
                if came.len() < end + 2 + size + 2 {
                    break;
                }
                plain.extend_from_slice(&came[end + 2..end + 2 + size]);
                came.drain(..end + 2 + size + 2);
            }
        }
        while plain.len() >= EVENT.len() * (at.len() + 1) {
            at.push(watch.passed());
        }
        let mut part = [0; 4096];
        let read = Read::read(client, &mut part).expect("more");
        assert!(read > 0, "the end after {} events", at.len());
        came.extend_from_slice(&part[..read]);
    }
    assert!(plain.starts_with(&EVENT.repeat(n)));
    at
}

#[test]
fn an_event_written_octet_by_octet_arrives_at_once() {
    for framing in [Framing::Chunked, Framing::UntilClose, Framing::Counted] {
        let out: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let watch = Arc::new(Stopwatch::start());
        let (noted, timer) = (out.clone(), watch.clone());
        let origin = Origin::scripted(move |_| octets(framing, noted.clone(), timer.clone()));
        let gateway = gateway(&origin, "10s", "{}");
        let mut client = gateway.connect();
        client.send(Req::get("/stream").bytes());
        let head = client.read_head().expect("an answer");
        assert_eq!(
            (head.status, head.header("content-type")),
            (200, Some("text/event-stream"))
        );
        let at = events(&mut client, framing, &watch, 20);
        let out: Vec<Duration> = out.lock().unwrap().clone();
        // The first as every other; machines stall, so nine of ten must do.
        let mut late: Vec<Duration> = at
            .iter()
            .zip(&out)
            .map(|(a, o)| a.saturating_sub(*o))
            .collect();
        late.sort_unstable();
        assert!(late[17] < ms(50), "{framing:?}: {late:?}");
    }
}

/// Writes an event so often, with such pauses, then ends the answer, and says that the connection ends with
/// it: one that ends unsaid may be taken for the next request first.
fn slowly(times: usize, pause: Duration) -> Act {
    Act::take(move |mut stream, _, _| {
        let _ = stream.write_all(
            format!("{EVENTS}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
        );
        for _ in 0..times {
            thread::sleep(pause);
            if stream.write_all(b"6\r\nevent\n\r\n").is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"0\r\n\r\n");
    })
}

#[test]
fn a_stream_outlasts_every_limit_but_its_own() {
    let origin = Origin::scripted(|_| slowly(4, ms(600)));
    let gateway = gateway(&origin, "900ms", "{ idle_timeout: 2s }");
    let mut client = gateway.connect();
    client.send(Req::get("/stream").bytes());
    let answer = client.read();
    assert_eq!(
        (answer.status, answer.text()),
        (200, "event\nevent\nevent\nevent\n")
    );
    assert_eq!(
        client.ask(&Req::get("/stream")).status,
        200,
        "and the connection stays"
    );
    // On connections of its own: the script above has ended those of the service that lie ready.
    let origin = Origin::scripted(|_| slowly(4, ms(600)));
    let gateway = self::gateway(&origin, "900ms", "{ idle_timeout: 2s }");
    let mut client = gateway.connect();
    client.send(Req::get("/whole").bytes());
    match client.try_read() {
        Err(Broken::Cut(answer)) => assert!(answer.body.len() < 12, "{}", answer.text()),
        other => panic!("not a stream, and not cut: {other:?}"),
    }
}

#[test]
fn silence_ends_a_stream_at_both_sides() {
    let origin = Origin::scripted(|_| slowly(3, ms(20_000)));
    let gateway = gateway(&origin, "20s", "{ idle_timeout: 1s }");
    let mut client = gateway.connect();
    let began = Stopwatch::start();
    client.send(Req::get("/stream").bytes());
    assert!(matches!(client.try_read(), Err(Broken::Cut(_))));
    began.shows(900, 5000);
    let line = gateway.line_where(|_| true);
    assert_eq!(
        (&line["status_code"], &line["reason"]),
        (&200.into(), &"upstream_timeout".into())
    );
    gateway.counts("tollgate_upstream_requests_in_flight{upstream=\"up\"}", 0);
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0);
}

#[test]
fn a_client_that_leaves_a_stream_takes_the_service_along() {
    let origin = Origin::scripted(|_| slowly(10_000, ms(20)));
    let gateway = gateway(&origin, "10s", "{}");
    let mut client = gateway.connect();
    client.send(Req::get("/stream").bytes());
    assert_eq!(client.read_head().expect("an answer").status, 200);
    assert_eq!(origin.open_connections(), 1);
    drop(client);
    eventually("the service's connection is closed", || {
        origin.open_connections() == 0
    });
    assert_eq!(gateway.line_where(|_| true)["reason"], "client_closed");
}

#[test]
fn the_header_of_an_answer_is_awaited_for_the_timeout() {
    let origin = Origin::scripted(|_| Act::Hang);
    let gateway = gateway(&origin, "700ms", "{ idle_timeout: 1h }");
    let began = Stopwatch::start();
    let answer = gateway.get("/stream");
    assert_eq!(answer.is(), (504, "upstream_timeout".into()));
    began.shows(690, 5000);
    // From the end of the request, however long that took.
    let mut client = gateway.connect();
    client.send("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    for _ in 0..4 {
        thread::sleep(ms(300));
        client.send("x");
    }
    let began = Stopwatch::start();
    assert_eq!(client.read().is(), (504, "upstream_timeout".into()));
    began.shows(600, 5000);
    assert_eq!(origin.last().body, b"xxxx");
}

#[test]
fn an_upload_lasts_as_long_as_it_moves() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "400ms", "{ idle_timeout: 2s }");
    let upload = |target: &str, pauses: usize| {
        let mut client = gateway.connect();
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        for _ in 0..pauses {
            // Longer than the listener's bound on stalls.
            thread::sleep(ms(700));
            client.try_send("1\r\nx\r\n");
        }
        client.try_send("0\r\n\r\n");
        client.read()
    };
    assert_eq!(upload("/stream", 4).status, 200);
    assert_eq!(origin.last().body, b"xxxx");
    assert_eq!(upload("/whole", 1).is(), (408, "body_timeout".into()));
}

#[test]
fn an_upload_that_stalls_is_the_clients_fault() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "400ms", "{ idle_timeout: 1s }");
    for _ in 0..4 {
        let mut client = gateway.connect();
        client.send("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
        let began = Stopwatch::start();
        assert_eq!(client.read().is(), (408, "body_timeout".into()));
        began.shows(900, 5000);
        client.ends();
    }
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0);
}

/// Answers one request before it is complete, sends back what comes as it comes, and has a last word
/// after a pause.
fn mirror(server: &TcpListener, pause: Duration) {
    let (mut stream, _) = server.accept().expect("accepts");
    let mut come = Vec::new();
    let read = |come: &mut Vec<u8>| {
        let mut part = [0; 4096];
        let n = (&stream).read(&mut part).expect("reads");
        assert!(n > 0, "the end before the request's");
        come.extend_from_slice(&part[..n]);
    };
    let end = loop {
        if let Some(at) = come.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        read(&mut come);
    };
    come.drain(..end);
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    (&stream).write_all(answer.as_bytes()).expect("writes");
    loop {
        (&stream).write_all(&come).expect("writes");
        if come.ends_with(b"0\r\n\r\n") {
            break;
        }
        come.clear();
        read(&mut come);
    }
    thread::sleep(pause);
    stream.write_all(b"last word").expect("writes");
}

#[test]
fn both_directions_at_once() {
    let server = TcpListener::bind(("127.0.0.1", 0)).expect("binds");
    let address = server.local_addr().expect("an address");
    let serving = thread::spawn(move || mirror(&server, ms(900)));
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{address}\"] }}]\n\
         routes: [{{ name: s, match: {{ path: / }}, auth: none, timeout: 400ms, streaming: {{ idle_timeout: 2s }}, to: up }}]\n"
    ));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let head = client.read_head().expect("before the request is complete");
    assert_eq!(head.status, 200);
    let mut came = Vec::new();
    for n in 1..=5 {
        thread::sleep(ms(300));
        client.write_all(b"1\r\nx\r\n").expect("writes");
        while String::from_utf8_lossy(&came).matches('x').count() < n {
            let mut part = [0; 4096];
            let n = Read::read(&mut client, &mut part).expect("reads");
            assert!(n > 0, "cut off after {}", String::from_utf8_lossy(&came));
            came.extend_from_slice(&part[..n]);
        }
    }
    client.write_all(b"0\r\n\r\n").expect("writes");
    client.read_to_end(&mut came).expect("to its end");
    assert!(came.ends_with(b"last word\r\n0\r\n\r\n"), "whole");
    serving.join().expect("no panic");
}
