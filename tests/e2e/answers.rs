//! Answers of services that are unusual, or hostile to whoever asks next.

use super::support::*;

fn raw(text: &'static str) -> Origin {
    Origin::scripted(move |_| Act::Raw(text.as_bytes().to_vec()))
}

const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

#[test]
fn bytes_behind_an_answer_are_not_the_next_one() {
    let origin = Origin::scripted(|_| {
        Act::Raw([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", POISON].concat())
    });
    let gateway = Gateway::start(&open_config(&origin));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "ok");
    }
}

#[test]
fn bytes_that_come_while_nobody_asked_are_not_an_answer() {
    let origin = Origin::scripted(|_| Act::ok("ok"));
    let gateway = Gateway::start(&open_config(&origin));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "ok");
        origin.inject(POISON);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn bytes_behind_an_answer_without_a_body_are_not_the_next_one() {
    for head in [
        "HTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n",
    ] {
        let origin = Origin::scripted(move |_| Act::Raw([head.as_bytes(), POISON].concat()));
        let gateway = Gateway::start(&open_config(&origin));
        for _ in 0..10 {
            let status = gateway.get("/").status;
            assert!(matches!(status, 204 | 304), "{status}");
        }
    }
    let origin = Origin::scripted(|_| Act::Raw(POISON.to_vec()));
    let gateway = Gateway::start(&open_config(&origin));
    let head = gateway.ask(&Req::new("HEAD", "/"));
    assert_eq!(head.status, 200);
    origin.script(|_| Act::ok("fine"));
    assert_eq!(gateway.get("/").text(), "fine");
}

#[test]
fn a_length_beside_chunks_does_not_reach_the_client() {
    let origin = raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    );
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    for _ in 0..3 {
        let answer = client.ask(&Req::get("/"));
        match answer.status {
            200 => {
                assert_eq!(answer.text(), "hello");
                assert_eq!(answer.header("content-length"), None);
            }
            status => assert_eq!(status, 502),
        }
    }
}

#[test]
fn a_service_that_closes_does_not_close_the_clients_connection() {
    let origin = Origin::scripted(|_| {
        let text = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        Act::RawThenClose(text.into())
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    for _ in 0..5 {
        let answer = client.ask(&Req::get("/"));
        assert_eq!(answer.text(), "ok");
        assert_ne!(answer.header("connection"), Some("close"));
    }
}

#[test]
fn an_old_service_is_understood() {
    let origin = Origin::scripted(|_| {
        Act::RawThenClose(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold".to_vec())
    });
    let gateway = Gateway::start(&open_config(&origin));
    let mut client = gateway.connect();
    for _ in 0..3 {
        let answer = client.ask(&Req::get("/"));
        assert_eq!((answer.status, answer.text()), (200, "old"));
        assert!(answer.head.starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn nothing_of_a_service_breaks_out_of_a_header() {
    let origin = raw("HTTP/1.1 200 OK\r\nX-A: b\rX-Evil: 1\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::start(&open_config(&origin));
    let answer = gateway.get("/");
    assert!(
        !answer.head.contains('\r') || !answer.head.contains("b\rX-Evil"),
        "{}",
        answer.head
    );
}

#[test]
fn a_header_without_an_end_is_bounded() {
    let origin = Origin::scripted(|_| {
        let field = format!("X-Long: {}\r\n", "a".repeat(8000));
        Act::RawThenClose(format!("HTTP/1.1 200 OK\r\n{}", field.repeat(300)).into_bytes())
    });
    let gateway = Gateway::start(&open_config(&origin));
    let answer = gateway.get("/");
    assert_eq!(answer.status, 502, "{}", answer.head);
}

#[test]
fn cookies_and_repeated_fields_keep_their_order() {
    let origin = raw(
        "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nVia: x\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::start(&open_config(&origin));
    let answer = gateway.get("/");
    let cookies = answer
        .headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie"));
    let cookies: Vec<&str> = cookies.map(|(_, v)| v.as_str()).collect();
    assert_eq!(cookies, ["a", "b"]);
}
