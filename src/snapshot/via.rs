//! Our name in `Via` (RFC 9110 §7.6.3): written into every message that is passed on, and the sign
//! of a request that has been here before.

use bytes::Bytes;
use http::header::{HeaderValue, InvalidHeaderValue, VIA};
use http::{HeaderMap, Version};

/// The name, with the field values that tell of it.
#[derive(Clone, Debug)]
pub struct Via {
    name: Box<str>,
    /// Of a message that came as HTTP/1.0, 1.1, 2.
    values: [Bytes; 3],
}

impl Via {
    /// Under a name made of characters that a token may hold (RFC 9110 §5.6.2).
    pub fn new(name: &str) -> Self {
        let value = |version: &str| Bytes::from(format!("{version} {name}"));
        Self {
            values: ["1.0", "1.1", "2.0"].map(value),
            name: name.into(),
        }
    }

    /// Under a name that no other process has.
    pub fn unique() -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Self::new(&format!("tollgate-{}", &id[..16]))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to append to a message that came in this version.
    ///
    /// # Errors
    /// The name cannot stand in a field.
    pub fn value(&self, version: Version) -> Result<HeaderValue, InvalidHeaderValue> {
        let at = match version {
            Version::HTTP_09 | Version::HTTP_10 => 0,
            Version::HTTP_11 => 1,
            _ => 2,
        };
        HeaderValue::from_maybe_shared(self.values[at].clone())
    }

    /// Whether the message has been here.
    pub fn marks(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(VIA).iter();
        values.any(|value| names(value.as_bytes(), self.name.as_bytes()))
    }
}

/// Whether a list of `protocol SP name [SP comment]` has a member of this name. What stands in a
/// comment, in round brackets, is nobody's name.
fn names(value: &[u8], name: &[u8]) -> bool {
    let (mut depth, mut escaped) = (0u32, false);
    let plain = |b: &u8| {
        let commented = depth > 0;
        match b {
            _ if escaped => escaped = false,
            b'\\' if commented => escaped = true,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => (),
        }
        if commented || depth > 0 { b' ' } else { *b }
    };
    let plain: Vec<u8> = value.iter().map(plain).collect();
    plain.split(|b| *b == b',').any(|member| {
        let words = member.split(|b| matches!(b, b' ' | b'\t'));
        let second = words.filter(|word| !word.is_empty()).nth(1);
        second.is_some_and(|word| word.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_name_is_found_where_a_name_stands() {
        let ours = b"edge-1";
        for value in [
            "1.1 edge-1",
            "HTTP/1.1 Edge-1",
            "1.0 fred, 1.1 edge-1 (tollgate)",
            "1.0 fred (a, b (c)),\t2.0  edge-1",
            "1.0 fred (\\)),1.1 edge-1",
            ", ,1.1 edge-1,",
        ] {
            assert!(names(value.as_bytes(), ours), "{value}");
        }
        for value in [
            "",
            "edge-1",
            "edge-1 fred",
            "1.1 edge-10",
            "1.1 fred (1.1 edge-1)",
            "1.1 fred (a, 1.1 edge-1)",
            "1.1 fred (\\), 1.1 edge-1)",
            "1.1 fred edge-1",
            "1.1 edge-1:80",
        ] {
            assert!(!names(value.as_bytes(), ours), "{value}");
        }
    }

    #[test]
    fn the_version_is_the_one_a_message_came_in() {
        let via = Via::new("a");
        let value = |version| via.value(version).expect("a token");
        assert_eq!(value(Version::HTTP_10), "1.0 a");
        assert_eq!(value(Version::HTTP_11), "1.1 a");
        assert_eq!(value(Version::HTTP_2), "2.0 a");
    }

    #[test]
    fn a_name_that_nobody_chose_is_nobody_elses() {
        let (one, other) = (Via::unique(), Via::unique());
        assert_ne!(one.name(), other.name());
        assert_eq!(one.name().len(), "tollgate-".len() + 16);
        let mut headers = HeaderMap::new();
        headers.append(VIA, "1.1 fred".parse().expect("a value"));
        headers.append(VIA, one.value(Version::HTTP_2).expect("a value"));
        assert!(one.marks(&headers));
        assert!(!other.marks(&headers));
    }
}
