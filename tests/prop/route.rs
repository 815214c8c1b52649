//! The route table against a linear scan, path normalisation against a slow rewrite of the whole
//! text, and what stripping and loose readings must never do.

use std::borrow::Cow;

use http::Method;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tollgate::route::{Clash, Entry, Found, MethodSet, PathPattern, Table, host, path};

/// So many times the usual number of cases, which `PROPTEST_CASES` sets: these cases are cheap.
fn times(factor: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases * factor,
        failure_persistence: None,
        ..usual
    }
}

// ---- normalisation ----

/// A slow twin of `path::normalise`: refuse by searching, decode the whole text, then replace until
/// nothing changes.
fn slow_normalise(raw: &str) -> Option<String> {
    let illegal = |c: char| !c.is_ascii_graphic() || "\"<>^`{|}\\?#".contains(c);
    if !raw.starts_with('/') || raw.contains(illegal) {
        return None;
    }
    let mut text = String::new();
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let (piece, width) = if c == '%' {
            (slow_escape(rest.get(1..3)?)?, 3)
        } else {
            (c.to_string(), 1)
        };
        text += &piece;
        rest = &rest[width..];
    }
    let hidden = |segment: &str| {
        let cut = segment.replace("%3B", ";");
        matches!(cut.split_once(';'), Some(("." | "..", _)))
    };
    if text.split('/').any(hidden) {
        return None;
    }
    Some(slow_remove_dots(text))
}

fn slow_escape(digits: &str) -> Option<String> {
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let byte = u8::from_str_radix(digits, 16).ok()?;
    match char::from(byte) {
        c if c.is_ascii_alphanumeric() || "-._~".contains(c) => Some(c.to_string()),
        '/' | '\\' | '\0'..='\x1f' | '\x7f' => None,
        _ => Some(format!("%{byte:02X}")),
    }
}

fn slow_remove_dots(mut text: String) -> String {
    // With a slash at the end every segment looks the same; it is taken off again.
    let open = ["/", "/.", "/.."].iter().any(|end| text.ends_with(end));
    text.push('/');
    loop {
        // Slashes are merged before `..` takes anything away, so that it takes a whole segment.
        if text.contains("//") || text.contains("/./") {
            text = text.replace("//", "/").replace("/./", "/");
        } else if let Some(at) = text.find("/../") {
            let parent = text[..at].rfind('/').unwrap_or(0);
            text.replace_range(parent..at + 3, "");
        } else {
            break;
        }
    }
    if !open && text.len() > 1 {
        text.pop();
    }
    text
}

fn raw_path() -> impl Strategy<Value = String> {
    let pieces = vec![
        "/", "/", "/", "//", ".", "..", "/..", "/.", "%2e", "%2E", "a", "b1", "-_~", "%61", "%7e",
        "%c3%a9", "%C3", "%20", "%25", "%252e", ":", "%3a", "%3A", "+", "x;y=1",
    ];
    let odd = vec![
        ";", "%3b", "%3B", "%2f", "%5C", "%00", "%0a", "%7F", "%", "%g1", "\\", " ", "é", "?", "#",
        "\"", "{", "\t",
    ];
    let piece = prop_oneof![30 => select(pieces), 1 => select(odd)];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(times(16))]

    #[test]
    fn normalising_agrees_with_the_slow_twin(raw in prop_oneof![9 => raw_path(), 1 => any::<String>()]) {
        let fast = path::normalise(&raw).ok().map(Cow::into_owned);
        prop_assert_eq!(fast, slow_normalise(&raw), "{}", raw);
    }

    #[test]
    fn a_normal_path_has_one_spelling(raw in raw_path()) {
        let Ok(once) = path::normalise(&raw) else { return Ok(()) };
        let again = path::normalise(&once).expect("a normal path is a path");
        prop_assert!(matches!(again, Cow::Borrowed(text) if text == once), "{} then {}", once, again);
        prop_assert!(once.starts_with('/') && !once.contains("//"), "{}", once);
        prop_assert!(!once.split('/').any(|segment| matches!(segment, "." | "..")), "{}", once);
        prop_assert_eq!(matches!(path::normalise(&raw), Ok(Cow::Borrowed(_))), once == raw);
    }

    #[test]
    fn a_loose_reading_is_a_normal_path_and_final(raw in raw_path()) {
        let Ok(normal) = path::normalise(&raw) else { return Ok(()) };
        let loose = path::loose_reading(&normal);
        let again = path::normalise(&loose).expect("a loose reading is a path");
        prop_assert_eq!(&again, &loose);
        prop_assert_eq!(path::loose_reading(&loose), &*loose);
        prop_assert!(!loose.contains(';'), "{}", loose);
    }

    #[test]
    fn what_stripping_leaves_and_the_prefix_make_the_path(raw in raw_path(), segments in 0usize..4) {
        let Ok(normal) = path::normalise(&raw) else { return Ok(()) };
        let end = normal.match_indices('/').nth(segments).map_or(normal.len(), |(at, _)| at);
        let prefix = &normal[..end];
        let Ok(pattern) = PathPattern::prefix(if prefix.is_empty() { "/" } else { prefix }) else { return Ok(()) };
        prop_assert!(pattern.matches(&normal));
        let left = pattern.strip(&normal);
        prop_assert!(left.starts_with('/'));
        prop_assert!(path::normalise(left).is_ok_and(|text| text == left), "{} left of {}", left, normal);
        prop_assert!(format!("{prefix}{left}") == normal || (*prefix == *normal && left == "/"), "{} + {}", prefix, left);
    }

    #[test]
    fn a_normal_host_has_one_spelling(raw in "[aB1.:\\[\\]-]{0,12}|[a-zA-Z.]{1,9}(:[0-9]{1,6})?|\\[[0-9a-fA-F:]{2,9}\\]") {
        let Ok(once) = host::normalise(&raw) else { return Ok(()) };
        let again = host::normalise(&once).expect("a normal host is a host");
        prop_assert!(matches!(again, Cow::Borrowed(text) if text == once), "{} then {}", once, again);
        prop_assert!(!once.bytes().any(|b| b.is_ascii_uppercase()) && !once.ends_with('.'));
    }
}

// ---- the table ----

/// An entry as plain data, with its own idea of what it matches.
#[derive(Clone, Debug)]
struct Naive {
    id: u32,
    hosts: Vec<&'static str>,
    /// `{}` stands for a parameter; an empty last one for a slash at the end.
    segments: Vec<&'static str>,
    prefix: bool,
    methods: Option<Vec<&'static str>>,
}

/// What an entry says of a request, greatest first: host, path, method.
type Rank = (usize, String, bool);

impl Naive {
    fn compile(&self) -> Entry {
        let parameters = self.segments.contains(&"{}");
        let mut text = String::new();
        for (at, segment) in self.segments.iter().enumerate() {
            // The entry's number in the name: what a parameter is called may not matter.
            text.push('/');
            match *segment {
                "{}" => text.extend(["{p", &at.to_string(), "_", &self.id.to_string(), "}"]),
                literal => text.push_str(literal),
            }
        }
        let path = match (parameters, self.prefix) {
            (false, true) => PathPattern::prefix(if text.is_empty() { "/" } else { &text }),
            (true, true) => PathPattern::prefix(&format!("{text}/*")),
            (true, false) => PathPattern::prefix(&text),
            (false, false) => PathPattern::exact(&text),
        };
        let methods = self
            .methods
            .as_ref()
            .map(|m| m.join(",").parse::<MethodSet>().expect("methods"));
        let hosts = self
            .hosts
            .iter()
            .map(|host| host.parse().expect("a host"))
            .collect();
        Entry {
            id: self.id,
            hosts,
            path: path.expect("a path"),
            methods,
        }
    }

    /// 0 for any host, a wildcard by its length, an exact name above all.
    fn host_rank(&self, host: &str) -> Option<usize> {
        if self.hosts.is_empty() {
            return Some(0);
        }
        let rank = |pattern: &&str| match pattern.strip_prefix('*') {
            Some(tail) => (host.ends_with(tail) && host.len() > tail.len()).then_some(tail.len()),
            None => (*pattern == host).then_some(usize::MAX),
        };
        self.hosts.iter().filter_map(rank).max()
    }

    /// One letter a segment, so that text order is the documented order.
    fn shape(&self) -> String {
        let letter = |segment: &&str| if *segment == "{}" { 'p' } else { 's' };
        self.segments
            .iter()
            .map(letter)
            .chain([if self.prefix { 'a' } else { 'b' }])
            .collect()
    }

    fn path_fits(&self, path: &str) -> bool {
        let parts: Vec<&str> = path[1..].split('/').collect();
        let enough = if self.prefix {
            parts.len() >= self.segments.len()
        } else {
            parts.len() == self.segments.len()
        };
        enough
            && self
                .segments
                .iter()
                .zip(parts)
                .all(|(want, part)| *want == part || (*want == "{}" && !part.is_empty()))
    }

    fn takes(&self, method: &str) -> bool {
        let listed = |list: &Vec<&str>| {
            list.contains(&method) || (method == "HEAD" && list.contains(&"GET"))
        };
        self.methods.as_ref().is_none_or(listed)
    }

    fn clashes(&self, other: &Self) -> bool {
        let hosts = self.hosts.iter().any(|host| other.hosts.contains(host))
            || (self.hosts.is_empty() && other.hosts.is_empty());
        let all = ["GET", "HEAD", "POST", "DELETE"];
        let methods = self.methods.is_some() == other.methods.is_some()
            && all.iter().any(|m| self.takes(m) && other.takes(m));
        hosts && self.prefix == other.prefix && self.segments == other.segments && methods
    }
}

/// The documented rules, by looking at every entry.
fn scan(entries: &[Naive], host: &str, path: &str, method: &str) -> Found {
    let fitting = || {
        entries
            .iter()
            .filter(|e| e.path_fits(path) && e.host_rank(host).is_some())
    };
    let rank = |e: &&Naive| -> Rank {
        (
            e.host_rank(host).unwrap_or(0),
            e.shape(),
            e.methods.is_some(),
        )
    };
    if let Some(best) = fitting().filter(|e| e.takes(method)).max_by_key(rank) {
        return Found::Route(best.id);
    }
    let allowed: Vec<&str> = fitting()
        .filter_map(|e| e.methods.clone())
        .flatten()
        .collect();
    if allowed.is_empty() {
        Found::None
    } else {
        Found::Method(allowed.join(",").parse().expect("methods"))
    }
}

/// The rules again for a backend that cuts `;` and decodes what need not be encoded.
fn scan_twice(entries: &[Naive], host: &str, path: &str, method: &str) -> Found {
    let found = scan(entries, host, path, method);
    let cut: Vec<&str> = path[1..]
        .split('/')
        .map(|s| s.split([';']).next().unwrap_or(""))
        .collect();
    let loose = format!("/{}", cut.join("/")).replace("%3A", ":");
    let loose = slow_normalise(&loose).expect("a path");
    match found {
        Found::Route(_) if scan(entries, host, &loose, method) != found => Found::Ambiguous,
        _ => found,
    }
}

fn entries() -> impl Strategy<Value = Vec<Naive>> {
    let hosts = subsequence(
        vec![
            "x.org",
            "*.org",
            "a.x.org",
            "*.x.org",
            "*.a.x.org",
            "localhost",
        ],
        0..3,
    );
    let segments = prop::collection::vec(select(vec!["a", "b", "a:b", "{}", "{}", "aa"]), 0..4);
    let methods = prop::option::of(subsequence(vec!["GET", "HEAD", "POST", "DELETE"], 1..3));
    let entry = (hosts, segments, any::<bool>(), any::<bool>(), methods);
    prop::collection::vec(entry, 0..24).prop_map(|entries| {
        let naive = |(id, (hosts, mut segments, prefix, slash, methods)): (
            u32,
            (_, Vec<_>, bool, bool, _),
        )| {
            // An exact path has at least one segment: the empty one of "/".
            if !prefix && (slash || segments.is_empty()) {
                segments.push("");
            }
            Naive {
                id,
                hosts,
                segments,
                prefix,
                methods,
            }
        };
        (0..).zip(entries).map(naive).collect()
    })
}

fn request() -> impl Strategy<Value = (&'static str, String, &'static str)> {
    let host = select(vec![
        "x.org",
        "y.org",
        "a.x.org",
        "b.a.x.org",
        "b.x.org",
        "localhost",
        "org",
        "",
        "[::1]",
    ]);
    let segment = prop_oneof![
        12 => select(vec!["a", "b", "aa", "c", "a:b"]),
        1 => select(vec!["a;x", "b;", ";x", "a%3Ab", "a%3A", "%20", "ab"]),
    ];
    let path =
        (prop::collection::vec(segment, 0..5), any::<bool>()).prop_map(|(segments, slash)| {
            let path = [""]
                .into_iter()
                .chain(segments)
                .collect::<Vec<_>>()
                .join("/");
            if slash || path.is_empty() {
                path + "/"
            } else {
                path
            }
        });
    (
        host,
        path,
        select(vec!["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PURGE"]),
    )
}

/// The entries less those that clash with an earlier one.
fn without_clashes(entries: Vec<Naive>) -> Vec<Naive> {
    let mut kept: Vec<Naive> = Vec::new();
    for entry in entries {
        if !kept.iter().any(|other| other.clashes(&entry)) {
            kept.push(entry);
        }
    }
    kept
}

proptest! {
    #![proptest_config(times(6))]

    #[test]
    fn the_table_agrees_with_a_linear_scan(
        entries in entries().prop_map(without_clashes),
        requests in prop::collection::vec(request(), 30),
    ) {
        let table = Table::build(entries.iter().map(Naive::compile).collect()).expect("no clash is left");
        for (host, path, method) in requests {
            let found = table.find(host, &path, &Method::from_bytes(method.as_bytes()).expect("a token"));
            let want = scan_twice(&entries, host, &path, method);
            prop_assert_eq!(found, want, "{} {} {}", method, host, path);
        }
    }

    #[test]
    fn a_table_is_refused_exactly_when_entries_clash(entries in entries()) {
        let clash = |a: &Naive, b: &Naive| entries.iter().position(|e| e.id == a.id) < entries.iter().position(|e| e.id == b.id) && a.clashes(b);
        let any = entries.iter().any(|a| entries.iter().any(|b| clash(a, b)));
        match Table::build(entries.iter().map(Naive::compile).collect()) {
            Ok(_) => prop_assert!(!any),
            Err(clashes) => {
                prop_assert!(!clashes.is_empty());
                for Clash { a, b } in clashes {
                    prop_assert!(clash(&entries[a as usize], &entries[b as usize]), "{} and {}", a, b);
                }
            }
        }
    }

    #[test]
    fn patterns_match_what_they_say(entries in entries(), requests in prop::collection::vec(request(), 10)) {
        for (entry, (_, path, _)) in entries.iter().flat_map(|e| requests.iter().map(move |r| (e, r))) {
            let pattern = entry.compile().path;
            prop_assert_eq!(pattern.matches(path), entry.path_fits(path), "{} {}", pattern, path);
            if !entry.path_fits(path) {
                continue;
            }
            for (at, segment) in entry.segments.iter().enumerate().filter(|(_, s)| **s == "{}") {
                let value = pattern.param(path, &format!("p{at}_{}", entry.id));
                prop_assert_eq!(value, path.split('/').nth(at + 1), "{} {}", pattern, segment);
            }
        }
    }
}
