//! UTC timestamps as RFC 3339 §5.6 writes them, to and from Unix seconds.

/// Unix seconds of a UTC time such as `2027-01-31T00:00:00Z`. Years 1970 to 9999, whole
/// seconds, `Z` only; the error says what was found and what is wanted.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("found {text:?}, want a UTC time such as 2027-01-31T00:00:00Z");
    fields(text).and_then(seconds).ok_or_else(wrong)
}

/// The UTC time of `unix_s`, in the form that [`parse`] reads; times after 9999 are cut to its end.
pub fn format(unix_s: u64) -> String {
    let unix_s = unix_s.min(LAST);
    let (days, rest) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

/// Year, month, day, hour, minute, second.
type Fields = [u64; 6];

fn fields(text: &str) -> Option<Fields> {
    const SHAPE: &[u8; 20] = b"dddd-dd-ddTdd:dd:ddZ";
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let mut out = [0; 6];
    let mut field = 0;
    for (found, want) in bytes.iter().zip(SHAPE) {
        match want {
            b'd' if found.is_ascii_digit() => {
                out[field] = out[field] * 10 + u64::from(found - b'0');
            }
            b'd' => return None,
            mark if found == mark => field = (field + 1).min(5),
            _ => return None,
        }
    }
    Some(out)
}

fn seconds([year, month, day, hour, minute, second]: Fields) -> Option<u64> {
    let real = year >= 1970
        && (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    real.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the start of `year`.
fn year_start(year: u64) -> u64 {
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400;
    (year - 1970) * 365 + leaps - 477 // 477 leap years came before 1970
}

fn days(year: u64, month: u64, day: u64) -> u64 {
    let months: u64 = (1..month).map(|m| month_days(year, m)).sum();
    year_start(year) + months + day - 1
}

/// The date that lies `days` after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366; // never past the true year
    while year_start(year + 1) <= days {
        year += 1;
    }
    let mut rest = days - year_start(year);
    let mut month = 1;
    while rest >= month_days(year, month) {
        rest -= month_days(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (text, unix_s) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:30:05Z", 951_827_405),
            ("2026-11-21T00:00:00Z", 1_795_219_200),
            ("2027-01-31T00:00:00Z", 1_801_353_600),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", LAST),
        ] {
            assert_eq!(parse(text), Ok(unix_s), "{text}");
            assert_eq!(format(unix_s), text);
        }
        assert_eq!(format(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn every_day_goes_there_and_back() {
        for day in 0..150_000 {
            let s = day * 86_400 + day % 86_400;
            assert_eq!(parse(&format(s)), Ok(s), "{}", format(s));
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for text in [
            "",
            "2027-01-31",
            "2027-01-31T00:00:00",
            "2027-01-31T00:00:00+00:00",
            "2027-01-31 00:00:00Z",
            "2027-1-31T00:00:00Z",
            "2027-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-00-10T00:00:00Z",
            "2027-04-31T00:00:00Z",
            "2027-01-00T00:00:00Z",
            "2027-01-31T24:00:00Z",
            "2027-01-31T00:60:00Z",
            "2027-01-31T00:00:60Z",
            "1969-12-31T23:59:59Z",
            "2027-01-31T00:00:00Z ",
            "२०२७-01-31T00:00Z",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
