//! `tollgate keys`: makes API keys. The key itself is shown once and stored nowhere.

use super::USAGE;
use crate::config::identity;
use crate::identity::api_key::{self, ApiKeyRecord};
use crate::identity::rfc3339;
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key: prints it once, and the entry for the key file, which holds its hash alone.
    New(New),
}

/// A key to be made.
#[derive(Debug, Args)]
pub struct New {
    /// The client it is for.
    #[arg(long)]
    client: String,
    /// The client's service tier.
    #[arg(long)]
    tier: Option<String>,
    /// A scope it gives; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A role it gives; may be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// When it ends, such as 2027-01-31T00:00:00Z; never without this.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Append the entry to this key file, made if it is not there.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs the command.
pub fn run(keys: Keys) -> ExitCode {
    let Keys::New(new) = keys;
    let expires = new.expires.as_deref().map(rfc3339::parse).transpose();
    let expires_unix_s = match expires {
        Ok(expires) => expires,
        Err(why) => {
            eprintln!("--expires: {why}");
            return USAGE.into();
        }
    };
    if new.client.trim().is_empty() {
        eprintln!("--client: found an empty name, want the client's name");
        return USAGE.into();
    }
    let (plain, record) = api_key::generate(&new.client);
    let record = ApiKeyRecord {
        tier: new.tier,
        scopes: new.scopes,
        roles: new.roles,
        expires_unix_s,
        ..record
    };
    let entry = entry(&record);
    match &new.file {
        None => println!("key (shown once): {plain}\n\nkeys:\n{entry}"),
        Some(path) => {
            if let Err(why) = append(path, &entry) {
                eprintln!("{}: {why}", path.display());
                return ExitCode::FAILURE;
            }
            println!("key (shown once): {plain}");
        }
    }
    ExitCode::SUCCESS
}

/// The record as an item of a key file. JSON strings are YAML strings (YAML 1.2 §1.3).
fn entry(record: &ApiKeyRecord) -> String {
    let ApiKeyRecord {
        id,
        hash,
        client,
        tier,
        scopes,
        roles,
        expires_unix_s,
    } = record;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let list = |items: &[String]| serde_json::Value::from(items.to_vec()).to_string();
    let mut out = format!(
        "  - id: {id}\n    hash: {hash}\n    client: {}\n",
        quoted(client)
    );
    let mut line = |key: &str, value: String| {
        let _ = writeln!(out, "    {key}: {value}");
    };
    if let Some(tier) = tier {
        line("tier", quoted(tier));
    }
    if !scopes.is_empty() {
        line("scopes", list(scopes));
    }
    if !roles.is_empty() {
        line("roles", list(roles));
    }
    if let Some(expires) = expires_unix_s {
        line("expires", quoted(&rfc3339::format(*expires)));
    }
    out
}

/// Appends to a key file; a new one is readable by its owner alone. The file is replaced whole, and
/// only by one that reads back with every key it had and the new one.
fn append(path: &Path, entry: &str) -> Result<(), String> {
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e.to_string()),
    };
    let name = path.display().to_string();
    let had = if before.trim().is_empty() {
        0
    } else {
        let read = identity::read_keys(&before, &name);
        read.map_err(|faults| faults.to_string())?.len()
    };
    let text = with_entry(&before, entry);
    let read = identity::read_keys(&text, &name);
    if read.map_or(0, |keys| keys.len()) != had + 1 {
        return Err("the list in it cannot be added to: write it as `keys:` and one `- id: …` a key, or leave out --file and add the entry by hand".to_owned());
    }
    replace(path, &text).map_err(|e| e.to_string())
}

fn with_entry(before: &str, entry: &str) -> String {
    let before = before.trim_end();
    let list = match before.strip_suffix("keys: []") {
        Some(head) => format!("{head}keys:"),
        None if before.is_empty() => "keys:".to_owned(),
        None => before.to_owned(),
    };
    format!("{list}\n{entry}")
}

/// Replaces the file behind the path, links followed; owner and permissions stay.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| {
        if let Ok(old) = std::fs::metadata(&path) {
            file.set_permissions(old.permissions())?;
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::identity::ApiKeyConf;

    #[test]
    fn a_file_is_added_to_whatever_its_end_or_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("keys.yaml");
        let new = || entry(&api_key::generate("new").1);
        for before in ["", "keys: []", "keys: []\n", "# ours\nkeys: []\n"] {
            std::fs::write(&path, before).expect("a file");
            append(&path, &new()).expect("a first key");
            append(&path, &new()).expect("a second key");
            let text = std::fs::read_to_string(&path).expect("a file");
            std::fs::write(&path, text.trim_end()).expect("no final line feed");
            append(&path, &new()).expect("a third key");
            let text = std::fs::read_to_string(&path).expect("a file");
            let keys = identity::read_keys(&text, "keys.yaml").expect("a key file");
            assert_eq!(keys.len(), 3, "{before:?}");
        }
        for before in ["keys: [] # none", "a: b", "keys: ["] {
            std::fs::write(&path, before).expect("a file");
            append(&path, &new()).expect_err(before);
            let after = std::fs::read_to_string(&path).expect("a file");
            assert_eq!(after, before, "left alone");
        }
    }

    #[test]
    fn an_entry_reads_back_as_it_was_made() {
        let record = ApiKeyRecord {
            tier: Some("gold".into()),
            scopes: vec!["read:a".into()],
            roles: vec!["a \"b\": c".into()],
            expires_unix_s: Some(1_800_000_000),
            ..api_key::generate("a client: \"x\"").1
        };
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("keys.yaml");
        append(&path, &entry(&record)).expect("a new file");
        append(&path, &entry(&api_key::generate("second").1)).expect("the same file");
        let conf = format!(
            "listeners: [{{ name: l, address: \"127.0.0.1:0\" }}]\n\
             upstreams: [{{ name: u, targets: [\"127.0.0.1:1\"] }}]\n\
             identity: {{ api_keys: [{{ name: k, file: {} }}] }}\n\
             routes: [{{ name: r, match: {{ path: / }}, auth: {{ any: [k] }}, to: u }}]\n",
            path.display()
        );
        let loaded = crate::config::parse(&conf, "test.yaml", dir.path(), &|_| None);
        let loaded = loaded.expect("a valid config");
        let keys = &loaded.conf.identity.api_keys[0].value.file.value.keys;
        assert_eq!(keys.len(), 2);
        let read: &ApiKeyConf = &keys[0].value;
        assert_eq!(read.client.value, "a client: \"x\"");
        assert_eq!(read.roles[0].value, "a \"b\": c");
        assert_eq!(
            read.expires.as_ref().map(|e| e.value.0),
            Some(1_800_000_000)
        );
    }
}
