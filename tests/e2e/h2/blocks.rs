//! Header blocks in several frames: RFC 9113 §4.3, §6.10.

use super::frame::{self, Code, Frame, continuation, data, flag, headers};
use super::hpack::{DYNAMIC, Literal, Text, block, indexed};
use super::peer::{Peer, Verdict};
use super::site::{BAD, Case, Door, case, run};

const PROTOCOL: &[Code] = &[Code::Protocol];

/// A request that no origin may see, as the frames that these cuts make of its block. The last one
/// has END_HEADERS.
fn bad_parts(c: &Peer, cuts: usize) -> Vec<Frame> {
    let mut fields = c.fields("GET", "/bad");
    fields.push((BAD.0.into(), BAD.1.into()));
    parts(1, &block(&fields), cuts)
}

/// HEADERS that end the stream, and so many CONTINUATION frames.
fn parts(stream: u32, block: &[u8], more: usize) -> Vec<Frame> {
    let size = block.len().div_ceil(more + 1).max(1);
    let mut pieces: Vec<Vec<u8>> = block.chunks(size).map(<[u8]>::to_vec).collect();
    pieces.resize(more + 1, Vec::new());
    let mut frames: Vec<Frame> = pieces
        .into_iter()
        .map(|piece| continuation(stream, flag::NONE, piece))
        .collect();
    let (kind, flags) = (frame::kind::HEADERS, flag::END_STREAM);
    (frames[0].kind, frames[0].flags) = (kind, flags);
    let last = frames.len() - 1;
    frames[last].flags |= flag::END_HEADERS;
    frames
}

fn served_in_parts(d: &Door, more: usize) -> Verdict {
    let mut c = Peer::new(d)?;
    let request = block(&c.fields("GET", "/in-parts"));
    let frames = parts(1, &request, more);
    c.send(frames);
    c.next = 3;
    c.answers(1, 200)?;
    c.serves()
}

/// A block that goes on, then this frame.
fn interrupted(d: &Door, by: &Frame) -> Verdict {
    let mut c = Peer::new(d)?;
    let mut frames = bad_parts(&c, 2);
    frames.truncate(2);
    c.send(frames);
    c.send([by.clone()]);
    c.dies(PROTOCOL)
}

pub const PARTS: &[Case] = &[
    case("9113 §6.10", "generic/3.10/1", "one CONTINUATION", |d| {
        served_in_parts(d, 1)
    }),
    case(
        "9113 §6.10",
        "http2/6.10/1",
        "several CONTINUATION frames",
        |d| served_in_parts(d, 4),
    ),
    case("9113 §4.3", "", "a block cut at any octet", |d| {
        let mut c = Peer::new(d)?;
        let fields = c.fields("GET", "/cut");
        let named = Literal::Indexed.field(b"x-cut", b"whole", Text::Huffman);
        let request = [block(&fields), named].concat();
        for at in 0..=request.len() {
            let stream = c.stream();
            let (first, second) = request.split_at(at);
            c.send([
                headers(stream, flag::END_STREAM, first),
                continuation(stream, flag::END_HEADERS, second),
            ]);
            c.answers(stream, 200)
                .map_err(|e| format!("at {at}: {e}"))?;
            let arrived = d.arrived("/cut")?;
            if arrived.header("x-cut") != Some("whole") {
                return Err(format!("at {at}: {}", arrived.head));
            }
        }
        Ok(())
    }),
    case(
        "9113 §6.10",
        "",
        "CONTINUATION frames with nothing in them",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([
                headers(1, flag::END_STREAM, []),
                continuation(1, flag::NONE, []),
                continuation(1, flag::NONE, request),
                continuation(1, flag::END_HEADERS, []),
            ]);
            c.next = 3;
            c.answers(1, 200)?;
            c.serves()
        },
    ),
    case("9113 §6.10", "http2/6.10/2", "DATA within a block", |d| {
        interrupted(d, &data(1, flag::END_STREAM, "test"))
    }),
    case("9113 §6.10", "", "any other frame within a block", |d| {
        let others = [
            frame::priority(1, 0, 1),
            frame::reset(1, Code::Cancel),
            frame::settings(&[]),
            frame::settings_ack(),
            frame::push_promise(1, 2, &[]),
            frame::ping(b"01234567"),
            frame::goaway(0, Code::No),
            frame::window_update(0, 1),
            frame::window_update(1, 1),
            Frame::new(0x55, flag::NONE, 1, []),
        ];
        others
            .iter()
            .try_for_each(|other| interrupted(d, other).map_err(|e| format!("{other:?}: {e}")))
    }),
    case("9113 §6.10", "", "HEADERS again within a block", |d| {
        interrupted(d, &headers(1, flag::WHOLE, block(&[BAD])))
    }),
    case(
        "9113 §6.10",
        "",
        "CONTINUATION of another stream within a block",
        |d| interrupted(d, &continuation(3, flag::END_HEADERS, block(&[BAD]))),
    ),
    case(
        "9113 §6.10",
        "http2/6.10/3",
        "CONTINUATION on stream 0",
        |d| interrupted(d, &continuation(0, flag::END_HEADERS, block(&[BAD]))),
    ),
    case(
        "9113 §6.10",
        "http2/6.10/4",
        "CONTINUATION behind a whole block",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([
                headers(1, flag::WHOLE, request),
                continuation(1, flag::END_HEADERS, block(&[BAD])),
            ]);
            c.dies(PROTOCOL)
        },
    ),
    case(
        "9113 §6.10",
        "http2/6.10/5",
        "CONTINUATION behind the last CONTINUATION",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([
                headers(1, flag::END_STREAM, request),
                continuation(1, flag::END_HEADERS, []),
                continuation(1, flag::END_HEADERS, block(&[BAD])),
            ]);
            c.dies(PROTOCOL)
        },
    ),
    case(
        "9113 §6.10",
        "http2/6.10/6",
        "CONTINUATION behind DATA",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.post("/");
            c.send([
                data(stream, flag::NONE, "test"),
                continuation(stream, flag::END_HEADERS, block(&[BAD])),
            ]);
            c.dies(PROTOCOL)
        },
    ),
    case(
        "9113 §6.10",
        "",
        "a request that is only CONTINUATION",
        |d| {
            let mut c = Peer::new(d)?;
            let mut frames = bad_parts(&c, 1);
            frames.remove(0);
            c.send(frames);
            c.dies(PROTOCOL)
        },
    ),
];

/// A block is decoded whatever becomes of its request, else the tables of the two sides would part
/// (§4.3): a field put into the table by `first` is found there by a next request.
fn remembered(d: &Door, first: impl FnOnce(&mut Peer, Vec<u8>) -> u32) -> Verdict {
    let mut c = Peer::new(d)?;
    let named = Literal::Indexed.field(b"x-kept", b"in the table", Text::Plain);
    let stream = first(&mut c, named);
    c.malformed(stream)?;
    if c.seen.closed {
        return Ok(());
    }
    let request = [block(&c.fields("GET", "/remembered")), indexed(DYNAMIC)].concat();
    let stream = c.stream();
    c.send([headers(stream, flag::WHOLE, request)]);
    c.answers(stream, 200)?;
    match d.arrived("/remembered")?.header("x-kept") {
        Some("in the table") => Ok(()),
        other => Err(c.told(&format!("out of step: {other:?}"))),
    }
}

/// As HEADERS, then, if `more`, an empty CONTINUATION.
fn refuse(c: &mut Peer, block: Vec<u8>, more: bool) -> u32 {
    let stream = c.stream();
    let end = if more { flag::NONE } else { flag::END_HEADERS };
    c.send([headers(stream, flag::END_STREAM | end, block)]);
    if more {
        c.send([continuation(stream, flag::END_HEADERS, [])]);
    }
    stream
}

pub const TABLES: &[Case] = &[
    case(
        "9113 §4.3",
        "",
        "the block of a malformed request is decoded",
        |d| {
            remembered(d, |c, named| {
                let hop = block(&[("connection", "close"), BAD]);
                let request = [block(&c.fields("GET", "/bad")), hop, named].concat();
                refuse(c, request, false)
            })
        },
    ),
    case(
        "9113 §4.3",
        "",
        "the block of a malformed request in parts is decoded",
        |d| {
            remembered(d, |c, named| {
                let hop = block(&[("connection", "close"), BAD]);
                let request = [block(&c.fields("GET", "/bad")), hop, named].concat();
                refuse(c, request, true)
            })
        },
    ),
    case(
        "9113 §4.3",
        "",
        "the block of a request without a method is decoded",
        |d| {
            remembered(d, |c, named| {
                let request = [block(&c.fields("GET", "/bad")[1..]), block(&[BAD]), named].concat();
                refuse(c, request, false)
            })
        },
    ),
    case(
        "9113 §4.3",
        "",
        "the block of a request that is too large is decoded",
        |d| {
            remembered(d, |c, named| {
                let large = block(&[("x-large", "l".repeat(15_000)), ("x-bad", "1".into())]);
                let request = [block(&c.fields("GET", "/bad")), large.clone(), large].concat();
                let (first, second) = request.split_at(16_000);
                let stream = c.stream();
                c.send([
                    headers(stream, flag::END_STREAM, first),
                    continuation(stream, flag::END_HEADERS, [second, &named].concat()),
                ]);
                stream
            })
        },
    ),
    case("9113 §4.3", "", "the block of trailers is decoded", |d| {
        let mut c = Peer::new(d)?;
        let named = Literal::Indexed.field(b"x-kept", b"of trailers", Text::Plain);
        let stream = c.post("/echo");
        c.send([
            data(stream, flag::NONE, "body"),
            headers(stream, flag::WHOLE, named),
        ]);
        c.answers(stream, 200)?;
        let request = [block(&c.fields("GET", "/remembered")), indexed(DYNAMIC)].concat();
        let stream = c.stream();
        c.send([headers(stream, flag::WHOLE, request)]);
        c.answers(stream, 200)?;
        match d.arrived("/remembered")?.header("x-kept") {
            Some("of trailers") => Ok(()),
            other => Err(c.told(&format!("out of step: {other:?}"))),
        }
    }),
];

#[test]
fn blocks_in_parts() {
    run(PARTS);
}

#[test]
fn tables_stay_in_step() {
    run(TABLES);
}
