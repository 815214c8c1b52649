//! RFC 9112 §2: messages, line ends, versions.

use super::case::{Bench, bad, counted, get, good, refused};

#[test]
fn lines_end_in_cr_lf_and_nothing_else() {
    let one = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    Bench::new().play(&[
        good(
            "§2.1",
            "a request line, fields, an empty line",
            one,
            [get("/a")],
        ),
        good("§2.1", "and a body", post, [counted("/a", "hi")]),
        bad(
            "§2.2",
            "LF behind the request line",
            "GET /a HTTP/1.1\nHost: a\r\n\r\n",
        ),
        bad(
            "§2.2",
            "LF behind a field",
            "GET /a HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        ),
        bad(
            "§2.2",
            "LF as the empty line",
            "GET /a HTTP/1.1\r\nHost: a\r\n\n",
        ),
        bad("§2.2", "LF everywhere", "GET /a HTTP/1.1\nHost: a\n\n"),
        bad(
            "§2.2",
            "CR behind the request line",
            "GET /a HTTP/1.1\rHost: a\r\n\r\n",
        ),
        bad(
            "§2.2",
            "CR behind a field",
            "GET /a HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        ),
        bad("§2.2", "CR CR LF", "GET /a HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        bad(
            "§2.2",
            "CR in a field",
            "GET /a HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
        ),
        bad(
            "§2.2",
            "CR at the end of a field",
            "GET /a HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n",
        ),
        bad("§2.2", "LF CR", "GET /a HTTP/1.1\n\rHost: a\n\r\n\r"),
        bad(
            "§2.2",
            "NUL in a field",
            "GET /a HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
        ),
        bad("§2.2", "UTF-16", "G\0E\0T\0 \0/\0 \0H\0T\0T\0P\0"),
    ]);
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let one = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    Bench::new().play(&[
        good("§2.2", "one", format!("\r\n{one}"), [get("/a")]),
        good("§2.2", "several", format!("\r\n\r\n\r\n{one}"), [get("/a")]),
        good(
            "§2.2",
            "between two",
            format!("{one}\r\n{one}"),
            [get("/a"), get("/a")],
        ),
        bad("§2.2", "LF alone", format!("\n{one}")),
        bad("§2.2", "CR alone", format!("\r{one}")),
        bad("§2.2", "LF between two", format!("{one}\n{one}")).after([get("/a")]),
        bad("§2.2", "CR between two", format!("{one}\r{one}")).after([get("/a")]),
        bad("§2.2", "NUL", format!("\0{one}")),
        bad("§2.2", "a byte order mark", format!("\u{feff}{one}")),
    ]);
}

#[test]
fn no_white_space_stands_between_request_line_and_first_field() {
    Bench::new().play(&[
        good(
            "§2.2",
            "none",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
            [get("/a")],
        ),
        bad("§2.2", "SP", "GET /a HTTP/1.1\r\n Host: a\r\n\r\n"),
        bad("§2.2", "HTAB", "GET /a HTTP/1.1\r\n\tHost: a\r\n\r\n"),
        bad(
            "§2.2",
            "a line of SP",
            "GET /a HTTP/1.1\r\n \r\nHost: a\r\n\r\n",
        ),
        bad(
            "§2.2",
            "a hidden field",
            "GET /a HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n",
        ),
        bad(
            "§2.2",
            "vertical tab",
            "GET /a HTTP/1.1\r\n\u{b}Host: a\r\n\r\n",
        ),
    ]);
}

#[test]
fn the_version_is_1_1() {
    let with = |version: &str| format!("GET /a {version}\r\nHost: a\r\n\r\n");
    let old = |version: &str| refused("§2.3", version, with(version), 505, "version_unsupported");
    let bad = |version: &str| bad("§2.3", version, with(version));
    Bench::new().play(&[
        good("§2.3", "HTTP/1.1", with("HTTP/1.1"), [get("/a")]),
        old("HTTP/1.0"),
        old("HTTP/1.2"),
        old("HTTP/0.9"),
        old("HTTP/2.0"),
        old("HTTP/3"),
        old("HTTP/01.1"),
        old("HTTP/"),
        bad("http/1.1"),
        bad("HTTP"),
        bad("HTTPS/1.1"),
        bad("ICAP/1.0"),
        bad("HTTP /1.1"),
        bad("HTTP/1.1 "),
        bad("HTTP/1.1\t"),
        bad("HTTP/1.11"),
        bad("HTTP/1.1x"),
    ]);
}

/// What cannot become a request is answered at once, not when the time for a header is over.
#[test]
fn what_is_no_http_is_refused_before_it_is_whole() {
    let bench = Bench::new();
    for text in [
        "GET /a\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "EHLO a\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "GET /a FTP/1.1\r\n",
        "{\"a\":",
    ] {
        let mut client = bench.gateway.connect();
        let answer = client.send(text).read();
        assert_eq!(answer.is(), (400, "bad_request".into()), "{text:?}");
        client.ends();
    }
    assert_eq!(bench.origin.accepted(), 0);
}
