//! Header compression: RFC 7541, and RFC 9113 §4.3.1 on its tables.

use super::frame::{self, flag, headers};
use super::hpack::{
    AUTHORITY, DYNAMIC, GET, Literal, ROOT, Text, USER_AGENT, block, coded, indexed, int, resize,
    text,
};
use super::huffman;
use super::peer::{COMPRESSION, Peer, Verdict};
use super::site::{BAD, Case, Door, NAME, case, run};

/// The pseudo-header fields of a GET, from the tables where they have them.
fn request(c: &Peer) -> Vec<u8> {
    let scheme = if c.scheme == "http" { 6 } else { 7 };
    let authority = Literal::Plain.at(AUTHORITY, NAME.as_bytes(), Text::Huffman);
    [indexed(GET), indexed(scheme), indexed(ROOT), authority].concat()
}

/// A request with this behind (or, if it is an update, before) its fields; the header that came to
/// the origin.
fn arrives(c: &mut Peer, d: &Door, before: &[u8], behind: &[u8]) -> Result<String, String> {
    let stream = c.stream();
    let mark = format!("{}-{stream}", d.over);
    let marked = block(&[("x-mark", &mark)]);
    let all = [before, &request(c), &marked, behind].concat();
    c.send([headers(stream, flag::WHOLE, all)]);
    c.answers(stream, 200)?;
    let seen = d.site.origin.seen();
    let found = seen
        .into_iter()
        .rev()
        .find(|s| s.header("x-mark") == Some(&mark));
    Ok(found.ok_or("not at the origin")?.head)
}

/// A field written like this arrives as that.
fn reads(d: &Door, written: &[u8], name: &str, value: &str) -> Verdict {
    let mut c = Peer::new(d)?;
    let head = arrives(&mut c, d, &[], written)?;
    let line = format!("\r\n{name}: {value}\r\n");
    match head
        .to_ascii_lowercase()
        .contains(&line.to_ascii_lowercase())
    {
        true => c.serves(),
        false => Err(format!("want {line:?} in {head}")),
    }
}

/// A block with this in it cannot be decompressed.
fn unreadable(d: &Door, before: &[u8], behind: &[u8]) -> Verdict {
    let mut c = Peer::new(d)?;
    let all = [before, &request(&c), &block(&[BAD]), behind].concat();
    c.send([headers(1, flag::WHOLE, all)]);
    c.dies(COMPRESSION)
}

/// The four forms of a literal (§6.2), as in the suite: name from the table or new, each plain and
/// in the Huffman code.
fn literals(d: &Door, literal: Literal, form: usize) -> Verdict {
    let how = [Text::Plain, Text::Huffman][form % 2];
    match form / 2 {
        0 => reads(
            d,
            &literal.at(USER_AGENT, b"a test", how),
            "user-agent",
            "a test",
        ),
        _ => reads(
            d,
            &literal.field(b"x-test", b"a test", how),
            "x-test",
            "a test",
        ),
    }
}

pub const FORMS: &[Case] = &[
    case(
        "7541 §6.1",
        "generic/5/1",
        "entries of the static table",
        |d| {
            let mut c = Peer::new(d)?;
            arrives(&mut c, d, &[], &[])?;
            reads(d, &indexed(16), "accept-encoding", "gzip, deflate")
        },
    ),
    case(
        "7541 §6.2.1",
        "generic/5/2",
        "into the table, its name",
        |d| literals(d, Literal::Indexed, 0),
    ),
    case(
        "7541 §6.2.1",
        "generic/5/3",
        "into the table, its name, Huffman",
        |d| literals(d, Literal::Indexed, 1),
    ),
    case(
        "7541 §6.2.1",
        "generic/5/4",
        "into the table, a new name",
        |d| literals(d, Literal::Indexed, 2),
    ),
    case(
        "7541 §6.2.1",
        "generic/5/5",
        "into the table, a new name, Huffman",
        |d| literals(d, Literal::Indexed, 3),
    ),
    case(
        "7541 §6.2.2",
        "generic/5/6",
        "not into the table, its name",
        |d| literals(d, Literal::Plain, 0),
    ),
    case(
        "7541 §6.2.2",
        "generic/5/7",
        "not into the table, its name, Huffman",
        |d| literals(d, Literal::Plain, 1),
    ),
    case(
        "7541 §6.2.2",
        "generic/5/8",
        "not into the table, a new name",
        |d| literals(d, Literal::Plain, 2),
    ),
    case(
        "7541 §6.2.2",
        "generic/5/9",
        "not into the table, a new name, Huffman",
        |d| literals(d, Literal::Plain, 3),
    ),
    case(
        "7541 §6.2.3",
        "generic/5/10",
        "never into a table, its name",
        |d| literals(d, Literal::Never, 0),
    ),
    case(
        "7541 §6.2.3",
        "generic/5/11",
        "never into a table, its name, Huffman",
        |d| literals(d, Literal::Never, 1),
    ),
    case(
        "7541 §6.2.3",
        "generic/5/12",
        "never into a table, a new name",
        |d| literals(d, Literal::Never, 2),
    ),
    case(
        "7541 §6.2.3",
        "generic/5/13",
        "never into a table, a new name, Huffman",
        |d| literals(d, Literal::Never, 3),
    ),
    case("7541 §6.3", "generic/5/14", "a size update", |d| {
        let mut c = Peer::new(d)?;
        arrives(&mut c, d, &resize(128), &[])?;
        c.serves()
    }),
    case("7541 §4.2", "generic/5/15", "several size updates", |d| {
        let mut c = Peer::new(d)?;
        let updates = [resize(128), resize(0), resize(4096)].concat();
        arrives(&mut c, d, &updates, &[])?;
        c.serves()
    }),
    case("7541 §5.1", "", "an integer longer than it need be", |d| {
        // 63 fills the first octet's prefix; three more add nothing.
        let long = [vec![0x40 | 0x3f], vec![0x80, 0x80, 0x00]].concat();
        let mut c = Peer::new(d)?;
        let entry = Literal::Indexed.field(b"x-first", b"1", Text::Plain);
        let second = Literal::Indexed.field(b"x-second", b"2", Text::Plain);
        let named = [long, text(b"3", Text::Plain)].concat();
        let head = arrives(&mut c, d, &[], &[entry, second, named].concat())?;
        match head.to_ascii_lowercase().contains("x-first: 3") {
            true => c.serves(),
            false => Err(head),
        }
    }),
    case(
        "7541 §5.2",
        "",
        "every octet of a value, plain and in the code",
        |d| {
            let value: String = (b' ' + 1..0x7f).map(char::from).collect();
            for how in [Text::Plain, Text::Huffman] {
                let field = Literal::Plain.field(b"x-all", value.as_bytes(), how);
                reads(d, &field, "x-all", &value)?;
            }
            Ok(())
        },
    ),
    case("7541 §5.2", "", "an empty string in the code", |d| {
        let field = [
            Literal::Plain.named(0),
            text(b"x-none", Text::Huffman),
            coded(&[]),
        ];
        reads(d, &field.concat(), "x-none", "")
    }),
];

pub const FAULTS: &[Case] = &[
    case(
        "7541 §2.3.3",
        "hpack/2.3.3/1",
        "an index past the tables",
        |d| {
            unreadable(d, &[], &indexed(DYNAMIC))?;
            unreadable(d, &[], &indexed(70))?;
            unreadable(d, &[], &indexed(100_000))
        },
    ),
    case(
        "7541 §2.3.3",
        "hpack/2.3.3/2",
        "a name past the tables",
        |d| {
            for literal in [Literal::Indexed, Literal::Plain, Literal::Never] {
                unreadable(d, &[], &literal.at(70, b"empty", Text::Plain))?;
            }
            Ok(())
        },
    ),
    case(
        "7541 §4.2",
        "hpack/4.2/1",
        "a size update at the end of a block",
        |d| unreadable(d, &[], &resize(1)),
    ),
    case("7541 §4.2", "", "a size update within a block", |d| {
        let more = block(&[("x-more", "ok")]);
        unreadable(d, &[], &[resize(0), more].concat())
    }),
    case(
        "7541 §4.2",
        "",
        "a size update at the begin of a CONTINUATION",
        |d| {
            let mut c = Peer::new(d)?;
            let first = [request(&c), block(&[BAD])].concat();
            c.send([
                headers(1, flag::END_STREAM, first),
                frame::continuation(1, flag::END_HEADERS, resize(0)),
            ]);
            c.dies(COMPRESSION)
        },
    ),
    case(
        "7541 §5.2",
        "hpack/5.2/1",
        "padding of more than 7 bits",
        |d| {
            let long = coded(&[huffman::encode(b"test"), vec![0xff]].concat());
            unreadable(d, &[], &[Literal::Plain.named(USER_AGENT), long].concat())?;
            let only = [Literal::Plain.named(USER_AGENT), coded(&[0xff])].concat();
            unreadable(d, &[], &only)
        },
    ),
    case(
        "7541 §5.2",
        "hpack/5.2/2",
        "padding that is not all ones",
        |d| {
            // 'a' has five bits.
            let bits = huffman::bits([usize::from(b'a')]);
            let zeros = coded(&huffman::octets(bits, false));
            unreadable(d, &[], &[Literal::Plain.named(USER_AGENT), zeros].concat())
        },
    ),
    case("7541 §5.2", "hpack/5.2/3", "EOS within a string", |d| {
        for symbols in [
            vec![huffman::EOS],
            vec![97, huffman::EOS],
            vec![huffman::EOS, 97],
        ] {
            let string = coded(&huffman::octets(huffman::bits(symbols), true));
            unreadable(d, &[], &[Literal::Plain.named(USER_AGENT), string].concat())?;
        }
        Ok(())
    }),
    case("7541 §6.1", "hpack/6.1/1", "index 0", |d| {
        unreadable(d, &[], &indexed(0))
    }),
    case(
        "7541 §6.3",
        "hpack/6.3/1",
        "a table larger than announced",
        |d| {
            unreadable(d, &resize(4097), &[])?;
            unreadable(d, &resize(1 << 26), &[])
        },
    ),
    case("7541 §5.1", "", "an integer that overflows", |d| {
        let endless = [0xff; 12];
        for first in [0xff, 0x7f, 0x3f, 0x0f, 0x1f] {
            let behind = [&[first][..], &endless, &[0x7f]].concat();
            unreadable(d, &[], &behind).map_err(|e| format!("{first:x}: {e}"))?;
        }
        let long = [Literal::Plain.named(0), vec![0x7f], endless.to_vec()].concat();
        unreadable(d, &[], &long)
    }),
    case("7541 §5.2", "", "a string that goes past the block", |d| {
        let beyond = |length: usize| [Literal::Plain.named(USER_AGENT), int(0, 7, length)].concat();
        unreadable(d, &[], &[beyond(10), b"short".to_vec()].concat())?;
        unreadable(d, &[], &[beyond(1 << 20), b"short".to_vec()].concat())?;
        unreadable(d, &[], &Literal::Plain.named(0))?;
        unreadable(
            d,
            &[],
            &[Literal::Plain.named(0), text(b"x-name", Text::Plain)].concat(),
        )
    }),
    case(
        "7541 §5.1",
        "",
        "an integer that the block cuts off",
        |d| {
            for cut in [&[0xff][..], &[0xff, 0x80], &[0x7f], &[0x0f], &[0x00, 0x7f]] {
                unreadable(d, &[], cut).map_err(|e| format!("{cut:x?}: {e}"))?;
            }
            Ok(())
        },
    ),
];

/// Puts a field with a value of so many octets into the table: 37 and that (§4.1).
fn entry(name: &str, octets: usize) -> Vec<u8> {
    Literal::Indexed.field(name.as_bytes(), &vec![b'v'; octets], Text::Plain)
}

/// The newest entry of the table is the field with this name, of so many octets.
fn newest(c: &mut Peer, d: &Door, index: usize, name: &str) -> Verdict {
    let head = arrives(c, d, &[], &indexed(index))?;
    match head.contains(&format!("\r\n{name}: v")) {
        true => Ok(()),
        false => Err(format!("want {name} at {index}: {head}")),
    }
}

pub const TABLES: &[Case] = &[
    case(
        "7541 §2.3.2",
        "",
        "the table lasts as long as the connection",
        |d| {
            let mut c = Peer::new(d)?;
            arrives(
                &mut c,
                d,
                &[],
                &[entry("x-one", 5), entry("x-two", 5)].concat(),
            )?;
            newest(&mut c, d, DYNAMIC, "x-two")?;
            newest(&mut c, d, DYNAMIC + 1, "x-one")?;
            arrives(&mut c, d, &[], &entry("x-thr", 5))?;
            newest(&mut c, d, DYNAMIC + 2, "x-one")
        },
    ),
    case(
        "7541 §4.4",
        "",
        "what does not fit pushes the oldest out",
        |d| {
            let mut c = Peer::new(d)?;
            let five = (0..5)
                .map(|n| entry(&format!("x-n{n}"), 1000))
                .collect::<Vec<_>>();
            // 1036 each: three fit.
            arrives(&mut c, d, &[], &five.concat())?;
            newest(&mut c, d, DYNAMIC, "x-n4")?;
            newest(&mut c, d, DYNAMIC + 2, "x-n2")?;
            let gone = [request(&c), block(&[BAD]), indexed(DYNAMIC + 3)].concat();
            let stream = c.stream();
            c.send([headers(stream, flag::WHOLE, gone)]);
            c.dies(COMPRESSION)
        },
    ),
    case(
        "7541 §4.4",
        "",
        "what is larger than the table empties it",
        |d| {
            let mut c = Peer::new(d)?;
            let large = [entry("x-one", 5), entry("x-big", 5000)].concat();
            arrives(&mut c, d, &[], &large)?;
            let gone = [request(&c), block(&[BAD]), indexed(DYNAMIC)].concat();
            let stream = c.stream();
            c.send([headers(stream, flag::WHOLE, gone)]);
            c.dies(COMPRESSION)
        },
    ),
    case(
        "7541 §4.4",
        "",
        "a name may be that of the entry it pushes out",
        |d| {
            let mut c = Peer::new(d)?;
            arrives(&mut c, d, &[], &entry("x-old", 4000))?;
            let again = Literal::Indexed.at(DYNAMIC, &[b'v'; 3000], Text::Plain);
            arrives(&mut c, d, &[], &again)?;
            newest(&mut c, d, DYNAMIC, "x-old")
        },
    ),
    case(
        "7541 §4.3",
        "",
        "a smaller table pushes entries out",
        |d| {
            let mut c = Peer::new(d)?;
            arrives(
                &mut c,
                d,
                &[],
                &[entry("x-one", 5), entry("x-two", 5)].concat(),
            )?;
            // One of 42 fits.
            arrives(&mut c, d, &resize(50), &[])?;
            newest(&mut c, d, DYNAMIC, "x-two")?;
            let gone = [request(&c), block(&[BAD]), indexed(DYNAMIC + 1)].concat();
            let stream = c.stream();
            c.send([headers(stream, flag::WHOLE, gone)]);
            c.dies(COMPRESSION)
        },
    ),
    case("7541 §4.2", "", "size 0 empties the table", |d| {
        let mut c = Peer::new(d)?;
        arrives(&mut c, d, &[], &entry("x-one", 5))?;
        arrives(&mut c, d, &[resize(0), resize(4096)].concat(), &[])?;
        let gone = [request(&c), block(&[BAD]), indexed(DYNAMIC)].concat();
        let stream = c.stream();
        c.send([headers(stream, flag::WHOLE, gone)]);
        c.dies(COMPRESSION)
    }),
    case("7541 §2.3.2", "", "an entry may be there twice", |d| {
        let mut c = Peer::new(d)?;
        arrives(
            &mut c,
            d,
            &[],
            &[entry("x-one", 5), entry("x-one", 5)].concat(),
        )?;
        newest(&mut c, d, DYNAMIC, "x-one")?;
        newest(&mut c, d, DYNAMIC + 1, "x-one")
    }),
];

#[test]
fn every_form_of_a_field() {
    run(FORMS);
}

#[test]
fn blocks_that_cannot_be_read() {
    run(FAULTS);
}

#[test]
fn the_table_of_requests() {
    run(TABLES);
}
