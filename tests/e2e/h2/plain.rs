//! What a server must take: one good use of each frame and of each kind of exchange.

use super::frame::{
    self, Code, continuation, data, flag, goaway, headers, ping, priority, reset, setting,
    settings, window_update,
};
use super::hpack::block;
use super::peer::{Peer, Verdict};
use super::site::{Case, Door, case, run};

/// PRIORITY on a stream that then carries a request (§5.3: it has no more effect).
fn prioritised(d: &Door, on: u32, weight: u8) -> Verdict {
    let mut c = Peer::new(d)?;
    c.send([priority(1, on, weight)]);
    c.serves()
}

fn echoes(d: &Door, frames: impl FnOnce(u32) -> Vec<frame::Frame>, body: &str) -> Verdict {
    let mut c = Peer::new(d)?;
    let stream = c.post("/echo");
    c.send(frames(stream));
    match c.reply(stream)?.text() {
        text if text == body => c.serves(),
        other => Err(c.told(&other)),
    }
}

pub const FRAMES: &[Case] = &[
    case("9113 §6.1", "generic/3.1/1", "DATA", |d| {
        echoes(d, |s| vec![data(s, flag::END_STREAM, "test")], "test")
    }),
    case("9113 §6.1", "generic/3.1/2", "several DATA frames", |d| {
        let frames = |s| vec![data(s, flag::NONE, "te"), data(s, flag::END_STREAM, "st")];
        echoes(d, frames, "test")
    }),
    case("9113 §6.1", "generic/3.1/3", "DATA with padding", |d| {
        echoes(
            d,
            |s| vec![data(s, flag::END_STREAM, "test").padded(6)],
            "test",
        )
    }),
    case("9113 §6.2", "generic/3.2/1", "HEADERS", |d| {
        Peer::new(d)?.serves()
    }),
    case("9113 §6.2", "generic/3.2/2", "HEADERS with padding", |d| {
        let mut c = Peer::new(d)?;
        let request = block(&c.fields("GET", "/"));
        c.send([headers(1, flag::WHOLE, request).padded(6)]);
        c.answers(1, 200)
    }),
    case(
        "9113 §6.2",
        "generic/3.2/3",
        "HEADERS with priority",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([headers(1, flag::WHOLE, request).prioritised(0, 255)]);
            c.answers(1, 200)
        },
    ),
    case(
        "9113 §6.3",
        "generic/3.3/1",
        "PRIORITY with weight 1",
        |d| prioritised(d, 0, 0),
    ),
    case(
        "9113 §6.3",
        "generic/3.3/2",
        "PRIORITY with weight 256",
        |d| prioritised(d, 0, 255),
    ),
    case(
        "9113 §6.3",
        "generic/3.3/3",
        "PRIORITY with a dependency",
        |d| prioritised(d, 3, 255),
    ),
    case(
        "9113 §6.3",
        "generic/3.3/4",
        "PRIORITY with an exclusive dependency",
        |d| prioritised(d, 1 << 31 | 3, 255),
    ),
    case("9113 §6.4", "generic/3.4/1", "RST_STREAM", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        c.send([reset(stream, Code::Cancel)]);
        c.ignores()
    }),
    case("9113 §6.5", "generic/3.5/1", "SETTINGS", |d| {
        let mut c = Peer::new(d)?;
        c.send([settings(&[(setting::MAX_CONCURRENT_STREAMS, 100)])]);
        c.until("an ACK", |seen| seen.acks == 2)
    }),
    case("9113 §6.7", "generic/3.7/1", "PING", |d| {
        let mut c = Peer::new(d)?;
        c.send([ping(b"h2spec\0\0")]);
        c.until("a pong", |seen| seen.pongs == [b"h2spec\0\0".to_vec()])
    }),
    case("9113 §6.8", "generic/3.8/1", "GOAWAY", |d| {
        let mut c = Peer::new(d)?;
        c.send([goaway(0, Code::No)]);
        c.dies(&[Code::No])
    }),
    case(
        "9113 §6.9",
        "generic/3.9/1",
        "WINDOW_UPDATE on stream 0",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([window_update(0, 1)]);
            c.ignores()
        },
    ),
    case(
        "9113 §6.9",
        "generic/3.9/2",
        "WINDOW_UPDATE on a stream",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.post("/echo");
            c.send([
                window_update(stream, 1),
                data(stream, flag::END_STREAM, "x"),
            ]);
            c.answers(stream, 200)
        },
    ),
    case(
        "9113 §6.10",
        "generic/3.10/2",
        "two CONTINUATION frames",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([
                headers(1, flag::END_STREAM, request),
                continuation(1, flag::NONE, block(&[("x-one", "1")])),
                continuation(1, flag::END_HEADERS, block(&[("x-two", "2")])),
            ]);
            c.answers(1, 200)
        },
    ),
];

pub const EXCHANGES: &[Case] = &[
    case("9113 §8.1", "generic/4/1", "GET", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.get("/plain?q=1");
        let reply = c.reply(stream)?;
        match (reply.status, reply.text().as_str()) {
            (200, "/plain?q=1") => c.serves(),
            other => Err(c.told(&format!("{other:?}"))),
        }
    }),
    case("9113 §8.1", "generic/4/2", "HEAD", |d| {
        let mut c = Peer::new(d)?;
        let fields = c.fields("HEAD", "/size/5");
        let stream = c.ask(&fields, flag::END_STREAM);
        c.seen.answers_head(stream);
        let reply = c.reply(stream)?;
        match (
            reply.status,
            reply.field("content-length"),
            reply.body.len(),
        ) {
            (200, "5", 0) => c.serves(),
            other => Err(c.told(&format!("{other:?}"))),
        }
    }),
    case("9113 §8.1", "generic/4/3", "POST", |d| {
        echoes(d, |s| vec![data(s, flag::END_STREAM, "test")], "test")
    }),
    case("9110 §15.3.5", "", "answers that have no body", |d| {
        let mut c = Peer::new(d)?;
        for status in [204, 304] {
            let stream = c.get(&format!("/status/{status}"));
            let reply = c.reply(stream)?;
            if (reply.status, reply.body.len()) != (status, 0) {
                return Err(c.told(&reply.text()));
            }
        }
        c.serves()
    }),
    case("9113 §8.3.2", "", "answers of every class", |d| {
        let mut c = Peer::new(d)?;
        for status in [200, 206, 302, 400, 404, 418, 500, 599] {
            let stream = c.get(&format!("/status/{status}"));
            c.answers(stream, status)?;
        }
        c.serves()
    }),
    case("9113 §5", "", "a hundred requests at a time", |d| {
        let mut c = Peer::new(d)?;
        let streams: Vec<u32> = (0..100).map(|n| c.get(&format!("/size/{n}"))).collect();
        for (n, stream) in streams.into_iter().enumerate() {
            let reply = c.reply(stream)?;
            if (reply.status, reply.body.len()) != (200, n) {
                return Err(c.told(&format!("{n}: {}", reply.status)));
            }
        }
        c.serves()
    }),
    case("9113 §5", "", "bodies that come interleaved", |d| {
        let mut c = Peer::new(d)?;
        let streams = [c.post("/echo"), c.post("/echo"), c.post("/echo")];
        for round in 0..50u8 {
            c.send(streams.map(|s| data(s, flag::NONE, [s as u8, round])));
        }
        c.send(streams.map(|s| data(s, flag::END_STREAM, "")));
        for stream in streams {
            let want: Vec<u8> = (0..50).flat_map(|round| [stream as u8, round]).collect();
            if c.reply(stream)?.body != want {
                return Err(c.told("mixed up"));
            }
        }
        c.serves()
    }),
    case(
        "9113 §5",
        "",
        "a thousand requests one after the other",
        |d| {
            let mut c = Peer::new(d)?;
            (0..1000).try_for_each(|_| c.serves())
        },
    ),
];

#[test]
fn every_frame_has_its_use() {
    run(FRAMES);
}

#[test]
fn requests_and_answers() {
    run(EXCHANGES);
}
