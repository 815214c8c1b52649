//! Key files: entries are added, changed and taken out where they stand, so that the rest of the file,
//! comments too, stays as it is. A file is replaced whole, and only by one that reads back as meant.

use crate::config::api_keys::{Keys, read_keys};
use crate::identity::key_record::KeyRecord;
use crate::identity::rfc3339;
use std::fmt::{Display, Write as _};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file of keys.
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The file at this path, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The keys in it.
    pub fn all(&self) -> Result<Vec<KeyRecord>, String> {
        let text = std::fs::read_to_string(&self.0).map_err(|e| self.fault(&e))?;
        Ok(self.read(&text)?.records.to_vec())
    }

    /// Adds a key at the end; a new file is readable by its owner alone.
    pub fn add(&self, record: &KeyRecord) -> Result<(), String> {
        let before = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(self.fault(&e)),
        };
        let empty = before.trim().is_empty();
        let mut want = if empty {
            Vec::new()
        } else {
            self.read(&before)?.records.to_vec()
        };
        want.push(record.clone());
        let text = with_entry(&before, &entry(record));
        if !self.holds(&text, &want) {
            return Err(self.fault(&"the list in it cannot be added to: write it as `keys:` and one `- id: …` a key, or leave out --file and add the entry by hand"));
        }
        self.replace(&text).map_err(|e| self.fault(&e))
    }

    /// Puts these keys where the one with an id was.
    pub fn put(&self, old: &KeyRecord, new: &[&KeyRecord]) -> Result<(), String> {
        let before = std::fs::read_to_string(&self.0).map_err(|e| self.fault(&e))?;
        let keys = self.read(&before)?;
        let at = keys.records.iter().position(|record| record.id == old.id);
        let at = at.ok_or_else(|| self.fault(&"the key is not in it any more"))?;
        let mut want = keys.records.to_vec();
        want.splice(at..=at, new.iter().map(|record| (*record).clone()));
        let entries: String = new.iter().map(|record| entry(record)).collect();
        let text = instead(&before, &keys, at, &entries);
        if !self.holds(&text, &want) {
            return Err(self.fault(&"the entry in it cannot be changed: write each key as a `- id: …` on lines of its own, or change it by hand"));
        }
        self.replace(&text).map_err(|e| self.fault(&e))
    }

    fn fault(&self, why: &dyn Display) -> String {
        format!("{}: {why}", self.0.display())
    }

    fn read(&self, text: &str) -> Result<Keys, String> {
        let read = read_keys(text, &self.0.display().to_string());
        read.map_err(|faults| self.fault(&faults))
    }

    /// Whether a text reads back as these keys.
    fn holds(&self, text: &str, want: &[KeyRecord]) -> bool {
        self.read(text).is_ok_and(|keys| *keys.records == *want)
    }

    /// Replaces the file behind the path, links followed; owner and permissions stay.
    fn replace(&self, text: &str) -> std::io::Result<()> {
        let path = self.0.canonicalize().unwrap_or_else(|_| self.0.clone());
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
            std::fs::rename(&draft, &path)?;
            // The name is as lasting as what it names.
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        written
    }
}

/// The record as an item of a key file. JSON strings are YAML strings (YAML 1.2 §1.3).
pub fn entry(record: &KeyRecord) -> String {
    let KeyRecord {
        id,
        digest,
        client,
        tier,
        scopes,
        roles,
        rate_limit,
        expires_unix_s,
        disabled,
    } = record;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let list = |items: &[Box<str>]| {
        let items: Vec<&str> = items.iter().map(|item| &**item).collect();
        serde_json::Value::from(items).to_string()
    };
    let (hash, client) = (digest.to_text(), quoted(client));
    let mut out = format!("  - id: {id}\n    hash: {hash}\n    client: {client}\n");
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
    if let Some(rate) = rate_limit {
        line("rate_limit", rate.to_string());
    }
    if let Some(expires) = expires_unix_s {
        line("expires", quoted(&rfc3339::format(*expires)));
    }
    if *disabled {
        line("disabled", "true".to_owned());
    }
    out
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

/// The text with these entries instead of the lines of one; what follows it but is not of it, such as
/// the comment above the next one, stays.
fn instead(before: &str, keys: &Keys, at: usize, entries: &str) -> String {
    let lines: Vec<&str> = before.split_inclusive('\n').collect();
    let line = |at: usize| keys.line(at).saturating_sub(1).min(lines.len());
    let begin = line(at);
    let next = if at + 1 < keys.records.len() {
        line(at + 1)
    } else {
        lines.len()
    };
    let of_none = |line: &&&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let own = lines.get(begin..next).unwrap_or_default();
    let end = next - own.iter().rev().take_while(of_none).count();
    let (head, tail) = (lines[..begin].concat(), lines[end.max(begin)..].concat());
    let break_after = |text: &str| {
        if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        }
    };
    if entries.is_empty() && keys.records.len() == 1 {
        let none = head.replacen("keys:", "keys: []", 1);
        return format!("{none}{tail}");
    }
    format!("{head}{}{entries}{tail}", break_after(&head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::key_format::generate;

    fn new(client: &str) -> KeyRecord {
        generate(client).1
    }

    fn file(folder: &tempfile::TempDir, text: &str) -> KeyFile {
        let path = folder.path().join("keys.yaml");
        std::fs::write(&path, text).expect("a file");
        KeyFile::new(path)
    }

    fn text(file: &KeyFile) -> String {
        std::fs::read_to_string(&file.0).expect("a file")
    }

    #[test]
    fn a_file_is_added_to_whatever_its_end_or_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for before in ["", "keys: []", "keys: []\n", "# ours\nkeys: []\n"] {
            let file = file(&folder, before);
            file.add(&new("new")).expect("a first key");
            file.add(&new("new")).expect("a second key");
            std::fs::write(&file.0, text(&file).trim_end()).expect("no final line feed");
            file.add(&new("new")).expect("a third key");
            assert_eq!(file.all().expect("a key file").len(), 3, "{before:?}");
        }
        for before in ["keys: [] # none", "a: b", "keys: ["] {
            let file = file(&folder, before);
            file.add(&new("new")).expect_err(before);
            assert_eq!(text(&file), before, "left alone");
        }
    }

    #[test]
    fn an_entry_reads_back_as_it_was_made() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let record = KeyRecord {
            tier: Some("gold".into()),
            scopes: ["read:a"].map(Box::from).into(),
            roles: ["a \"b\": c"].map(Box::from).into(),
            rate_limit: "1000/hr".parse().ok(),
            expires_unix_s: Some(1_800_000_000),
            disabled: true,
            ..new("a client: \"x\"")
        };
        let file = KeyFile::new(folder.path().join("keys.yaml"));
        file.add(&record).expect("a new file");
        file.add(&new("second")).expect("the same file");
        assert_eq!(file.all().expect("a key file")[0], record);
    }

    #[test]
    fn what_stands_around_an_entry_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [a, b, c] = ["a", "b", "c"].map(|id| KeyRecord {
            id: id.into(),
            ..new(id)
        });
        let flow = format!(
            "  - {{ id: b, hash: \"{}\", client: b }}  # flow\n",
            b.digest.to_text()
        );
        let all = format!(
            "# ours\nkeys:\n{}\n# about b\n{flow}\n  # about c\n{}# end",
            entry(&a),
            entry(&c)
        );
        let of = |text: &str| file(&folder, text);
        let kept = of(&all);
        kept.put(&b, &[]).expect("b is taken out");
        assert_eq!(text(&kept), all.replace(&flow, ""));
        let ends = KeyRecord {
            expires_unix_s: Some(1000),
            ..c.clone()
        };
        kept.put(&ends, &[&ends, &b]).expect("c ends, b comes back");
        let want = all
            .replace(&flow, "")
            .replace(&entry(&c), &format!("{}{}", entry(&ends), entry(&b)));
        assert_eq!(text(&kept), want);
        for record in [&a, &b, &ends] {
            kept.put(record, &[]).expect("taken out");
        }
        let none = "# ours\nkeys: []\n\n# about b\n\n  # about c\n# end";
        assert_eq!(text(&kept), none);
        let file = of(all.trim_end_matches("# end").trim_end());
        file.put(&c, &[&c, &ends_of(&b)])
            .expect("the last one, without a line feed");
        assert_eq!(file.all().expect("a key file").len(), 4);
        let flow = of(&format!(
            "keys: [{}]",
            flow.trim()
                .trim_start_matches("- ")
                .trim_end_matches("  # flow")
        ));
        let before = text(&flow);
        flow.put(&b, &[]).expect_err("one line holds it all");
        assert_eq!(text(&flow), before);
    }

    fn ends_of(record: &KeyRecord) -> KeyRecord {
        KeyRecord {
            id: "d".into(),
            ..new(&record.client)
        }
    }
}
