//! The form of our API keys, as its description has it: `tg_`, ten characters, `_`, forty, and six of a checksum.

/// Zip's CRC-32, a bit at a time.
fn crc32(text: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in text {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

/// The digit of base 62.
fn digit(value: u32) -> u8 {
    match value {
        0..10 => b'0' + value as u8,
        10..36 => b'A' + (value - 10) as u8,
        _ => b'a' + (value - 36) as u8,
    }
}

/// The checksum of what stands before it.
pub fn checksum(body: &[u8]) -> [u8; 6] {
    let crc = crc32(body);
    [5, 4, 3, 2, 1, 0].map(|power| digit(crc / 62_u32.pow(power) % 62))
}

/// Whether a text has the form and the right checksum.
pub fn is_ours(text: &[u8]) -> bool {
    let letter =
        |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase() || byte.is_ascii_lowercase();
    text.len() == 60
        && &text[..3] == b"tg_"
        && text[3..13].iter().all(letter)
        && text[13] == b'_'
        && text[14..54].iter().all(letter)
        && text[54..] == checksum(&text[..54])
}

/// The key whose fifty free characters are chosen by the first bytes of a text. None if there are too few.
pub fn made_of(text: &[u8]) -> Option<Vec<u8>> {
    let chosen = text
        .get(..50)?
        .iter()
        .map(|byte| digit(u32::from(*byte) % 62));
    let mut key = b"tg_".to_vec();
    key.extend(chosen);
    key.insert(13, b'_');
    let check = checksum(&key);
    key.extend(check);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked with Python's `zlib.crc32`.
    #[test]
    fn a_known_key() {
        let body = b"tg_0123456789_abcdefghijABCDEFGHIJ0123456789klmnopqrst";
        assert_eq!(&checksum(body), b"2NHPa1");
        assert!(is_ours(&[body.as_slice(), b"2NHPa1"].concat()));
        assert!(is_ours(&made_of(&[7; 50]).unwrap()));
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
