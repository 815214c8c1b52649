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

/// Targets in absolute form, the Host beside them, and what a service gets.
const ABSOLUTE: &[(&str, &str, &str)] = &[
    ("http://a/b", "a", "/b"),
    ("https://a/b", "a", "/b"),
    ("HTTP://a/b", "a", "/b"),
    ("http://a", "a", "/"),
    ("http://a?b", "a", "/?b"),
    ("http://a:81/b", "a:81", "/b"),
];

/// Targets in no form that is served, or that name another host than the one beside them.
const NO_FORM: &[(&str, &str, &str)] = &[
    ("§3.2.2", "http://a/b", "b"),
    ("§3.2.2", "http://a:80/b", "a"),
    ("§3.2.2", "http://A/b", "a"),
    ("§3.2.2", "http://a/b", ""),
    ("§3.2.2", "http:///b", "a"),
    ("§3.2.2", "http://", "a"),
    ("§3.2.2", "http:/a/b", "a"),
    ("§3.2.2", "http:a", "a"),
    ("§3.2.2", "http://u@a/b", "a"),
    ("§3.2.2", "http://u@a/b", "u@a"),
    ("§3.2.2", "http://a\\@b/", "a"),
    ("§3.2.2", "http:\\\\a/b", "a"),
    ("§3.2.2", "ftp://a/b", "a"),
    ("§3.2.2", "//a/b@c://d", "http://a"),
    ("§3.2.2", "unix:/b", "a"),
    ("§3.2.3", "a:80", "a:80"),
    ("§3.2.3", "a", "a"),
    ("§3.2.4", "*", "a"),
    ("§3.2", "b", "a"),
    ("§3.2", "?b", "a"),
    ("§3.2", ":80/b", "a"),
];

#[test]
fn the_forms_of_a_target() {
    let absolute = |uri: &str, host: &str| format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut cases = vec![good(
        "§3.2.1",
        "origin form",
        absolute("/a", "a"),
        [get("/a")],
    )];
    for (uri, host, target) in ABSOLUTE {
        let what = format!("{uri} with {host}");
        cases.push(good("§3.2.2", what, absolute(uri, host), [get(target)]));
    }
    for (section, uri, host) in NO_FORM {
        let what = format!("{uri} with {host}");
        cases.push(bad(section, what, absolute(uri, host)));
    }
    // Asked of a server as a whole, and of no service.
    cases.push(bad("§3.2.4", "OPTIONS *", line("OPTIONS * HTTP/1.1")));
    Bench::new().play(&cases);
}

/// Hosts by the grammar.
const HOSTS: &[&str] = &[
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

/// What is none, or more than one for some.
const NO_HOSTS: &[&str] = &[
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
    cases.extend(HOSTS.iter().map(|h| fine(h)));
    cases.extend(NO_HOSTS.iter().map(|h| host(h)));
    Bench::new().play(&cases);
}
