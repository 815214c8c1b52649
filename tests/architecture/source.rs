//! Reading Rust source as far as the rules need it: comments, strings and tests told from code.

use std::fs;
use std::path::Path;

/// One source file, in three readings of the same length and line count.
pub struct File {
    /// Its path from the root of the repository, with `/`.
    pub path: String,
    /// As written.
    pub raw: String,
    /// Comments blanked; strings and tests are still there.
    pub text: String,
    /// Comments and the insides of strings and characters blanked.
    pub code: String,
    /// As `code`, with `#[cfg(test)]` items blanked too.
    pub product: String,
}

impl File {
    /// Reads a file's text.
    pub fn new(path: &str, raw: &str) -> File {
        let text = blank(raw, false);
        let code = blank(raw, true);
        let product = if path.ends_with("tests.rs") {
            spaces(&code)
        } else {
            without_tests(&code)
        };
        File {
            path: path.to_owned(),
            raw: raw.to_owned(),
            text,
            code,
            product,
        }
    }

    /// Every `.rs` file below these folders.
    pub fn all(folders: &[&str]) -> Vec<File> {
        let mut files = Vec::new();
        for folder in folders {
            collect(Path::new(folder), &mut files);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// The module path inside the crate: `src/a/b.rs` and `src/a/b/mod.rs` are `["a", "b"]`.
    pub fn module(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let mut parts: Vec<&str> = inner.trim_end_matches(".rs").split('/').collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        parts
    }

    /// `path:line` of a byte offset.
    pub fn place(&self, at: usize) -> String {
        let line = self.raw[..at].matches('\n').count() + 1;
        format!("{}:{line}", self.path)
    }
}

fn collect(path: &Path, files: &mut Vec<File>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for entry in entries {
            collect(&entry.expect("a folder entry").path(), files);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        let raw = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        files.push(File::new(&path.to_string_lossy(), &raw));
    }
}

/// The same text with comments blanked, and the insides of literals too if `literals`.
fn blank(raw: &str, literals: bool) -> String {
    let bytes = raw.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, hide) = token(raw, at);
        let inside = match hide {
            Hide::Comment => at..end,
            Hide::Literal if literals => at + 1..end.saturating_sub(1).max(at + 1),
            Hide::No | Hide::Literal => at..at,
        };
        for byte in &mut out[inside] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole tokens were blanked")
}

enum Hide {
    No,
    Comment,
    Literal,
}

/// Where the token that starts at `at` ends, and what it is.
fn token(raw: &str, at: usize) -> (usize, Hide) {
    let rest = &raw[at..];
    let fresh = at == 0 || !is_word(raw.as_bytes()[at - 1]);
    if rest.starts_with("//") {
        (at + rest.find('\n').unwrap_or(rest.len()), Hide::Comment)
    } else if rest.starts_with("/*") {
        (at + block_comment(rest), Hide::Comment)
    } else if let Some(length) = raw_string(rest).filter(|_| fresh) {
        (at + length, Hide::Literal)
    } else if rest.starts_with('"') {
        (at + quoted(rest, b'"'), Hide::Literal)
    } else if is_char(rest) {
        (at + quoted(rest, b'\''), Hide::Literal)
    } else {
        let step = rest.chars().next().map_or(1, char::len_utf8);
        (at + step, Hide::No)
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let two = rest.as_bytes().get(at..at + 2);
        match two {
            Some(b"/*") => depth += 1,
            Some(b"*/") => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a raw string (`r"…"`, `br#"…"#`) that starts here.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].strip_prefix('"')?;
    let open = rest.len() - after.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    let found = rest[open..].find(&close);
    Some(found.map_or(rest.len(), |n| open + n + close.len()))
}

/// The length of a literal up to its closing quote.
fn quoted(rest: &str, quote: u8) -> usize {
    let mut bytes = rest.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\' {
            bytes.next();
        } else if byte == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// A character and not a lifetime.
fn is_char(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next() == Some('\'')
        && match chars.next() {
            Some('\\') => true,
            Some(_) => chars.next() == Some('\''),
            None => false,
        }
}

fn spaces(text: &str) -> String {
    let space = |c: char| if c == '\n' { '\n' } else { ' ' };
    text.chars().map(space).collect()
}

/// The code without items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let end = item_end(&out, start);
        let blanked = spaces(&out[start..end]);
        out.replace_range(start..end, &blanked);
        from = start + blanked.len();
    }
    out
}

/// Where the item that starts at `start` ends: after its `;` or its braces.
fn item_end(code: &str, start: usize) -> usize {
    match code[start..].find([';', '{']) {
        Some(n) if code.as_bytes()[start + n] == b'{' => closing(code, start + n) + 1,
        Some(n) => start + n + 1,
        None => code.len(),
    }
}

/// The place of the bracket that closes the one at `open`.
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            return at;
        }
    }
    code.len().saturating_sub(1)
}

/// Whether a byte can be part of an identifier.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The identifier at the start of a text, perhaps empty.
pub fn word(text: &str) -> &str {
    let length = text.bytes().take_while(|b| is_word(*b)).count();
    &text[..length]
}

/// Every place where `what` stands by itself, not as the end of a longer word.
pub fn places(code: &str, what: &str) -> Vec<usize> {
    let joined = |at: &usize| *at > 0 && is_word(code.as_bytes()[*at - 1]);
    let all = code.match_indices(what).map(|(at, _)| at);
    if what.bytes().next().is_some_and(is_word) {
        all.filter(|at| !joined(at)).collect()
    } else {
        all.collect()
    }
}

#[test]
fn comments_strings_and_tests_are_told_from_code() {
    let raw = "// panic!\nlet a = \"x // \\\" y\"; /* { /* } */ */ let c = '{'; let l: &'a str = r#\"}\"#;\n";
    let file = File::new("src/x.rs", raw);
    assert_eq!(file.code.len(), raw.len());
    assert!(
        !file.code.contains('{') && !file.code.contains("panic"),
        "{}",
        file.code
    );
    assert!(file.code.contains("let l: &'a str = r"), "{}", file.code);
    assert!(
        file.text.contains("x // ") && !file.text.contains("panic"),
        "{}",
        file.text
    );
    let raw = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { x }\n}\nfn c() {}\n#[cfg(test)]\nmod tests;\n";
    let product = File::new("src/x.rs", raw).product;
    assert!(
        product.contains("fn a") && product.contains("fn c"),
        "{product}"
    );
    assert!(
        !product.contains("fn b") && !product.contains("mod tests"),
        "{product}"
    );
    assert_eq!(product.matches('\n').count(), 8);
}
