//! `tollgate keys`: makes API keys. The key itself is shown once and stored nowhere.

use super::USAGE;
use crate::identity::api_key::{self, ApiKeyRecord};
use crate::identity::rfc3339;
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
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

/// Appends to a key file; a new one is readable by its owner alone.
fn append(path: &Path, entry: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let empty = file.metadata()?.len() == 0;
    let text = if empty {
        format!("keys:\n{entry}")
    } else {
        entry.to_owned()
    };
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::identity::ApiKeyConf;

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
