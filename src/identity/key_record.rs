//! What is kept of an API key: whose it is and what it allows, beside the digest of the key itself.
//! Two forms are read: an entry of a key file (by `config`), and the JSON that lies in Redis.

use super::json::{self, Object};
use super::principal::{Method, Principal, Scopes};
use super::rfc3339;
use crate::base::secret::sha256;
use crate::base::units::Rate;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// The largest record that is read from Redis, in bytes.
pub const MAX_RECORD: usize = 16 * 1024;

/// The SHA-256 of a whole key. A fast digest is enough: keys of ours hold 238 random bits, so there is
/// nothing to guess from it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// What a digest starts with in a key file.
    pub const PREFIX: &'static str = "sha256:";

    /// The digest of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(sha256(key))
    }

    /// 64 hexadecimal digits in lower case.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
        let pairs = self.0.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
        pairs.collect()
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        let mut digest = [0; 32];
        if hex.len() != 2 * digest.len() {
            return None;
        }
        let digit = |c: u8| char::from(c).to_digit(16);
        for (byte, pair) in digest.iter_mut().zip(hex.chunks(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(Self(digest))
    }

    /// As a key file has it.
    pub fn to_text(self) -> String {
        format!("{}{}", Self::PREFIX, self.hex())
    }

    /// From the text of a key file.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::from_hex(text.strip_prefix(Self::PREFIX)?.as_bytes())
    }

    /// As much of it as a log may hold.
    pub fn short(&self) -> String {
        self.hex()[..8].to_owned()
    }

    /// The first 64 bits.
    pub fn head(&self) -> u64 {
        let head = self.0.first_chunk().copied();
        u64::from_be_bytes(head.unwrap_or_default())
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:***")
    }
}

/// Why a presented key was refused. Of what several lists say of a key, the last in this order says the
/// most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum KeyFault {
    /// It cannot be a key, whoever is asked.
    #[error("not the form of an API key")]
    Malformed,
    /// No such key.
    #[error("not a known API key")]
    Unknown,
    /// The key's time is over.
    #[error("an expired API key")]
    Expired,
    /// It was switched off.
    #[error("a disabled API key")]
    Disabled,
}

/// What is kept of one key. A list may have a hundred thousand: boxes, which have no room to grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key's public id, for logs and revocation.
    pub id: Box<str>,
    /// The digest of the whole key.
    pub digest: KeyDigest,
    /// The client the key belongs to.
    pub client: Box<str>,
    /// The client's service tier.
    pub tier: Option<Box<str>>,
    /// What the key allows.
    pub scopes: Box<[Box<str>]>,
    /// The roles it gives.
    pub roles: Box<[Box<str>]>,
    /// How much may be asked with it.
    pub rate_limit: Option<Rate>,
    /// When it stops working, in Unix seconds; never if none.
    pub expires_unix_s: Option<u64>,
    /// Whether it is switched off.
    pub disabled: bool,
}

/// What is wrong with a record in Redis; never a word of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// It is over [`MAX_RECORD`].
    #[error("is larger than 16 KiB")]
    TooLarge,
    /// It is not an object in strict JSON.
    #[error("is not one JSON object with each member once")]
    NotAnObject,
    /// It says nothing of the client.
    #[error("has no `client`")]
    NoClient,
    /// A member is not what it has to be.
    #[error("has a `{0}` of another form")]
    Member(&'static str),
}

impl KeyRecord {
    /// Whether the key may be used at this time.
    ///
    /// # Errors
    /// It may not.
    pub fn usable(&self, now_unix_s: u64) -> Result<(), KeyFault> {
        usable(self.disabled, self.expires_unix_s, now_unix_s)
    }

    /// Whom the key speaks for.
    pub fn principal(&self, provider: &Arc<str>) -> Principal {
        let owned = |texts: &[Box<str>]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let tier = self.tier.as_deref().filter(|tier| !tier.is_empty());
        Principal {
            client_id: Some(self.client.to_string()),
            scopes: owned(&self.scopes).into_iter().collect::<Scopes>(),
            roles: owned(&self.roles),
            tier: tier.map(str::to_owned),
            key_id: Some(self.id.to_string()),
            rate_limit: self.rate_limit,
            ..Principal::new(Method::ApiKey, provider)
        }
    }

    /// Reads what lies in Redis under a key's digest. Members that nothing is known of are let alone,
    /// and null is as good as nothing.
    ///
    /// # Errors
    /// It is no record.
    pub fn from_json(text: &[u8], digest: KeyDigest) -> Result<Self, RecordFault> {
        if text.len() > MAX_RECORD {
            return Err(RecordFault::TooLarge);
        }
        let members = Members(json::object(text).ok_or(RecordFault::NotAnObject)?);
        let id = members.text("id", printable)?;
        let id = id.unwrap_or_else(|| digest.hex()[..12].into());
        let rate: Option<Box<str>> = members.text("rate_limit", printable)?;
        let rate = rate.map(|text| text.parse().ok().filter(|rate: &Rate| rate.is_countable()));
        Ok(Self {
            id,
            digest,
            client: members
                .text("client", printable)?
                .ok_or(RecordFault::NoClient)?,
            tier: members.text("tier", printable)?,
            scopes: members.texts("scopes", is_scope)?,
            roles: members.texts("roles", printable)?,
            rate_limit: rate
                .map(|rate| rate.ok_or(RecordFault::Member("rate_limit")))
                .transpose()?,
            expires_unix_s: members.time("expires")?,
            disabled: members.flag("disabled")?,
        })
    }

    /// As it lies in Redis.
    pub fn to_json(&self) -> Map<String, Value> {
        let Self {
            id,
            digest: _,
            client,
            tier,
            scopes,
            roles,
            rate_limit,
            expires_unix_s,
            disabled,
        } = self;
        let texts = |all: &[Box<str>]| Value::from(all.iter().map(|t| &**t).collect::<Vec<_>>());
        let members = [
            ("id", Some(Value::from(&**id))),
            ("client", Some(Value::from(&**client))),
            ("tier", tier.as_deref().map(Value::from)),
            ("scopes", Some(texts(scopes)).filter(|_| !scopes.is_empty())),
            ("roles", Some(texts(roles)).filter(|_| !roles.is_empty())),
            (
                "rate_limit",
                rate_limit.map(|rate| Value::from(rate.to_string())),
            ),
            (
                "expires",
                expires_unix_s.map(|s| Value::from(rfc3339::format(s))),
            ),
            ("disabled", disabled.then(|| Value::from(true))),
        ];
        let written = members.into_iter();
        written
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

/// Whether a key may be used at this time. Switched off goes before over.
pub(super) fn usable(
    disabled: bool,
    expires_unix_s: Option<u64>,
    now_unix_s: u64,
) -> Result<(), KeyFault> {
    if disabled {
        return Err(KeyFault::Disabled);
    }
    if expires_unix_s.is_some_and(|end| now_unix_s >= end) {
        return Err(KeyFault::Expired);
    }
    Ok(())
}

/// The members of a record.
struct Members(Object);

impl Members {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(
        &self,
        name: &'static str,
        good: fn(&str) -> bool,
    ) -> Result<Option<Box<str>>, RecordFault> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let text = value.as_str().filter(|text| good(text));
        let text = text.ok_or(RecordFault::Member(name))?;
        Ok(Some(text.into()))
    }

    /// A list of texts, or one text with spaces between them (RFC 6749 §3.3).
    fn texts(
        &self,
        name: &'static str,
        good: fn(&str) -> bool,
    ) -> Result<Box<[Box<str>]>, RecordFault> {
        let wrong = RecordFault::Member(name);
        let texts: Vec<&str> = match self.get(name) {
            None => Vec::new(),
            Some(Value::String(all)) => all.split(' ').filter(|text| !text.is_empty()).collect(),
            Some(Value::Array(all)) => {
                let texts = all.iter().map(Value::as_str);
                texts.collect::<Option<_>>().ok_or(wrong)?
            }
            Some(_) => return Err(wrong),
        };
        if !texts.iter().all(|text| good(text)) {
            return Err(wrong);
        }
        Ok(texts.into_iter().map(Box::from).collect())
    }

    /// Unix seconds, as a number or written out (RFC 3339), to the end of the year 9999: what is beyond
    /// was meant in milliseconds, and would be a key without an end.
    fn time(&self, name: &'static str) -> Result<Option<u64>, RecordFault> {
        let time = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => rfc3339::parse(text).ok(),
            Some(value) => value.as_u64().filter(|s| *s <= LAST_S),
        };
        time.map(Some).ok_or(RecordFault::Member(name))
    }

    fn flag(&self, name: &'static str) -> Result<bool, RecordFault> {
        let flag = self.get(name).map(Value::as_bool);
        flag.unwrap_or(Some(false)).ok_or(RecordFault::Member(name))
    }
}

/// The last second of the year 9999.
const LAST_S: u64 = 253_402_300_799;

fn printable(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control)
}

/// RFC 6749 §3.3.
fn is_scope(text: &str) -> bool {
    let usable = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    !text.is_empty() && text.bytes().all(usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<KeyRecord, RecordFault> {
        KeyRecord::from_json(text.as_bytes(), KeyDigest::of(b"abc"))
    }

    #[test]
    fn digests_there_and_back() {
        let digest = KeyDigest::of(b"abc");
        let text = digest.to_text();
        assert!(text.starts_with("sha256:ba7816bf") && text.ends_with("f20015ad"));
        assert_eq!(KeyDigest::from_text(&text), Some(digest));
        assert_eq!(
            KeyDigest::from_text(&text.replace("ba78", "BA78")),
            Some(digest)
        );
        assert_eq!(
            (digest.short().as_str(), digest.head() >> 32),
            ("ba7816bf", 0xba78_16bf)
        );
        for wrong in [
            "",
            "sha256:",
            &text[7..],
            &text[..70],
            &format!("{text}0"),
            "md5:00",
        ] {
            assert_eq!(KeyDigest::from_text(wrong), None);
        }
        assert_eq!(format!("{digest:?}"), "sha256:***");
    }

    #[test]
    fn the_record_of_the_issue_is_read_as_it_is() {
        let record =
            read(r#"{"client":"MobileApp","rate_limit":"1000/hr","scopes":["read"]}"#).unwrap();
        let caller = record.principal(&Arc::from("apps"));
        assert_eq!(
            (caller.client(), caller.key_id.as_deref()),
            ("MobileApp", Some("ba7816bf8f01"))
        );
        assert!(caller.scopes.has("read") && caller.user.is_none());
        assert_eq!(caller.rate_limit, "1000/1h".parse().ok());
        assert_eq!((record.usable(u64::MAX), caller.tier), (Ok(()), None));
    }

    #[test]
    fn every_member_there_and_back() {
        let text = r#"{"client":"a b","id":"k1","tier":"gold","scopes":"read write","roles":["x","y z"],
            "rate_limit":"5/min","expires":"2027-01-31T00:00:00Z","disabled":true,"note":{"by":[1]}}"#;
        let record = read(text).unwrap();
        let again = Value::from(record.to_json()).to_string();
        assert_eq!(read(&again).unwrap(), record);
        assert_eq!(record.scopes.concat(), "readwrite");
        assert_eq!(record.usable(0), Err(KeyFault::Disabled));
        let until = read(r#"{"client":"a","expires":1000,"tier":null,"scopes":[]}"#).unwrap();
        assert_eq!(
            (until.usable(999), until.usable(1000)),
            (Ok(()), Err(KeyFault::Expired))
        );
        assert_eq!(until.principal(&Arc::from("l")).tier, None);
    }

    #[test]
    fn what_is_no_record() {
        use RecordFault::{Member, NoClient, NotAnObject};
        for (text, why) in [
            ("", NotAnObject),
            ("[]", NotAnObject),
            ("MobileApp", NotAnObject),
            (r#"{"client":"a","client":"b"}"#, NotAnObject),
            ("{}", NoClient),
            (r#"{"client":null}"#, NoClient),
            (r#"{"client":7}"#, Member("client")),
            (r#"{"client":" "}"#, Member("client")),
            (r#"{"client":"a\n"}"#, Member("client")),
            (r#"{"client":"a","id":1}"#, Member("id")),
            (r#"{"client":"a","tier":{}}"#, Member("tier")),
            (r#"{"client":"a","scopes":[1]}"#, Member("scopes")),
            (r#"{"client":"a","scopes":["a b"]}"#, Member("scopes")),
            (r#"{"client":"a","scopes":true}"#, Member("scopes")),
            (r#"{"client":"a","roles":[""]}"#, Member("roles")),
            (r#"{"client":"a","rate_limit":1000}"#, Member("rate_limit")),
            (
                r#"{"client":"a","rate_limit":"0/1s"}"#,
                Member("rate_limit"),
            ),
            (
                r#"{"client":"a","rate_limit":"1/1ms"}"#,
                Member("rate_limit"),
            ),
            (r#"{"client":"a","expires":"soon"}"#, Member("expires")),
            (r#"{"client":"a","expires":-1}"#, Member("expires")),
            // The fuzzer found that milliseconds were taken for a year in which nobody would be left.
            (
                r#"{"client":"a","expires":1800000000000}"#,
                Member("expires"),
            ),
            (r#"{"client":"a","expires":1.5}"#, Member("expires")),
            (r#"{"client":"a","disabled":"yes"}"#, Member("disabled")),
        ] {
            assert_eq!(read(text).unwrap_err(), why, "{text}");
        }
        let long = format!("{{\"client\":\"a\",\"x\":\"{}\"}}", "x".repeat(MAX_RECORD));
        assert_eq!(read(&long).unwrap_err(), RecordFault::TooLarge);
    }
}
