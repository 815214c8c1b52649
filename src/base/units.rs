//! Quantities as people write them in a config: durations, sizes, rates and percentages.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`. A bare number is refused, since
/// nobody can tell its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Units of time by their usual names, each with its milliseconds.
const TIMES: [(&str, u64); 12] = [
    ("ms", 1),
    ("s", 1000),
    ("sec", 1000),
    ("second", 1000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("h", 3_600_000),
    ("hr", 3_600_000),
    ("hour", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
];

/// Splits `10s` into 10 and `s`; `None` if it does not begin with a digit or the number is too big.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn time_unit(unit: &str) -> Option<u64> {
    let found = TIMES.iter().find(|(name, _)| *name == unit);
    found.map(|(_, ms)| *ms)
}

impl Span {
    /// The duration in milliseconds.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = number_and_unit(text)
            .and_then(|(n, unit)| n.checked_mul(time_unit(unit)?))
            .map(|ms| Self(Duration::from_millis(ms)));
        parsed.ok_or_else(|| {
            format!("found `{text}`, want a duration such as `500ms`, `10s`, `5m`, `1h` or `1d`")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.as_ms();
        let units = [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
        ];
        let whole = units
            .iter()
            .find(|(_, size)| ms >= *size && ms.is_multiple_of(*size));
        match whole {
            Some((unit, size)) => write!(f, "{}{unit}", ms / size),
            None if ms == 0 => f.write_str("0s"),
            None => write!(f, "{ms}ms"),
        }
    }
}

/// A number of bytes: `512B`, `64KiB`, `10MiB`, `1GiB`, or decimal `KB`, `MB`, `GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = number_and_unit(text).and_then(|(n, unit)| {
            let (_, size) = SIZES.iter().find(|(name, _)| *name == unit)?;
            n.checked_mul(*size)
        });
        parsed.map(Self).ok_or_else(|| {
            format!("found `{text}`, want a size such as `512B`, `64KiB`, `10MiB` or `1GiB`")
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZES
            .iter()
            .find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        let (unit, size) = whole.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// So many per so long: `100/1m`, `1000/h`, `10/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many are allowed within `per`.
    pub count: u64,
    /// The window's length; never zero.
    pub per: Duration,
}

impl Rate {
    /// The most requests of a window that a limit counts.
    pub const MAX_COUNT: u64 = (1 << 28) - 2;
    /// The longest window that a limit counts in: 31 days.
    pub const MAX_WINDOW: Duration = Duration::from_secs(31 * 86_400);

    /// The window's length in milliseconds.
    pub fn per_ms(self) -> u64 {
        Span(self.per).as_ms()
    }

    /// Whether its window can be counted in: whole seconds, and not too many.
    pub fn has_window(self) -> bool {
        let whole = self.per.subsec_nanos() == 0;
        whole && (Duration::from_secs(1)..=Self::MAX_WINDOW).contains(&self.per)
    }

    /// Whether a limit can count it.
    pub fn is_countable(self) -> bool {
        (1..=Self::MAX_COUNT).contains(&self.count) && self.has_window()
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(count, per)| {
            let count = count.trim().parse().ok()?;
            let (n, unit) = match per.trim() {
                bare if bare.starts_with(|c: char| c.is_ascii_alphabetic()) => (1, bare),
                full => number_and_unit(full)?,
            };
            let ms = n.checked_mul(time_unit(unit)?).filter(|ms| *ms > 0)?;
            let per = Duration::from_millis(ms);
            Some(Self { count, per })
        });
        parsed.ok_or_else(|| {
            format!("found `{text}`, want a rate such as `100/1m`, `1000/1h` or `10/s`")
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, Span(self.per))
    }
}

/// A percentage from 0 to 100, written with its sign: `50%`, `0.1 %`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    /// The share as a number from 0 to 1.
    pub fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').map(str::trim_end);
        let number =
            number.filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
        let parsed = number
            .and_then(|n| n.parse::<f64>().ok())
            .filter(|n| *n <= 100.0);
        parsed
            .map(Self)
            .ok_or_else(|| format!("found `{text}`, want a percentage from `0%` to `100%`"))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: FromStr<Err = String> + ToString>(text: &str) -> Result<String, String> {
        text.parse::<T>().map(|v| v.to_string())
    }

    #[test]
    fn spans() {
        for text in ["500ms", "10s", "5m", "1h", "2d", "0s", "1500ms"] {
            assert_eq!(round::<Span>(text), Ok(text.into()));
        }
        assert_eq!(round::<Span>("60s"), Ok("1m".into()));
        for text in [
            "10",
            "s",
            "-1s",
            "1.5s",
            "1w",
            "",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(
                round::<Span>(text).is_err_and(|e| e.starts_with(&format!("found `{text}`, want")))
            );
        }
    }

    #[test]
    fn sizes() {
        for text in ["512B", "64KiB", "10MiB", "1GiB", "1KB", "0B"] {
            assert_eq!(round::<ByteSize>(text), Ok(text.into()));
        }
        assert_eq!("1KB".parse(), Ok(ByteSize(1000)));
        for text in ["512", "64kib", "KiB", "99999999999GiB"] {
            assert!(round::<ByteSize>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(round::<Rate>("100/1m"), Ok("100/1m".into()));
        assert_eq!(round::<Rate>("1000/hr"), Ok("1000/1h".into()));
        assert_eq!(round::<Rate>("10/s"), Ok("10/1s".into()));
        assert_eq!(round::<Rate>("5 / min"), Ok("5/1m".into()));
        for text in ["100", "100/", "/1m", "100/0s", "1.5/1m", "-1/1m", "100/1x"] {
            assert!(round::<Rate>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_that_a_limit_counts() {
        let countable = |text: &str| text.parse::<Rate>().unwrap().is_countable();
        assert!(
            ["1/1s", "1000/hr", "268435454/31d"]
                .into_iter()
                .all(countable)
        );
        let not = ["0/1s", "268435455/1s", "1/999ms", "1/1500ms", "1/32d"];
        assert!(!not.into_iter().any(countable));
    }

    #[test]
    fn percentages() {
        assert_eq!(round::<Percent>("50%"), Ok("50%".into()));
        assert_eq!(round::<Percent>("0.1 %"), Ok("0.1%".into()));
        for text in ["50", "101%", "-1%", "%", "1e1%", "inf%", "NaN%", "1.2.3%"] {
            assert!(round::<Percent>(text).is_err(), "{text}");
        }
    }
}
