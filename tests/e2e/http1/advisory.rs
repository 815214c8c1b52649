//! The advisories against the proxying library that we stand on, those of HTTP/1: each shown closed
//! here, whatever the library does.

use super::super::support::*;
use super::case::{Bench, bad, chunked, counted, get, good, plain, refused};

/// RUSTSEC-2025-0037, CVE-2025-4366: the body of a request that was answered from a cache was read
/// as the next request. Here whatever is answered early is read to its end, or the connection ends.
#[test]
fn cve_2025_4366_a_body_that_nobody_read_is_no_request() {
    let origin = Origin::start();
    let config = format!(
        "identity: {{ api_keys: [{{ name: keys, file: keys.yaml }}] }}\n\
         limits: [{{ name: one, key: route, algorithm: sliding_window, rate: 1/1h }}]\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n\
         - {{ name: closed, match: {{ path: /closed }}, auth: {{ any: [keys] }}, to: up }}\n\
         - {{ name: limited, match: {{ path: /limited }}, auth: none, limits: [one], to: up }}\n\
         - {{ name: small, match: {{ path: /small }}, auth: none, max_body: 8B, to: up }}\n\
         - {{ name: read, match: {{ path: /read, methods: [GET] }}, auth: none, to: up }}\n\
         - {{ name: open, match: {{ path: /open }}, auth: none, to: up }}\n"
    );
    let keys = format!("keys:\n{}", mint::api_key("a", "key-of-a", ""));
    let gateway = Gateway::with_files(&config, &[("keys.yaml", &keys)]);
    assert_eq!(gateway.get("/limited").status, 200);
    let inner = "GET /open/inner HTTP/1.1\r\nHost: inner\r\n\r\n";
    let size = inner.len();
    for (path, status) in [
        ("/closed", 401),
        ("/limited", 429),
        ("/small", 413),
        ("/read", 405),
        ("/none", 404),
        ("/open/%2f", 400),
    ] {
        for (fields, body) in [
            (format!("Content-Length: {size}"), inner.to_owned()),
            (
                "Transfer-Encoding: chunked".into(),
                format!("{size:x}\r\n{inner}\r\n0\r\n\r\n"),
            ),
            (
                format!("Expect: 100-continue\r\nContent-Length: {size}"),
                inner.to_owned(),
            ),
        ] {
            let mut client = gateway.connect();
            client.send(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}"
            ));
            client.send(Req::get("/open/next").bytes());
            let answer = client.read();
            assert_eq!(answer.status, status, "{path} {fields}");
            match client.try_read() {
                Ok(next) => {
                    assert_ne!(answer.header("connection"), Some("close"));
                    assert_eq!(next.text(), "/next", "{path} {fields}");
                }
                Err(Broken::Closed) => assert_eq!(answer.header("connection"), Some("close")),
                Err(other) => panic!("{path} {fields}: {other:?}"),
            }
        }
    }
    assert!(origin.seen().iter().all(|s| s.target != "/inner"));
}

fn upgrading(fields: &str, rest: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {fields}\r\n\r\n{rest}")
}

/// RUSTSEC-2026-0033, CVE-2026-2833: what followed a request to upgrade was passed on unread before
/// the service had agreed. Here it is the next request, judged like any other.
#[test]
fn cve_2026_2833_an_upgrade_that_is_asked_for_is_none_yet() {
    let next = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello";
    let with_coding = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\
                       Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let section = "CVE-2026-2833";
    Bench::new().play(&[
        good(
            section,
            "without upgrade",
            format!("{}{next}", upgrading("x", "")),
            [get("/a"), get("/b")],
        ),
        good(
            section,
            "h2c",
            upgrading("h2c", next),
            [get("/a"), get("/b")],
        ),
        good(
            section,
            "with a body",
            format!("{post}{next}"),
            [counted("/a", "hello").by("GET"), get("/b")],
        ),
        good(
            section,
            "with chunks",
            with_coding,
            [chunked("/a", "hello").by("GET")],
        ),
        bad(
            section,
            "and no request behind it",
            upgrading("x", "\u{81}\u{5}hello"),
        )
        .after([get("/a")]),
        bad(
            section,
            "a bad request behind it",
            upgrading("x", "GET /b HTTP/1.1\r\nHost : b\r\n\r\n"),
        )
        .after([get("/a")]),
    ]);
    let bench = Bench::new();
    assert_eq!(
        bench
            .gateway
            .connect()
            .send(upgrading("x", ""))
            .read()
            .status,
        200
    );
    let took = bench.origin.take().remove(0);
    assert!(took.values("upgrade").is_empty() && took.values("connection").is_empty());
}

/// The same, and the service agrees to what it was not asked.
#[test]
fn cve_2026_2833_no_tunnel_opens_unasked() {
    let origin = Origin::scripted(|_| {
        Act::Raw(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nthrough".to_vec())
    });
    let gateway = Gateway::start(&open_config(&origin));
    for req in [upgrading("x", ""), upgrading("h2c", "")] {
        let mut client = gateway.connect();
        client
            .send(req)
            .send("GET /tunnelled HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read().is(), (502, "upstream_invalid".into()));
        client.ends();
    }
    assert!(
        origin
            .seen()
            .iter()
            .all(|s| s.target == "/a" && s.header("upgrade").is_none())
    );
}

/// RUSTSEC-2026-0034, CVE-2026-2835: an HTTP/1.0 request with a coding, or with a body that ends with
/// the connection, was read by one side as one request and by the other as two.
#[test]
fn cve_2026_2835_no_old_request_and_no_doubtful_coding() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let old =
        |fields: &str, body: &str| format!("POST /a HTTP/1.0\r\nHost: a\r\n{fields}\r\n{body}");
    let new = |value: &str| {
        format!("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n{body}")
    };
    let section = "CVE-2026-2835";
    let refused =
        |what: &str, sent: String| refused(section, what, sent, 505, "version_unsupported");
    Bench::new().play(&[
        good(
            section,
            "HTTP/1.1",
            new("chunked"),
            [chunked("/a", "hello")],
        ),
        refused("with a coding", old("Transfer-Encoding: chunked\r\n", body)),
        refused(
            "kept alive",
            old(
                "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
                body,
            ),
        ),
        refused(
            "with both",
            old("Content-Length: 15\r\nTransfer-Encoding: chunked\r\n", body),
        ),
        refused("with a length", old("Content-Length: 5\r\n", "hello")),
        refused("until the end", old("", "hello")),
        bad(section, "chunked, identity", new("chunked, identity")),
        bad(section, "identity", new("identity")),
        bad(
            section,
            "two fields",
            new("identity\r\nTransfer-Encoding: chunked"),
        ),
    ]);
}

/// RUSTSEC-2026-0035, CVE-2026-2836: what one host answered was kept for another. Nothing is kept
/// here; the same path on two hosts is two requests.
#[test]
fn cve_2026_2836_hosts_do_not_share_answers() {
    let origin = Origin::scripted(|seen| {
        let host = seen.header("host").unwrap_or_default().to_owned();
        Act::Answer(
            200,
            vec![("Cache-Control", "public, max-age=600".into())],
            host.into_bytes(),
        )
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    for host in ["a.example", "b.example", "a.example", "a.example:81"] {
        assert_eq!(client.ask(&Req::get("/same").host(host)).text(), host);
    }
    assert_eq!(origin.hits(), 4);
}

/// CVE-2026-105299: a client named in `Connection` what the gateway sets or relies on, and it was
/// gone. What frames the message is framed anew, what is ours is set behind it, and what nobody may
/// name is refused.
#[test]
fn cve_2026_105299_nothing_is_nominated_away() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let section = "CVE-2026-105299";
    let ill = |options: &str| bad(section, options, nominating(options, "", ""));
    Bench::new().play(&[
        good(
            section,
            "something of theirs",
            nominating("X-Own", "X-Own: 1\r\n", ""),
            [plain("POST", "/a")],
        ),
        good(
            section,
            "the length",
            nominating("Content-Length", "Content-Length: 5\r\n", "hello"),
            [chunked("/a", "hello")],
        ),
        good(
            section,
            "the coding",
            nominating("transfer-encoding", "Transfer-Encoding: chunked\r\n", body),
            [chunked("/a", "hello")],
        ),
        good(
            section,
            "both",
            nominating(
                "content-length, transfer-encoding",
                "Content-Length: 5\r\n",
                "hello",
            ),
            [chunked("/a", "hello")],
        ),
        good(
            section,
            "no length at all",
            nominating("Content-Length", "", ""),
            [plain("POST", "/a")],
        ),
        ill("Host"),
        ill("x, host"),
        ill("X-Forwarded-For"),
        ill("x-forwarded-proto, x"),
        ill("X-Forwarded-Host"),
        ill(":authority"),
        ill("\"X-Forwarded-For\""),
        ill("X-Forwarded-For\u{a0}"),
        ill("a, b, c, d, e, f, g, h, i, j"),
    ]);
}

fn nominating(options: &str, fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n{fields}\r\n{body}")
}

/// The same, of what is ours.
#[test]
fn cve_2026_105299_what_we_set_stays() {
    let bench = Bench::new();
    let ours = "X-Request-ID, traceparent, via, X-Own";
    let sent = nominating(ours, "X-Own: 1\r\nX-Request-ID: kept\r\n", "");
    assert_eq!(bench.gateway.connect().send(sent).read().status, 200);
    let took = bench.origin.take().remove(0);
    assert_eq!(took.values("x-request-id"), ["kept"]);
    for name in ["traceparent", "via", "x-forwarded-for", "x-forwarded-host"] {
        assert_eq!(took.values(name).len(), 1, "{name}");
    }
    assert!(took.values("x-own").is_empty() && took.values("connection").is_empty());
}
