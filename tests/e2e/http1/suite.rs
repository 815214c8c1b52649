//! What public suites of HTTP/1.1 ask besides the rules that have files of their own here: scanners for
//! desynchronisation, probes of compliance, collections of malformed input. Told by their facts.

use super::case::{Bench, Delivery, bad, chunked, counted, get, good, plain, refused};

fn with(line: &str, fields: &str, rest: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{rest}")
}

/// Bodies where a service may not look for one.
#[test]
fn bodies_of_methods_that_have_none() {
    let five = "Content-Length: 5\r\n";
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", inner.len());
    Bench::new().play(&[
        good(
            "RFC 9110 §9.3.1",
            "GET",
            with("GET /a", five, "hello"),
            [counted("/a", "hello").by("GET")],
        ),
        good(
            "RFC 9110 §9.3.2",
            "HEAD",
            with("HEAD /a", five, "hello"),
            [counted("/a", "hello").by("HEAD")],
        ),
        good(
            "RFC 9110 §9.3.5",
            "DELETE",
            with("DELETE /a", five, "hello"),
            [counted("/a", "hello").by("DELETE")],
        ),
        good(
            "RFC 9110 §9.3.7",
            "OPTIONS",
            with("OPTIONS /a", five, "hello"),
            [counted("/a", "hello").by("OPTIONS")],
        ),
        good(
            "RFC 9110 §9.3.1",
            "a request in a GET",
            with("GET /a", &length, inner),
            [counted("/a", inner).by("GET")],
        ),
        good(
            "RFC 9110 §9.3.1",
            "chunks in a GET",
            with("GET /a", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            [chunked("/a", "").by("GET")],
        ),
        refused(
            "RFC 9110 §9.3.8",
            "TRACE",
            with("TRACE /a", five, "hello"),
            501,
            "method_unsupported",
        ),
    ]);
}

/// Targets that are decoded by some and not by others.
#[test]
fn targets_with_a_second_meaning() {
    let bench = Bench::new();
    for target in [
        "/a%00",
        "/a%0d%0aX:%20y",
        "/a%0A",
        "/a%2fb",
        "/a%5cb",
        "/a\\b",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a/..%2fb",
    ] {
        let mut client = bench.gateway.connect();
        let answer = client.send(with(&format!("GET {target}"), "", "")).read();
        assert_eq!(answer.is().0, 400, "{target}");
        assert!(bench.origin.take().is_empty(), "{target}");
    }
    bench.deliver(
        &[
            bad(
                "RFC 3986 §2",
                "UTF-8 that is longer than need be",
                b"GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            bad(
                "RFC 3986 §2",
                "UTF-8",
                "GET /\u{fc} HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            good(
                "RFC 3986 §3.3",
                "dots",
                with("GET /a/./b/../c", "", ""),
                [get("/a/c")],
            ),
        ],
        Delivery::Whole,
    );
}

#[test]
fn garbage() {
    let name = format!("{}: y\r\n", "X".repeat(20_000));
    let large = refused(
        "§5.4",
        "a long name",
        with("GET /a", &name, ""),
        431,
        "headers_too_large",
    );
    let many = refused(
        "§5.4",
        "10,000 fields",
        with("GET /a", &"X: y\r\n".repeat(10_000), ""),
        431,
        "headers_too_large",
    );
    let cases = [
        large,
        many,
        bad("§2.2", "white space", "   \r\n\r\n"),
        bad("§2.2", "white space behind an empty line", "\r\n \r\n"),
        bad(
            "§2.2",
            "a line before",
            "Extra lineGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        bad(
            "§2.2",
            "a response",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        bad("§2.2", "octets", (0..=255u8).collect::<Vec<_>>()),
        bad(
            "§2.2",
            "octets from the end",
            (0..=255u8).rev().collect::<Vec<_>>(),
        ),
        bad("§2.2", "DEL", "\u{7f}".repeat(100)),
        bad("§2.2", "braces", "{\"method\":\"GET\"}\r\n\r\n"),
        refused(
            "RFC 9113 §3.4",
            "the preface of HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            505,
            "version_unsupported",
        ),
    ];
    Bench::new().deliver(&cases, Delivery::Whole);
}

/// A part of a request is no request, and waits.
#[test]
fn fragments_wait_for_the_rest() {
    let whole = "POST /a HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nContent-Length: 5\r\n\r\nhello";
    let bench = Bench::new();
    let mut clients: Vec<_> = (1..whole.len())
        .map(|at| {
            let mut client = bench.gateway.connect();
            client.send(&whole[..at]);
            (at, client)
        })
        .collect();
    // What was sent first has been read by now; none of it was answered.
    assert_eq!(bench.gateway.get("/between").status, 200);
    assert_eq!(bench.origin.take().len(), 1);
    for (at, client) in &mut clients {
        assert_eq!(
            client.send(&whole[*at..]).read().text(),
            "POST /a 5",
            "{at}"
        );
    }
    let took = bench.origin.take();
    assert_eq!(took.len(), whole.len() - 1);
    assert!(took.iter().all(|t| t.body == b"hello"));
}

/// Requests that differ in one thing each from a plain one, and are as good.
#[test]
fn what_is_unusual_and_legal() {
    let fields = |fields: &str| with("GET /a", fields, "");
    let one = [get("/a")];
    Bench::new().play(&[
        good("§5", "an empty value", fields("X-Empty: \r\n"), one.clone()),
        good("§5", "a name of one letter", fields("x:y\r\n"), one.clone()),
        good(
            "§5",
            "the same name often",
            fields("X: 1\r\nx: 2\r\nX: 3\r\n"),
            one.clone(),
        ),
        good(
            "RFC 9110 §5.5",
            "obs-text",
            fields("X: \u{fc}\r\n"),
            one.clone(),
        ),
        good(
            "RFC 9110 §14.2",
            "ranges that overlap",
            fields("Range: bytes=0-,0-,0-,0-\r\n"),
            one.clone(),
        ),
        good(
            "RFC 9110 §9.1",
            "a method nobody registered",
            with("FROB /a", "", ""),
            [plain("FROB", "/a")],
        ),
        good(
            "§3.2",
            "Host last",
            "GET /a HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n",
            one.clone(),
        ),
        good("§3.2", "HOST", "GET /a HTTP/1.1\r\nHOST:a\r\n\r\n", one),
    ]);
}
