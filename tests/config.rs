//! The config's cases: every file in `conf/` and `tests/conf_valid/` loads and compiles, every file
//! in `tests/conf_invalid/` is refused with exactly the text that lies beside it, every key of
//! `conf/full.yaml` and every message of the source is seen in one of those texts.
//!
//! `BLESS=1 cargo test --test config` writes the texts anew, for review.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use tollgate::base::clock::Clock;
use tollgate::config::api_keys::{ApiKeyConf, ApiKeysConf, KeyListConf, RedisKeysConf};
use tollgate::config::auth::RequiredAuthConf;
use tollgate::config::certificates::{CertificateClientConf, CertificatesConf};
use tollgate::config::fields::{Need, Rule};
use tollgate::config::file::FileConf;
use tollgate::config::identity::{
    ClaimHeaderConf, ClaimsConf, FailureLimitConf, IdentityConf, IdentityHeadersConf, JwksConf,
    JwtConf, JwtKeyConf, RequiredClaimConf,
};
use tollgate::config::introspection::IntrospectionConf;
use tollgate::config::limit::{LimitConf, OwnRateConf, PrefixesConf, TierConf};
use tollgate::config::listener::{
    Http2Conf, ListenerConf, ProbesConf, ProxyProtocolConf, RedirectConf,
};
use tollgate::config::redis::RedisConf;
use tollgate::config::revocation::RevocationConf;
use tollgate::config::route::{
    HeaderChoiceConf, MatchConf, RouteConf, StreamingConf, TenantChoiceConf, WebSocketConf,
    WeightsConf,
};
use tollgate::config::server::{AdminConf, DrainConf, FloodConf, LogConf, ServerConf};
use tollgate::config::tls::{
    CertificateConf, ClientCertificatesConf, KeyPairConf, TlsConf, UpstreamTlsConf,
};
use tollgate::config::upstream::{
    BreakerConf, HealthCheckConf, TargetConf, TimeoutsConf, UpstreamConf,
};
use tollgate::config::yaml::{self, Content, Node};
use tollgate::config::{self, Fault, Faults, Loaded};
use tollgate::edge::accept::Socket;
use tollgate::observe::metrics::Metrics;
use tollgate::server::prepare;
use tollgate::snapshot::compile::Tools;

/// The environment of all cases.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "TOLLGATE_ADMIN_TOKEN" => "a-token-for-tests-only",
        "PORT" => "8080",
        "WORD" => "problem",
        "SHORT_SECRET" => "hunter2-hunter2",
        "EMPTY" => "",
        "LOOKS_LIKE_A_FILE" => "file:/etc/hostname-but-not-read",
        _ => return None,
    };
    Some(value.to_owned())
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let paths = entries.map(|e| e.expect("a folder entry").path());
    let mut paths: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Compares with the text in a file, or writes it there.
fn expect(path: &Path, found: &str, failed: &mut Vec<String>) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, found).expect("a text to write");
        return;
    }
    let want = fs::read_to_string(path).unwrap_or_default();
    if want != found {
        failed.push(format!(
            "{}:\n--- want\n{want}--- found\n{found}",
            path.display()
        ));
    }
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    lines.join("\n") + if lines.is_empty() { "" } else { "\n" }
}

/// All stages, as `tollgate check` and `tollgate run` go through them.
fn load(path: &Path) -> Result<Loaded, Faults> {
    let mut loaded = config::load(path, &env)?;
    let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new("0", 0)));
    let tools = Tools {
        clock: &clock,
        metrics: &metrics,
        before: None,
    };
    let (_, tls) = prepare(&loaded.conf, &tools)?;
    loaded.warnings.extend(tls.warnings);
    Ok(loaded)
}

#[test]
fn every_example_compiles_without_a_warning() {
    let examples = files("conf", "yaml");
    assert!(examples.len() >= 3, "{examples:?}");
    for path in examples {
        let loaded = load(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(lines(&loaded.warnings), "", "{}", path.display());
    }
}

#[test]
fn every_valid_case_compiles_with_the_warnings_beside_it() {
    let mut failed = Vec::new();
    for path in files("tests/conf_valid", "yaml") {
        match load(&path) {
            Err(faults) => failed.push(faults.to_string()),
            Ok(loaded) => {
                let text = path.with_extension("txt");
                if !loaded.warnings.is_empty() || text.exists() {
                    expect(&text, &lines(&loaded.warnings), &mut failed);
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// A text without a config beside it is about a file that does not exist.
#[test]
fn every_invalid_case_is_refused_with_the_text_beside_it() {
    let mut failed = Vec::new();
    let mut cases: BTreeSet<PathBuf> = files("tests/conf_invalid", "yaml").into_iter().collect();
    cases.extend(
        files("tests/conf_invalid", "txt")
            .iter()
            .map(|p| p.with_extension("yaml")),
    );
    for path in cases {
        match load(&path) {
            Ok(_) => failed.push(format!("{}: compiles", path.display())),
            Err(faults) => expect(&path.with_extension("txt"), &lines(&faults.0), &mut failed),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn five_faults_are_five_lines() {
    let path = Path::new("tests/conf_invalid/five_faults.yaml");
    let faults = config::load(path, &env).expect_err("five faults");
    assert_eq!(faults.0.len(), 5, "{faults}");
    let keys: BTreeSet<String> = faults.0.iter().map(|f| f.place.key.to_string()).collect();
    assert_eq!(keys.len(), 5, "{faults}");
}

/// All texts that were expected, refusals and warnings.
fn expected() -> String {
    let refused = files("tests/conf_invalid", "txt");
    let warned = files("tests/conf_valid", "txt");
    refused.iter().chain(&warned).map(|p| read(p)).collect()
}

/// A key without the names of items: `routes[users].auth.any[0]` is `routes.auth.any`.
fn without_items(key: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for c in key.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Every key below a node; what users name, such as the entries of `values`, `weights` and `tiers`, are items,
/// not keys.
fn keys(node: &Node, path: &str, free: bool, all: &mut BTreeSet<String>) {
    match &node.content {
        Content::Text { .. } => {}
        Content::List(items) => items.iter().for_each(|n| keys(n, path, false, all)),
        Content::Map(entries) => {
            for entry in entries {
                let key = match path {
                    "" => entry.key.clone(),
                    _ if free => path.to_owned(),
                    _ => format!("{path}.{}", entry.key),
                };
                let named = match entry.key.as_str() {
                    "values" | "weights" | "tiers" => true,
                    "claims" => path.ends_with("auth"),
                    "roles" => path == "identity",
                    _ => false,
                };
                let free = !free && named;
                keys(&entry.value, &key, free, all);
                all.insert(key);
            }
        }
    }
}

#[test]
fn every_key_is_at_fault_in_some_case() {
    let mut wanted = BTreeSet::new();
    for path in ["conf/full.yaml", "conf/keys/api-keys.yaml"] {
        let root = yaml::read(&read(Path::new(path)), &path.into()).expect("YAML");
        keys(&root.expect("keys"), "", false, &mut wanted);
    }
    let texts = expected();
    let found: BTreeSet<String> = texts
        .lines()
        .filter_map(|line| line.split(": ").nth(1).map(without_items))
        .collect();
    let missing: Vec<_> = wanted.difference(&found).collect();
    assert!(
        wanted.len() > 100,
        "conf/full.yaml has only {} keys",
        wanted.len()
    );
    assert!(
        missing.is_empty(),
        "no case has these at fault: {missing:#?}"
    );
}

/// Every list of keys there is.
const RULES: &[&[Rule]] = &[
    FileConf::RULES,
    ServerConf::RULES,
    DrainConf::RULES,
    AdminConf::RULES,
    LogConf::RULES,
    FloodConf::RULES,
    ListenerConf::RULES,
    TlsConf::RULES,
    CertificateConf::RULES,
    ClientCertificatesConf::RULES,
    ProxyProtocolConf::RULES,
    RedirectConf::RULES,
    Http2Conf::RULES,
    ProbesConf::RULES,
    RedisConf::RULES,
    RevocationConf::RULES,
    IdentityConf::RULES,
    IdentityHeadersConf::RULES,
    JwtConf::RULES,
    JwksConf::RULES,
    JwtKeyConf::RULES,
    RequiredClaimConf::RULES,
    ClaimsConf::RULES,
    IntrospectionConf::RULES,
    ApiKeysConf::RULES,
    RedisKeysConf::RULES,
    KeyListConf::RULES,
    ApiKeyConf::RULES,
    LimitConf::RULES,
    TierConf::RULES,
    OwnRateConf::RULES,
    PrefixesConf::RULES,
    UpstreamConf::RULES,
    UpstreamTlsConf::RULES,
    KeyPairConf::RULES,
    TargetConf::RULES,
    TimeoutsConf::RULES,
    HealthCheckConf::RULES,
    BreakerConf::RULES,
    RouteConf::RULES,
    StreamingConf::RULES,
    WebSocketConf::RULES,
    MatchConf::RULES,
    RequiredAuthConf::RULES,
    ClaimHeaderConf::RULES,
    FailureLimitConf::RULES,
    CertificatesConf::RULES,
    CertificateClientConf::RULES,
    WeightsConf::RULES,
    HeaderChoiceConf::RULES,
    TenantChoiceConf::RULES,
];

#[test]
fn a_key_is_documented_with_its_default_and_range() {
    let example = read(Path::new("conf/full.yaml")) + &read(Path::new("conf/keys/api-keys.yaml"));
    for rule in RULES.iter().copied().flatten() {
        let shown = |text: &str| {
            let (key, doc) = (rule.key, rule.doc);
            assert!(doc.contains(text), "{key}: no {text} in {doc:?}");
        };
        match rule.need {
            Need::Default("{}") | Need::Required(_) | Need::Optional => {}
            Need::Default(list) if list.starts_with('[') => shown("Default"),
            Need::Default(text) => {
                shown("Default");
                shown(text);
            }
        }
        if let Some((least, most)) = rule.range {
            assert!(
                rule.doc.contains(least),
                "{}: no {least} in {:?}",
                rule.key,
                rule.doc
            );
            // The greatest may be another key's value.
            assert!(
                rule.doc.contains(most) || rule.doc.contains("up to"),
                "{}: no {most}",
                rule.key
            );
        }
        assert!(
            example.contains(&format!("{}:", rule.key)),
            "conf/full.yaml lacks {}",
            rule.key
        );
    }
}

/// The literal that follows each `message!(` in a source.
fn messages(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let calls = source.split("message!(").skip(1);
    let literals = calls.filter_map(|call| call.trim_start().strip_prefix('"'));
    literals.map(literal).collect()
}

/// A string literal up to its closing quote, escapes resolved.
fn literal(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// The parts of a template between its placeholders.
fn fixed_parts(template: &str) -> Vec<String> {
    let template = template.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut parts = Vec::new();
    for part in template.split('{') {
        let fixed = part.split_once('}').map_or(part, |(_, after)| after);
        parts.push(fixed.replace('\u{1}', "{").replace('\u{2}', "}"));
    }
    parts
}

/// Whether some line holds all the parts, in order.
fn is_shown(parts: &[String], texts: &str) -> bool {
    texts.lines().any(|line| {
        let mut rest = line;
        parts.iter().all(|part| match rest.find(part.as_str()) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    })
}

#[test]
fn every_message_is_shown_by_some_case() {
    let texts = expected();
    let mut count = 0;
    let mut missing = Vec::new();
    let stages = ["src/config", "src/snapshot"];
    for path in stages.iter().flat_map(|stage| files(stage, "rs")) {
        for template in messages(&read(&path)) {
            count += 1;
            if !is_shown(&fixed_parts(&template), &texts) {
                missing.push(format!("{}: {template}", path.display()));
            }
        }
    }
    assert!(count > 50, "only {count} messages found in the source");
    assert!(
        missing.is_empty(),
        "no case shows these:\n{}",
        missing.join("\n")
    );
}

/// What can be judged from the file is judged before the second stage, so that one run tells of it
/// all. What is left there to say is in two texts of `compile.rs`: that a fault has slipped through,
/// and that this machine lacks something.
#[test]
fn the_second_stage_has_no_texts_of_its_own() {
    for path in files("src/snapshot", "rs") {
        let texts = read(&path).matches("Fault::new(").count();
        let want = if path.ends_with("compile.rs") { 2 } else { 0 };
        assert_eq!(texts, want, "{}", path.display());
    }
    for slipped in ["has passed the check", "cannot be used on this machine"] {
        assert!(!expected().contains(slipped), "{slipped}");
    }
}

/// What is said of two addresses is what the system says when both are bound.
#[test]
fn addresses_that_cannot_be_bound_together_are_those_at_fault() {
    let hosts = ["0.0.0.0", "127.0.0.1", "127.0.0.2", "[::]", "[::1]"];
    let mapped = ["[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"];
    let address = |host: &str, port: u16| format!("{host}:{port}").parse().expect("an address");
    let mut bound = 0;
    for a in hosts.iter().chain(&mapped) {
        for b in hosts.iter().chain(&mapped) {
            // A machine may have no IPv6.
            let Ok(first) = Socket::bind(address(a, 0)) else {
                continue;
            };
            let port = first.address().expect("a port").port();
            let refused = match Socket::bind(address(b, port)) {
                Ok(_) => false,
                Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => true,
                Err(_) => continue,
            };
            let text = format!(
                "listeners: [{{ name: a, address: \"{a}:{port}\" }}, {{ name: b, address: \"{b}:{port}\" }}]
upstreams: [{{ name: up, targets: [\"10.0.0.1:80\"] }}]
routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]"
            );
            let faulty = config::parse(&text, "a.yaml", Path::new(""), &env).is_err();
            assert_eq!(faulty, refused, "{a} and {b}");
            bound += 1;
        }
    }
    assert!(bound >= 9, "only {bound} pairs could be tried");
}

#[test]
fn no_message_shows_a_secret() {
    let texts = expected();
    for secret in ["hunter2", "a-token-for-tests-only", "correct-horse"] {
        assert!(!texts.contains(secret), "{secret} is shown");
    }
}

proptest! {
    /// Whatever is done to a config, it loads or is refused with faults that lie within it.
    #[test]
    fn a_mangled_config_is_refused_and_never_more(
        edits in prop::collection::vec((0usize..20_000, 0usize..40, ".{0,6}|[-:{}\\[\\]*&!|>'\"\n ${]{1,3}"), 1..4),
    ) {
        let mut text: Vec<char> = read(Path::new("conf/full.yaml")).chars().collect();
        for (at, cut, put) in edits {
            let at = at % text.len();
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        let lines = text.split(['\n', '\r']).count() + 1;
        if let Err(faults) = config::parse(&text, "m.yaml", Path::new("conf"), &env) {
            prop_assert!(!faults.0.is_empty());
            for fault in faults.0.iter().filter(|f| &*f.place.file == "m.yaml") {
                prop_assert!((1..=lines).contains(&(fault.place.line as usize)), "{fault}");
                prop_assert!(!fault.to_string().contains('\n'), "{fault}");
            }
        }
    }
}
