//! Every octet in every place of a request: legal where the grammar says so, else refused.

use super::super::support::*;
use super::case::{
    Bench, Case, Delivery, Plain, bad, chunked, counted, doubtful, get, good, plain,
};

/// RFC 9110 §5.6.2.
fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// RFC 9110 §5.5, without CR and LF, which are line ends.
fn is_value(b: u8) -> bool {
    b == b'\t' || b == b' ' || b.is_ascii_graphic() || b >= 0x80
}

fn around(before: &str, b: u8, after: &str) -> Vec<u8> {
    [before.as_bytes(), &[b], after.as_bytes()].concat()
}

/// One case for each octet but CR and LF, which have files of their own.
fn each(make: impl Fn(u8) -> Option<Case>) -> Vec<Case> {
    let octets = (0..=255u8).filter(|b| !matches!(b, b'\r' | b'\n'));
    octets.filter_map(make).collect()
}

/// All at once: what a part of a header is worth is shown for each rule by itself.
fn play(cases: &[Case]) {
    assert!(cases.len() > 100, "{}", cases.len());
    Bench::new().deliver(cases, Delivery::Whole);
}

#[test]
fn in_a_method() {
    play(&each(|b| {
        let sent = around("G", b, "T /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let what = format!("{b:#04x}");
        Some(if is_tchar(b) {
            let method = format!("G{}T", char::from(b));
            good("§3.1", what, sent, [plain(&method, "/a")])
        } else {
            bad("§3.1", what, sent)
        })
    }));
}

/// What may stand in a target is RFC 3986's; a few more that clients send go on as they came.
#[test]
fn in_a_target() {
    let origin = Bench::new();
    for b in 0..=255u8 {
        let mut client = origin.gateway.connect();
        client.send(around("GET /x?y", b, "z HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.read();
        let legal = b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&b);
        let never = !b.is_ascii_graphic() || b"\"#<>`".contains(&b);
        assert!(!legal || answer.status == 200, "{b:#04x}");
        let took = origin.origin.take();
        if answer.status == 200 {
            assert!(!never, "{b:#04x}");
            let target = format!("/x?y{}z", char::from(b));
            assert_eq!((took.len(), &*took[0].target), (1, &*target));
        } else {
            assert_eq!(answer.is(), (400, "bad_request".into()), "{b:#04x}");
            assert!(took.is_empty(), "{b:#04x}");
        }
    }
    assert_eq!(origin.origin.faults(), [""; 0]);
}

#[test]
fn between_the_words_of_a_request_line() {
    for (before, after) in [
        ("GET", "/a HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET /a", "HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        play(&each(|b| {
            let sent = around(before, b, after);
            let what = format!("{before}{b:#04x}");
            Some(match b {
                b' ' => good("§3", what, sent, [get("/a")]),
                _ => bad("§3", what, sent),
            })
        }));
    }
    play(&each(|b| {
        let sent = around("GET /a HTTP/1.1", b, "\r\nHost: a\r\n\r\n");
        Some(bad("§3", format!("HTTP/1.1{b:#04x}"), sent))
    }));
}

#[test]
fn in_a_host() {
    play(&each(|b| {
        let sent = around("GET /a HTTP/1.1\r\nHost: x", b, "y\r\n\r\n");
        let what = format!("{b:#04x}");
        Some(if b.is_ascii_alphanumeric() || b"-_.".contains(&b) {
            good("§3.2", what, sent, [get("/a")])
        } else {
            bad("§3.2", what, sent)
        })
    }));
}

#[test]
fn in_a_field_name_and_value() {
    play(&each(|b| {
        let sent = around("GET /a HTTP/1.1\r\nHost: a\r\nX", b, "Y: z\r\n\r\n");
        let what = format!("name {b:#04x}");
        Some(if is_tchar(b) || b == b':' {
            good("§5", what, sent, [get("/a")])
        } else {
            bad("§5.1", what, sent)
        })
    }));
    play(&each(|b| {
        let sent = around("GET /a HTTP/1.1\r\nHost: a\r\nX: y", b, "z\r\n\r\n");
        let what = format!("value {b:#04x}");
        Some(if is_value(b) {
            good("§5.5 of RFC 9110", what, sent, [get("/a")])
        } else {
            bad("§5.5 of RFC 9110", what, sent)
        })
    }));
}

const INNER: &str = "5\r\nhello\r\n0\r\n\r\n";

/// The field as it is, another field, or none at all.
fn coding(b: u8, before: &str, after: &str, legal: bool, other: bool) -> Case {
    let line = around(before, b, after);
    let what = String::from_utf8_lossy(&line).into_owned();
    let head = [b"POST /a HTTP/1.1\r\nHost: a\r\n", &line[..], b"\r\n\r\n"].concat();
    let sent = [&head[..], INNER.as_bytes()].concat();
    if legal {
        good("§6.1", what, sent, [chunked("/a", "hello")])
    } else if other {
        good("§6.1", what, head, [plain("POST", "/a")])
    } else {
        doubtful("§6.1", what, sent)
    }
}

#[test]
fn around_transfer_encoding() {
    let blank = |b: u8| matches!(b, b' ' | b'\t');
    play(&each(|b| {
        Some(coding(b, "Transfer-Encoding: ", "chunked", blank(b), false))
    }));
    play(&each(|b| {
        Some(coding(b, "Transfer-Encoding: chunked", "", blank(b), false))
    }));
    play(&each(|b| {
        let other = is_tchar(b);
        Some(coding(b, "Transfer-Encoding", ": chunked", false, other))
    }));
    play(&each(|b| {
        let (same, other) = (b == b'-', (is_tchar(b) || b == b':') && b != b'-');
        Some(coding(b, "Transfer", "Encoding: chunked", same, other))
    }));
    play(&each(|b| {
        let other = is_tchar(b);
        Some(coding(b, "", "Transfer-Encoding: chunked", false, other))
    }));
    play(&each(|b| {
        let same = matches!(b, b'k' | b'K');
        Some(coding(b, "Transfer-Encoding: chun", "ed", same, false))
    }));
}

fn length(b: u8, before: &str, after: &str, legal: bool, other: bool) -> Case {
    let line = around(before, b, after);
    let what = String::from_utf8_lossy(&line).into_owned();
    let head = [b"POST /a HTTP/1.1\r\nHost: a\r\n", &line[..], b"\r\n\r\n"].concat();
    let sent = [&head[..], b"hello"].concat();
    if legal {
        good("§6.2", what, sent, [counted("/a", "hello")])
    } else if other {
        good("§6.2", what, head, [plain("POST", "/a")])
    } else {
        bad("§6.2", what, sent)
    }
}

#[test]
fn around_content_length() {
    let blank = |b: u8| matches!(b, b' ' | b'\t');
    // Another digit makes another length.
    let odd = |b: &u8| !b.is_ascii_digit();
    play(&each(|b| {
        odd(&b).then_some(b)?;
        Some(length(b, "Content-Length: ", "5", blank(b), false))
    }));
    play(&each(|b| {
        odd(&b).then_some(b)?;
        Some(length(b, "Content-Length: 5", "", blank(b), false))
    }));
    play(&each(|b| {
        Some(length(b, "Content-Length", ": 5", false, is_tchar(b)))
    }));
    play(&each(|b| {
        let (same, other) = (b == b'-', (is_tchar(b) || b == b':') && b != b'-');
        Some(length(b, "Content", "Length: 5", same, other))
    }));
    play(&each(|b| {
        odd(&b).then_some(b)?;
        Some(length(b, "Content-Length: 0", "5", false, false))
    }));
}

const HEAD: &str = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Chunks with one octet put in; `None` where it would make another legal body.
fn chunk(b: u8, before: &str, after: &str, legal: Option<Plain>) -> Case {
    let body = around(before, b, after);
    let what = String::from_utf8_lossy(&body).into_owned();
    let sent = [HEAD.as_bytes(), &body].concat();
    match legal {
        Some(plain) => good("§7.1", what, sent, [plain]),
        None => bad("§7.1", what, sent),
    }
}

#[test]
fn around_a_chunk() {
    let hex = |b: u8| b.is_ascii_hexdigit();
    for (before, after) in [
        ("", "5\r\nhello\r\n0\r\n\r\n"),
        ("5", "\r\nhello\r\n0\r\n\r\n"),
        ("5\r\nhello\r\n", "0\r\n\r\n"),
        ("5\r\nhello\r\n0", "\r\n\r\n"),
    ] {
        play(&each(|b| (!hex(b)).then(|| chunk(b, before, after, None))));
    }
    for (before, after) in [
        ("5\r", "hello\r\n0\r\n\r\n"),
        ("5\r", "\nhello\r\n0\r\n\r\n"),
        ("5\r\nhello", "\r\n0\r\n\r\n"),
        ("5\r\nhello\r", "0\r\n\r\n"),
        ("5\r\nhello\r", "\n0\r\n\r\n"),
        ("5\r\nhello", "\n0\r\n\r\n"),
        ("5\r\nhello\r\n0\r", "\r\n"),
        ("5\r\nhello\r\n0\r", "\n\r\n"),
        ("5\r\nhello\r\n0\r\n\r", "\n"),
    ] {
        play(&each(|b| Some(chunk(b, before, after, None))));
    }
    play(&each(|b| {
        let kept = |b: u8| chunked_bytes(&[b"he", &[b][..], b"lo"].concat());
        Some(chunk(b, "5\r\nhe", "lo\r\n0\r\n\r\n", Some(kept(b))))
    }));
}

fn chunked_bytes(body: &[u8]) -> Plain {
    chunked("/a", "").holding(body)
}

#[test]
fn in_a_chunk_extension_and_a_trailer() {
    let kept = || Some(chunked("/a", "hello"));
    let ext = |before: &'static str, after: &'static str, legal: fn(u8) -> bool| {
        play(&each(|b| {
            Some(chunk(b, before, after, kept().filter(|_| legal(b))))
        }));
    };
    let tail = "\r\nhello\r\n0\r\n\r\n";
    let name: String = format!("y{tail}");
    let quoted: String = format!("y\"{tail}");
    let (name, quoted) = (&*name.leak(), &*quoted.leak());
    // `x` and `y` with it between: one name, or a name and what may follow one.
    ext("5;x", name, |b| is_tchar(b) || matches!(b, b';' | b'='));
    ext("5;x=z", name, |b| is_tchar(b) || b == b';');
    ext("5;x=\"z", quoted, |b| is_value(b) && b != b'"');
    ext("5\r\nhello\r\n0\r\nX", "Y: z\r\n\r\n", |b| {
        is_tchar(b) || b == b':'
    });
    ext("5\r\nhello\r\n0\r\nX: y", "z\r\n\r\n", is_value);
}

/// A look at the whole: no octet made the gateway blame itself or a service.
#[test]
fn nobody_else_is_blamed() {
    let bench = Bench::new();
    for b in 0..=255u8 {
        for (before, after) in [
            ("GET /", " HTTP/1.1\r\nHost: a\r\n\r\n"),
            (HEAD, "\r\n\r\n"),
        ] {
            let mut client = bench.gateway.connect();
            client.send(around(before, b, after)).finish();
            let _ = client.try_read();
        }
    }
    for code in ["internal_error", "upstream_invalid", "upstream_reset"] {
        let name = format!("tollgate_refusals_total{{reason=\"{code}\"}}");
        assert_eq!(bench.gateway.metric(&name), 0, "{code}");
    }
    assert_eq!(
        bench
            .gateway
            .metric("tollgate_breaker_state{upstream=\"up\"}"),
        0
    );
    assert_eq!(bench.gateway.ask(&Req::get("/on")).status, 200);
}
