//! The PROXY protocol: what a load balancer says of the client before the connection's first byte
//! (`proxy-protocol.txt` of 2020-03-05, versions 1 and 2). Pure: bytes in, verdict out.
//!
//! Never guessed: a listener either requires it, and a connection without is [`Preface::Bad`], or
//! does not know it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most bytes of a header, of either version.
pub const MOST_BYTES: usize = 2048;

/// The most bytes of a version 1 line, its CR LF included (§2.1).
const MOST_LINE: usize = 107;
/// What version 2 begins with (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a version 2 header before its addresses.
const FIXED: usize = 16;
/// A checksum over the whole header (§2.2.3).
const TYPE_CRC32C: u8 = 0x03;

/// The verdict on the bytes read so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Preface {
    /// A good begin; all of it belongs to the header.
    More,
    /// No header, or none that is understood: the connection is to be closed.
    Bad(&'static str),
    /// A whole header.
    Done {
        /// Its bytes; what follows is the client's.
        len: usize,
        /// Between whom the connection is; `None` where the socket's own addresses hold: the
        /// sender speaks for itself (LOCAL), or does not know (UNKNOWN, UNSPEC).
        ends: Option<Ends>,
    },
}

/// The two ends of a connection that was relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

use Preface::{Bad, Done, More};

/// Judges `bytes`, which begin where the connection begins.
pub fn parse(bytes: &[u8]) -> Preface {
    match bytes.first() {
        None => More,
        Some(b'P') => line(bytes),
        Some(_) => binary(bytes),
    }
}

/// Version 1: a line of text.
fn line(bytes: &[u8]) -> Preface {
    let seen = &bytes[..bytes.len().min(MOST_LINE)];
    let Some(end) = memchr::memchr2(b'\r', b'\n', seen) else {
        return match seen.len() {
            MOST_LINE => Bad("the PROXY line is too long"),
            _ if may_become_a_line(seen) => More,
            _ => Bad("not a PROXY line"),
        };
    };
    match (meant(&seen[..end]), seen[end], seen.get(end + 1)) {
        (Err(why), ..) => Bad(why),
        (Ok(ends), b'\r', Some(b'\n')) => Done { len: end + 2, ends },
        (Ok(_), b'\r', None) if seen.len() < MOST_LINE => More,
        _ => Bad("the PROXY line does not end in CR LF"),
    }
}

/// Whether a line may begin so, as far as its fixed words go.
fn may_become_a_line(begun: &[u8]) -> bool {
    let begins = |whole: &[u8]| {
        let both = begun.len().min(whole.len());
        begun[..both] == whole[..both]
    };
    begins(b"PROXY TCP4 ") || begins(b"PROXY TCP6 ") || begins(b"PROXY UNKNOWN")
}

/// What a whole line means. What stands behind `UNKNOWN` is not looked at (§2.1).
fn meant(line: &[u8]) -> Result<Option<Ends>, &'static str> {
    let line = std::str::from_utf8(line).ok();
    let words = line.and_then(|line| line.strip_prefix("PROXY "));
    match words.ok_or("not a PROXY line")? {
        "UNKNOWN" => Ok(None),
        words if words.starts_with("UNKNOWN ") => Ok(None),
        words => ends(words).map(Some).ok_or("not a PROXY line"),
    }
}

/// A family, two addresses, two ports.
fn ends(words: &str) -> Option<Ends> {
    let mut words = words.split(' ');
    let family = words.next()?;
    let address = |word: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let ends = Ends {
        source: (source, from).into(),
        destination: (destination, to).into(),
    };
    words.next().is_none().then_some(ends)
}

/// A port in decimal digits, without sign or leading zeros.
fn port(word: &str) -> Option<u16> {
    let plain = word == "0" || word.starts_with(|c: char| matches!(c, '1'..='9'));
    word.parse().ok().filter(|_| plain)
}

/// Version 2: binary.
fn binary(bytes: &[u8]) -> Preface {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Bad("no PROXY header");
    }
    let Some((fixed, _)) = bytes.split_first_chunk::<FIXED>() else {
        return match bytes.get(SIGNATURE.len()) {
            None | Some(0x20 | 0x21) => More,
            Some(_) => Bad("a version or command of the PROXY protocol that is not known"),
        };
    };
    let [.., command, family, high, low] = *fixed;
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MOST_BYTES {
        return Bad("the PROXY header is too long");
    }
    let addresses = match (command, family) {
        // The sender's own connection, such as a health check; its block is discarded unseen. So is
        // that of a family for which no form of addresses is laid down.
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        (0x21, _) => return Bad("a PROXY header of something other than TCP over IP"),
        _ => return Bad("a version or command of the PROXY protocol that is not known"),
    };
    if len < FIXED + addresses {
        return Bad("a PROXY header without room for its addresses");
    }
    match bytes.get(..len) {
        None => More,
        Some(_) if addresses == 0 => Done { len, ends: None },
        Some(header) => relayed(header, addresses),
    }
}

/// A whole version 2 header with `addresses` bytes of addresses.
fn relayed(header: &[u8], addresses: usize) -> Preface {
    let (block, tail) = header[FIXED..].split_at(addresses);
    if let Err(why) = check(header, tail) {
        return Bad(why);
    }
    let size = (addresses - 4) / 2;
    let ip = |bytes: &[u8]| -> Option<IpAddr> {
        match <[u8; 4]>::try_from(bytes) {
            Ok(v4) => Some(v4.into()),
            Err(_) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    };
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let source = ip(&block[..size]).map(|ip| (ip, port(2 * size)).into());
    let destination = ip(&block[size..2 * size]).map(|ip| (ip, port(2 * size + 2)).into());
    match (source, destination) {
        (Some(source), Some(destination)) => Done {
            len: header.len(),
            ends: Some(Ends {
                source,
                destination,
            }),
        },
        _ => Bad("a PROXY header without room for its addresses"),
    }
}

/// Walks the type-length-value triples at the end of a header (§2.2); of what they say only the
/// checksum counts.
fn check(header: &[u8], mut tail: &[u8]) -> Result<(), &'static str> {
    let mut summed = false;
    while let [kind, high, low, rest @ ..] = tail {
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, behind)) = rest.split_at_checked(size) else {
            return Err("a PROXY header whose last value is cut off");
        };
        if *kind == TYPE_CRC32C {
            let sum = <[u8; 4]>::try_from(value).map(u32::from_be_bytes);
            // Its own four bytes count as zero.
            let before = &header[..header.len() - rest.len()];
            let whole = before.iter().chain(&[0; 4]).chain(behind);
            if summed || sum.ok() != Some(crc32c(whole)) {
                return Err("a PROXY header whose checksum is wrong");
            }
            summed = true;
        }
        tail = behind;
    }
    if tail.is_empty() {
        Ok(())
    } else {
        Err("a PROXY header whose last value is cut off")
    }
}

/// CRC-32C (RFC 9260 appendix A). Bit by bit: few senders add one, and no header is long.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum: u32, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(source: &str, destination: &str) -> Ends {
        Ends {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
        }
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((block.len() as u16).to_be_bytes());
        header.extend(block);
        header
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];

    #[test]
    fn lines_of_each_family() {
        let cases = [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
                Some(between("192.0.2.1:56324", "198.51.100.2:443")),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
                Some(between("[2001:db8::1]:0", "[::1]:65535")),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        ];
        for (text, ends) in cases {
            let len = text.len();
            assert_eq!(parse(text.as_bytes()), Done { len, ends }, "{text:?}");
            let more = format!("{text}GET / HTTP/1.1\r\n\r\n");
            assert_eq!(parse(more.as_bytes()), Done { len, ends }, "{more:?}");
        }
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let unknown = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
        assert_eq!(unknown.len(), MOST_LINE);
        assert!(matches!(parse(unknown.as_bytes()), Done { .. }));
    }

    #[test]
    fn lines_that_are_not_exactly_so_are_refused() {
        let cases = [
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1\t198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 ::1 ::1 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP6 fe80::1%1 ::1 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 +443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
            "PROXY TCP5 ",
            "PROXY tcp4 ",
            "PROXY UDP4 ",
            "PROXY UNKNOWNS\r\n",
            "PROXY\r\n",
            "PROXY \r",
            "PROXY  TCP4",
            "POST / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\n",
            "\r\n\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ];
        for text in cases {
            assert!(matches!(parse(text.as_bytes()), Bad(_)), "{text:?}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 93]].concat();
        assert_eq!(endless.len(), MOST_LINE);
        assert!(matches!(parse(&endless), Bad(_)));
        assert_eq!(parse(&endless[..MOST_LINE - 1]), More);
        let late = [&endless[..MOST_LINE - 1], b"\r\n"].concat();
        assert!(matches!(parse(&late), Bad(_)), "one byte too many");
    }

    #[test]
    fn binary_headers_of_each_family() {
        let header = v2(0x21, 0x11, &V4);
        let want = Some(between("192.0.2.1:56324", "198.51.100.2:443"));
        assert_eq!(
            parse(&header),
            Done {
                len: 28,
                ends: want
            }
        );
        let mut block = [0; 36];
        block[15] = 1;
        block[31] = 2;
        block[33] = 80;
        let want = Some(between("[::1]:80", "[::2]:0"));
        let v6 = v2(0x21, 0x21, &block);
        assert_eq!(
            parse(&v6),
            Done {
                len: 52,
                ends: want
            }
        );
        // LOCAL takes no notice of what comes with it, whatever it is.
        for (command, family, block) in [
            (0x20, 0x00, &[][..]),
            (0x20, 0x11, &V4),
            (0x20, 0x31, &[1]),
            (0x21, 0x00, &[1, 2, 3]),
        ] {
            let header = v2(command, family, block);
            let len = header.len();
            assert_eq!(parse(&header), Done { len, ends: None }, "{family:#x}");
        }
    }

    #[test]
    fn binary_headers_that_are_not_understood_are_refused() {
        let cases = [
            v2(0x22, 0x11, &V4),
            v2(0x11, 0x11, &V4),
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x10, &V4),
            v2(0x21, 0x22, &[0; 36]),
            v2(0x21, 0x31, &[0; 216]),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x11, &[0; 2033]),
            v2(0x20, 0x00, &[0; 2033]),
        ];
        for header in cases {
            assert!(matches!(parse(&header), Bad(_)), "{header:x?}");
        }
        assert!(matches!(parse(&SIGNATURE[1..]), Bad(_)));
        let early = [&SIGNATURE[..], &[0x31]].concat();
        assert!(matches!(parse(&early), Bad(_)), "no need to wait for more");
    }

    fn with_values(values: &[u8]) -> Preface {
        parse(&v2(0x21, 0x11, &[&V4, values].concat()))
    }

    #[test]
    fn values_are_skipped_and_must_be_whole() {
        for good in [&[][..], &[4, 0, 0], &[2, 0, 1, b'a', 4, 0, 2, 0, 0]] {
            assert!(matches!(with_values(good), Done { .. }), "{good:?}");
        }
        for bad in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0, 0, 1], &[4, 1, 0, 0]] {
            assert!(matches!(with_values(bad), Bad(_)), "{bad:?}");
        }
    }

    #[test]
    fn a_checksum_must_be_right_and_single() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283, "the known answer");
        let noop = [4, 0, 1, 7];
        let bare = v2(
            0x21,
            0x11,
            &[&V4[..], &[3, 0, 4, 0, 0, 0, 0], &noop].concat(),
        );
        let sum = crc32c(bare.iter()).to_be_bytes();
        let summed = [&[3, 0, 4], &sum[..]].concat();
        assert!(matches!(
            with_values(&[&summed[..], &noop].concat()),
            Done { .. }
        ));
        let mut wrong = summed.clone();
        wrong[6] ^= 1;
        let twice = [&summed[..], &summed].concat();
        let cases: [&[u8]; 4] = [&wrong, &twice, &[3, 0, 0], &[3, 0, 5, 0, 0, 0, 0, 0]];
        for bad in cases {
            assert!(matches!(with_values(bad), Bad(_)), "{bad:?}");
        }
    }
}
