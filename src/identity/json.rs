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
    let mut reader = serde_json::Deserializer::from_str(std::str::from_utf8(text).ok()?);
    let value = Strict.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

/// Reads one JSON object under the rules of [`strict`].
pub fn object(text: &[u8]) -> Option<Object> {
    // One look at the whole for UTF-8 costs less than one at each text in it.
    let mut reader = serde_json::Deserializer::from_str(std::str::from_utf8(text).ok()?);
    let members = reader.deserialize_map(Members).ok()?;
    reader.end().ok()?;
    Some(members)
}

/// The members of an object, each name once. Objects that are read here have few members and are asked
/// for most of them by name: going through all of them costs a third of what a map costs, and a map is
/// torn down besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Vec<(String, Value)>);

impl Object {
    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value)
    }

    /// Whether there is a member of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Takes out the value of this name.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(own, _)| own == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// The names, as they were written.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a name is there twice. Few names are compared with each other, many are sorted: what
    /// strangers send must not cost its square.
    fn repeats(&self) -> bool {
        const FEW: usize = 24;
        if self.0.len() <= FEW {
            let before = |at: usize| self.0[..at].iter();
            let is_before = |(at, (name, _)): (usize, &(String, Value))| {
                before(at).any(|(other, _)| other == name)
            };
            return self.0.iter().enumerate().any(is_before);
        }
        let mut names: Vec<&str> = self.keys().collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
        let mut all = Object(Vec::with_capacity(16));
        while let Some(name) = members.next_key::<String>()? {
            all.0.push((name, members.next_value_seed(Strict)?));
        }
        if all.repeats() {
            return Err(A::Error::custom("a member is repeated"));
        }
        Ok(all)
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

    #[test]
    fn an_object_has_each_name_once_few_or_many() {
        for count in [1, 2, 24, 25, 26, 300] {
            let member = |n: usize| format!("\"m{n}\":{n}");
            let all: Vec<String> = (0..count).map(member).collect();
            let mut read = object(format!("{{{}}}", all.join(",")).as_bytes()).unwrap();
            assert_eq!(read.keys().count(), count);
            for n in 0..count {
                assert_eq!(read.get(&format!("m{n}")), Some(&Value::from(n)));
            }
            let last = format!("m{}", count - 1);
            assert_eq!(read.remove(&last), Some(Value::from(count - 1)));
            assert!(!read.contains_key(&last) && read.remove(&last).is_none());
            for n in 0..count {
                let again = format!("{{{},\"\\u006d{n}\":0}}", all.join(","));
                assert!(object(again.as_bytes()).is_none(), "{again}");
            }
        }
        for text in [
            "{}x",
            "{\"a\":{\"b\":1,\"b\":2}}",
            "{",
            "",
            "null",
            "{\"a\":\"\\ud800\"}",
        ] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
    }
}
