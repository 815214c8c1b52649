//! RFC 9112 §9: connections that persist, requests in a row, and the end of it.

use super::super::support::*;
use super::case::{Bench, bad, chunked, counted, get, good, plain, refused};

fn with(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn a_connection_persists_unless_close_is_said() {
    let last = |fields: &str| good("§9.3", fields, with(fields), [get("/a")]).last();
    let on = |fields: &str| good("§9.3", fields, with(fields), [get("/a")]);
    Bench::new().play(&[
        on(""),
        on("Connection: keep-alive\r\n"),
        on("Connection: closed\r\n"),
        on("Connection: x-close\r\n"),
        on("Connection:\r\n"),
        on("X: close\r\n"),
        last("Connection: close\r\n"),
        last("connection: Close\r\n"),
        last("Connection: x, close\r\n"),
        last("Connection: close, x\r\n"),
        last("Connection: ,\tclose ,\r\n"),
        last("Connection: keep-alive, close\r\n"),
        last("Connection: keep-alive\r\nConnection: close\r\n"),
        last("Connection: x\r\nX: y\r\nConnection: close\r\n"),
        bad(
            "§9.1",
            "an option that is no token",
            with("Connection: \"close\"\r\n"),
        ),
        bad(
            "§9.1",
            "an option with a space",
            with("Connection: x y\r\n"),
        ),
    ]);
}

/// §9.6: what is sent behind a request that says `close` is no request any more.
#[test]
fn nothing_is_served_behind_a_close() {
    let close = with("Connection: close\r\n");
    let next = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    Bench::new().play(&[
        good(
            "§9.6",
            "one more",
            format!("{}{next}", with("")),
            [get("/a"), get("/b")],
        ),
        good(
            "§9.6",
            "one too many",
            format!("{close}{next}"),
            [get("/a")],
        )
        .last(),
        good("§9.6", "garbage", format!("{close}\0\0\0"), [get("/a")]).last(),
    ]);
}

#[test]
fn requests_in_a_row_are_told_apart() {
    let one = with("");
    let post = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\n\r\nGET /inner HTTP/1.1\r\nHost: inner\r\n\r\n";
    let chunks = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                  24\r\nGET /inner HTTP/1.1\r\nHost: inner\r\n\r\n\r\n0\r\n\r\n";
    let inner = "GET /inner HTTP/1.1\r\nHost: inner\r\n\r\n";
    let head = "HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n";
    let all = format!("{one}{post}{chunks}{head}{one}");
    let served = [
        get("/a"),
        counted("/p", inner),
        chunked("/c", inner),
        plain("HEAD", "/h"),
        get("/a"),
    ];
    let bad_one = "GET /b HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n";
    let old = "GET /b HTTP/1.0\r\n\r\n";
    Bench::new().play(&[
        good("§9.3.2", "five of all kinds", &all, served.clone()),
        good("§9.3.2", "a hundred", one.repeat(100), vec![get("/a"); 100]),
        bad("§9.3.2", "a bad one behind them", format!("{all}{bad_one}")).after(served),
        bad(
            "§9.3.2",
            "a second last chunk",
            format!("{chunks}0\r\n\r\n"),
        )
        .after([chunked("/c", inner)]),
        bad(
            "§9.3.2",
            "a chunk behind the last one",
            format!("{chunks}5\r\nhello\r\n0\r\n\r\n"),
        )
        .after([chunked("/c", inner)]),
        bad("§9.3.2", "a body too long", format!("{post}({one}")).after([counted("/p", inner)]),
        bad("§9.3.2", "a body too short", post.replace("36", "35"))
            .after([counted("/p", &inner[..35])]),
        refused(
            "§9.3.2",
            "an old one behind a new one",
            format!("{one}{old}"),
            505,
            "version_unsupported",
        )
        .after([get("/a")]),
    ]);
}

/// RFC 9110 §7.6.1: what is said between a client and us is not for the service.
#[test]
fn fields_of_one_hop_end_here() {
    let bench = Bench::new();
    let fields = "Connection: keep-alive, X-Hop\r\nConnection: X-Other\r\nX-Hop: 1\r\nX-Other: 1\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n\
                  Proxy-Authenticate: x\r\nTE: trailers, deflate\r\nTrailer: X-T\r\nUpgrade: h2c\r\n\
                  HTTP2-Settings: x\r\nX-Kept: 1\r\n";
    assert_eq!(
        bench.gateway.connect().send(with(fields)).read().status,
        200
    );
    let took = bench.origin.take().remove(0);
    for gone in [
        "connection",
        "x-hop",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
    ] {
        assert!(took.values(gone).is_empty(), "{gone}");
    }
    assert_eq!(took.values("x-kept"), ["1"]);
}

/// RFC 9110 §7.6.2: an `OPTIONS` goes as far as it may.
#[test]
fn an_options_counts_its_hops() {
    let bench = Bench::new();
    let ask = |method: &str, hops: &str| {
        let req = Req::new(method, "/a").header("Max-Forwards", hops);
        let answer = bench.gateway.ask(&req);
        assert_eq!(answer.status, 200, "{method} {hops}");
        bench
            .origin
            .take()
            .pop()
            .map(|took| took.values("max-forwards").concat())
    };
    assert_eq!(ask("OPTIONS", "5").as_deref(), Some("4"));
    assert_eq!(ask("OPTIONS", "1").as_deref(), Some("0"));
    assert_eq!(ask("OPTIONS", "0"), None, "answered here");
    assert_eq!(
        ask("OPTIONS", "x").as_deref(),
        Some("x"),
        "no number is nobody's"
    );
    assert_eq!(
        ask("GET", "0").as_deref(),
        Some("0"),
        "of other methods it says nothing"
    );
}
