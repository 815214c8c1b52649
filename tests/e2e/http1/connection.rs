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
        bad("§9.1", "an option that is no token", with("Connection: \"close\"\r\n")),
        bad("§9.1", "an option with a space", with("Connection: x y\r\n")),
    ]);
}

/// §9.6: what is sent behind a request that says `close` is no request any more.
#[test]
fn nothing_is_served_behind_a_close() {
    let close = with("Connection: close\r\n");
    let next = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    Bench::new().play(&[
        good("§9.6", "one more", format!("{}{next}", with("")), [get("/a"), get("/b")]),
        good("§9.6", "one too many", format!("{close}{next}"), [get("/a")]).last(),
        good("§9.6", "garbage", format!("{close}\0\0\0"), [get("/a")]).last(),
    ]);
}

#[test]
fn requests_in_a_row_are_told_apart() {
    let one = with("");
    let post = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\nGET /inner HTTP/1.1\r\nHost: inner\r\n\r\n";
    let chunks = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                  23\r\nGET /inner HTTP/1.1\r\nHost: inner\r\n\r\n\r\n0\r\n\r\n";
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
        bad("§9.3.2", "a body too long", format!("{post}x{one}")).after([counted("/p", inner)]),
        bad("§9.3.2", "a body too short", post.replace("35", "34")).after([counted("/p", &inner[..34])]),
        refused("§9.3.2", "an old one behind a new one", format!("{one}{old}"), 505, "version_unsupported")
            .after([get("/a")]),
    ]);
}

/// §9.3: a body that nobody needed is read, or the connection closed; it is never the next request.
#[test]
fn the_body_of_a_request_that_is_refused_early_is_no_request() {
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
            ("Transfer-Encoding: chunked".into(), format!("{size:x}\r\n{inner}\r\n0\r\n\r\n")),
            (format!("Expect: 100-continue\r\nContent-Length: {size}"), inner.to_owned()),
        ] {
            let mut client = gateway.connect();
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}"));
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
