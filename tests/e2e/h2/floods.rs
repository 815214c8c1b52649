//! Clients that cost more than they pay: RFC 9113 §10.5, and the advisories on HTTP/2 since 2019.
//! Each is cut off, and others are served meanwhile as ever.

use super::frame::{
    self, Code, Frame, MAX_FRAME, MOST, continuation, data, flag, headers, setting, window_update,
};
use super::hpack::{Literal, Text, block};
use super::peer::{Peer, Verdict};
use super::site::{BAD, Case, Door, Over, Site, case, run_at};
use crate::support::Stopwatch;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Frames that are sent at most, and how many of them at once.
const MOST_FRAMES: usize = 200_000;
const AT_ONCE: usize = 100;

/// Sends what `next` makes, again and again, and reads what comes, until the connection is over.
fn flood(c: &mut Peer, mut next: impl FnMut(&mut Peer) -> Vec<Frame>) -> Verdict {
    c.wire.wait_at_most(Duration::from_millis(1));
    let mut sent = 0;
    while sent < MOST_FRAMES {
        let mut bytes = Vec::new();
        for _ in 0..AT_ONCE {
            for frame in next(c) {
                c.seen.sent(&frame);
                bytes.extend(frame.encode());
                sent += 1;
            }
        }
        let taken = c.put(&bytes);
        if c.drain()? || !taken {
            return over(c, sent);
        }
    }
    Err(c.told(&format!("{sent} frames were taken")))
}

/// Wants the end to be one that says why, unless a reset took that away.
fn over(c: &mut Peer, sent: usize) -> Verdict {
    while !c.drain()? {
        thread::sleep(Duration::from_millis(5));
    }
    match c.seen.goaways.last() {
        None | Some((_, Code::Calm | Code::Protocol | Code::StreamClosed)) => Ok(()),
        Some((_, other)) => Err(c.told(&format!("{other:?} after {sent} frames"))),
    }
}

/// A connection that is flooded with the same frames, by a client that reads what it gets.
fn flooded(d: &Door, frames: &[Frame]) -> Verdict {
    flood(&mut Peer::new(d)?, |_| frames.to_vec())
}

/// Requests that no origin may see whole, each with these frames behind it.
fn requests(d: &Door, behind: fn(u32) -> Vec<Frame>) -> Verdict {
    let mut c = Peer::with(d, &[(setting::INITIAL_WINDOW_SIZE, 10)])?;
    let before = d.site.origin.begun();
    let verdict = flood(&mut c, |c| {
        let stream = c.stream();
        let path = "/size/100000";
        let mut frames = vec![headers(
            stream,
            flag::END_HEADERS,
            block(&c.fields("POST", path)),
        )];
        frames.extend(behind(stream));
        frames
    });
    // Work that was begun for nothing is bounded by the resets that are borne, and what comes
    // while they are counted.
    let begun = d.site.origin.begun() - before;
    match begun {
        0..1000 => verdict,
        _ => Err(format!("{begun} requests reached the origin; {verdict:?}")),
    }
}

pub const RESETS: &[Case] = &[
    case(
        "9113 §10.5",
        "",
        "CVE-2023-44487: requests that are reset at once",
        |d| requests(d, |s| vec![frame::reset(s, Code::Cancel)]),
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2025-8671: resets provoked by a window",
        |d| {
            requests(d, |s| {
                vec![
                    data(s, flag::END_STREAM, ""),
                    window_update(s, MOST),
                    window_update(s, MOST),
                ]
            })
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2025-8671: resets provoked by a window raised by 0",
        |d| {
            requests(d, |s| {
                vec![data(s, flag::END_STREAM, ""), window_update(s, 0)]
            })
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2025-8671: resets provoked by frames behind the end",
        |d| {
            requests(d, |s| {
                vec![data(s, flag::END_STREAM, ""), data(s, flag::NONE, "more")]
            })
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2025-8671: resets provoked by HEADERS that end nothing",
        |d| requests(d, |s| vec![headers(s, flag::END_HEADERS, block(&[BAD]))]),
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2025-8671: resets provoked by a wrong length",
        |d| {
            let mut c = Peer::new(d)?;
            flood(&mut c, |c| {
                let stream = c.stream();
                let mut fields = c.fields("POST", "/bad");
                fields.extend([("content-length", "1"), BAD].map(|(n, v)| (n.into(), v.into())));
                vec![
                    headers(stream, flag::END_HEADERS, block(&fields)),
                    data(stream, flag::NONE, "two"),
                ]
            })
        },
    ),
    case("9113 §10.5", "", "requests that are malformed", |d| {
        let mut c = Peer::new(d)?;
        flood(&mut c, |c| {
            let stream = c.stream();
            let mut fields = c.fields("GET", "/bad");
            fields.extend([("connection", "close"), BAD].map(|(n, v)| (n.into(), v.into())));
            vec![headers(stream, flag::WHOLE, block(&fields))]
        })
    }),
    case(
        "9113 §10.5",
        "",
        "requests whose authority is refused",
        |d| {
            let mut c = Peer::new(d)?;
            flood(&mut c, |c| {
                let stream = c.stream();
                let mut fields = c.fields("GET", "/bad");
                fields.extend([("host", "other"), BAD].map(|(n, v)| (n.into(), v.into())));
                vec![headers(stream, flag::WHOLE, block(&fields))]
            })
        },
    ),
];

pub const FRAMES: &[Case] = &[
    case("9113 §10.5", "", "CVE-2019-9512: PING", |d| {
        flooded(d, &[frame::ping(b"flooding")])
    }),
    case("9113 §10.5", "", "CVE-2019-9515: SETTINGS", |d| {
        flooded(d, &[frame::settings(&[(setting::MAX_FRAME_SIZE, 16_384)])])
    }),
    case("9113 §10.5", "", "pongs that nobody asked for", |d| {
        flooded(d, &[frame::ping(b"flooding").and(flag::ACK)])
    }),
    case("9113 §10.5", "", "CVE-2019-9513: PRIORITY", |d| {
        flooded(d, &[frame::priority(1, 0, 1), frame::priority(3, 1, 9)])
    }),
    case("9113 §10.5", "", "WINDOW_UPDATE", |d| {
        flooded(d, &[window_update(0, 1)])
    }),
    case("9113 §10.5", "", "frames of an unknown type", |d| {
        flooded(d, &[Frame::new(0x44, 0, 0, [])])
    }),
    case(
        "9113 §10.5",
        "",
        "CVE-2019-9514: RST_STREAM of streams that are closed",
        |d| {
            let mut c = Peer::new(d)?;
            c.serves()?;
            flood(&mut c, |_| vec![frame::reset(1, Code::Cancel)])
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2019-9518: DATA with nothing in it",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.post("/echo");
            flood(&mut c, |_| vec![data(stream, flag::NONE, "")])
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2019-9518: DATA with nothing but padding",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.post("/echo");
            // One octet of the windows each, which are given back.
            flood(&mut c, |_| vec![data(stream, flag::NONE, "").padded(0)])
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2019-9518: HEADERS with nothing in them",
        |d| {
            let mut c = Peer::new(d)?;
            flood(&mut c, |c| vec![headers(c.stream(), flag::WHOLE, [])])
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2024-27316: CONTINUATION with nothing in it",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/bad"));
            c.send([headers(1, flag::END_STREAM, request)]);
            flood(&mut c, |_| vec![continuation(1, flag::NONE, [])])
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2024-27316: CONTINUATION without an end",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/bad"));
            c.send([headers(1, flag::END_STREAM, request)]);
            let field = block(&[("x-more", "of it")]);
            flood(&mut c, |_| vec![continuation(1, flag::NONE, field.clone())])
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2024-27316: large CONTINUATION without an end",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/bad"));
            c.send([headers(1, flag::END_STREAM, request)]);
            let field = block(&[("x-more", "m".repeat(16_000))]);
            flood(&mut c, |_| vec![continuation(1, flag::NONE, field.clone())])
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2024-27316: one string without an end",
        |d| {
            let mut c = Peer::new(d)?;
            let fields = block(&c.fields("GET", "/bad"));
            let long = super::hpack::int(0, 7, 1 << 26);
            let first = [fields, Literal::Plain.named(0), long].concat();
            c.send([headers(1, flag::END_STREAM, first)]);
            flood(&mut c, |_| {
                vec![continuation(1, flag::NONE, [b'n'; MAX_FRAME])]
            })
        },
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2019-9516: fields without name and value",
        |d| {
            let mut c = Peer::new(d)?;
            flood(&mut c, |c| {
                let none = Literal::Indexed.field(b"", b"", Text::Plain);
                let fields = [block(&c.fields("GET", "/bad")), none.repeat(20)].concat();
                vec![headers(c.stream(), flag::WHOLE, fields)]
            })
        },
    ),
];

/// Clients that ask and never read.
pub const UNREAD: &[Case] = &[
    case(
        "9113 §10.5",
        "",
        "CVE-2019-9512: PING, and the pongs unread",
        |d| unread(d, &frame::ping(b"flooding")),
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2019-9515: SETTINGS, and the ACKs unread",
        |d| unread(d, &frame::settings(&[])),
    ),
    case(
        "9113 §10.5",
        "",
        "CVE-2019-9517: answers for wide windows, unread",
        |d| {
            let mut c = Peer::with(d, &[(setting::INITIAL_WINDOW_SIZE, MOST)])?;
            c.send([window_update(0, MOST - frame::WINDOW as u32)]);
            for _ in 0..100 {
                c.get("/size/1000000");
            }
            thread::sleep(Duration::from_secs(3));
            let mut bytes = Vec::new();
            while matches!(c.wire.get(&mut bytes), crate::support::wire::Got::Bytes(_)) {}
            match bytes.len() {
                // What the kernel and the connection held; then it was cut off.
                0..50_000_000 => Ok(()),
                all => Err(format!("{all} octets")),
            }
        },
    ),
];

/// Sends a frame until nobody takes it, and reads nothing.
fn unread(d: &Door, frame: &Frame) -> Verdict {
    let mut c = Peer::new(d)?;
    let piece = frame.encode().repeat(1000);
    let watch = Stopwatch::start();
    let mut sent = 0;
    while c.put(&piece) {
        sent += piece.len();
        if sent > 100_000_000 {
            return Err(format!("{sent} octets were taken in {:?}", watch.passed()));
        }
    }
    Ok(())
}

/// Runs these while others ask, each on a connection of its own kind, one request after another.
#[track_caller]
fn run_beside(site: &Site, cases: &[Case]) {
    let done = AtomicBool::new(false);
    let done = &done;
    let neighbour = |over: Over| -> Result<Vec<u128>, String> {
        let mut times = Vec::new();
        while !done.load(Relaxed) {
            let mut c = Peer::new(&site.door(over))?;
            for _ in 0..20 {
                let watch = Stopwatch::start();
                c.serves()?;
                times.push(watch.passed().as_millis());
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(times)
    };
    thread::scope(|s| {
        let others = Over::BOTH.map(|over| s.spawn(move || neighbour(over)));
        let ran = thread::Builder::new()
            .spawn_scoped(s, || run_at(site, cases))
            .expect("a thread")
            .join();
        done.store(true, Relaxed);
        for other in others {
            let mut times = other.join().expect("no panic").expect("others are served");
            times.sort_unstable();
            let half = times[times.len() / 2];
            assert!(half < 250, "half of {} took {half} ms or more", times.len());
        }
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn resets_are_bounded() {
    run_beside(&Site::with("http2: { max_resets: 200 }"), RESETS);
}

#[test]
fn frames_that_do_nothing_are_bounded() {
    run_beside(&Site::start(), FRAMES);
}

#[test]
fn what_is_not_read_is_bounded() {
    run_beside(&Site::with("write_timeout: 1s"), UNREAD);
}

/// A client that gives up now and then is no attacker.
#[test]
fn an_impatient_client_is_served_on() {
    let cases: &[Case] = &[case("9113 §10.5", "", "resets among answers", |d| {
        let mut c = Peer::with(d, &[(setting::INITIAL_WINDOW_SIZE, 0)])?;
        for _ in 0..150 {
            let stream = c.get("/held");
            c.send([frame::reset(stream, Code::Cancel)]);
            for _ in 0..3 {
                c.serves()?;
            }
        }
        Ok(())
    })];
    run_at(&Site::start(), cases);
}
