//! Header compression (RFC 7541): writing it piece by piece, wrongly if need be, and reading it as
//! strictly as the RFC allows.

use super::huffman;
use std::collections::VecDeque;

/// The static table (Appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The first index of the dynamic table (§2.3.3).
pub const DYNAMIC: usize = 62;
/// Index of `:authority` in the static table; further names used by the cases.
pub const AUTHORITY: usize = 1;
pub const GET: usize = 2;
pub const ROOT: usize = 4;
pub const USER_AGENT: usize = 58;

/// An integer with a prefix of so many bits (§5.1); `first` fills the bits before it.
pub fn int(first: u8, prefix: u8, mut value: usize) -> Vec<u8> {
    let most = (1usize << prefix) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut out = vec![first | most as u8];
    value -= most;
    while value >= 128 {
        out.push((value % 128 + 128) as u8);
        value /= 128;
    }
    out.push(value as u8);
    out
}

/// How a string is written (§5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    Plain,
    Huffman,
}

/// A string literal.
pub fn text(text: &[u8], how: Text) -> Vec<u8> {
    match how {
        Text::Plain => [int(0, 7, text.len()), text.to_vec()].concat(),
        Text::Huffman => coded(&huffman::encode(text)),
    }
}

/// A string literal whose octets are said to be in the Huffman code.
pub fn coded(octets: &[u8]) -> Vec<u8> {
    [int(0x80, 7, octets.len()), octets.to_vec()].concat()
}

/// What a literal does to the table (§6.2): first octet and bits of the index.
#[derive(Clone, Copy, Debug)]
pub enum Literal {
    Indexed,
    Plain,
    Never,
}

impl Literal {
    fn form(self) -> (u8, u8) {
        match self {
            Self::Indexed => (0x40, 6),
            Self::Plain => (0x00, 4),
            Self::Never => (0x10, 4),
        }
    }

    /// A field with a new name.
    pub fn field(self, name: &[u8], value: &[u8], how: Text) -> Vec<u8> {
        [self.named(0), text(name, how), text(value, how)].concat()
    }

    /// A field with the name of an entry.
    pub fn at(self, index: usize, value: &[u8], how: Text) -> Vec<u8> {
        [self.named(index), text(value, how)].concat()
    }

    /// Only the index of the name; 0 for a new one.
    pub fn named(self, index: usize) -> Vec<u8> {
        let (first, prefix) = self.form();
        int(first, prefix, index)
    }
}

/// An entry of the tables (§6.1).
pub fn indexed(index: usize) -> Vec<u8> {
    int(0x80, 7, index)
}

/// A dynamic table size update (§6.3).
pub fn resize(size: usize) -> Vec<u8> {
    int(0x20, 5, size)
}

/// Fields as literals that change no table.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let literal = |(n, v): &(N, V)| Literal::Plain.field(n.as_ref(), v.as_ref(), Text::Plain);
    fields.iter().flat_map(literal).collect()
}

/// Name and value.
pub type Field = (String, String);

/// Reads blocks one after the other.
pub struct Decoder {
    table: VecDeque<Field>,
    size: usize,
    most: usize,
    /// The most that the reader has announced (SETTINGS_HEADER_TABLE_SIZE).
    announced: usize,
    /// The next block has to begin with an update to at most this size (RFC 9113 §4.3.1).
    owed: Option<usize>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            most: 4096,
            announced: 4096,
            owed: None,
        }
    }
}

impl Decoder {
    /// What the reader announced has been acknowledged.
    pub fn announce(&mut self, size: usize) {
        self.announced = size;
        if size < self.most {
            self.owed = Some(self.owed.map_or(size, |owed| owed.min(size)));
        }
    }

    /// The fields of a whole block.
    ///
    /// # Errors
    /// It breaks a rule of RFC 7541.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, String> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let Some(first) = rest.first().copied() {
            if first & 0xe0 == 0x20 {
                let size = take_int(&mut rest, 5)?;
                self.shrink(size, fields.is_empty())?;
                continue;
            }
            if let Some(owed) = self.owed {
                return Err(format!("no size update to {owed} or less before a field"));
            }
            let field = match first {
                0x80.. => self.entry(take_int(&mut rest, 7)?)?,
                0x40.. => {
                    let field = self.literal(&mut rest, 6)?;
                    self.insert(field.clone());
                    field
                }
                _ => self.literal(&mut rest, 4)?,
            };
            fields.push(field);
        }
        Ok(fields)
    }

    fn shrink(&mut self, size: usize, first: bool) -> Result<(), String> {
        if !first {
            return Err("a size update behind a field".into());
        }
        if size > self.announced {
            return Err(format!("a table of {size}, {} at most", self.announced));
        }
        if self.owed.is_some_and(|owed| size <= owed) {
            self.owed = None;
        }
        self.most = size;
        self.evict();
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<Field, String> {
        match index {
            0 => Err("index 0".into()),
            1..DYNAMIC => {
                let (name, value) = STATIC[index - 1];
                Ok((name.into(), value.into()))
            }
            _ => {
                let found = self.table.get(index - DYNAMIC).cloned();
                found.ok_or_else(|| format!("index {index} is past the table"))
            }
        }
    }

    fn literal(&self, rest: &mut &[u8], prefix: u8) -> Result<Field, String> {
        let name = match take_int(rest, prefix)? {
            0 => take_text(rest)?,
            index => self.entry(index)?.0,
        };
        Ok((name, take_text(rest)?))
    }

    fn insert(&mut self, field: Field) {
        self.size += cost(&field);
        self.table.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.most {
            let Some(last) = self.table.pop_back() else {
                return;
            };
            self.size -= cost(&last);
        }
    }
}

/// The size of an entry (§4.1).
fn cost((name, value): &Field) -> usize {
    name.len() + value.len() + 32
}

fn take_int(rest: &mut &[u8], prefix: u8) -> Result<usize, String> {
    let most = (1usize << prefix) - 1;
    let mut value = usize::from(take_octet(rest)?) & most;
    if value < most {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let octet = take_octet(rest)?;
        value += usize::from(octet & 0x7f) << shift;
        if octet < 0x80 {
            return Ok(value);
        }
    }
    Err("an integer too long".into())
}

fn take_text(rest: &mut &[u8]) -> Result<String, String> {
    let huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_int(rest, 7)?;
    let (octets, behind) = rest
        .split_at_checked(length)
        .ok_or("a string past the block")?;
    *rest = behind;
    let octets = match huffman {
        true => huffman::decode(octets)?,
        false => octets.to_vec(),
    };
    String::from_utf8(octets).map_err(|e| format!("not UTF-8: {e}"))
}

fn take_octet(rest: &mut &[u8]) -> Result<u8, String> {
    let (first, behind) = rest.split_first().ok_or("the block ends too early")?;
    *rest = behind;
    Ok(*first)
}

/// The requests of RFC 7541 §C.4, written and read.
#[test]
fn blocks_read_as_in_the_rfc() {
    let mut decoder = Decoder::default();
    let host = Literal::Indexed.at(AUTHORITY, b"www.example.com", Text::Huffman);
    let first = [indexed(GET), indexed(6), indexed(ROOT), host].concat();
    assert_eq!(first[..6], [0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1]);
    let field = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    let request = vec![
        field(":method", "GET"),
        field(":scheme", "http"),
        field(":path", "/"),
        field(":authority", "www.example.com"),
    ];
    assert_eq!(decoder.decode(&first), Ok(request.clone()));
    assert_eq!(decoder.size, 57);
    let entries = [indexed(GET), indexed(6), indexed(ROOT), indexed(DYNAMIC)].concat();
    assert_eq!(decoder.decode(&entries), Ok(request));
    assert_eq!(int(0, 5, 1337), [31, 154, 10], "§C.1.2");
    let custom = Literal::Indexed.field(b"custom-key", b"custom-value", Text::Huffman);
    assert_eq!(
        decoder.decode(&custom),
        Ok(vec![field("custom-key", "custom-value")])
    );
    assert_eq!(decoder.size, 57 + 54);
}

#[test]
fn what_breaks_a_rule_is_not_read() {
    let bad: [(&str, Vec<u8>); 8] = [
        ("index 0", indexed(0)),
        ("past the table", indexed(DYNAMIC)),
        ("late update", [indexed(GET), resize(0)].concat()),
        ("large update", resize(4097)),
        ("long integer", vec![0xff; 9]),
        ("short block", vec![0x40, 0x05, b'a']),
        ("padding", [Literal::Plain.named(0), coded(&[0])].concat()),
        (
            "no value",
            [Literal::Plain.named(0), text(b"a", Text::Plain)].concat(),
        ),
    ];
    for (what, block) in bad {
        assert!(Decoder::default().decode(&block).is_err(), "{what}");
    }
    let mut decoder = Decoder::default();
    decoder.announce(0);
    assert!(decoder.decode(&indexed(GET)).is_err(), "an update is owed");
    let mut updated = resize(0);
    updated.extend(indexed(GET));
    assert!(decoder.decode(&updated).is_ok());
}
