//! RFC 9112 §6: how long a request's body is.

use super::super::support::*;
use super::case::{Bench, Case, bad, chunked, counted, doubtful, get, good, plain, refused};

fn with(fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

/// The length that everybody would like to read differently.
fn length(value: &str) -> Case {
    let fields = format!("Content-Length: {value}");
    bad("§6.3 (5)", format!("{value:?}"), with(&fields, "hello"))
}

/// Lengths that two readers read differently, or not at all.
const NOT_ONE_NUMBER: &[&str] = &[
    "",
    "5, 5",
    "5,5",
    "5,",
    ",5",
    "5, 6",
    "+5",
    "-5",
    "-0",
    "+0",
    "0x5",
    "0X5",
    "0b101",
    "0o5",
    "5.0",
    "5.",
    "5e0",
    "5E0",
    "5 5",
    "5\t5",
    "5_0",
    "5h",
    "h5",
    "\"5\"",
    "'5'",
    "5;",
    "five",
    "０",
    "٥",
    "5\u{a0}",
    "\u{85}5",
    "\u{1}5",
    "5\u{1}",
    "5\0",
    "\u{b}5",
    "\u{c}5",
    "NaN",
    "infinity",
    "null",
    "1_0",
    "5\u{7f}",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551621",
    "99999999999999999999999999999999999999",
    "4294967301x",
];

#[test]
fn a_length_is_one_number() {
    let five = |spelling: &str| {
        let sent = with(spelling, "hello");
        good("§6.2", spelling, sent, [counted("/a", "hello")])
    };
    let on_get = "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let mut cases = vec![
        five("Content-Length: 5"),
        five("content-length:5"),
        five("CONTENT-LENGTH: \t5 \t"),
        five("Content-Length: 005"),
        five("Content-Length: 00000000000000000000000000005"),
        good(
            "§6.2",
            "0",
            with("Content-Length: 0", ""),
            [counted("/a", "")],
        ),
        good(
            "§6.2",
            "on a GET",
            on_get,
            [counted("/a", "hello").by("GET")],
        ),
        bad(
            "§6.3 (5)",
            "twice the same",
            with("Content-Length: 5\r\nContent-Length: 5", "hello"),
        ),
        bad(
            "§6.3 (5)",
            "two",
            with("Content-Length: 5\r\nContent-Length: 6", "hello!"),
        ),
        bad(
            "§6.3 (5)",
            "a good one and a bad one",
            with("Content-Length: 5\r\nContent-Length: x", "hello"),
        ),
        bad(
            "§6.3 (5)",
            "an empty one first",
            with("Content-Length:\r\nContent-Length: 5", "hello"),
        ),
        bad(
            "§5.1",
            "white space before the colon",
            with("Content-Length : 5", "hello"),
        ),
        bad("§5.2", "folded", with("Content-Length:\r\n 5", "hello")),
    ];
    cases.extend(NOT_ONE_NUMBER.iter().map(|l| length(l)));
    Bench::new().play(&cases);
}

/// A number that fits is no fault of framing; whether it may be so much is the route's to say.
#[test]
fn a_length_beyond_the_routes_is_told_from_a_bad_one() {
    let sent = with("Content-Length: 4294967301", "hello");
    let large = refused("§6.2", "2^32 + 5", sent, 413, "body_too_large");
    Bench::new().play(&[large]);
}

#[test]
fn without_length_and_coding_there_is_no_body() {
    let post = "POST /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let next = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    Bench::new().play(&[
        good("§6.3 (7)", "POST", post, [plain("POST", "/a")]),
        good(
            "§6.3 (7)",
            "and the next",
            format!("{post}{next}"),
            [plain("POST", "/a"), get("/b")],
        ),
        bad("§6.3 (7)", "what would be a body", format!("{post}a=b&c=d"))
            .after([plain("POST", "/a")]),
        bad(
            "§6.3 (7)",
            "with a type",
            with("Content-Type: application/json", "{}"),
        )
        .after([plain("POST", "/a")]),
    ]);
}

#[test]
fn a_coding_and_a_length_are_one_too_many() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    Bench::new().play(&[
        good(
            "§6.1",
            "a coding",
            with("Transfer-Encoding: chunked", body),
            [chunked("/a", "hello")],
        ),
        good(
            "§6.1",
            "a length",
            with("Content-Length: 5", "hello"),
            [counted("/a", "hello")],
        ),
        bad(
            "§6.3 (3)",
            "TE, CL",
            with("Transfer-Encoding: chunked\r\nContent-Length: 15", body),
        ),
        bad(
            "§6.3 (3)",
            "CL, TE",
            with("Content-Length: 15\r\nTransfer-Encoding: chunked", body),
        ),
        bad(
            "§6.3 (3)",
            "CL 0, TE",
            with("Content-Length: 0\r\nTransfer-Encoding: chunked", body),
        ),
        bad(
            "§6.3 (3)",
            "CL 5, TE",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked", body),
        ),
        bad(
            "§6.3 (3)",
            "far apart",
            with(
                "Content-Length: 5\r\nX: y\r\nZ: w\r\nTransfer-Encoding: chunked",
                body,
            ),
        ),
        doubtful(
            "§6.3 (3)",
            "with a coding nobody knows",
            with("Content-Length: 5\r\nTransfer-Encoding: x", body),
        ),
    ]);
}

#[test]
fn the_only_coding_is_chunked() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let coding = |value: &str| with(&format!("Transfer-Encoding: {value}"), body);
    let fine = |value: &str| good("§6.1", value, coding(value), [chunked("/a", "hello")]);
    let ill = |value: &str| bad("§6.3 (4)", format!("{value:?}"), coding(value));
    let unknown = |value: &str| refused("§6.1", value, coding(value), 501, "coding_unsupported");
    let mut cases = vec![
        fine("chunked"),
        fine("Chunked"),
        fine("CHUNKED"),
        fine("\tchunked \t"),
        unknown("gzip, chunked"),
        unknown("gzip,chunked"),
        unknown("identity, chunked"),
        unknown("x-y, deflate, chunked"),
    ];
    let ill_ones = [
        "",
        "gzip",
        "identity",
        "chunked, gzip",
        "chunked, identity",
        "chunked,",
        "chunked, chunked",
        "chunked,chunked",
        "gzip, chunked, chunked",
        "chunked;q=1",
        "chunked;",
        "chunked ;x",
        "\"chunked\"",
        "'chunked'",
        "chunkedx",
        "xchunked",
        "x chunked",
        "chunked x",
        "chunk",
        "chun ked",
        "chunked\0",
        "chunked\u{a0}",
        "\u{b}chunked",
        "chunked\u{c}",
        "chunked\u{1}",
        "\u{2003}chunked",
        "ｃhunked",
        "chunKed\u{7f}",
        "chu\u{17f}nked",
        "null",
        "0",
        "trailers",
        "gzip;q=1, chunked",
        "ch\u{fc}nked, chunked",
    ];
    cases.extend(ill_ones.map(ill));
    Bench::new().play(&cases);
}

#[test]
fn an_old_request_has_no_coding() {
    let old = "POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let new = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    Bench::new().play(&[
        good("§6.1", "HTTP/1.1", new, [chunked("/a", "")]),
        refused("§6.1", "HTTP/1.0", old, 505, "version_unsupported"),
    ]);
}

/// §8: a body that is not all there is no request, wherever it stops.
#[test]
fn what_ends_early_is_no_request() {
    let bench = Bench::new();
    for sent in [
        with("Content-Length: 10", "hello"),
        with("Content-Length: 10", ""),
        with("Transfer-Encoding: chunked", "5\r\nhel"),
        with("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        with("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n"),
        with("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX: y\r\n"),
        with("Transfer-Encoding: chunked", ""),
    ] {
        let mut client = bench.gateway.connect();
        client.send(&sent).finish();
        let answer = client.try_read();
        let served = matches!(answer, Ok(Answer { status: 200, .. }));
        assert!(!served, "{sent:?}: {answer:?}");
        assert!(bench.origin.take().is_empty(), "{sent:?}");
    }
    assert_eq!(bench.gateway.get("/on").status, 200);
    assert_eq!(bench.origin.faults(), [""; 0]);
}
