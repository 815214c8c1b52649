//! What bare Pingora 0.9.1 was found to do when asked raw, and does not do behind our edge. One test
//! for each, or the name of the one that shows it elsewhere:
//!
//! | found | shown here by |
//! |---|---|
//! | a second last chunk behind a body that ends in an empty piece | `gateway::send::tests::an_empty_last_piece_is_no_chunk` |
//! | `Content-Length: 5, 5` goes on as it is, without its body | [`lists_and_pairs_of_lengths_do_not_go_on`] |
//! | two equal `Content-Length` go on | [`lists_and_pairs_of_lengths_do_not_go_on`] |
//! | an empty chunk-size line is taken | [`an_empty_chunk_size_is_not_taken`] |
//! | an LF inside a chunk extension is taken | [`a_line_feed_in_a_chunk_extension_is_not_taken`] |
//! | an unknown transfer coding is dropped | [`an_unknown_coding_is_not_dropped`] |
//! | requests without Host go on | [`requests_without_host_do_not_go_on`] |
//! | a Host with spaces, `/ ? # < >` or a bad port goes on | [`a_host_that_is_none_does_not_go_on`] |
//! | NUL, CTL, DEL and SP in a target are encoded and go on | [`a_target_is_not_repaired`] |
//! | TRACE goes on | [`trace_and_authority_form_do_not_go_on`] |
//! | authority-form goes on | [`trace_and_authority_form_do_not_go_on`] |
//! | methods of 10 kB go on | [`a_method_without_end_does_not_go_on`] |
//! | fields of 1 MB go on | [`a_field_without_end_does_not_go_on`] |
//! | an upstream's unasked 101 opens a tunnel | [`an_unasked_101_opens_nothing`] |
//! | response fields named by `Connection` pass | [`what_a_response_names_as_its_own_hops_does_not_pass`] |
//! | an octet a second keeps a header open | [`an_octet_now_and_then_is_no_header`] |
//! | half a request line stays open | [`half_a_request_line_does_not_stay`] |
//! | a silent connection stays open | [`a_silent_connection_does_not_stay`] |
//! | of pipelined requests one is answered | [`pipelined_requests_are_all_answered`] |
//!
//! Cookie pieces and pseudo-headers in trailers are HTTP/2's.

use super::super::support::*;
use super::case::{Bench, bad, chunked, counted, get, good, refused};
use std::time::Duration;

fn post(fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

#[test]
fn lists_and_pairs_of_lengths_do_not_go_on() {
    Bench::new().play(&[
        good(
            "§11",
            "one",
            post("Content-Length: 5", "hello"),
            [counted("/a", "hello")],
        ),
        bad("§11", "a list", post("Content-Length: 5, 5", "hello")),
        bad(
            "§11",
            "a pair",
            post("Content-Length: 5\r\nContent-Length: 5", "hello"),
        ),
    ]);
}

#[test]
fn an_empty_chunk_size_is_not_taken() {
    let body = |body: &str| post("Transfer-Encoding: chunked", body);
    Bench::new().play(&[
        good(
            "§11",
            "a size",
            body("5\r\nhello\r\n0\r\n\r\n"),
            [chunked("/a", "hello")],
        ),
        bad("§11", "none at the end", body("5\r\nhello\r\n\r\n\r\n")),
        bad("§11", "none at the start", body("\r\n\r\n")),
        bad("§11", "an extension alone", body(";a\r\n\r\n")),
    ]);
}

#[test]
fn a_line_feed_in_a_chunk_extension_is_not_taken() {
    let body = |body: &str| post("Transfer-Encoding: chunked", body);
    Bench::new().play(&[
        good(
            "§11",
            "none",
            body("5;a=b\r\nhello\r\n0\r\n\r\n"),
            [chunked("/a", "hello")],
        ),
        bad("§11", "in it", body("5;a\nb\r\nhello\r\n0\r\n\r\n")),
        bad(
            "§11",
            "in its quotes",
            body("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"),
        ),
        bad(
            "§11",
            "a chunk behind it",
            body("2;\nxx\r\n31\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n0\r\n\r\n"),
        ),
    ]);
}

#[test]
fn an_unknown_coding_is_not_dropped() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let unknown = post("Transfer-Encoding: gzip, chunked", body);
    Bench::new().play(&[
        good(
            "§11",
            "chunked",
            post("Transfer-Encoding: chunked", body),
            [chunked("/a", "hello")],
        ),
        refused("§11", "gzip, chunked", unknown, 501, "coding_unsupported"),
        bad("§11", "gzip", post("Transfer-Encoding: gzip", body)),
    ]);
}

#[test]
fn requests_without_host_do_not_go_on() {
    Bench::new().play(&[
        good(
            "§11",
            "with one",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
            [get("/a")],
        ),
        bad("§11", "1.1", "GET /a HTTP/1.1\r\n\r\n"),
        refused(
            "§11",
            "1.0",
            "GET /a HTTP/1.0\r\n\r\n",
            505,
            "version_unsupported",
        ),
    ]);
}

#[test]
fn a_host_that_is_none_does_not_go_on() {
    let host = |host: &str| format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let hosts = [
        "a b", "a/b", "a?b", "a#b", "a<b", "a>b", "a:x", "a:99999", "a:",
    ];
    let mut cases = vec![good("§11", "one", host("a:80"), [get("/a")])];
    cases.extend(hosts.map(|h| bad("§11", h, host(h))));
    Bench::new().play(&cases);
}

#[test]
fn a_target_is_not_repaired() {
    let target = |target: &str| format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let targets = ["a\0b", "a\u{1}b", "a\u{1f}b", "a\u{7f}b", "a b", "a\tb"];
    let mut cases = vec![good("§11", "a%20b", target("a%20b"), [get("/a%20b")])];
    cases.extend(targets.map(|t| bad("§11", format!("{t:?}"), target(t))));
    Bench::new().play(&cases);
}

#[test]
fn trace_and_authority_form_do_not_go_on() {
    let trace = "TRACE /a HTTP/1.1\r\nHost: a\r\n\r\n";
    Bench::new().play(&[
        good(
            "§11",
            "GET of a path",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
            [get("/a")],
        ),
        refused("§11", "TRACE", trace, 501, "method_unsupported"),
        bad(
            "§11",
            "GET of an authority",
            "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        ),
    ]);
}

#[test]
fn a_method_without_end_does_not_go_on() {
    let method = |n: usize| format!("{} /a HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(n));
    Bench::new().play(&[refused(
        "§11",
        "10 kB",
        method(10_000),
        501,
        "method_unsupported",
    )]);
}

#[test]
fn a_field_without_end_does_not_go_on() {
    let bench = Bench::new();
    let mut client = bench.gateway.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\nX: ");
    client.try_send(vec![b'x'; 1_000_000]);
    assert_eq!(client.read().is(), (431, "headers_too_large".into()));
    client.ends();
    assert_eq!(bench.origin.accepted(), 0);
}

#[test]
fn an_unasked_101_opens_nothing() {
    let origin = Origin::scripted(|_| {
        Act::Raw(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nthrough".to_vec())
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    client
        .send(Req::get("/a").bytes())
        .send("not HTTP any more\r\n\r\n");
    assert_eq!(client.read().is(), (502, "upstream_invalid".into()));
    assert_eq!(client.read().is(), (400, "bad_request".into()));
    client.ends();
    assert_eq!(origin.begun(), 1);
}

#[test]
fn what_a_response_names_as_its_own_hops_does_not_pass() {
    let origin = Origin::scripted(|_| {
        let text = "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n";
        Act::Raw(text.into())
    });
    let answer = Gateway::start(&open_config(&origin)).get("/");
    assert_eq!(
        (answer.header("x-hop"), answer.header("x-kept")),
        (None, Some("1"))
    );
}

/// A listener with little patience.
fn hasty(origin: &Origin) -> Gateway {
    let listeners = "listeners: [{ name: public, address: \"127.0.0.1:0\", header_timeout: 400ms, idle_timeout: 400ms }]";
    Gateway::start(&format!("{listeners}\n{}", open_config(origin)))
}

#[test]
fn an_octet_now_and_then_is_no_header() {
    let origin = Origin::start();
    let gateway = hasty(&origin);
    let mut client = gateway.connect();
    let began = Stopwatch::start();
    for byte in "GET /a HTTP/1.1\r\nHost: a\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyy".bytes() {
        if !client.try_send([byte]) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.read().is(), (408, "header_timeout".into()));
    client.ends();
    began.shows(390, 10_000);
    assert_eq!(origin.begun(), 0);
}

#[test]
fn half_a_request_line_does_not_stay() {
    let origin = Origin::start();
    let gateway = hasty(&origin);
    let mut client = gateway.connect();
    let began = Stopwatch::start();
    assert_eq!(
        client.send("GET /a HT").read().is(),
        (408, "header_timeout".into())
    );
    client.ends();
    began.shows(390, 10_000);
}

#[test]
fn a_silent_connection_does_not_stay() {
    let origin = Origin::start();
    let gateway = hasty(&origin);
    let began = Stopwatch::start();
    gateway.connect().ends();
    let mut client = gateway.connect();
    client.send("\r\n\r\n").ends();
    let mut client = gateway.connect();
    assert_eq!(client.ask(&Req::get("/a")).status, 200);
    client.ends();
    began.shows(1100, 20_000);
}

#[test]
fn pipelined_requests_are_all_answered() {
    let one = |n: u32| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    let all: String = (0..20).map(one).collect();
    let served: Vec<_> = (0..20).map(|n| get(&format!("/{n}"))).collect();
    Bench::new().play(&[good("§11", "twenty", all, served)]);
}
