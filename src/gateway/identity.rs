//! Who calls, as services are told: one value a header, in characters that a header may hold, whatever
//! the issuer signed.

use super::send::value;
use crate::identity::principal::Principal;
use crate::snapshot::{IdentityHeaders, ListForm};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use pingora::Result;
use serde_json::Value;
use std::fmt::Write as _;

/// Tells a service who calls.
///
/// # Errors
/// A value cannot be written into a header.
pub fn tell(request: &mut Parts, principal: &Principal, names: &IdentityHeaders) -> Result<()> {
    let headers = &mut request.headers;
    let make = || identity(principal, names);
    principal.told.put(names.mark, make, |name, value| {
        headers.insert(name, value);
    })
}

/// The most fields that tell of a caller, besides claims.
pub const TOLD: usize = 5;

fn identity(
    principal: &Principal,
    names: &IdentityHeaders,
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut fields = Vec::with_capacity(TOLD);
    let texts = [
        (&names.user, &principal.user),
        (&names.email, &principal.email),
        (&names.client, &principal.client_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            fields.push((name.clone(), value(encode(text))?));
        }
    }
    if !principal.scopes.is_empty() {
        let scopes = list(principal.scopes.iter(), names.scopes_form);
        fields.push((names.scopes.clone(), value(scopes)?));
    }
    if !principal.roles.is_empty() {
        let roles = list(principal.roles.iter().map(String::as_str), names.roles_form);
        fields.push((names.roles.clone(), value(roles)?));
    }
    for told in &names.claims {
        let claim = principal.claims.get(told.claim).and_then(Option::as_ref);
        if let Some(text) = claim.and_then(|claim| written_claim(claim, told.form)) {
            fields.push((told.header.clone(), value(text)?));
        }
    }
    Ok(fields)
}

fn list<'a>(items: impl Iterator<Item = &'a str>, form: ListForm) -> String {
    let join = |between: &str, items: Vec<String>| items.join(between);
    match form {
        ListForm::Space => join(" ", items.map(encode_item).collect()),
        ListForm::Comma => join(",", items.map(encode_item).collect()),
        ListForm::Json => {
            let mut out = String::from("[");
            for (i, item) in items.enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                json_string(item, &mut out);
            }
            out + "]"
        }
    }
}

/// A claim as one value: a text, a number or a truth value as it is, a list as it is to be written, what
/// has members as JSON. Nothing for a list or a text that is empty.
fn written_claim(claim: &Value, form: ListForm) -> Option<String> {
    match claim {
        Value::Null => None,
        Value::String(text) => Some(encode(text)).filter(|text| !text.is_empty()),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) if form != ListForm::Json => {
            let texts: Vec<String> = items.iter().map(plain_or_json).collect();
            Some(list(texts.iter().map(String::as_str), form))
        }
        Value::Array(_) | Value::Object(_) => {
            let mut out = String::new();
            json(claim, &mut out);
            Some(out)
        }
    }
}

/// An item of a list that is joined.
fn plain_or_json(item: &Value) -> String {
    match item {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// JSON in ASCII, so that it fits a header.
fn json(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => json_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                json(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                json_string(name, out);
                out.push(':');
                json(value, out);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

/// A JSON string in ASCII, so that it fits a header.
fn json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// Percent-encodes what a header value must not hold: control characters, everything beyond ASCII,
/// and `%` itself, so that it can be undone. Spaces at either end, too: whoever reads a header drops
/// them (RFC 9110 §5.5), and `alice ` would be `alice`.
fn encode(text: &str) -> String {
    let outer = text.starts_with(' ') || text.ends_with(' ');
    encode_but(text, |b| {
        (b' '..0x7f).contains(&b) && b != b'%' && !(outer && b == b' ')
    })
}

/// As [`encode`]; in a list the separators are encoded too.
fn encode_item(text: &str) -> String {
    encode_but(text, |b| b.is_ascii_graphic() && b != b'%' && b != b',')
}

fn encode_but(text: &str, plain: impl Fn(u8) -> bool) -> String {
    if text.bytes().all(&plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for b in text.bytes() {
        if plain(b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_are_one_value_each() {
        let of = |claim: Value, form| written_claim(&claim, form);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(json!("sales"), ListForm::Json), some("sales"));
        assert_eq!(
            of(json!("a\r\nX-Admin: 1"), ListForm::Json),
            some("a%0D%0AX-Admin: 1")
        );
        assert_eq!(of(json!(7.5), ListForm::Json), some("7.5"));
        assert_eq!(of(json!(true), ListForm::Space), some("true"));
        assert_eq!(
            of(json!(["a b", "ü", 3]), ListForm::Json),
            some(r#"["a b","\u00fc",3]"#)
        );
        assert_eq!(
            of(json!(["a b", "ü", 3]), ListForm::Space),
            some("a%20b %C3%BC 3")
        );
        assert_eq!(
            of(json!(["a,b", {"c": 1}]), ListForm::Comma),
            some("a%2Cb,{\"c\":1}")
        );
        let object = json!({"org": {"name": "\u{7f}é", "ids": [1, null]}});
        let text = of(object.clone(), ListForm::Space).expect("a text");
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), object);
        for nothing in [json!(null), json!(""), json!([])] {
            assert_eq!(of(nothing, ListForm::Json), None);
        }
    }

    #[test]
    fn lists_in_each_form() {
        let items = ["read:users", "a b", "ü\"\n"];
        let all = || items.iter().copied();
        assert_eq!(list(all(), ListForm::Space), "read:users a%20b %C3%BC\"%0A");
        assert_eq!(list(all(), ListForm::Comma), "read:users,a%20b,%C3%BC\"%0A");
        let json = list(all(), ListForm::Json);
        assert_eq!(json, r#"["read:users","a b","\u00fc\"\u000a"]"#);
        let back: Vec<String> = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!(back, items);
        assert_eq!(list([].into_iter(), ListForm::Json), "[]");
    }

    #[test]
    fn no_value_can_break_out_of_its_header() {
        assert_eq!(encode("alice"), "alice");
        assert_eq!(encode("a\r\nX-Admin: 1"), "a%0D%0AX-Admin: 1");
        assert_eq!(encode("50%"), "50%25");
        assert_eq!(encode("a b"), "a b");
        assert_eq!(encode("alice "), "alice%20");
        assert_eq!(encode("\u{7f}é"), "%7F%C3%A9");
    }
}
