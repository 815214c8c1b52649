//! The paths a route answers for: a prefix of whole segments, an exact path, or one with parameters.

use std::fmt;

use super::path;

/// What begins a parameter.
const PARAMETER: char = '{';

/// A pattern of more segments than this is refused; it bounds how deep a look-up can go.
const MOST_SEGMENTS: usize = 64;
const SPELLING: &str = "requests are matched in this spelling";

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text and no other.
    Literal(Box<str>),
    /// Any one segment that is not empty; the name it is read by.
    Parameter(Box<str>),
}

/// The paths a route answers for.
///
/// | written | matches | not |
/// |---|---|---|
/// | `/users` (prefix) | `/users`, `/users/`, `/users/42` | `/users-admin` |
/// | `/` (prefix) | every path | |
/// | `/users/{id}` | `/users/42` | `/users`, `/users/`, `/users/42/`, `/users/42/x` |
/// | `/users/{id}/*` | `/users/42`, `/users/42/`, `/users/42/x` | `/users`, `/users/` |
/// | `exact: /users` | `/users` | `/users/` |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// As it was written.
    text: Box<str>,
    segments: Box<[Segment]>,
    prefix: bool,
}

impl PathPattern {
    /// Reads what stands under `path`: a prefix, or a path with `{parameters}`, which is exact
    /// unless it ends in `/*`.
    ///
    /// # Errors
    /// "found X, want Y" for a text that no request path could match or that has another, plainer
    /// spelling.
    pub fn prefix(text: &str) -> Result<Self, String> {
        Self::parse_prefix(text).map_err(|want| format!("found {text:?}, want {want}"))
    }

    /// Reads what stands under `exact`: one path, character by character.
    ///
    /// # Errors
    /// As for [`PathPattern::prefix`].
    pub fn exact(text: &str) -> Result<Self, String> {
        Self::parse_exact(text).map_err(|want| format!("found {text:?}, want {want}"))
    }

    fn parse_prefix(text: &str) -> Result<Self, String> {
        check_whole(text)?;
        let parameters = text.contains(PARAMETER);
        let (front, star) = match text.strip_suffix("/*") {
            Some(front) => (front, true),
            None => (text, false),
        };
        let exact = parameters && !star;
        let segments = read(front, exact, true)?;
        let mut want = spell(&segments);
        if parameters && star {
            want.push_str("/*");
        }
        if want != text {
            let covers = !parameters && (star || text.ends_with('/'));
            let why = if covers {
                "a prefix covers all that is below it"
            } else {
                SPELLING
            };
            return Err(format!("{want:?} ({why})"));
        }
        Ok(Self {
            text: text.into(),
            segments: segments.into(),
            prefix: !exact,
        })
    }

    fn parse_exact(text: &str) -> Result<Self, String> {
        check_whole(text)?;
        let segments = read(text, true, false)?;
        let want = spell(&segments);
        if want != text {
            return Err(format!("{want:?} ({SPELLING})"));
        }
        Ok(Self {
            text: text.into(),
            segments: segments.into(),
            prefix: false,
        })
    }

    /// Whether it matches all that begins with it; only such a pattern can be stripped.
    pub fn is_prefix(&self) -> bool {
        self.prefix
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether a path in normal form is one of these.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut rest = Some(path);
        for segment in &self.segments {
            let Some(text) = rest else { return false };
            let (first, after) = first_segment(text);
            let fits = match segment {
                Segment::Literal(literal) => **literal == *first,
                Segment::Parameter(_) => !first.is_empty(),
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        self.prefix || rest.is_none()
    }

    /// What is left of a path this prefix matches, always starting with `/`: `/users` makes `/` of
    /// `/users` and `/42` of `/users/42`. An exact pattern leaves the path whole.
    pub fn strip<'p>(&self, path: &'p str) -> &'p str {
        if !self.prefix {
            return path;
        }
        match memchr::memchr_iter(b'/', path.as_bytes()).nth(self.segments.len()) {
            Some(at) => &path[at..],
            None => "/",
        }
    }

    /// The segment that stands where `{name}` does, in a path this pattern matches. It is still
    /// percent-encoded and never empty. `None` if the pattern has no such parameter.
    pub fn param<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        let at = self
            .segments
            .iter()
            .position(|s| matches!(s, Segment::Parameter(p) if **p == *name))?;
        path.split('/')
            .nth(at + 1)
            .filter(|value| !value.is_empty())
    }
}

/// The pattern as it was written.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text up to the first slash and what follows that slash, if there is one.
pub(super) fn first_segment(text: &str) -> (&str, Option<&str>) {
    // Segments are short: a plain loop is done before a vectorised search has begun.
    match text.bytes().position(|byte| byte == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

// From here on an error is what should have been written; `prefix` and `exact` add what was found.

fn check_whole(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("a path that starts with \"/\"".to_owned());
    }
    match text.find(['?', '#']) {
        Some(at) => Err(format!(
            "{:?}: a query is not part of the match",
            &text[..at]
        )),
        None => Ok(()),
    }
}

/// The segments of a text, without the empty ones; but the last slash of an exact path counts.
fn read(text: &str, exact: bool, parameters: bool) -> Result<Vec<Segment>, String> {
    let mut segments = Vec::new();
    for written in text.split('/').filter(|written| !written.is_empty()) {
        let segment = read_segment(written, parameters)?;
        if matches!(segment, Segment::Parameter(_)) && segments.contains(&segment) {
            return Err(format!("each parameter once, but {written} is there twice"));
        }
        segments.push(segment);
    }
    if exact && text.ends_with('/') {
        segments.push(Segment::Literal("".into()));
    }
    if segments.len() > MOST_SEGMENTS {
        return Err(format!("at most {MOST_SEGMENTS} segments"));
    }
    Ok(segments)
}

fn spell(segments: &[Segment]) -> String {
    let each = segments.iter().map(|segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        Segment::Parameter(name) => format!("/{{{name}}}"),
    });
    let path: String = each.collect();
    if path.is_empty() {
        "/".to_owned()
    } else {
        path
    }
}

fn read_segment(written: &str, parameters: bool) -> Result<Segment, String> {
    if written.contains(['{', '}']) {
        if !parameters {
            return Err(
                "no \"{\" or \"}\" in an exact path; a path with parameters goes under \"path\""
                    .to_owned(),
            );
        }
        return read_parameter(written).map(Segment::Parameter);
    }
    if parameters && written.contains('*') {
        return Err(
            "\"{name}\" for any one segment, or \"/*\" at the end of a path with parameters"
                .to_owned(),
        );
    }
    let slashed = format!("/{written}");
    let normal = path::normalise(&slashed)
        .map_err(|fault| format!("a path that a request can have: {fault}"))?;
    if *normal == *"/" {
        return Err("a path without \".\" and \"..\" segments".to_owned());
    }
    if normal.contains(';') || normal.contains("%3B") {
        return Err("a path without \";\": servers differ on what it means".to_owned());
    }
    Ok(Segment::Literal(path::loose_reading(&normal)[1..].into()))
}

fn read_parameter(written: &str) -> Result<Box<str>, String> {
    let whole = written
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    match whole {
        Some("") => Err("a name between the braces, such as \"{id}\"".to_owned()),
        Some(name) if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            Ok(name.into())
        }
        Some(_) => Err("a parameter name of letters, digits and \"_\"".to_owned()),
        None if written.starts_with('{') && !written.contains('}') => {
            Err(format!("the brace closed, {:?}", format!("{written}}}")))
        }
        None => Err("a parameter that is a whole segment, such as \"/users/{id}\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> PathPattern {
        PathPattern::prefix(text).unwrap()
    }

    fn check(pattern: &PathPattern, yes: &[&str], no: &[&str]) {
        for path in yes {
            assert!(pattern.matches(path), "{pattern} must match {path}");
        }
        for path in no {
            assert!(!pattern.matches(path), "{pattern} must not match {path}");
        }
    }

    #[test]
    fn a_prefix_ends_on_a_segment() {
        check(
            &prefix("/users"),
            &["/users", "/users/", "/users/42"],
            &["/users-admin", "/user", "/", "/Users", ""],
        );
        check(&prefix("/"), &["/", "/a", "/a/b/"], &["", "*"]);
        check(
            &prefix("/a/b"),
            &["/a/b", "/a/b/c"],
            &["/a", "/a/bc", "/a/c/b"],
        );
    }

    #[test]
    fn an_exact_path_is_nothing_else() {
        let exact = |text| PathPattern::exact(text).unwrap();
        check(
            &exact("/users"),
            &["/users"],
            &["/users/", "/users/42", "/"],
        );
        check(&exact("/users/"), &["/users/"], &["/users", "/users/42"]);
        check(&exact("/"), &["/"], &["/a", ""]);
        check(&exact("/a*"), &["/a*"], &["/ab", "/a"]);
    }

    #[test]
    fn a_parameter_is_one_segment_that_is_not_empty() {
        check(
            &prefix("/users/{id}"),
            &["/users/42", "/users/-"],
            &["/users", "/users/", "/users/42/", "/users/42/x"],
        );
        check(
            &prefix("/users/{id}/*"),
            &["/users/42", "/users/42/", "/users/42/x/y"],
            &["/users", "/users/"],
        );
        check(
            &prefix("/{a}/x/{b}"),
            &["/1/x/2"],
            &["/1/y/2", "/1/x", "/1/x/"],
        );
        check(&prefix("/{a}/"), &["/1/"], &["/1", "//"]);
    }

    #[test]
    fn stripping_leaves_a_path() {
        for (pattern, path, left) in [
            ("/users", "/users", "/"),
            ("/users", "/users/", "/"),
            ("/users", "/users/42", "/42"),
            ("/users", "/users/42/", "/42/"),
            ("/", "/users", "/users"),
            ("/", "/", "/"),
            ("/api/v1", "/api/v1/x", "/x"),
            ("/t/{tenant}/*", "/t/acme/x/y", "/x/y"),
            ("/t/{tenant}/*", "/t/acme", "/"),
            ("/users/{id}", "/users/42", "/users/42"),
        ] {
            assert_eq!(prefix(pattern).strip(path), left, "{pattern} {path}");
        }
    }

    #[test]
    fn parameters_are_read_on_demand() {
        let pattern = prefix("/t/{tenant}/orders/{id}/*");
        let path = "/t/acme/orders/4%202/lines";
        assert_eq!(pattern.param(path, "tenant"), Some("acme"));
        assert_eq!(pattern.param(path, "id"), Some("4%202"));
        assert_eq!(pattern.param(path, "orders"), None);
        assert_eq!(pattern.param("/t", "id"), None);
    }

    #[test]
    fn it_is_shown_as_written() {
        for text in ["/", "/users", "/users/{id}", "/users/{id}/*"] {
            assert_eq!(prefix(text).to_string(), text);
            assert_eq!(prefix(text).is_prefix(), text != "/users/{id}");
        }
    }

    fn refused(cases: &[(&str, &str)]) {
        for (text, want) in cases {
            let message = PathPattern::prefix(text).expect_err(text);
            assert_eq!(message, format!("found {text:?}, want {want}"));
        }
    }

    #[test]
    fn another_spelling_is_refused_with_the_right_one() {
        refused(&[
            ("", "a path that starts with \"/\""),
            ("users", "a path that starts with \"/\""),
            ("/a?b=1", "\"/a\": a query is not part of the match"),
            (
                "/users/",
                "\"/users\" (a prefix covers all that is below it)",
            ),
            (
                "/users/*",
                "\"/users\" (a prefix covers all that is below it)",
            ),
            ("/*", "\"/\" (a prefix covers all that is below it)"),
            ("/a//b", "\"/a/b\" (requests are matched in this spelling)"),
            (
                "/%7euser/{id}/*",
                "\"/~user/{id}/*\" (requests are matched in this spelling)",
            ),
            (
                "/caf%c3%a9",
                "\"/caf%C3%A9\" (requests are matched in this spelling)",
            ),
            (
                "/{id}//*",
                "\"/{id}/*\" (requests are matched in this spelling)",
            ),
            ("/a%3Ab", "\"/a:b\" (requests are matched in this spelling)"),
        ]);
    }

    #[test]
    fn a_bad_pattern_says_what_to_write() {
        refused(&[
            ("/a/../b", "a path without \".\" and \"..\" segments"),
            (
                "/café",
                "a path that a request can have: the path holds a character that must be percent-encoded",
            ),
            (
                "/a;b",
                "a path without \";\": servers differ on what it means",
            ),
            ("/a/{id", "the brace closed, \"{id}\""),
            ("/a/{}", "a name between the braces, such as \"{id}\""),
            ("/a/{i d}", "a parameter name of letters, digits and \"_\""),
            (
                "/a/x{id}",
                "a parameter that is a whole segment, such as \"/users/{id}\"",
            ),
            (
                "/a/id}",
                "a parameter that is a whole segment, such as \"/users/{id}\"",
            ),
            ("/{a}/{a}", "each parameter once, but {a} is there twice"),
            (
                "/a/*/b",
                "\"{name}\" for any one segment, or \"/*\" at the end of a path with parameters",
            ),
            (
                "/a/x*",
                "\"{name}\" for any one segment, or \"/*\" at the end of a path with parameters",
            ),
        ]);
        assert!(
            PathPattern::prefix(&"/a".repeat(65))
                .unwrap_err()
                .ends_with("want at most 64 segments")
        );
        assert!(
            PathPattern::exact("/a/{id}")
                .unwrap_err()
                .ends_with("a path with parameters goes under \"path\"")
        );
        assert!(
            PathPattern::exact("/a//b")
                .unwrap_err()
                .contains("want \"/a/b\"")
        );
        assert!(PathPattern::exact("/.").is_err());
    }
}
