//! The states of a stream, identifiers, concurrency, priority, errors: RFC 9113 §5.

use super::frame::{
    self, Code, Frame, MOST, continuation, data, flag, headers, priority, reset, window_update,
};
use super::hpack::{DYNAMIC, Literal, Text, block, indexed};
use super::peer::{Peer, Verdict};
use super::site::{BAD, Case, Door, case, run};

const CLOSED: &[Code] = &[Code::StreamClosed];

/// HEADERS with a whole request that must not be served.
fn bad_request(c: &Peer, stream: u32) -> Frame {
    let mut fields = c.fields("GET", "/bad");
    fields.push((BAD.0.into(), BAD.1.into()));
    headers(stream, flag::WHOLE, block(&fields))
}

/// On a fresh connection, where stream 1 is idle.
fn idle(d: &Door, frame: &Frame) -> Verdict {
    let mut c = Peer::new(d)?;
    c.send([frame.clone()]);
    c.dies(&[Code::Protocol])
}

/// Stream 1 has been answered and is closed.
fn answered(d: &Door) -> Result<Peer, String> {
    let mut c = Peer::new(d)?;
    c.serves()?;
    Ok(c)
}

/// Stream 1 was reset by the client while its answer waited.
fn given_up(d: &Door) -> Result<Peer, String> {
    let mut c = Peer::holding(d)?;
    c.send([reset(1, Code::Cancel)]);
    Ok(c)
}

/// Wants an error of the connection, or of the stream where it is closed: `breaks` without a look
/// at whether the reset came before.
fn closed(c: &mut Peer, codes: &[Code]) -> Verdict {
    c.breaks(1, codes)
}

pub const IDLE: &[Case] = &[
    case("9113 §5.1", "http2/5.1/1", "DATA on an idle stream", |d| {
        idle(d, &data(1, flag::END_STREAM, "test"))
    }),
    case(
        "9113 §5.1",
        "http2/5.1/2",
        "RST_STREAM on an idle stream",
        |d| idle(d, &reset(1, Code::Cancel)),
    ),
    case(
        "9113 §5.1",
        "http2/5.1/3",
        "WINDOW_UPDATE on an idle stream",
        |d| idle(d, &window_update(1, 100)),
    ),
    case(
        "9113 §5.1",
        "http2/5.1/4",
        "CONTINUATION on an idle stream",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([continuation(1, flag::END_HEADERS, request)]);
            c.dies(&[Code::Protocol])
        },
    ),
    case(
        "9113 §5.1",
        "",
        "frames on an idle stream of the server's",
        |d| {
            idle(d, &data(2, flag::NONE, "test"))?;
            idle(d, &reset(2, Code::Cancel))?;
            idle(d, &window_update(2, 100))
        },
    ),
    case(
        "9113 §5.1",
        "generic/2/1",
        "PRIORITY on an idle stream",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([priority(1, 0, 1), priority(7, 1, 200), priority(2, 0, 1)]);
            c.ignores()
        },
    ),
];

pub const HALF_CLOSED: &[Case] = &[
    case(
        "9113 §5.1",
        "http2/5.1/5",
        "DATA when the request is complete",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([data(1, flag::END_STREAM, "test")]);
            c.breaks(1, CLOSED)
        },
    ),
    case(
        "9113 §5.1",
        "http2/5.1/6",
        "HEADERS when the request is complete",
        |d| {
            let mut c = Peer::holding(d)?;
            let again = bad_request(&c, 1);
            c.send([again]);
            c.breaks(1, CLOSED)
        },
    ),
    case(
        "9113 §5.1",
        "",
        "HEADERS that end nothing, when the request is complete",
        |d| {
            let mut c = Peer::holding(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([headers(1, flag::END_HEADERS, request)]);
            c.breaks(1, CLOSED)
        },
    ),
    case(
        "9113 §5.1",
        "http2/5.1/7",
        "CONTINUATION when the request is complete",
        |d| {
            let mut c = Peer::holding(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([continuation(1, flag::END_HEADERS, request)]);
            c.dies(&[Code::StreamClosed, Code::Protocol])
        },
    ),
    case(
        "9113 §5.1",
        "generic/2/2",
        "WINDOW_UPDATE when the request is complete",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([window_update(1, 5)]);
            match c.reply(1)?.text().as_str() {
                "/held" => c.serves(),
                other => Err(c.told(other)),
            }
        },
    ),
    case(
        "9113 §5.1",
        "generic/2/3",
        "PRIORITY when the request is complete",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([priority(1, 0, 1), window_update(1, 5)]);
            c.answers(1, 200)?;
            c.serves()
        },
    ),
    case(
        "9113 §5.1",
        "generic/2/4",
        "RST_STREAM when the request is complete",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([reset(1, Code::Cancel)]);
            c.ignores()?;
            match c.seen.reply(1).reset {
                None => Ok(()),
                Some(_) => Err(c.told("§5.4.2: RST_STREAM answered with RST_STREAM")),
            }
        },
    ),
];

pub const CLOSED_STREAMS: &[Case] = &[
    case(
        "9113 §6.1",
        "http2/5.1/8",
        "DATA on a stream that the client reset",
        |d| {
            let mut c = given_up(d)?;
            c.send([data(1, flag::END_STREAM, "test")]);
            closed(&mut c, CLOSED)
        },
    ),
    case(
        "9113 §5.1",
        "http2/5.1/9",
        "HEADERS on a stream that the client reset",
        |d| {
            let mut c = given_up(d)?;
            let again = bad_request(&c, 1);
            c.send([again]);
            // An identifier that was used already (§5.1.1) is as true.
            closed(&mut c, &[Code::StreamClosed, Code::Protocol])
        },
    ),
    case(
        "9113 §5.1",
        "http2/5.1/10",
        "CONTINUATION on a stream that was reset",
        |d| {
            let mut c = given_up(d)?;
            c.send([continuation(1, flag::END_HEADERS, [])]);
            c.dies(&[Code::StreamClosed, Code::Protocol])
        },
    ),
    case(
        "9113 §6.1",
        "http2/5.1/11",
        "DATA on a stream that is closed",
        |d| {
            let mut c = answered(d)?;
            c.send([data(1, flag::END_STREAM, "test")]);
            closed(&mut c, CLOSED)
        },
    ),
    case(
        "9113 §5.1",
        "http2/5.1/12",
        "HEADERS on a stream that is closed",
        |d| {
            let mut c = answered(d)?;
            let again = bad_request(&c, 1);
            c.send([again]);
            closed(&mut c, &[Code::StreamClosed, Code::Protocol])
        },
    ),
    case(
        "9113 §5.1",
        "http2/5.1/13",
        "CONTINUATION on a stream that is closed",
        |d| {
            let mut c = answered(d)?;
            c.send([continuation(1, flag::END_HEADERS, [])]);
            c.dies(&[Code::StreamClosed, Code::Protocol])
        },
    ),
    case(
        "9113 §5.1",
        "generic/2/5",
        "PRIORITY on a stream that is closed",
        |d| {
            let mut c = answered(d)?;
            c.send([priority(1, 0, 1)]);
            c.ignores()
        },
    ),
    case(
        "9113 §5.1",
        "",
        "WINDOW_UPDATE and RST_STREAM on a closed stream",
        |d| {
            let mut c = answered(d)?;
            c.send([window_update(1, 1000), reset(1, Code::No)]);
            c.ignores()
        },
    ),
    case(
        "9113 §5.1",
        "",
        "what comes behind an early answer is discarded",
        |d| {
            let mut c = Peer::new(d)?;
            // Refused at once; its stream's window is full by then, and again ten times the
            // connection's: what is thrown away is given back.
            for _ in 0..40 {
                let stream = c.post("/%00");
                c.room(stream, 32_100)?;
                let much = vec![b'z'; 16_000];
                c.send([
                    data(stream, flag::NONE, much.clone()),
                    data(stream, flag::NONE, much),
                ]);
                c.answers(stream, 400)?;
                c.end(stream, b"late");
            }
            let stream = c.post("/echo");
            c.end(stream, &[b'g'; 16_000]);
            c.answers(stream, 200)?;
            c.serves()
        },
    ),
];

pub const IDENTIFIERS: &[Case] = &[
    case("9113 §5.1.1", "http2/5.1.1/1", "an even stream", |d| {
        let mut c = Peer::new(d)?;
        let request = bad_request(&c, 2);
        c.send([request]);
        c.dies(&[Code::Protocol])
    }),
    case(
        "9113 §5.1.1",
        "http2/5.1.1/2",
        "a smaller identifier than before",
        |d| {
            let mut c = Peer::new(d)?;
            let good = block(&c.fields("GET", "/"));
            let late = bad_request(&c, 3);
            c.send([headers(5, flag::WHOLE, good), late]);
            c.dies(&[Code::Protocol])
        },
    ),
    case("9113 §5.1.1", "", "identifiers may be left out", |d| {
        let mut c = Peer::new(d)?;
        for stream in [1, 101, 4711, MOST] {
            c.next = stream;
            c.get("/");
            c.answers(stream, 200)?;
        }
        c.ping()
    }),
    case(
        "9113 §5.1.1",
        "",
        "frames on streams that were left out",
        |d| {
            let mut c = Peer::new(d)?;
            c.next = 7;
            c.serves()?;
            c.send([
                window_update(3, 1),
                reset(3, Code::Cancel),
                priority(3, 0, 1),
            ]);
            c.ignores()?;
            c.send([data(5, flag::NONE, "x")]);
            c.breaks(5, CLOSED)
        },
    ),
];

pub const PRIORITY: &[Case] = &[
    case(
        "9113 §5.3.2",
        "http2/5.3.1/1",
        "HEADERS that depend on their own stream",
        |d| {
            let mut c = Peer::new(d)?;
            let name = Literal::Indexed.field(b"x-own", b"indexed", Text::Plain);
            let request = [block(&c.fields("GET", "/own")), name].concat();
            c.send([headers(1, flag::WHOLE, request).prioritised(1, 255)]);
            c.next = 3;
            // Priority is no more: it may be ignored, or refused as RFC 7540 §5.3.1 would.
            if matches!(c.reply(1), Ok(reply) if reply.status == 200) {
                return own_table(&mut c, d);
            }
            match c.seen.reply(1).reset {
                None => c.dies(&[Code::Protocol, Code::Compression]),
                Some(Code::Protocol) => own_table(&mut c, d),
                Some(other) => Err(c.told(&format!("{other:?}"))),
            }
        },
    ),
    case(
        "9113 §5.3.2",
        "http2/5.3.1/2",
        "PRIORITY that depends on its own stream",
        |d| {
            let mut c = Peer::new(d)?;
            c.serves()?;
            c.send([priority(1, 1, 255)]);
            match c.ping() {
                Ok(()) => c.serves(),
                Err(_) => c.dies(&[Code::Protocol]),
            }
        },
    ),
    case(
        "9113 §6.4",
        "",
        "no RST_STREAM for PRIORITY on an idle stream",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([priority(9, 9, 255)]);
            // `Seen::take` wants no RST_STREAM on an idle stream.
            match c.ping() {
                Ok(()) => c.serves(),
                Err(e) => c.dies(&[Code::Protocol]).map_err(|_| e),
            }
        },
    ),
    case(
        "9113 §5.3.2",
        "generic/3.3/5",
        "PRIORITY on an idle stream, then a lower one",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([priority(3, 0, 255)]);
            c.serves()
        },
    ),
];

/// The field that a request before put into the table is found there: its block was decoded
/// whatever became of it (§4.3).
fn own_table(c: &mut Peer, d: &Door) -> Verdict {
    let request = block(&c.fields("GET", "/own-table"));
    let stream = c.stream();
    let request = [request, indexed(DYNAMIC)].concat();
    c.send([headers(stream, flag::WHOLE, request)]);
    c.answers(stream, 200)?;
    match d.arrived("/own-table")?.header("x-own") {
        Some("indexed") => Ok(()),
        other => Err(c.told(&format!("the table is out of step: {other:?}"))),
    }
}

pub const ERRORS: &[Case] = &[
    case(
        "9113 §5.4.1",
        "http2/5.4.1/1",
        "a connection error ends the connection",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([frame::ping(b"truncate").claiming(6)]);
            c.put(&[0, 0]);
            c.dies(&[Code::FrameSize])
        },
    ),
    case(
        "9113 §5.4.1",
        "http2/5.4.1/2",
        "GOAWAY names the last stream",
        |d| {
            let mut c = Peer::new(d)?;
            c.serves()?;
            c.serves()?;
            c.send([Frame::new(frame::kind::PING, 0, 0, [0; 6])]);
            c.dies(&[Code::FrameSize])?;
            match c.seen.goaways.last() {
                Some((3, _)) => Ok(()),
                other => Err(c.told(&format!("want stream 3, got {other:?}"))),
            }
        },
    ),
    case(
        "9113 §5.4.2",
        "",
        "a stream error leaves the others alone",
        |d| {
            let mut c = Peer::holding(d)?;
            let stream = c.post("/echo");
            // Trailers that do not end the stream (§8.1).
            c.send([headers(stream, flag::END_HEADERS, block(&[BAD]))]);
            c.malformed(stream)?;
            c.send([window_update(1, 5)]);
            c.answers(1, 200)
        },
    ),
];

#[test]
fn idle_streams() {
    run(IDLE);
}

#[test]
fn half_closed_streams() {
    run(HALF_CLOSED);
}

#[test]
fn closed_streams() {
    run(CLOSED_STREAMS);
}

#[test]
fn stream_identifiers() {
    run(IDENTIFIERS);
}

#[test]
fn priority_is_no_more() {
    run(PRIORITY);
}

#[test]
fn errors_of_streams_and_connections() {
    run(ERRORS);
}
