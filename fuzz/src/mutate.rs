//! Changes of an input that keep its form: of a hundred single bytes of a signed token hardly one can be changed
//! so that what comes out is JSON in base64url again.

use crate::api_key;
use crate::base64url;
use crate::json::{self, Json};
use crate::keys::SIGNED;

/// Numbers from a seed that libFuzzer gives (`SplitMix64`).
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    pub fn new(seed: u32) -> Dice {
        Dice(u64::from(seed))
    }

    /// One of `count` numbers from 0.
    pub fn roll(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as usize % count.max(1)
    }

    /// One of the words of a text.
    fn word(&mut self, words: &str) -> String {
        let count = words.split(' ').count();
        let word = words.split(' ').nth(self.roll(count));
        word.unwrap_or_default().to_owned()
    }

    fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.roll(all.len())]
    }
}

/// libFuzzer's own change half of the time, else that of `form`, where there is one and it fits.
pub fn bytes(
    data: &mut [u8],
    size: usize,
    room: usize,
    seed: u32,
    form: impl Fn(&[u8], &mut Dice) -> Option<Vec<u8>>,
) -> usize {
    let mut dice = Dice::new(seed);
    let formed = (dice.roll(2) == 0)
        .then(|| form(&data[..size], &mut dice))
        .flatten();
    match formed.filter(|formed| formed.len() <= room) {
        Some(formed) => {
            data[..formed.len()].copy_from_slice(&formed);
            formed.len()
        }
        None => libfuzzer_sys::fuzzer_mutate(data, size, room),
    }
}

/// Another token: one of its parts changed, taken from another token, or its dots.
pub fn token(token: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let token = std::str::from_utf8(token).ok()?;
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let other: Vec<&str> = dice.pick(&SIGNED).split('.').collect();
    let at = dice.roll(parts.len());
    match dice.roll(8) {
        0 => parts = other.iter().map(ToString::to_string).collect(),
        1 => other[at % other.len()].clone_into(&mut parts[at]),
        2 => parts.insert(at + dice.roll(2), dice.pick(&["", "AA", "e30"]).to_owned()),
        3 => parts[at] = spelled(&parts[at], dice),
        4 => parts.swap(at, 0),
        _ => {
            let at = at.min(1);
            let inside = base64url::read(parts.get(at)?)?;
            parts[at] = base64url::write(&value(&inside, dice)?);
        }
    }
    Some(parts.join(".").into_bytes())
}

/// A text with one character changed, its checksum made right again now and then.
pub fn key(text: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut text = spelled(std::str::from_utf8(text).ok()?, dice).into_bytes();
    if text.len() >= 54 && dice.roll(2) == 0 {
        text.truncate(54);
        let check = api_key::checksum(&text);
        text.extend(check);
    }
    Some(text)
}

/// Two JSON values on a line each, one of them changed.
pub fn lines(text: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let (first, second) = (&text[..end], &text[end + 1..]);
    let changed = if dice.roll(3) == 0 {
        [&value(first, dice)?, b"\n".as_slice(), second].concat()
    } else {
        [first, b"\n", &value(second, dice)?].concat()
    };
    Some(changed)
}

/// A JSON value with one of the values inside changed.
pub fn value(text: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut whole = json::read(text)?;
    let other = nth(&mut whole.clone(), dice.roll(count(&whole)))?.clone();
    let at = dice.roll(count(&whole));
    change(nth(&mut whole, at)?, other, dice);
    Some(whole.written().into_bytes())
}

/// How many values there are in one, itself included.
fn count(json: &Json) -> usize {
    match json {
        Json::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Json::Object(members) => 1 + members.iter().map(|(_, value)| count(value)).sum::<usize>(),
        _ => 1,
    }
}

fn nth(json: &mut Json, mut at: usize) -> Option<&mut Json> {
    if at == 0 {
        return Some(json);
    }
    at -= 1;
    let inside: Vec<&mut Json> = match json {
        Json::List(items) => items.iter_mut().collect(),
        Json::Object(members) => members.iter_mut().map(|(_, value)| value).collect(),
        _ => Vec::new(),
    };
    for value in inside {
        let size = count(value);
        if at < size {
            return nth(value, at);
        }
        at -= size;
    }
    None
}

fn change(json: &mut Json, other: Json, dice: &mut Dice) {
    let before = json.clone();
    match dice.roll(4) {
        0 => *json = other,
        1 => *json = atom(dice),
        2 => *json = Json::List(vec![before, other]),
        _ => match json {
            Json::Text(text) => *text = spelled(text, dice),
            Json::Number(text) => {
                let number: f64 = text.parse().unwrap_or_default();
                let by = [-1.0, 1.0, 0.5, -30.0, 30.0, -300.0, 1e3, 1e12];
                *text = (number + by[dice.roll(by.len())]).to_string();
            }
            Json::List(items) => {
                let at = dice.roll(items.len());
                match dice.roll(2) {
                    0 if at < items.len() => drop(items.remove(at)),
                    _ => items.insert(at, other),
                }
            }
            Json::Object(members) => of_members(members, other, dice),
            Json::Null | Json::Bool(_) => *json = other,
        },
    }
}

fn of_members(members: &mut Vec<(String, Json)>, other: Json, dice: &mut Dice) {
    const NAMES: &str = "alg typ kid crit b64 iss aud exp nbf iat sub client_id scope scp scopes roles tenant cnf \
        jti keys kty use key_ops crv k d active token_type x-a username issuer jwks_uri client \
        id tier rate_limit expires disabled";
    let at = dice.roll(members.len());
    let name = dice.word(NAMES);
    match (dice.roll(4), members.get_mut(at)) {
        (0, Some(_)) => drop(members.remove(at)),
        (1, Some((own, _))) => *own = name,
        (2, Some((own, _))) => {
            let own = own.clone();
            members.push((own, other));
        }
        _ => members.insert(
            at,
            (name, if dice.roll(2) == 0 { other } else { atom(dice) }),
        ),
    }
}

fn atom(dice: &mut Dice) -> Json {
    const TEXTS: &str = "api k u1 sig enc verify oct RSA EC OKP none HS256 RS256 ES256 JWT at+jwt application/jwt \
        true 1800000300 https://u:p@a.example/k http://127.0.0.1/k 1000/hr 2027-01-31T00:00:00Z";
    const NUMBERS: &str = "0 -1 1.5 1800000000 1799999970 1800000030 1e300 18446744073709551616";
    match dice.roll(10) {
        0 => Json::Null,
        1 => Json::Bool(dice.roll(2) == 0),
        2 => Json::List(Vec::new()),
        3 => Json::Object(Vec::new()),
        4 => Json::Text(String::new()),
        5 | 6 => Json::Number(dice.word(NUMBERS)),
        _ => Json::Text(dice.word(TEXTS)),
    }
}

/// A text with one character changed, of the other case, added or left out.
fn spelled(text: &str, dice: &mut Dice) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    // The ends are where readers differ.
    let at = match dice.roll(4) {
        0 => 0,
        1 => chars.len().saturating_sub(1),
        _ => dice.roll(chars.len()),
    };
    let some = dice.pick(&[
        "A", "B", "_", "-", "=", " ", "/", ".", "+", "\0", "\u{e9}", "\n",
    ]);
    let some = some.chars().next().unwrap_or('x');
    match (dice.roll(4), chars.get(at).copied()) {
        (0, Some(old)) if old.is_ascii_lowercase() => chars[at] = old.to_ascii_uppercase(),
        (0, Some(old)) => chars[at] = old.to_ascii_lowercase(),
        (1, Some(_)) => chars[at] = some,
        (2, Some(_)) => drop(chars.remove(at)),
        _ => chars.insert((at + dice.roll(2)).min(chars.len()), some),
    }
    chars.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_keeps_its_form() {
        let text = br#"{"keys":[{"kty":"RSA","n":"AQAB","x":1.5},null]}"#;
        let mut changed = 0;
        for seed in 0..2000 {
            let other = value(text, &mut Dice::new(seed)).unwrap();
            assert!(
                json::read(&other).is_some(),
                "{}",
                String::from_utf8_lossy(&other)
            );
            changed += usize::from(other != text);
        }
        assert!(changed > 1500, "{changed}");
        let well_formed = |seed| {
            let token = token(SIGNED[0].as_bytes(), &mut Dice::new(seed)).unwrap();
            token.split(|b| *b == b'.').take(2).all(|part| {
                std::str::from_utf8(part).is_ok_and(|part| base64url::read(part).is_some())
            })
        };
        let count = (0..2000).filter(|seed| well_formed(*seed)).count();
        assert!((1000..2000).contains(&count), "{count}");
    }
}
