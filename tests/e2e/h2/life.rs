//! How long a connection lasts, and how it ends: deadlines, idling, drains, RFC 9113 §6.8, §9.1.

use super::frame::{self, Code, MOST, flag, headers, setting, window_update};
use super::hpack::block;
use super::peer::{PREFACE, Peer, Verdict};
use super::site::{Case, Over, Site, case, run_at, run_at_once};
use crate::support::wire::Got;
use crate::support::{Stopwatch, eventually};
use std::thread;
use std::time::Duration;

const TIMES: &str = "header_timeout: 300ms, idle_timeout: 500ms";

/// Wants the connection to end by itself within a few seconds, whatever is said before.
fn ends(c: &mut Peer) -> Verdict {
    let watch = Stopwatch::start();
    let mut bytes = Vec::new();
    while matches!(c.wire.get(&mut bytes), Got::Bytes(_)) {}
    match watch.passed() < Duration::from_secs(5) {
        true => Ok(()),
        false => Err(format!("only after {:?}", watch.passed())),
    }
}

/// Wants GOAWAY without an error and then the end, in due time.
fn goes(c: &mut Peer) -> Verdict {
    let watch = Stopwatch::start();
    c.dies(&[Code::No])?;
    let passed = watch.passed().as_millis();
    match passed {
        300..5000 => Ok(()),
        _ => Err(c.told(&format!("after {passed} ms"))),
    }
}

/// Sends an octet every 50 ms; wants nobody to take them any more after a few seconds.
fn dribbled(c: &mut Peer, bytes: &[u8]) -> Verdict {
    let watch = Stopwatch::start();
    c.wire.wait_at_most(Duration::from_millis(50));
    let mut rest = Vec::new();
    for octet in bytes.iter().cycle() {
        if !c.put(&[*octet]) || !matches!(c.wire.get(&mut rest), Got::Silence | Got::Bytes(_)) {
            return Ok(());
        }
        if watch.passed() > Duration::from_secs(5) {
            return Err("it goes on for ever".into());
        }
    }
    Ok(())
}

pub const DEADLINES: &[Case] = &[
    case("9113 §3.4", "", "nothing is ever sent", |d| {
        ends(&mut Peer::raw(d)?)
    }),
    case("9113 §3.4", "", "a preface that stops", |d| {
        for at in [1, 10, 23] {
            let mut c = Peer::raw(d)?;
            c.put(&PREFACE[..at]);
            ends(&mut c).map_err(|e| format!("at {at}: {e}"))?;
        }
        Ok(())
    }),
    case("9113 §3.4", "", "a preface that takes for ever", |d| {
        let mut c = Peer::raw(d)?;
        dribbled(&mut c, &PREFACE[..23])
    }),
    case("9113 §3.4", "", "a preface without settings", |d| {
        let mut c = Peer::raw(d)?;
        c.put(PREFACE);
        ends(&mut c)
    }),
    case("9113 §9.1", "", "a frame that stops", |d| {
        for at in [1, 8, 9, 20] {
            let mut c = Peer::new(d)?;
            let request = headers(1, flag::WHOLE, block(&c.fields("GET", "/")));
            c.put(&request.encode()[..at]);
            ends(&mut c).map_err(|e| format!("at {at}: {e}"))?;
        }
        Ok(())
    }),
    case("9113 §9.1", "", "a header block that stops", |d| {
        let mut c = Peer::new(d)?;
        let request = block(&c.fields("GET", "/"));
        c.send([headers(1, flag::END_STREAM, request)]);
        ends(&mut c)
    }),
    case(
        "9113 §9.1",
        "",
        "a header block that takes for ever",
        |d| {
            let mut c = Peer::new(d)?;
            let long = [block(&c.fields("GET", "/")), vec![0; 400]].concat();
            let frame = headers(1, flag::WHOLE, long).encode();
            c.put(&frame[..12]);
            dribbled(&mut c, &frame[12..])
        },
    ),
];

pub const IDLE: &[Case] = &[
    case(
        "9113 §6.8",
        "",
        "a connection without a request is closed",
        |d| goes(&mut Peer::new(d)?),
    ),
    case(
        "9113 §6.8",
        "",
        "a connection without a further request is closed",
        |d| {
            let mut c = Peer::new(d)?;
            c.serves()?;
            goes(&mut c)
        },
    ),
    case("9113 §9.1", "", "pings are no requests", |d| {
        let mut c = Peer::new(d)?;
        c.serves()?;
        let watch = Stopwatch::start();
        while watch.passed() < Duration::from_secs(5) {
            if c.ping().is_err() {
                return c.dies(&[Code::No]);
            }
            thread::sleep(Duration::from_millis(30));
        }
        Err("pings keep it open".into())
    }),
    case(
        "9113 §9.1",
        "",
        "a connection with a request is not idle",
        |d| {
            let mut c = Peer::holding(d)?;
            thread::sleep(Duration::from_millis(1500));
            c.send([window_update(1, 5)]);
            c.answers(1, 200)?;
            goes(&mut c)
        },
    ),
    case(
        "9113 §9.1",
        "",
        "a connection that is used is not idle",
        |d| {
            let mut c = Peer::new(d)?;
            for _ in 0..8 {
                c.serves()?;
                thread::sleep(Duration::from_millis(150));
            }
            Ok(())
        },
    ),
];

#[test]
fn nothing_may_take_for_ever() {
    run_at_once(&Site::with(TIMES), DEADLINES);
}

#[test]
fn idle_connections_end_in_good_order() {
    run_at_once(&Site::with(TIMES), IDLE);
}

pub const COUNTED: &[Case] = &[
    case(
        "9113 §6.8",
        "",
        "after so many requests the connection is over",
        |d| {
            let mut c = Peer::new(d)?;
            for _ in 0..3 {
                c.serves()?;
            }
            c.dies(&[Code::No])?;
            match c.seen.goaways.last() {
                Some((5, _)) => Ok(()),
                other => Err(c.told(&format!("want stream 5, got {other:?}"))),
            }
        },
    ),
    case(
        "9113 §6.8",
        "",
        "those that are under way are answered",
        |d| {
            let mut c = Peer::with(d, &[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            let streams = [c.get("/held"), c.get("/held"), c.get("/held")];
            c.until("GOAWAY", |seen| !seen.goaways.is_empty())?;
            c.send([frame::settings(&[(setting::INITIAL_WINDOW_SIZE, MOST)])]);
            for stream in streams {
                c.answers(stream, 200)?;
            }
            c.dies(&[Code::No])
        },
    ),
    case(
        "9113 §6.8",
        "",
        "what is not processed is above the last stream",
        |d| {
            let mut c = Peer::new(d)?;
            // In one piece: some come too late, and are told so by silence alone.
            let requests: Vec<_> = (0..6)
                .map(|_| {
                    let stream = c.stream();
                    headers(stream, flag::WHOLE, block(&c.fields("GET", "/many")))
                })
                .collect();
            c.send(requests);
            c.dies(&[Code::No])?;
            let (last, _) = c.seen.goaways[c.seen.goaways.len() - 1];
            for stream in (1..=11).step_by(2) {
                let reply = c.seen.reply(stream);
                let refused = reply.reset == Some(Code::RefusedStream);
                if reply.ended != (stream <= last) && !refused {
                    return Err(c.told(&format!("stream {stream}, last {last}: {reply:?}")));
                }
            }
            Ok(())
        },
    ),
];

#[test]
fn a_connection_carries_only_so_many_requests() {
    let site = Site::with("max_requests_per_connection: 3");
    run_at(&site, COUNTED);
}

/// Clients that do not do their part of a request that is under way.
pub const SLOW: &[Case] = &[
    case("9110 §15.5.9", "", "a body that stops", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/hasty");
        c.send([frame::data(stream, flag::NONE, "some of it")]);
        timed_out(&mut c, stream)
    }),
    case("9110 §15.5.9", "", "a body that never begins", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/hasty");
        timed_out(&mut c, stream)
    }),
    case("9113 §6.9", "", "an answer that is not let in", |d| {
        let mut c = Peer::with(d, &[(setting::INITIAL_WINDOW_SIZE, 0)])?;
        let stream = c.get("/size/5");
        c.until("an error", |seen| seen.reply(stream).reset.is_some())?;
        c.send([frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)])]);
        c.serves()
    }),
];

/// 408, or a reset, within a few seconds; the connection goes on.
fn timed_out(c: &mut Peer, stream: u32) -> Verdict {
    let watch = Stopwatch::start();
    c.until("an end", |seen| {
        let reply = seen.reply(stream);
        reply.ended || reply.reset.is_some()
    })?;
    let reply = c.seen.reply(stream);
    if !matches!(reply.status, 0 | 408) || watch.passed() > Duration::from_secs(5) {
        return Err(c.told(&format!("{} after {:?}", reply.status, watch.passed())));
    }
    c.serves()
}

/// A client that lets a request wait is not its service's fault.
#[test]
fn requests_do_not_wait_for_ever() {
    let upstream = "{ name: hasty, targets: [\"ORIGIN\"], timeouts: { read: 1s, total: 1s }, \
                    circuit_breaker: { min_requests: 1, consecutive_failures: 1 } }";
    let route = "{ name: hasty, match: { path: /hasty }, auth: none, to: hasty }";
    let site = Site::routed("write_timeout: 1s", upstream, route);
    run_at_once(&site, SLOW);
    let state = site
        .gateway
        .metric("tollgate_breaker_state{upstream=\"hasty\"}");
    assert_eq!(state, 0, "closed");
}

/// Drains a site of its own while a connection of this kind has a request under way.
fn drained(over: Over, client: impl FnOnce(&mut Peer)) {
    let site = Site::start();
    let door = site.door(over);
    let mut busy = Peer::holding(&door).expect("a request under way");
    let mut idle = Peer::new(&door).expect("a connection");
    idle.serves().expect("served");
    thread::scope(|s| {
        let draining = s.spawn(|| site.gateway.drain());
        idle.dies(&[Code::No]).expect("an idle connection ends");
        busy.until("GOAWAY", |seen| !seen.goaways.is_empty())
            .expect("a busy one is told");
        assert!(!draining.is_finished(), "it waits for what is under way");
        client(&mut busy);
        eventually("the end of the drain", || draining.is_finished());
    });
}

#[test]
fn a_drain_lets_requests_finish() {
    for over in Over::BOTH {
        drained(over, |busy| {
            busy.send([window_update(1, 5)]);
            busy.answers(1, 200).expect("the answer is whole");
            busy.dies(&[Code::No]).expect("then the connection ends");
        });
    }
}

/// The second GOAWAY of a drain waits for a pong (§6.8); a client that sends none must not hold up
/// the drain for ever.
#[test]
fn a_drain_waits_for_no_pong() {
    for over in Over::BOTH {
        drained(over, |busy| {
            busy.answering = false;
            busy.send([window_update(1, 5)]);
            busy.answers(1, 200).expect("the answer is whole");
            busy.dies(&[Code::No]).expect("then the connection ends");
        });
    }
}

/// What a client sends before it can know of the end is served (§6.8).
#[test]
fn a_stream_that_crosses_the_first_goaway_is_served() {
    for over in Over::BOTH {
        let site = Site::start();
        let door = site.door(over);
        let mut idle = Peer::new(&door).expect("a connection");
        idle.answering = false;
        thread::scope(|s| {
            let draining = s.spawn(|| site.gateway.drain());
            idle.until("GOAWAY", |seen| !seen.goaways.is_empty())
                .expect("an idle one is told");
            assert_eq!(idle.seen.goaways, [(MOST, Code::No)], "{over}");
            let stream = idle.get("/next");
            idle.answers(stream, 200).expect("served");
            idle.dies(&[Code::No]).expect("then the connection ends");
            let (last, _) = idle.seen.goaways[idle.seen.goaways.len() - 1];
            assert_eq!(last, stream, "{over}");
            drop(idle);
            assert!(draining.join().expect("no panic"), "nothing was cut off");
        });
    }
}

/// Each request is answered, or above the last stream of the last GOAWAY: it may be sent elsewhere
/// without harm. None is reset.
#[test]
fn no_stream_under_load_is_lost_to_a_drain() {
    for over in Over::BOTH {
        let site = Site::start();
        let (gateway, door) = (&site.gateway, site.door(over));
        thread::scope(|s| {
            let busy: Vec<_> = (0..4)
                .map(|_| s.spawn(move || asking(&mut Peer::new(&door).expect("a connection"))))
                .collect();
            eventually("load", || site.origin.hits() > 100);
            assert!(gateway.drain(), "nothing was cut off");
            for peer in busy {
                peer.join().expect("no panic").expect("nothing is lost");
            }
        });
    }
}

/// Asks for as long as the connection is there, whatever is said of its end.
fn asking(c: &mut Peer) -> Verdict {
    loop {
        let stream = c.get("/next");
        loop {
            let reply = c.seen.reply(stream);
            if reply.reset.is_some() {
                return Err(c.told(&format!("stream {stream} was reset")));
            }
            if reply.ended {
                break;
            }
            if !c.step()? {
                let last = c.seen.goaways.last().map(|(last, _)| *last);
                return match last {
                    Some(last) if last < stream => Ok(()),
                    _ => Err(c.told(&format!("stream {stream} is lost, last {last:?}"))),
                };
            }
        }
    }
}
