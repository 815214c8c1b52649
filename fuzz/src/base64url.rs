//! A second reader of base64url without padding (RFC 7515 §2), a character at a time.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The bytes that a text stands for. None for anything but the one way of writing them.
pub fn read(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_usize, 0);
    for char in text.bytes() {
        bits = bits << 6 | ALPHABET.iter().position(|own| *own == char)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // What is left over fills up the last character, and says nothing.
    (count < 6 && bits == 0).then_some(bytes)
}

/// The one way of writing some bytes.
pub fn write(bytes: &[u8]) -> String {
    let char = |bits: usize| char::from(ALPHABET[bits & 63]);
    let (mut text, mut bits, mut count) = (String::new(), 0_usize, 0);
    for byte in bytes {
        bits = bits << 8 | usize::from(*byte);
        count += 8;
        while count >= 6 {
            count -= 6;
            text.push(char(bits >> count));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(char(bits << (6 - count)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"\xfb\xff", "-_8"),
        ] {
            assert_eq!(
                (write(bytes).as_str(), read(text).as_deref()),
                (text, Some(bytes))
            );
        }
        for wrong in ["Z", "Zh", "Zm9", "Zg==", "Zm9v\n", "+/8", "Zm9vZ"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
