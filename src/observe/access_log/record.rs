//! What one access line says, and its JSON.

use crate::base::decimal;
use std::io::Write as _;
use std::net::IpAddr;

/// One request as the access log tells it. A field that is `None` is left out of the line.
///
/// Durations are microseconds here and milliseconds with three decimals in the line, where they
/// are called `…_ms`. The path comes without its query: queries hold secrets.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When the request began, milliseconds since the Unix epoch; `timestamp` in the line.
    pub unix_ms: u64,
    /// The request's id.
    pub request_id: &'a [u8],
    /// The trace id, 32 hexadecimal digits.
    pub trace_id: Option<&'a [u8]>,
    /// The client's address, as found behind trusted proxies.
    pub client_addr: IpAddr,
    /// The identified client (API key or token client).
    pub client_id: Option<&'a str>,
    /// The authenticated user.
    pub user_id: Option<&'a str>,
    /// The method as sent.
    pub method: &'a str,
    /// The host as normalised, without port.
    pub host: Option<&'a str>,
    /// The path as normalised, without query.
    pub path: &'a str,
    /// The matched route.
    pub route: Option<&'a str>,
    /// The chosen upstream.
    pub upstream: Option<&'a str>,
    /// The address of the target that was last tried.
    pub target: Option<&'a str>,
    /// The status sent to the client; 0 if none was.
    pub status_code: u16,
    /// The status of a gRPC call, whoever gave it.
    pub grpc_status: Option<u16>,
    /// Why the gateway answered itself, or gave up.
    pub reason: Option<&'a str>,
    /// Why it would have been refused, had its route not only tried that out.
    pub would_refuse: Option<&'a str>,
    /// From the request's first byte to the last of its answer.
    pub latency_us: u64,
    /// Time spent deciding whether the request may pass.
    pub screen_us: Option<u64>,
    /// Time spent getting a connection to the target.
    pub connect_us: Option<u64>,
    /// From sending the request upstream to the first byte of the answer.
    pub ttfb_us: Option<u64>,
    /// From choosing a target to the last byte of its answer.
    pub upstream_us: Option<u64>,
    /// Bytes of request body received.
    pub bytes_in: u64,
    /// Bytes of response body sent.
    pub bytes_out: u64,
    /// Attempts made upstream.
    pub attempts: u32,
    /// The protocol the client spoke, such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// The listener the request came in by.
    pub listener: &'a str,
    /// The client's tier, where one is known.
    pub tier: Option<&'a str>,
}

impl Record<'_> {
    /// Appends the line to `out`: one JSON object and a line feed. All control characters, and the
    /// two Unicode line separators, are escaped: nothing a client sends can begin a new line or
    /// reach the terminal of someone reading the log.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.reserve(768);
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp(out, self.unix_ms);
        self.who(out);
        self.what(out);
        optional(out, b"\",\"reason\":\"", self.reason);
        optional(out, b"\",\"would_refuse\":\"", self.would_refuse);
        // From here on there are numbers only, so this closes the last of the strings.
        number(out, b"\",\"status_code\":", u64::from(self.status_code));
        if let Some(status) = self.grpc_status {
            number(out, b",\"grpc_status\":", u64::from(status));
        }
        self.spent(out);
        out.extend_from_slice(b"}\n");
    }

    fn who(&self, out: &mut Vec<u8>) {
        bytes(out, b"\",\"request_id\":\"", self.request_id);
        if let Some(id) = self.trace_id {
            bytes(out, b"\",\"trace_id\":\"", id);
        }
        out.extend_from_slice(b"\",\"client_addr\":\"");
        address(out, self.client_addr);
        optional(out, b"\",\"client_id\":\"", self.client_id);
        optional(out, b"\",\"user_id\":\"", self.user_id);
        optional(out, b"\",\"tier\":\"", self.tier);
    }

    fn what(&self, out: &mut Vec<u8>) {
        text(out, b"\",\"listener\":\"", self.listener);
        text(out, b"\",\"protocol\":\"", self.protocol);
        text(out, b"\",\"method\":\"", self.method);
        optional(out, b"\",\"host\":\"", self.host);
        text(out, b"\",\"path\":\"", self.path);
        optional(out, b"\",\"route\":\"", self.route);
        optional(out, b"\",\"upstream\":\"", self.upstream);
        optional(out, b"\",\"target\":\"", self.target);
    }

    fn spent(&self, out: &mut Vec<u8>) {
        millis(out, b",\"latency_ms\":", Some(self.latency_us));
        millis(out, b",\"screen_ms\":", self.screen_us);
        millis(out, b",\"connect_ms\":", self.connect_us);
        millis(out, b",\"ttfb_ms\":", self.ttfb_us);
        millis(out, b",\"upstream_ms\":", self.upstream_us);
        number(out, b",\"attempts\":", u64::from(self.attempts));
        number(out, b",\"bytes_in\":", self.bytes_in);
        number(out, b",\"bytes_out\":", self.bytes_out);
    }
}

// Keys are arrays rather than slices: their length is then known where they are copied.

fn optional<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: Option<&str>) {
    if let Some(value) = value {
        text(out, key, value);
    }
}

/// Appends a key and a string. The key begins by closing the string before it and ends by opening
/// its own, which the next key closes.
fn text<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: &str) {
    bytes(out, key, value.as_bytes());
}

/// As [`text`], for what is one without having been looked at.
fn bytes<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: &[u8]) {
    out.extend_from_slice(key);
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        escaped(out, value);
    }
}

/// Whether every byte is printable ASCII other than quote and backslash, as nearly always. Eight
/// bytes are looked at together; the last eight may overlap those before.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    if words.iter().any(|&word| has_odd(word)) {
        return false;
    }
    match bytes.last_chunk::<8>() {
        Some(&last) => rest.is_empty() || !has_odd(last),
        None => !rest.iter().any(|&b| NEEDS_CARE[usize::from(b)] || b > 0x7e),
    }
}

/// Whether any of eight bytes is a control, quote, backslash or not ASCII. In each test a byte's
/// top bit tells; a borrow or carry out of a byte can only come from one that tells as well.
fn has_odd(bytes: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(bytes);
    let below_space = word.wrapping_sub(ONES * 0x20);
    let is_quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
    let is_backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    let above_tilde = word.wrapping_add(ONES) | word;
    (below_space | is_quote | is_backslash | above_tilde) & TOPS != 0
}

/// Appends text of which some may need escaping.
#[cold]
fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut clean = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if NEEDS_CARE[usize::from(byte)] {
            clean = escape(out, bytes, clean, at);
        }
    }
    out.extend_from_slice(&bytes[clean..]);
}

/// The bytes that must be, or may begin a character that must be, escaped: controls, the quote,
/// the backslash, and the lead bytes of U+0080 to U+009F and of U+2028 and U+2029.
const NEEDS_CARE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table[0xc2] = true;
    table[0xe2] = true;
    table
};

/// Appends `bytes[clean..at]` and the character at `at`, escaped; returns where the next clean
/// run begins. A character that turns out to be harmless is left to that run.
fn escape(out: &mut Vec<u8>, bytes: &[u8], clean: usize, at: usize) -> usize {
    let rest = &bytes[at..];
    let (code, len) = match *rest {
        [byte, ..] if byte < 0x80 => (u32::from(byte), 1),
        [0xc2, low @ 0x80..=0x9f, ..] => (u32::from(low), 2),
        [0xe2, 0x80, low @ 0xa8..=0xa9, ..] => (0x2000 + u32::from(low & 0x3f), 3),
        _ => return clean,
    };
    out.extend_from_slice(&bytes[clean..at]);
    match code {
        0x22 => out.extend_from_slice(b"\\\""),
        0x5c => out.extend_from_slice(b"\\\\"),
        0x0a => out.extend_from_slice(b"\\n"),
        0x0d => out.extend_from_slice(b"\\r"),
        0x09 => out.extend_from_slice(b"\\t"),
        _ => {
            let digit = |shift: u32| b"0123456789abcdef"[(code >> shift) as usize & 0xf];
            out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
        }
    }
    at + len
}

fn number<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: u64) {
    out.extend_from_slice(key);
    let mut digits = [0_u8; 20];
    let from = decimal::digits(&mut digits, value);
    out.extend_from_slice(&digits[from..]);
}

fn millis<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], micros: Option<u64>) {
    let Some(micros) = micros else { return };
    out.extend_from_slice(key);
    let mut digits = [0_u8; 24];
    let (whole, fraction) = (micros / 1000, (micros % 1000) as u32);
    let [tenth, hundredth] = pair(fraction / 10);
    digits[20..].copy_from_slice(&[b'.', tenth, hundredth, pair(fraction % 10)[1]]);
    let from = decimal::digits(&mut digits[..20], whole);
    out.extend_from_slice(&digits[from..]);
}

/// The two decimal digits of a number below 100.
fn pair(n: u32) -> [u8; 2] {
    [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8]
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    let v4 = match address {
        IpAddr::V4(v4) => v4,
        // Writing to a Vec cannot fail.
        IpAddr::V6(v6) => return drop(write!(out, "{v6}")),
    };
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        let octet = u32::from(octet);
        if octet >= 100 {
            out.push(b'0' + (octet / 100) as u8);
        }
        let [tens, ones] = pair(octet % 100);
        if octet >= 10 {
            out.push(tens);
        }
        out.push(ones);
    }
}

/// Appends an RFC 3339 time in UTC with milliseconds, `2026-01-31T23:59:59.999Z`. Years beyond
/// 9999 are shown as 9999.
fn timestamp(out: &mut Vec<u8>, unix_ms: u64) {
    /// 9999-12-31T23:59:59.999Z.
    const LAST_MS: u64 = 253_402_300_799_999;
    let unix_ms = unix_ms.min(LAST_MS);
    let (days, ms) = (unix_ms / 86_400_000, (unix_ms % 86_400_000) as u32);
    let (year, month, day) = date(days as u32);
    let second = ms / 1000;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    text[..2].copy_from_slice(&pair(year / 100));
    text[2..4].copy_from_slice(&pair(year % 100));
    text[5..7].copy_from_slice(&pair(month));
    text[8..10].copy_from_slice(&pair(day));
    text[11..13].copy_from_slice(&pair(hour));
    text[14..16].copy_from_slice(&pair(minute));
    text[17..19].copy_from_slice(&pair(second % 60));
    text[20..22].copy_from_slice(&pair(ms % 1000 / 10));
    text[22] = pair(ms % 10)[1];
    out.extend_from_slice(&text);
}

/// Year, month and day (both from 1) of a day counted from 1970-01-01. Years are taken to begin
/// on 1 March, which puts the leap day last and makes month lengths a straight line.
fn date(days: u32) -> (u32, u32, u32) {
    // 0000-03-01 is 719,468 days before the epoch; 400 years are 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year + u32::from(month <= 2);
    (year, month, day - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::net::{Ipv4Addr, Ipv6Addr};

    const BARE: Record<'_> = Record {
        unix_ms: 1_700_000_000_123,
        request_id: b"r-1",
        trace_id: None,
        client_addr: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        client_id: None,
        user_id: None,
        method: "GET",
        host: None,
        path: "/users/42",
        route: None,
        upstream: None,
        target: None,
        status_code: 404,
        grpc_status: None,
        reason: None,
        would_refuse: None,
        latency_us: 1_234_567,
        screen_us: None,
        connect_us: None,
        ttfb_us: None,
        upstream_us: None,
        bytes_in: 0,
        bytes_out: u64::MAX,
        attempts: 0,
        protocol: "HTTP/1.1",
        listener: "public",
        tier: None,
    };

    fn line(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        record.write_json(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        assert_eq!(
            line(&BARE),
            "{\"timestamp\":\"2023-11-14T22:13:20.123Z\",\"request_id\":\"r-1\",\
             \"client_addr\":\"203.0.113.9\",\"listener\":\"public\",\"protocol\":\"HTTP/1.1\",\
             \"method\":\"GET\",\"path\":\"/users/42\",\"status_code\":404,\
             \"latency_ms\":1234.567,\"attempts\":0,\"bytes_in\":0,\
             \"bytes_out\":18446744073709551615}\n"
        );
    }

    #[test]
    fn everything_known_is_told() {
        let full = Record {
            trace_id: Some(b"4bf92f3577b34da6a3ce929d0e0e4736"),
            client_addr: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            client_id: Some("app"),
            user_id: Some("u-7"),
            host: Some("api.example.com"),
            route: Some("users"),
            upstream: Some("users-v1"),
            target: Some("10.0.1.22:3001"),
            grpc_status: Some(4),
            reason: Some("upstream_timeout"),
            would_refuse: Some("token_expired"),
            screen_us: Some(45),
            connect_us: Some(0),
            ttfb_us: Some(1_009),
            upstream_us: Some(60_000_000),
            tier: Some("gold"),
            ..BARE
        };
        let value: Value = serde_json::from_str(&line(&full)).expect("JSON");
        let want = json!({
            "timestamp": "2023-11-14T22:13:20.123Z", "request_id": "r-1",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "client_addr": "2001:db8::1",
            "client_id": "app", "user_id": "u-7", "tier": "gold", "listener": "public",
            "protocol": "HTTP/1.1", "method": "GET", "host": "api.example.com",
            "path": "/users/42", "route": "users", "upstream": "users-v1",
            "target": "10.0.1.22:3001", "status_code": 404, "grpc_status": 4,
            "reason": "upstream_timeout", "would_refuse": "token_expired",
            "latency_ms": 1234.567, "screen_ms": 0.045, "connect_ms": 0.0, "ttfb_ms": 1.009,
            "upstream_ms": 60000.0, "attempts": 0, "bytes_in": 0, "bytes_out": u64::MAX,
        });
        assert_eq!(value, want);
    }

    #[test]
    fn no_odd_byte_is_overlooked() {
        for byte in 0..=u8::MAX {
            let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            for len in 1..20 {
                for at in 0..len {
                    let mut bytes = vec![b'~'; len];
                    bytes[at] = byte;
                    assert_eq!(is_plain(&bytes), plain, "{byte} at {at} of {len}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn numbers_are_written_whole() {
        for value in [0, 9, 10, 99, 100, 101, 255, 1_000_000, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, b"", value);
            assert_eq!(out, value.to_string().into_bytes());
        }
        for octet in 0..=255 {
            let v4 = Ipv4Addr::new(octet, 0, 10, 255);
            let mut out = Vec::new();
            address(&mut out, IpAddr::V4(v4));
            assert_eq!(out, v4.to_string().into_bytes());
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let mut out = Vec::new();
            timestamp(&mut out, ms);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..80_000 {
            assert_eq!(date(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = 28 + u32::from(leap);
            let length = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            day += 1;
            if day > length[month as usize - 1] {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back_the_same(
            path in any::<String>(), user in any::<Option<String>>(),
            odd in "[\u{0}-\u{20}\"\\\\\u{7f}-\u{a1}\u{2020}-\u{2030}a]{0,40}",
            latency in any::<u64>(), v6 in any::<Ipv6Addr>(),
        ) {
            let record = Record {
                path: &path, user_id: user.as_deref(), host: Some(&odd),
                latency_us: latency, client_addr: IpAddr::V6(v6), ..BARE
            };
            let line = line(&record);
            let (body, end) = line.split_at(line.len() - 1);
            prop_assert_eq!(end, "\n");
            let breaks = |c: char| c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c);
            prop_assert!(!body.chars().any(breaks), "{:?}", body);
            let value: Value = serde_json::from_str(body).expect("JSON");
            prop_assert_eq!(value["path"].as_str(), Some(path.as_str()));
            prop_assert_eq!(value["host"].as_str(), Some(odd.as_str()));
            prop_assert_eq!(value.get("user_id").and_then(Value::as_str), user.as_deref());
            prop_assert_eq!(&value["client_addr"], &Value::from(v6.to_string()));
            let latency_ms = value["latency_ms"].as_f64().expect("number");
            prop_assert!((latency_ms - latency as f64 / 1000.0).abs() <= latency_ms * 1e-12);
        }
    }
}
