//! A token taken apart: size and shape, header, claims. Nothing of it is verified here, so it is good
//! only for deciding who is to verify it and with which key.
//!
//! No header field but `alg`, `kid`, `typ`, `cty`, `crit` and `b64` is looked at, so `jku`, `x5u`,
//! `jwk` and `x5c` cannot bring in a key (RFC 8725 §3.10). They do not count against a token either:
//! well-known issuers put some of them into every token.

use super::alg::Alg;
use super::claims::Claims;
use super::json::{self, Object};
use super::jwt::JwtFault;
use super::key::MAX_KID;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// A token, read and not verified.
pub struct Unverified<'a> {
    parts: Parts<'a>,
    header: Header,
    claims: Claims,
}

/// What a token says that it is, without `application/` in front (RFC 7515 §4.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It does not say.
    Unsaid,
    /// A JWT (RFC 7519 §5.1).
    Jwt,
    /// An access token (RFC 9068 §2.1).
    AccessToken,
    /// Anything else, a token in a token (RFC 7519 §5.2) among it.
    Other,
}

/// The only header fields that count.
struct Header {
    alg: Alg,
    kid: Option<String>,
    kind: Kind,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub fn read(token: &'a str) -> Result<Self, JwtFault> {
        let parts = Parts::split(token)?;
        let header = Header::read(parts.header)?;
        if parts.signature.is_empty() {
            return Err(JwtFault::Malformed);
        }
        let claims = object(parts.payload)?;
        Ok(Self {
            parts,
            header,
            claims,
        })
    }

    /// The issuer it claims to be from.
    pub fn iss(&self) -> Result<&str, JwtFault> {
        match self.claims.get("iss") {
            None => Err(JwtFault::MissingClaim("iss")),
            Some(Value::String(iss)) => Ok(iss),
            Some(_) => Err(JwtFault::BadClaim("iss")),
        }
    }

    /// The key it names.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    pub(super) fn alg(&self) -> Alg {
        self.header.alg
    }

    pub(super) fn kind(&self) -> Kind {
        self.header.kind
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What was signed.
    pub(super) fn message(&self) -> &'a [u8] {
        self.parts.message.as_bytes()
    }

    /// The signature, still in base64url.
    pub(super) fn signature(&self) -> &'a str {
        self.parts.signature
    }
}

/// A token cut in three, nothing decoded.
struct Parts<'a> {
    message: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Parts<'a>, JwtFault> {
        if token.len() > MAX_TOKEN {
            return Err(JwtFault::TooLarge);
        }
        let mut dots = memchr::memchr_iter(b'.', token.as_bytes());
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(JwtFault::Malformed);
        };
        Ok(Parts {
            message: &token[..second],
            header: &token[..first],
            payload: &token[first + 1..second],
            signature: &token[second + 1..],
        })
    }
}

/// The JSON object in a segment, its base64url strict: no padding, no bits left over.
fn object(segment: &str) -> Result<Object, JwtFault> {
    let text = URL_SAFE_NO_PAD.decode(segment);
    let text = text.map_err(|_| JwtFault::Malformed)?;
    json::object(&text).ok_or(JwtFault::Malformed)
}

impl Header {
    fn read(segment: &str) -> Result<Header, JwtFault> {
        let mut fields = object(segment)?;
        // Claims that are not in base64url (RFC 7797) are for no JWT, whatever `crit` says of it.
        let encoded = fields.get("b64").is_none_or(|b64| *b64 == true);
        if fields.contains_key("crit") || !encoded {
            return Err(JwtFault::CriticalHeader);
        }
        let kid = match fields.remove("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid),
            Some(_) => return Err(JwtFault::Malformed),
        };
        let alg = fields
            .get("alg")
            .and_then(Value::as_str)
            .ok_or(JwtFault::Malformed)?;
        let alg = Alg::named(alg).ok_or(JwtFault::AlgorithmNotAllowed)?;
        let kind = match kind(fields.get("cty"))? {
            Kind::Jwt => Kind::Other,
            // No media type at all: whoever wrote it may mean anything (RFC 7515 §4.1.10).
            Kind::Other if fields.get("cty").is_some_and(|cty| *cty == "") => Kind::Other,
            _ => kind(fields.get("typ"))?,
        };
        Ok(Header { alg, kid, kind })
    }
}

/// What a media type says (RFC 7515 §4.1.9, §4.1.10).
fn kind(media_type: Option<&Value>) -> Result<Kind, JwtFault> {
    const LONG: &str = "application/";
    let Some(said) = media_type else {
        return Ok(Kind::Unsaid);
    };
    let said = said.as_str().ok_or(JwtFault::Malformed)?;
    let short = match said.split_at_checked(LONG.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(LONG) => rest,
        _ => said,
    };
    Ok(match short {
        _ if short.eq_ignore_ascii_case("JWT") => Kind::Jwt,
        _ if short.eq_ignore_ascii_case("at+jwt") => Kind::AccessToken,
        _ => Kind::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types() {
        for said in ["JWT", "jwt", "Application/JWT"] {
            assert_eq!(kind(Some(&json!(said))), Ok(Kind::Jwt), "{said}");
        }
        for said in ["at+jwt", "AT+JWT", "application/at+jwt"] {
            assert_eq!(kind(Some(&json!(said))), Ok(Kind::AccessToken), "{said}");
        }
        for said in ["JOSE", "", "application/", "dpop+jwt", "x/jwt", "é"] {
            assert_eq!(kind(Some(&json!(said))), Ok(Kind::Other), "{said}");
        }
        assert_eq!(kind(None), Ok(Kind::Unsaid));
        assert_eq!(kind(Some(&json!(1))), Err(JwtFault::Malformed));
    }

    #[test]
    fn what_a_token_says() {
        let segment = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = segment(json!({"alg": "RS256", "kid": "k1"}));
        let token = |claims: Value| format!("{head}.{}.AAAA", segment(claims));
        let named = token(json!({"x": {"iss": "no"}, "iss": "a\u{e9}\"b"}));
        let read = Unverified::read(&named).unwrap();
        assert_eq!((read.iss(), read.kid()), (Ok("a\u{e9}\"b"), Some("k1")));
        assert_eq!((read.alg(), read.kind()), (Alg::RS256, Kind::Unsaid));
        let iss = |claims| Unverified::read(&token(claims)).unwrap().iss().map(drop);
        assert_eq!(iss(json!({"iss": 1})), Err(JwtFault::BadClaim("iss")));
        assert_eq!(iss(json!({})), Err(JwtFault::MissingClaim("iss")));
        // A content type of nothing once passed as none; found by fuzzing.
        let nested = |cty: &str| {
            let head = segment(json!({"alg": "RS256", "cty": cty}));
            let token = format!("{head}.{}.AAAA", segment(json!({"iss": "a"})));
            Unverified::read(&token).unwrap().kind()
        };
        for (cty, kind) in [
            ("", Kind::Other),
            ("JWT", Kind::Other),
            ("json", Kind::Unsaid),
        ] {
            assert_eq!(nested(cty), kind, "{cty}");
        }
        let long = "a".repeat(MAX_TOKEN + 1);
        assert!(matches!(Unverified::read(&long), Err(JwtFault::TooLarge)));
    }

    #[test]
    fn no_text_makes_it_panic() {
        for token in ["", ".", "..", "...", "é.é.é", "a.é.c", "\0.\0.\0", "a.b.c"] {
            let read = Unverified::read(token);
            assert!(matches!(read, Err(JwtFault::Malformed)), "{token}");
        }
    }
}
