//! The form of our API keys: `tg_`, ten characters that are the key's id, `_`, forty random ones, and a
//! checksum of six. All of them are of 62 kinds, letters and digits.
//!
//! The prefix lets a scanner find a key that was left in public, and the checksum tells a key from a
//! text that looks like one, so that neither the scanner nor the gateway has to ask anybody:
//!
//! ```text
//! \btg_[0-9A-Za-z]{10}_[0-9A-Za-z]{46}\b
//! ```
//!
//! The checksum is the CRC-32 (ISO-HDLC, as in zip and PNG) of all that stands before it, in base 62
//! with the most significant digit first. It guards against slips and guesses of a careless kind, not
//! against forgers: a made-up key with a right checksum is looked up, and found nowhere. A digest would
//! be no better at that, and scanners have a CRC-32 at hand.

use super::key_record::{KeyDigest, KeyRecord};
use uuid::Uuid;

/// What every key of ours starts with.
pub const KEY_PREFIX: &str = "tg_";
/// The longest key that is looked at, in bytes.
pub const MAX_KEY: usize = 512;
/// Characters of a key's id.
const ID: usize = 10;
/// Characters of the random part of a key, of 62 kinds: 238 bits.
const RANDOM: usize = 40;
/// Characters of the checksum: 62 to the 6th is more than 2 to the 32nd.
const CHECK: usize = 6;
/// Characters before the checksum.
const BODY: usize = KEY_PREFIX.len() + ID + 1 + RANDOM;
/// Characters of a key.
pub const LENGTH: usize = BODY + CHECK;

/// The digits of base 62.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Which texts a list of keys looks up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyFormat {
    /// Any visible ASCII, for keys that were made elsewhere; what begins as ours do must have our form.
    #[default]
    Any,
    /// Only what has our form.
    Tollgate,
}

impl KeyFormat {
    /// Whether this text may be a key at all.
    pub fn admits(self, text: &[u8]) -> bool {
        if self == Self::Tollgate || text.starts_with(KEY_PREFIX.as_bytes()) {
            return is_ours(text);
        }
        (1..=MAX_KEY).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
    }
}

/// Whether a text has our form and the right checksum.
pub fn is_ours(text: &[u8]) -> bool {
    let Some((body, check)) = text.split_at_checked(BODY) else {
        return false;
    };
    let Some(rest) = body.strip_prefix(KEY_PREFIX.as_bytes()) else {
        return false;
    };
    let (id, random) = rest.split_at(ID);
    let letters = |part: &[u8]| part.iter().all(u8::is_ascii_alphanumeric);
    random[0] == b'_' && letters(id) && letters(&random[1..]) && *check == checksum(body)
}

/// The checksum of what stands before it.
fn checksum(body: &[u8]) -> [u8; CHECK] {
    let mut rest = crc32fast::hash(body);
    let mut text = [b'0'; CHECK];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    text
}

/// Makes a new key for `client`: the key itself, to be shown once, and the record to keep, with nothing
/// but an id, a client and a digest.
pub fn generate(client: &str) -> (String, KeyRecord) {
    let id = random_text(ID);
    let mut plain = format!("{KEY_PREFIX}{id}_{}", random_text(RANDOM));
    let check = checksum(plain.as_bytes());
    plain.extend(check.map(char::from));
    let record = KeyRecord {
        id: id.into(),
        digest: KeyDigest::of(plain.as_bytes()),
        client: client.into(),
        ..KeyRecord::default()
    };
    (plain, record)
}

/// `length` random letters and digits, each of the 62 equally likely.
fn random_text(length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let bytes = Uuid::new_v4().into_bytes();
        // Bytes 6 and 8 hold the version and variant; 248 is the last multiple of 62 in a byte.
        let random = bytes
            .iter()
            .enumerate()
            .filter(|(at, b)| *at != 6 && *at != 8 && **b < 248);
        let chars = random.map(|(_, b)| char::from(DIGITS[usize::from(b % 62)]));
        text.extend(chars.take(length - text.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn made_keys_have_the_form_and_never_meet() {
        let mut all = HashSet::new();
        for _ in 0..500 {
            let (plain, record) = generate("c");
            assert!(
                is_ours(plain.as_bytes()) && plain.len() == LENGTH,
                "{plain}"
            );
            let parts: Vec<&str> = plain.split('_').collect();
            assert_eq!(parts[..2], ["tg", &record.id]);
            assert_eq!((parts[1].len(), parts[2].len(), parts.len()), (10, 46, 3));
            assert_eq!(record.digest, KeyDigest::of(plain.as_bytes()));
            assert!(all.insert(plain) && all.insert(record.id.into()));
        }
    }

    /// The checksum is what a scanner computes: this key was checked with Python's `zlib.crc32`.
    #[test]
    fn a_known_key() {
        let body = "tg_0123456789_abcdefghijABCDEFGHIJ0123456789klmnopqrst";
        let key = format!("{body}2NHPa1");
        assert!(
            is_ours(key.as_bytes()),
            "{:?}",
            checksum(body.as_bytes()).map(char::from)
        );
    }

    #[test]
    fn a_slip_is_told_without_a_look_up() {
        let (plain, _) = generate("c");
        for at in 0..plain.len() {
            for other in [b'0', b'a', b'Z', b'_', b' ', 0, 0xff] {
                let mut text = plain.clone().into_bytes();
                if std::mem::replace(&mut text[at], other) != other {
                    assert!(!is_ours(&text), "{at} {other}");
                }
            }
        }
        for cut in 0..plain.len() {
            assert!(!is_ours(&plain.as_bytes()[..cut]), "{cut}");
        }
        assert!(!is_ours(format!("{plain}0").as_bytes()));
    }

    #[test]
    fn what_may_be_a_key() {
        let ours = generate("c").0;
        for (text, any, tollgate) in [
            (ours.as_bytes(), true, true),
            (&ours.as_bytes()[..54], false, false),
            (b"tg_", false, false),
            (b"", false, false),
            (b"sk-live/0+1=~!", true, false),
            (b"a b", false, false),
            (b"a\x7f", false, false),
            ("schl\u{fc}ssel".as_bytes(), false, false),
            (&[b'k'; MAX_KEY], true, false),
            (&[b'k'; MAX_KEY + 1], false, false),
        ] {
            let found = (
                KeyFormat::Any.admits(text),
                KeyFormat::Tollgate.admits(text),
            );
            assert_eq!(found, (any, tollgate), "{}", text.escape_ascii());
        }
    }
}
