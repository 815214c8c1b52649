//! RFC 9112 §5: header fields; their syntax, folding, number and size.

use super::case::{Bench, Case, bad, counted, get, good, refused};

fn with(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

fn ill(section: &'static str, fields: &str) -> Case {
    bad(section, fields, with(fields))
}

fn fine(section: &'static str, fields: &str) -> Case {
    good(section, fields, with(fields), [get("/a")])
}

#[test]
fn a_name_a_colon_a_value() {
    Bench::new().play(&[
        fine("§5", "X: y"),
        fine("§5", "X:y"),
        fine("§5", "X:"),
        fine("§5", "X: \t y z \t"),
        fine("§5", "X: y: z"),
        fine("§5", "!#$%&'*+-.^`|~: y"),
        ill("§5", "X"),
        ill("§5", "X y"),
        ill("§5", ": y"),
        ill("§5", "X(: y"),
        ill("§5", "X,Y: z"),
        ill("§5", "\"X\": y"),
        ill("§5", "X/Y: z"),
        ill("§5", "X@Y: z"),
        ill("§5", "{X}: y"),
        ill("§5", "X\\: y"),
        ill("§5", "É: y"),
        ill("§5", "GET /b HTTP/1.1"),
    ]);
}

#[test]
fn no_white_space_stands_before_the_colon() {
    Bench::new().play(&[
        fine("§5.1", "X: y"),
        ill("§5.1", "X : y"),
        ill("§5.1", "X\t: y"),
        ill("§5.1", "X Y: z"),
        ill("§5.1", "X \t : y"),
        ill("§5.1", "X\u{b}: y"),
        ill("§5.1", "X\u{a0}: y"),
        ill("§5.1", "Content-Length : 0"),
        ill("§5.1", "Transfer-Encoding : chunked"),
        ill("§5.1", "Connection : close"),
    ]);
}

#[test]
fn nothing_is_folded() {
    Bench::new().play(&[
        fine("§5.2", "X: y\r\nZ: w"),
        ill("§5.2", "X: y\r\n z"),
        ill("§5.2", "X: y\r\n\tz"),
        ill("§5.2", "X:\r\n y"),
        ill("§5.2", "X: y\r\n "),
        ill("§5.2", "X: y\r\n \r\n z"),
        ill("§5.2", "X: y\r\n Content-Length: 5"),
        ill("§5.2", "Content-Length: \r\n 0"),
        ill("§5.2", "Transfer-Encoding:\r\n chunked"),
    ]);
}

/// What a field holds goes on byte for byte, or not at all.
#[test]
fn values_go_on_as_they_came() {
    let bench = Bench::new();
    for value in [
        "y",
        "a  b",
        "a\tb",
        "\"q\\\"\"",
        "caf\u{e9} \u{1f980}",
        "a: b",
        "=,;",
    ] {
        let mut client = bench.gateway.connect();
        client.send(with(&format!("X-Kept: {value}")));
        assert_eq!(client.read().status, 200, "{value}");
        let took = bench.origin.take().remove(0);
        assert_eq!(took.values("x-kept"), [value]);
    }
    assert_eq!(bench.origin.faults(), [""; 0]);
}

/// A name with `_` is another one for many services; none comes to them.
#[test]
fn names_that_differ_by_an_underscore_do_not_go_on() {
    let bench = Bench::new();
    let sent = "POST /a HTTP/1.1\r\nHost: a\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\n\
                Content-Length: 2\r\n\r\nhi";
    bench.play(&[good("§5", "Content_Length", sent, [counted("/a", "hi")])]);
    bench.gateway.connect().send(sent).read();
    let took = bench.origin.take().remove(0);
    assert!(
        took.fields.iter().all(|(name, _)| !name.contains('_')),
        "{took:?}"
    );
}

#[test]
fn fields_are_bounded_in_number_and_size() {
    // Host is the hundredth.
    let most = vec!["X: y"; 99].join("\r\n");
    let many = vec!["X: y"; 100].join("\r\n");
    let large = format!("X: {}", "y".repeat(16 * 1024));
    let huge = format!("X: {}", "y".repeat(1024 * 1024));
    let is =
        |what: &str, fields: &str| refused("§5.4", what, with(fields), 431, "headers_too_large");
    let bench = Bench::new();
    bench.play(&[
        good("§5.4", "100 fields", with(&most), [get("/a")]),
        is("101 fields", &many),
    ]);
    let cases = [is("16 KiB in one", &large), is("1 MiB in one", &huge)];
    bench.deliver(&cases, super::case::Delivery::Whole);
    let mut client = bench.gateway.connect();
    client.send(format!(
        "GET /a HTTP/1.1\r\nHost: a\r\nX: {}",
        "y".repeat(20_000)
    ));
    let answer = client.read();
    assert_eq!(
        answer.is(),
        (431, "headers_too_large".into()),
        "before its end has come"
    );
}
