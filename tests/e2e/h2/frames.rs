//! DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE: RFC 9113 §6.1 to §6.4, §6.6.

use super::frame::{
    self, Code, Frame, continuation, data, flag, headers, kind, priority, push_promise, reset,
};
use super::hpack::block;
use super::peer::{Peer, Verdict};
use super::site::{BAD, Case, Door, case, run};

const PROTOCOL: &[Code] = &[Code::Protocol];
const SIZE: &[Code] = &[Code::FrameSize];

/// On a connection where stream 1 is a request whose body is to come.
fn uploading(d: &Door, frame: Frame, codes: &[Code]) -> Verdict {
    let mut c = Peer::new(d)?;
    let mut fields = c.fields("POST", "/bad");
    fields.push((BAD.0.into(), BAD.1.into()));
    c.ask(&fields, flag::NONE);
    c.send([frame]);
    c.dies(codes)
}

/// On a connection where nothing has been asked.
fn fresh(d: &Door, frame: Frame, codes: &[Code]) -> Verdict {
    let mut c = Peer::new(d)?;
    c.send([frame]);
    c.dies(codes)
}

fn request(d: &Door) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", d.scheme()),
        (":authority", super::site::NAME),
        (":path", "/bad"),
        BAD,
    ];
    block(&fields)
}

pub const DATA: &[Case] = &[
    case("9113 §6.1", "http2/6.1/1", "DATA on stream 0", |d| {
        uploading(d, data(0, flag::END_STREAM, "test"), PROTOCOL)
    }),
    case(
        "9113 §6.1",
        "http2/6.1/2",
        "DATA on a stream that is not open",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([data(1, flag::END_STREAM, "test")]);
            c.breaks(1, &[Code::StreamClosed])
        },
    ),
    case(
        "9113 §6.1",
        "http2/6.1/3",
        "more padding than there is payload",
        |d| {
            let padded = Frame::new(kind::DATA, flag::PADDED, 1, [5, b't', b'e', b's', b't']);
            uploading(d, padded, PROTOCOL)
        },
    ),
    case("9113 §6.1", "", "padding as long as the payload", |d| {
        let padded = Frame::new(kind::DATA, flag::PADDED | flag::END_STREAM, 1, [1]);
        uploading(d, padded, PROTOCOL)
    }),
    case(
        "9113 §4.2",
        "",
        "DATA without room for the length of its padding",
        |d| {
            uploading(
                d,
                Frame::new(kind::DATA, flag::PADDED, 1, []),
                &[Code::FrameSize, Code::Protocol],
            )
        },
    ),
    case("9113 §6.1", "", "nothing but padding is no body", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        let padded = [0, 1, 255].map(|by| data(stream, flag::NONE, "").padded(by));
        c.send(padded);
        c.send([data(stream, flag::END_STREAM, "body").padded(9)]);
        match c.reply(stream)?.text().as_str() {
            "body" => c.serves(),
            other => Err(c.told(other)),
        }
    }),
    case("9113 §6.1", "", "padding that is not zero", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        let payload = [&[3][..], b"bodyxyz"].concat();
        let flags = flag::PADDED | flag::END_STREAM;
        c.send([Frame::new(kind::DATA, flags, stream, payload)]);
        // It may be refused; it may not become body.
        match c.reply(stream) {
            Ok(reply) if reply.text() == "body" => c.serves(),
            Ok(reply) => Err(c.told(&reply.text())),
            Err(_) => c.dies(PROTOCOL),
        }
    }),
];

pub const HEADERS: &[Case] = &[
    case(
        "9113 §6.2",
        "http2/6.2/1",
        "PRIORITY behind HEADERS that go on",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([headers(1, flag::END_STREAM, request(d)), priority(1, 0, 15)]);
            c.dies(PROTOCOL)
        },
    ),
    case(
        "9113 §6.2",
        "http2/6.2/2",
        "HEADERS behind HEADERS that go on",
        |d| {
            let mut c = Peer::new(d)?;
            let first = headers(1, flag::END_STREAM, request(d));
            c.send([first, headers(3, flag::WHOLE, request(d))]);
            c.dies(PROTOCOL)
        },
    ),
    case(
        "9113 §6.2",
        "",
        "PING behind malformed HEADERS that go on",
        |d| {
            let mut c = Peer::new(d)?;
            let first = [request(d), block(&[("connection", "close")])].concat();
            c.send([
                headers(1, flag::END_STREAM, first),
                frame::ping(b"in there"),
            ]);
            c.dies(PROTOCOL)
        },
    ),
    case("9113 §6.2", "http2/6.2/3", "HEADERS on stream 0", |d| {
        fresh(d, headers(0, flag::WHOLE, request(d)), PROTOCOL)
    }),
    case(
        "9113 §6.2",
        "http2/6.2/4",
        "more padding than there is block",
        |d| {
            let mut frame = headers(1, flag::WHOLE | flag::PADDED, request(d));
            frame.payload.insert(0, 255);
            fresh(d, frame, PROTOCOL)
        },
    ),
    case(
        "9113 §4.2",
        "",
        "HEADERS without room for the length of its padding",
        |d| {
            fresh(
                d,
                headers(1, flag::WHOLE | flag::PADDED, []),
                &[Code::FrameSize, Code::Protocol],
            )
        },
    ),
    case(
        "9113 §4.2",
        "",
        "HEADERS without room for their priority",
        |d| {
            fresh(
                d,
                headers(1, flag::WHOLE | flag::PRIORITY, [0, 0, 0, 0]),
                SIZE,
            )
        },
    ),
    case("9113 §6.2", "", "padding and priority together", |d| {
        let mut c = Peer::new(d)?;
        let fields = block(&c.fields("GET", "/both"));
        let frame = headers(1, flag::WHOLE, fields).prioritised(1 << 31 | 5, 0);
        c.send([frame.padded(200)]);
        c.next = 3;
        c.answers(1, 200)?;
        c.serves()
    }),
    case(
        "9113 §6.2",
        "",
        "a block that is all padding, continued",
        |d| {
            let mut c = Peer::new(d)?;
            let fields = block(&c.fields("GET", "/"));
            c.send([
                headers(1, flag::END_STREAM, []).padded(77),
                continuation(1, flag::END_HEADERS, fields),
            ]);
            c.next = 3;
            c.answers(1, 200)?;
            c.serves()
        },
    ),
];

pub const OTHERS: &[Case] = &[
    case("9113 §6.3", "http2/6.3/1", "PRIORITY on stream 0", |d| {
        fresh(d, priority(0, 0, 15), PROTOCOL)
    }),
    case(
        "9113 §6.3",
        "http2/6.3/2",
        "PRIORITY of another size than 5",
        |d| {
            for size in [0, 4, 6] {
                let mut c = Peer::holding(d)?;
                c.send([Frame::new(kind::PRIORITY, 0, 1, vec![0; size])]);
                c.breaks(1, SIZE)?;
            }
            Ok(())
        },
    ),
    case("9113 §6.4", "http2/6.4/1", "RST_STREAM on stream 0", |d| {
        fresh(d, reset(0, Code::Cancel), PROTOCOL)
    }),
    case(
        "9113 §6.4",
        "http2/6.4/2",
        "RST_STREAM on an idle stream",
        |d| fresh(d, reset(1, Code::Cancel), PROTOCOL),
    ),
    case(
        "9113 §6.4",
        "http2/6.4/3",
        "RST_STREAM of another size than 4",
        |d| {
            for size in [0, 3, 5] {
                uploading(d, Frame::new(kind::RST_STREAM, 0, 1, vec![0; size]), SIZE)?;
            }
            Ok(())
        },
    ),
    case("9113 §8.4", "http2/8.2/1", "a client pushes", |d| {
        let promise = push_promise(1, 3, &request(d));
        uploading(d, promise, PROTOCOL)
    }),
    case(
        "9113 §8.4",
        "",
        "a client pushes on a stream that is complete",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([push_promise(1, 2, &request(d))]);
            c.dies(PROTOCOL)
        },
    ),
    case(
        "9113 §8.4",
        "",
        "a client pushes on a stream that it reset",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([reset(1, Code::Cancel), push_promise(1, 2, &request(d))]);
            c.dies(PROTOCOL)
        },
    ),
    case("9113 §8.4", "", "a client pushes what is malformed", |d| {
        let bad = [request(d), block(&[("connection", "close")])].concat();
        uploading(d, push_promise(1, 2, &bad), PROTOCOL)
    }),
    case(
        "9113 §8.4",
        "",
        "a client pushes on an idle stream, and on stream 0",
        |d| {
            fresh(d, push_promise(1, 2, &request(d)), PROTOCOL)?;
            fresh(d, push_promise(0, 2, &request(d)), PROTOCOL)
        },
    ),
];

#[test]
fn data_frames() {
    run(DATA);
}

#[test]
fn headers_frames() {
    run(HEADERS);
}

#[test]
fn priority_reset_and_push_frames() {
    run(OTHERS);
}
