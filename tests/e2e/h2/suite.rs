//! The public conformance suite of these RFCs (h2spec) numbers its cases by section, by those of
//! RFC 7540 where HTTP/2 itself is meant: each has its twin here.

use super::site::Case;
use super::{
    answers, blocks, compression, concurrency, fields, floods, frames, life, limits, messages,
    plain, proxying, settings, start, streams, windows,
};
use std::collections::HashSet;

/// Sections of the suite, and how many cases each has.
const SUITE: &[(&str, &[(&str, usize)])] = &[
    (
        "generic",
        &[
            ("1", 1),
            ("2", 5),
            ("3.1", 3),
            ("3.2", 3),
            ("3.3", 5),
            ("3.4", 1),
            ("3.5", 1),
            ("3.7", 1),
            ("3.8", 1),
            ("3.9", 2),
            ("3.10", 2),
            ("4", 4),
            ("5", 15),
        ],
    ),
    (
        "http2",
        &[
            ("3.5", 2),
            ("4.1", 3),
            ("4.2", 3),
            ("4.3", 3),
            ("5.1", 13),
            ("5.1.1", 2),
            ("5.1.2", 1),
            ("5.3.1", 2),
            ("5.4.1", 2),
            ("5.5", 2),
            ("6.1", 3),
            ("6.2", 4),
            ("6.3", 2),
            ("6.4", 3),
            ("6.5", 3),
            ("6.5.2", 5),
            ("6.5.3", 2),
            ("6.7", 4),
            ("6.8", 1),
            ("6.9", 3),
            ("6.9.1", 3),
            ("6.9.2", 3),
            ("6.10", 6),
            ("7", 2),
            ("8.1", 1),
            ("8.1.2", 1),
            ("8.1.2.1", 4),
            ("8.1.2.2", 2),
            ("8.1.2.3", 7),
            ("8.1.2.6", 2),
            ("8.2", 1),
        ],
    ),
    (
        "hpack",
        &[("2.3.3", 2), ("4.2", 1), ("5.2", 3), ("6.1", 1), ("6.3", 1)],
    ),
];

const TABLES: &[&[Case]] = &[
    blocks::PARTS,
    blocks::TABLES,
    answers::ANSWERS,
    compression::FAULTS,
    compression::FORMS,
    compression::TABLES,
    fields::AUTHORITY,
    limits::LIMITS,
    fields::METHODS,
    fields::NAMES,
    fields::PSEUDO,
    floods::FRAMES,
    floods::RESETS,
    floods::UNREAD,
    frames::DATA,
    frames::HEADERS,
    frames::OTHERS,
    life::COUNTED,
    life::DEADLINES,
    life::IDLE,
    life::SLOW,
    messages::FRAMES,
    messages::LENGTHS,
    messages::TRAILERS,
    plain::EXCHANGES,
    plain::FRAMES,
    proxying::BETWEEN,
    settings::GOAWAY,
    settings::PING,
    settings::SETTINGS,
    start::BEGIN,
    start::FRAMES,
    streams::CLOSED_STREAMS,
    concurrency::CONCURRENCY,
    streams::ERRORS,
    streams::HALF_CLOSED,
    streams::IDENTIFIERS,
    streams::IDLE,
    streams::PRIORITY,
    windows::RECEIVING,
    windows::SENDING,
    windows::UPDATES,
];

#[test]
fn every_case_of_the_public_suite_is_here() {
    let cases = || TABLES.iter().flat_map(|table| table.iter());
    let tried: HashSet<&str> = cases().map(|case| case.suite).collect();
    for (part, sections) in SUITE {
        for (section, count) in *sections {
            for n in 1..=*count {
                let id = format!("{part}/{section}/{n}");
                assert!(tried.contains(id.as_str()), "{id} is not tried");
            }
        }
    }
    let sections = SUITE.iter().flat_map(|(_, sections)| sections.iter());
    assert_eq!(sections.map(|(_, n)| n).sum::<usize>(), 147);
    assert!(cases().all(|case| case.section.contains('§')));
}
