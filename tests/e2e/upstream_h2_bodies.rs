//! Bodies to and from upstreams over HTTP/2: who waits to go on, trailers, both ways at once.

use super::support::backend::{Asked, Authority, Backend, Reply, Speaks};
use super::support::*;
use super::upstream_h2::h2c;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;

/// A request that waits to be told to go on, as exact bytes.
fn waiting(gateway: &Gateway) -> TcpStream {
    let mut client = TcpStream::connect(gateway.address()).expect("connects");
    client.set_read_timeout(Some(patience())).unwrap();
    let head = "POST /up HTTP/1.1\r\nHost: api.example.com\r\n\
                Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    client
}

fn until(client: &mut TcpStream, end: &str) -> String {
    let (mut text, mut part) = (String::new(), [0; 1024]);
    while !text.ends_with(end) {
        let n = client.read(&mut part).expect("more to read");
        assert!(n > 0, "ended after {text:?}");
        text.push_str(std::str::from_utf8(&part[..n]).expect("ASCII"));
    }
    text
}

#[test]
fn a_client_that_waits_to_go_on_is_told_by_us() {
    let backend = Backend::scripted(Speaks::h2c(), |asked| {
        // Interim answers of the target are lost; the last one counts.
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        Reply::Interim(103, Box::new(Reply::ok(&body)))
    });
    let gateway = h2c(&backend, "");
    let mut client = waiting(&gateway);
    let told = until(&mut client, "\r\n\r\n");
    assert!(told.starts_with("HTTP/1.1 100 "), "{told}");
    client.write_all(b"data").unwrap();
    let answer = until(&mut client, "data\r\n0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let asked = backend.last();
    assert_eq!(asked.body, b"data");
    assert!(!asked.headers.contains_key("expect"));
    let ask = Req::new("GET", "/").header("Expect", "100-continue");
    let answer = gateway.ask(&ask);
    assert_eq!(
        (answer.status, answer.interim.len()),
        (200, 0),
        "nothing to wait for"
    );
}

#[test]
fn trailers_end_an_answer_in_good_order() {
    let backend = Backend::scripted(Speaks::h2c(), |_| {
        Reply::Trailers(b"all".to_vec(), vec![("grpc-status", "0")])
    });
    let gateway = h2c(&backend, "");
    let mut client = gateway.connect();
    for _ in 0..2 {
        let answer = client.ask(&Req::get("/"));
        assert_eq!((answer.status, answer.text()), (200, "all"));
    }
}

/// Eight bodies up and down at the same time, on as many connections as `most` says.
fn eight_both_ways(backend: &Backend, gateway: &Arc<Gateway>, most: usize) {
    assert_eq!(gateway.get("/").status, 200);
    let start = Arc::new(Barrier::new(8));
    let uploads: Vec<_> = (0..8_u8)
        .map(|n| {
            let (gateway, start) = (gateway.clone(), start.clone());
            thread::spawn(move || {
                let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8 ^ n).collect();
                start.wait();
                let answer = gateway.ask(&Req::post("/", body.clone()));
                assert_eq!(answer.status, 200);
                assert!(answer.body == body, "the same bytes");
            })
        })
        .collect();
    for upload in uploads {
        upload.join().expect("whole");
    }
    let made = backend.accepted();
    assert!(made <= most, "{made} connections, want at most {most}");
}

#[test]
fn bodies_flow_both_ways_at_once() {
    let echo = |asked: &Asked| Reply::Answer(200, asked.body.clone());
    let backend = Backend::scripted(Speaks::h2c(), echo);
    let gateway = Arc::new(h2c(&backend, "timeouts: { total: 60s }"));
    eight_both_ways(&backend, &gateway, 1);
    let ca = Authority::new("internal");
    for (protocol, most) in [("http2", 1), ("http1", 9)] {
        let speaks = Speaks::tls(&ca.certify(&["users.test"]), &["h2", "http/1.1"]);
        let backend = Backend::scripted(speaks, echo);
        let gateway = Gateway::with_files(
            &format!(
                "server: {{ workers: 1 }}\n\
                 upstreams: [{{ name: up, targets: [\"{backend}\"], protocol: {protocol}, \
                 timeouts: {{ total: 60s }}, tls: {{ server_name: users.test, ca: ca.pem }} }}]\n\
                 routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
            ),
            &[("ca.pem", ca.pem())],
        );
        eight_both_ways(&backend, &Arc::new(gateway), most);
    }
}
