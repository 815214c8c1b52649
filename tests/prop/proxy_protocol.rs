//! The PROXY protocol's reader against a naive writer: what was written is what is read, however it
//! is cut, and no other bytes make it panic or change its mind.

use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use tollgate::edge::proxy_protocol::{Ends, MOST_BYTES, Preface, parse};

/// A header as some sender writes it, and between whom it says that the connection is.
#[derive(Clone, Debug)]
struct Written {
    bytes: Vec<u8>,
    ends: Option<Ends>,
}

fn pair() -> impl Strategy<Value = Ends> {
    let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let v6 = any::<([u16; 8], [u16; 8])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let few = prop::collection::vec(0..=1_u16, 16).prop_map(|v| {
        let group = |at: usize| std::array::from_fn::<u16, 8, _>(|i| v[at + i]);
        (IpAddr::from(group(0)), IpAddr::from(group(8)))
    });
    (prop_oneof![v4, v6, few], any::<(u16, u16)>()).prop_map(|((from, to), (source, target))| {
        Ends {
            source: (from, source).into(),
            destination: (to, target).into(),
        }
    })
}

fn line() -> impl Strategy<Value = Written> {
    let known = pair().prop_map(|ends| {
        let Ends {
            source: s,
            destination: d,
        } = ends;
        let family = if s.is_ipv4() { "TCP4" } else { "TCP6" };
        let text = format!(
            "PROXY {family} {} {} {} {}\r\n",
            s.ip(),
            d.ip(),
            s.port(),
            d.port()
        );
        Written {
            bytes: text.into_bytes(),
            ends: Some(ends),
        }
    });
    let unknown = "( [ -~]{0,91})?".prop_map(|rest| Written {
        bytes: format!("PROXY UNKNOWN{rest}\r\n").into_bytes(),
        ends: None,
    });
    prop_oneof![3 => known, 1 => unknown]
}

/// The checksum as a table-driven textbook has it; the reader works bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|n| {
            (0..8).fold(n, |c, _| {
                if c & 1 == 1 {
                    0x82f6_3b78 ^ (c >> 1)
                } else {
                    c >> 1
                }
            })
        })
        .collect();
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        table[usize::from(sum as u8 ^ byte)] ^ (sum >> 8)
    });
    sum ^ u32::MAX
}

fn header(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let size = u16::try_from(block.len())
        .expect("a short block")
        .to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &size,
        block,
    ]
    .concat()
}

fn addresses(ends: &Ends) -> Vec<u8> {
    let mut block = Vec::new();
    for end in [ends.source, ends.destination] {
        match end.ip() {
            IpAddr::V4(ip) => block.extend(ip.octets()),
            IpAddr::V6(ip) => block.extend(ip.octets()),
        }
    }
    for end in [ends.source, ends.destination] {
        block.extend(end.port().to_be_bytes());
    }
    block
}

/// Values of any kind but the checksum's.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let value = (
        any::<u8>().prop_filter("the checksum is written by itself", |kind| *kind != 3),
        prop::collection::vec(any::<u8>(), 0..40),
    );
    prop::collection::vec(value, 0..5).prop_map(|values| {
        values.iter().fold(Vec::new(), |mut out, (kind, value)| {
            out.push(*kind);
            out.extend((value.len() as u16).to_be_bytes());
            out.extend(value);
            out
        })
    })
}

fn binary() -> impl Strategy<Value = Written> {
    let relayed = (pair(), values(), values(), any::<bool>());
    let relayed = relayed.prop_map(|(ends, before, behind, summed)| {
        let family = if ends.source.is_ipv4() { 0x11 } else { 0x21 };
        let sum: &[u8] = if summed { &[3, 0, 4, 0, 0, 0, 0] } else { &[] };
        let block = [addresses(&ends), before, sum.to_vec(), behind.clone()].concat();
        let mut bytes = header(0x21, family, &block);
        if summed {
            let at = bytes.len() - behind.len() - 4;
            let sum = crc32c(&bytes).to_be_bytes();
            bytes[at..at + 4].copy_from_slice(&sum);
        }
        Written {
            bytes,
            ends: Some(ends),
        }
    });
    let own = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60));
    let own = own.prop_map(|(family, block)| Written {
        bytes: header(0x20, family, &block),
        ends: None,
    });
    prop_oneof![3 => relayed, 1 => own]
}

/// Bytes that are nearly a header: one or two of a good one are changed.
fn bent() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (
        prop_oneof![line(), binary()],
        prop::collection::vec(change, 1..3),
    )
        .prop_map(|(good, changes)| {
            let mut bytes = good.bytes;
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
}

proptest! {
    #[test]
    fn what_was_written_is_read_however_it_is_cut(
        written in prop_oneof![line(), binary()],
        behind in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let len = written.bytes.len();
        let all = [&written.bytes[..], &behind].concat();
        for cut in 0..len {
            prop_assert_eq!(parse(&all[..cut]), Preface::More, "cut at {}", cut);
        }
        for cut in len..=all.len() {
            prop_assert_eq!(parse(&all[..cut]), Preface::Done { len, ends: written.ends });
        }
    }

    #[test]
    fn a_verdict_stands(bytes in prop_oneof![
        bent(),
        prop::collection::vec(any::<u8>(), 0..200),
        "PROXY [ -~\r\n]{0,120}".prop_map(String::into_bytes),
    ]) {
        let mut last = Preface::More;
        for cut in 0..=bytes.len() {
            let now = parse(&bytes[..cut]);
            match &last {
                Preface::More => (),
                Preface::Bad(_) => prop_assert!(matches!(now, Preface::Bad(_)), "cut at {}", cut),
                Preface::Done { .. } => prop_assert_eq!(&now, &last, "cut at {}", cut),
            }
            if let Preface::Done { len, .. } = now {
                prop_assert!(len <= cut);
            }
            last = now;
        }
    }

    #[test]
    fn a_wrong_bit_under_a_checksum_is_noticed(
        ends in pair(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let family = if ends.source.is_ipv4() { 0x11 } else { 0x21 };
        let block = [&addresses(&ends)[..], &[3, 0, 4, 0, 0, 0, 0]].concat();
        let mut bytes = header(0x21, family, &block);
        let sum = crc32c(&bytes).to_be_bytes();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&sum);
        prop_assert!(matches!(parse(&bytes), Preface::Done { .. }), "unbent");
        // Only in addresses and sum: elsewhere it is another header, or none.
        let at = 16 + at.index(addresses(&ends).len());
        bytes[at] ^= 1 << bit;
        prop_assert!(matches!(parse(&bytes), Preface::Bad(_)));
    }

    #[test]
    fn nothing_waits_for_more_than_the_most(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut long = bytes;
        long.resize(MOST_BYTES, b' ');
        prop_assert_ne!(parse(&long), Preface::More);
        let line = [b"PROXY UNKNOWN ".as_slice(), &long].concat();
        prop_assert_ne!(parse(&line[..107]), Preface::More);
    }
}

#[test]
fn the_parts_of_an_address_are_not_mixed_up() {
    let source: SocketAddr = "[2001:db8::1]:1".parse().expect("an address");
    let destination: SocketAddr = "[2001:db8::2]:2".parse().expect("an address");
    let ends = Ends {
        source,
        destination,
    };
    let bytes = header(0x21, 0x21, &addresses(&ends));
    let len = bytes.len();
    assert_eq!(
        parse(&bytes),
        Preface::Done {
            len,
            ends: Some(ends)
        }
    );
}
