//! Each rule on a small text that breaks it, and on one that does not.

use super::rules::*;
use super::source::File;

fn file(path: &str, text: &str) -> Vec<File> {
    vec![File::new(path, text)]
}

#[track_caller]
fn found(faults: &[String], count: usize) {
    assert_eq!(faults.len(), count, "{faults:?}");
}

#[test]
fn names_outside_their_places() {
    let of = |path: &str, text: &str| named_elsewhere(&file(path, text), PLACES);
    found(&of("src/filter/auth.rs", "use pingora::proxy::X;"), 1);
    found(&of("src/filter/auth.rs", "use pingora_limits::Rate;"), 1);
    found(&of("src/filter/auth.rs", "fn f(s: &mut Session) {}"), 1);
    found(
        &of("src/gateway/send.rs", "use pingora::proxy::Session;"),
        0,
    );
    found(&of("src/route/table.rs", "use tokio::time::sleep;"), 1);
    found(&of("src/breaker/mod.rs", "fn f(c: &Clock) {}"), 1);
    found(&of("src/server.rs", "use tokio::time::sleep;"), 0);
    found(
        &of("src/server.rs", "let t = std::time::Instant::now();"),
        1,
    );
    found(&of("src/base/clock.rs", "let t = Instant::now();"), 0);
    found(
        &of("src/identity/api_key.rs", "use subtle::ConstantTimeEq;"),
        2,
    );
    found(
        &of("src/gateway/send.rs", "let s = StatusCode::BAD_GATEWAY;"),
        1,
    );
    found(
        &of("src/gateway/fail.rs", "let s = StatusCode::BAD_GATEWAY;"),
        0,
    );
    found(
        &of(
            "src/gateway/record.rs",
            "let n = \"tollgate_requests_total\";",
        ),
        1,
    );
    found(&of("src/gateway/record.rs", "use prometheus::Counter;"), 1);
    found(&of("src/config/mod.rs", "println!(\"hello\");"), 1);
    found(
        &of("src/config/mod.rs", "let text = \"println!\"; // println!"),
        0,
    );
    found(&of("src/config/mod.rs", "std::process::exit(1);"), 1);
}

#[test]
fn names_that_have_one_place_or_none() {
    let of = |path: &str, text: &str| named_elsewhere(&file(path, text), PLACES);
    let session = "use pingora::proxy::Session;";
    found(&of("src/gateway/receive.rs", session), 1);
    found(&of("src/gateway/screen.rs", session), 0);
    for theirs in [
        "use pingora::services::Service;",
        "use pingora::listeners::Listeners;",
        "let s = pingora::server::Server::new(None);",
        "let s = pingora::proxy::http_proxy_service(&conf, app);",
    ] {
        found(&of("src/server.rs", theirs), 1);
        found(&of("src/edge/open.rs", theirs), 1);
    }
    let conf = "use pingora::server::configuration::ServerConf;";
    found(&of("src/server.rs", conf), 0);
    let peer = "let p = HttpPeer::new(name, false, String::new());";
    found(&of("src/gateway/choose.rs", peer), 1);
    found(&of("src/upstream/peer.rs", peer), 0);
    let expect = "fn f() { x.expect(\"three parts\") }";
    found(&of("src/gateway/send.rs", expect), 1);
    found(&of("src/config/value.rs", expect), 0);
    let test = "#[cfg(test)]\nmod tests { fn f() { x.expect(\"three parts\") } }";
    found(&of("src/gateway/send.rs", test), 0);
}

#[test]
fn panics_on_purpose() {
    let of = |text: &str| banned(&file("src/a.rs", text));
    found(
        &of("fn f() { x.unwrap(); todo!(); panic!(\"\"); dbg!(x); unimplemented!() }"),
        5,
    );
    found(&of("fn f() { x.expect(\"\") }"), 1);
    found(
        &of("fn f() { x.unwrap_or(1); x.expect(\"three parts\"); my_panic!() }"),
        0,
    );
    found(&of("#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }"), 0);
    found(
        &banned(&file("src/breaker/tests.rs", "fn f() { x.unwrap() }")),
        0,
    );
}

#[test]
fn exceptions_without_reason() {
    let of = |text: &str| exceptions(&file("src/a.rs", text));
    found(
        &of("#[allow(dead_code)]\n#[expect(clippy::x)]\nfn f() {}"),
        2,
    );
    found(
        &of("#[allow(dead_code, reason = \"kept for\")]\nfn f() {}"),
        0,
    );
}

#[test]
fn confs_with_a_rest() {
    let of = |text: &str| rest_patterns(&file("src/snapshot/a.rs", text));
    found(&of("let RouteConf { name, .. } = conf;"), 1);
    found(&of("match to { ToConf::Header { name, .. } => name }"), 1);
    found(
        &of("let RouteConf { name, span: Span { line, .. } } = conf;"),
        0,
    );
    found(&of("fn f() -> RouteConf { for i in 0..3 {} }"), 0);
    found(
        &rest_patterns(&file(
            "src/config/a.rs",
            "let RouteConf { name, .. } = conf;",
        )),
        0,
    );
}

#[test]
fn confs_nobody_reads() {
    let conf = File::new(
        "src/config/a.rs",
        "pub struct AConf { pub a: u8 }\npub struct Other;",
    );
    let used = File::new("src/snapshot/a.rs", "let AConf { a } = conf;");
    found(&unwired(&[conf]), 1);
    let conf = File::new("src/config/a.rs", "pub struct AConf { pub a: u8 }");
    found(&unwired(&[conf, used]), 0);
}

#[test]
fn files_without_head_too_long_or_vague() {
    found(&headless(&file("src/a.rs", "use x;")), 1);
    found(&headless(&file("src/a.rs", "//! A.\nuse x;")), 0);
    found(&long_files(&file("src/a.rs", "a\nb\nc\n"), 2), 1);
    found(&long_files(&file("src/a.rs", "a\nb\n"), 2), 0);
    found(&vague_names(&file("src/base/util.rs", "")), 1);
    found(&vague_names(&file("src/base/units.rs", "")), 0);
}

#[test]
fn functions_too_long() {
    let long = "impl A {\n  fn a(x: [u8; 3]) -> u8 {\n    1;\n    2\n  }\n}\nfn b() {}\n";
    found(&long_functions(&file("src/a.rs", long), 3), 1);
    found(&long_functions(&file("src/a.rs", long), 4), 0);
    let declared = "trait T {\n fn a();\n fn b();\n fn c();\n}\nfn d() {}\n";
    found(&long_functions(&file("src/a.rs", declared), 1), 0);
}

#[test]
fn lines_the_readme_lacks() {
    let makefile = "test:\n\tcargo fmt --check\n\tA=\"-D x\" cargo test 2>&1 | tee x\n\t@cargo x\n";
    found(&unprinted(makefile, "cargo fmt --check\n"), 1);
    found(
        &unprinted(makefile, "cargo fmt --check\nA=\"-D x\" cargo test\n"),
        0,
    );
}

#[test]
fn dependencies_without_a_reason() {
    let manifest = "[dependencies]\n# x = y\nhttp = \"1\"\n[profile.dev]\nlto = true\n[dev-dependencies]\nb = \"2\"\n";
    found(&unexplained(manifest, "`http` for x"), 1);
    found(&unexplained(manifest, "`http` for x, `b` for y"), 0);
}

#[test]
fn figures_that_nobody_measured() {
    let report = |_: &str| "| a | 1 |\n| b | 2 |\n".to_owned();
    let of = |table: &str| {
        let readme = format!("x\n<!-- figures: r.md -->\n{table}\n<!-- end of figures -->\ny | 3");
        unmeasured(&readme, report)
    };
    found(&of("| a | 1 |\n| b | 2 |"), 0);
    found(&of("| a | 1 |\n| b | 3 |"), 1);
}
