//! A second reader of JSON (RFC 8259): members stay as they are written, the same name twice included.

use serde_json::Value;
use std::iter::Peekable;
use std::str::Chars;

/// How deep the reader that is tested goes; deeper texts are none to it.
const DEEPEST: usize = 127;

/// A JSON value as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// As its text says.
    Number(String),
    Text(String),
    List(Vec<Json>),
    /// In the order of the text.
    Object(Vec<(String, Json)>),
}

/// The one value that a text is. None if it is none, or more than one, or too deep, or has a number that no
/// double can hold.
pub fn read(text: &[u8]) -> Option<Json> {
    let mut reader = Reader {
        rest: std::str::from_utf8(text).ok()?.chars().peekable(),
        depth: 0,
    };
    let value = reader.value()?;
    reader.space();
    reader.rest.next().is_none().then_some(value)
}

/// The object that a text is, if no member at any depth is there twice.
pub fn object(text: &[u8]) -> Option<Json> {
    read(text).filter(|json| matches!(json, Json::Object(_)) && !json.repeats())
}

impl Json {
    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Json::Object(members) = self else {
            return None;
        };
        let found = members.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value)
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn list(&self) -> Option<&[Json]> {
        match self {
            Json::List(items) => Some(items),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Json::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The members of an object.
    pub fn members(&self) -> &[(String, Json)] {
        match self {
            Json::Object(members) => members,
            _ => &[],
        }
    }

    /// Whether a member is there twice, at any depth.
    pub fn repeats(&self) -> bool {
        match self {
            Json::List(items) => items.iter().any(Json::repeats),
            Json::Object(members) => members.iter().enumerate().any(|(at, (name, value))| {
                members[..at].iter().any(|(other, _)| other == name) || value.repeats()
            }),
            _ => false,
        }
    }

    /// Whether this is the value that the gateway's reader has found.
    pub fn is(&self, other: &Value) -> bool {
        match (self, other) {
            (Json::Null, Value::Null) => true,
            (Json::Bool(own), Value::Bool(other)) => own == other,
            (Json::Text(own), Value::String(other)) => own == other,
            (Json::Number(own), Value::Number(other)) => match other.as_u64() {
                Some(other) => own.parse() == Ok(other),
                None => near(own.parse().ok(), other.as_f64()),
            },
            (Json::List(own), Value::Array(other)) => {
                own.len() == other.len() && own.iter().zip(other).all(|(own, other)| own.is(other))
            }
            (Json::Object(own), Value::Object(other)) => {
                let same = |(name, own): &(String, Json)| {
                    other.get(name).is_some_and(|other| own.is(other))
                };
                own.len() == other.len() && own.iter().all(same)
            }
            _ => false,
        }
    }

    /// The value as text again.
    pub fn written(&self) -> String {
        let joined = |all: Vec<String>| all.join(",");
        match self {
            Json::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Json::List(items) => format!("[{}]", joined(items.iter().map(Json::written).collect())),
            Json::Object(members) => {
                let written = members.iter();
                let written = written.map(|(name, value)| {
                    format!("{}:{}", Json::Text(name.clone()).written(), value.written())
                });
                format!("{{{}}}", joined(written.collect()))
            }
            _ => self.turned(),
        }
    }

    /// The value as text again, the members of every object the other way round.
    pub fn turned(&self) -> String {
        let joined = |all: Vec<String>| all.join(" ,\t");
        match self {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Number(text) => text.clone(),
            Json::Text(text) => quoted(text),
            Json::List(items) => format!("[{}]", joined(items.iter().map(Json::turned).collect())),
            Json::Object(members) => {
                let turned = members.iter().rev();
                let turned =
                    turned.map(|(name, value)| format!("{}:{}", quoted(name), value.turned()));
                format!("{{{}}}", joined(turned.collect()))
            }
        }
    }
}

/// A text with all but letters and digits escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_alphanumeric() => quoted.push(char::from(byte)),
            _ => quoted.extend(["\\u".to_owned(), format!("{unit:04x}")]),
        }
    }
    quoted + "\""
}

/// Readers may differ in the last bits of a fraction.
fn near(one: Option<f64>, other: Option<f64>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return false;
    };
    (one - other).abs() <= one.abs() * 1e-15
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    depth: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        while self.rest.next_if(|c| " \t\r\n".contains(*c)).is_some() {}
    }

    /// Whether the next thing, after white space, is this.
    fn meets(&mut self, char: char) -> bool {
        self.space();
        self.rest.next_if_eq(&char).is_some()
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        let met = word.chars().all(|c| self.rest.next_if_eq(&c).is_some());
        met.then_some(value)
    }

    fn value(&mut self) -> Option<Json> {
        self.space();
        match self.rest.peek()? {
            'n' => self.word("null", Json::Null),
            't' => self.word("true", Json::Bool(true)),
            'f' => self.word("false", Json::Bool(false)),
            '"' => self.text().map(Json::Text),
            '[' | '{' => {
                self.depth += 1;
                let whole = (self.depth <= DEEPEST).then(|| self.inside())?;
                self.depth -= 1;
                whole
            }
            _ => self.number(),
        }
    }

    fn inside(&mut self) -> Option<Json> {
        let list = self.rest.next() == Some('[');
        let end = if list { ']' } else { '}' };
        let (mut items, mut members) = (Vec::new(), Vec::new());
        let mut more = !self.meets(end);
        while more {
            if list {
                items.push(self.value()?);
            } else {
                self.space();
                let name = self.text()?;
                let value = self.meets(':').then(|| self.value())?;
                members.push((name, value?));
            }
            more = self.meets(',');
            if !more && !self.meets(end) {
                return None;
            }
        }
        Some(if list {
            Json::List(items)
        } else {
            Json::Object(members)
        })
    }

    fn number(&mut self) -> Option<Json> {
        let mut text = String::new();
        while let Some(char) = self.rest.next_if(|c| "+-.eE0123456789".contains(*c)) {
            text.push(char);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (text.as_str(), None),
        };
        let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (whole, part) = match mantissa.split_once('.') {
            Some((whole, part)) => (whole, Some(part)),
            None => (mantissa, None),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let unsigned = |text: &str| digits(text.strip_prefix(['+', '-']).unwrap_or(text));
        let well_formed = digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && part.is_none_or(digits)
            && exponent.is_none_or(unsigned);
        let finite = well_formed && text.parse().is_ok_and(f64::is_finite);
        finite.then_some(Json::Number(text))
    }

    fn text(&mut self) -> Option<String> {
        self.rest.next_if_eq(&'"')?;
        let mut units = Vec::new();
        loop {
            match self.rest.next()? {
                '"' => return String::from_utf16(&units).ok(),
                '\\' => units.push(self.escape()?),
                control if control < ' ' => return None,
                char => units.extend(char.encode_utf16(&mut [0; 2]).iter()),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        Some(match self.rest.next()? {
            plain @ ('"' | '\\' | '/') => plain as u16,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'u' => {
                let mut digit = || self.rest.next()?.to_digit(16);
                let four = [digit()?, digit()?, digit()?, digit()?];
                four.iter().fold(0, |unit, digit| unit << 4 | *digit as u16)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_ordinary_reader_reads() {
        for text in [
            "null",
            "true",
            "-3",
            "18446744073709551615",
            "1.5e3",
            "-0",
            "0.5E-2",
            r#""\u00e9\n\ud83d\ude00/\/""#,
            r#"[1,[],{"a":{"b":[null]}}]"#,
            " { \"a\" : 1 } ",
            "{}",
        ] {
            let want: Value = serde_json::from_str(text).unwrap();
            let own = read(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert!(own.is(&want), "{text}: {own:?}");
            let turned: Value = serde_json::from_str(&own.turned()).unwrap();
            assert_eq!(turned, want);
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "{",
            "{\"a\":1,}",
            "[1,]",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e999",
            "NaN",
            "'a'",
            "1 2",
            r#""\ud800""#,
            r#""\x""#,
            "\"\n\"",
            "nul",
            "{1:2}",
            "[1 2]",
            r#"{"a" 1}"#,
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert!(object(br#"{"x":[{"a":1,"b":2,"\u0061":3}]}"#).is_none());
        assert!(object(br#"{"x":[{"a":1},{"a":3}]}"#).is_some());
    }
}
