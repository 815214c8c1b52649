//! The HTTP/1 request header: strict framing (RFC 9112), byte and count limits. Pure: bytes in,
//! verdict out. What passes here is all that Pingora's more forgiving parser ever sees.

pub use crate::exchange::listener::{HeadLimits as Limits, MOST_FIELDS};
use crate::observe::reason::Reason;
use crate::route::host;
use crate::route::path::may_stand_in_target;
use std::mem::MaybeUninit;

/// How long the body is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes; 0 where the request has none.
    Exactly(u64),
    /// The chunked coding delimits it.
    Chunked,
}

/// The verdict on the bytes read so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// No whole header yet.
    More,
    /// Refused, and the connection with it: what follows cannot be delimited.
    Bad(Reason, &'static str),
    /// A header of `len` bytes and what it says of the body.
    Whole {
        /// Bytes of the header.
        len: usize,
        /// The body behind it.
        body: BodyLength,
    },
}

use Head::{Bad, More, Whole};

/// Judges `bytes`, which begin where a request begins.
pub fn parse(bytes: &[u8], limits: &Limits) -> Head {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return unfinished(bytes, limits);
    };
    let len = end + 4;
    if len > limits.bytes {
        return unfinished(&bytes[..len], limits);
    }
    let bytes = &bytes[..len];
    if bare_line_feed(bytes) {
        return Bad(Reason::BadRequest, "a line ends in LF without CR");
    }
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let fields = &mut fields[..limits.fields.min(MOST_FIELDS)];
    let mut request = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        bytes,
        fields,
    );
    match parsed {
        Ok(httparse::Status::Complete(n)) if n == len => judge(&request, len, limits),
        Err(httparse::Error::TooManyHeaders) => {
            Bad(Reason::HeadersTooLarge, "too many header fields")
        }
        Err(httparse::Error::Version) if names_a_version(bytes) => {
            Bad(Reason::VersionUnsupported, "not HTTP/1.1")
        }
        _ => Bad(Reason::BadRequest, "malformed request header"),
    }
}

/// No end of the header in sight: wait, unless it is too long or too wrong already.
fn unfinished(bytes: &[u8], limits: &Limits) -> Head {
    let line = memchr::memchr(b'\n', bytes);
    if line.is_none() && bytes.len() > limits.target + 32 {
        return Bad(Reason::UriTooLong, "the request line is too long");
    }
    if bytes.len() > limits.bytes {
        return Bad(Reason::HeadersTooLarge, "the request header is too large");
    }
    if bare_line_feed(bytes) {
        return Bad(Reason::BadRequest, "a line ends in LF without CR");
    }
    let first = bytes.iter().find(|b| !matches!(b, b'\r' | b'\n'));
    if first.is_some_and(|b| !is_token(*b)) {
        return Bad(Reason::BadRequest, "not an HTTP request");
    }
    More
}

/// A bare LF ends a line for some parsers and not for others (RFC 9112 §2.2): refused. A bare CR
/// is refused by the parser.
fn bare_line_feed(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|i| i == 0 || bytes[i - 1] != b'\r')
}

/// Whether the request line has three words and the last one is of some HTTP version.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ').skip(2);
    words.next().is_some_and(|v| v.starts_with(b"HTTP/")) && words.next().is_none()
}

fn judge(request: &httparse::Request<'_, '_>, len: usize, limits: &Limits) -> Head {
    if request.version != Some(1) {
        return Bad(Reason::VersionUnsupported, "HTTP/1.0 is not served");
    }
    let target = request.path.unwrap_or_default();
    if target.len() > limits.target {
        return Bad(Reason::UriTooLong, "the request target is too long");
    }
    if !target.bytes().all(may_stand_in_target) {
        return Bad(Reason::BadRequest, "an illegal byte in the request target");
    }
    let method = request.method.unwrap_or_default();
    if method == "CONNECT" || method == "TRACE" {
        return Bad(
            Reason::MethodUnsupported,
            "CONNECT and TRACE are not served",
        );
    }
    if !target.starts_with('/') && !is_absolute(target) {
        return Bad(
            Reason::BadRequest,
            "the request target is neither a path nor a URI",
        );
    }
    let judged = framing(request.headers).and_then(|(body, named)| {
        if authority(target).is_some_and(|meant| meant.as_bytes() != named) {
            return Err("Host differs from the request target");
        }
        match std::str::from_utf8(named).map(host::normalise) {
            Ok(Ok(_)) => Ok(body),
            _ => Err("Host is not a host"),
        }
    });
    match judged {
        Ok(body) => Whole { len, body },
        Err(why) => Bad(Reason::BadRequest, why),
    }
}

/// Absolute form (RFC 9112 §3.2.2) of the two schemes that we serve.
fn is_absolute(target: &str) -> bool {
    let scheme = target.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| s.eq_ignore_ascii_case("http") || s.eq_ignore_ascii_case("https"))
}

/// The authority of a target in absolute form.
fn authority(target: &str) -> Option<&str> {
    let rest = target
        .split_once("://")
        .filter(|_| !target.starts_with('/'))?
        .1;
    Some(rest.split(['/', '?']).next().unwrap_or(rest))
}

/// Reads the fields that delimit the message (RFC 9112 §3.2, §6).
fn framing<'a>(headers: &[httparse::Header<'a>]) -> Result<(BodyLength, &'a [u8]), &'static str> {
    let (mut length, mut chunked, mut hosts, mut host) = (None, false, 0u32, &b""[..]);
    for field in headers {
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => {
                (hosts, host) = (hosts + 1, field.value);
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let parsed = content_length(field.value)?;
                if length.replace(parsed).is_some() {
                    return Err("Content-Length is repeated");
                }
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked {
                    return Err("Transfer-Encoding is repeated");
                }
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err("a transfer coding other than chunked");
                }
                chunked = true;
            }
            _ => (),
        }
    }
    match (hosts, chunked, length) {
        (0, ..) => Err("no Host"),
        (2.., ..) => Err("Host is repeated"),
        (1, true, Some(_)) => Err("Transfer-Encoding together with Content-Length"),
        (1, true, None) => Ok((BodyLength::Chunked, host)),
        (_, false, length) => Ok((BodyLength::Exactly(length.unwrap_or(0)), host)),
    }
}

fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|t| t.parse().ok())
        .ok_or("Content-Length is not a number of bytes")
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 1024,
        fields: 8,
        target: 100,
    };

    fn head(text: &str) -> Head {
        parse(text.as_bytes(), &LIMITS)
    }

    fn reason(text: &str) -> Option<Reason> {
        match head(text) {
            Bad(reason, _) => Some(reason),
            _ => None,
        }
    }

    fn body(fields: &str) -> Head {
        head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn whole_headers_with_each_kind_of_body() {
        let text = "GET /x?y HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let len = text.len() - 4;
        let none = BodyLength::Exactly(0);
        assert_eq!(head(text), Whole { len, body: none });
        let five = BodyLength::Exactly(5);
        assert!(matches!(body("Content-Length: 5\r\n"), Whole { body, .. } if body == five));
        assert!(matches!(
            body("transfer-encoding: Chunked\r\n"),
            Whole {
                body: BodyLength::Chunked,
                ..
            }
        ));
        assert!(matches!(
            head("GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            Whole { .. }
        ));
    }

    #[test]
    fn a_part_of_a_header_waits() {
        for text in ["G", "GET / HTT", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
            assert_eq!(head(text), More, "{text:?}");
        }
    }

    #[test]
    fn framing_that_two_parsers_may_read_differently_is_refused() {
        let cases = [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Host: b\r\n",
            "X: a\r\n folded\r\n",
            "X: a\nY: b\r\n",
            "X: a\rb\r\n",
            "X\u{0}: a\r\n",
        ];
        for case in cases {
            assert!(matches!(body(case), Bad(Reason::BadRequest, _)), "{case:?}");
        }
    }

    #[test]
    fn request_lines_that_are_not_one_are_refused() {
        let bad = Some(Reason::BadRequest);
        for line in [
            "GET  / HTTP/1.1",
            "GET / x HTTP/1.1",
            "GET * HTTP/1.1",
            "GET a:80 HTTP/1.1",
            "GET ftp://a/ HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /a?b=\"c\" HTTP/1.1",
            "GET /<a> HTTP/1.1",
            "GET /`a` HTTP/1.1",
            "GET http://b/ HTTP/1.1",
            "GET http://A/ HTTP/1.1",
            "GET http:// HTTP/1.1",
            "GE(T / HTTP/1.1",
        ] {
            assert_eq!(reason(&format!("{line}\r\nHost: a\r\n\r\n")), bad, "{line}");
        }
        assert_eq!(reason("GET / HTTP/1.1\r\n\r\n"), bad, "no Host");
        for host in ["", "a b", "a/b", "a:port", "u@a"] {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(reason(&text), bad, "{host:?}");
        }
        assert_eq!(reason("\u{16}\u{3}\u{1}"), bad, "a TLS hello");
        assert_eq!(reason("GET / HTTP/1.1\n"), bad, "LF alone");
    }

    #[test]
    fn versions_and_methods_that_are_not_served() {
        let old = reason("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        assert_eq!(old, Some(Reason::VersionUnsupported));
        let h2 = reason("PRI * HTTP/2.0\r\n\r\n");
        assert_eq!(h2, Some(Reason::VersionUnsupported));
        let connect = reason("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(connect, Some(Reason::MethodUnsupported));
        let trace = reason("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(trace, Some(Reason::MethodUnsupported));
    }

    #[test]
    fn limits_hold_before_and_after_the_end_of_the_header() {
        let long = "a".repeat(150);
        let uri = Some(Reason::UriTooLong);
        assert_eq!(reason(&format!("GET /{long}")), uri);
        let whole = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(reason(&whole), uri);
        let large = Some(Reason::HeadersTooLarge);
        let huge = "b".repeat(2000);
        let open = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {huge}");
        assert_eq!(reason(&open), large);
        assert_eq!(reason(&format!("{open}\r\n\r\n")), large);
        let many = "X: y\r\n".repeat(8);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
        assert_eq!(reason(&many), large);
    }
}
