//! One spelling for every request path (RFC 3986 §6), or a refusal where two readers could differ.
//!
//! The router matches exactly the bytes that are forwarded, so everything that servers are known to
//! read in different ways is either rewritten here or refused here.

use std::borrow::Cow;
use std::fmt;

/// What RFC 3986 allows raw in a path or query, and of the rest what clients send all the same and
/// Pingora carries; what it would refuse by itself, without a word from us, is refused by us.
pub fn may_stand_in_target(b: u8) -> bool {
    matches!(b, b'!' | b'$'..=b';' | b'=' | b'?'..=b'_' | b'a'..=b'~')
}

/// Why a path was refused. All of them are answered 400: the request is ambiguous or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// The path does not start with `/` (an empty one included).
    NoSlash,
    /// A `%` without two hexadecimal digits after it.
    BadEscape,
    /// `%2F`: some servers read it as a separator, some as part of a segment.
    EncodedSlash,
    /// `%5C`: as a raw backslash.
    EncodedBackslash,
    /// A raw backslash: some servers read it as `/`.
    Backslash,
    /// `%00`: ends the path for servers that keep it in a C string.
    EncodedNul,
    /// `%01` to `%1F` or `%7F`.
    EncodedControl,
    /// A raw control, space, non-ASCII byte, or one of `"<>^` `` ` `` `{|}`.
    IllegalByte,
    /// A segment that is `.` or `..` once everything from `;` (or `%3B`) on is cut.
    DotParameter,
    /// A raw `?` or `#`: what was handed over is more than a path.
    NotPathAlone,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "the path does not start with /",
            Self::BadEscape => "the path holds a % without two hexadecimal digits",
            Self::EncodedSlash => "the path holds an encoded slash (%2F)",
            Self::EncodedBackslash => "the path holds an encoded backslash (%5C)",
            Self::Backslash => "the path holds a backslash",
            Self::EncodedNul => "the path holds an encoded NUL (%00)",
            Self::EncodedControl => "the path holds an encoded control character",
            Self::IllegalByte => "the path holds a character that must be percent-encoded",
            Self::DotParameter => "the path holds a dot segment hidden by a semicolon",
            Self::NotPathAlone => "the path holds a raw ? or #",
        })
    }
}

impl std::error::Error for PathFault {}

/// Always worth a look: an escape, a `;`, or a byte no path may hold.
const LOOK: u8 = 1;
/// A slash or a dot: two of these in a row are worth a look.
const PAIR: u8 = 2;
/// May not stand raw in a path.
const ILLEGAL: u8 = 4;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [LOOK | ILLEGAL; 256];
    let mut byte = 0u8;
    while byte < 128 {
        if is_unreserved(byte) || is_delimiter(byte) {
            table[byte as usize] = 0;
        }
        byte += 1;
    }
    table[b'/' as usize] = PAIR;
    table[b'.' as usize] = PAIR;
    table[b';' as usize] = LOOK;
    table[b'%' as usize] = LOOK;
    table
}

/// RFC 3986 §2.3: means the same encoded and raw.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Legal raw in a segment, yet reserved: RFC 3986 keeps the encoded form apart, most backends do
/// not. `;` is missing on purpose, it has rules of its own. Brackets are let through as browsers
/// send them raw.
const fn is_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b'='
            | b':'
            | b'@'
            | b'['
            | b']'
    )
}

/// The one spelling of `raw`, a request path without its query (RFC 3986 §6.2.2).
///
/// Escapes of unreserved characters are decoded, all others written in upper case; runs of slashes
/// become one; then dot segments are removed (`..` at the root stays at the root). Doing it twice
/// changes nothing. Borrows when `raw` is in that form already, and then allocates nothing.
///
/// # Errors
/// A [`PathFault`] for the first thing that makes the path malformed or open to two readings.
pub fn normalise(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    let Some(rest) = raw.strip_prefix('/') else {
        return Err(PathFault::NoSlash);
    };
    if is_plain(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let mut changes = false;
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let seen = scan(segment.as_bytes())?;
        changes |= match seen.shape {
            Shape::Empty => segments.peek().is_some(),
            Shape::Dot | Shape::DotDot => true,
            Shape::Name => seen.respelled,
        };
    }
    if changes {
        rewrite(rest).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(raw))
    }
}

/// Whether nothing in the path even needs a look; the common case, one pass without branches.
fn is_plain(path: &[u8]) -> bool {
    let (mut any, mut twice, mut before) = (0, 0, 0);
    for byte in path {
        let class = CLASS[usize::from(*byte)];
        any |= class;
        twice |= class & before;
        before = class;
    }
    any & LOOK == 0 && twice & PAIR == 0
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Empty,
    Dot,
    DotDot,
    Name,
}

struct Seen {
    shape: Shape,
    /// An escape in it is written otherwise in the normal form.
    respelled: bool,
}

fn scan(segment: &[u8]) -> Result<Seen, PathFault> {
    let (mut dots, mut named, mut parameter, mut respelled) = (0usize, false, false, false);
    let mut at = 0;
    while at < segment.len() {
        let letter = letter(segment, at)?;
        match letter.byte {
            b';' => parameter = true,
            _ if parameter => {}
            b'.' => dots += 1,
            _ => named = true,
        }
        respelled |= letter.respelled;
        at += letter.width;
    }
    let shape = match (named, dots, parameter) {
        (false, 1 | 2, true) => return Err(PathFault::DotParameter),
        (false, 0, false) => Shape::Empty,
        (false, 1, false) => Shape::Dot,
        (false, 2, false) => Shape::DotDot,
        _ => Shape::Name,
    };
    Ok(Seen { shape, respelled })
}

struct Letter {
    byte: u8,
    /// How many bytes it takes in the text: 1, or 3 for an escape.
    width: usize,
    respelled: bool,
}

fn letter(text: &[u8], at: usize) -> Result<Letter, PathFault> {
    let byte = text[at];
    if byte == b'%' {
        return escape(text, at);
    }
    match byte {
        b'\\' => Err(PathFault::Backslash),
        b'?' | b'#' => Err(PathFault::NotPathAlone),
        _ if CLASS[usize::from(byte)] & ILLEGAL != 0 => Err(PathFault::IllegalByte),
        _ => Ok(Letter {
            byte,
            width: 1,
            respelled: false,
        }),
    }
}

fn escape(text: &[u8], at: usize) -> Result<Letter, PathFault> {
    let byte = escaped_byte(text, at).ok_or(PathFault::BadEscape)?;
    match byte {
        b'/' => Err(PathFault::EncodedSlash),
        b'\\' => Err(PathFault::EncodedBackslash),
        0 => Err(PathFault::EncodedNul),
        _ if byte.is_ascii_control() => Err(PathFault::EncodedControl),
        _ => {
            let lower = text[at + 1..at + 3].iter().any(u8::is_ascii_lowercase);
            let respelled = lower || is_unreserved(byte);
            Ok(Letter {
                byte,
                width: 3,
                respelled,
            })
        }
    }
}

/// The byte that the escape at `at` stands for, if there are two hexadecimal digits.
fn escaped_byte(text: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    Some((digit(at + 1)? << 4 | digit(at + 2)?) as u8)
}

fn rewrite(rest: &str) -> Result<String, PathFault> {
    // No slash at the end until the last segment says so.
    let mut out = String::with_capacity(rest.len() + 1);
    let mut open = false;
    for segment in rest.split('/') {
        let shape = scan(segment.as_bytes())?.shape;
        match shape {
            Shape::Empty | Shape::Dot => {}
            Shape::DotDot => out.truncate(out.rfind('/').unwrap_or(0)),
            Shape::Name => {
                out.push('/');
                respell(segment, &mut out)?;
            }
        }
        open = shape != Shape::Name;
    }
    if open {
        out.push('/');
    }
    Ok(out)
}

fn respell(segment: &str, out: &mut String) -> Result<(), PathFault> {
    let mut at = 0;
    while at < segment.len() {
        let letter = letter(segment.as_bytes(), at)?;
        if letter.width == 1 || is_unreserved(letter.byte) {
            out.push(char::from(letter.byte));
        } else {
            // Only the two digits can be lower case.
            out.extend(segment[at..at + 3].chars().map(|c| c.to_ascii_uppercase()));
        }
        at += letter.width;
    }
    Ok(())
}

/// How a loose backend reads a normalised path: every segment cut at its first `;` (or `%3B`), and
/// reserved characters decoded that may as well stand raw (`%3A` is `:`).
///
/// Where this reading belongs to another route than the strict one, the request could dodge that
/// route's rules (`/admin;x`); the table refuses it. Borrows when both readings are the same.
pub fn loose_reading(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    if !memchr::memchr2_iter(b';', b'%', bytes).any(|at| is_loose(bytes, at)) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        out.push('/');
        loosen(segment, &mut out);
        if out.len() == start + 1 && segments.peek().is_some() {
            out.truncate(start);
        }
    }
    Cow::Owned(out)
}

fn is_loose(text: &[u8], at: usize) -> bool {
    text[at] == b';' || escaped_byte(text, at).is_some_and(|b| b == b';' || is_delimiter(b))
}

fn loosen(segment: &str, out: &mut String) {
    let bytes = segment.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = if bytes[at] == b'%' {
            escaped_byte(bytes, at)
        } else {
            None
        };
        match escaped {
            Some(b';') => return,
            Some(byte) if is_delimiter(byte) => {
                out.push(char::from(byte));
                at += 3;
            }
            _ if bytes[at] == b';' => return,
            _ => {
                out.push(char::from(bytes[at]));
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(raw: &str) -> String {
        normalise(raw)
            .unwrap_or_else(|fault| panic!("{raw}: {fault}"))
            .into_owned()
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for raw in [
            "/",
            "/users",
            "/users/",
            "/users/42",
            "/a.b/c..d/...",
            "/a;v=1/b",
            "/caf%C3%A9",
            "/%20",
            "/.well-known/jwks.json",
            "/..a",
            "/a:b@c!$&'()*+,=[]~-_",
            "/%3B",
            "/%25",
        ] {
            assert!(
                matches!(normalise(raw), Ok(Cow::Borrowed(text)) if text == raw),
                "{raw}"
            );
        }
    }

    #[test]
    fn slashes_are_merged() {
        assert_eq!(ok("//"), "/");
        assert_eq!(ok("//users///42//"), "/users/42/");
        assert_eq!(
            ok("/a//../b"),
            "/b",
            "an empty segment is no segment for .. to take away"
        );
    }

    #[test]
    fn dot_segments_are_removed_in_every_spelling() {
        for raw in [
            "/a/./b",
            "/a/%2e/b",
            "/a/c/../b",
            "/a/c/%2e%2E/b",
            "/a/c/.%2e/b",
            "/a//c/%2E./b",
        ] {
            assert_eq!(ok(raw), "/a/b", "{raw}");
        }
        assert_eq!(ok("/a/."), "/a/");
        assert_eq!(ok("/a/b/.."), "/a/");
        assert_eq!(ok("/a/.."), "/");
        assert_eq!(ok("/users/%2e%2e/admin"), "/admin");
    }

    #[test]
    fn dot_dot_at_the_root_stays_there() {
        assert_eq!(ok("/.."), "/");
        assert_eq!(ok("/../../etc"), "/etc");
        assert_eq!(ok("/a/../../../b"), "/b");
    }

    #[test]
    fn escapes_get_one_spelling() {
        assert_eq!(ok("/%75sers/%7Ebob%2D1%5f"), "/users/~bob-1_");
        assert_eq!(ok("/caf%c3%a9"), "/caf%C3%A9");
        assert_eq!(
            ok("/a%3ab%2c"),
            "/a%3Ab%2C",
            "reserved characters stay encoded"
        );
        assert_eq!(
            ok("/%252e%252e/x%2e"),
            "/%252e%252e/x.",
            "nothing is decoded twice"
        );
    }

    #[test]
    fn every_fault_has_its_name() {
        use PathFault::*;
        for (raw, fault) in [
            ("", NoSlash),
            ("*", NoSlash),
            ("users", NoSlash),
            ("http://x/", NoSlash),
            ("/%", BadEscape),
            ("/%2", BadEscape),
            ("/%zz", BadEscape),
            ("/%2/a", BadEscape),
            ("/%%32", BadEscape),
            ("/a%2fb", EncodedSlash),
            ("/a%2Fb", EncodedSlash),
            ("/a%5cb", EncodedBackslash),
            ("/a\\b", Backslash),
            ("/a%00", EncodedNul),
            ("/%0d%0a", EncodedControl),
            ("/%1F", EncodedControl),
            ("/%7f", EncodedControl),
            ("/a b", IllegalByte),
            ("/\t", IllegalByte),
            ("/\u{7f}", IllegalByte),
            ("/\0", IllegalByte),
            ("/é", IllegalByte),
            ("/a?b", NotPathAlone),
            ("/a#b", NotPathAlone),
            ("/users/..;/admin", DotParameter),
            ("/a/.;x=1/b", DotParameter),
            ("/%2e%2e;/b", DotParameter),
            ("/..%3b/b", DotParameter),
            ("/..%3Bx", DotParameter),
            ("/.;", DotParameter),
        ] {
            assert_eq!(normalise(raw), Err(fault), "{raw:?}");
        }
        for byte in "\"<>^`{|}".chars() {
            assert_eq!(normalise(&format!("/a{byte}")), Err(IllegalByte), "{byte}");
        }
    }

    #[test]
    fn every_byte_is_either_kept_or_refused() {
        for byte in 0..128u8 {
            let raw = format!("/a{}b", char::from(byte));
            let kept = normalise(&raw).is_ok();
            let want = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]/".contains(&byte);
            assert_eq!(kept, want, "{raw:?}");
        }
    }

    #[test]
    fn the_loose_reading_cuts_parameters_and_decodes_delimiters() {
        for (path, want) in [
            ("/admin;x=1/secret", "/admin/secret"),
            ("/admin%3Bx/", "/admin/"),
            ("/;x/admin", "/admin"),
            ("/a/;x", "/a/"),
            ("/;", "/"),
            ("/v1/things%3Adelete", "/v1/things:delete"),
            ("/a%2Bb;c%2B", "/a+b"),
        ] {
            assert_eq!(loose_reading(path), want, "{path}");
        }
        for path in ["/", "/a/b", "/caf%C3%A9", "/%20/%25", "/a:b"] {
            assert!(matches!(loose_reading(path), Cow::Borrowed(_)), "{path}");
        }
    }
}
