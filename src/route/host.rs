//! Host names: what a request says, in one spelling, and what a route asks for.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The longest name DNS can hold, in bytes and without the trailing dot (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;
/// The longest label DNS can hold, in bytes (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;

/// Why a `Host` or `:authority` was refused; answered 400 (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// No name at all.
    Empty,
    /// Two dots in a row, or a dot at the start.
    EmptyLabel,
    /// A name over 253 bytes or a label over 63.
    TooLong,
    /// Something other than ASCII letters, digits, `-`, `_` and dots.
    IllegalByte,
    /// What follows the colon is not a number from 1 to 65535.
    BadPort,
    /// Brackets without an IPv6 address in them.
    BadAddress,
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::EmptyLabel => "the host has an empty label",
            Self::TooLong => "the host is longer than 253 bytes or has a label longer than 63",
            Self::IllegalByte => "the host holds a character other than letters, digits, - and _",
            Self::BadPort => "the host has a port that is not a number from 1 to 65535",
            Self::BadAddress => "the host has brackets without an IPv6 address in them",
        })
    }
}

impl std::error::Error for HostFault {}

/// The one spelling of what a `Host` field or `:authority` says (RFC 9110 §4.2.3): lower case, the
/// port and one trailing dot cut, an IPv6 address in brackets and in its canonical form (RFC 5952).
///
/// Borrows when there is nothing to rewrite, and then allocates nothing.
///
/// # Errors
/// A [`HostFault`] when it is not a host and an optional port.
pub fn normalise(raw: &str) -> Result<Cow<'_, str>, HostFault> {
    if raw.starts_with('[') {
        return bracketed(raw);
    }
    let name = match memchr::memchr(b':', raw.as_bytes()) {
        Some(at) => {
            check_port(&raw[at + 1..])?;
            &raw[..at]
        }
        None => raw,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(HostFault::Empty);
    }
    if has_upper_case(name)? {
        Ok(Cow::Owned(name.to_ascii_lowercase()))
    } else {
        Ok(Cow::Borrowed(name))
    }
}

/// A byte no name may hold.
const ILLEGAL: u8 = 1;
const UPPER: u8 = 2;
const DOT: u8 = 4;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [ILLEGAL; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => 0,
            b'A'..=b'Z' => UPPER,
            b'.' => DOT,
            _ => ILLEGAL,
        };
        byte += 1;
    }
    table
}

/// Checks a name without port and trailing dot, and says whether it holds upper-case letters.
fn has_upper_case(name: &str) -> Result<bool, HostFault> {
    // As if a dot stood at either end: two in a row are an empty label.
    let (mut any, mut twice, mut before) = (0, 0, DOT);
    for byte in name.bytes() {
        let class = CLASS[usize::from(byte)];
        any |= class;
        twice |= class & before;
        before = class;
    }
    twice |= before;
    if any & ILLEGAL != 0 {
        return Err(HostFault::IllegalByte);
    }
    if twice & DOT != 0 {
        return Err(HostFault::EmptyLabel);
    }
    let long_label = || name.split('.').any(|label| label.len() > LONGEST_LABEL);
    if name.len() > LONGEST_NAME || (name.len() > LONGEST_LABEL && long_label()) {
        return Err(HostFault::TooLong);
    }
    Ok(any & UPPER != 0)
}

fn check_port(text: &str) -> Result<(), HostFault> {
    if text.is_empty() || text.len() > 5 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostFault::BadPort);
    }
    match text
        .bytes()
        .fold(0, |port, digit| port * 10 + u32::from(digit - b'0'))
    {
        1..=65535 => Ok(()),
        _ => Err(HostFault::BadPort),
    }
}

fn bracketed(raw: &str) -> Result<Cow<'_, str>, HostFault> {
    let end = memchr::memchr(b']', raw.as_bytes()).ok_or(HostFault::BadAddress)?;
    let address: Ipv6Addr = raw[1..end].parse().map_err(|_| HostFault::BadAddress)?;
    match raw[end + 1..].strip_prefix(':') {
        Some(port) => check_port(port)?,
        None if raw.len() > end + 1 => return Err(HostFault::BadPort),
        None => {}
    }
    let mut rest = Rest(&raw[1..end]);
    let same = fmt::write(&mut rest, format_args!("{address}")).is_ok() && rest.0.is_empty();
    if same {
        Ok(Cow::Borrowed(&raw[..=end]))
    } else {
        Ok(Cow::Owned(format!("[{address}]")))
    }
}

/// Text still to be met: writing what it starts with consumes it, anything else is an error.
struct Rest<'a>(&'a str);

impl fmt::Write for Rest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(text).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// The hosts a route answers for: one name, or every name below one (`*.example.org`).
///
/// A wildcard stands for one or more whole labels; `*.example.org` does not cover `example.org`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    wildcard: bool,
    name: Box<str>,
}

impl HostPattern {
    /// Whether this is the `*.` form.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The name in lower case, without the `*.` of a wildcard.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a host in normal form is one of these.
    pub fn matches(&self, host: &str) -> bool {
        match host.strip_suffix(&*self.name) {
            Some("") => !self.wildcard,
            Some(front) => self.wildcard && front.len() > 1 && front.ends_with('.'),
            None => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.wildcard { "*." } else { "" })?;
        f.write_str(&self.name)
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        match parse_name(wildcard, name) {
            Ok(name) => Ok(Self { wildcard, name }),
            Err(want) => Err(format!("found {text:?}, want {want}")),
        }
    }
}

/// The name of a pattern in normal form, or what should have been written.
fn parse_name(wildcard: bool, name: &str) -> Result<Box<str>, String> {
    if let Some((_, rest)) = name.split_once("://") {
        return Err(format!("a host name without a scheme, such as {rest:?}"));
    }
    if name.contains('/') {
        return Err("a host name alone; the path has a key of its own".to_owned());
    }
    if name.contains('*') {
        return Err(
            "\"*\" only as the whole first label (\"*.example.org\"), or the whole list left out"
                .to_owned(),
        );
    }
    if let Ok(address) = name.parse::<Ipv6Addr>() {
        return Err(format!("an IPv6 address in brackets, \"[{address}]\""));
    }
    let host = normalise(name).map_err(|fault| {
        format!("a host name (\"api.example.org\") or \"*.example.org\": {fault}")
    })?;
    let has_port = if name.starts_with('[') {
        !name.ends_with(']')
    } else {
        name.contains(':')
    };
    if has_port {
        let star = if wildcard { "*." } else { "" };
        return Err(format!(
            "\"{star}{host}\" without a port; ports belong to listeners"
        ));
    }
    let last = host.rsplit('.').next().unwrap_or(&host);
    if wildcard && (host.starts_with('[') || last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("a name after \"*.\"; addresses have no names below them".to_owned());
    }
    Ok(host.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normal_host_is_borrowed() {
        for (raw, want) in [
            ("example.org", "example.org"),
            ("example.org:8080", "example.org"),
            ("example.org.", "example.org"),
            ("example.org.:80", "example.org"),
            ("a_b-c", "a_b-c"),
            ("10.0.0.1:65535", "10.0.0.1"),
            ("[::1]", "[::1]"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
        ] {
            assert!(
                matches!(normalise(raw), Ok(Cow::Borrowed(host)) if host == want),
                "{raw}"
            );
        }
    }

    #[test]
    fn case_and_addresses_get_one_spelling() {
        assert_eq!(normalise("API.Example.ORG:80").unwrap(), "api.example.org");
        assert_eq!(normalise("[2001:DB8:0:0::1]:1").unwrap(), "[2001:db8::1]");
        assert_eq!(normalise("[0:0:0:0:0:0:0:1]").unwrap(), "[::1]");
    }

    #[test]
    fn every_fault_has_its_name() {
        use HostFault::*;
        let long_label = "a".repeat(64);
        let long_name = format!("{}a", "ab.".repeat(85));
        for (raw, fault) in [
            ("", Empty),
            (".", Empty),
            (":80", Empty),
            ("a..b", EmptyLabel),
            (".a", EmptyLabel),
            ("a..", EmptyLabel),
            ("..", EmptyLabel),
            (&long_label, TooLong),
            (&long_name, TooLong),
            ("a b", IllegalByte),
            ("user@a", IllegalByte),
            ("a%2e", IllegalByte),
            ("é", IllegalByte),
            ("a/b", IllegalByte),
            ("a,b", IllegalByte),
            ("*.a", IllegalByte),
            ("a\0", IllegalByte),
            ("a]", IllegalByte),
            ("a:", BadPort),
            ("a:0", BadPort),
            ("a:65536", BadPort),
            ("a:+1", BadPort),
            ("a:80:80", BadPort),
            ("a:000080", BadPort),
            ("::1", BadPort),
            ("[::1]:", BadPort),
            ("[::1]x", BadPort),
            ("[::1].", BadPort),
            ("[", BadAddress),
            ("[]", BadAddress),
            ("[::1", BadAddress),
            ("[::1%25eth0]", BadAddress),
            ("[v1.a]", BadAddress),
            ("[10.0.0.1]", BadAddress),
        ] {
            assert_eq!(normalise(raw), Err(fault), "{raw:?}");
        }
    }

    #[test]
    fn patterns_are_read_and_shown() {
        for (text, shown) in [
            ("API.example.com", "api.example.com"),
            ("*.Example.org", "*.example.org"),
            ("localhost", "localhost"),
            ("a.org.", "a.org"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]", "[::1]"),
            ("*.local", "*.local"),
        ] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_wildcard_is_one_or_more_whole_labels() {
        let pattern: HostPattern = "*.example.org".parse().unwrap();
        assert!(pattern.matches("a.example.org") && pattern.matches("a.b.example.org"));
        for host in [
            "example.org",
            "badexample.org",
            ".example.org",
            "example.org.evil",
            "",
        ] {
            assert!(!pattern.matches(host), "{host}");
        }
        let exact: HostPattern = "example.org".parse().unwrap();
        assert!(exact.matches("example.org") && !exact.matches("a.example.org"));
    }

    #[test]
    fn a_bad_pattern_says_what_to_write() {
        for (text, message) in [
            (
                "",
                "found \"\", want a host name (\"api.example.org\") or \"*.example.org\": the host is empty",
            ),
            (
                "a.org:80",
                "found \"a.org:80\", want \"a.org\" without a port; ports belong to listeners",
            ),
            (
                "*.a.org:80",
                "found \"*.a.org:80\", want \"*.a.org\" without a port; ports belong to listeners",
            ),
            (
                "[::1]:80",
                "found \"[::1]:80\", want \"[::1]\" without a port; ports belong to listeners",
            ),
            (
                "::1",
                "found \"::1\", want an IPv6 address in brackets, \"[::1]\"",
            ),
            (
                "https://a.org",
                "found \"https://a.org\", want a host name without a scheme, such as \"a.org\"",
            ),
            (
                "a.org/x",
                "found \"a.org/x\", want a host name alone; the path has a key of its own",
            ),
            (
                "*.0.0.1",
                "found \"*.0.0.1\", want a name after \"*.\"; addresses have no names below them",
            ),
        ] {
            assert_eq!(text.parse::<HostPattern>().unwrap_err(), message);
        }
        for text in ["*", "a.*.org", "*a.org", "*.*.org", "**.org"] {
            assert!(
                text.parse::<HostPattern>()
                    .unwrap_err()
                    .contains("whole first label"),
                "{text}"
            );
        }
        for text in ["*.", "a..org", "*..org", "a b", "é.org"] {
            assert!(
                text.parse::<HostPattern>()
                    .unwrap_err()
                    .contains("want a host name ("),
                "{text}"
            );
        }
    }
}
