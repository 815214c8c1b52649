//! RFC 9110 §7.6.3: `Via` in both directions, and requests that come round in a loop.

use super::super::support::*;
use super::case::Bench;
use std::net::TcpListener;

fn named() -> Bench {
    Bench::with("server: { workers: 1, via: edge-1 }\n")
}

fn vias(answer: &Answer) -> Vec<&str> {
    let fields = answer.headers.iter();
    let fields = fields.filter(|(name, _)| name.eq_ignore_ascii_case("via"));
    fields.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn messages_say_that_they_have_been_here() {
    let bench = named();
    let answer = bench.gateway.get("/");
    assert_eq!(vias(&answer), ["1.1 edge-1"]);
    assert_eq!(bench.origin.take()[0].values("via"), ["1.1 edge-1"]);
    let req = Req::get("/").header("Via", "1.0 fred, 1.1 edge-2 (a, b)");
    assert_eq!(bench.gateway.ask(&req).status, 200);
    let told = bench.origin.take()[0].values("via");
    assert_eq!(
        told,
        ["1.0 fred, 1.1 edge-2 (a, b)", "1.1 edge-1"],
        "in order"
    );
}

#[test]
fn an_answer_tells_in_which_version_it_came() {
    for (answer, told) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            &["1.1 edge-1"][..],
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            &["1.0 edge-1"],
        ),
        ("HTTP/1.0 200 OK\r\n\r\n", &["1.0 edge-1"]),
        (
            "HTTP/1.1 200 OK\r\nVia: 1.0 fred\r\nContent-Length: 0\r\n\r\n",
            &["1.0 fred", "1.1 edge-1"],
        ),
        (
            "HTTP/1.1 200 OK\r\nVia: 1.0 fred\r\nConnection: Via\r\nContent-Length: 0\r\n\r\n",
            &["1.1 edge-1"],
        ),
    ] {
        let origin = Origin::scripted(move |_| Act::RawThenClose(answer.into()));
        let config = format!(
            "server: {{ workers: 1, via: edge-1 }}\n{}",
            open_config(&origin)
        );
        let gateway = Gateway::start(&config);
        let got = gateway.get("/");
        assert_eq!(vias(&got), told, "{answer:?}");
        assert!(got.head.starts_with("HTTP/1.1 200"), "§2.3: {}", got.head);
    }
}

#[test]
fn what_has_been_here_does_not_come_in_again() {
    let bench = named();
    for via in [
        "1.1 edge-1",
        "1.1 EDGE-1",
        "1.0 fred, HTTP/2.0 edge-1 (x), 1.1 last",
    ] {
        for req in [
            Req::get("/").header("Via", via),
            Req::get("/").header("Via", "1.1 other").header("Via", via),
            Req::get("/").header("Via", via).header("Connection", "Via"),
        ] {
            let answer = bench.gateway.ask(&req);
            assert_eq!(answer.is(), (502, "proxy_loop".into()), "{req:?}");
        }
    }
    assert_eq!(bench.origin.accepted(), 0);
    for via in [
        "1.1 edge-10",
        "1.1 fred (edge-1)",
        "1.1 fred (1.1 edge-1)",
        "edge-1",
        "",
    ] {
        let answer = bench.gateway.ask(&Req::get("/").header("Via", via));
        assert_eq!(answer.status, 200, "{via}");
    }
    let answer = bench
        .gateway
        .ask(&Req::get("/").header("Connection", "Via"));
    assert_eq!(answer.status, 200);
    let told = bench.origin.take().pop().unwrap();
    assert_eq!(
        told.values("via"),
        ["1.1 edge-1"],
        "cannot be nominated away"
    );
    bench
        .gateway
        .counts("tollgate_refusals_total{reason=\"proxy_loop\"}", 9);
}

/// A gateway that is its own upstream.
#[test]
fn a_real_loop_is_broken_the_first_time_round() {
    let free = TcpListener::bind("127.201.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let gateway = Gateway::start(&format!(
        "listeners: [{{ name: public, address: \"{address}\" }}]\n\
         upstreams: [{{ name: up, targets: [\"{address}\"] }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    let answer = gateway.get("/");
    assert_eq!(answer.is(), (502, "proxy_loop".into()));
    assert_eq!(vias(&answer).len(), 1, "passed on once");
    gateway.counts("tollgate_refusals_total{reason=\"proxy_loop\"}", 1);
    eventually("both lines", || gateway.lines().len() == 2);
}

#[test]
fn gateways_in_a_row_are_told_apart_without_a_name() {
    let inner = Bench::new();
    let address = inner.gateway.address();
    let outer = Gateway::start(&format!(
        "upstreams: [{{ name: up, targets: [\"{address}\"] }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    ));
    let (one, other) = (outer.get("/"), outer.get("/"));
    assert_eq!((one.status, other.status), (200, 200));
    assert_eq!(vias(&one), vias(&other), "a name is kept");
    let names: Vec<String> = inner.origin.take()[0].values("via");
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
    for name in names {
        let id = name.strip_prefix("1.1 tollgate-").expect("ours");
        assert!(
            id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()),
            "{name}"
        );
    }
}
