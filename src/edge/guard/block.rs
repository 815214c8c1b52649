//! Header blocks (RFC 7541), read along as far as the HTTP/2 library is too kind or says another
//! error than it should: their form, not their fields. What a field says stays with the library.

use super::huffman;
use h2::Reason;
use std::collections::VecDeque;

/// Entries of the static table (Appendix A).
const STATIC: usize = 61;
/// The size of the table that nobody announces (RFC 9113 §6.5.2); we announce none.
const ANNOUNCED: usize = 4096;
/// What an entry costs besides its name and value (§4.1).
const COST: usize = 32;
/// The most octets of a block, whatever the number of its frames.
const MOST: usize = 256 * 1024;

/// What a field is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Path,
    Pseudo,
    Other,
}

/// A field of the dynamic table, without its text.
#[derive(Clone, Copy, Debug)]
struct Entry {
    size: usize,
    length: usize,
    name: Name,
    fragment: bool,
}

/// What is seen of a string.
#[derive(Default)]
struct Text {
    length: usize,
    first: [u8; 5],
    hash: bool,
}

impl Text {
    fn show(&mut self, octet: u8) {
        if let Some(at) = self.first.get_mut(self.length) {
            *at = octet;
        }
        self.hash |= octet == b'#';
        self.length += 1;
    }

    fn name(&self) -> Name {
        match self.first {
            _ if self.length == 5 && self.first == *b":path" => Name::Path,
            [b':', ..] => Name::Pseudo,
            _ => Name::Other,
        }
    }
}

/// What a whole block holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Some pseudo-header field.
    pub pseudo: bool,
    /// A `:path` with a fragment.
    pub fragment: bool,
}

/// The blocks of one client.
#[derive(Debug)]
pub(super) struct Blocks {
    table: VecDeque<Entry>,
    size: usize,
    most: usize,
    /// What has come of a block that goes on.
    begun: Vec<u8>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            most: ANNOUNCED,
            begun: Vec::new(),
        }
    }
}

/// A block cannot be decompressed (RFC 9113 §4.3).
struct Broken;

impl From<Broken> for Reason {
    fn from(_: Broken) -> Self {
        Self::COMPRESSION_ERROR
    }
}

impl Blocks {
    /// Takes a part of a block; what is in it, if that was the last.
    ///
    /// # Errors
    /// The block cannot be decompressed, or has no end.
    pub(super) fn take(&mut self, part: &[u8], last: bool) -> Result<Option<Block>, Reason> {
        if last && self.begun.is_empty() {
            return Ok(Some(self.read(part)?));
        }
        if self.begun.len() + part.len() > MOST {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        self.begun.extend_from_slice(part);
        if !last {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.begun);
        Ok(Some(self.read(&whole)?))
    }

    fn read(&mut self, mut rest: &[u8]) -> Result<Block, Broken> {
        let mut block = Block::default();
        let mut begun = false;
        while let Some(&first) = rest.first() {
            if first & 0xe0 == 0x20 {
                self.resize(int(&mut rest, 5)?, begun)?;
                continue;
            }
            begun = true;
            let entry = match first {
                0x80.. => self.entry(int(&mut rest, 7)?)?,
                0x40.. => {
                    let entry = self.literal(&mut rest, 6)?;
                    self.insert(entry);
                    entry
                }
                _ => self.literal(&mut rest, 4)?,
            };
            block.pseudo |= entry.name != Name::Other;
            block.fragment |= entry.fragment;
        }
        Ok(block)
    }

    /// A new size comes before the fields (§4.2), and is no larger than announced (§6.3).
    fn resize(&mut self, size: usize, begun: bool) -> Result<(), Broken> {
        if begun || size > ANNOUNCED {
            return Err(Broken);
        }
        self.most = size;
        self.evict();
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<Entry, Broken> {
        let fixed = |name| Entry {
            size: 0,
            length: 0,
            name,
            fragment: false,
        };
        match index {
            0 => Err(Broken),
            4 | 5 => Ok(fixed(Name::Path)),
            1..=14 => Ok(fixed(Name::Pseudo)),
            15..=STATIC => Ok(fixed(Name::Other)),
            _ => self.table.get(index - STATIC - 1).copied().ok_or(Broken),
        }
    }

    fn literal(&self, rest: &mut &[u8], prefix: u8) -> Result<Entry, Broken> {
        let (name, length) = match int(rest, prefix)? {
            0 => {
                let name = text(rest)?;
                (name.name(), name.length)
            }
            index @ 1..=STATIC => (self.entry(index)?.name, STATIC_LENGTHS[index - 1].into()),
            index => {
                let entry = self.entry(index)?;
                (entry.name, entry.length)
            }
        };
        let value = text(rest)?;
        Ok(Entry {
            size: length + value.length + COST,
            length,
            name,
            fragment: name == Name::Path && value.hash,
        })
    }

    fn insert(&mut self, entry: Entry) {
        self.size += entry.size;
        self.table.push_front(entry);
        self.evict();
    }

    /// The oldest go until the rest fits (§4.3, §4.4).
    fn evict(&mut self) {
        while self.size > self.most
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.size;
        }
    }
}

/// Octets of the names of the static table.
const STATIC_LENGTHS: [u8; STATIC] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];

/// An integer (§5.1) of at most 28 bits.
fn int(rest: &mut &[u8], prefix: u8) -> Result<usize, Broken> {
    let most = (1usize << prefix) - 1;
    let mut value = usize::from(octet(rest)?) & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let more = octet(rest)?;
        value += usize::from(more & 0x7f) << shift;
        if more < 0x80 {
            return Ok(value);
        }
    }
    Err(Broken)
}

/// A string (§5.2).
fn text(rest: &mut &[u8]) -> Result<Text, Broken> {
    let coded = rest.first().is_some_and(|first| first & 0x80 > 0);
    let length = int(rest, 7)?;
    let (octets, behind) = rest.split_at_checked(length).ok_or(Broken)?;
    *rest = behind;
    let mut text = Text::default();
    if coded {
        huffman::read(octets, |octet| text.show(octet)).map_err(|()| Broken)?;
    } else {
        for octet in octets {
            text.show(*octet);
        }
    }
    Ok(text)
}

fn octet(rest: &mut &[u8]) -> Result<u8, Broken> {
    let (first, behind) = rest.split_first().ok_or(Broken)?;
    *rest = behind;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(blocks: &mut Blocks, block: &[u8]) -> Result<Block, Reason> {
        Ok(blocks.take(block, true)?.unwrap_or_default())
    }

    const PLAIN: Block = Block {
        pseudo: true,
        fragment: false,
    };

    /// RFC 7541 §C.4: three requests, and what the table holds behind each.
    #[test]
    fn the_requests_of_the_rfc() {
        let first = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab,
            0x90, 0xf4, 0xff,
        ];
        let second = [
            0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf,
        ];
        let third = [
            0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f,
            0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
        ];
        let mut blocks = Blocks::default();
        for (block, size) in [(&first[..], 57), (&second, 110), (&third, 164)] {
            assert_eq!(whole(&mut blocks, block), Ok(PLAIN));
            assert_eq!(blocks.size, size);
        }
        // In parts it is the same.
        let mut blocks = Blocks::default();
        for octet in &first[..first.len() - 1] {
            assert_eq!(blocks.take(&[*octet], false), Ok(None));
        }
        assert_eq!(blocks.take(&[0xff], true), Ok(Some(PLAIN)));
        assert_eq!(blocks.size, 57);
    }

    #[test]
    fn what_cannot_be_decompressed() {
        let bad: [&[u8]; 13] = [
            &[0x80],
            &[0xbe],
            &[0x7e, 1, b'a'],
            &[0x40],
            &[0x40, 1],
            &[0x40, 1, b'a'],
            &[0x40, 1, b'a', 2, b'b'],
            &[0x82, 0x20],
            &[0x3f, 0xe2, 0x1f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0xff],
            &[0x00, 0x81, 0x00, 0],
            &[0x0f, 0x2b, 0x81, 0xff],
        ];
        for block in bad {
            let read = whole(&mut Blocks::default(), block);
            assert_eq!(read, Err(Reason::COMPRESSION_ERROR), "{block:x?}");
        }
        let endless = vec![0; MOST + 1];
        let taken = Blocks::default().take(&endless, false);
        assert_eq!(taken, Err(Reason::ENHANCE_YOUR_CALM));
    }

    #[test]
    fn tables_are_resized_and_emptied() {
        let mut blocks = Blocks::default();
        let entry = [&[0x40, 1, b'a', 10][..], &[b'v'; 10]].concat();
        assert!(whole(&mut blocks, &entry.repeat(3)).is_ok());
        assert_eq!((blocks.table.len(), blocks.size), (3, 3 * 43));
        // 4096 and 100 again: two of 43 fit.
        assert!(whole(&mut blocks, &[0x3f, 0xe1, 0x1f, 0x3f, 69]).is_ok());
        assert_eq!(blocks.table.len(), 2);
        assert!(whole(&mut blocks, &[0xbf]).is_ok());
        assert!(whole(&mut blocks, &[0xc0]).is_err());
        assert!(whole(&mut blocks, &[0x20, 0x82]).is_ok());
        assert_eq!((blocks.table.len(), blocks.size), (0, 0));
        // One with the name of another: too large for the table.
        assert!(whole(&mut blocks, &[0x3f, 69]).is_ok());
        let again = [&[0x7e, 60][..], &[b'v'; 60]].concat();
        assert!(whole(&mut blocks, &[&entry[..], &again].concat()).is_ok());
        assert_eq!((blocks.table.len(), blocks.size), (1, 93));
    }

    #[test]
    fn pseudo_header_fields_and_fragments_are_seen() {
        let field = |name: &[u8], value: &[u8]| {
            let length = |text: &[u8]| [text.len() as u8];
            [&[0x40][..], &length(name), name, &length(value), value].concat()
        };
        let seen = |pseudo, fragment| Ok(Block { pseudo, fragment });
        let mut blocks = Blocks::default();
        assert_eq!(whole(&mut blocks, &field(b"x", b"#")), seen(false, false));
        assert_eq!(whole(&mut blocks, &field(b":", b"#")), seen(true, false));
        let path = field(b":path", b"/a#b");
        assert_eq!(whole(&mut blocks, &path), seen(true, true));
        assert_eq!(whole(&mut blocks, &[0xbe]), seen(true, true), "again");
        let named = [&[0x04, 4][..], b"/a#b"].concat();
        assert_eq!(whole(&mut blocks, &named), seen(true, true));
        assert_eq!(whole(&mut blocks, &[0x84, 0x90]), seen(true, false));
        assert_eq!(whole(&mut blocks, &[]), seen(false, false));
    }
}
