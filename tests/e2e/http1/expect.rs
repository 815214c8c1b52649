//! RFC 9110 §10.1.1: what may be expected, and bodies that are waited for.

use super::super::support::*;
use super::case::Bench;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HEAD: &str = "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";

/// A service by hand; what it read of each connection.
fn service(
    serve: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (serve, kept) = (Arc::new(serve), seen.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (serve, kept) = (serve.clone(), kept.clone());
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let mut part = [0; 4096];
                while !text.windows(4).any(|w| w == b"\r\n\r\n") {
                    let Ok(n @ 1..) = stream.read(&mut part) else {
                        return;
                    };
                    text.extend_from_slice(&part[..n]);
                }
                serve(&mut stream);
                let _ = stream.set_read_timeout(Some(patience()));
                while let Ok(n @ 1..) = stream.read(&mut part) {
                    text.extend_from_slice(&part[..n]);
                }
                kept.lock().unwrap().push(String::from_utf8(text).unwrap());
            });
        }
    });
    (address, seen)
}

fn gateway(address: SocketAddr) -> Gateway {
    Gateway::start(&format!(
        "server: {{ workers: 1 }}\n\
         upstreams: [{{ name: up, targets: [\"{address}\"] }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    ))
}

#[test]
fn anything_but_continue_is_not_met() {
    let bench = Bench::new();
    for fields in [
        "Expect: 200-ok",
        "Expect: 100-continue, 100-continue",
        "Expect: 100-continue, x",
        "Expect: x, 100-continue",
        "Expect: 100-continue;x",
        "Expect: 100 continue",
        "Expect: 100-continu",
        "Expect: y 100-continue",
        "Expect: \"100-continue\"",
        "Expect:",
        "Expect: 100-continue\r\nExpect: 100-continue",
        "Expect: 100-continue\r\nexpect: x",
        "Expect: 100-c\u{f6}ntinue",
    ] {
        let mut client = bench.gateway.connect();
        let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = body.len();
        client.send(format!(
            "POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let answer = client.read();
        assert_eq!(answer.is(), (417, "expectation_failed".into()), "{fields}");
        client.ends();
    }
    assert_eq!(bench.origin.accepted(), 0);
}

/// Without a body there is nothing to wait for: the field goes no further.
#[test]
fn without_a_body_nothing_is_waited_for() {
    let bench = Bench::new();
    for sent in [
        "GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut client = bench.gateway.connect();
        for _ in 0..2 {
            assert_eq!(client.send(sent).read().status, 200, "{sent}");
            assert!(bench.origin.take()[0].values("expect").is_empty());
        }
    }
}

#[test]
fn continue_comes_from_the_service_and_the_body_after_it() {
    let (address, seen) = service(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\nX-A: b\r\nConnection: x\r\n\r\n");
        let mut body = [0; 4];
        let _ = stream.read_exact(&mut body);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        let _ = stream.write_all(&body);
    });
    let gateway = gateway(address);
    let mut client = gateway.connect();
    client.send(format!("{HEAD}Content-Length: 4\r\n\r\n"));
    let interim = client.read_head().expect("an interim answer");
    assert_eq!(interim.status, 100);
    assert_eq!(interim.header("x-a"), Some("b"));
    assert_eq!(interim.header("connection"), None, "§7.6.1");
    client.send("body");
    let answer = client.read();
    assert_eq!((answer.status, answer.text()), (200, "body"));
    assert_ne!(answer.header("connection"), Some("close"));
    drop(client);
    drop(gateway);
    eventually("the service is done", || seen.lock().unwrap().len() == 1);
    let sent = seen.lock().unwrap()[0].to_lowercase();
    assert!(sent.contains("expect: 100-continue\r\n"), "{sent}");
}

/// Whoever answers at once does not want the body: the connection ends with the answer, on both
/// sides, and nobody waits for what will not come.
#[test]
fn an_answer_instead_of_continue_ends_the_connection() {
    for (answer, body, status) in [
        ("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", "no", 403),
        ("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "", 417),
        ("HTTP/1.1 204 No\r\n\r\n", "", 204),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
            200,
        ),
        (
            "HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno",
            "no",
            401,
        ),
    ] {
        for framing in ["Content-Length: 5000", "Transfer-Encoding: chunked"] {
            let (address, seen) = service(move |stream| {
                let _ = stream.write_all(answer.as_bytes());
            });
            let gateway = gateway(address);
            let mut client = gateway.connect();
            client.send(format!("{HEAD}{framing}\r\n\r\n"));
            let began = Stopwatch::start();
            let got = client.read();
            assert_eq!((got.status, got.text()), (status, body), "{answer}");
            assert_eq!(got.header("connection"), Some("close"), "{answer}");
            client.ends();
            began.shows(0, 5000);
            eventually("the service's connection ends", || {
                seen.lock().unwrap().len() == 1
            });
            let sent = seen.lock().unwrap().remove(0);
            assert!(sent.ends_with("\r\n\r\n"), "no body, no last chunk: {sent}");
            let line = gateway.line(&got);
            assert_eq!(line["status_code"], status, "{line}");
            assert!(line["reason"].is_null(), "nobody is to blame: {line}");
            let open = gateway.metric("tollgate_breaker_state{upstream=\"up\"}");
            assert_eq!(open, 0);
        }
    }
}

/// A long answer is not cut because the client keeps its body.
#[test]
fn an_answer_instead_of_continue_may_take_its_time() {
    let (address, _seen) = service(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 20\r\n\r\n");
        for _ in 0..10 {
            let _ = stream.write_all(b"no");
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    let gateway = gateway(address);
    let mut client = gateway.connect();
    client.send(format!("{HEAD}Content-Length: 5\r\n\r\n"));
    assert_eq!(client.read().text(), "no".repeat(10));
    client.ends();
}

/// §10.1.1: a client need not wait.
#[test]
fn a_body_that_comes_unasked_is_taken() {
    let bench = Bench::new();
    let mut client = bench.gateway.connect();
    client.send(format!("{HEAD}Content-Length: 5\r\n\r\nhello"));
    assert_eq!(client.read().text(), "POST /a 5");
    client.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n"));
    std::thread::sleep(Duration::from_millis(50));
    client.send("5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.read().text(), "POST /a 5");
    assert_eq!(client.ask(&Req::get("/on")).text(), "GET /on 0");
}
