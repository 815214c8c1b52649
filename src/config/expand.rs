//! What stands behind a text: variables of the environment and files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::message;

/// How a variable of the environment is looked up; tests pass their own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The marker of a value that stands in a file of its own.
pub(super) const FILE: &str = "file:";

/// Puts in variables: `${NAME}` is NAME's value, `$${` is a plain `${`, any other `$` is itself.
/// A value is not looked through again. The error is a whole message and shows names only.
pub(super) fn expand(text: &str, env: Env) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err(message!(
                "has a variable without an end (found `${{`, want `${{NAME}}`, or `$${{` for a plain `${{`)"
            ));
        };
        if !is_name(name) {
            return Err(message!(
                "has a variable without a proper name (found something else, want `${{NAME}}` with letters, digits and `_`, or `$${{` for a plain `${{`)"
            ));
        }
        let unset = || {
            message!(
                "names a variable that is not set (found `${{{name}}}`, want {name} set in the environment, or `$${{` for a plain `${{`)"
            )
        };
        out.push_str(&env(name).ok_or_else(unset)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    let first = name.as_bytes().first();
    first.is_some_and(|b| !b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Reads a UTF-8 file of at most `limit` bytes. The error is a whole message.
pub(super) fn read(path: &Path, limit: u64) -> Result<String, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|e| message!("cannot be read (found `{shown}`: {})", cause(&e)))?;
    if bytes.len() as u64 > limit {
        return Err(message!(
            "is a file that is too large (found `{shown}`, want at most {limit} bytes)"
        ));
    }
    String::from_utf8(bytes)
        .map_err(|_| message!("is a file that is no text (found `{shown}`, want UTF-8)"))
}

/// The cause in words, without the number the system gives it.
fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    let cut = text.split(" (os error").next().unwrap_or("");
    cut.to_lowercase()
}

/// Cuts one newline at the end, as editors leave it.
pub(super) fn without_newline(text: &str) -> &str {
    let cut = text.strip_suffix('\n').unwrap_or(text);
    cut.strip_suffix('\r').unwrap_or(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, &|name| match name {
            "HOST" => Some("example.org".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_put_in() {
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("${HOST}", "example.org"),
            ("a.${HOST}:${EMPTY}80", "a.example.org:80"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("${NESTED}", "${HOST}"),
            ("cost: $5, $HOST, $", "cost: $5, $HOST, $"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_named() {
        assert!(expanded("${HOTS}").is_err_and(|e| e.contains("want HOTS set")));
        for text in [
            "${",
            "a ${HOST",
            "${}",
            "${A-B}",
            "${1}",
            "${A B}",
            "${HOST:-x}",
        ] {
            assert!(expanded(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_newline_is_cut() {
        for (text, want) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a", "a"),
            ("\n", ""),
        ] {
            assert_eq!(without_newline(text), want);
        }
    }
}
