//! How connections come in and how long they may stay: caps, the PROXY protocol, redirects to
//! https, requests a connection, slow bodies and slow readers.

use super::support::*;
use std::net::SocketAddr;
use std::time::Duration;

fn gateway(origin: &Origin, listener: &str, more: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: [{{ name: public, address: \"127.0.0.1:0\", {listener} }}]\n{more}\n{}",
        open_config(origin)
    ))
}

const NONE: &str = "trusted_proxies: []";

#[track_caller]
fn refused(gateway: &Gateway, cause: &str, want: u64) {
    let name = "tollgate_connections_refused_total";
    gateway.counts(
        &format!("{name}{{cause=\"{cause}\",listener=\"public\"}}"),
        want,
    );
}

#[test]
fn one_connection_too_many_is_closed_and_the_others_serve() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "max_connections: 3", NONE);
    let mut held: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut held {
        assert_eq!(client.ask(&Req::get("/")).status, 200);
    }
    for _ in 0..5 {
        gateway.connect().is_closed();
    }
    refused(&gateway, "full", 5);
    for client in &mut held {
        assert_eq!(client.ask(&Req::get("/")).status, 200, "who is in stays in");
    }
    drop(held.pop());
    eventually("a place", || {
        let mut client = gateway.connect();
        client.try_send(Req::get("/").bytes());
        client.try_read().is_ok_and(|a| a.status == 200)
    });
}

#[test]
fn an_address_has_its_share_and_a_trusted_proxy_has_all() {
    let origin = Origin::start();
    let caps = "max_connections_per_address: 2";
    let gateway_ = gateway(&origin, caps, NONE);
    let _held: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = gateway_.connect();
            assert_eq!(client.ask(&Req::get("/")).status, 200);
            client
        })
        .collect();
    gateway_.connect().is_closed();
    refused(&gateway_, "address", 1);

    let behind = gateway(&origin, caps, "trusted_proxies: [127.0.0.0/8]");
    let mut all: Vec<Client> = (0..10).map(|_| behind.connect()).collect();
    for client in &mut all {
        assert_eq!(client.ask(&Req::get("/")).status, 200);
    }
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "max_requests_per_connection: 3", NONE);
    let mut client = gateway.connect();
    for _ in 0..2 {
        let answer = client.ask(&Req::get("/"));
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("keep-alive")),
            "{}",
            answer.head
        );
    }
    let last = client.ask(&Req::get("/"));
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    client.ends();
}

#[test]
fn a_refusal_counts_as_a_request_of_its_connection() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "max_requests_per_connection: 2", NONE);
    let mut client = gateway.connect();
    let bad = Req::get("/%2f");
    assert_eq!(client.ask(&bad).status, 400);
    let last = client.ask(&bad);
    assert_eq!(
        (last.status, last.header("connection")),
        (400, Some("close"))
    );
    client.ends();
}

// ---- slow clients

#[test]
fn a_body_that_trickles_is_408_and_nobody_elses_fault() {
    let origin = Origin::start();
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{origin}\"], timeouts: {{ total: 1h }}, circuit_breaker: {{ consecutive_failures: 1 }} }}]\n\
         routes: [{{ name: r, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    eventually("an answer", || {
        client.try_send("x");
        gateway.advance_s(1);
        client.has_answer()
    });
    let answer = client.read();
    assert_eq!(answer.is(), (408, "body_timeout".into()));
    client.ends();
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0);
}

#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let body = vec![b'x'; 32 * 1024 * 1024];
    let origin = Origin::scripted(move |_| Act::ok(body.clone()));
    let gateway = gateway(&origin, "write_timeout: 300ms", NONE);
    let mut client = gateway.connect();
    client.send(Req::get("/").bytes());
    let line = gateway.line_where(|line| line["path"] == "/");
    assert_eq!(line["reason"], "client_too_slow", "{line}");
    assert_eq!(line["status_code"], 200, "the answer had begun");
    let short = client.try_read().expect_err("it is cut");
    assert!(matches!(short, Broken::Reset | Broken::Cut(_)), "{short:?}");
    assert_eq!(gateway.metric("tollgate_breaker_state{upstream=\"up\"}"), 0);
    gateway.counts("tollgate_connections{listener=\"public\"}", 0);
}

#[test]
fn a_client_that_reads_slowly_is_served() {
    let body = vec![b'x'; 8 * 1024 * 1024];
    let origin = Origin::scripted(move |_| Act::ok(body.clone()));
    let gateway = gateway(&origin, "write_timeout: 2s", NONE);
    let mut client = gateway.connect();
    client.send(Req::get("/").bytes());
    let answer = client.read_slowly(64 * 1024, Duration::from_millis(10));
    assert_eq!(answer.body.len(), 8 * 1024 * 1024);
}

// ---- redirects

#[test]
fn a_plain_listener_sends_its_clients_to_https() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "redirect_to_https: {}", NONE);
    let mut client = gateway.connect();
    let answer = client.ask(&Req::get("/a/b?c=d&e").host("api.example.com:8080"));
    assert_eq!(answer.status, 308);
    assert_eq!(
        answer.header("location"),
        Some("https://api.example.com/a/b?c=d&e")
    );
    let answer = client.ask(&Req::post("/x", "body").host("[::1]"));
    assert_eq!(answer.header("location"), Some("https://[::1]/x"));
    assert_eq!(
        client.ask(&Req::get("/health")).status,
        200,
        "probes are answered"
    );
    assert_eq!(origin.begun(), 0);
}

#[test]
fn a_redirect_can_name_a_port_and_another_status() {
    let origin = Origin::start();
    let redirect = "redirect_to_https: { port: 8443, status: 301 }";
    let gateway = gateway(&origin, redirect, NONE);
    let answer = gateway.get("/");
    assert_eq!(answer.status, 301);
    assert_eq!(
        answer.header("location"),
        Some("https://api.example.com:8443/")
    );
    let answer = gateway.ask(&Req::get("/%0d%0aSet-Cookie:%20a"));
    let location = answer.header("location").unwrap_or_default();
    assert!(!location.contains(['\r', '\n']) && answer.header("set-cookie").is_none());
}

// ---- the PROXY protocol

const PROXIED: &str = "proxy_protocol: { networks: [127.0.0.0/8], timeout: 300ms }";

/// Version 2, a TCP connection over IPv4.
fn v2(source: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(v4) = source else {
        panic!("want IPv4")
    };
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    out.extend(v4.ip().octets());
    out.extend([10, 0, 0, 1]);
    out.extend(v4.port().to_be_bytes());
    out.extend(443u16.to_be_bytes());
    out
}

#[test]
fn the_proxy_header_says_who_the_client_is() {
    let origin = Origin::start();
    let gateway = gateway(&origin, PROXIED, NONE);
    let v1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\n".to_vec();
    for header in [v1, v2(([203, 0, 113, 7], 51234).into())] {
        for piece in [1, 7, header.len()] {
            let mut client = gateway.connect();
            header.chunks(piece).for_each(|part| {
                client.send(part);
            });
            assert_eq!(client.ask(&Req::get("/")).status, 200);
            assert_eq!(origin.last().header("x-forwarded-for"), Some("203.0.113.7"));
            assert_eq!(client.ask(&Req::get("/again")).status, 200);
        }
        let mut client = gateway.connect();
        client.send([header, Req::get("/one").bytes()].concat());
        assert_eq!(client.read().text(), "/one", "all in one packet");
    }
}

#[test]
fn without_a_proxy_header_there_is_no_connection() {
    let origin = Origin::start();
    let gateway = gateway(&origin, PROXIED, NONE);
    let bad: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 99999\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n",
        b"\x16\x03\x01",
    ];
    for bytes in bad {
        let mut client = gateway.connect();
        client.try_send(bytes);
        client.is_closed();
    }
    let watch = Stopwatch::start();
    let mut silent = gateway.connect();
    silent.send("PROXY TCP4 203");
    silent.is_closed();
    watch.shows(250, 3000);
    refused(&gateway, "proxy_protocol", 5);
    assert_eq!(origin.begun(), 0);
}

#[test]
fn nobody_else_may_say_who_the_client_is() {
    let origin = Origin::start();
    let theirs = "proxy_protocol: { networks: [192.0.2.0/24] }";
    let gateway = gateway(&origin, theirs, NONE);
    let mut client = gateway.connect();
    client.try_send("PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\n");
    client.is_closed();
    refused(&gateway, "proxy_protocol", 1);
}

#[test]
fn where_it_is_not_asked_for_a_proxy_header_is_no_request() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "", NONE);
    let mut client = gateway.connect();
    client.send("PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read().status, 400);
    assert_eq!(origin.begun(), 0);
}

#[test]
fn each_client_behind_a_balancer_has_its_own_share() {
    let origin = Origin::start();
    let listener = format!("{PROXIED}, max_connections_per_address: 1");
    let gateway = gateway(&origin, &listener, NONE);
    let open = |client: &str| {
        let mut connection = gateway.connect();
        connection.send(format!("PROXY TCP4 {client} 10.0.0.1 1 2\r\n"));
        connection
    };
    let mut one = open("203.0.113.1");
    assert_eq!(one.ask(&Req::get("/")).status, 200);
    assert_eq!(open("203.0.113.2").ask(&Req::get("/")).status, 200);
    open("203.0.113.1").is_closed();
    assert_eq!(one.ask(&Req::get("/")).status, 200);
}
