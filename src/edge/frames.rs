//! Where the frames of a WebSocket end (RFC 6455 §5.2): one direction is followed by its headers alone,
//! however the bytes are cut. What they carry is neither looked at nor held.

/// A direction. Whoever breaks the rules of framing in it is not followed any further.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// Whether its frames are masked: those of a client are, those of a service never.
    masked: bool,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of a header have come, its mask not counted.
    Header(u8, [u8; 10]),
    /// So many bytes of a frame are still to come; whether it is a Close.
    Rest(u64, bool),
    /// A Close has passed: nothing may come behind it (§5.5.1).
    Closed,
    /// The rules were broken.
    Lost,
}

impl State {
    const BETWEEN: Self = Self::Header(0, [0; 10]);
}

/// A control frame's type has this bit (§5.5).
const CONTROL: u8 = 8;
/// The type of a Close.
const CLOSE: u8 = 8;
/// The last frame of its message.
const FIN: u8 = 0x80;
/// The frame is masked.
const MASK: u8 = 0x80;

impl Frames {
    /// Those of a client.
    pub const FROM_CLIENT: Self = Self {
        masked: true,
        state: State::BETWEEN,
    };
    /// Those of a service.
    pub const FROM_SERVICE: Self = Self {
        masked: false,
        state: State::BETWEEN,
    };

    /// Follows these bytes.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    /// Follows these bytes to the end of the frame that they are in, or begin; says how many that are.
    pub fn step(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Header(have, head) => {
                    head[usize::from(*have)] = bytes[at];
                    *have += 1;
                    at += 1;
                    let (have, head) = (*have, *head);
                    self.read(have, &head);
                }
                State::Rest(left, close) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX);
                    let here = here.min(bytes.len() - at);
                    at += here;
                    let (left, close) = (*left - here as u64, *close);
                    self.rest(left, close);
                }
                State::Closed | State::Lost => return bytes.len(),
            }
            if self.is_between() {
                break;
            }
        }
        at
    }

    /// Whether another frame may begin here.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Header(0, _))
    }

    /// Whether a Close has passed.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether it is not known any more where frames end.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Gives up.
    pub fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// Looks at a header of which `have` bytes are there.
    fn read(&mut self, have: u8, head: &[u8; 10]) {
        if have < 2 {
            return;
        }
        let short = head[1] & !MASK;
        let control = head[0] & CONTROL != 0;
        let long = control && (short > 125 || head[0] & FIN == 0);
        if (head[1] & MASK != 0) != self.masked || long {
            return self.lose();
        }
        let wanted = match short {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if have < wanted {
            return;
        }
        let length = head[2..usize::from(wanted)]
            .iter()
            .fold(0, |n, byte| n << 8 | u64::from(*byte));
        let length = if wanted == 2 { short.into() } else { length };
        if length > i64::MAX as u64 {
            return self.lose();
        }
        let mask = if self.masked { 4 } else { 0 };
        self.rest(length + mask, head[0] & 0xf == CLOSE);
    }

    fn rest(&mut self, left: u64, close: bool) {
        self.state = match (left, close) {
            (0, true) => State::Closed,
            (0, false) => State::BETWEEN,
            _ => State::Rest(left, close),
        };
    }
}

/// A Close with a code (§5.5.1, §7.4.1), for a service with a mask.
pub fn close(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    match mask {
        None => vec![FIN | CLOSE, 2, high, low],
        Some(mask) => {
            let [a, b, c, d] = mask;
            vec![FIN | CLOSE, MASK | 2, a, b, c, d, high ^ a, low ^ b]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(mut frames: Frames, bytes: &[u8]) -> Frames {
        frames.follow(bytes);
        frames
    }

    #[test]
    fn a_close_is_as_the_standard_has_it() {
        assert_eq!(close(1001, None), [0x88, 2, 0x03, 0xe9]);
        let masked = close(1001, Some([1, 2, 3, 4]));
        assert_eq!(masked, [0x88, 0x82, 1, 2, 3, 4, 0x02, 0xeb]);
        assert!(after(Frames::FROM_SERVICE, &close(1001, None)).is_closed());
        assert!(after(Frames::FROM_CLIENT, &masked).is_closed());
    }

    #[test]
    fn a_step_ends_with_its_frame() {
        let mut frames = Frames::FROM_SERVICE;
        let two = b"\x81\x05hello\x89\x00";
        assert_eq!(frames.step(&two[..4]), 4);
        assert!(!frames.is_between());
        assert_eq!(frames.step(&two[4..]), 3);
        assert!(frames.is_between());
        assert_eq!(frames.step(&two[7..]), 2);
        assert!(frames.is_between() && !frames.is_closed());
    }

    #[test]
    fn whoever_breaks_the_rules_is_lost() {
        for (frames, bytes) in [
            (Frames::FROM_SERVICE, &b"\x81\x80"[..]),
            (Frames::FROM_CLIENT, b"\x81\x00"),
            (Frames::FROM_SERVICE, b"\x89\x7e"),
            (Frames::FROM_SERVICE, b"\x09\x00"),
            (Frames::FROM_SERVICE, b"\x82\x7f\x80\0\0\0\0\0\0\0"),
        ] {
            let lost = after(frames, bytes);
            assert!(lost.is_lost() && !lost.is_between(), "{bytes:?}");
            assert!(after(lost, b"\x81\x00").is_lost(), "for good");
        }
    }
}
