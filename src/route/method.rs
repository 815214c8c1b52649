//! A set of request methods: what a route takes, and what an `Allow` field says.

use std::fmt;
use std::str::FromStr;

use http::Method;

/// The methods a set can hold, in the order `Allow` shows them.
const NAMES: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const GET: u8 = 1;
const HEAD: u8 = 1 << 1;

/// A set of the usual methods. One that has GET has HEAD too (RFC 9110 §9.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MethodSet(u8);

impl MethodSet {
    /// A request's method alone; empty for one that no set can hold (TRACE, CONNECT, extensions).
    pub(super) fn only(method: &Method) -> Self {
        Self(match *method {
            Method::GET => GET,
            Method::HEAD => HEAD,
            Method::POST => 1 << 2,
            Method::PUT => 1 << 3,
            Method::PATCH => 1 << 4,
            Method::DELETE => 1 << 5,
            Method::OPTIONS => 1 << 6,
            _ => 0,
        })
    }

    /// Whether the method is in the set.
    pub fn contains(self, method: &Method) -> bool {
        self.overlaps(Self::only(method))
    }

    /// Whether some method is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is nothing in it. No set that was read from text is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The value of an `Allow` field (RFC 9110 §10.2.1): `GET, HEAD, POST`.
impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{between}{name}")?;
                between = ", ";
            }
        }
        Ok(())
    }
}

/// Reads one method, or several with commas between them.
impl FromStr for MethodSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .try_fold(Self::default(), |set, name| Ok(set.union(one(name)?)))
    }
}

fn one(name: &str) -> Result<MethodSet, String> {
    if let Some(bit) = NAMES.iter().position(|known| *known == name) {
        let bits = 1 << bit;
        return Ok(MethodSet(if bits == GET { GET | HEAD } else { bits }));
    }
    if let Some(known) = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        return Err(format!(
            "found {name:?}, want {known:?} (methods are written in upper case)"
        ));
    }
    Err(format!(
        "found {name:?}, want one of {} (leave methods out to take any)",
        NAMES.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> MethodSet {
        text.parse().unwrap()
    }

    #[test]
    fn get_brings_head() {
        assert_eq!(set("GET").to_string(), "GET, HEAD");
        assert!(set("GET").contains(&Method::HEAD));
        assert!(!set("HEAD").contains(&Method::GET));
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for bits in 1..128u8 {
            let set = MethodSet(if bits & GET != 0 { bits | HEAD } else { bits });
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        assert_eq!(set("DELETE,POST").to_string(), "POST, DELETE");
    }

    #[test]
    fn every_name_is_its_method() {
        for (bit, name) in NAMES.iter().enumerate() {
            let method: Method = name.parse().unwrap();
            assert_eq!(MethodSet::only(&method).0, 1 << bit, "{name}");
        }
        assert!(MethodSet::only(&Method::TRACE).is_empty());
        assert!(!set("GET").contains(&Method::from_bytes(b"PURGE").unwrap()));
    }

    #[test]
    fn other_tokens_are_refused() {
        assert_eq!(
            "get".parse::<MethodSet>(),
            Err("found \"get\", want \"GET\" (methods are written in upper case)".to_owned())
        );
        for text in ["", "TRACE", "CONNECT", "PURGE", "*", "GET POST", "GET,"] {
            let message = text.parse::<MethodSet>().unwrap_err();
            assert!(
                message.contains("want one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                "{message}"
            );
        }
    }
}
