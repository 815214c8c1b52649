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
    /// None where the last part is not base64url.
    pub signature: Option<Vec<u8>>,
}

impl Reading {
    /// Reads a token. None if it is none.
    pub fn of(token: &str) -> Option<Reading> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return None;
        };
        (token.len() <= LONGEST && !signature.is_empty()).then_some(())?;
        Some(Reading {
            header: json::object(&base64url::read(header)?)?,
            claims: json::object(&base64url::read(claims)?)?,
            signature: base64url::read(signature),
        })
    }

    /// Why this may not be accepted from the issuer `iss` that signs with `alg`, whoever has signed it.
    pub fn fault(&self, iss: &str, alg: &str) -> Option<&'static str> {
        if self.signature.is_none() {
            return Some("a signature that is not base64url (RFC 7515 §5.2)");
        }
        header_fault(&self.header, alg).or_else(|| claims_fault(&self.claims, iss))
    }
}

fn header_fault(header: &Json, alg: &str) -> Option<&'static str> {
    let kid = header.get("kid").map(|kid| kid.text().map(str::len));
    if header.get("alg").and_then(Json::text) != Some(alg) {
        return Some("another algorithm (RFC 8725 §3.1)");
    }
    if header.get("crit").is_some() {
        return Some("a critical header (RFC 7515 §4.1.11)");
    }
    if header
        .get("b64")
        .is_some_and(|b64| *b64 != Json::Bool(true))
    {
        return Some("claims that are not encoded (RFC 7797 §3)");
    }
    if kid.is_some_and(|length| length.is_none_or(|length| length > LONGEST_KID)) {
        return Some("no key id (RFC 7515 §4.1.4)");
    }
    if media_type(header, "cty").is_some_and(|cty| cty == "jwt" || cty.is_empty()) {
        return Some("a token in a token (RFC 7519 §5.2)");
    }
    match media_type(header, "typ").as_deref() {
        None | Some("jwt" | "at+jwt") => None,
        Some(_) => Some("another type (RFC 8725 §3.11)"),
    }
}

/// What a media type says, without its usual beginning (RFC 7515 §4.1.9); empty where it is no text.
fn media_type(header: &Json, name: &str) -> Option<String> {
    let said = header.get(name)?.text().unwrap_or_default();
    let said = said.to_ascii_lowercase();
    let short = said.strip_prefix("application/").unwrap_or(&said);
    Some(short.to_owned())
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
    if !date("nbf").is_none_or(begun) || !date("iat").is_none_or(begun) {
        return Some("its time has not come (RFC 7519 §4.1.5, §4.1.6)");
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
        && names(&reading.claims, &["iss", "aud", "exp", "nbf", "iat", "sub"])
        && reading
            .header
            .get("kid")
            .is_none_or(|kid| kid.text() == Some("k"))
        && sub.is_some_and(|sub| !sub.is_empty())
}
