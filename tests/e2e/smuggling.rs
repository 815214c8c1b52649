//! Framing that two parsers may read differently: refused, or read one way by everybody.

use super::support::*;

/// What follows a request and must never become one unseen.
const INNER: &str = "GET /closed HTTP/1.1\r\nHost: a\r\nX-User-ID: root\r\n\r\n";

const REFUSED: &[&str] = &[
    "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked;x=y",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding:\u{c}chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding : chunked",
    " Transfer-Encoding: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: gzip",
    "Content-Length: 0\r\nContent-Length: 52",
    "Content-Length: 0, 52",
    "Content-Length: +0",
    "Content-Length: -0",
    "Content-Length: 0x0",
    "Content-Length: 0 0",
    "Content-Length: ",
    "Content-Length: \u{1}0",
    "Content-Length : 0",
    "Content-Length: 18446744073709551616",
    "Content_Length: 52\r\nContent-Length: x",
    "Host: b",
    "Transfer-Encoding: chunked\u{0}",
    "\u{0}: x",
    ": x",
    "X",
];

fn gateway(origin: &Origin) -> Gateway {
    let config = format!(
        "identity: {{ api_keys: [{{ name: keys, file: keys.yaml }}] }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"] }}]\n\
         routes:\n\
         - {{ name: open, match: {{ path: /open }}, auth: none, to: up }}\n\
         - {{ name: closed, match: {{ path: /closed }}, auth: {{ any: [keys] }}, to: up }}\n"
    );
    let keys = format!("keys:\n{}", mint::api_key("a", "key-of-a", ""));
    Gateway::with_files(&config, &[("keys.yaml", &keys)])
}

#[test]
fn a_corpus_of_doubtful_framing_reaches_no_service() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    for framing in REFUSED {
        let mut client = gateway.connect();
        client.send(format!(
            "POST /open HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\n{INNER}"
        ));
        let answer = client.read();
        assert_eq!(answer.is(), (400, "bad_request".into()), "{framing:?}");
        client.ends();
    }
    assert_eq!(origin.begun(), 0);
}

#[test]
fn unusual_but_legal_framing_is_read_as_the_standard_says() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    for framing in [
        "transfer-encoding:chunked",
        "TRANSFER-ENCODING:   Chunked  ",
        "Content_Length: 9\r\nTransfer-Encoding: chunked",
    ] {
        let mut client = gateway.connect();
        client.send(format!(
            "POST /open HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\n{INNER}"
        ));
        assert_eq!(client.read().status, 200, "{framing:?}");
        assert_eq!(
            client.read().status,
            401,
            "a request of its own: {framing:?}"
        );
    }
    assert!(
        origin
            .seen()
            .iter()
            .all(|s| s.target == "/" && s.body.is_empty())
    );
}
