//! Strict JSON for security decisions: one value, UTF-8, nothing after it, no member twice.
//!
//! Two readers that disagree on which of two equal members counts disagree on what was signed;
//! RFC 7515 §4 and RFC 7519 §4 let a reader refuse such text, and we do, at every level.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads one JSON value. None if it is not JSON, nests deeper than 128 levels, holds a number out
/// of range, repeats a member or is followed by anything but white space.
pub fn strict(text: &[u8]) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

/// Reads one JSON object under the rules of [`strict`].
pub fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match strict(text)? {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict)?;
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is repeated"));
            }
        }
        Ok(Value::Object(all))
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
            r#""\u00e9\n""#,
            r#"[1,[],{"a":{"b":[null]}}]"#,
            " { \"a\" : 1 } ",
        ] {
            let want: Value = serde_json::from_str(text).unwrap();
            assert_eq!(strict(text.as_bytes()), Some(want), "{text}");
        }
    }

    #[test]
    fn refuses_repeats_and_leftovers() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":[{"a":1,"b":2,"a":3}]}"#,
            r#"{"a":1}{"#,
            r#"{"a":1} x"#,
            r#"{"a":1e999}"#,
            r#"{"a":NaN}"#,
            r"{'a':1}",
            r#"{"a":1,}"#,
            r#""\ud800""#,
            "",
            "{",
        ] {
            assert_eq!(strict(text.as_bytes()), None, "{text}");
        }
        assert_eq!(strict(b"{\"a\":\"\xff\"}"), None);
        assert_eq!(strict("[".repeat(10_000).as_bytes()), None);
        assert!(object(b"[]").is_none());
    }
}
