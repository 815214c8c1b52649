//! SETTINGS, PING, GOAWAY: RFC 9113 §6.5, §6.7, §6.8, §7.

use super::frame::{
    Code, Frame, MOST, WINDOW, flag, goaway, kind, ping, reset, setting, settings, settings_ack,
    window_update,
};
use super::peer::{Peer, Verdict};
use super::site::{Case, Door, case, run};

/// On a fresh connection.
fn fatal(d: &Door, frame: Frame, code: Code) -> Verdict {
    let mut c = Peer::new(d)?;
    c.send([frame]);
    c.dies(&[code])
}

/// One setting that must not be so, at the begin and later.
fn refused(d: &Door, id: u16, value: u32, code: Code) -> Verdict {
    let mut c = Peer::raw(d)?;
    c.begin(&[(id, value)]);
    c.dies(&[code]).map_err(|e| format!("first: {e}"))?;
    fatal(d, settings(&[(id, value)]), code).map_err(|e| format!("later: {e}"))?;
    // One good value behind it does not mend it.
    let mended = settings(&[(id, value), (setting::ENABLE_PUSH, 0), (id, 20_000)]);
    fatal(d, mended, code).map_err(|e| format!("mended: {e}"))
}

/// Settings that change nothing that is seen.
fn taken(d: &Door, values: &[(u16, u32)]) -> Verdict {
    Peer::with(d, values)?.serves()?;
    let mut c = Peer::new(d)?;
    c.send([settings(values)]);
    c.until("an ACK", |seen| seen.acks == 2)?;
    c.serves()
}

pub const SETTINGS: &[Case] = &[
    case("9113 §6.5", "http2/6.5/1", "an ACK with a payload", |d| {
        fatal(d, settings_ack_with_one(), Code::FrameSize)
    }),
    case("9113 §6.5", "http2/6.5/2", "SETTINGS on a stream", |d| {
        let mut frame = settings(&[(setting::MAX_CONCURRENT_STREAMS, 100)]);
        frame.stream = 1;
        fatal(d, frame, Code::Protocol)
    }),
    case(
        "9113 §6.5",
        "http2/6.5/3",
        "SETTINGS of a size that is no multiple of 6",
        |d| {
            for size in [1, 3, 5, 7] {
                let frame = Frame::new(kind::SETTINGS, flag::NONE, 0, vec![0; size]);
                fatal(d, frame, Code::FrameSize)?;
            }
            Ok(())
        },
    ),
    case(
        "9113 §6.5.2",
        "http2/6.5.2/1",
        "ENABLE_PUSH that is neither 0 nor 1",
        |d| {
            refused(d, setting::ENABLE_PUSH, 2, Code::Protocol)?;
            refused(d, setting::ENABLE_PUSH, u32::MAX, Code::Protocol)
        },
    ),
    case(
        "9113 §6.5.2",
        "http2/6.5.2/2",
        "a window larger than 2^31-1",
        |d| {
            refused(d, setting::INITIAL_WINDOW_SIZE, MOST + 1, Code::FlowControl)?;
            refused(d, setting::INITIAL_WINDOW_SIZE, u32::MAX, Code::FlowControl)
        },
    ),
    case(
        "9113 §6.5.2",
        "http2/6.5.2/3",
        "frames smaller than 2^14",
        |d| {
            refused(d, setting::MAX_FRAME_SIZE, 16_383, Code::Protocol)?;
            refused(d, setting::MAX_FRAME_SIZE, 0, Code::Protocol)
        },
    ),
    case(
        "9113 §6.5.2",
        "http2/6.5.2/4",
        "frames larger than 2^24-1",
        |d| refused(d, setting::MAX_FRAME_SIZE, 1 << 24, Code::Protocol),
    ),
    case(
        "9113 §6.5.2",
        "http2/6.5.2/5",
        "unknown settings are ignored",
        |d| taken(d, &[(0, 1), (0xff, 1), (0x4242, u32::MAX)]),
    ),
    case(
        "9113 §6.5.2",
        "",
        "every value in its range is taken",
        |d| {
            for value in [0, 1] {
                taken(d, &[(setting::ENABLE_PUSH, value)])?;
            }
            for value in [0, 1, u32::MAX] {
                taken(d, &[(setting::HEADER_TABLE_SIZE, value)])?;
                taken(d, &[(setting::MAX_CONCURRENT_STREAMS, value)])?;
            }
            taken(d, &[(setting::INITIAL_WINDOW_SIZE, MOST)])?;
            taken(d, &[(setting::MAX_HEADER_LIST_SIZE, 65_536)])?;
            for value in [16_384, (1 << 24) - 1] {
                taken(d, &[(setting::MAX_FRAME_SIZE, value)])?;
            }
            Ok(())
        },
    ),
    case(
        "9113 §6.5",
        "",
        "a server does not allow itself to push",
        |d| match Peer::new(d)?.seen.announced(setting::ENABLE_PUSH) {
            None | Some(0) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    ),
    case(
        "9113 §6.5.3",
        "http2/6.5.3/1",
        "of a setting given twice the last counts",
        |d| {
            let id = setting::INITIAL_WINDOW_SIZE;
            let mut c = Peer::with(d, &[(id, 100), (id, 1)])?;
            let stream = c.get("/size/5");
            c.until("an octet", |seen| seen.reply(stream).body.len() == 1)?;
            c.ping()?;
            c.send([window_update(stream, 4)]);
            c.answers(stream, 200)
        },
    ),
    case(
        "9113 §6.5.3",
        "http2/6.5.3/2",
        "every SETTINGS is acknowledged",
        |d| {
            let mut c = Peer::new(d)?;
            for n in 2..10 {
                c.send([settings(&[(setting::ENABLE_PUSH, 0)])]);
                c.until("an ACK", |seen| seen.acks == n)?;
            }
            c.send((0..10).map(|_| settings(&[])));
            c.until("ten more", |seen| seen.acks == 19)?;
            c.serves()
        },
    ),
    case("9113 §6.5.3", "", "an ACK that nobody waits for", |d| {
        let mut c = Peer::new(d)?;
        // The first may be the one that is waited for.
        c.send([settings_ack(), settings_ack()]);
        match c.ping() {
            Ok(()) => c.serves(),
            Err(_) => c.dies(&[Code::Protocol]),
        }
    }),
    case(
        "9113 §6.5.3",
        "",
        "a client that never acknowledges is served",
        |d| {
            let mut c = Peer::raw(d)?;
            c.answering = false;
            c.begin(&[]);
            c.serves()?;
            let stream = c.post("/echo");
            // As long as nothing is acknowledged the first windows hold.
            c.upload(stream, &[b'u'; 60_000], 16_384)?;
            match c.reply(stream)?.body.len() {
                60_000 => Ok(()),
                other => Err(c.told(&other.to_string())),
            }
        },
    ),
];

fn settings_ack_with_one() -> Frame {
    settings(&[(setting::MAX_CONCURRENT_STREAMS, 100)]).and(flag::ACK)
}

pub const PING: &[Case] = &[
    case(
        "9113 §6.7",
        "http2/6.7/1",
        "a PING is answered with its payload",
        |d| {
            let mut c = Peer::new(d)?;
            let payloads = [*b"01234567", [0; 8], [0xff; 8]];
            c.send(payloads.iter().map(ping));
            let want: Vec<Vec<u8>> = payloads.iter().map(|p| p.to_vec()).collect();
            c.until("three pongs", move |seen| seen.pongs == want)?;
            c.serves()
        },
    ),
    case("9113 §6.7", "http2/6.7/2", "a pong is not answered", |d| {
        let mut c = Peer::new(d)?;
        c.send([ping(b"asks not").and(flag::ACK)]);
        c.ping()?;
        match c.seen.pongs.len() {
            1 => c.serves(),
            _ => Err(c.told("it was")),
        }
    }),
    case("9113 §6.7", "http2/6.7/3", "PING on a stream", |d| {
        let mut frame = ping(b"01234567");
        frame.stream = 1;
        fatal(d, frame, Code::Protocol)
    }),
    case(
        "9113 §6.7",
        "http2/6.7/4",
        "PING of another size than 8",
        |d| {
            for size in [0, 6, 7, 9, 16] {
                let frame = Frame::new(kind::PING, flag::NONE, 0, vec![0; size]);
                fatal(d, frame, Code::FrameSize)?;
                let frame = Frame::new(kind::PING, flag::ACK, 0, vec![0; size]);
                fatal(d, frame, Code::FrameSize)?;
            }
            Ok(())
        },
    ),
];

pub const GOAWAY: &[Case] = &[
    case("9113 §6.8", "http2/6.8/1", "GOAWAY on a stream", |d| {
        let mut frame = goaway(0, Code::No);
        frame.stream = 1;
        fatal(d, frame, Code::Protocol)
    }),
    case("9113 §4.2", "", "GOAWAY of less than 8 octets", |d| {
        fatal(d, Frame::new(kind::GOAWAY, 0, 0, [0; 7]), Code::FrameSize)
    }),
    case(
        "9113 §6.8",
        "",
        "a client says goodbye, its requests are answered",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([goaway(0, Code::No), window_update(1, 5)]);
            c.answers(1, 200)?;
            c.dies(&[Code::No])
        },
    ),
    case(
        "9113 §6.8",
        "",
        "a client says goodbye with more than an error",
        |d| {
            let mut c = Peer::holding(d)?;
            let mut frame = goaway(0, Code::Internal);
            frame.payload.extend(b"because of\0\xff");
            c.send([frame, window_update(1, 5)]);
            // The answer may still come; the connection ends in any case.
            while !c.seen.closed {
                c.step()?;
            }
            Ok(())
        },
    ),
    case(
        "9113 §7",
        "http2/7/1",
        "GOAWAY with an unknown error",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([goaway(0, Code::Other(0xff)), ping(b"01234567")]);
            // A pong or the end, and nothing that is out of order.
            while !c.seen.closed && c.seen.pongs.is_empty() {
                c.step()?;
            }
            Ok(())
        },
    ),
    case(
        "9113 §7",
        "http2/7/2",
        "RST_STREAM with an unknown error",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([reset(1, Code::Other(0xff))]);
            c.ignores()
        },
    ),
];

#[test]
fn settings_frames() {
    run(SETTINGS);
}

#[test]
fn ping_frames() {
    run(PING);
}

#[test]
fn goaway_frames() {
    run(GOAWAY);
}

/// §4.2, §6.5.2: what the client announced is what it gets.
#[test]
fn frames_are_no_larger_than_the_client_takes() {
    const SIZE: usize = 600_000;
    let cases: &[Case] = &[case("9113 §6.5.2", "", "frames", |d| {
        for most in [16_384, 20_000, 1 << 20] {
            let window = (setting::INITIAL_WINDOW_SIZE, MOST);
            let mut c = Peer::with(d, &[window, (setting::MAX_FRAME_SIZE, most)])?;
            c.send([window_update(0, MOST - WINDOW as u32)]);
            let stream = c.get(&format!("/size/{SIZE}"));
            // `Seen::take` measures each.
            let reply = c.reply(stream)?;
            if reply.body.len() != SIZE {
                return Err(c.told(&reply.body.len().to_string()));
            }
        }
        // Smaller again: what is announced counts once it is acknowledged.
        let window = (setting::INITIAL_WINDOW_SIZE, MOST);
        let mut c = Peer::with(d, &[window, (setting::MAX_FRAME_SIZE, 1 << 20)])?;
        c.send([settings(&[(setting::MAX_FRAME_SIZE, 16_384)])]);
        let stream = c.get("/size/60000");
        c.answers(stream, 200)
    })];
    run(cases);
}
