//! The route table: which entry takes a request, in a time that does not grow with their number.
//!
//! One hash of the host finds a tree of path segments, then one hash per segment walks it. All keys
//! come from the configuration, so no client can make them collide, and a look-up allocates nothing
//! unless the path has an odd spelling (see [`path::loose_reading`]).

use std::borrow::Cow;

use http::Method;

use super::host::HostPattern;
use super::method::MethodSet;
use super::path;
use super::pattern::PathPattern;
use super::tree::{Map, Node, Rule, Search};

/// One line of the table: what a request must be like to belong to route `id`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What [`Found::Route`] gives back.
    pub id: u32,
    /// Any of these hosts; empty for every host.
    pub hosts: Vec<HostPattern>,
    /// The paths.
    pub path: PathPattern,
    /// The methods; `None` for all.
    pub methods: Option<MethodSet>,
}

/// Two entries that could both take one request, with nothing to choose between them: they share a
/// host pattern and a path (whatever its parameters are called), and their methods overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The entry that comes first.
    pub a: u32,
    /// The entry that comes later.
    pub b: u32,
}

/// What the table says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It belongs to this route.
    Route(u32),
    /// Host and path are known, the method is not taken; 405 with these in `Allow`.
    Method(MethodSet),
    /// Host and path are not known; 404.
    None,
    /// A backend that reads `;` or escapes loosely would see a path that does not belong to the
    /// route found, whose rules the request could so dodge; 400.
    Ambiguous,
}

/// All entries, ready to be asked. Never changes once built.
#[derive(Debug, Default)]
pub struct Table {
    exact: Map<Node>,
    /// By what follows the `*.`.
    wildcard: Map<Node>,
    /// How many labels the longest key of `wildcard` has; longer tails of a host are not tried.
    wildcard_labels: usize,
    any: Node,
}

impl Table {
    /// Builds the table. The order of the entries does not matter.
    ///
    /// # Errors
    /// Every [`Clash`], but of entries that are all alike only those with the first.
    pub fn build(entries: Vec<Entry>) -> Result<Self, Vec<Clash>> {
        let mut table = Self::default();
        let mut clashes = Vec::new();
        for entry in entries {
            let rule = Rule {
                id: entry.id,
                methods: entry.methods,
            };
            let mut insert = |tree: &mut Node| {
                for a in tree.insert(&entry.path, rule) {
                    let clash = Clash { a, b: entry.id };
                    if !clashes.contains(&clash) {
                        clashes.push(clash);
                    }
                }
            };
            if entry.hosts.is_empty() {
                insert(&mut table.any);
            }
            for host in &entry.hosts {
                insert(table.tree(host));
            }
        }
        if clashes.is_empty() {
            Ok(table)
        } else {
            Err(clashes)
        }
    }

    fn tree(&mut self, host: &HostPattern) -> &mut Node {
        let trees = if host.is_wildcard() {
            let labels = host.name().split('.').count();
            self.wildcard_labels = self.wildcard_labels.max(labels);
            &mut self.wildcard
        } else {
            &mut self.exact
        };
        trees.entry(host.name().into()).or_default()
    }

    /// Which route a request belongs to. `host` and `path` must be in normal form
    /// ([`super::host::normalise`], [`path::normalise`]); an empty host is matched by entries for
    /// every host alone.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Found {
        let found = self.find_strict(host, path, method);
        if let Found::Route(_) = found
            && let Cow::Owned(loose) = path::loose_reading(path)
            && self.find_strict(host, &loose, method) != found
        {
            return Found::Ambiguous;
        }
        found
    }

    fn find_strict(&self, host: &str, path: &str, method: &Method) -> Found {
        let Some(rest) = path.strip_prefix('/') else {
            return Found::None;
        };
        let mut search = Search {
            method: MethodSet::only(method),
            allowed: MethodSet::default(),
        };
        match self.walk(host, rest, &mut search) {
            Some(id) => Found::Route(id),
            None if search.allowed.is_empty() => Found::None,
            None => Found::Method(search.allowed),
        }
    }

    fn walk(&self, host: &str, rest: &str, search: &mut Search) -> Option<u32> {
        if let Some(tree) = self.exact.get(host)
            && let Some(id) = tree.find(Some(rest), search)
        {
            return Some(id);
        }
        if self.wildcard_labels > 0
            && let Some(id) = self.walk_wildcards(host, rest, search)
        {
            return Some(id);
        }
        self.any.find(Some(rest), search)
    }

    /// Tries the tails of the host, the longest first.
    fn walk_wildcards(&self, host: &str, rest: &str, search: &mut Search) -> Option<u32> {
        let mut labels = host.bytes().filter(|byte| *byte == b'.').count();
        for (dot, _) in host.bytes().enumerate().filter(|(_, byte)| *byte == b'.') {
            if labels <= self.wildcard_labels
                && let Some(tree) = self.wildcard.get(&host[dot + 1..])
                && let Some(id) = tree.find(Some(rest), search)
            {
                return Some(id);
            }
            labels -= 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads "hosts path methods"; `=` before the path makes it exact, `-` stands for any.
    fn entry(id: u32, line: &str) -> Entry {
        let mut words = line.split_whitespace();
        let mut word = || words.next().expect("three words");
        let hosts = word();
        let path = word();
        let methods = word();
        Entry {
            id,
            hosts: hosts
                .split(',')
                .filter(|h| *h != "-")
                .map(|h| h.parse().unwrap())
                .collect(),
            path: match path.strip_prefix('=') {
                Some(exact) => PathPattern::exact(exact).unwrap(),
                None => PathPattern::prefix(path).unwrap(),
            },
            methods: (methods != "-").then(|| methods.parse().unwrap()),
        }
    }

    fn build(lines: &[&str]) -> Result<Table, Vec<Clash>> {
        Table::build((0..).zip(lines).map(|(id, line)| entry(id, line)).collect())
    }

    fn table(lines: &[&str]) -> Table {
        build(lines).expect("no clash")
    }

    fn allow(text: &str) -> Found {
        Found::Method(text.parse().unwrap())
    }

    use Found::{Ambiguous, Route};

    #[test]
    fn a_prefix_does_not_reach_into_a_segment() {
        let table = table(&["- /users -"]);
        for (path, found) in [
            ("/users", Route(0)),
            ("/users/42", Route(0)),
            ("/users-admin", Found::None),
            ("/", Found::None),
        ] {
            assert_eq!(table.find("a.org", path, &Method::GET), found, "{path}");
        }
        assert_eq!(table.find("a.org", "*", &Method::OPTIONS), Found::None);
        assert_eq!(Table::default().find("", "/", &Method::GET), Found::None);
    }

    #[test]
    fn hosts_exact_then_longer_wildcard_then_any() {
        let table = table(&[
            "- / -",
            "*.org / -",
            "*.a.org / -",
            "x.a.org / -",
            "*.x.y.z.a.org / -",
        ]);
        for (host, id) in [
            ("x.a.org", 3),
            ("y.a.org", 2),
            ("y.x.a.org", 2),
            ("a.org", 1),
            ("b.org", 1),
            ("org", 0),
            ("", 0),
            ("[::1]", 0),
            ("w.x.y.z.a.org", 4),
            ("x.y.z.a.org", 2),
            ("1.2.3.4.5.6.7.8.9.b.org", 1),
        ] {
            assert_eq!(table.find(host, "/", &Method::GET), Route(id), "{host}");
        }
    }

    #[test]
    fn paths_literal_then_parameter_then_end_of_prefix() {
        let table = table(&[
            "- /a -",
            "- =/a -",
            "- /a/{x} -",
            "- /a/b -",
            "- /a/{x}/c -",
            "- /a/{x}/* -",
            "- /a/b/{y}/d -",
        ]);
        for (path, id) in [
            ("/a", 1),
            ("/a/", 0),
            ("/a/z", 2),
            ("/a/b", 3),
            ("/a/b/c", 3),
            ("/a/z/c", 4),
            ("/a/z/d", 5),
            ("/a/z/", 5),
            ("/a/b/c/d", 6),
            ("/a/b/c/e", 3),
        ] {
            assert_eq!(table.find("", path, &Method::GET), Route(id), "{path}");
        }
    }

    #[test]
    fn a_dead_end_falls_back() {
        let table = table(&[
            "- /a/b/c -",
            "- /a/{x}/d -",
            "x.org /only -",
            "*.org /wild -",
            "- /any -",
        ]);
        assert_eq!(table.find("", "/a/b/d", &Method::GET), Route(1));
        assert_eq!(table.find("x.org", "/only", &Method::GET), Route(2));
        assert_eq!(table.find("x.org", "/wild", &Method::GET), Route(3));
        assert_eq!(table.find("x.org", "/any", &Method::GET), Route(4));
        assert_eq!(table.find("x.org", "/none", &Method::GET), Found::None);
    }

    #[test]
    fn a_method_not_taken_falls_back_then_is_refused_with_the_union() {
        let table = table(&[
            "- /a/b POST",
            "- /a DELETE",
            "x.org /a/b PUT",
            "- /all -",
            "- /all/get GET",
        ]);
        assert_eq!(table.find("x.org", "/a/b", &Method::DELETE), Route(1));
        assert_eq!(
            table.find("x.org", "/a/b", &Method::GET),
            allow("PUT,POST,DELETE")
        );
        assert_eq!(
            table.find("y.org", "/a/b", &Method::PUT),
            allow("POST,DELETE")
        );
        assert_eq!(table.find("", "/all/get", &Method::HEAD), Route(4));
        assert_eq!(table.find("", "/all/get", &Method::POST), Route(3));
        assert_eq!(
            table.find("", "/all", &Method::from_bytes(b"PURGE").unwrap()),
            Route(3)
        );
    }

    #[test]
    fn get_takes_head_and_says_so() {
        let table = table(&["- /a GET"]);
        assert_eq!(table.find("", "/a", &Method::HEAD), Route(0));
        let Found::Method(allowed) = table.find("", "/a", &Method::POST) else {
            panic!("not refused")
        };
        assert_eq!(allowed.to_string(), "GET, HEAD");
    }

    #[test]
    fn listed_methods_go_before_all() {
        for lines in [["- /a -", "- /a POST"], ["- /a POST", "- /a -"]] {
            let table = table(&lines);
            let listed = u32::from(lines[1].ends_with("POST"));
            assert_eq!(table.find("", "/a", &Method::POST), Route(listed));
            assert_eq!(table.find("", "/a", &Method::GET), Route(1 - listed));
        }
    }

    #[test]
    fn entries_alike_clash() {
        let clash = |a, b| Clash { a, b };
        for (lines, clashes) in [
            (&["- /a -", "- /a -"][..], vec![clash(0, 1)]),
            (&["- /a/{x} -", "- /a/{y} -"], vec![clash(0, 1)]),
            (&["- /a GET", "- /a HEAD,POST"], vec![clash(0, 1)]),
            (&["x.org,y.org /a -", "y.org,x.org /a -"], vec![clash(0, 1)]),
            (
                &["*.org /a -", "*.ORG /a -", "*.org /a -"],
                vec![clash(0, 1), clash(0, 2)],
            ),
        ] {
            assert_eq!(build(lines).expect_err("a clash"), clashes);
        }
    }

    #[test]
    fn entries_that_differ_do_not_clash() {
        table(&[
            "- /a GET",
            "- /a POST",
            "- =/a GET",
            "- /a/{x} -",
            "- /a/{x}/* -",
            "- /a/x -",
            "x.org /a -",
            "*.x.org /a -",
            "y.org,y.org /a -",
        ]);
    }

    #[test]
    fn a_path_that_dodges_a_route_for_loose_backends_is_refused() {
        let table = table(&[
            "- / -",
            "- /admin -",
            "- /v1/things:delete -",
            "- /maps/{points} -",
        ]);
        for path in [
            "/admin;x",
            "/admin;x=1/secret",
            "/admin%3Bx",
            "/;x/admin",
            "/v1/things%3Adelete",
            "/maps/;x",
        ] {
            assert_eq!(table.find("", path, &Method::GET), Ambiguous, "{path}");
        }
        for (path, id) in [
            ("/maps/1,2;3,4", 3),
            ("/maps/1%2C2", 3),
            ("/admin/a;b=1", 1),
            ("/a;b/%20", 0),
        ] {
            assert_eq!(table.find("", path, &Method::GET), Route(id), "{path}");
        }
    }
}
