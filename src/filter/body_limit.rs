//! The largest request body a route takes (413, RFC 9110 §15.5.14).

use super::Verdict;
use crate::observe::reason::Reason;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;

/// A bound on request bodies.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    /// The most bytes.
    pub max_bytes: u64,
}

impl BodyLimit {
    /// Judges what `Content-Length` announces; a body without one is counted as it comes.
    pub fn request(&self, headers: &HeaderMap) -> Verdict {
        let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        let bytes: Option<u64> = announced.and_then(|v| v.parse().ok());
        if bytes.is_some_and(|n| n > self.max_bytes) {
            return Verdict::refuse(Reason::BodyTooLarge);
        }
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(length: Option<&'static str>) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, http::HeaderValue::from_static(length));
        }
        BodyLimit { max_bytes: 10 }.request(&headers)
    }

    #[test]
    fn the_limit_itself_passes() {
        assert!(matches!(verdict(Some("10")), Verdict::Pass));
        assert!(matches!(verdict(Some("11")), Verdict::Refuse(_)));
        assert!(matches!(verdict(None), Verdict::Pass));
    }
}
