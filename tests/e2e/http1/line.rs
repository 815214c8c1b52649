//! RFC 9112 §3: the request line, the four forms of a target, and the Host they must agree with.

use super::case::{Bench, Case, bad, get, good, plain, refused};

fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

fn ill(section: &'static str, text: &str) -> Case {
    bad(section, text, line(text))
}

#[test]
fn three_words_with_one_space_between() {
    Bench::new().play(&[
        good("§3", "GET /a", line("GET /a HTTP/1.1"), [get("/a")]),
        ill("§3", "GET  /a HTTP/1.1"),
        ill("§3", "GET /a  HTTP/1.1"),
        ill("§3", " GET /a HTTP/1.1"),
        ill("§3", "GET\t/a HTTP/1.1"),
        ill("§3", "GET /a\tHTTP/1.1"),
        ill("§3", "GET\u{b}/a HTTP/1.1"),
        ill("§3", "GET\u{a0}/a HTTP/1.1"),
        ill("§3", "GET /a"),
        ill("§3", "GET"),
        ill("§3", "GET HTTP/1.1"),
        ill("§3", "GET /a b HTTP/1.1"),
        ill("§3", "GET /a HTTP/1.1 HTTP/1.1"),
        ill("§3", "GET /a HTTP/1.1 GET /b HTTP/1.1"),
        ill("§3", "/a HTTP/1.1"),
        ill("§3", "HTTP/1.1 200 OK"),
    ]);
}

#[test]
fn a_method_is_a_token_and_not_a_long_one() {
    let long = "A".repeat(33);
    let longest = "A".repeat(32);
    let with = |method: &str| line(&format!("{method} /a HTTP/1.1"));
    let unknown =
        |method: &str, sent: String| refused("§3.1", method, sent, 501, "method_unsupported");
    let connect = "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned();
    Bench::new().play(&[
        good("§3.1", "PATCH", with("PATCH"), [plain("PATCH", "/a")]),
        good("§3.1", "HEAD", with("HEAD"), [plain("HEAD", "/a")]),
        good(
            "§3.1",
            "in lower case, another one",
            with("get"),
            [plain("get", "/a")],
        ),
        good(
            "§3.1",
            "M-SEARCH",
            with("M-SEARCH"),
            [plain("M-SEARCH", "/a")],
        ),
        good(
            "§3.1",
            "32 letters",
            with(&longest),
            [plain(&longest, "/a")],
        ),
        unknown("33 letters", with(&long)),
        unknown("10,000 letters", with(&"A".repeat(10_000))),
        unknown("TRACE", with("TRACE")),
        unknown("CONNECT", connect),
        ill("§3.1", "GE(T /a HTTP/1.1"),
        ill("§3.1", "GET: /a HTTP/1.1"),
        ill("§3.1", "G\0ET /a HTTP/1.1"),
        ill("§3.1", "GÉT /a HTTP/1.1"),
        ill("§3.1", "\"GET\" /a HTTP/1.1"),
    ]);
}

#[test]
fn a_target_has_no_byte_that_a_uri_may_not_hold() {
    let long = format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024));
    let whole = "GET /a/b?c=%20d&e=/f?g HTTP/1.1";
    Bench::new().play(&[
        good(
            "§3.2",
            "path and query",
            line(whole),
            [get("/a/b?c=%20d&e=/f?g")],
        ),
        good(
            "§3.2",
            "sub-delims",
            line("GET /!$&'()*+,=:@~-._ HTTP/1.1"),
            [get("/!$&'()*+,=:@~-._")],
        ),
        ill("§3.2", "GET /a#b HTTP/1.1"),
        ill("§3.2", "GET /a\"b HTTP/1.1"),
        ill("§3.2", "GET /<a> HTTP/1.1"),
        ill("§3.2", "GET /a`b HTTP/1.1"),
        ill("§3.2", "GET /\0 HTTP/1.1"),
        ill("§3.2", "GET /\u{7f} HTTP/1.1"),
        ill("§3.2", "GET /é HTTP/1.1"),
        ill("§3.2", "GET /\u{1} HTTP/1.1"),
        refused(
            "§3",
            "longer than the listener takes",
            line(&long),
            414,
            "uri_too_long",
        ),
    ]);
}

#[test]
fn the_forms_of_a_target() {
    let absolute = |uri: &str, host: &str| format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let both = |section, uri: &str, host: &str| {
        bad(section, format!("{uri} with {host}"), absolute(uri, host))
    };
    Bench::new().play(&[
        good("§3.2.1", "origin form", absolute("/a", "a"), [get("/a")]),
        good(
            "§3.2.2",
            "absolute form",
            absolute("http://a/b", "a"),
            [get("/b")],
        ),
        good("§3.2.2", "https", absolute("https://a/b", "a"), [get("/b")]),
        good(
            "§3.2.2",
            "a scheme in capitals",
            absolute("HTTP://a/b", "a"),
            [get("/b")],
        ),
        good(
            "§3.2.2",
            "without a path",
            absolute("http://a", "a"),
            [get("/")],
        ),
        good(
            "§3.2.2",
            "a query alone",
            absolute("http://a?b", "a"),
            [get("/?b")],
        ),
        good(
            "§3.2.2",
            "with a port",
            absolute("http://a:81/b", "a:81"),
            [get("/b")],
        ),
        both("§3.2.2", "http://a/b", "b"),
        both("§3.2.2", "http://a:80/b", "a"),
        both("§3.2.2", "http://A/b", "a"),
        both("§3.2.2", "http://a/b", ""),
        both("§3.2.2", "http:///b", "a"),
        both("§3.2.2", "http://", "a"),
        both("§3.2.2", "http:/a/b", "a"),
        both("§3.2.2", "http:a", "a"),
        both("§3.2.2", "http://u@a/b", "a"),
        both("§3.2.2", "http://u@a/b", "u@a"),
        both("§3.2.2", "http://a\\@b/", "a"),
        both("§3.2.2", "http:\\\\a/b", "a"),
        both("§3.2.2", "ftp://a/b", "a"),
        both("§3.2.2", "//a/b@c://d", "http://a"),
        both("§3.2.2", "unix:/b", "a"),
        both("§3.2.3", "a:80", "a:80"),
        both("§3.2.3", "a", "a"),
        both("§3.2.4", "*", "a"),
        bad(
            "§3.2.4",
            "* as OPTIONS, which no service is asked",
            line("OPTIONS * HTTP/1.1"),
        ),
        both("§3.2", "b", "a"),
        both("§3.2", "?b", "a"),
        both("§3.2", ":80/b", "a"),
    ]);
}

#[test]
fn there_is_one_host_and_it_is_one() {
    let with = |fields: &str| format!("GET /a HTTP/1.1\r\n{fields}\r\n");
    let host = |host: &str| {
        bad(
            "§3.2",
            format!("{host:?}"),
            with(&format!("Host: {host}\r\n")),
        )
    };
    let fine = |host: &str| {
        good(
            "§3.2",
            format!("{host:?}"),
            with(&format!("Host: {host}\r\n")),
            [get("/a")],
        )
    };
    let mut cases = vec![
        bad("§3.2", "none", with("X: y\r\n")),
        bad("§3.2", "two", with("Host: a\r\nHost: b\r\n")),
        bad("§3.2", "the same twice", with("Host: a\r\nHost: a\r\n")),
        bad("§3.2", "an empty second one", with("Host: a\r\nhost:\r\n")),
        bad("§3.2", "white space before the colon", with("Host : a\r\n")),
        bad("§3.2", "folded", with("Host:\r\n a\r\n")),
        bad(
            "§3.2",
            "another one folded under it",
            with("Host: a\r\n Host: b\r\n"),
        ),
    ];
    let good_ones = [
        "a",
        "A.Example",
        "a.example.",
        "a:80",
        "a:65535",
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]",
        "[2001:db8::1]:443",
        "a_b",
        "  a  ",
        "\ta",
    ];
    cases.extend(good_ones.map(fine));
    let bad_ones = [
        "",
        " ",
        "a b",
        "a\tb",
        "a,b",
        "a, a",
        "a/b",
        "/",
        "a?b",
        "a#b",
        "a<b",
        "a>b",
        "<a>",
        "\"a\"",
        "a\"",
        "a'b",
        "a;b",
        "a=b",
        "a&b",
        "a%41",
        "a%00",
        "a*",
        "a\\b",
        "a|b",
        "a^b",
        "a`b",
        "{a}",
        "u@a",
        "u:p@a",
        "@a",
        "a@",
        "a:",
        "a:b",
        "a:0",
        "a:65536",
        "a:+80",
        "a:-1",
        "a: 80",
        "a :80",
        "a:80:80",
        ":80",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[::1]80",
        "[::1]a",
        "[::1%25eth0]",
        "[127.0.0.1]",
        "a..b",
        ".a",
        "..",
        "é",
        "a\u{ad}b",
        "http://a",
        "a\0b",
        "a\u{7f}",
        "a\u{b}",
    ];
    cases.extend(bad_ones.map(host));
    Bench::new().play(&cases);
}
