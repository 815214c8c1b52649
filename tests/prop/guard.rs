//! The guard of HTTP/2: torn or whole, frames are judged alike; header blocks are read as by a twin
//! that keeps every entry.

use proptest::prelude::*;
use tollgate::edge::guard::{Guard, Step};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// What became of bytes that came in pieces of these sizes, again and again.
fn judged(mut bytes: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<u32>) {
    let mut guard = Guard::default();
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    let mut sizes = sizes.iter().cycle();
    loop {
        match guard.step(&mut held) {
            Step::Pass(n) => passed.extend(held.drain(..n)),
            Step::Drop(n) => drop(held.drain(..n)),
            Step::Stop(code) => return (passed, Some(code.into())),
            Step::More if bytes.is_empty() => return (passed, None),
            Step::More => {
                let n = sizes.next().map_or(1, |n| *n).min(bytes.len());
                held.extend_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
            }
        }
    }
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![0x82]),
        Just(vec![0; 4]),
        Just(vec![0; 8]),
    ];
    let one = (0..12u8, any::<u8>(), 0..10u32, payload);
    prop::collection::vec(one, 0..30).prop_map(|frames| {
        let encoded = frames.iter().map(|(k, f, s, p)| frame(*k, *f, *s, p));
        let settings = frame(4, 0, 0, &[]);
        [settings].into_iter().chain(encoded).flatten().collect()
    })
}

/// One instruction of a block.
#[derive(Clone, Debug)]
enum Instruction {
    Indexed(usize),
    /// The index of the name, or 0 and its length; the length of the value; whether it is kept.
    Literal(usize, usize, usize, bool),
    Resize(usize),
}

fn int(first: u8, prefix: u8, mut value: usize) -> Vec<u8> {
    let most = (1usize << prefix) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut out = vec![first | most as u8];
    value -= most;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
    out
}

impl Instruction {
    fn write(&self) -> Vec<u8> {
        let text = |length: &usize| [int(0, 7, *length), vec![b'a'; *length]].concat();
        match self {
            Self::Indexed(index) => int(0x80, 7, *index),
            Self::Resize(size) => int(0x20, 5, *size),
            Self::Literal(index, name, value, kept) => {
                let named = if *kept {
                    int(0x40, 6, *index)
                } else {
                    int(0x10, 4, *index)
                };
                let name = if *index == 0 { text(name) } else { Vec::new() };
                [named, name, text(value)].concat()
            }
        }
    }
}

fn instruction() -> impl Strategy<Value = Instruction> {
    let index = prop_oneof![8 => 15..62usize, 1 => 62..70usize, 4 => Just(0)];
    let length = prop_oneof![4 => 1..60usize, 1 => 1..1500usize];
    prop_oneof![
        3 => prop_oneof![3 => 1..62usize, 1 => 62..72usize].prop_map(Instruction::Indexed),
        6 => (index, 1..40usize, length, any::<bool>())
            .prop_map(|(i, n, v, kept)| Instruction::Literal(i, n, v, kept)),
    ]
}

/// Sizes come first, if not by mistake.
fn block() -> impl Strategy<Value = Vec<Instruction>> {
    let sizes = prop::collection::vec((0..4200usize).prop_map(Instruction::Resize), 0..3);
    let fields = prop::collection::vec(instruction(), 0..8);
    (sizes, fields, 0..20u8).prop_map(|(sizes, fields, mistake)| match mistake {
        0 => fields.into_iter().chain(sizes).collect(),
        _ => sizes.into_iter().chain(fields).collect(),
    })
}

/// Lengths of name and value of each entry, the newest first.
struct Twin {
    table: Vec<(usize, usize)>,
    most: usize,
}

impl Twin {
    fn fit(&mut self) {
        let size = |table: &[(usize, usize)]| table.iter().map(|(n, v)| n + v + 32).sum::<usize>();
        while size(&self.table) > self.most {
            self.table.pop();
        }
    }

    /// Whether the block can be read.
    fn read(&mut self, block: &[Instruction]) -> bool {
        let mut begun = false;
        for instruction in block {
            match instruction {
                Instruction::Resize(size) if begun || *size > 4096 => return false,
                Instruction::Resize(size) => self.most = *size,
                Instruction::Indexed(index) if *index > 61 + self.table.len() => return false,
                Instruction::Indexed(_) => begun = true,
                Instruction::Literal(index, name, value, kept) => {
                    begun = true;
                    let name = match index {
                        0 => *name,
                        1..=61 => NAMES[index - 1].len(),
                        _ => match self.table.get(index - 62) {
                            Some((name, _)) => *name,
                            None => return false,
                        },
                    };
                    if *kept {
                        self.table.insert(0, (name, *value));
                    }
                }
            }
            self.fit();
        }
        true
    }
}

/// RFC 7541 Appendix A.
const NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

proptest! {
    #[test]
    fn torn_or_whole_is_the_same(
        bytes in frames(),
        sizes in prop::collection::vec(1..50usize, 1..8),
    ) {
        prop_assert_eq!(judged(&bytes, &sizes), judged(&bytes, &[usize::MAX]));
    }

    #[test]
    fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let settings = frame(4, 0, 0, &[]);
        let (passed, _) = judged(&[settings, bytes.clone()].concat(), &[usize::MAX]);
        prop_assert!(passed.len() <= 9 + bytes.len());
    }

    #[test]
    fn blocks_are_read_as_by_the_twin(blocks in prop::collection::vec(block(), 1..20)) {
        let mut guard = Guard::default();
        let mut bytes = frame(4, 0, 0, &[]);
        prop_assert_eq!(guard.step(&mut bytes), Step::Pass(9));
        let mut twin = Twin { table: Vec::new(), most: 4096 };
        for (stream, block) in (1..).step_by(2).zip(blocks) {
            let written: Vec<u8> = block.iter().flat_map(Instruction::write).collect();
            let mut bytes = frame(1, 0x5, stream, &written);
            let step = guard.step(&mut bytes);
            if !twin.read(&block) {
                prop_assert_eq!(step, Step::Stop(h2::Reason::COMPRESSION_ERROR), "{:?}", block);
                break;
            }
            prop_assert_eq!(step, Step::Pass(bytes.len()), "{:?}", block);
        }
    }
}
