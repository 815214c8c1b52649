//! The front door: framing refusals, limits of a header, keep-alive, pipelining, closing.

use super::support::*;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use std::sync::Arc;
use std::time::Duration;
use tollgate::edge::accept::{Edge, Socket};
use tollgate::edge::connection::Counsel;
use tollgate::edge::open::Entrance;
use tollgate::exchange::admission::Caps;
use tollgate::exchange::listener::{Listener, Patience, Terms};

const SMALL: &str = "listeners: [{ name: public, address: \"127.0.0.1:0\", header_timeout: 300ms, \
     idle_timeout: 400ms, max_header_bytes: 1KiB, max_headers: 8, max_uri_bytes: 100B }]\n";

fn small(origin: &Origin) -> Gateway {
    Gateway::start(&format!("{SMALL}{}", open_config(origin)))
}

/// Sends the bytes on a connection of their own; the gateway must answer and close in good order.
#[track_caller]
fn refused(gateway: &Gateway, bytes: &str, status: u16, code: &str) -> Answer {
    let mut client = gateway.connect();
    client.send(bytes);
    let answer = client.read();
    assert_eq!(answer.is(), (status, code.to_owned()), "{bytes:?}");
    assert_eq!(answer.header("connection"), Some("close"), "{bytes:?}");
    client.ends();
    let line = gateway.line(&answer);
    assert_eq!(line["reason"], code, "{line}");
    assert_eq!(line["status_code"], status, "{line}");
    answer
}

#[test]
fn what_is_not_http_is_refused_and_told_like_any_refusal() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let cases = [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(),
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET / HTTP/1.1\nHost: a\n\n".into(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}".into(),
        post("Content-Length: 1\r\nTransfer-Encoding: chunked"),
        post("Content-Length: 1\r\nContent-Length: 1"),
        post("Content-Length: -1"),
        post("Transfer-Encoding: gzip"),
        post("Transfer-Encoding : chunked"),
        post("X: a\r\n b"),
    ];
    for case in &cases {
        let answer = refused(&gateway, case, 400, "bad_request");
        let detail = answer.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            detail.starts_with("Bad request: "),
            "says what is wrong: {detail}"
        );
    }
    let count = cases.len() as u64;
    gateway.counts("tollgate_refusals_total{reason=\"bad_request\"}", count);
    gateway.counts("tollgate_front_refusals_total{listener=\"public\"}", count);
    assert_eq!(origin.begun(), 0, "nothing of it reaches an origin");
}

#[test]
fn versions_and_methods_that_are_not_served() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    for (line, status, code) in [
        ("GET / HTTP/1.0", 505, "version_unsupported"),
        ("GET / HTTP/2.0", 505, "version_unsupported"),
        ("PRI * HTTP/2.0", 505, "version_unsupported"),
        ("TRACE / HTTP/1.1", 501, "method_unsupported"),
        ("CONNECT a:1 HTTP/1.1", 501, "method_unsupported"),
    ] {
        let text = format!("{line}\r\nHost: a:1\r\n\r\n");
        refused(&gateway, &text, status, code);
    }
    assert_eq!(origin.begun(), 0, "nothing of it reaches an origin");
}

#[test]
fn headers_have_limits_of_bytes_fields_and_target() {
    let origin = Origin::start();
    let gateway = small(&origin);
    let long = "a".repeat(101);
    let uri = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(&gateway, &uri, 414, "uri_too_long");
    refused(
        &gateway,
        &format!("GET /{}", "a".repeat(200)),
        414,
        "uri_too_long",
    );
    let big = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "b".repeat(1000)
    );
    refused(&gateway, &big, 431, "headers_too_large");
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(8));
    refused(&gateway, &many, 431, "headers_too_large");
    assert_eq!(origin.begun(), 0);
    let fits = format!("/{}", "a".repeat(99));
    assert_eq!(gateway.get(&fits).status, 200);
}

#[test]
fn a_header_has_one_deadline_however_it_drips() {
    let origin = Origin::start();
    let gateway = small(&origin);
    let began = Stopwatch::start();
    refused(
        &gateway,
        "GET / HTTP/1.1\r\nHost: a\r\nX: ",
        408,
        "header_timeout",
    );
    began.shows(290, 5000);

    let mut client = gateway.connect();
    let began = Stopwatch::start();
    for byte in "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: abcdefgh".chars() {
        if began.passed() > Duration::from_secs(5) || !client.try_send(byte.to_string()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        client.read().is(),
        (408, "header_timeout".into()),
        "progress buys no time"
    );
    assert_eq!(origin.begun(), 0);
}

#[test]
fn a_header_may_come_in_pieces_and_behind_an_empty_line() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    for byte in "\r\nGET /pieces HTTP/1.1\r\nHost: a\r\n\r\n".chars() {
        client.send(byte.to_string());
    }
    assert_eq!(client.read().text(), "/pieces");
    client.send("\r\nGET /again HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read().text(), "/again", "RFC 9112 §2.2");
}

#[test]
fn a_connection_serves_many_requests_until_the_client_is_done() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    for n in 0..20 {
        let answer = client.ask(&Req::get(&format!("/{n}")));
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("/{n}").as_str())
        );
    }
    let refused = client.ask(&Req::get("/%2f"));
    assert_eq!(refused.is(), (400, "ambiguous_path".into()));
    assert_eq!(
        client.ask(&Req::get("/on")).text(),
        "/on",
        "a refusal does not end it"
    );
    let last = client.ask(&Req::get("/last").header("Connection", "close"));
    assert_eq!(last.header("connection"), Some("close"));
    client.ends();
    assert_eq!(
        origin.accepted(),
        1,
        "the connection to the origin is reused"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order_a_chunked_post_among_them() {
    let origin = Origin::scripted(|seen| {
        Act::ok(format!(
            "{} {} {}",
            seen.method,
            seen.target,
            seen.body.len()
        ))
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nGET /\r\nf;x=y\r\n HTTP/1.1\r\n\r\n12\r\n0\r\nTrailer: x\r\n\r\n\
         POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n0123456\
         GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    for want in ["GET /1 0", "POST /2 20", "POST /3 7", "GET /4 0"] {
        assert_eq!(client.read().text(), want);
    }
    let bodies: Vec<Vec<u8>> = origin.seen().into_iter().map(|s| s.body).collect();
    assert_eq!(bodies[1], b"GET / HTTP/1.1\r\n\r\n12");
    assert_eq!(bodies[2], b"0123456");
}

#[test]
fn a_refused_upload_still_reads_its_answer() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let body = vec![b'x'; 512 * 1024];
    for head in [
        "POST /%00 HTTP/1.1\r\nHost: a\r\nContent-Length: 524288\r\n\r\n",
        "BAD / HTTP/1.0\r\nHost: a\r\nContent-Length: 524288\r\n\r\n",
    ] {
        let mut client = gateway.connect();
        client.send(head);
        client.send(&body);
        let answer = client.read();
        assert!((400..600).contains(&answer.status));
        assert!(!answer.body.is_empty());
        match client.try_read() {
            Err(Broken::Closed) => (),
            other => panic!("want a close in good order, got {other:?}"),
        }
    }
}

#[test]
fn the_body_of_a_refused_request_is_never_read_as_a_request() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = gateway.connect();
    let post = Req::post("/%00", smuggled).bytes();
    client.send(&post).send(Req::get("/next").bytes());
    assert_eq!(client.read().status, 400);
    assert_eq!(client.read().text(), "/next", "a small body is skipped");
    let chunked = "POST /%00 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{chunked}23\r\n{smuggled}\r\n0\r\n\r\n"));
    client.send(Req::get("/next").bytes());
    assert_eq!(client.read().status, 400);
    match client.try_read() {
        Ok(answer) => assert_eq!(answer.text(), "/next"),
        Err(Broken::Closed) => (),
        Err(other) => panic!("{other:?}"),
    }
    assert!(origin.seen().iter().all(|s| s.target != "/smuggled"));
}

#[test]
fn broken_chunks_are_the_clients_fault_and_reach_no_origin_whole() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    for body in [
        "5\nhello\n0\n\n",
        "zz\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\r\n0\r\n\n",
    ] {
        let mut client = gateway.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ));
        let answer = client.read();
        assert_eq!(answer.is(), (400, "bad_request".into()), "{body:?}");
        client.ends();
    }
    assert_eq!(origin.hits(), 0);
    let state = gateway.metric("tollgate_breaker_state{upstream=\"up\"}");
    assert_eq!(state, 0, "not held against the upstream");
}

#[test]
fn idle_connections_are_closed_in_good_order() {
    let origin = Origin::start();
    let gateway = small(&origin);
    let began = Stopwatch::start();
    gateway.connect().ends();
    began.shows(390, 5000);
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Req::get("/")).status, 200);
    let began = Stopwatch::start();
    client.ends();
    began.shows(390, 5000);
    assert!(
        gateway.raw_lines().lines().count() == 1,
        "an idle connection is no request"
    );
}

#[test]
fn the_time_to_be_idle_is_not_the_time_of_a_request() {
    let origin = Origin::scripted(|seen| {
        Act::Trickle(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole".to_vec(),
            4,
            Duration::from_millis(250 + seen.n as u64),
        )
    });
    let gateway = small(&origin);
    assert_eq!(gateway.get("/").text(), "whole");
}

#[test]
fn an_expectation_is_met_with_continue() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    std::thread::sleep(Duration::from_millis(50));
    client.send("body");
    assert_eq!(client.read().status, 200);
    assert_eq!(origin.last().body, b"body");
}

#[test]
fn absolute_form_is_served_and_forwarded_as_a_path() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let answer = gateway.get("http://api.example.com/a/b?c=http://x/");
    assert_eq!(answer.text(), "/a/b?c=http://x/");
    assert_eq!(gateway.get("http://api.example.com").text(), "/");
    assert_eq!(gateway.get("http://api.example.com?q").text(), "/?q");
}

#[test]
fn answers_without_a_body_are_framed_as_such() {
    let origin = Origin::scripted(|seen| match seen.target.as_str() {
        "/204" => Act::status(204),
        "/304" => Act::status(304),
        _ => Act::ok("hello"),
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    let head = client.ask(&Req::new("HEAD", "/x"));
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("5"))
    );
    assert_eq!(client.ask(&Req::get("/204")).status, 204);
    assert_eq!(client.ask(&Req::get("/304")).status, 304);
    let refused = client.ask(&Req::new("HEAD", "/%00"));
    assert_eq!(refused.status, 400);
    assert_eq!(
        client.ask(&Req::get("/on")).text(),
        "hello",
        "still in step"
    );
}

/// Pingora answers what its own parser refuses by itself: no reason, no access line, and the header
/// in its error. It did so for a raw `"` in a query; nothing may get that far.
#[test]
fn whatever_byte_a_header_holds_the_answer_is_ours() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let places = [
        ("G", "T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET /x", " HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET /x?y", "z HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET http://a", "/x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX", "Y: z\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y", "z\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: ", "\r\n\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0",
            "\r\n\r\n0123456789",
        ),
    ];
    for byte in 0..=255u8 {
        for (before, after) in places {
            let mut client = gateway.connect();
            client.send([before.as_bytes(), &[byte], after.as_bytes()].concat());
            let answer = client.try_read();
            let ours = answer
                .as_ref()
                .is_ok_and(|a| a.header("x-request-id").is_some());
            assert!(ours, "{byte:#x} {before:?}: {answer:?}");
        }
    }
}

/// Opens one more listener on the edge of a gateway that runs.
fn open(gateway: &Gateway, edge: &Edge, name: &str) -> (Arc<Listener>, std::net::SocketAddr) {
    let socket = Socket::bind(([127, 0, 0, 1], 0).into()).expect("binds");
    let metrics = gateway.shared().metrics.listener(name);
    let (terms, caps) = (Terms::default(), Caps::default());
    let listener = Arc::new(Listener::new(name, metrics, terms, caps));
    let entrance = Arc::new(Entrance::plain(listener.clone()));
    let shares = edge.share(&socket).expect("shared");
    edge.open(shares, &entrance, None);
    (listener, socket.address().expect("TCP"))
}

#[test]
fn a_listener_is_added_and_one_closes_while_others_serve() {
    let origin = Origin::start();
    let gateway = Gateway::start(&open_config(&origin));
    let shared = gateway.shared();
    let counsel = Counsel {
        refuse: Arc::new(|_, _| panic!("each of these is a request")),
        tell: Arc::new(|_, _| ()),
        judge: None,
    };
    let conf = Arc::new(ServerConf::default());
    let edge = Edge::start("more", 2, &shared.clock, &counsel, || {
        let shared = shared.clone();
        Arc::new(http_proxy(&conf, tollgate::gateway::Gateway { shared }))
    });
    let edge = edge.expect("starts");
    let (first, a) = open(&gateway, &edge, "first");
    let mut at_a = Client::open(a);
    assert_eq!(at_a.ask(&Req::get("/a")).text(), "/a");

    let (second, b) = open(&gateway, &edge, "second");
    let mut at_b = Client::open(b);
    assert_eq!(at_b.ask(&Req::get("/b")).text(), "/b");
    assert_eq!(at_a.ask(&Req::get("/a2")).text(), "/a2", "still served");
    assert_eq!((first.active(), second.active()), (1, 1));

    let gate = Gate::new();
    let wait = gate.clone();
    origin.script(move |seen| match seen.target.as_str() {
        "/held" => Act::At(wait.clone(), Box::new(Act::ok("held"))),
        target => Act::ok(target),
    });
    let mut held = Client::open(a);
    held.send(Req::get("/held").bytes());
    eventually("a request in flight", || {
        origin.seen().iter().any(|s| s.target == "/held")
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let patience = Patience {
        idle_ms: 0,
        max_ms: 60_000,
    };
    let closing = edge.close(&first, shared.clock.now(), patience);
    runtime.expect("a runtime").block_on(closing);
    assert!(std::net::TcpStream::connect(a).is_err(), "it is closed");
    at_a.ends();
    assert_eq!(at_b.ask(&Req::get("/b2")).text(), "/b2", "kept alive");
    assert_eq!(Client::open(b).ask(&Req::get("/b3")).text(), "/b3");
    assert_eq!(gateway.get("/c").text(), "/c");
    gate.open();
    let answer = held.read();
    assert_eq!((answer.status, answer.text()), (200, "held"));
    held.ends();
    eventually("nobody is left", || first.active() == 0);
}
