//! RFC 9112 §6 from the other side: what a service can do wrong in an answer. It is refused with
//! 502, broken off where it broke off, or framed one way; the next request meets nothing of it.

use super::super::support::*;

/// What becomes of an answer.
pub enum Want {
    /// 502: nothing of it was passed on.
    Invalid,
    /// 502, or an answer that is visibly not whole.
    Broken,
    /// Passed on with this status and body.
    Served(u16, &'static str),
}

use Want::{Broken as Cut, Invalid, Served};

/// Whether the service keeps its connection open behind the bytes.
#[derive(Clone, Copy, PartialEq)]
pub enum Behind {
    Open,
    End,
}

use Behind::{End, Open};

pub fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "server: {{ workers: 1 }}\n\
         upstreams: [{{ name: up, targets: [\"{origin}\"], retries: 0, circuit_breaker: off }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    ))
}

/// Plays each answer to a request by this method, and then a good one. `reused`: whether the good
/// one may come over the same connection to the service.
pub fn play(method: &str, cases: &[(&'static str, &str, Behind, Want)]) {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    for (section, answer, behind, want) in cases {
        let told = format!("{section} {answer:?}");
        let (bytes, behind) = (answer.as_bytes().to_vec(), *behind);
        origin.script(move |seen| match (seen.target.as_str(), behind) {
            ("/odd", Open) => Act::Raw(bytes.clone()),
            ("/odd", End) => Act::RawThenClose(bytes.clone()),
            _ => Act::ok("good"),
        });
        let mut client = gateway.connect();
        client.send(Req::new(method, "/odd").bytes());
        let got = client.read_answer(method == "HEAD");
        let over = judge(got, want, &told);
        let doubted = !matches!(want, Served(..)) || over;
        let odd = origin.last().connection;
        if over {
            assert!(
                matches!(client.try_read(), Err(Broken::Closed | Broken::Reset)),
                "{told}"
            );
            client = gateway.connect();
        }
        let next = client.ask(&Req::get("/next"));
        assert_eq!((next.status, next.text()), (200, "good"), "{told}");
        if doubted {
            assert_ne!(
                origin.last().connection,
                odd,
                "{told}: doubted, and used again"
            );
        }
    }
}

/// True if the client's connection must be over.
fn judge(got: Result<Answer, Broken>, want: &Want, told: &str) -> bool {
    match (want, got) {
        (Invalid | Cut, Ok(answer)) => {
            assert_eq!(answer.is(), (502, "upstream_invalid".into()), "{told}");
            // The client did nothing wrong: its connection stays, unless it had a body to send.
            answer.header("connection") == Some("close")
        }
        (Cut, Err(Broken::Cut(_) | Broken::Reset | Broken::Closed)) => true,
        (Served(status, body), Ok(answer)) => {
            assert_eq!((answer.status, answer.text()), (*status, *body), "{told}");
            let both = answer
                .header("content-length")
                .and(answer.header("transfer-encoding"));
            assert_eq!(both, None, "{told}");
            answer.header("connection") == Some("close")
        }
        (_, got) => panic!("{told}: {got:?}"),
    }
}

pub const OK: &str = "HTTP/1.1 200 OK\r\n";

/// Lengths that two readers read differently, or not at all.
const NOT_ONE_NUMBER: &[&str] = &[
    "5, 5",
    "5,5",
    "5, 6",
    "5,",
    "+5",
    "-5",
    "-1",
    "0x5",
    "5 5",
    "",
    "5.0",
    "five",
    "5;",
    "\"5\"",
    "5\u{a0}",
    "18446744073709551616",
];

#[test]
fn a_length_that_is_not_one_number_is_no_answer() {
    let one = |length: &str| format!("{OK}Content-Length: {length}\r\n\r\nhello");
    let texts: Vec<_> = NOT_ONE_NUMBER.iter().map(|l| one(l)).collect();
    let mut cases: Vec<_> = texts
        .iter()
        .map(|t| ("§6.3 (5)", &**t, Open, Invalid))
        .collect();
    cases.extend([
        (
            "§6.3 (6)",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            Open,
            Served(200, "hello"),
        ),
        (
            "§6.3 (6)",
            "HTTP/1.1 200 OK\r\ncontent-length:\t5 \r\n\r\nhello",
            Open,
            Served(200, "hello"),
        ),
        (
            "§6.3 (6)",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Open,
            Served(200, ""),
        ),
        (
            "§8",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            End,
            Cut,
        ),
        (
            "§8",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            End,
            Cut,
        ),
    ]);
    play("GET", &cases);
}

#[test]
fn a_coding_that_nobody_asked_for_is_no_answer() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let coding = |value: &str| format!("{OK}Transfer-Encoding: {value}\r\n\r\n{body}");
    let bad_ones = [
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked, gzip",
        "chunked, identity",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "",
        ",",
        "chunked,",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked",
    ]
    .map(coding);
    let good_ones = ["chunked", "Chunked", " chunked ", "\tCHUNKED"].map(coding);
    let mut cases: Vec<_> = bad_ones
        .iter()
        .map(|t| ("§6.1", &**t, Open, Invalid))
        .collect();
    cases.extend(
        good_ones
            .iter()
            .map(|t| ("§6.1", &**t, Open, Served(200, "hello"))),
    );
    play("GET", &cases);
}

/// §6.3 (3): the coding decides, and the length goes no further.
#[test]
fn a_coding_overrides_a_length() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let with = |fields: &str| format!("{OK}{fields}\r\n\r\n{body}");
    let texts = [
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length: 15\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 1000\r\nTransfer-Encoding: chunked",
        "Content-Length: x\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
    ]
    .map(with);
    let cases: Vec<_> = texts
        .iter()
        .map(|t| ("§6.3 (3)", &**t, Open, Served(200, "hello")))
        .collect();
    play("GET", &cases);
}

#[test]
fn broken_chunks_break_the_answer_off() {
    let with = |body: &str| format!("{OK}Transfer-Encoding: chunked\r\n\r\n{body}");
    let open = [
        "zz\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5hello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\nzz\r\n\r\n",
    ]
    .map(with);
    let ended = [
        "",
        "5\r\nhel",
        "5\r\nhello",
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n",
    ]
    .map(with);
    let mut cases: Vec<_> = open.iter().map(|t| ("§7.1", &**t, Open, Cut)).collect();
    cases.extend(ended.iter().map(|t| ("§8", &**t, End, Cut)));
    let fine = [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "05\r\nhello\r\n000\r\n\r\n",
        "5;a=b\r\nhello\r\n0;c\r\n\r\n",
        "2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\nContent-Length: 3\r\n\r\n",
    ]
    .map(with);
    let bodies = ["", "hello", "hello", "hello", "hello"];
    cases.extend(
        fine.iter()
            .zip(bodies)
            .map(|(t, b)| ("§7.1", &**t, Open, Served(200, b))),
    );
    play("GET", &cases);
}

/// What begins no answer.
const NO_STATUS_LINES: &[&str] = &[
    "HTTP/1.1 20 OK",
    "HTTP/1.1 2000 OK",
    "HTTP/1.1 abc OK",
    "HTTP/1.1  200 OK",
    "HTTP/1.1",
    "HTTP/2 200 OK",
    "HTTP/1.2 200 OK",
    "HTTP/0.9 200 OK",
    "http/1.1 200 OK",
    "ICY 200 OK",
    "200 OK",
    "HTTP/1.1\t200 OK",
    "HTTP/1.1 200 O\0K",
    "HTTP/1.1 000 OK",
    "HTTP/1.1 099 OK",
    "GET / HTTP/1.1",
    " HTTP/1.1 200 OK",
    "<html>hello</html>",
    "HTTP/1.1 +20 OK",
    "HTTP/1.1 2 0 OK",
];

#[test]
fn what_is_no_header_is_no_answer() {
    let with = |fields: &str| format!("{OK}{fields}\r\nContent-Length: 0\r\n\r\n");
    let fields = [
        "X",
        "X y",
        ": y",
        "X(: y",
        "X: a\0b",
        "X: a\u{1}b",
        "X: a\u{7f}b",
        "X: a\rb",
        "X\0: y",
        "\u{e9}: y",
        "Content-Length: 0\0",
        "X: y\r\n\rZ: w",
    ]
    .map(with);
    let mut cases: Vec<_> = fields.iter().map(|t| ("§5", &**t, Open, Invalid)).collect();
    let end = "\r\nContent-Length: 0\r\n\r\n";
    let lines: Vec<_> = NO_STATUS_LINES
        .iter()
        .map(|line| format!("{line}{end}"))
        .collect();
    cases.extend(lines.iter().map(|t| ("§4", &**t, Open, Invalid)));
    let long = format!("{OK}{}", format!("X: {}\r\n", "y".repeat(8000)).repeat(300));
    let many = format!("{OK}{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(300));
    cases.push(("§5.4", &long, End, Invalid));
    cases.push(("§5.4", &many, Open, Invalid));
    cases.extend([
        (
            "§4",
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            Open,
            Served(200, ""),
        ),
        (
            "§4",
            "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
            Open,
            Served(200, ""),
        ),
        (
            "§4",
            "HTTP/1.1 299 A reason nobody knows\r\nContent-Length: 0\r\n\r\n",
            Open,
            Served(299, ""),
        ),
    ]);
    play("GET", &cases);
}

#[test]
fn statuses_without_a_body_have_none() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let texts = [
        "HTTP/1.1 204 No\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        format!("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello{poison}"),
        format!("HTTP/1.1 204 No\r\n\r\n{poison}"),
    ];
    let cases: Vec<_> = texts
        .iter()
        .map(|t| ("§6.3 (1)", &**t, Open, Served(204, "")))
        .collect();
    play("GET", &cases);
    let texts = [
        "HTTP/1.1 304 No\r\n\r\n".to_owned(),
        "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n".to_owned(),
        "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        format!("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\nhello{poison}"),
    ];
    let cases: Vec<_> = texts
        .iter()
        .map(|t| ("§6.3 (1)", &**t, Open, Served(304, "")))
        .collect();
    play("GET", &cases);
    let texts = [
        format!("{OK}Content-Length: 5\r\n\r\n"),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n"),
        format!("{OK}\r\n"),
        format!("{OK}Content-Length: 5\r\n\r\nhello{poison}"),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{poison}"),
    ];
    let cases: Vec<_> = texts
        .iter()
        .map(|t| ("§6.3 (1)", &**t, Open, Served(200, "")))
        .collect();
    play("HEAD", &cases);
}

#[test]
fn bytes_behind_an_answer_are_nobodys() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let texts = [
        format!("{OK}Content-Length: 2\r\n\r\nok{poison}"),
        format!("{OK}Content-Length: 2\r\n\r\nokx"),
        format!("{OK}Content-Length: 2\r\n\r\nok\r\n"),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{poison}"),
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n"),
    ];
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let mut client = gateway.connect();
    for text in &texts {
        let bytes = text.as_bytes().to_vec();
        origin.script(move |seen| match seen.target.as_str() {
            "/odd" => Act::Raw(bytes.clone()),
            _ => Act::ok("good"),
        });
        assert_eq!(client.ask(&Req::get("/odd")).text(), "ok", "{text:?}");
        let odd = origin.last().connection;
        assert_eq!(client.ask(&Req::get("/next")).text(), "good", "{text:?}");
        assert_ne!(
            origin.last().connection,
            odd,
            "{text:?}: doubted, and used again"
        );
    }
}
