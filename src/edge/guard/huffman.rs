//! The Huffman code of header compression (RFC 7541 Appendix B). It is canonical: the lengths of its
//! codes say it all.

/// Bits of the code of each octet, and of the end of a string, which no string may hold.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
/// What ends a string.
const END: u16 = 256;
/// Bits of the shortest and of the longest code.
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// Symbols in the order of their codes; and for each length of a code the first that is longer,
/// with all of 32 bits, and the place of its first symbol less its first code.
struct Code {
    symbols: [u16; 257],
    beyond: [u64; LONGEST + 1],
    place: [usize; LONGEST + 1],
}

const CODE: Code = code();

const fn code() -> Code {
    let mut code = Code {
        symbols: [0; 257],
        beyond: [0; LONGEST + 1],
        place: [0; LONGEST + 1],
    };
    let (mut next, mut at, mut bits) = (0usize, 0usize, SHORTEST);
    while bits <= LONGEST {
        next <<= 1;
        code.place[bits] = at.wrapping_sub(next);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                code.symbols[at] = symbol as u16;
                at += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.beyond[bits] = (next as u64) << (32 - bits);
        bits += 1;
    }
    code
}

/// Shows each octet of a string.
///
/// # Errors
/// It holds the end of a string, or its last octet is not filled up with ones, of which there must
/// be fewer than eight (§5.2).
pub(super) fn read(coded: &[u8], mut show: impl FnMut(u8)) -> Result<(), ()> {
    let mut octets = coded.iter();
    // The bits to come, from the highest on, and how many they are.
    let (mut bits, mut held) = (0u64, 0usize);
    loop {
        while held <= 56
            && let Some(octet) = octets.next()
        {
            bits |= u64::from(*octet) << (56 - held);
            held += 8;
        }
        // What is missing behind the end counts as ones.
        let ahead = (bits | u64::MAX.checked_shr(held as u32).unwrap_or(0)) >> 32;
        let long = |bits: &usize| ahead < CODE.beyond[*bits];
        let length = (SHORTEST..LONGEST).find(long).unwrap_or(LONGEST);
        if length > held {
            let ones = held < 8 && ahead == u64::from(u32::MAX);
            return if ones { Ok(()) } else { Err(()) };
        }
        let at = CODE.place[length].wrapping_add((ahead >> (32 - length)) as usize);
        match CODE.symbols.get(at) {
            Some(&symbol) if symbol < END => show(symbol as u8),
            _ => return Err(()),
        }
        bits <<= length;
        held -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(coded: &[u8]) -> Result<Vec<u8>, ()> {
        let mut text = Vec::new();
        read(coded, |octet| text.push(octet)).map(|()| text)
    }

    /// RFC 7541 §C.4, §C.6.
    #[test]
    fn strings_of_the_rfc() {
        let name = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(text(&name).as_deref(), Ok(&b"www.example.com"[..]));
        assert_eq!(text(&[0x64, 0x02]).as_deref(), Ok(&b"302"[..]));
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b,
            0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        let said = text(&date);
        assert_eq!(said.as_deref(), Ok(&b"Mon, 21 Oct 2013 20:13:21 GMT"[..]));
        assert_eq!(text(&[]).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn every_octet_is_read_back() {
        for octet in 0..=255u8 {
            let at = CODE.symbols.iter().position(|s| *s == u16::from(octet));
            let length = usize::from(LENGTHS[usize::from(octet)]);
            let code = at.map_or(0, |at| at.wrapping_sub(CODE.place[length])) as u64;
            let filled = code << (64 - length) | u64::MAX >> length;
            let bytes = filled.to_be_bytes();
            assert_eq!(text(&bytes[..length.div_ceil(8)]), Ok(vec![octet]));
        }
    }

    #[test]
    fn what_is_no_string() {
        let bad: [&[u8]; 7] = [
            &[0xff],
            &[0x07, 0xff],
            &[0xff; 4],
            &[0xff; 8],
            &[0x00],
            &[0x1e],
            &[0xf1, 0xe3, 0xff],
        ];
        for coded in bad {
            assert_eq!(text(coded), Err(()), "{coded:x?}");
        }
    }
}
