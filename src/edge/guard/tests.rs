//! The guard, frame by frame.

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// A guard that has seen the client's settings and this many requests, the last unfinished.
fn guard(requests: u32) -> Guard {
    let mut guard = Guard::default();
    passes(&mut guard, &mut frame(SETTINGS, 0, 0, &[]));
    for n in 0..requests {
        let end = if n + 1 < requests { END_STREAM } else { 0 };
        passes(
            &mut guard,
            &mut frame(HEADERS, END_HEADERS | end, 2 * n + 1, &[0x82]),
        );
    }
    guard
}

#[track_caller]
fn passes(guard: &mut Guard, bytes: &mut [u8]) {
    assert_eq!(guard.step(bytes), Step::Pass(bytes.len()));
}

#[track_caller]
fn stops(guard: &mut Guard, mut bytes: Vec<u8>, code: Reason) {
    assert_eq!(guard.step(&mut bytes), Step::Stop(code), "{bytes:x?}");
    let mut good = frame(PING, 0, 0, &[0; 8]);
    assert_eq!(guard.step(&mut good), Step::Stop(code), "for good");
}

#[test]
fn frames_go_on_once_they_are_judged() {
    let mut guard = guard(1);
    let mut ping = frame(PING, 0, 0, &[7; 8]);
    for torn in 0..ping.len() {
        assert_eq!(guard.step(&mut ping[..torn]), Step::More);
    }
    passes(&mut guard, &mut ping);
    let mut data = frame(DATA, END_STREAM, 1, &[1; 100]);
    assert_eq!(guard.step(&mut data[..8]), Step::More);
    assert_eq!(guard.step(&mut data[..20]), Step::Pass(20));
    assert_eq!(guard.step(&mut []), Step::More);
    let mut rest = [&data[20..], &ping].concat();
    assert_eq!(guard.step(&mut rest), Step::Pass(89), "to its end");
    passes(&mut guard, &mut ping);
}

#[test]
fn what_says_nothing_is_dropped() {
    let mut guard = guard(1);
    let mut unknown = frame(0x20, 0xff, 5, &[1; 30]);
    assert_eq!(guard.step(&mut unknown[..10]), Step::Drop(10));
    assert_eq!(guard.step(&mut unknown[10..]), Step::Drop(29));
    for mut bytes in [frame(PRIORITY, 0, 9, &[0; 5]), frame(DATA, 0, 1, &[])] {
        assert_eq!(guard.step(&mut bytes), Step::Drop(bytes.len()));
    }
    passes(&mut guard, &mut frame(DATA, END_STREAM, 1, &[]));
}

#[test]
fn the_first_frame_is_settings() {
    for first in [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, ACK, 0, &[]),
        frame(0x20, 0, 0, &[]),
    ] {
        stops(&mut Guard::default(), first, Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn sizes_are_those_of_the_type() {
    let wrong: [(u8, u8, u32, usize); 11] = [
        (DATA, PADDED, 1, 0),
        (HEADERS, PADDED, 3, 0),
        (HEADERS, PRIORITISED, 3, 4),
        (HEADERS, PRIORITISED | PADDED, 3, 5),
        (PRIORITY, 0, 1, 4),
        (RST_STREAM, 0, 1, 5),
        (SETTINGS, 0, 0, 5),
        (SETTINGS, ACK, 0, 6),
        (PING, 0, 0, 7),
        (GOAWAY, 0, 0, 7),
        (WINDOW_UPDATE, 0, 0, 3),
    ];
    for (kind, flags, stream, length) in wrong {
        let bytes = frame(kind, flags, stream, &vec![0; length]);
        stops(&mut guard(1), bytes, Reason::FRAME_SIZE_ERROR);
    }
    let mut large = frame(0x20, 0, 0, &[]);
    large[..3].copy_from_slice(&[0, 0x40, 1]);
    stops(&mut guard(1), large, Reason::FRAME_SIZE_ERROR);
}

#[test]
fn a_block_is_not_interrupted() {
    let begun = |guard: &mut Guard| passes(guard, &mut frame(HEADERS, 0, 3, &[0x82]));
    for other in [
        frame(PING, 0, 0, &[0; 8]),
        frame(CONTINUATION, END_HEADERS, 1, b"x"),
        frame(0x20, 0, 3, &[]),
    ] {
        let mut guard = guard(1);
        begun(&mut guard);
        stops(&mut guard, other, Reason::PROTOCOL_ERROR);
    }
    let mut guard = guard(1);
    begun(&mut guard);
    passes(&mut guard, &mut frame(CONTINUATION, 0, 3, &[0x86]));
    passes(
        &mut guard,
        &mut frame(CONTINUATION, END_HEADERS, 3, &[0x84]),
    );
    let more = frame(CONTINUATION, END_HEADERS, 3, &[0x84]);
    stops(&mut guard, more, Reason::PROTOCOL_ERROR);
}

#[test]
fn streams_are_idle_open_or_closed() {
    let idle = [
        frame(DATA, 0, 5, b"x"),
        frame(RST_STREAM, 0, 5, &[0; 4]),
        frame(WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1]),
        frame(DATA, 0, 2, b"x"),
        frame(HEADERS, END_HEADERS, 6, b"x"),
        frame(PUSH_PROMISE, END_HEADERS, 3, &[0; 8]),
    ];
    for bytes in idle {
        stops(&mut guard(2), bytes, Reason::PROTOCOL_ERROR);
    }
    for (kind, flags) in [(DATA, 0), (HEADERS, END_HEADERS | END_STREAM)] {
        let bytes = frame(kind, flags, 1, b"x");
        stops(&mut guard(2), bytes, Reason::STREAM_CLOSED);
        let mut guard = guard(2);
        passes(&mut guard, &mut frame(RST_STREAM, 0, 3, &[0; 4]));
        stops(
            &mut guard,
            frame(kind, flags, 3, b"x"),
            Reason::STREAM_CLOSED,
        );
    }
    let mut guard = guard(2);
    passes(&mut guard, &mut frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]));
    passes(&mut guard, &mut frame(RST_STREAM, 0, 1, &[0; 4]));
    passes(&mut guard, &mut frame(DATA, 0, 3, b"x"));
    passes(
        &mut guard,
        &mut frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x90]),
    );
    stops(&mut guard, frame(DATA, 0, 3, b"x"), Reason::STREAM_CLOSED);
}

#[test]
fn of_many_unfinished_requests_the_oldest_are_forgotten() {
    let mut guard = guard(0);
    for n in 0..MOST_OPEN as u32 + 2 {
        let mut begun = frame(HEADERS, END_HEADERS, 2 * n + 1, &[0x82]);
        passes(&mut guard, &mut begun);
    }
    assert_eq!(guard.open.len(), MOST_OPEN);
    passes(&mut guard, &mut frame(DATA, 0, 1, b"x"));
    passes(&mut guard, &mut frame(DATA, 0, 5, b"x"));
}

#[test]
fn some_bytes_are_changed() {
    let mut guard = guard(0);
    let table = |value: u32| [&[0, 1][..], &value.to_be_bytes()].concat();
    let values = [table(4096), table(0), table(100)].concat();
    let mut settings = frame(SETTINGS, 0, 0, &values);
    passes(&mut guard, &mut settings);
    let smallest = [table(4096), table(0), table(0)].concat();
    assert_eq!(settings[HEAD..], smallest);
    let window = [&[0, 4][..], &(1u32 << 31).to_be_bytes()].concat();
    let bytes = frame(SETTINGS, 0, 0, &window);
    stops(&mut guard, bytes, Reason::FLOW_CONTROL_ERROR);
}

#[test]
fn frames_that_only_cost_are_counted() {
    let mut guard = guard(1);
    let mut ping = frame(PING, 0, 0, &[0; 8]);
    guard.note(1000, false);
    let mut spent = 0;
    while guard.step(&mut ping) == Step::Pass(ping.len()) {
        spent += 1;
        // More than one of two.
        guard.wrote(ping.len());
    }
    assert!((1000..3000).contains(&spent), "{spent}");
    assert_eq!(guard.ended(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn the_goodbye_names_the_last_stream() {
    let mut guard = guard(2);
    guard.note(0, true);
    passes(&mut guard, &mut frame(HEADERS, END_HEADERS, 5, &[0x82]));
    assert_eq!(guard.goaway(), None);
    stops(
        &mut guard,
        frame(PING, 0, 1, &[0; 8]),
        Reason::PROTOCOL_ERROR,
    );
    let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 1]);
    assert_eq!(guard.goaway().as_ref().map(|g| &g[..]), Some(&goaway[..]));
    assert_eq!(guard.goaway(), None, "once");
}

#[test]
fn blocks_are_read_along() {
    let block = |stream: u32, block: &[u8]| frame(HEADERS, END_HEADERS, stream, block);
    stops(&mut guard(1), block(3, &[0x80]), Reason::COMPRESSION_ERROR);
    let fragment = [&[0x04, 4][..], b"/a#b"].concat();
    stops(&mut guard(1), block(3, &fragment), Reason::PROTOCOL_ERROR);
    // Trailers hold no pseudo-header field.
    stops(&mut guard(1), block(1, &[0x84]), Reason::PROTOCOL_ERROR);
    passes(&mut guard(1), &mut block(1, &[0x90]));
    // A size may not change within a block, in however many frames it comes.
    let mut guard = guard(1);
    passes(&mut guard, &mut frame(HEADERS, 0, 3, &[0x20, 0x82]));
    let late = frame(CONTINUATION, END_HEADERS, 3, &[0x20]);
    stops(&mut guard, late, Reason::COMPRESSION_ERROR);
}

#[test]
fn padding_and_priority_are_no_block() {
    let flags = END_HEADERS | PADDED | PRIORITISED;
    let payload = |padding: u8| [padding, 0, 0, 0, 9, 1, 0x82, 0, 0];
    passes(&mut guard(1), &mut frame(HEADERS, flags, 3, &payload(2)));
    let long = frame(HEADERS, flags, 3, &payload(4));
    stops(&mut guard(1), long, Reason::PROTOCOL_ERROR);
}

#[test]
fn no_stream_depends_on_itself() {
    let own = [0x80, 0, 0, 3, 200];
    let block = [&own[..], &[0x82]].concat();
    let headers = frame(HEADERS, END_HEADERS | PRIORITISED, 3, &block);
    stops(&mut guard(1), headers, Reason::PROTOCOL_ERROR);
    let priority = frame(PRIORITY, 0, 3, &own);
    stops(&mut guard(1), priority, Reason::PROTOCOL_ERROR);
}

#[test]
fn a_stream_that_was_left_out_is_none() {
    let mut guard = guard(1);
    passes(
        &mut guard,
        &mut frame(HEADERS, END_HEADERS | END_STREAM, 7, &[0x82]),
    );
    let late = frame(HEADERS, END_HEADERS | END_STREAM, 5, &[0x82]);
    stops(&mut guard, late, Reason::PROTOCOL_ERROR);
}
