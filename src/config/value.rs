//! Values that are written as one text and judged on their own.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::ops::Deref;
use std::str::FromStr;

use super::decode::Value;
use super::error::message;
use super::spelling::hint;
use crate::base::net::Network;
use crate::base::units::{ByteSize, Percent, Rate, Span};
use crate::identity::alg::Alg;
use crate::identity::rfc3339;
use crate::route::{HostPattern, MethodSet, PathPattern};

/// Types that know how to read themselves: what they are in words, what stands in for a faulty
/// one, and their size if they can have a range.
macro_rules! plain_values {
    ($($Type:ty: $what:literal, $stand_in:expr $(, $amount:expr)?;)+) => {$(
        impl Value for $Type {
            fn parse(text: &str) -> Result<Self, String> {
                read(text, $what)
            }

            fn stand_in() -> Self {
                $stand_in
            }

            $(fn amount(&self) -> Option<u64> {
                let amount: fn(&Self) -> u64 = $amount;
                Some(amount(self))
            })?
        }
    )+};
}

plain_values! {
    Span: "a duration", Span::default(), |span| span.as_ms();
    ByteSize: "a size", ByteSize::default(), |size| size.0;
    Percent: "a percentage", Percent::default(), |percent| (percent.0 * 1e6) as u64;
    Rate: "a rate", Rate { count: 1, per: std::time::Duration::from_secs(1) };
    Network: "a network", fixed("0.0.0.0/32");
    Alg: "an algorithm known here", Alg::EdDSA;
    HostPattern: "a host pattern", fixed("stand-in.invalid");
    MethodSet: "a method known here", MethodSet::default();
}

fn read<T: FromStr<Err: Display>>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|e| message!("is not {what} ({e})"))
}

fn fixed<T: FromStr<Err = String>>(text: &str) -> T {
    text.parse().expect("a literal of this file")
}

macro_rules! numbers {
    ($($Number:ty)+) => {$(
        impl Value for $Number {
            fn parse(text: &str) -> Result<Self, String> {
                if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(message!("is not a whole number (found `{text}`, want digits only)"));
                }
                // Too large for the type is out of every range too.
                Ok(text.parse().unwrap_or(<$Number>::MAX))
            }

            fn stand_in() -> Self {
                0
            }

            fn amount(&self) -> Option<u64> {
                Some(u64::from(*self))
            }
        }
    )+};
}

numbers! { u16 u32 u64 }

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(message!(
                "is neither yes nor no (found `{text}`, want `true` or `false`)"
            )),
        }
    }

    fn stand_in() -> Self {
        false
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(message!(
                "is empty (found a text of no characters, want some)"
            ));
        }
        if text.contains(char::is_control) {
            return Err(message!(
                "holds a line break or another control character (found one, want a single line of printable text)"
            ));
        }
        Ok(text.to_owned())
    }

    fn stand_in() -> Self {
        Self::new()
    }
}

impl Value for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| message!("is not an address to listen on (found `{text}`, want an IP address and a port such as `0.0.0.0:8080` or `[::]:8080`)"))
    }

    fn stand_in() -> Self {
        Self::from(([0, 0, 0, 0], 0))
    }
}

impl Value for PathPattern {
    fn parse(text: &str) -> Result<Self, String> {
        PathPattern::prefix(text).map_err(|e| message!("is not a path to match ({e})"))
    }

    fn stand_in() -> Self {
        PathPattern::prefix("/stand-in").expect("a literal of this file")
    }
}

/// A path that is matched character by character.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactPath(pub PathPattern);

impl Value for ExactPath {
    fn parse(text: &str) -> Result<Self, String> {
        let pattern = PathPattern::exact(text);
        pattern
            .map(Self)
            .map_err(|e| message!("is not a path to match exactly ({e})"))
    }

    fn stand_in() -> Self {
        Self(PathPattern::stand_in())
    }
}

/// The name of something in the config: 1 to 64 letters, digits, `-`, `_` and `.`; shown in logs,
/// metrics and messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Value for Name {
    fn parse(text: &str) -> Result<Self, String> {
        let usable = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(usable) {
            return Ok(Self(text.to_owned()));
        }
        Err(message!(
            "is not a name (found `{text}`, want 1 to 64 letters, digits, `-`, `_` or `.`)"
        ))
    }

    fn stand_in() -> Self {
        Self(String::new())
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A header's name as written (RFC 9110 §5.1); equal to another that differs in case only.
#[derive(Clone, Debug)]
pub struct Header(String);

/// Headers that say something else already: framing, the connection, where a request came from,
/// credentials and traces.
const TAKEN: [&str; 26] = [
    "authorization",
    "client-cert",
    "client-cert-chain",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "server",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "via",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
];

impl Header {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the HTTP library has it, in lower case.
    pub fn name(&self) -> http::HeaderName {
        http::HeaderName::from_bytes(self.0.as_bytes()).expect("checked when it was read")
    }
}

impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Value for Header {
    fn parse(text: &str) -> Result<Self, String> {
        if http::HeaderName::from_bytes(text.as_bytes()).is_err() {
            return Err(message!(
                "is not the name of a header (found `{text}`, want letters, digits and `-` such as `X-User-ID`)"
            ));
        }
        if text.contains('_') {
            let want = text.replace('_', "-");
            return Err(message!(
                "is a header that never arrives (found `{text}`, want `{want}`: names with `_` are dropped, as many servers mistake them for the ones with `-`)"
            ));
        }
        let lower = text.to_ascii_lowercase();
        if TAKEN.contains(&lower.as_str()) || lower.starts_with("x-forwarded-") {
            return Err(message!(
                "is a header that has a meaning of its own (found `{text}`, want another, such as one that starts with `X-`)"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn stand_in() -> Self {
        Self("x-stand-in".to_owned())
    }
}

/// One scope (RFC 6749 §3.3): printable ASCII without spaces, `"` and `\`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);

impl Value for Scope {
    fn parse(text: &str) -> Result<Self, String> {
        let usable = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if !text.is_empty() && text.bytes().all(usable) {
            return Ok(Self(text.to_owned()));
        }
        Err(message!(
            "is not one scope (found `{text}`, want printable ASCII without spaces, such as `read:orders`; write several as a list)"
        ))
    }

    fn stand_in() -> Self {
        Self(String::new())
    }
}

impl Deref for Scope {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A point in time, in Unix seconds, written as RFC 3339 has it, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Value for Timestamp {
    fn parse(text: &str) -> Result<Self, String> {
        let seconds = rfc3339::parse(text);
        seconds
            .map(Self)
            .map_err(|e| message!("is not a point in time ({e})"))
    }

    fn stand_in() -> Self {
        Self(u64::MAX)
    }
}

/// A path to ask for, with or without a query (RFC 9112 §3.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath(String);

impl Value for RequestPath {
    fn parse(text: &str) -> Result<Self, String> {
        let sound = http::uri::PathAndQuery::from_str(text).is_ok() && !text.contains('#');
        if text.starts_with('/') && sound {
            return Ok(Self(text.to_owned()));
        }
        Err(message!(
            "is not a path to ask for (found `{text}`, want one that starts with `/`, such as `/health`)"
        ))
    }

    fn stand_in() -> Self {
        Self("/".to_owned())
    }
}

impl Deref for RequestPath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// An address on the web: `http` or `https`, a host, a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    uri: http::Uri,
}

impl Url {
    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is fetched over TLS.
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Whether the host is this machine itself.
    pub fn is_loopback(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback())
    }
}

impl Value for Url {
    fn parse(text: &str) -> Result<Self, String> {
        let uri: Option<http::Uri> = text.parse().ok();
        let scheme = uri
            .as_ref()
            .and_then(http::Uri::scheme_str)
            .unwrap_or_default();
        let authority = uri.as_ref().and_then(http::Uri::authority);
        if authority.is_some_and(|a| a.as_str().contains('@')) {
            return Err(message!(
                "is an address with a user's name or password in it (found one, want the address without)"
            ));
        }
        // The fetcher has a reader of its own; both have to agree that it is one.
        let fetchable = reqwest::Url::parse(text).is_ok() && !text.contains('#');
        match uri {
            Some(uri) if matches!(scheme, "http" | "https") && fetchable => {
                let text = text.to_owned();
                Ok(Self { text, uri })
            }
            _ => {
                let known = ["https", "http"];
                let hint = if known.contains(&scheme) {
                    String::new() // it is something else that is wrong
                } else {
                    hint(scheme, known.into_iter())
                };
                Err(message!(
                    "is not a web address{hint} (found `{text}`, want one such as `https://auth.example.com/keys`)"
                ))
            }
        }
    }

    fn stand_in() -> Self {
        Self {
            text: String::new(),
            uri: http::Uri::default(),
        }
    }
}
