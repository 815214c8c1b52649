//! Framing that two parsers may read differently: refused, or read one way by everybody.

use super::http1::case::{Bench, Delivery, chunked, doubtful, good};
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

/// Spellings of the field that only one of two readers may take for it.
const CODINGS: &[&str] = &[
    "Transfer-Encoding: chunked",
    "transfer-encoding: CHUNKED",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: x chunked",
    "Transfer-Encoding: chunked x",
    "Transfer-Encoding: chunked, x",
    "Transfer-Encoding: x, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;q=0.5",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: chunked\u{b}",
    "Transfer-Encoding: \u{c}chunked",
    "Transfer-Encoding: chunked\u{0}",
    "Transfer-Encoding: \u{1}chunked",
    "Transfer-Encoding: \u{a0}chunked",
    "Transfer-Encoding: \u{ff43}hunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: x\r\n chunked",
    "Transfer-Encoding: chunked\r\n ,x",
    "Transfer-Encoding:\n chunked",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding: chunked\n",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\r\n\tTransfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: deflate, gzip",
    "Transfer-Encoding:",
    "Transfer-Encoding\u{0}: chunked",
    "Transfer Encoding: chunked",
    "Transfer\u{2010}Encoding: chunked",
    "\"Transfer-Encoding\": chunked",
    "Transfer-Encoding:: chunked",
    "Transfer-Encoding; chunked",
    "Transfer-Encoding=chunked",
];

const LENGTHS: &[&str] = &[
    "Content-Length: 0",
    "Content-Length: 4",
    "Content-Length: 5",
    "Content-Length: 60",
    "Content-Length : 5",
    "Content-Length: +5",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 0\r\nContent-Length: 5",
];

/// A body that ends at once for whoever reads chunks, and holds another request for the others.
const TWO_WAYS: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: smuggled\r\n\r\n";

/// Every spelling of a coding before and behind every length: CL.TE and TE.CL.
#[test]
fn no_coding_stands_beside_a_length() {
    let mut cases = Vec::new();
    for coding in CODINGS {
        for length in LENGTHS {
            for fields in [
                format!("{coding}\r\n{length}"),
                format!("{length}\r\n{coding}"),
            ] {
                let sent = format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{TWO_WAYS}");
                cases.push(doubtful("§6.3 (3)", format!("{fields:?}"), sent));
            }
        }
    }
    assert_eq!(cases.len(), 800);
    Bench::new().deliver(&cases, Delivery::Whole);
}

/// Every spelling beside every other: TE.TE.
#[test]
fn no_coding_stands_beside_another() {
    let mut cases = Vec::new();
    for one in CODINGS {
        for other in CODINGS {
            let sent = format!("POST /a HTTP/1.1\r\nHost: a\r\n{one}\r\n{other}\r\n\r\n{TWO_WAYS}");
            cases.push(doubtful("§6.1", format!("{one:?} {other:?}"), sent));
        }
    }
    assert_eq!(cases.len(), CODINGS.len() * CODINGS.len());
    Bench::new().deliver(&cases, Delivery::Whole);
}

/// Each spelling by itself, however it is cut up: as the standard says, or not at all.
#[test]
fn a_coding_is_spelt_one_way() {
    let case = |coding: &&str| {
        let what = format!("{coding:?}");
        let sent = format!("POST /a HTTP/1.1\r\nHost: a\r\n{coding}\r\n\r\n0\r\n\r\n");
        match coding
            .trim_end_matches([' ', '\t'])
            .to_lowercase()
            .replace('\t', " ")
            .replace(": ", ":")
            .as_str()
        {
            "transfer-encoding:chunked" => good("§6.1", what, sent, [chunked("/a", "")]),
            _ => doubtful("§6.1", what, sent),
        }
    };
    let cases: Vec<_> = CODINGS.iter().map(case).collect();
    Bench::new().play(&cases);
}
