//! Which claim of a token gives which part of a [`Principal`], and how strictly it is read.

use super::json::Object;
use super::principal::{Marks, Method, Principal, Scopes};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::str::FromStr;
use std::sync::Arc;

/// The claims of a token: a JSON object without repeated members.
pub type Claims = Object;

/// The longest name of a claim, in bytes.
pub const MAX_NAME: usize = 256;

/// Where a claim stands: a member's name, or names joined by dots for a member further inside
/// (`realm_access.roles`). A member whose whole name is the text wins, so that names with dots in
/// them (`https://example.com/roles`) need no escaping.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath {
    whole: String,
    steps: Vec<String>,
}

impl ClaimPath {
    /// The value at this place, if there is one.
    pub fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        if let Some(value) = claims.get(&self.whole) {
            return Some(value);
        }
        let (first, rest) = self.steps.split_first()?;
        rest.iter()
            .try_fold(claims.get(first)?, |inside, step| inside.get(step))
    }
}

impl FromStr for ClaimPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_NAME {
            return Err(format!(
                "found {text:?}, want a claim's name of 1 to {MAX_NAME} bytes"
            ));
        }
        let mut steps: Vec<String> = text.split('.').map(str::to_owned).collect();
        if steps.len() == 1 || steps.iter().any(String::is_empty) {
            steps.clear();
        }
        Ok(ClaimPath {
            whole: text.to_owned(),
            steps,
        })
    }
}

/// Which claim gives what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMap {
    /// The account; a text. Default `sub`.
    pub user: ClaimPath,
    /// The scopes; the first of these that is there counts. A text of scopes parted by spaces
    /// (RFC 9068 §2.2.3) or an array of texts. Default `scope`, `scp`, `scopes`.
    pub scopes: Vec<ClaimPath>,
    /// The roles; an array of texts, or one role as a text. Default `roles`.
    pub roles: ClaimPath,
    /// The e-mail address; a text. Default `email`.
    pub email: ClaimPath,
    /// The tenant; a text. Default `tenant`.
    pub tenant: ClaimPath,
    /// The calling application; a text. Default `client_id`.
    pub client: ClaimPath,
    /// The service tier; a text. Default `tier`.
    pub tier: ClaimPath,
    /// What is kept besides, as it is, for routes and services to be told. Default: nothing.
    pub wanted: Arc<[Wanted]>,
}

/// A claim that is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Where it stands.
    pub path: ClaimPath,
    /// Whether control characters and characters beyond ASCII in it have the token refused.
    pub strict: bool,
}

impl Wanted {
    /// What the token says there.
    fn keep(&self, claims: &Claims) -> Result<Option<Value>, &'static str> {
        match present(&self.path, claims) {
            Some(value) if self.strict && !is_plain(value) => Err("a claim that services are told"),
            value => Ok(value.cloned()),
        }
    }
}

/// Whether all texts in it are printable ASCII.
fn is_plain(value: &Value) -> bool {
    let plain = |text: &str| text.bytes().all(|b| (b' '..=b'~').contains(&b));
    match value {
        Value::String(text) => plain(text),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(members) => members.iter().all(|(name, v)| plain(name) && is_plain(v)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

impl Default for ClaimMap {
    fn default() -> Self {
        let named = |name: &str| ClaimPath {
            whole: name.to_owned(),
            steps: Vec::new(),
        };
        ClaimMap {
            user: named("sub"),
            scopes: ["scope", "scp", "scopes"].map(named).to_vec(),
            roles: named("roles"),
            email: named("email"),
            tenant: named("tenant"),
            client: named("client_id"),
            tier: named("tier"),
            wanted: Arc::default(),
        }
    }
}

impl ClaimMap {
    /// The caller that `claims` speak of. A claim that is missing, null or an empty text gives
    /// nothing; one of another type than wanted is the error, by what it was to give.
    pub fn principal(
        &self,
        claims: &Claims,
        provider: &Arc<str>,
    ) -> Result<Principal, &'static str> {
        let scopes = self.scopes.iter().find_map(|path| present(path, claims));
        let roles = present(&self.roles, claims);
        let wanted = self.wanted.iter();
        Ok(Principal {
            client_id: text(&self.client, claims, "client")?,
            user: text(&self.user, claims, "user")?,
            scopes: scopes.map_or(Ok(Scopes::default()), scope_set)?,
            roles: roles.map_or(Ok(Vec::new()), role_list)?,
            email: text(&self.email, claims, "email")?,
            tenant: text(&self.tenant, claims, "tenant")?,
            tier: text(&self.tier, claims, "tier")?,
            claims: wanted.map(|w| w.keep(claims)).collect::<Result<_, _>>()?,
            bound: bound(claims)?,
            marks: marks(claims)?,
            ..Principal::new(Method::Jwt, provider)
        })
    }
}

/// The certificate that a token is bound to (RFC 8705 §3.1). A token that is bound to anything else is
/// refused: nobody here could prove it.
fn bound(claims: &Claims) -> Result<Option<[u8; 32]>, &'static str> {
    let Some(cnf) = claims.get("cnf") else {
        return Ok(None);
    };
    let Some(members) = cnf.as_object().filter(|members| members.len() == 1) else {
        return Err("cnf");
    };
    let print = members.get("x5t#S256").and_then(Value::as_str);
    let print = print.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let print = print.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    print.map(Some).ok_or("cnf")
}

/// What a revocation may name the token by; `kid` is not among the claims.
fn marks(claims: &Claims) -> Result<Marks, &'static str> {
    let text = |name: &'static str| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(name),
    };
    let issued = claims.get("iat").map(|at| numeric_date(at).ok_or("iat"));
    Ok(Marks {
        issuer: text("iss")?.map(Arc::from),
        jti: text("jti")?.map(Box::from),
        issued_s: issued.transpose()?.map(|ms| ms / 1000),
        kid: None,
    })
}

/// Whether a claim has one of these values, or a list with one of them. Numbers and truth values are
/// compared as they are written.
pub fn is_one_of(claim: &Value, values: &[String]) -> bool {
    match claim {
        Value::String(text) => values.iter().any(|value| value == text),
        Value::Array(items) => items
            .iter()
            .any(|item| !item.is_array() && is_one_of(item, values)),
        Value::Number(_) | Value::Bool(_) => {
            let text = claim.to_string();
            values.contains(&text)
        }
        Value::Null | Value::Object(_) => false,
    }
}

/// A `NumericDate` (RFC 7519 §2) in Unix milliseconds, fractions below cut off. None for anything
/// but a number from 0 to the end of the year 9999.
pub fn numeric_date(value: &Value) -> Option<u64> {
    const LAST_S: u64 = 253_402_300_799;
    if let Some(seconds) = value.as_u64() {
        return (seconds <= LAST_S).then(|| seconds * 1000);
    }
    let seconds = value.as_f64()?;
    (0.0..=LAST_S as f64)
        .contains(&seconds)
        .then_some((seconds * 1000.0) as u64)
}

fn present<'a>(path: &ClaimPath, claims: &'a Claims) -> Option<&'a Value> {
    path.find(claims).filter(|value| !value.is_null())
}

fn text(
    path: &ClaimPath,
    claims: &Claims,
    gives: &'static str,
) -> Result<Option<String>, &'static str> {
    match present(path, claims) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(gives),
    }
}

fn scope_set(value: &Value) -> Result<Scopes, &'static str> {
    match value {
        Value::String(text) => Ok(text.split(' ').collect()),
        _ => Ok(texts(value, "scopes")?.into_iter().collect()),
    }
}

fn role_list(value: &Value) -> Result<Vec<String>, &'static str> {
    match value {
        Value::String(role) if role.is_empty() => Ok(Vec::new()),
        Value::String(role) => Ok(vec![role.clone()]),
        _ => texts(value, "roles"),
    }
}

/// The non-empty texts of an array that holds nothing but texts.
fn texts(value: &Value, gives: &'static str) -> Result<Vec<String>, &'static str> {
    let items = value.as_array().ok_or(gives)?;
    let all: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
    let all = all.ok_or(gives)?.into_iter();
    Ok(all
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::json;
    use serde_json::json;

    fn read(map: &ClaimMap, claims: &Value) -> Result<Principal, &'static str> {
        map.principal(
            &json::object(claims.to_string().as_bytes()).unwrap(),
            &Arc::from("corp"),
        )
    }

    #[test]
    fn default_claims() {
        let claims = json!({
            "sub": "u1", "client_id": "web", "scope": "write:b read:a  read:a", "scopes": ["no"],
            "roles": ["admin", "", "ops"], "email": "a@example.com", "tenant": "acme",
            "tier": "gold",
        });
        let caller = read(&ClaimMap::default(), &claims).unwrap();
        assert_eq!(caller.user.as_deref(), Some("u1"));
        assert_eq!(caller.client(), "web");
        assert_eq!(
            caller.scopes.iter().collect::<Vec<_>>(),
            ["read:a", "write:b"]
        );
        assert_eq!(caller.roles, ["admin", "ops"]);
        assert!(caller.has_role("ops") && !caller.has_role("OPS"));
        assert_eq!(caller.email.as_deref(), Some("a@example.com"));
        assert_eq!(caller.tenant.as_deref(), Some("acme"));
        assert_eq!(caller.tier.as_deref(), Some("gold"));
    }

    #[test]
    fn scopes_and_roles_in_either_form() {
        let map = ClaimMap::default();
        let caller = read(&map, &json!({"scp": ["b", "a"], "roles": "admin"})).unwrap();
        assert!(caller.scopes.has("a") && caller.scopes.has("b"));
        assert_eq!(caller.roles, ["admin"]);
        let caller = read(&map, &json!({"scope": null, "scopes": ["x"], "roles": ""})).unwrap();
        assert!(caller.scopes.has("x") && caller.roles.is_empty());
        assert!(read(&map, &json!({"scope": ""})).unwrap().scopes.is_empty());
    }

    #[test]
    fn wrong_types_are_faults_and_empties_are_nothing() {
        let map = ClaimMap::default();
        for (claims, gives) in [
            (json!({"sub": 7}), "user"),
            (json!({"client_id": ["a"]}), "client"),
            (json!({"scope": 1}), "scopes"),
            (json!({"scope": ["a", 1]}), "scopes"),
            (json!({"roles": {"admin": true}}), "roles"),
            (json!({"roles": ["admin", null]}), "roles"),
            (json!({"email": true}), "email"),
            (json!({"tenant": {}}), "tenant"),
            (json!({"tier": 1}), "tier"),
        ] {
            assert_eq!(read(&map, &claims), Err(gives), "{claims}");
        }
        let caller = read(&map, &json!({"sub": "", "client_id": null, "email": ""})).unwrap();
        assert_eq!(
            (caller.user, caller.client_id, caller.email),
            (None, None, None)
        );
    }

    #[test]
    fn nested_and_dotted_names() {
        let find = |path: &str, claims: &Value| {
            let path: ClaimPath = path.parse().unwrap();
            path.find(&json::object(claims.to_string().as_bytes()).unwrap())
                .cloned()
        };
        let claims =
            json!({"a": {"b": {"c": 1}}, "https://x.example/r": 2, "d.e": 3, "d": {"e": 4}});
        assert_eq!(find("a.b.c", &claims), Some(json!(1)));
        assert_eq!(find("https://x.example/r", &claims), Some(json!(2)));
        assert_eq!(find("d.e", &claims), Some(json!(3)));
        for path in ["a.b.c.d", "a.x", "a..b", ".a", "x", "a.b.0"] {
            assert_eq!(find(path, &claims), None, "{path}");
        }
        assert!("".parse::<ClaimPath>().is_err());
        assert!("x".repeat(257).parse::<ClaimPath>().is_err());
        assert_eq!("sub".parse(), Ok(ClaimMap::default().user));
    }

    #[test]
    fn dates() {
        let date = |text: &str| numeric_date(&serde_json::from_str(text).unwrap());
        assert_eq!(date("1700000000"), Some(1_700_000_000_000));
        assert_eq!(date("1700000000.25"), Some(1_700_000_000_250));
        assert_eq!(date("1.7e9"), Some(1_700_000_000_000));
        assert_eq!(date("0"), Some(0));
        assert_eq!(date("253402300799"), Some(253_402_300_799_000));
        for text in [
            "253402300800",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
            "-1",
            "-0.5",
            "\"1700000000\"",
            "null",
            "true",
            "[1]",
            "{}",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
