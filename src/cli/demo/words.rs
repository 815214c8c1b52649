//! Words of a shell line: quoting, splitting, and the one kind of substitution that the story uses,
//! `$(curl -s ADDRESS)`.

/// What opens a substitution.
const OPEN: &str = "$(curl -s ";

/// Quotes a word where it needs it; a substitution in it still works.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if word.contains(OPEN) {
        return format!("\"{word}\"");
    }
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Splits a line into its words, quotes taken off.
///
/// # Errors
/// A quote is not closed.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' => words.extend(word.take()),
            '\'' | '"' => {
                let (inside, after) = rest
                    .as_str()
                    .split_once(c)
                    .ok_or_else(|| format!("an open {c} in {line}"))?;
                word.get_or_insert_default().push_str(inside);
                rest = after.chars();
            }
            '\\' => word.get_or_insert_default().extend(rest.next()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads a line of one word.
///
/// # Errors
/// There is another number of words.
pub fn one(line: &str) -> Result<String, String> {
    match split(line)?.as_slice() {
        [word] => Ok(word.clone()),
        _ => Err(format!("not one word: {line}")),
    }
}

/// The address asked by the substitution in `text`, with what stands before and behind it.
pub fn substitution(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(OPEN)?;
    let (address, after) = rest.split_once(')')?;
    Some((before, address, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_come_back() {
        let words = ["a", "a b", "it's", "{\"a\": 1}", "", "a?b&c", "%{x} "];
        let line = words.map(quoted).join(" ");
        assert_eq!(split(&line).expect("closed"), words);
        assert!(split("a 'b").is_err());
        assert!(one("a b").is_err());
    }

    #[test]
    fn a_substitution_is_found() {
        let text = "Bearer $(curl -s http://h/t)!";
        let quoted = quoted(text);
        assert_eq!(one(&quoted).as_deref(), Ok(text));
        assert_eq!(substitution(text), Some(("Bearer ", "http://h/t", "!")));
        assert_eq!(substitution("$(id)"), None);
    }
}
