//! Floors: which module may name which.

use super::source::{File, closing, places, word};

/// Every module of the crate with its floor. A module names only modules of lower floors.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("route", 1),
    ("observe", 1),
    ("redis", 2),
    ("identity", 3),
    ("limit", 3),
    ("breaker", 3),
    ("exchange", 4),
    ("filter", 5),
    ("upstream", 5),
    ("config", 6),
    ("snapshot", 7),
    ("gateway", 8),
    ("edge", 9),
    ("admin", 9),
    ("server", 10),
    ("cli", 11),
];

fn floor(module: &str) -> Option<u8> {
    let found = FLOORS.iter().find(|(name, _)| *name == module);
    found.map(|(_, floor)| *floor)
}

/// Files that name a module of their own floor or a higher one.
pub fn downwards(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let own = file.module()[0];
        if matches!(own, "lib" | "main") {
            continue;
        }
        let Some(here) = floor(own) else {
            faults.push(format!("{}: module {own} has no floor", file.path));
            continue;
        };
        for (at, name) in named(file) {
            let there = floor(name).unwrap_or(u8::MAX);
            if name != own && there >= here {
                let place = file.place(at);
                faults.push(format!(
                    "{place}: {own} (floor {here}) names {name} (floor {there})"
                ));
            }
        }
    }
    faults
}

/// The modules of the crate that a file names, each with its place.
fn named(file: &File) -> Vec<(usize, &str)> {
    let code = &file.product;
    let mut found = Vec::new();
    for at in places(code, "crate::") {
        found.extend(heads(code, at + "crate::".len()));
    }
    // As many `super` as the module is deep lead to the root as well.
    let up = "super::".repeat(file.module().len());
    for at in places(code, &up) {
        let known = |(_, name): &(usize, &str)| floor(name).is_some();
        found.extend(heads(code, at + up.len()).into_iter().filter(known));
    }
    found
}

/// The first names of a path, or of each path in a group.
fn heads(code: &str, at: usize) -> Vec<(usize, &str)> {
    if !code[at..].starts_with('{') {
        return vec![(at, word(&code[at..]))];
    }
    let end = closing(code, at);
    let (mut depth, mut fresh, mut found) = (0, true, Vec::new());
    for (place, byte) in code.bytes().enumerate().take(end).skip(at + 1) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => fresh = true,
            b' ' | b'\n' => (),
            _ if fresh => {
                found.push((place, word(&code[place..])));
                fresh = false;
            }
            _ => (),
        }
    }
    found
}

/// Whether the map at the top of `lib.rs` shows the floors as they are checked here.
pub fn map(files: &[File]) -> Vec<String> {
    let lib = files.iter().find(|f| f.path == "src/lib.rs");
    let lib = lib.map_or("", |f| f.raw.as_str());
    let mut shown: Vec<(&str, u8)> = lib.lines().filter_map(floor_line).collect();
    let mut checked = FLOORS.to_vec();
    shown.sort_unstable();
    checked.sort_unstable();
    let missing = checked.iter().filter(|f| !shown.contains(f));
    let other = shown.iter().filter(|f| !checked.contains(f));
    let missing = missing.map(|(name, n)| format!("src/lib.rs: the map lacks {n} {name}"));
    let other = other.map(|(name, n)| format!("src/lib.rs: the map has {n} {name}"));
    missing.chain(other).collect()
}

/// A line such as `//!  7 gateway   …`.
fn floor_line(line: &str) -> Option<(&str, u8)> {
    let mut words = line.strip_prefix("//!")?.split_whitespace();
    let number = words.next()?.parse().ok()?;
    Some((words.next()?.trim_end_matches('/'), number))
}

#[test]
fn upwards_and_sideways_are_found() {
    let of = |path: &str, text: &str| downwards(&[File::new(path, text)]);
    assert_eq!(
        of("src/limit/mod.rs", "use crate::base::clock;"),
        Vec::<String>::new()
    );
    assert_eq!(
        of("src/limit/exact.rs", "use crate::limit::Key;"),
        Vec::<String>::new()
    );
    let up = of("src/limit/exact.rs", "//! x\nuse crate::gateway::Shared;");
    assert_eq!(
        up,
        ["src/limit/exact.rs:2: limit (floor 3) names gateway (floor 8)"]
    );
    assert_eq!(
        of("src/limit/mod.rs", "fn f(a: crate::breaker::Breaker) {}").len(),
        1
    );
    let group = "use crate::{\n base::{clock, net},\n exchange::Exchange, config};";
    assert_eq!(of("src/limit/mod.rs", group).len(), 2);
    assert_eq!(
        of("src/limit/mod.rs", "use super::server::Server;").len(),
        1
    );
    assert_eq!(
        of("src/limit/exact.rs", "use super::super::server::Server;").len(),
        1
    );
    assert_eq!(of("src/limit/exact.rs", "use super::server;").len(), 0);
    assert_eq!(
        of("src/helpers/mod.rs", "").len(),
        1,
        "a module without a floor"
    );
    let test = "#[cfg(test)]\nmod tests { use crate::server::Server; }";
    assert_eq!(of("src/limit/mod.rs", test).len(), 0);
}

#[test]
fn a_map_that_differs_is_found() {
    let lib = "//!  0 base  clock\n//!  9 route  table\n";
    let faults = map(&[File::new("src/lib.rs", lib)]);
    assert!(faults.contains(&"src/lib.rs: the map has 9 route".to_owned()));
    assert!(faults.contains(&"src/lib.rs: the map lacks 1 route".to_owned()));
    assert!(!faults.iter().any(|f| f.ends_with("base")));
}
