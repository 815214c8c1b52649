//! Streams at a time: RFC 9113 §5.1.2.

use super::frame::{Code, data, flag, headers, reset, setting, window_update};
use super::hpack::block;
use super::peer::Peer;
use super::site::{Case, Site, case, run_at};

/// §5.1.2.
pub const CONCURRENCY: &[Case] = &[
    case(
        "9113 §5.1.2",
        "",
        "the limit is announced",
        |d| match Peer::new(d)?
            .seen
            .announced(setting::MAX_CONCURRENT_STREAMS)
        {
            Some(5) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    ),
    case(
        "9113 §5.1.2",
        "http2/5.1.2/1",
        "a stream too many is refused",
        |d| {
            let mut c = Peer::with(d, &[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            let streams: Vec<u32> = (0..5).map(|_| c.get("/held")).collect();
            let refused = c.get("/one-too-many");
            c.until("a refusal", |seen| seen.reply(refused).reset.is_some())?;
            let code = c.seen.reply(refused).reset;
            if !matches!(code, Some(Code::RefusedStream | Code::Protocol)) {
                return Err(c.told(&format!("{code:?}")));
            }
            for stream in streams {
                c.send([window_update(stream, 5)]);
                c.answers(stream, 200)?;
            }
            c.serves()
        },
    ),
    case(
        "9113 §5.1",
        "",
        "what follows a refused stream is discarded",
        |d| {
            let mut c = Peer::with(d, &[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            let first = c.get("/held");
            (1..5).for_each(|_| {
                c.get("/held");
            });
            let refused = c.post("/one-too-many");
            c.send([
                data(refused, flag::NONE, "sent before"),
                headers(
                    refused,
                    flag::WHOLE,
                    block(&[("x-trailer", "it was refused")]),
                ),
            ]);
            c.until("a refusal", |seen| seen.reply(refused).reset.is_some())?;
            c.send([window_update(first, 5)]);
            c.answers(first, 200)?;
            c.serves()
        },
    ),
    case(
        "9113 §5.1.2",
        "",
        "a stream that was reset counts no more",
        |d| {
            let mut c = Peer::with(d, &[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            for _ in 0..4 {
                let streams: Vec<u32> = (0..5).map(|_| c.get("/held")).collect();
                for stream in streams {
                    c.until("an answer", |seen| seen.reply(stream).status == 200)?;
                    c.send([reset(stream, Code::Cancel)]);
                }
            }
            c.serves()
        },
    ),
];

#[test]
fn streams_at_a_time() {
    run_at(&Site::with("http2: { max_streams: 5 }"), CONCURRENCY);
}
