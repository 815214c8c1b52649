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

/// The longest method: more than any registered one has.
const MOST_METHOD: usize = 32;
/// Bytes of empty lines before a request that come together with it.
const MOST_EMPTY: usize = 16;
/// The longest body or chunk, in bytes; a larger number is negative for some parsers.
pub const MOST_BYTES: u64 = i64::MAX as u64;

/// Why a header is refused.
type Fault = (Reason, &'static str);

const MALFORMED: Fault = bad("malformed request header");
const UNKNOWN_METHOD: Fault = (Reason::MethodUnsupported, "a method that nobody knows");

const fn bad(why: &'static str) -> Fault {
    (Reason::BadRequest, why)
}

/// Bytes of the empty lines that `bytes` begin with; RFC 9112 §2.2 has them skipped before a
/// request. A CR or LF alone is no empty line.
pub fn empty_lines(bytes: &[u8]) -> usize {
    2 * bytes.chunks(2).take_while(|pair| pair == b"\r\n").count()
}

/// Judges `bytes`, which begin where a request begins, a few empty lines before it aside.
pub fn parse(bytes: &[u8], limits: &Limits) -> Head {
    let (head, _) = read(bytes, limits, |_| Some(()));
    head
}

/// As [`parse`]; and of a header that passes, what `note` takes down. Nothing of it, and it is
/// refused.
pub fn read<T>(
    bytes: &[u8],
    limits: &Limits,
    note: impl FnOnce(&httparse::Request<'_, '_>) -> Option<T>,
) -> (Head, Option<T>) {
    let skipped = empty_lines(bytes);
    if skipped > MOST_EMPTY {
        return (Bad(Reason::BadRequest, "too many empty lines"), None);
    }
    match header(&bytes[skipped..], limits, note) {
        Ok(Some((len, body, noted))) => {
            let len = skipped + len;
            (Whole { len, body }, Some(noted))
        }
        Ok(None) => (More, None),
        Err((reason, why)) => (Bad(reason, why), None),
    }
}

/// The length of the header, what it says of the body, and what is noted of it; nothing where it is
/// not whole yet.
fn header<T>(
    bytes: &[u8],
    limits: &Limits,
    note: impl FnOnce(&httparse::Request<'_, '_>) -> Option<T>,
) -> Result<Option<(usize, BodyLength, T)>, Fault> {
    let (end, bare) = scan(bytes);
    let Some(len) = end.filter(|len| *len <= limits.bytes) else {
        return unfinished(&bytes[..end.unwrap_or(bytes.len())], bare, limits).map(|()| None);
    };
    let bytes = &bytes[..len];
    if bare {
        return Err(bad("a line ends in LF without CR"));
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
        Ok(httparse::Status::Complete(n)) if n == len => {
            let body = judge(&request, limits)?;
            let noted = note(&request).ok_or(MALFORMED)?;
            Ok(Some((len, body, noted)))
        }
        Err(httparse::Error::TooManyHeaders) => {
            Err((Reason::HeadersTooLarge, "too many header fields"))
        }
        Err(httparse::Error::Version) if names_a_version(line(bytes)) => {
            Err((Reason::VersionUnsupported, "not HTTP/1.1"))
        }
        _ => Err(MALFORMED),
    }
}

/// No end of the header in sight: wait, unless it is too long or too wrong already.
fn unfinished(bytes: &[u8], bare: bool, limits: &Limits) -> Result<(), Fault> {
    let complete = memchr::memchr(b'\n', bytes).is_some();
    let method = bytes.iter().take_while(|b| is_token(**b)).count();
    if method > MOST_METHOD {
        return Err(UNKNOWN_METHOD);
    }
    if !complete && bytes.len() > limits.target + MOST_METHOD {
        return Err((Reason::UriTooLong, "the request line is too long"));
    }
    if bytes.len() > limits.bytes {
        return Err((Reason::HeadersTooLarge, "the request header is too large"));
    }
    if bare {
        return Err(bad("a line ends in LF without CR"));
    }
    // An empty line may still be coming before the request.
    let begun = !bytes.is_empty() && bytes != b"\r";
    let is_method = method > 0 && bytes.get(method).is_none_or(|b| *b == b' ');
    if (begun && !is_method) || (complete && !names_a_version(line(bytes))) {
        return Err(bad("not an HTTP request"));
    }
    Ok(())
}

/// Where the header ends, behind its empty line; and whether a bare LF comes before that, which ends a
/// line for some parsers and not for others (RFC 9112 §2.2): refused. A bare CR is refused by the
/// parser.
fn scan(bytes: &[u8]) -> (Option<usize>, bool) {
    let (mut line, mut bare) = (0, false);
    for at in memchr::memchr_iter(b'\n', bytes) {
        match &bytes[line..at] {
            b"\r" if line >= 2 && bytes[line - 2] == b'\r' => return (Some(at + 1), bare),
            [.., b'\r'] => (),
            _ => bare = true,
        }
        line = at + 1;
    }
    (None, bare)
}

/// The first line, without its end.
fn line(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == b'\r').next().unwrap_or_default()
}

/// Whether a request line has three words and the last one is of some HTTP version.
fn names_a_version(line: &[u8]) -> bool {
    let mut words = line.split(|b| *b == b' ').skip(2);
    words.next().is_some_and(|v| v.starts_with(b"HTTP/")) && words.next().is_none()
}

fn judge(request: &httparse::Request<'_, '_>, limits: &Limits) -> Result<BodyLength, Fault> {
    if request.version != Some(1) {
        return Err((Reason::VersionUnsupported, "HTTP/1.0 is not served"));
    }
    let target = request.path.unwrap_or_default();
    if target.len() > limits.target {
        return Err((Reason::UriTooLong, "the request target is too long"));
    }
    if !target.bytes().all(may_stand_in_target) {
        return Err(bad("an illegal byte in the request target"));
    }
    let method = request.method.unwrap_or_default();
    if method == "CONNECT" || method == "TRACE" {
        let why = "CONNECT and TRACE are not served";
        return Err((Reason::MethodUnsupported, why));
    }
    if method.len() > MOST_METHOD {
        return Err(UNKNOWN_METHOD);
    }
    let whole = target == "*" && method == "OPTIONS";
    if !target.starts_with('/') && !is_absolute(target) && !whole {
        return Err(bad("the request target is neither a path nor a URI"));
    }
    let (body, named) = framing(request.headers)?;
    if authority(target).is_some_and(|meant| meant.as_bytes() != named) {
        return Err(bad("Host differs from the request target"));
    }
    match std::str::from_utf8(named).map(host::normalise) {
        Ok(Ok(_)) => Ok(body),
        _ => Err(bad("Host is not a host")),
    }
}

/// Absolute form (RFC 9112 §3.2.2) of the two schemes that we serve.
fn is_absolute(target: &str) -> bool {
    let scheme = target.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| s.eq_ignore_ascii_case("http") || s.eq_ignore_ascii_case("https"))
}

/// The authority of a target in absolute form.
fn authority(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return None;
    }
    let (_, rest) = target.split_once("://")?;
    Some(rest.split(['/', '?']).next().unwrap_or(rest))
}

/// Reads the fields that delimit the message (RFC 9112 §3.2, §6).
fn framing<'a>(headers: &[httparse::Header<'a>]) -> Result<(BodyLength, &'a [u8]), Fault> {
    let (mut length, mut chunked, mut hosts, mut host) = (None, false, 0u32, &b""[..]);
    for field in headers {
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => {
                (hosts, host) = (hosts + 1, field.value);
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let parsed = content_length(field.value)?;
                if length.replace(parsed).is_some() {
                    return Err(bad("Content-Length is repeated"));
                }
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked {
                    return Err(bad("Transfer-Encoding is repeated"));
                }
                coding(field.value)?;
                chunked = true;
            }
            _ => (),
        }
    }
    match (hosts, chunked, length) {
        (0, ..) => Err(bad("no Host")),
        (2.., ..) => Err(bad("Host is repeated")),
        (1, true, Some(_)) => Err(bad("Transfer-Encoding together with Content-Length")),
        (1, true, None) => Ok((BodyLength::Chunked, host)),
        (_, false, length) => Ok((BodyLength::Exactly(length.unwrap_or(0)), host)),
    }
}

/// The only coding we know is `chunked`. Another one in front of it is not implemented; without
/// `chunked` at the end nobody knows where the body ends (RFC 9112 §6.1, §6.3).
fn coding(value: &[u8]) -> Result<(), Fault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut names = value.rsplit(|b| *b == b',').map(<[u8]>::trim_ascii);
    let framed = names.next().is_some_and(is_chunked);
    if framed && names.all(|name| name.iter().all(|b| is_token(*b)) && !is_chunked(name)) {
        return Err((Reason::CodingUnsupported, "only chunked is served"));
    }
    Err(bad("a transfer coding other than chunked"))
}

fn is_chunked(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"chunked")
}

fn content_length(value: &[u8]) -> Result<u64, Fault> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|t| t.parse().ok())
        .filter(|n| *n <= MOST_BYTES)
        .ok_or(bad("Content-Length is not a number of bytes"))
}

/// `tchar` of RFC 9110 §5.6.2.
pub fn is_token(b: u8) -> bool {
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
        for line in ["GET http://a/x", "OPTIONS *"] {
            let text = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(matches!(head(&text), Whole { .. }), "{line}");
        }
    }

    #[test]
    fn a_part_of_a_header_waits() {
        let text = "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(head(&text[..end]), More, "{:?}", &text[..end]);
        }
        assert!(matches!(head(text), Whole { len, .. } if len == text.len()));
    }

    /// What is wrong already is not waited for: the rest of it may never come.
    #[test]
    fn a_part_that_no_request_begins_with_is_refused_at_once() {
        for (text, want) in [
            ("\n", Reason::BadRequest),
            ("\rG", Reason::BadRequest),
            ("\r\r", Reason::BadRequest),
            (" GET", Reason::BadRequest),
            ("GE(T", Reason::BadRequest),
            ("GET\t/", Reason::BadRequest),
            ("GET /\r\n", Reason::BadRequest),
            ("GET / http/1.1\r\n", Reason::BadRequest),
            ("GET / x HTTP/1.1\r\n", Reason::BadRequest),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG",
                Reason::MethodUnsupported,
            ),
        ] {
            assert_eq!(reason(text), Some(want), "{text:?}");
        }
        assert_eq!(reason(&"\r\n".repeat(9)), Some(Reason::BadRequest));
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
            "Content-Length: 9223372036854775808\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
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
        let unknown = body("Transfer-Encoding: gzip, chunked\r\n");
        assert!(matches!(unknown, Bad(Reason::CodingUnsupported, _)));
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
        let long = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(33));
        assert_eq!(reason(&long), Some(Reason::MethodUnsupported));
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
