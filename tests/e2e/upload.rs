//! Request bodies: too large, too slow, cut off, unread.

use super::support::*;
use std::time::Duration;

fn gateway(origin: &Origin, route: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{origin}\"], circuit_breaker: {{ consecutive_failures: 1 }} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, {route}, to: up }}]\n"
    ))
}

#[test]
fn a_body_that_is_announced_too_large_reaches_no_upstream() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "max_body: 1KiB");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n");
    assert_eq!(
        client.read().is(),
        (413, "body_too_large".into()),
        "without waiting for it"
    );
    assert_eq!(origin.begun(), 0);
    assert_eq!(gateway.ask(&Req::post("/", vec![b'x'; 1024])).status, 200);
    let answer = gateway.ask(&Req::post("/", vec![b'x'; 300_000]));
    assert_eq!(
        answer.is(),
        (413, "body_too_large".into()),
        "also when all of it comes"
    );
}

#[test]
fn a_chunked_body_is_counted_as_it_comes() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "max_body: 1KiB");
    let chunk = format!("100\r\n{}\r\n", "x".repeat(256));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = gateway.connect();
    client.send(head).send(chunk.repeat(4)).send("0\r\n\r\n");
    assert_eq!(client.read().status, 200);
    assert_eq!(origin.last().body.len(), 1024);
    let mut client = gateway.connect();
    client.send(head).send(chunk.repeat(4)).send("1\r\nx\r\n");
    assert_eq!(
        client.read().is(),
        (413, "body_too_large".into()),
        "one byte more"
    );
    assert_eq!(origin.hits(), 1, "and the service never sees it as whole");
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0,);
}

#[test]
fn a_hundred_stalled_uploads_are_the_clients_fault() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "timeout: 600ms");
    let mut clients: Vec<Client> = (0..100).map(|_| gateway.connect()).collect();
    let began = Stopwatch::start();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    }
    for client in &mut clients {
        let answer = client.read();
        assert_eq!(answer.is(), (408, "body_timeout".into()));
        client.ends();
    }
    began.shows(550, 10_000);
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0,);
    assert_eq!(gateway.get("/").status, 200);
    gateway.counts("tollgate_refusals_total{reason=\"body_timeout\"}", 100);
    eventually("given back", || {
        gateway.metric("tollgate_upstream_requests_in_flight{upstream=\"up\"}") == 0
    });
}

#[test]
fn an_upload_that_ends_early_is_no_request() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "max_body: 1KiB");
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut client = gateway.connect();
        client.send(format!(
            "POST /cut HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n5\r\nabc"
        ));
        client.finish();
        assert!(
            !matches!(client.try_read(), Ok(Answer { status: 200, .. })),
            "{head}"
        );
    }
    assert_eq!(origin.hits(), 0, "never passed on as whole");
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0,);
}

#[test]
fn a_service_that_answers_early_is_heard_while_the_upload_goes_on() {
    // Reads no more than the header: its answer comes while the client still sends.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                use std::io::{Read, Write};
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
                while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
            });
        }
    });
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{address}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc");
    let answer = client.read();
    assert_eq!((answer.status, answer.text()), (403, "no"));
}

#[test]
fn large_uploads_come_through_whole() {
    let origin = Origin::scripted(|seen| Act::ok(seen.body.len().to_string()));
    let gateway = gateway(&origin, "max_body: 10MiB");
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Req::post("/", body.clone())).text(), "3000000");
    assert!(origin.last().body == body);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in body.chunks(70_000) {
        client
            .send(format!("{:x}\r\n", part.len()))
            .send(part)
            .send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.read().text(), "3000000");
    assert!(origin.last().body == body);
}

/// A piece of a chunked body that held nothing but framing was taken for its end, and the service got
/// a shortened body as a whole one.
#[test]
fn a_chunked_body_may_come_byte_by_byte() {
    let origin = Origin::scripted(|seen| Act::ok(seen.body.clone()));
    let gateway = gateway(&origin, "timeout: 20s");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for byte in "5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\nT: x\r\n\r\n".bytes() {
        client.send([byte]);
        std::thread::sleep(Duration::from_millis(3));
    }
    assert_eq!(client.read().text(), "hello world");
}

#[test]
fn a_slow_but_steady_upload_is_let_be() {
    let origin = Origin::scripted(|seen| Act::ok(seen.body.len().to_string()));
    let gateway = gateway(&origin, "timeout: 20s");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        client.send("x");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.read().text(), "20");
}

#[test]
fn a_client_that_awaits_continue_gets_it_from_the_service() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        let mut body = [0; 4];
        let _ = stream.read_exact(&mut body);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        let _ = stream.write_all(&body);
    });
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{address}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.read_head().expect("an interim answer").status, 100);
    client.send("body");
    assert_eq!(client.read().text(), "body");
}

#[test]
fn a_client_that_awaits_continue_is_refused_before_it_sends() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "max_body: 1KiB");
    let mut client = gateway.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4096\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.read();
    assert_eq!((answer.status, answer.interim.len()), (413, 0));
    assert_eq!(origin.begun(), 0);
}
