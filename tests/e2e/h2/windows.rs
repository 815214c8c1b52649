//! Flow control: RFC 9113 §5.2, §6.9. That nothing exceeds a window is watched by `Seen`, always.

use super::frame::{
    self, Code, Frame, MAX_FRAME, MOST, WINDOW, data, flag, kind, setting, window_update,
};
use super::peer::{Peer, Verdict};
use super::site::{Case, Site, case, run, run_at_once};
use std::net::TcpListener;

const FLOW: &[Code] = &[Code::FlowControl];
const INITIAL: u16 = setting::INITIAL_WINDOW_SIZE;

/// Wants exactly so many octets of an answer, and no more for now.
fn stops_at(c: &mut Peer, stream: u32, octets: usize) -> Verdict {
    c.until(&format!("{octets} octets"), |seen| {
        seen.reply(stream).body.len() >= octets
    })?;
    c.ping()?;
    c.ping()?;
    match c.seen.reply(stream).body.len() {
        n if n == octets => Ok(()),
        n => Err(c.told(&format!("{n} octets, want {octets}"))),
    }
}

/// Wants the whole of an answer of so many octets.
fn completes(c: &mut Peer, stream: u32, octets: usize) -> Verdict {
    match c.reply(stream)?.body.len() {
        n if n == octets => Ok(()),
        n => Err(c.told(&format!("{n} octets, want {octets}"))),
    }
}

pub const UPDATES: &[Case] = &[
    case(
        "9113 §6.9",
        "http2/6.9/1",
        "the connection's window is raised by 0",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([window_update(0, 0)]);
            c.dies(&[Code::Protocol])
        },
    ),
    case(
        "9113 §6.9",
        "http2/6.9/2",
        "a stream's window is raised by 0",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([window_update(1, 0)]);
            c.breaks(1, &[Code::Protocol])
        },
    ),
    case(
        "9113 §6.9",
        "http2/6.9/3",
        "WINDOW_UPDATE of another size than 4",
        |d| {
            for (size, stream) in [(0, 0), (3, 0), (5, 0), (3, 1), (8, 1)] {
                let mut c = Peer::holding(d)?;
                c.send([Frame::new(kind::WINDOW_UPDATE, 0, stream, vec![0; size])]);
                c.dies(&[Code::FrameSize])?;
            }
            Ok(())
        },
    ),
    case("9113 §6.9", "", "only the reserved bit raises by 0", |d| {
        let mut c = Peer::new(d)?;
        c.send([Frame::new(kind::WINDOW_UPDATE, 0, 0, [0x80, 0, 0, 0])]);
        c.dies(&[Code::Protocol])
    }),
    case(
        "9113 §6.9.1",
        "http2/6.9.1/2",
        "the connection's window above 2^31-1",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([window_update(0, MOST), window_update(0, MOST)]);
            c.dies(FLOW)
        },
    ),
    case(
        "9113 §6.9.1",
        "http2/6.9.1/3",
        "a stream's window above 2^31-1",
        |d| {
            let mut c = Peer::holding(d)?;
            c.send([window_update(0, 1), window_update(1, MOST)]);
            c.send([window_update(1, MOST)]);
            // The answer may have been complete by then.
            if c.seen.reply(1).ended {
                return c.ignores();
            }
            c.until("an error or the whole answer", |seen| {
                let reply = seen.reply(1);
                reply.ended || reply.reset.is_some() || !seen.goaways.is_empty()
            })?;
            match c.seen.reply(1).ended {
                true => c.ignores(),
                false => c.breaks(1, FLOW),
            }
        },
    ),
    case(
        "9113 §6.9.1",
        "",
        "a window above 2^31-1 while it is used",
        |d| {
            let mut c = Peer::with(d, &[(INITIAL, 10)])?;
            // The connection's window ends first: the answer cannot be complete.
            let stream = c.get("/size/100000");
            c.until("octets", |seen| seen.reply(stream).body.len() == 10)?;
            c.send([window_update(stream, MOST)]);
            stops_at(&mut c, stream, WINDOW)?;
            c.send([window_update(stream, MOST), window_update(0, 1000)]);
            c.breaks(stream, FLOW)
        },
    ),
    case("9113 §6.9.1", "", "the largest window is no error", |d| {
        let mut c = Peer::holding(d)?;
        c.send([
            window_update(0, MOST - WINDOW as u32),
            window_update(1, MOST),
        ]);
        c.answers(1, 200)?;
        c.serves()
    }),
    case(
        "9113 §6.9.2",
        "http2/6.9.2/3",
        "settings raise a window above 2^31-1",
        |d| {
            let mut c = Peer::with(d, &[(INITIAL, 10)])?;
            let stream = c.get("/size/100000");
            c.until("octets", |seen| seen.reply(stream).body.len() == 10)?;
            c.send([window_update(stream, MOST)]);
            stops_at(&mut c, stream, WINDOW)?;
            c.send([frame::settings(&[(INITIAL, MOST)])]);
            c.dies(FLOW)
        },
    ),
];

pub const SENDING: &[Case] = &[
    case(
        "9113 §6.9.1",
        "http2/6.9.1/1",
        "a window of one octet",
        |d| {
            let mut c = Peer::with(d, &[(INITIAL, 1)])?;
            let stream = c.get("/size/7");
            for octets in 1..7 {
                stops_at(&mut c, stream, octets)?;
                c.send([window_update(stream, 1)]);
            }
            completes(&mut c, stream, 7)
        },
    ),
    case(
        "9113 §6.9.2",
        "http2/6.9.2/1",
        "a window that is raised behind a request",
        |d| {
            let mut c = Peer::with(d, &[(INITIAL, 0)])?;
            let stream = c.get("/size/5");
            stops_at(&mut c, stream, 0)?;
            c.send([frame::settings(&[(INITIAL, 1)])]);
            stops_at(&mut c, stream, 1)?;
            c.send([frame::settings(&[(INITIAL, 5)])]);
            completes(&mut c, stream, 5)
        },
    ),
    case(
        "9113 §6.9.2",
        "http2/6.9.2/2",
        "a window below zero",
        |d| {
            let mut c = Peer::with(d, &[(INITIAL, 3)])?;
            let stream = c.get("/size/10");
            stops_at(&mut c, stream, 3)?;
            // 2 - 3: one below.
            c.send([frame::settings(&[(INITIAL, 2)])]);
            c.until("an ACK", |seen| seen.acks == 2)?;
            c.send([window_update(stream, 1)]);
            stops_at(&mut c, stream, 3)?;
            c.send([window_update(stream, 1)]);
            stops_at(&mut c, stream, 4)?;
            c.send([window_update(stream, 6)]);
            completes(&mut c, stream, 10)
        },
    ),
    case(
        "9113 §6.9.2",
        "",
        "every open stream feels the settings",
        |d| {
            let mut c = Peer::with(d, &[(INITIAL, 0)])?;
            let streams = [c.get("/size/4"), c.get("/size/5"), c.get("/size/6")];
            c.until("three headers", |seen| {
                streams.iter().all(|s| seen.reply(*s).status == 200)
            })?;
            c.send([frame::settings(&[(INITIAL, 6)])]);
            for (stream, octets) in streams.into_iter().zip(4..) {
                completes(&mut c, stream, octets)?;
            }
            c.serves()
        },
    ),
    case(
        "9113 §6.9.2",
        "",
        "settings do not change the connection's window",
        |d| {
            let mut c = Peer::with(d, &[(INITIAL, MOST)])?;
            let stream = c.get("/size/200000");
            stops_at(&mut c, stream, WINDOW)?;
            c.send([window_update(0, 1)]);
            stops_at(&mut c, stream, WINDOW + 1)?;
            c.send([window_update(0, 200_000)]);
            completes(&mut c, stream, 200_000)
        },
    ),
    case("9113 §6.9.1", "", "one window for all streams", |d| {
        let mut c = Peer::with(d, &[(INITIAL, MOST)])?;
        let streams: Vec<u32> = (0..8).map(|_| c.get("/size/20000")).collect();
        let sum = |seen: &super::seen::Seen| -> usize {
            streams.iter().map(|s| seen.reply(*s).body.len()).sum()
        };
        c.until("a full window", |seen| sum(seen) >= WINDOW)?;
        c.ping()?;
        if sum(&c.seen) != WINDOW {
            return Err(c.told(&sum(&c.seen).to_string()));
        }
        c.send([window_update(0, MOST - WINDOW as u32)]);
        for stream in &streams {
            completes(&mut c, *stream, 20_000)?;
        }
        Ok(())
    }),
    case(
        "9113 §6.9",
        "",
        "headers and trailers need no window",
        |d| {
            let mut c = Peer::with(d, &[(INITIAL, 0)])?;
            let stream = c.get("/status/204");
            c.answers(stream, 204)?;
            let stream = c.get("/size/0");
            c.answers(stream, 200)
        },
    ),
    case(
        "9113 §5.2.1",
        "",
        "a stream that waits holds up no other",
        |d| {
            let mut c = Peer::holding(d)?;
            for _ in 0..20 {
                c.serves()?;
            }
            c.send([window_update(1, 5)]);
            c.answers(1, 200)
        },
    ),
];

pub const RECEIVING: &[Case] = &[
    case(
        "9113 §6.9",
        "",
        "what was taken is given back, many times the window",
        |d| {
            const SIZE: usize = 6 << 20;
            let mut c = Peer::new(d)?;
            let stream = c.post("/count");
            c.upload(stream, &vec![b'u'; SIZE], MAX_FRAME)?;
            c.answers(stream, 200)?;
            match d.arrived("/count")?.body.len() {
                SIZE => c.serves(),
                other => Err(c.told(&other.to_string())),
            }
        },
    ),
    case("9113 §6.9.1", "", "padding is given back as well", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        // As much padding as body: together more than any window.
        for _ in 0..5_000 {
            c.room(stream, 512)?;
            c.send([data(stream, flag::NONE, [b'p'; 256]).padded(255)]);
        }
        c.end(stream, b"");
        c.until("the begin of the answer", |seen| {
            seen.reply(stream).status == 200
        })?;
        match d.arrived("/echo")?.body.len() {
            1_280_000 => Ok(()),
            other => Err(c.told(&other.to_string())),
        }
    }),
    case(
        "9113 §6.9.1",
        "",
        "more than the windows of a request nobody reads",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.post("/deaf");
            loop {
                let room = c.seen.room(stream).min(MAX_FRAME);
                if room > 0 {
                    c.send([data(stream, flag::NONE, vec![b'f'; room])]);
                    continue;
                }
                // Nothing more is asked for between two pongs: the window is used up.
                c.ping()?;
                c.ping()?;
                std::thread::sleep(std::time::Duration::from_millis(300));
                c.ping()?;
                if c.seen.room(stream) == 0 {
                    break;
                }
            }
            c.send([data(stream, flag::NONE, "one more")]);
            c.breaks(stream, FLOW)
        },
    ),
];

#[test]
fn window_updates() {
    run(UPDATES);
}

#[test]
fn the_server_keeps_to_the_windows() {
    run(SENDING);
}

/// One route leads to a service that accepts and never reads.
#[test]
fn the_server_guards_its_windows() {
    let deaf = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = deaf.local_addr().expect("an address");
    let upstream = format!("{{ name: deaf, targets: [\"{address}\"] }}");
    let route = "{ name: deaf, match: { path: /deaf }, auth: none, max_body: 1GiB, to: deaf }";
    run_at_once(&Site::routed("", &upstream, route), RECEIVING);
}
