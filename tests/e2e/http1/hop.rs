//! What of a service's answer comes to the client, and in which form: the header in one spelling,
//! fields of the hop before left out, interim answers in order, an older version framed anew.

use super::super::support::*;
use super::answer::Behind::{End, Open};
use super::answer::Want::{Invalid, Served};
use super::answer::{OK, gateway, play};

/// §5.1, §5.2: what an older service may have meant is told in one form.
#[test]
fn a_sloppy_header_goes_on_in_one_form() {
    for (fields, name, value) in [
        ("X-A: b\r\n c", "x-a", "b c"),
        ("X-A: b\r\n\t\tc\r\n d", "x-a", "b c d"),
        ("X-A:\r\n b", "x-a", "b"),
        ("X-A : b", "x-a", "b"),
        ("X-A\t:b", "x-a", "b"),
        ("X-A:   b  ", "x-a", "b"),
    ] {
        let text = format!("{OK}{fields}\r\nContent-Length: 2\r\n\r\nok");
        let origin = Origin::scripted(move |_| Act::Raw(text.clone().into_bytes()));
        let answer = gateway(&origin).get("/");
        assert_eq!((answer.status, answer.text()), (200, "ok"), "{fields:?}");
        assert_eq!(answer.header(name), Some(value), "{fields:?}");
        let lines = answer.head.trim_end().split("\r\n").skip(1);
        for line in lines {
            let (name, value) = line.split_once(": ").expect("one form");
            assert!(
                !name.contains([' ', '\t']) && !value.contains(['\r', '\n']),
                "{line:?}"
            );
        }
    }
}

/// RFC 9110 §8.6, RFC 9112 §6.1: a length that measures nothing is said where it means something,
/// and nowhere else.
#[test]
fn lengths_of_answers_without_a_body() {
    let told = |method: &str, text: &'static str| {
        let origin = Origin::scripted(move |_| Act::Raw(text.into()));
        let answer = gateway(&origin).ask(&Req::new(method, "/"));
        let field = |name| answer.header(name).map(str::to_owned);
        (field("content-length"), field("transfer-encoding"))
    };
    let five = Some("5".to_owned());
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(told("HEAD", head), (five.clone(), None));
    let unmodified = "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(told("GET", unmodified), (five, None));
    for text in [
        "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(told("GET", text), (None, None), "{text:?}");
    }
}

#[test]
fn interim_answers_go_on_in_order_and_bare() {
    let origin = Origin::scripted(|_| {
        Act::Raw(
            b"HTTP/1.1 100 Continue\r\n\r\n\
              HTTP/1.1 102 Processing\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
              HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nConnection: X-Gone\r\nX-Gone: 1\r\nKeep-Alive: x\r\n\r\n\
              HTTP/1.1 103 Early Hints\r\nLink: </more.css>\r\n\r\n\
              HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let gateway = gateway(&origin);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(Req::get("/").bytes());
        let mut seen = Vec::new();
        let last = loop {
            let head = client.read_head().expect("an answer");
            seen.push(head.status);
            let framed = head
                .header("content-length")
                .or(head.header("transfer-encoding"));
            if head.status == 200 {
                break head;
            }
            assert_eq!(framed, None, "{}", head.head);
            for gone in ["connection", "x-gone", "keep-alive"] {
                assert_eq!(head.header(gone), None, "{}", head.head);
            }
        };
        assert_eq!(seen, [100, 102, 103, 103, 200]);
        assert_eq!(last.header("link"), None);
        client.expect_bytes(b"ok");
    }
}

#[test]
fn interim_answers_are_followed_by_one_that_is_final() {
    play(
        "GET",
        &[
            (
                "§15.2",
                "HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Open,
                Served(200, "ok"),
            ),
            (
                "§15.2",
                "HTTP/1.1 103 E\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Open,
                Invalid,
            ),
            (
                "§15.2",
                "HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Open,
                Invalid,
            ),
            (
                "§15.2",
                "HTTP/1.1 103 E\r\n\r\nHTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
                Open,
                Invalid,
            ),
            (
                "§15.2.2",
                "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
                Open,
                Invalid,
            ),
            (
                "§15.2.2",
                "HTTP/1.1 101 S\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Open,
                Invalid,
            ),
            ("§15.2.2", "HTTP/1.0 101 S\r\n\r\n", End, Invalid),
        ],
    );
}

/// §9.3, §6.3 (8): an older service ends its answer with the connection; the client's stays.
#[test]
fn an_older_service_is_framed_anew() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    for (text, behind, body, chunked) in [
        ("HTTP/1.0 200 OK\r\n\r\nold", End, "old", true),
        ("HTTP/1.1 200 OK\r\n\r\nold", End, "old", true),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold",
            Open,
            "old",
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold",
            Open,
            "old",
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n",
            Open,
            "old",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            End,
            "",
            true,
        ),
    ] {
        origin.script(move |_| match behind {
            Open => Act::Raw(text.into()),
            End => Act::RawThenClose(text.into()),
        });
        let mut client = gateway.connect();
        for _ in 0..3 {
            let answer = client.ask(&Req::get("/"));
            assert_eq!((answer.status, answer.text()), (200, body), "{text:?}");
            assert!(
                answer.head.starts_with("HTTP/1.1 200"),
                "§2.3: {}",
                answer.head
            );
            assert_eq!(
                answer.header("transfer-encoding").is_some(),
                chunked,
                "{text:?}"
            );
        }
    }
    // What was promised to stay is used again: by the fourth kind, and once by the fifth.
    assert_eq!(origin.accepted(), 3 + 3 + 3 + 1 + 2 + 3);
}

/// RFC 9110 §7.6.1: what is said between a service and us is not for the client.
#[test]
fn fields_of_one_hop_end_here() {
    let origin = Origin::scripted(|_| {
        Act::Raw(
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop , x-other\r\nX-Hop: 1\r\nX-Other: 1\r\n\
              Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\n\
              Proxy-Authorization: x\r\nTE: trailers\r\nTrailer: X-T\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\
              Connection: X-Third\r\nX-Third: 1\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let answer = gateway(&origin).get("/");
    for gone in [
        "x-hop",
        "x-other",
        "x-third",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
    ] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.header("x-kept"), Some("1"));
    assert_eq!(answer.header("connection"), Some("keep-alive"), "ours");
    assert_eq!(answer.text(), "ok");
}

/// A service that names what frames the answer, or what we add to it, takes nothing away.
#[test]
fn what_a_service_nominates_is_not_ours() {
    let origin = Origin::scripted(|_| {
        Act::Raw(
            b"HTTP/1.1 200 OK\r\nConnection: Content-Length, X-Request-ID, Via, Date\r\n\
              Content-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let answer = gateway(&origin).get("/");
    assert_eq!(answer.text(), "ok");
    assert!(answer.header("content-length").is_some());
    assert!(!answer.request_id().is_empty());
    assert!(answer.header("via").is_some() && answer.header("date").is_some());
}

/// RFC 9110 §6.6.1: the date is the service's; one without gets ours.
#[test]
fn a_service_that_tells_the_date_is_believed() {
    const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let origin = Origin::scripted(|seen| {
        let dated = vec![("Date", LONG_AGO.to_owned())];
        Act::Answer(
            200,
            if seen.target == "/dated" {
                dated
            } else {
                Vec::new()
            },
            Vec::new(),
        )
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    assert_eq!(
        client.ask(&Req::get("/dated")).header("date"),
        Some(LONG_AGO)
    );
    let ours = client.ask(&Req::get("/bare"));
    assert!(
        ours.header("date")
            .is_some_and(|d| d.ends_with(" GMT") && d != LONG_AGO)
    );
}

/// An outage of a service was answered with a new connection, and over TLS a new handshake, for every
/// request.
#[test]
fn a_failing_service_costs_a_client_no_connection() {
    let origin = Origin::scripted(|seen| match seen.target.as_str() {
        "/torn" => Act::reset(),
        target => Act::ok(target),
    });
    let gateway = gateway(&origin);
    let mut client = gateway.connect();
    for _ in 0..3 {
        let failed = client.ask(&Req::get("/torn"));
        assert_eq!(failed.is(), (502, "upstream_reset".into()));
        assert_eq!(failed.header("connection"), Some("keep-alive"));
        assert_eq!(client.ask(&Req::get("/well")).text(), "/well");
    }
}
