//! How HTTP/2 begins, and frames as such: RFC 9113 §3, §4, §5.5.

use super::frame::{
    self, Code, Frame, MAX_FRAME, continuation, data, flag, headers, kind, priority, setting,
};
use super::hpack::block;
use super::peer::{COMPRESSION, PREFACE, Peer, Verdict};
use super::site::{Case, Door, NAME, Over, Site, case, run};
use crate::support::wire::{Got, Wire};

/// Reads to the end of a connection whose preface was none. A GOAWAY may be left out (§3.4).
fn turned_away(c: &mut Peer) -> Verdict {
    let mut bytes = Vec::new();
    loop {
        match c.wire.get(&mut bytes) {
            Got::Bytes(_) => (),
            Got::End | Got::Reset => break,
            other => return Err(format!("it is not closed: {other:?}")),
        }
    }
    let answer = String::from_utf8_lossy(&bytes).into_owned();
    let mut frames = bytes.clone();
    while let Some(frame) = Frame::take(&mut frames) {
        let wanted = [kind::SETTINGS, kind::WINDOW_UPDATE, kind::GOAWAY].contains(&frame.kind);
        if !wanted && !answer.starts_with("HTTP/1.1 ") {
            return Err(format!("got {frame:?}"));
        }
    }
    match answer.contains(" 200 ") {
        true => Err(format!("it was served: {answer}")),
        false => Ok(()),
    }
}

/// The first frame behind the preface is not the client's settings.
fn without_settings(d: &Door, first: &Frame) -> Verdict {
    let mut c = Peer::raw(d)?;
    c.put(PREFACE);
    c.send([first.clone(), frame::settings(&[])]);
    c.dies(&[Code::Protocol])
}

/// The largest frame that the server takes.
fn most(c: &Peer) -> usize {
    let announced = c.seen.announced(setting::MAX_FRAME_SIZE);
    announced.map_or(MAX_FRAME, |most| most as usize)
}

pub const BEGIN: &[Case] = &[
    case(
        "9113 §3.4",
        "generic/1/1",
        "the first frame is SETTINGS",
        |d| {
            let mut c = Peer::raw(d)?;
            c.begin(&[]);
            // `Seen::take` wants it so.
            c.until("settings", |seen| !seen.settings.is_empty())
        },
    ),
    case("9113 §3.4", "http2/3.5/1", "a preface is answered", |d| {
        Peer::new(d)?.serves()
    }),
    case("9113 §3.4", "http2/3.5/2", "a preface that is none", |d| {
        let mut c = Peer::raw(d)?;
        c.put(b"INVALID CONNECTION PREFACE\r\n\r\n");
        turned_away(&mut c)
    }),
    case("9113 §3.4", "", "one octet of the preface is wrong", |d| {
        for at in 0..PREFACE.len() {
            let mut c = Peer::raw(d)?;
            let mut preface = PREFACE.to_vec();
            preface[at] ^= 1;
            c.put(&preface);
            c.send([frame::settings(&[])]);
            turned_away(&mut c).map_err(|e| format!("octet {at}: {e}"))?;
        }
        Ok(())
    }),
    case(
        "9113 §3.3",
        "",
        "HTTP/1.1 where HTTP/2 was agreed on",
        |d| {
            let mut c = Peer::raw(d)?;
            c.put(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
            turned_away(&mut c)
        },
    ),
    case(
        "9113 §3.4",
        "",
        "preface and settings octet by octet",
        |d| {
            let mut c = Peer::raw(d)?;
            let settings = frame::settings(&[(setting::ENABLE_PUSH, 0)]);
            c.seen.sent(&settings);
            for octet in [PREFACE, &settings.encode()].concat() {
                c.put(&[octet]);
            }
            c.serves()
        },
    ),
    case(
        "9113 §3.4",
        "",
        "a request in one piece with the preface",
        |d| {
            let mut c = Peer::raw(d)?;
            let request = headers(1, flag::WHOLE, block(&c.fields("GET", "/early")));
            let settings = frame::settings(&[]);
            [&settings, &request]
                .into_iter()
                .for_each(|f| c.seen.sent(f));
            c.put(&[PREFACE, &settings.encode(), &request.encode()].concat());
            c.next = 3;
            c.answers(1, 200)?;
            c.serves()
        },
    ),
    case(
        "9113 §3.4",
        "",
        "a request before the client's settings",
        |d| {
            let scheme = d.scheme();
            let fields = [
                (":method", "GET"),
                (":scheme", scheme),
                (":authority", NAME),
                (":path", "/"),
                super::site::BAD,
            ];
            without_settings(d, &headers(1, flag::WHOLE, block(&fields)))
        },
    ),
    case(
        "9113 §3.4",
        "",
        "a PING before the client's settings",
        |d| without_settings(d, &frame::ping(b"too soon")),
    ),
    case(
        "9113 §3.4",
        "",
        "an unknown frame before the client's settings",
        |d| without_settings(d, &Frame::new(0x20, 0, 0, [])),
    ),
    case(
        "9113 §3.4",
        "",
        "an ACK instead of the client's settings",
        |d| without_settings(d, &frame::settings_ack()),
    ),
];

pub const FRAMES: &[Case] = &[
    case(
        "9113 §4.1",
        "http2/4.1/1",
        "a frame of an unknown type is ignored",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([Frame::new(0x16, flag::NONE, 0, [0; 8])]);
            c.ignores()
        },
    ),
    case(
        "9113 §5.5",
        "http2/5.5/1",
        "an unknown frame on any stream is ignored",
        |d| {
            let mut c = Peer::new(d)?;
            c.serves()?;
            for kind in [0x0a, 0x10, 0xff] {
                // Of the connection, of a stream that is closed, and of one that is idle.
                c.send([0, 1, 9].map(|stream| Frame::new(kind, 0xff, stream, [7; 30])));
            }
            c.ignores()
        },
    ),
    case(
        "9113 §4.1",
        "http2/4.1/2",
        "undefined flags are ignored",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([frame::ping(b"flagged!").and(0xfe)]);
            c.until("a pong", |seen| seen.pongs.contains(&b"flagged!".to_vec()))?;
            c.send([frame::settings(&[]).and(0xfe)]);
            c.until("an ACK", |seen| seen.acks == 2)?;
            let fields = c.fields("POST", "/echo");
            let stream = c.ask(&fields, 0xd2);
            c.send([data(stream, 0xf6, "par"), data(stream, 0xf6 | 1, "ts")]);
            match c.reply(stream)?.text().as_str() {
                "parts" => c.serves(),
                other => Err(c.told(other)),
            }
        },
    ),
    case(
        "9113 §4.1",
        "http2/4.1/3",
        "the reserved bit is ignored",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([frame::ping(b"reserved").reserved()]);
            c.until("a pong", |seen| seen.pongs.contains(&b"reserved".to_vec()))?;
            let stream = c.post("/echo");
            c.send([data(stream, flag::NONE, "a").reserved()]);
            c.end(stream, b"b");
            let update = Frame::new(kind::WINDOW_UPDATE, 0, 0, [0x80, 0, 0, 1]);
            c.send([update]);
            match c.reply(stream)?.text().as_str() {
                "ab" => c.serves(),
                other => Err(c.told(other)),
            }
        },
    ),
    case("9113 §4.2", "http2/4.2/1", "DATA of 2^14 octets", |d| {
        let mut c = Peer::new(d)?;
        let stream = c.post("/echo");
        c.end(stream, &[b'y'; MAX_FRAME]);
        match c.reply(stream)?.body.len() {
            MAX_FRAME => c.serves(),
            other => Err(c.told(&other.to_string())),
        }
    }),
    case(
        "9113 §4.2",
        "http2/4.2/2",
        "DATA larger than announced",
        |d| {
            let mut c = Peer::new(d)?;
            let stream = c.post("/echo");
            let size = most(&c) + 1;
            c.end(stream, &vec![b'y'; size]);
            c.breaks(stream, &[Code::FrameSize])
        },
    ),
    case(
        "9113 §4.2",
        "http2/4.2/3",
        "HEADERS larger than announced",
        |d| {
            let mut c = Peer::new(d)?;
            let mut fields = c.fields("GET", "/");
            fields.push(("x-large".into(), "y".repeat(most(&c))));
            c.ask(&fields, flag::END_STREAM);
            c.dies(&[Code::FrameSize])
        },
    ),
    case("9113 §4.2", "", "SETTINGS larger than announced", |d| {
        let mut c = Peer::new(d)?;
        let values = vec![(0x7777, 1); most(&c) / 6 + 1];
        c.send([frame::settings(&values)]);
        c.dies(&[Code::FrameSize])
    }),
    case(
        "9113 §4.2",
        "",
        "an unknown frame larger than announced",
        |d| {
            let mut c = Peer::new(d)?;
            let size = most(&c) + 1;
            c.send([Frame::new(0x33, 0, 0, vec![0; size])]);
            c.dies(&[Code::FrameSize])
        },
    ),
    case(
        "9113 §4.2",
        "",
        "a size is judged before the frame has come",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([frame::ping(b"claiming").claiming(0x00ff_ffff)]);
            c.dies(&[Code::FrameSize])
        },
    ),
    case(
        "9113 §4.3",
        "http2/4.3/1",
        "a header block that is none",
        |d| {
            let mut c = Peer::new(d)?;
            c.send([headers(1, flag::WHOLE, [0x40])]);
            c.dies(COMPRESSION)
        },
    ),
    case(
        "9113 §4.3",
        "http2/4.3/2",
        "PRIORITY within a header block",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([
                headers(1, flag::END_STREAM, request),
                priority(1, 0, 15),
                continuation(1, flag::END_HEADERS, []),
            ]);
            c.dies(&[Code::Protocol])
        },
    ),
    case(
        "9113 §4.3",
        "http2/4.3/3",
        "HEADERS of another stream within a block",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([
                headers(1, flag::END_STREAM, request.clone()),
                headers(3, flag::WHOLE, request),
            ]);
            c.dies(&[Code::Protocol])
        },
    ),
    case(
        "9113 §5.5",
        "http2/5.5/2",
        "an unknown frame within a header block",
        |d| {
            let mut c = Peer::new(d)?;
            let request = block(&c.fields("GET", "/"));
            c.send([
                headers(1, flag::END_STREAM, request),
                Frame::new(0x16, flag::NONE, 1, [0; 8]),
                continuation(1, flag::END_HEADERS, []),
            ]);
            c.dies(&[Code::Protocol])
        },
    ),
];

#[test]
fn a_connection_begins_as_it_must() {
    run(BEGIN);
}

#[test]
fn frames_are_read_as_they_must() {
    run(FRAMES);
}

/// §3.2, RFC 7301: over TLS nothing else says what is spoken.
#[test]
fn over_tls_the_protocol_is_what_alpn_says() {
    let site = Site::start();
    let address = site.gateway.listener("tls");
    let agreed = |offered: &[&str]| {
        let client = site.client(offered);
        Wire::tls(address, &client, NAME).map(|wire| wire.protocol())
    };
    let agreed_on = |offered: &[&str]| agreed(offered).expect("a connection");
    assert_eq!(agreed_on(&["h2"]).as_deref(), Some("h2"));
    assert_eq!(agreed_on(&["h2", "http/1.1"]).as_deref(), Some("h2"));
    let one = agreed_on(&["http/1.1"]);
    assert_eq!(one.as_deref(), Some("http/1.1"));
    // `h2c` must never be chosen (§3.1): no protocol, or no connection.
    let none = agreed(&["h2c"]).ok().flatten();
    assert_eq!(none, None);
    assert_eq!(agreed_on(&[]), None, "then it is HTTP/1.1");
}

/// What is offered on one kind of listener is not understood on another.
#[test]
fn without_alpn_tls_carries_http_1() {
    let site = Site::start();
    let client = site.client(&[]);
    let mut wire = Wire::tls(site.gateway.listener("tls"), &client, NAME).expect("connects");
    let mut answer = Vec::new();
    wire.put(
        [PREFACE, &frame::settings(&[]).encode()]
            .concat()
            .as_slice(),
    );
    while matches!(wire.get(&mut answer), Got::Bytes(_)) {}
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 505 "), "{text}");
    let door = site.door(Over::Tls);
    Peer::new(&door).and_then(|mut c| c.serves()).expect("h2");
}
