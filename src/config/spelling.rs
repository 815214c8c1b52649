//! Finding what someone meant to write: the nearest known word, and lists of words in prose.

use std::fmt::Write as _;

/// How many words a message lists before it says how many more there are.
const LISTED: usize = 12;

/// The known word nearest to `word`: the same but for case and `-`/`_`, else at most two slips
/// (one in words of up to four letters), else one that begins as `word` does.
pub(super) fn nearest<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let plain = |w: &str| w.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(word);
    let allowed = if wanted.chars().count() <= 4 { 1 } else { 2 };
    let near = known
        .clone()
        .map(|w| (slips(&wanted, &plain(w)), w))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips);
    let begun = |w: &&str| {
        let w = plain(w);
        wanted.len() >= 3 && (w.starts_with(&wanted) || (w.len() >= 3 && wanted.starts_with(&w)))
    };
    near.map(|(_, w)| w)
        .or_else(|| known.into_iter().find(begun))
}

/// `, did you mean `x`?` or nothing, to stand behind what is wrong.
pub(super) fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    nearest(word, known).map_or_else(String::new, |w| format!(", did you mean `{w}`?"))
}

/// The words as a choice in prose: `` `a`, `b` or `c` ``; a long list is cut.
pub(super) fn choice<'a>(words: impl Iterator<Item = &'a str> + Clone) -> String {
    let count = words.clone().count();
    let shown = if count <= LISTED + 1 { count } else { LISTED };
    let mut out = String::new();
    for (i, word) in words.take(shown).enumerate() {
        let before = match i {
            0 => "",
            _ if i + 1 == count => " or ",
            _ => ", ",
        };
        let _ = write!(out, "{before}`{word}`");
    }
    if shown < count {
        let _ = write!(out, " or one of {} more", count - shown);
    }
    out
}

/// The distance of two words in slips: a letter more, less or other, or two neighbours swapped
/// (optimal string alignment).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let other = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = other.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["name", "address", "header_timeout", "max_headers", "off"];

    fn meant(word: &str) -> Option<&'static str> {
        nearest(word, KNOWN.into_iter())
    }

    #[test]
    fn slips_swaps_cases_and_beginnings_are_seen() {
        assert_eq!(meant("adress"), Some("address"));
        assert_eq!(meant("anme"), Some("name"));
        assert_eq!(meant("header-timeout"), Some("header_timeout"));
        assert_eq!(meant("Max_Headers"), Some("max_headers"));
        assert_eq!(meant("header"), Some("header_timeout"));
        assert_eq!(meant("offf"), Some("off"));
        assert_eq!(meant("on"), None);
        assert_eq!(meant("upstream"), None);
        assert_eq!(meant(""), None);
    }

    #[test]
    fn words_are_listed_in_prose() {
        assert_eq!(choice(["a"].into_iter()), "`a`");
        assert_eq!(choice(["a", "b"].into_iter()), "`a` or `b`");
        assert_eq!(choice(["a", "b", "c"].into_iter()), "`a`, `b` or `c`");
        let many: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        let text = choice(many.iter().map(String::as_str));
        assert!(text.ends_with("`10`, `11` or one of 8 more"), "{text}");
    }

    #[test]
    fn distances() {
        assert_eq!(slips("", "ab"), 2);
        assert_eq!(slips("abc", "acb"), 1);
        assert_eq!(slips("kitten", "sitten"), 1);
        assert_eq!(slips("abc", "abcdef"), usize::MAX);
    }
}
