//! Frames of a WebSocket: wherever the bytes are cut, the follower knows where frames end, as a twin
//! does that has them whole.

use proptest::prelude::*;
use tollgate::edge::frames::{Frames, close};

/// A frame: its first byte, its length, how many bytes tell that, and whether it is masked.
#[derive(Clone, Debug)]
struct Frame {
    first: u8,
    length: usize,
    masked: bool,
}

impl Frame {
    fn write(&self) -> Vec<u8> {
        let mask = if self.masked { 0x80 } else { 0 };
        let mut out = vec![self.first];
        match self.length {
            n @ 0..126 => out.push(mask | n as u8),
            n @ 126..0x1_0000 => {
                out.push(mask | 0x7e);
                out.extend((n as u16).to_be_bytes());
            }
            n => {
                out.push(mask | 0x7f);
                out.extend((n as u64).to_be_bytes());
            }
        }
        let more = self.length + if self.masked { 4 } else { 0 };
        // What looks like headers must not be taken for some.
        out.extend((0..more).map(|n| [0x81, 0x88, 0x02, 0x7f][n % 4]));
        out
    }

    fn is_close(&self) -> bool {
        self.first & 0xf == 8
    }

    fn breaks_rules(&self, masked: bool) -> bool {
        let control = self.first & 8 != 0;
        self.masked != masked || control && (self.length > 125 || self.first & 0x80 == 0)
    }
}

/// Mostly good ones.
fn frame(masked: bool) -> impl Strategy<Value = Frame> {
    let length = prop_oneof![0..4usize, 124..130usize, 65_530..65_540usize, 0..3000usize];
    let good = (0..0x80u8, length.clone()).prop_map(move |(first, length)| {
        let first = first & 0xf7;
        Frame {
            first,
            length,
            masked,
        }
    });
    let control = (8..16u8, 0..126usize).prop_map(move |(kind, length)| {
        let first = kind | 0x80;
        Frame {
            first,
            length,
            masked,
        }
    });
    let any = (any::<u8>(), length, any::<bool>()).prop_map(|(first, length, masked)| Frame {
        first,
        length,
        masked,
    });
    prop_oneof![20 => good, 2 => control, 1 => any]
}

/// Where frames end; and how it ends: closed, lost.
fn twin(frames: &[Frame], masked: bool) -> (Vec<usize>, bool, bool) {
    let (mut at, mut ends) = (0, Vec::new());
    for frame in frames {
        if frame.breaks_rules(masked) {
            return (ends, false, true);
        }
        at += frame.write().len();
        if frame.is_close() {
            return (ends, true, false);
        }
        ends.push(at);
    }
    (ends, false, false)
}

fn begin(masked: bool) -> Frames {
    if masked {
        Frames::FROM_CLIENT
    } else {
        Frames::FROM_SERVICE
    }
}

fn all() -> impl Strategy<Value = (bool, Vec<Frame>, Vec<usize>)> {
    let sizes = prop::collection::vec(prop_oneof![1..12usize, 1..20_000usize], 1..20);
    any::<bool>().prop_flat_map(move |masked| {
        let frames = prop::collection::vec(frame(masked), 0..12);
        (Just(masked), frames, sizes.clone())
    })
}

proptest! {
    #[test]
    fn ends_are_known_however_bytes_are_cut((masked, frames, sizes) in all()) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::write).collect();
        let (ends, closed, lost) = twin(&frames, masked);
        let mut follower = begin(masked);
        let (mut at, mut found) = (0, Vec::new());
        let mut sizes = sizes.iter().cycle();
        while at < bytes.len() {
            let piece = sizes.next().map_or(1, |n| *n).min(bytes.len() - at);
            let mut piece = &bytes[at..at + piece];
            while !piece.is_empty() {
                let n = follower.step(piece);
                prop_assert!(n > 0);
                at += n;
                piece = &piece[n..];
                if follower.is_between() {
                    found.push(at);
                }
            }
        }
        prop_assert_eq!(&found, &ends);
        prop_assert_eq!((follower.is_closed(), follower.is_lost()), (closed, lost));
        let mut whole = begin(masked);
        whole.follow(&bytes);
        prop_assert_eq!(whole.is_between(), follower.is_between());
        if whole.is_between() {
            whole.follow(&close(1001, masked.then_some([7; 4])));
            prop_assert!(whole.is_closed(), "ours is a good one");
        }
    }

    #[test]
    fn no_bytes_do_harm(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        for masked in [false, true] {
            let mut follower = begin(masked);
            for piece in &pieces {
                follower.follow(piece);
            }
            prop_assert!(!(follower.is_closed() && follower.is_lost()));
        }
    }
}
