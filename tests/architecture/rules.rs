//! Who may name what, what nobody may write, and how long things may get.

use super::source::{File, closing, places, word};

/// What may be named only in some places: the words, where (paths that start so), and why.
pub struct Place {
    /// What the code may not hold elsewhere.
    words: &'static [&'static str],
    /// Where it may, or, with a leading `!`, where alone it may not.
    only: &'static [&'static str],
    /// What is said of a fault.
    why: &'static str,
}

/// The places of things.
pub const PLACES: &[Place] = &[
    Place {
        words: &["pingora"],
        only: &[
            "src/gateway/",
            "src/edge/",
            "src/server",
            "src/admin",
            "src/upstream/peer.rs",
            "src/upstream/pool.rs",
            "src/upstream/health.rs",
            "src/upstream/tls.rs",
            "src/upstream/trouble.rs",
            "src/upstream/hold.rs",
            "src/limit/estimate.rs",
        ],
        why: "only the shells know Pingora",
    },
    Place {
        words: &["Session"],
        only: &["src/gateway/", "src/edge/"],
        why: "what judges a request knows header types and the exchange, not a session",
    },
    Place {
        words: &["Session"],
        only: &["!src/gateway/receive.rs"],
        why: "what a request says is read from its header, whoever carries it",
    },
    Place {
        words: &[
            "pingora::services",
            "pingora::listeners",
            "pingora::server::Server",
            "http_proxy_service",
            "run_forever",
            "bootstrap(",
        ],
        only: &[],
        why: "listeners and their lives are the edge's, so that they come and go while it runs",
    },
    Place {
        words: &["HttpPeer::new"],
        only: &["src/upstream/peer.rs"],
        why: "a peer has time limits and an address: one made of a name would resolve it on a worker",
    },
    Place {
        words: &[".expect("],
        only: &[
            // Read when the config is: literals of the file, names that were checked as they were
            // read, one rule for each field.
            "src/config/value.rs",
            "src/config/fields.rs",
            // Metrics are defined once, at the start, with constant names.
            "src/observe/metrics/define.rs",
            // The demo's own services, in no gateway's way.
            "src/cli/demo/serve.rs",
        ],
        why: "a request must not be able to end a worker",
    },
    Place {
        words: &["tokio", "pingora", "Clock"],
        only: &[
            "!src/route/",
            "!src/breaker/",
            "!src/limit/sliding_window.rs",
            "!src/limit/cell.rs",
            "!src/limit/exact.rs",
            "!src/identity/jwt.rs",
            "!src/identity/seen.rs",
            "!src/identity/revoke/set.rs",
            "!src/identity/revoke/entry.rs",
            "!src/identity/key_cache.rs",
            "!src/identity/key_format.rs",
            "!src/identity/key_record.rs",
            "!src/upstream/balance.rs",
            "!src/upstream/split.rs",
        ],
        why: "a pure core takes values and the time and returns values",
    },
    Place {
        words: &[
            "Instant::now",
            "SystemTime::now",
            "ClockId::Monotonic",
            "ClockId::Realtime",
        ],
        only: &["src/base/clock.rs"],
        why: "only base/clock reads a clock",
    },
    Place {
        words: &["subtle", "ct_eq", "ConstantTimeEq"],
        only: &["src/base/secret.rs"],
        why: "only base/secret compares secrets",
    },
    Place {
        words: &["StatusCode::", "ResponseHeader::build", "Response::builder"],
        only: &[
            "src/gateway/answer.rs",
            "src/gateway/fail.rs",
            "src/gateway/front.rs",
            "src/edge/open.rs",
            "src/admin",
            "src/cli/demo/",
        ],
        why: "only gateway/answer decides a status (fail and the front write it, open needs a header that \
              nobody is sent, admin and the demo's services have ports of their own)",
    },
    Place {
        words: &["prometheus"],
        only: &["src/observe/metrics"],
        why: "only observe/metrics names a metric",
    },
    Place {
        words: &[
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "process::exit",
            "process::abort",
        ],
        only: &["src/cli", "src/server", "src/main.rs"],
        why: "only cli and server print or exit",
    },
];

fn allowed(path: &str, only: &[&str]) -> bool {
    let within = |p: &&str| path.starts_with(p.trim_start_matches('!'));
    match only.first() {
        Some(first) if first.starts_with('!') => !only.iter().any(within),
        _ => only.iter().any(within),
    }
}

/// Things named outside their places. Metric names are looked for in strings too.
pub fn named_elsewhere(files: &[File], rules: &[Place]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        for rule in rules.iter().filter(|r| !allowed(&file.path, r.only)) {
            for what in rule.words {
                let found = places(&file.product, what);
                let fault = |at: usize| format!("{}: {what}: {}", file.place(at), rule.why);
                faults.extend(found.into_iter().map(fault));
            }
        }
        if !file.path.starts_with("src/observe/metrics") {
            let found = places(&file.text, "\"tollgate_");
            faults.extend(
                found
                    .into_iter()
                    .map(|at| format!("{}: a metric's name", file.place(at))),
            );
        }
    }
    faults
}

/// What no product code may hold.
pub fn banned(files: &[File]) -> Vec<String> {
    let words = [
        ".unwrap()",
        "todo!",
        "unimplemented!",
        "panic!",
        "dbg!",
        "unreachable!",
    ];
    let empty = [".expect(\"\")"];
    let mut faults = Vec::new();
    for file in files {
        let code = words
            .iter()
            .flat_map(|w| places(&file.product, w).into_iter().map(move |at| (at, w)));
        let text = empty
            .iter()
            .flat_map(|w| places(&file.text, w).into_iter().map(move |at| (at, w)));
        faults.extend(
            code.chain(text)
                .map(|(at, what)| format!("{}: {what}", file.place(at))),
        );
    }
    faults
}

/// Lints that are switched off without a reason.
pub fn exceptions(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        for what in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for at in places(&file.code, what) {
                let end = closing(&file.code, at + what.len() - 1);
                if places(&file.code[at..end], "reason").is_empty() {
                    faults.push(format!("{}: {what}…)] without a reason", file.place(at)));
                }
            }
        }
    }
    faults
}

/// `…Conf { a, b, .. }` where configs are compiled: a key that nobody wires must not build.
pub fn rest_patterns(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    let compiles = |f: &&File| {
        ["src/snapshot/", "src/edge/"]
            .iter()
            .any(|p| f.path.starts_with(p))
    };
    for file in files.iter().filter(compiles) {
        for (at, open) in confs(&file.product) {
            let inside = &file.product[open + 1..closing(&file.product, open)];
            if has_rest(inside) {
                faults.push(format!("{}: a Conf taken apart with ..", file.place(at)));
            }
        }
    }
    faults
}

/// Every `SomeConf {` or `SomeConf::Variant {`: where it starts and where its brace is.
fn confs(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("Conf") {
        let mut end = at + "Conf".len();
        if let Some(rest) = code[end..].strip_prefix("::") {
            end += 2 + word(rest).len();
        }
        if code[end..].starts_with(" {") {
            found.push((at, end + 1));
        }
    }
    found
}

/// Whether there is a `..` of its own at the top of a pattern.
fn has_rest(inside: &str) -> bool {
    let (mut depth, mut before) = (0, b',');
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth -= 1,
            b'.' if depth == 0 && before == b',' && inside[at..].starts_with("..") => return true,
            _ => (),
        }
        if !byte.is_ascii_whitespace() {
            before = byte;
        }
    }
    false
}

/// Structs of the config that nobody takes apart.
pub fn unwired(files: &[File]) -> Vec<String> {
    let above = [
        "src/snapshot/",
        "src/edge/",
        "src/server",
        "src/admin",
        "src/config/",
    ];
    let readers = files
        .iter()
        .filter(|f| above.iter().any(|a| f.path.starts_with(a)));
    let readers: Vec<&File> = readers.collect();
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| f.path.starts_with("src/config/")) {
        for at in places(&file.product, "pub struct ") {
            let name = word(&file.product[at + "pub struct ".len()..]);
            let [bound, taken] = ["let ", "|"].map(|before| format!("{before}{name} {{"));
            let named = format!("{name} {{");
            let read = |f: &&File| {
                let own = f.path.starts_with("src/config/");
                let ways = if own { [&bound, &taken] } else { [&named; 2] };
                ways.into_iter().any(|way| f.product.contains(way))
            };
            if name.ends_with("Conf") && !readers.iter().any(read) {
                faults.push(format!("{}: {name} is never taken apart", file.place(at)));
            }
        }
    }
    faults
}

/// Files that do not open with what lives in them.
pub fn headless(files: &[File]) -> Vec<String> {
    let headless = files.iter().filter(|f| !f.raw.starts_with("//! "));
    headless
        .map(|f| format!("{}: does not open with //!", f.path))
        .collect()
}

/// Files over the bound.
pub fn long_files(files: &[File], most: usize) -> Vec<String> {
    let lines = files.iter().map(|f| (f, f.raw.lines().count()));
    let long = lines.filter(|(_, n)| *n > most);
    long.map(|(f, n)| format!("{}: {n} lines", f.path))
        .collect()
}

/// Names that say nothing: what has no better one has no place yet.
pub fn vague_names(files: &[File]) -> Vec<String> {
    let vague = [
        "util", "utils", "common", "helper", "helpers", "types", "misc", "manager",
    ];
    let parts = |f: &File| f.module().iter().any(|part| vague.contains(part));
    let found = files
        .iter()
        .filter(|f| f.path.starts_with("src/") && parts(f));
    found
        .map(|f| format!("{}: a name that says nothing", f.path))
        .collect()
}

/// Functions over the bound, counted from `fn` to the closing brace.
pub fn long_functions(files: &[File], most: usize) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        for at in places(&file.code, "fn ") {
            let name = word(&file.code[at + 3..]);
            let Some(open) = body(&file.code, at).filter(|_| !name.is_empty()) else {
                continue;
            };
            let end = closing(&file.code, open);
            let lines = file.code[at..end].matches('\n').count() + 1;
            if lines > most {
                faults.push(format!("{}: fn {name} has {lines} lines", file.place(at)));
            }
        }
    }
    faults
}

/// The opening brace of a function; none if it is only declared.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (place, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(place),
            b';' if depth == 0 => return None,
            _ => (),
        }
    }
    None
}

/// Commands of the Makefile that the README does not print. What begins with `@` is no step.
pub fn unprinted(makefile: &str, readme: &str) -> Vec<String> {
    let steps = makefile.lines().filter_map(|line| line.strip_prefix('\t'));
    let steps = steps.map(|step| step.split(" 2>&1").next().unwrap_or(step));
    let ours = steps.filter(|step| {
        let command = step
            .split(' ')
            .find(|word| !word.contains('=') && !word.ends_with('"'));
        command == Some("cargo")
    });
    let unprinted = ours.filter(|step| !readme.contains(step));
    unprinted
        .map(|step| format!("README.md lacks: {step}"))
        .collect()
}

/// Lines of the tables that the README shows as measured and that their reports do not have; and tables
/// of which no report is named. `read` reads a report.
pub fn unmeasured(readme: &str, read: impl Fn(&str) -> String) -> Vec<String> {
    let mut faults = Vec::new();
    for part in readme.split("<!-- figures: ").skip(1) {
        let Some((path, rest)) = part.split_once(" -->") else {
            faults.push("README.md: figures without a report".to_owned());
            continue;
        };
        let (report, table) = (read(path), rest.split("<!-- end of figures").next());
        let rows = table.unwrap_or_default().lines().filter(|l| !l.is_empty());
        let strange = rows.filter(|row| !report.lines().any(|line| line == *row));
        faults.extend(strange.map(|row| format!("README.md: not in {path}: {row}")));
    }
    faults
}

/// Dependencies that the README does not explain.
pub fn unexplained(manifest: &str, readme: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && !line.starts_with('#') {
            names.extend(line.split_once(" = ").map(|(name, _)| name));
        }
    }
    let missing = names.iter().filter(|n| !readme.contains(&format!("`{n}`")));
    missing
        .map(|n| format!("README.md does not say why {n} is needed"))
        .collect()
}
