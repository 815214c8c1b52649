//! What a token says, by the second readers.

use crate::keys::{AUDIENCE, LEEWAY_S, NOW_S};
use crate::{base64url, json};
use json::Json;

/// The longest token that may be accepted, in bytes.
pub const LONGEST: usize = 8 * 1024;
/// The longest key id.
const LONGEST_KID: usize = 256;
/// The end of the year 9999.
const LAST_S: f64 = 253_402_300_799.0;

/// A token in compact form (RFC 7515 §7.1) whose first two parts are JSON objects (RFC 7519 §7.2), each with one
/// reading only.
pub struct Reading {
    pub header: Json,
    pub claims: Json,
    pub signature: Vec<u8>,
}

impl Reading {
    /// Reads a token. None if it is none.
    pub fn of(token: &str) -> Option<Reading> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return None;
        };
        let signature = base64url::read(signature)?;
        (token.len() <= LONGEST && !signature.is_empty()).then_some(())?;
        Some(Reading {
            header: json::object(&base64url::read(header)?)?,
            claims: json::object(&base64url::read(claims)?)?,
            signature,
        })
    }

    /// Why this may not be accepted from the issuer `iss` that signs with `alg`, whoever has signed it.
    pub fn fault(&self, iss: &str, alg: &str) -> Option<&'static str> {
        header_fault(&self.header, alg).or_else(|| claims_fault(&self.claims, iss))
    }
}

fn header_fault(header: &Json, alg: &str) -> Option<&'static str> {
    let typ = header.get("typ").map(|typ| typ.text().unwrap_or_default());
    let typ = typ.map(str::to_ascii_lowercase);
    let kid = header.get("kid").map(|kid| kid.text().map(str::len));
    if header.get("alg").and_then(Json::text) != Some(alg) {
        return Some("another algorithm (RFC 8725 §3.1)");
    }
    if header.get("crit").is_some() {
        return Some("a critical header (RFC 7515 §4.1.11)");
    }
    if kid.is_some_and(|length| length.is_none_or(|length| length > LONGEST_KID)) {
        return Some("no key id (RFC 7515 §4.1.4)");
    }
    match typ
        .as_deref()
        .map(|typ| typ.strip_prefix("application/").unwrap_or(typ))
    {
        None | Some("jwt" | "at+jwt") => None,
        Some(_) => Some("another type (RFC 8725 §3.11)"),
    }
}

fn claims_fault(claims: &Json, iss: &str) -> Option<&'static str> {
    if claims.get("iss").and_then(Json::text) != Some(iss) {
        return Some("another issuer (RFC 7519 §4.1.1)");
    }
    let one = |aud: &Json| aud.text() == Some(AUDIENCE);
    let many = |aud: &Json| {
        let all = aud.list().unwrap_or_default();
        all.iter().any(one) && all.iter().all(|aud| aud.text().is_some())
    };
    if !claims.get("aud").is_some_and(|aud| one(aud) || many(aud)) {
        return Some("another audience (RFC 7519 §4.1.3)");
    }
    let date = |name: &str| {
        claims
            .get(name)
            .map(|date| date.number().unwrap_or(f64::NAN))
    };
    let (now, leeway) = (NOW_S as f64, LEEWAY_S as f64);
    // To the millisecond, as the gateway reckons.
    let on_time = |exp: f64| (0.0..=LAST_S).contains(&exp) && now < exp + leeway;
    if !date("exp").is_some_and(on_time) {
        return Some("its time is over (RFC 7519 §4.1.4)");
    }
    let begun = |nbf: f64| (0.0..=LAST_S).contains(&nbf) && nbf < now + leeway + 0.001;
    if !date("nbf").is_none_or(begun) {
        return Some("its time has not come (RFC 7519 §4.1.5)");
    }
    let named = |name: &str| {
        claims
            .get(name)
            .and_then(Json::text)
            .is_some_and(|text| !text.is_empty())
    };
    (!named("sub") && !named("client_id")).then_some("it speaks for nobody (RFC 7519 §4.1.2)")
}

/// Whether nothing in the token is there that a rule could be about, other than what every token has: such a
/// token must be accepted if [`Reading::fault`] finds nothing.
pub fn is_plain(reading: &Reading) -> bool {
    let names = |json: &Json, known: &[&str]| {
        let mut names = json.members().iter().map(|(name, _)| name.as_str());
        names.all(|name| known.contains(&name) || name.starts_with("x-"))
    };
    let sub = reading.claims.get("sub").and_then(Json::text);
    names(&reading.header, &["alg", "typ", "kid"])
        && names(&reading.claims, &["iss", "aud", "exp", "nbf", "sub"])
        && reading
            .header
            .get("kid")
            .is_none_or(|kid| kid.text() == Some("k"))
        && sub.is_some_and(|sub| !sub.is_empty())
}
