//! The Huffman code of RFC 7541 Appendix B. It is canonical, so the lengths of its codes are enough:
//! symbols of one length are counted up in their order, shorter ones first.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The symbol that ends a string and must never be sent (§5.2).
pub const EOS: usize = 256;

/// Bits of the code of each octet, then of [`EOS`].
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

/// Code and its bits, of each symbol.
static CODES: LazyLock<[(u32, u8); 257]> = LazyLock::new(|| {
    let mut order: Vec<usize> = (0..257).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let mut codes = [(0, 0); 257];
    let (mut next, mut before) = (0u32, LENGTHS[order[0]]);
    for symbol in order {
        let bits = LENGTHS[symbol];
        next <<= bits - before;
        codes[symbol] = (next, bits);
        (next, before) = (next + 1, bits);
    }
    codes
});

static SYMBOLS: LazyLock<HashMap<(u32, u8), usize>> = LazyLock::new(|| {
    let all = CODES.iter().enumerate();
    all.map(|(symbol, code)| (*code, symbol)).collect()
});

/// The codes of these symbols one after the other, as bits.
pub fn bits(symbols: impl IntoIterator<Item = usize>) -> Vec<bool> {
    let mut out = Vec::new();
    for symbol in symbols {
        let (code, bits) = CODES[symbol];
        out.extend((0..bits).rev().map(|at| code >> at & 1 == 1));
    }
    out
}

/// Octets of these bits; `padding` fills the last one.
pub fn octets(mut bits: Vec<bool>, padding: bool) -> Vec<u8> {
    while !bits.len().is_multiple_of(8) {
        bits.push(padding);
    }
    let octet = |part: &[bool]| {
        part.iter()
            .fold(0, |octet, bit| octet << 1 | u8::from(*bit))
    };
    bits.chunks(8).map(octet).collect()
}

/// A string in the code, padded as it must be.
pub fn encode(text: &[u8]) -> Vec<u8> {
    octets(bits(text.iter().map(|b| usize::from(*b))), true)
}

/// The string that these octets are.
///
/// # Errors
/// They hold EOS, or are padded with something else than fewer than eight ones.
pub fn decode(octets: &[u8]) -> Result<Vec<u8>, String> {
    let (mut out, mut code, mut bits) = (Vec::new(), 0u32, 0u8);
    for bit in octets
        .iter()
        .flat_map(|o| (0..8).rev().map(move |at| o >> at & 1))
    {
        (code, bits) = (code << 1 | u32::from(bit), bits + 1);
        match SYMBOLS.get(&(code, bits)) {
            Some(&EOS) => return Err("EOS in a string".into()),
            Some(symbol) => {
                out.push(*symbol as u8);
                (code, bits) = (0, 0);
            }
            None if bits > 30 => return Err("no Huffman code".into()),
            None => (),
        }
    }
    if bits > 7 || code != (1 << bits) - 1 {
        return Err(format!("padded with {bits} bits {code:b}"));
    }
    Ok(out)
}

/// The examples of RFC 7541 §C.4 and §C.6.
#[test]
fn the_code_is_that_of_the_rfc() {
    let examples: [(&str, &[u8]); 4] = [
        (
            "www.example.com",
            &[
                0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
        ),
        ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
        ("302", &[0x64, 0x02]),
        ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
    ];
    for (text, octets) in examples {
        assert_eq!(encode(text.as_bytes()), octets, "{text}");
        assert_eq!(decode(octets).as_deref(), Ok(text.as_bytes()));
    }
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(decode(&encode(&all)), Ok(all));
    assert!(decode(&octets(bits([EOS]), true)).is_err());
    assert!(decode(&[0x07, 0xff]).is_err(), "eleven ones");
    assert!(decode(&[0x00]).is_err(), "zeros");
}
