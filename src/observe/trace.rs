//! Request ids, and W3C Trace Context: which `traceparent` and `tracestate` go to the upstream.

use uuid::Uuid;

/// The length of a version 00 `traceparent` value.
const LEN: usize = 55;
/// Where the four fields of a `traceparent` begin and end.
const TRACE_ID: std::ops::Range<usize> = 3..35;
const SPAN_ID: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;
/// The only flag with a meaning here: the caller may have recorded this trace.
const SAMPLED: u8 = 0x01;
/// What of a `tracestate` is carried on (W3C Trace Context §3.3.1.1 and §3.3.1.5).
const STATE_ENTRIES: usize = 32;
const STATE_BYTES: usize = 512;

/// Whether a request id sent by a trusted caller may be kept: 1 to 128 characters, all of them
/// letters, digits or one of `. _ : / + = -`. Anything else is replaced by [`new_request_id`].
pub fn accept_request_id(id: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"._:/+=-".contains(&b);
    (1..=128).contains(&id.len()) && id.bytes().all(safe)
}

/// The length of a request id of ours.
pub const REQUEST_ID: usize = 36;

/// A new request id: a random UUID (version 4, RFC 9562 §5.4), 36 lower-case characters.
pub fn new_request_id() -> [u8; REQUEST_ID] {
    let mut id = [0; REQUEST_ID];
    Uuid::new_v4().hyphenated().encode_lower(&mut id);
    id
}

/// The trace a request belongs to and the gateway's own span in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The outgoing `traceparent`; made once, every other form is a slice of it.
    header: [u8; LEN],
    continued: bool,
}

impl TraceContext {
    /// Continues the caller's trace under a new span id, or starts a trace if `traceparent` is
    /// absent or invalid. Pass `None` if the field came more than once (§3.2.2.1 and §4.3).
    ///
    /// A trace started here is flagged as sampled: services whose sampler follows their parent
    /// then keep recording as they would without a gateway in front of them.
    pub fn continue_or_start(traceparent: Option<&str>) -> Self {
        let parent = traceparent.and_then(parse);
        let mut header = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let sampled = if let Some(parent) = parent {
            header[TRACE_ID].copy_from_slice(parent.trace_id);
            parent.sampled
        } else {
            Uuid::new_v4().simple().encode_lower(&mut header[TRACE_ID]);
            true
        };
        write_hex(new_span_id(), &mut header[SPAN_ID]);
        header[FLAGS.end - 1] = b'0' + u8::from(sampled);
        Self {
            header,
            continued: parent.is_some(),
        }
    }

    /// The trace id: 32 lower-case hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        self.text(TRACE_ID)
    }

    /// The trace id as bytes.
    pub fn trace_id_bytes(&self) -> &[u8] {
        &self.header[TRACE_ID]
    }

    /// The gateway's span id, which upstreams see as their parent: 16 lower-case hexadecimal
    /// digits.
    pub fn span_id(&self) -> &str {
        self.text(SPAN_ID)
    }

    /// Whether the caller, or the gateway for a trace it started, asks for recording.
    pub fn sampled(&self) -> bool {
        self.header[FLAGS.end - 1] == b'1'
    }

    /// Whether the caller's trace goes on here, rather than one started by the gateway.
    pub fn continued(&self) -> bool {
        self.continued
    }

    /// The `traceparent` for the upstream: version 00, 55 bytes.
    pub fn to_header(&self) -> &str {
        self.text(0..LEN)
    }

    /// What of the caller's `tracestate` is carried on: the longest run of whole entries from
    /// the left (they are the most recent) within 512 bytes and 32 entries. `None`, and nothing
    /// is carried on, if the trace was started here or any entry is malformed (§3.3).
    /// A field that came in several lines is to be joined with `,` first.
    pub fn forward_tracestate<'a>(&self, state: &'a str) -> Option<&'a str> {
        if !self.continued {
            return None;
        }
        let (mut at, mut end, mut kept) = (0, 0, 0);
        for entry in state.split(',') {
            let after = at + entry.len();
            let entry = entry.trim_matches([' ', '\t']);
            if !entry.is_empty() {
                if !valid_entry(entry) {
                    return None;
                }
                kept += 1;
                if kept <= STATE_ENTRIES && after <= STATE_BYTES {
                    end = after;
                }
            }
            at = after + 1;
        }
        Some(&state[..end]).filter(|kept| !kept.is_empty())
    }

    fn text(&self, range: std::ops::Range<usize>) -> &str {
        std::str::from_utf8(&self.header[range]).unwrap_or_default()
    }
}

/// What a valid `traceparent` says, besides the caller's span id, which nothing here needs.
#[derive(Clone, Copy)]
struct Parent<'a> {
    trace_id: &'a [u8],
    sampled: bool,
}

/// Reads a `traceparent` (§3.2.2). Version 00 has exactly 55 bytes. A higher version may go on
/// after them with a `-`; its first four fields are read as those of version 00 (§4.3).
fn parse(value: &str) -> Option<Parent<'_>> {
    let bytes = value.as_bytes();
    let (fixed, rest) = bytes.split_at_checked(LEN)?;
    let version = &fixed[..2];
    let well_ended = rest.is_empty() || (version != b"00" && rest[0] == b'-');
    let dashes = [2, 35, 52].iter().all(|&at| fixed[at] == b'-');
    let ids = [&fixed[TRACE_ID], &fixed[SPAN_ID]];
    let hex = [version, &fixed[FLAGS]].into_iter().chain(ids).all(is_hex);
    let zero = ids.iter().any(|id| id.iter().all(|&b| b == b'0'));
    if !well_ended || !dashes || !hex || zero || version == b"ff" {
        return None;
    }
    Some(Parent {
        trace_id: &fixed[TRACE_ID],
        sampled: hex_value(fixed[FLAGS.end - 1]) & SAMPLED != 0,
    })
}

fn is_hex(digits: &[u8]) -> bool {
    let lower_hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    digits.iter().all(lower_hex)
}

fn hex_value(digit: u8) -> u8 {
    if digit.is_ascii_digit() {
        digit - b'0'
    } else {
        digit.wrapping_sub(b'a').wrapping_add(10)
    }
}

/// 64 random bits that are not all zero. A version 4 UUID has six fixed bits, no two of them at
/// the same place in its halves, so the halves joined by XOR have none.
fn new_span_id() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    (high ^ low).max(1)
}

fn write_hex(value: u64, out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digit, shift) in out.iter_mut().rev().zip((0..64).step_by(4)) {
        *digit = DIGITS[(value >> shift) as usize & 0xf];
    }
}

/// One `key=value` of a `tracestate` (§3.3.1.3): the key begins with a letter or digit, may hold
/// one `@`, and has at most 256 characters; the value is 1 to 256 printable characters.
fn valid_entry(entry: &str) -> bool {
    let Some((key, value)) = entry.split_once('=') else {
        return false;
    };
    let key_char = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@')
    };
    let first = key.as_bytes().first();
    let key_ok = key.len() <= 256
        && first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && key.bytes().all(key_char)
        && key.bytes().filter(|&b| b == b'@').count() <= 1
        && !key.ends_with('@');
    let value_char = |b: u8| matches!(b, b' '..=b'~') && b != b'=';
    key_ok && (1..=256).contains(&value.len()) && value.bytes().all(value_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn request_ids_of_a_safe_charset_are_kept() {
        let made = new_request_id();
        let made = std::str::from_utf8(&made).expect("a text");
        for good in ["a", "A-1_b.c:d/e+f=", &"x".repeat(128), made] {
            assert!(accept_request_id(good), "{good}");
        }
        for bad in ["", "a b", "a\nb", "é", "a\"b", "a,b", &"x".repeat(129)] {
            assert!(!accept_request_id(bad), "{bad:?}");
        }
        assert_ne!(made.as_bytes(), new_request_id());
    }

    #[test]
    fn a_valid_trace_goes_on_under_a_new_span() {
        let context = TraceContext::continue_or_start(Some(GOOD));
        assert!(context.continued() && context.sampled());
        assert_eq!(context.trace_id(), TRACE);
        assert_ne!(context.span_id(), "00f067aa0ba902b7");
        let again = TraceContext::continue_or_start(Some(context.to_header()));
        assert!(again.continued());
        assert_eq!(again.trace_id(), TRACE);
        assert_ne!(again.span_id(), context.span_id());
    }

    #[test]
    fn flags_other_than_sampled_are_cleared() {
        for (flags, sampled) in [("00", false), ("02", false), ("03", true), ("ff", true)] {
            let value = format!("{}{flags}", &GOOD[..53]);
            let context = TraceContext::continue_or_start(Some(&value));
            assert_eq!(context.sampled(), sampled, "{flags}");
            let end = if sampled { "-01" } else { "-00" };
            assert!(context.to_header().ends_with(end));
        }
    }

    #[test]
    fn higher_versions_are_read_as_far_as_known() {
        for value in [
            GOOD.replacen("00", "cc", 1),
            format!("cc{}-what", &GOOD[2..]),
        ] {
            let context = TraceContext::continue_or_start(Some(&value));
            assert_eq!(context.trace_id(), TRACE, "{value}");
            assert!(context.to_header().starts_with("00-"));
        }
    }

    #[test]
    fn anything_else_starts_a_trace() {
        let zero_trace = GOOD.replace(TRACE, &"0".repeat(32));
        let zero_span = GOOD.replace("00f067aa0ba902b7", &"0".repeat(16));
        let bad = [
            "",
            "00",
            &GOOD[..54],
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0x", 1),
            &GOOD.replace('-', "_"),
            &format!("{GOOD}-more"),
            &format!("{GOOD} "),
            &format!(" {GOOD}"),
            &format!("cc{}more", &GOOD[2..]),
            &GOOD.replace("4bf", "4\u{e9}"),
            &zero_trace,
            &zero_span,
        ];
        for value in bad.into_iter().map(Some).chain([None]) {
            let context = TraceContext::continue_or_start(value);
            assert!(!context.continued() && context.sampled(), "{value:?}");
            assert!(parse(context.to_header()).is_some(), "{context:?}");
            assert_ne!(context.trace_id(), TRACE);
            assert_eq!(context.forward_tracestate("a=1"), None);
        }
    }

    #[test]
    fn tracestate_keeps_whole_valid_entries() {
        let context = TraceContext::continue_or_start(Some(GOOD));
        let forward = |state: &str| context.forward_tracestate(state).map(str::to_owned);
        for good in [
            "a=1",
            "rojo=00f067,congo=t61",
            "t@v=x y",
            "a=1, b=2",
            "0/a*-_=!~",
        ] {
            assert_eq!(forward(good).as_deref(), Some(good));
        }
        for bad in [
            "", ",", "a", "a=", "A=1", "=1", "a=1=2", "a=\u{e9}", "a=1,b", "a@b@c=1", "@a=1",
        ] {
            assert_eq!(forward(bad), None, "{bad:?}");
        }
        assert_eq!(forward(&format!("{}=1", "k".repeat(257))), None);
        assert_eq!(forward(&format!("k={}", "v".repeat(257))), None);
    }

    #[test]
    fn tracestate_is_cut_between_entries() {
        let context = TraceContext::continue_or_start(Some(GOOD));
        let long = vec![format!("k={}", "v".repeat(198)); 4].join(",");
        assert_eq!(context.forward_tracestate(&long), Some(&long[..401]));
        let many = vec!["a=1"; 40].join(",");
        assert_eq!(context.forward_tracestate(&many), Some(&many[..127]));
    }
}
