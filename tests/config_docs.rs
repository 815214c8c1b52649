//! The documents' YAML: every block in `README.md` and `docs/` loads as it stands.
//!
//! A block that is not a whole file is completed: each top-level key it lacks is taken from a base.

use std::fs;
use std::path::Path;
use tollgate::config::{self, Loaded};
use tollgate::observe::reason::Reason;

/// A whole config, key by key; what a fragment does not write comes from here.
const BASE: &[(&str, &str)] = &[
    (
        "listeners",
        "listeners: [{ name: public, address: \"127.0.0.1:8080\" }]",
    ),
    (
        "identity",
        "identity:
  jwt:
    - name: corp
      issuer: \"https://auth.example.com/\"
      audiences: [api.example.com]
      algorithms: [RS256]
      jwks: { file: keys/jwks.json }
  api_keys:
    - { name: partners, file: keys/api-keys.yaml }",
    ),
    (
        "limits",
        "limits: [{ name: standard, key: client, algorithm: sliding_window, rate: 100/1m }]",
    ),
    (
        "upstreams",
        "upstreams:
  - { name: users-v1, targets: [\"10.0.1.22:3001\"] }
  - { name: users-v2, targets: [\"10.0.2.7:3002\"] }
  - { name: users-canary, targets: [\"10.0.2.8:3002\"] }",
    ),
    (
        "routes",
        "routes: [{ name: users, match: { path: /users }, auth: none, to: users-v1 }]",
    ),
];

/// The blocks of a Markdown text fenced as `yaml`, each with the line it starts on.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if inside && line.starts_with("```") {
            inside = false;
        } else if inside {
            let (_, block) = found.last_mut().expect("a block was begun");
            block.push_str(line);
            block.push('\n');
        } else if line == "```yaml" {
            found.push((number + 1, String::new()));
            inside = true;
        }
    }
    found
}

fn complete(block: &str) -> String {
    let has = |key: &str| block.lines().any(|l| l.starts_with(&format!("{key}:")));
    let missing = BASE.iter().filter(|(key, _)| !has(key));
    let missing: Vec<&str> = missing.map(|(_, text)| *text).collect();
    format!("{block}{}\n", missing.join("\n"))
}

fn load(text: &str, name: &str) -> Result<Loaded, String> {
    let env = |name: &str| (name == "TOLLGATE_ADMIN_TOKEN").then(|| "a-token-for-tests".to_owned());
    config::parse(text, name, Path::new("conf"), &env).map_err(|faults| faults.to_string())
}

fn documents() -> Vec<(String, String)> {
    let folder = fs::read_dir("docs").expect("the folder docs");
    let paths = folder.map(|entry| entry.expect("a folder entry").path());
    let mut paths: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
        .collect();
    paths.push("README.md".into());
    let read = |p: &Path| fs::read_to_string(p).expect("a document");
    paths
        .iter()
        .map(|p| (p.display().to_string(), read(p)))
        .collect()
}

#[test]
fn every_block_of_the_documents_loads() {
    let mut failed = Vec::new();
    let mut count = 0;
    for (name, text) in documents() {
        for (line, block) in blocks(&text) {
            count += 1;
            if let Err(faults) = load(&complete(&block), &name) {
                failed.push(format!("the block on line {line}:\n{faults}"));
            }
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n\n"));
    assert!(count >= 8, "blocks are found: {count}");
}

#[test]
fn the_readmes_example_is_whole_and_short() {
    let readme = fs::read_to_string("README.md").expect("README.md");
    let (_, example) = &blocks(&readme)[0];
    let loaded = load(example, "README.md").unwrap_or_else(|faults| panic!("\n{faults}"));
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
    assert!(example.lines().count() <= 22, "about 20 lines");
}

#[test]
fn the_guide_lists_every_code_of_a_refusal() {
    let guide = fs::read_to_string("docs/guide.md").expect("docs/guide.md");
    let (_, answers) = guide.split_once("\n## Answers\n").expect("its section");
    let shown = |code: &str| answers.contains(&format!("`{code}`"));
    let codes = Reason::ALL.iter().map(|reason| reason.code());
    let missing: Vec<_> = codes.filter(|code| !shown(code)).collect();
    assert!(missing.is_empty(), "docs/guide.md lacks {missing:?}");
}

#[test]
fn a_block_that_does_not_load_is_found() {
    let found = blocks("a\n```yaml\nroutes: 7\n```\n```\nno: yaml\n```\n");
    assert_eq!(found, [(2, "routes: 7\n".to_owned())]);
    assert!(load(&complete(&found[0].1), "x").is_err());
    assert!(load(&complete(""), "x").is_ok(), "the base itself is good");
}
