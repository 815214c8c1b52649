//! RFC 9112 §7: the chunked coding. What a client sends is taken apart to the letter and put
//! together anew: sizes plain, extensions and trailers gone.

use super::super::support::*;
use super::case::{Bench, Case, bad, chunked, get, good};

const HEAD: &str = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn fine(section: &'static str, body: &str, text: &str) -> Case {
    good(
        section,
        format!("{body:?}"),
        format!("{HEAD}{body}"),
        [chunked("/a", text)],
    )
}

fn ill(section: &'static str, body: &str) -> Case {
    bad(section, format!("{body:?}"), format!("{HEAD}{body}"))
}

#[test]
fn chunks_and_a_last_one() {
    let next = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    let whole = format!("{HEAD}5\r\nhello\r\n0\r\n\r\n{next}");
    Bench::new().play(&[
        fine("§7.1", "0\r\n\r\n", ""),
        fine("§7.1", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        fine("§7.1", "1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"),
        fine(
            "§7.1",
            "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "01234567890123456789",
        ),
        fine("§7.1", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"),
        fine("§7.1", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        good(
            "§7.1",
            "and the next request",
            whole,
            [chunked("/a", "hello"), get("/b")],
        ),
        ill("§7.1", "5\r\nhello0\r\n\r\n"),
        ill("§7.1", "5\r\nhello\n0\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r0\r\n\r\n"),
        ill("§7.1", "5\r\nhello!\r\n0\r\n\r\n"),
        ill("§7.1", "6\r\nhello\r\n0\r\n\r\n"),
        ill("§7.1", "4\r\nhello\r\n0\r\n\r\n"),
        ill("§7.1", "5\r\nhello \r\n0\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ill("§7.1", "5hello\r\n0\r\n\r\n"),
        ill("§7.1", "hello"),
    ]);
}

/// What some readers take for the size 5.
const NO_SIZES: &[&str] = &[
    "",
    "0x5",
    "0X5",
    "x5",
    "+5",
    "-5",
    "-1",
    " 5",
    "\t5",
    "5 ",
    "5\t",
    "5  ",
    "5,",
    "5.",
    "5.0",
    "5h",
    "g",
    "five",
    "\"5\"",
    "'5'",
    "5 5",
    "5_",
    "_5",
    "#5",
    "$5",
    "%35",
    "5\0",
    "\x005",
    "5\u{1}",
    "\u{b}5",
    "5\u{b}",
    "5\u{c}",
    "5\u{7f}",
    "5\u{85}",
    "5\u{a0}",
    "５",
    "٥",
    "\u{feff}5",
    "00000000000000005",
    "0000000000000000000000000000000000000005",
    "10000000000000005",
    "100000000000000000000000000000005",
    "8000000000000000",
    "7fffffffffffffff5",
    "fffffffffffffffb",
    "ffffffffffffffff",
    "-fffffffffffffffb",
    "5=a",
    "5:a",
    "5a=;b;",
];

#[test]
fn a_size_is_hexadecimal_digits() {
    let tail = "\r\nhello\r\n0\r\n\r\n";
    let mut cases = vec![
        fine("§7.1", &format!("05{tail}"), "hello"),
        fine("§7.1", &format!("0000000000000005{tail}"), "hello"),
        fine("§7.1", "5\r\nhello\r\n000\r\n\r\n", "hello"),
        ill("§7.1", "5\r\nhello\r\n00000000000000000\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n-0\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n0x0\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n 0\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n0 \r\n\r\n"),
    ];
    for size in NO_SIZES {
        cases.push(ill("§7.1", &format!("{size}{tail}")));
    }
    Bench::new().play(&cases);
}

/// A size that fits a number and no memory: taken as the number it is, and no byte of it held.
#[test]
fn a_large_size_is_read_as_such() {
    let bench = Bench::new();
    let mut client = bench.gateway.connect();
    client.send(format!("{HEAD}7fffffffffffffff\r\nhello"));
    client.finish();
    assert!(!matches!(client.try_read(), Ok(Answer { status: 200, .. })));
    assert!(bench.origin.take().is_empty());
    assert_eq!(bench.gateway.get("/on").status, 200);
}

#[test]
fn lines_of_chunks_end_in_cr_lf() {
    Bench::new().play(&[
        fine("§7.1", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        ill("§7.1", "5\nhello\r\n0\r\n\r\n"),
        ill("§7.1", "5\rhello\r\n0\r\n\r\n"),
        ill("§7.1", "5\r\rhello\r\n0\r\n\r\n"),
        ill("§7.1", "5\n\rhello\r\n0\r\n\r\n"),
        ill("§7.1", "5\r\n\nhello\r\n0\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n0\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n0\r\n\n"),
        ill("§7.1", "5\r\nhello\r\n0\n\n"),
        ill("§7.1", "5\r\nhello\r\n0\r\r\n\r\n"),
        ill("§7.1", "5\r\nhello\r\n0\r\n\r\r\n"),
        ill("§7.1", "5\r\nhello\r\n0\r\n\rX"),
        ill("§7.1", "\n5\r\nhello\r\n0\r\n\r\n"),
        ill("§7.1", "\r\n5\r\nhello\r\n0\r\n\r\n"),
    ]);
}

/// Extensions by the grammar.
const EXTENSIONS: &[&str] = &[
    ";a",
    ";a=b",
    ";a;b;c=d",
    "; a",
    " ;a",
    "\t;\ta\t=\tb",
    ";a=\"b\"",
    ";a=\"\"",
    ";a=\"b;c\"",
    ";a=\"\\\"\"",
    ";a=\"0\\\\\"",
    ";a = \"b\" ; c",
    ";5",
    ";a=5",
    ";a=\"caf\u{e9}\"",
    ";a=\"\t\"",
];

/// What is none, and what hides the end of its line.
const NO_EXTENSIONS: &[&str] = &[
    ";",
    ";;a",
    ";a;",
    ";=b",
    ";a=",
    ";a=;b",
    ";a=b=c",
    ";a b",
    ";a=b c",
    ";a=\"b",
    ";a=b\"",
    ";a=\"b\"c",
    ";a=\"b\\",
    ";a ",
    ";a=b ",
    ";a=\"b\" ",
    ";a,b",
    ";(a)",
    ";a=(b)",
    ";a=caf\u{e9}",
    ";\u{e9}",
    ";a\0b",
    ";a=\"\0\"",
    ";a=\"\u{1}\"",
    ";a\u{7f}",
    ";a=\"\u{7f}\"",
    ";a\n",
    ";a\nb",
    ";a=\"\n\"",
    ";a=\"\\\n\"",
    ";a=\"\r\n\"",
    ";a\rb",
    ";a=\"\r\"",
    "\n;a",
    ";\n",
    ";\na",
    ";a=\n",
];

#[test]
fn extensions_are_read_and_dropped() {
    let tail = "\r\nhello\r\n0\r\n\r\n";
    let mut cases = Vec::new();
    for ext in EXTENSIONS {
        cases.push(fine("§7.1.1", &format!("5{ext}{tail}"), "hello"));
    }
    cases.push(fine("§7.1.1", "5\r\nhello\r\n0;a=b\r\n\r\n", "hello"));
    for ext in NO_EXTENSIONS {
        cases.push(ill("§7.1.1", &format!("5{ext}{tail}")));
    }
    let long = format!("5;{}{tail}", "a".repeat(8 * 1024));
    cases.push(bad(
        "§7.1.1",
        "more than anybody needs",
        format!("{HEAD}{long}"),
    ));
    Bench::new().play(&cases);
}

/// Fields by the grammar, those among them that no trailer may hold.
const TRAILERS: &[&str] = &[
    "X: y\r\n",
    "X:\r\n",
    "X: y\r\nZ: w\r\n",
    "X: \t y \t\r\n",
    "X: caf\u{e9}\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 100\r\nContent-Length: 5, 6\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Host: b\r\n",
    "Host: b\r\nHost: c\r\n",
    "Connection: close\r\n",
    "Connection: X-User-ID\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "X-User-ID: root\r\n",
    "X-Forwarded-For: 1.2.3.4\r\n",
    "Authorization: Bearer x\r\n",
    "Trailer: X\r\n",
    "TE: trailers\r\n",
    "Via: 1.1 x\r\n",
];

/// What is no field.
const NO_TRAILERS: &[&str] = &[
    "X\r\n",
    "X y\r\n",
    ": y\r\n",
    "X : y\r\n",
    "X\t: y\r\n",
    " X: y\r\n",
    "\tX: y\r\n",
    "X: y\r\n z\r\n",
    "X: y\r\n\tz\r\n",
    "X: y\n",
    "X: y\rz\r\n",
    "X: y\r\r\n",
    "X: y\0\r\n",
    "X: \u{1}\r\n",
    "X: \u{7f}\r\n",
    "X(: y\r\n",
    "\u{e9}: y\r\n",
    "GET /b HTTP/1.1\r\n",
    "GET /b HTTP/1.1\r\nHost: a\r\n",
    "\n",
    "X: y\n\n",
    "5\r\nworld\r\n0\r\n",
    "0\r\n",
];

/// RFC 9110 §6.5.1: no field that frames, routes or names anything is ever taken from a trailer.
/// Here none is taken at all.
#[test]
fn trailers_are_read_and_dropped() {
    let with = |trailers: &str| format!("5\r\nhello\r\n0\r\n{trailers}\r\n");
    let mut cases = Vec::new();
    for trailers in TRAILERS {
        cases.push(fine("§7.1.2", &with(trailers), "hello"));
    }
    for trailers in NO_TRAILERS {
        cases.push(ill("§7.1.2", &with(trailers)));
    }
    let long = with(&format!("X: {}\r\n", "y".repeat(8 * 1024)));
    cases.push(bad(
        "§7.1.2",
        "more than anybody needs",
        format!("{HEAD}{long}"),
    ));
    let many = with(&"X: y\r\n".repeat(3000));
    cases.push(bad(
        "§7.1.2",
        "more of them than anybody needs",
        format!("{HEAD}{many}"),
    ));
    Bench::new().play(&cases);
}

#[test]
fn nothing_of_a_trailer_comes_to_a_service() {
    let bench = Bench::new();
    let mut client = bench.gateway.connect();
    client.send(format!(
        "{HEAD}5\r\nhello\r\n0\r\nX-User-ID: root\r\nX-Sent: 1\r\n\r\n"
    ));
    assert_eq!(client.read().status, 200);
    let took = bench.origin.take().remove(0);
    assert!(took.values("x-user-id").is_empty() && took.values("x-sent").is_empty());
    assert!(took.values("trailer").is_empty());
}

/// §7: the coding belongs to the connection; a service gets it made anew, in whole chunks.
#[test]
fn a_body_of_many_small_chunks_comes_through() {
    let bench = Bench::new();
    let body = "1;x=y\r\nz\r\n".repeat(1000) + "0\r\n\r\n";
    bench.play(&[good(
        "§7",
        "1000 chunks",
        format!("{HEAD}{body}"),
        [chunked("/a", &"z".repeat(1000))],
    )]);
}
