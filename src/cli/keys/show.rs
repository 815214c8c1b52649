//! What is shown of keys: never the key, and of its digest only the begin.

use crate::identity::key_record::{KeyFault, KeyRecord};
use crate::identity::rfc3339;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The columns of a table.
const COLUMNS: [&str; 8] = [
    "ID", "CLIENT", "TIER", "SCOPES", "LIMIT", "EXPIRES", "STATE", "HASH",
];

/// Whether a key may be used, in a word.
fn state(record: &KeyRecord, now_unix_s: u64) -> &'static str {
    match record.usable(now_unix_s) {
        Ok(()) => "live",
        Err(KeyFault::Disabled) => "disabled",
        Err(_) => "expired",
    }
}

/// All of them as a table, a heading first.
pub fn table(records: &[KeyRecord], now_unix_s: u64) -> String {
    let or_none = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or("-".to_owned());
    let row = |record: &KeyRecord| {
        [
            record.id.to_string(),
            record.client.to_string(),
            or_none(record.tier.as_deref().map(str::to_owned)),
            or_none(Some(record.scopes.join(" "))),
            or_none(record.rate_limit.map(|rate| rate.to_string())),
            or_none(record.expires_unix_s.map(rfc3339::format)),
            state(record, now_unix_s).to_owned(),
            record.digest.short(),
        ]
    };
    let rows: Vec<_> = [COLUMNS.map(str::to_owned)]
        .into_iter()
        .chain(records.iter().map(row))
        .collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(|at| width(at).unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// All of them as a JSON array.
pub fn json(records: &[KeyRecord], now_unix_s: u64) -> Value {
    let one = |record: &KeyRecord| {
        json!({
            "id": record.id,
            "client": record.client,
            "tier": record.tier,
            "scopes": record.scopes,
            "roles": record.roles,
            "rate_limit": record.rate_limit.map(|rate| rate.to_string()),
            "expires": record.expires_unix_s.map(rfc3339::format),
            "state": state(record, now_unix_s),
            "hash": record.digest.short(),
        })
    };
    records.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::key_format::generate;

    #[test]
    fn a_table_and_its_json() {
        let (plain, first) = generate("Mobile App");
        let first = KeyRecord {
            id: "k1".into(),
            scopes: ["a", "b"].map(Box::from).into(),
            rate_limit: "1000/hr".parse().ok(),
            ..first
        };
        let second = KeyRecord {
            id: "k2".into(),
            expires_unix_s: Some(1000),
            tier: Some("gold".into()),
            ..first.clone()
        };
        let third = KeyRecord {
            disabled: true,
            ..second.clone()
        };
        let hash = first.digest.short();
        let all = [first, second, third];
        let want = format!(
            "ID  CLIENT      TIER  SCOPES  LIMIT    EXPIRES               STATE     HASH\n\
             k1  Mobile App  -     a b     1000/1h  -                     live      {hash}\n\
             k2  Mobile App  gold  a b     1000/1h  1970-01-01T00:16:40Z  expired   {hash}\n\
             k2  Mobile App  gold  a b     1000/1h  1970-01-01T00:16:40Z  disabled  {hash}\n"
        );
        assert_eq!(table(&all, 1000), want);
        let shown = json(&all, 999);
        assert_eq!(shown[1]["state"], "live");
        assert_eq!(shown[0]["expires"], Value::Null);
        let text = shown.to_string();
        assert!(!text.contains(&plain) && !text.contains(&all[0].digest.hex()));
    }
}
