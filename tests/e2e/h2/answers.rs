//! The table of answers: RFC 9113 §4.3.1, RFC 7541 §4.2.

use super::frame::{self, setting};
use super::peer::{Peer, Verdict};
use super::site::{Case, Door, case, run};

/// Answers that use the table, then settings, then answers that must be in step (§4.3.1).
fn resized(d: &Door, frames: &[&[(u16, u32)]]) -> Verdict {
    let mut c = Peer::new(d)?;
    // The decoder of `Seen` follows, and wants the updates that it is owed.
    c.serves()?;
    c.serves()?;
    for values in frames {
        c.send([frame::settings(values)]);
    }
    let acks = 1 + frames.len();
    c.until("ACKs", move |seen| seen.acks == acks)?;
    for _ in 0..3 {
        c.serves()?;
    }
    Ok(())
}

const SIZE: u16 = setting::HEADER_TABLE_SIZE;

pub const ANSWERS: &[Case] = &[
    case("9113 §4.3.1", "", "no table for answers", |d| {
        Peer::with(d, &[(SIZE, 0)])?.serves()?;
        resized(d, &[&[(SIZE, 0)]])
    }),
    case(
        "9113 §4.3.1",
        "",
        "a smaller table for answers, and a larger",
        |d| {
            resized(d, &[&[(SIZE, 100)]])?;
            resized(d, &[&[(SIZE, 100)], &[(SIZE, 50)], &[(SIZE, 65_536)]])
        },
    ),
    case(
        "9113 §4.3.1",
        "",
        "the smallest size of those between two answers",
        |d| resized(d, &[&[(SIZE, 0)], &[(SIZE, 4096)]]),
    ),
    case(
        "9113 §6.5.3",
        "",
        "the smallest size of those in one frame",
        |d| resized(d, &[&[(SIZE, 0), (SIZE, 4096)]]),
    ),
];

#[test]
fn the_table_of_answers() {
    run(ANSWERS);
}
