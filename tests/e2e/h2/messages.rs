//! The frames of a message and its length: RFC 9113 §8.1.

use super::frame::{Code, data, flag, headers};
use super::hpack::block;
use super::peer::{Peer, Verdict};
use super::site::{BAD, Case, Door, case, run};

/// A POST that no origin may ever see whole, with these fields as well; its body is to come.
fn post(c: &mut Peer, more: &[(&str, &str)]) -> u32 {
    let mut fields = c.fields("POST", "/bad");
    let more = more.iter().chain([&BAD]);
    fields.extend(more.map(|(n, v)| ((*n).into(), (*v).into())));
    c.ask(&fields, flag::NONE)
}

/// With this content-length and a body in these frames the request is malformed.
fn length(d: &Door, said: &str, body: &[&str]) -> Verdict {
    let mut c = Peer::new(d)?;
    let stream = post(&mut c, &[("content-length", said)]);
    let last = body.len() - 1;
    for (n, part) in body.iter().enumerate() {
        let flags = if n == last {
            flag::END_STREAM
        } else {
            flag::NONE
        };
        c.send([data(stream, flags, *part)]);
    }
    c.malformed(stream)
        .map_err(|e| format!("{said} {body:?}: {e}"))
}

/// Trailers with these fields.
fn trailers(d: &Door, fields: &[(&str, &str)]) -> Verdict {
    let mut c = Peer::new(d)?;
    let stream = post(&mut c, &[]);
    c.send([
        data(stream, flag::NONE, "body"),
        headers(stream, flag::WHOLE, block(fields)),
    ]);
    c.malformed(stream)
}

pub const FRAMES: &[Case] = &[
    case(
        "9113 §8.1",
        "http2/8.1/1",
        "HEADERS behind HEADERS that end nothing",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = post(&mut c, &[]);
            c.send([headers(
                stream,
                flag::END_HEADERS,
                block(&[("x-test", "ok")]),
            )]);
            c.malformed(stream)
        },
    ),
    case(
        "9113 §8.1",
        "",
        "trailers that do not end the stream",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = post(&mut c, &[]);
            c.send([
                data(stream, flag::NONE, "body"),
                headers(stream, flag::END_HEADERS, block(&[("x-test", "ok")])),
            ]);
            c.malformed(stream)
        },
    ),
    case("9113 §8.1", "", "DATA behind trailers", |d| {
        let mut c = Peer::holding(d)?;
        let stream = c.post("/held");
        c.send([headers(stream, flag::WHOLE, block(&[("x-test", "ok")]))]);
        c.until("an answer", |seen| seen.reply(stream).status == 200)?;
        c.send([data(stream, flag::END_STREAM, "more")]);
        c.breaks(stream, &[Code::StreamClosed])
    }),
    case("9113 §8.1", "", "END_STREAM on an empty frame", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        c.send([
            data(stream, flag::NONE, "body"),
            data(stream, flag::END_STREAM, ""),
        ]);
        match c.reply(stream)?.text().as_str() {
            "body" => c.serves(),
            other => Err(c.told(other)),
        }
    }),
    case("9113 §8.1", "", "a body of nothing", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        c.end(stream, b"");
        match c.reply(stream)?.body.len() {
            0 => c.serves(),
            other => Err(c.told(&other.to_string())),
        }
    }),
    case(
        "9113 §8.1",
        "",
        "an answer may come before the body has",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.post("/%00");
            c.answers(stream, 400)?;
            // §8.1: then the rest of the body is not wanted, and the answer stays good.
            c.ping()?;
            match c.seen.reply(stream).reset {
                None | Some(Code::No) => c.serves(),
                Some(other) => Err(c.told(&format!("{other:?}"))),
            }
        },
    ),
];

pub const TRAILERS: &[Case] = &[
    case("9113 §8.1", "generic/4/4", "trailers are taken", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        c.send([
            data(stream, flag::NONE, "body"),
            headers(stream, flag::WHOLE, block(&[("x-trailer", "ok")])),
        ]);
        match c.reply(stream)?.text().as_str() {
            "body" => c.serves(),
            other => Err(c.told(other)),
        }
    }),
    case("9113 §8.1", "", "trailers without a body", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        c.send([headers(stream, flag::WHOLE, block(&[("x-trailer", "ok")]))]);
        c.answers(stream, 200)?;
        c.serves()
    }),
    case(
        "9113 §8.3",
        "http2/8.1.2.1/3",
        "a pseudo-header field in trailers",
        |d| {
            trailers(d, &[(":method", "200"), ("x-trailer", "ok")])?;
            trailers(d, &[(":path", "/other")])?;
            trailers(d, &[(":status", "200")])
        },
    ),
    case(
        "9113 §8.3",
        "",
        "an unknown pseudo-header field in trailers",
        |d| trailers(d, &[(":test", "ok")]),
    ),
    case(
        "9113 §8.2.2",
        "",
        "a field of the connection in trailers",
        |d| {
            trailers(d, &[("connection", "close")])?;
            trailers(d, &[("transfer-encoding", "chunked")])
        },
    ),
    case("9113 §8.2.1", "", "an illegal field in trailers", |d| {
        trailers(d, &[("X-Upper", "case")])?;
        trailers(d, &[("x-value", "a\r\nb: c")])?;
        trailers(d, &[("x y", "z")])
    }),
    case(
        "9110 §6.5.1",
        "",
        "trailers change nothing of the request",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.post("/echo?trailers");
            let fields = [
                ("x-user-id", "root"),
                ("content-length", "9"),
                ("host", "b"),
            ];
            c.send([
                data(stream, flag::NONE, "body"),
                headers(stream, flag::WHOLE, block(&fields)),
            ]);
            // Refused, or dropped: never part of the request.
            let refused = c.reply(stream).is_err();
            let arrived = d.arrived("/echo?trailers");
            match arrived {
                Ok(seen) if seen.head.contains("root") => Err(seen.head),
                Ok(seen) if seen.body != b"body" => Err(c.told(&format!("{:?}", seen.body))),
                Err(e) if !refused => Err(e),
                _ => Ok(()),
            }
        },
    ),
];

pub const LENGTHS: &[Case] = &[
    case(
        "9113 §8.1.1",
        "http2/8.1.2.6/1",
        "a body longer than it says",
        |d| {
            length(d, "1", &["test"])?;
            length(d, "2", &["test"])
        },
    ),
    case(
        "9113 §8.1.1",
        "",
        "a body behind a length of nothing",
        |d| {
            let mut c = Peer::new(d)?;
            let path = format!("/nothing/{}", d.over);
            let mut fields = c.fields("POST", &path);
            fields.push(("content-length".into(), "0".into()));
            let stream = c.ask(&fields, flag::NONE);
            c.end(stream, b"something");
            // Whole as it is, the request may have been answered by then.
            c.until("an end", |seen| {
                let reply = seen.reply(stream);
                reply.ended || reply.reset.is_some() || !seen.goaways.is_empty()
            })?;
            match d.arrived(&path) {
                Ok(seen) if !seen.body.is_empty() => Err(c.told("it arrived")),
                _ => Ok(()),
            }
        },
    ),
    case(
        "9113 §8.1.1",
        "http2/8.1.2.6/2",
        "a body longer than it says, in frames",
        |d| {
            length(d, "1", &["te", "st"])?;
            length(d, "3", &["te", "st"])?;
            length(d, "3", &["t", "e", "s", "t", ""])
        },
    ),
    // Its announced bytes once went on at once: a service had answered a request that then turned
    // out to be malformed.
    case(
        "9113 §8.1.1",
        "",
        "a body that may still turn out longer is not whole",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = post(&mut c, &[("content-length", "3")]);
            c.send(["t", "es"].map(|text| data(stream, flag::NONE, text)));
            c.serves()?;
            c.end(stream, b"t");
            c.malformed(stream)
        },
    ),
    case(
        "9113 §8.1.1",
        "",
        "the end of a stream may come late and bare",
        |d| {
            for trailers in [false, true] {
                let mut c = Peer::new(d)?;
                let mut fields = c.fields("POST", "/echo");
                fields.push(("content-length".into(), "3".into()));
                let stream = c.ask(&fields, flag::NONE);
                c.send(["t", "es"].map(|text| data(stream, flag::NONE, text)));
                c.serves()?;
                match trailers {
                    true => {
                        let end = block(&[("x-trailer", "ok")]);
                        c.send([headers(stream, flag::WHOLE, end)]);
                    }
                    false => c.end(stream, b""),
                }
                match c.reply(stream)?.text().as_str() {
                    "tes" => c.serves()?,
                    other => return Err(c.told(other)),
                }
            }
            Ok(())
        },
    ),
    case("9113 §8.1.1", "", "a body shorter than it says", |d| {
        length(d, "5", &["test"])?;
        length(d, "5", &["te", "st", ""])?;
        length(d, "1", &[""])?;
        length(d, "9223372036854775807", &["test"])
    }),
    case("9113 §8.1.1", "", "a length and no body", |d| {
        let mut c = Peer::new(d)?;
        let mut fields = c.fields("POST", "/bad");
        fields.extend([("content-length", "4"), BAD].map(|(n, v)| (n.into(), v.into())));
        let stream = c.ask(&fields, flag::END_STREAM);
        c.malformed(stream)
    }),
    case(
        "9113 §8.1.1",
        "",
        "a body shorter than it says, with trailers",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = post(&mut c, &[("content-length", "5")]);
            c.send([
                data(stream, flag::NONE, "test"),
                headers(stream, flag::WHOLE, block(&[("x-trailer", "ok")])),
            ]);
            c.malformed(stream)
        },
    ),
    case("9110 §8.6", "", "a length that is no number", |d| {
        let bad = [
            "",
            "-4",
            "+4",
            "4,4",
            "4, 4",
            "4;",
            "0x4",
            "4 4",
            "four",
            "4.0",
            "18446744073709551620",
            "00000000000000000000004",
        ];
        bad.iter().try_for_each(|said| length(d, said, &["test"]))
    }),
    case("9110 §8.6", "", "two lengths", |d| {
        for (one, other) in [("4", "5"), ("5", "4"), ("4", "4")] {
            let mut c = Peer::new(d)?;
            let lengths = [("content-length", one), ("content-length", other)];
            let stream = post(&mut c, &lengths);
            c.end(stream, b"test");
            c.malformed(stream)
                .map_err(|e| format!("{one} {other}: {e}"))?;
        }
        Ok(())
    }),
    case(
        "9113 §8.1.1",
        "",
        "a right length, however it is cut and padded",
        |d| {
            for length in ["10", "010"] {
                let mut c = Peer::new(d)?;
                let mut fields = c.fields("POST", "/echo");
                fields.push(("content-length".into(), length.into()));
                let stream = c.ask(&fields, flag::NONE);
                c.send([
                    data(stream, flag::NONE, "01234").padded(30),
                    data(stream, flag::NONE, ""),
                    data(stream, flag::NONE, "5678"),
                    data(stream, flag::NONE, "9"),
                    data(stream, flag::END_STREAM, "").padded(1),
                ]);
                match c.reply(stream)?.text().as_str() {
                    "0123456789" => c.serves()?,
                    other => return Err(c.told(other)),
                }
            }
            Ok(())
        },
    ),
    case("9113 §8.1.1", "", "a length of nothing and nothing", |d| {
        let mut c = Peer::new(d)?;
        let mut fields = c.fields("POST", "/echo");
        fields.push(("content-length".into(), "0".into()));
        let stream = c.ask(&fields, flag::END_STREAM);
        c.answers(stream, 200)?;
        let stream = c.ask(&fields, flag::NONE);
        c.end(stream, b"");
        c.answers(stream, 200)?;
        c.serves()
    }),
];

#[test]
fn messages_of_frames() {
    run(FRAMES);
}

#[test]
fn trailers_of_requests() {
    run(TRAILERS);
}

#[test]
fn lengths_of_bodies() {
    run(LENGTHS);
}
