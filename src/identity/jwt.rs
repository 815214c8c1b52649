//! Tokens (RFC 7519) as RFC 8725 wants them verified: nothing optional, nothing taken on trust.
//!
//! The order is fixed: size and shape, header, algorithm against the configuration and against the
//! key, signature, and only then the claims. No header field but `alg`, `kid`, `typ` and `crit` is
//! looked at, so `jku`, `x5u`, `jwk` and `x5c` cannot bring in a key.

use super::alg::{Alg, Algs, KeyKind};
use super::claims::{ClaimMap, Claims, Wanted, numeric_date};
use super::key::MAX_KID;
use super::keyset::{KeySet, NoKey};
use super::{json, principal::Principal};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use thiserror::Error;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;
/// The most clock skew that may be configured.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// Why a token was refused. Closed, and free of anything the caller sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JwtFault {
    /// Not three segments of strict base64url with a JSON object in the first two.
    #[error("not a well-formed signed token")]
    Malformed,
    /// Longer than [`MAX_TOKEN`].
    #[error("longer than {MAX_TOKEN} bytes")]
    TooLarge,
    /// The algorithm is not configured for the issuer, or not what the key is for.
    #[error("its algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// No key for it is known; the issuer may have published one since.
    #[error("its key is not known")]
    UnknownKey,
    /// No key that may be tried has made the signature.
    #[error("its signature is wrong")]
    BadSignature,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` has not come yet.
    #[error("not valid yet")]
    NotYetValid,
    /// `iss` is not the configured issuer.
    #[error("from another issuer")]
    WrongIssuer,
    /// `aud` does not hold a configured audience.
    #[error("meant for another audience")]
    WrongAudience,
    /// A required claim is not there.
    #[error("without the claim {0}")]
    MissingClaim(&'static str),
    /// A claim is not of the type it must have.
    #[error("with a claim {0} of the wrong type or range")]
    BadClaim(&'static str),
    /// The header marks something as critical (RFC 7515 §4.1.11); we know no such extension.
    #[error("with a critical header")]
    CriticalHeader,
    /// `typ` says that it is something other than a JWT.
    #[error("of another type")]
    WrongType,
}

/// What is believed of one issuer's tokens, before it is checked by [`Issuer::new`].
#[derive(Clone, Debug)]
pub struct IssuerRules {
    /// The provider's name in our configuration.
    pub name: String,
    /// The exact `iss`.
    pub issuer: String,
    /// The audiences of which a token must have one.
    pub audiences: Vec<String>,
    /// The algorithms its tokens may use; all HMAC or none.
    pub algorithms: Vec<Alg>,
    /// How far the issuer's clock may be off, at most [`MAX_LEEWAY`].
    pub leeway: Duration,
    /// Which claim gives what.
    pub claims: ClaimMap,
}

/// An issuer, compiled.
#[derive(Debug)]
pub struct Issuer {
    serial: u64,
    name: Arc<str>,
    iss: String,
    audiences: Vec<String>,
    algorithms: Algs,
    leeway_ms: u64,
    claims: ClaimMap,
}

/// A token that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who it speaks for.
    pub principal: Principal,
    /// Its `exp`, in Unix milliseconds, without leeway.
    pub exp_ms: u64,
}

impl Issuer {
    /// Compiles the rules. The error says which of them is wrong, and how.
    pub fn new(rules: IssuerRules) -> Result<Issuer, String> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let IssuerRules {
            name,
            issuer,
            audiences,
            algorithms,
            leeway,
            claims,
        } = rules;
        let wanted = |what: &str| Err(format!("{what}, and none is given"));
        if issuer.is_empty() {
            return wanted("issuer: want the exact `iss` of its tokens");
        }
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return wanted("audiences: want at least one `aud`, none of them empty");
        }
        let algorithms: Algs = algorithms.into_iter().collect();
        let secret = algorithms.both(Algs::of_kind(KeyKind::Secret));
        if algorithms.is_empty() {
            return wanted("algorithms: want at least one");
        }
        if !secret.is_empty() && secret != algorithms {
            return Err("algorithms: HS256, HS384 and HS512 cannot be mixed with others".into());
        }
        if leeway > MAX_LEEWAY {
            return Err(format!(
                "leeway: found {leeway:?}, want at most {MAX_LEEWAY:?}"
            ));
        }
        Ok(Issuer {
            serial: SERIAL.fetch_add(1, Relaxed),
            name: Arc::from(name),
            iss: issuer,
            audiences,
            algorithms,
            leeway_ms: leeway.as_millis() as u64,
            claims,
        })
    }

    /// A number that no other compiled issuer of this process has; a cached verdict names it.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The provider's name in our configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The exact `iss` of its tokens.
    pub fn iss(&self) -> &str {
        &self.iss
    }

    /// What of its tokens is kept besides.
    pub fn wanted(&self) -> &[Wanted] {
        &self.claims.wanted
    }

    /// The algorithms its tokens may use.
    pub fn algorithms(&self) -> Algs {
        self.algorithms
    }

    /// Verifies `token` against this issuer's rules and `keys`.
    pub fn verify(
        &self,
        keys: &KeySet,
        token: &str,
        now_unix_ms: u64,
    ) -> Result<Verified, JwtFault> {
        let parts = Parts::split(token)?;
        let header = Header::read(parts.header)?;
        if !self.algorithms.contains(header.alg) {
            return Err(JwtFault::AlgorithmNotAllowed);
        }
        check_signature(keys, &header, &parts)?;
        let claims = parts.claims()?;
        self.check_issuer(&claims)?;
        self.check_audience(&claims)?;
        let exp_ms = self.check_times(&claims, now_unix_ms)?;
        let mut principal = self
            .claims
            .principal(&claims, &self.name)
            .map_err(JwtFault::BadClaim)?;
        if principal.user.is_none() && principal.client_id.is_none() {
            // Without a name the upstream would be told of nobody in particular.
            return Err(JwtFault::MissingClaim("sub"));
        }
        principal.marks.kid = header.kid.map(String::into_boxed_str);
        Ok(Verified { principal, exp_ms })
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), JwtFault> {
        match claims.get("iss") {
            None => Err(JwtFault::MissingClaim("iss")),
            Some(Value::String(iss)) if *iss == self.iss => Ok(()),
            Some(Value::String(_)) => Err(JwtFault::WrongIssuer),
            Some(_) => Err(JwtFault::BadClaim("iss")),
        }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), JwtFault> {
        let ours = |aud: &str| self.audiences.iter().any(|own| own == aud);
        let met = match claims.get("aud") {
            None => return Err(JwtFault::MissingClaim("aud")),
            Some(Value::String(aud)) => ours(aud),
            Some(Value::Array(all)) => {
                let all: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
                let all = all.ok_or(JwtFault::BadClaim("aud"))?;
                all.into_iter().any(ours)
            }
            Some(_) => return Err(JwtFault::BadClaim("aud")),
        };
        if met {
            Ok(())
        } else {
            Err(JwtFault::WrongAudience)
        }
    }

    /// Checks `exp` (RFC 7519 §4.1.4) and `nbf` (§4.1.5); gives `exp` in Unix milliseconds.
    fn check_times(&self, claims: &Claims, now_ms: u64) -> Result<u64, JwtFault> {
        let exp = claims.get("exp").ok_or(JwtFault::MissingClaim("exp"))?;
        let exp_ms = numeric_date(exp).ok_or(JwtFault::BadClaim("exp"))?;
        if now_ms >= exp_ms.saturating_add(self.leeway_ms) {
            return Err(JwtFault::Expired);
        }
        let nbf = claims
            .get("nbf")
            .map(|nbf| numeric_date(nbf).ok_or(JwtFault::BadClaim("nbf")));
        let nbf_ms = nbf.transpose()?.unwrap_or(0);
        // A clock that reads 0 has lost its time: nothing can be said to be valid.
        if now_ms == 0 || now_ms.saturating_add(self.leeway_ms) < nbf_ms {
            return Err(JwtFault::NotYetValid);
        }
        Ok(exp_ms)
    }
}

/// The `iss` that a token claims, unverified: only good for choosing who is to verify it.
pub fn peek_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow)]
        iss: Cow<'a, str>,
    }
    let parts = Parts::split(token).ok()?;
    let payload = decode(parts.payload).ok()?;
    let peek: Peek = serde_json::from_slice(&payload).ok()?;
    Some(peek.iss.into_owned())
}

/// The `kid` that a token names, unverified: only good for asking whether it is known.
pub fn peek_kid(token: &str) -> Option<String> {
    Header::read(Parts::split(token).ok()?.header).ok()?.kid
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
        let mut segments = token.split('.');
        let mut next = || {
            segments
                .next()
                .filter(|s| !s.is_empty())
                .ok_or(JwtFault::Malformed)
        };
        let (header, payload, signature) = (next()?, next()?, next()?);
        if segments.next().is_some() {
            return Err(JwtFault::Malformed);
        }
        let message = &token[..header.len() + 1 + payload.len()];
        Ok(Parts {
            message,
            header,
            payload,
            signature,
        })
    }

    fn claims(&self) -> Result<Claims, JwtFault> {
        json::object(&decode(self.payload)?).ok_or(JwtFault::Malformed)
    }
}

fn decode(segment: &str) -> Result<Vec<u8>, JwtFault> {
    URL_SAFE_NO_PAD
        .decode(segment)
        .map_err(|_| JwtFault::Malformed)
}

/// The only header fields that count.
struct Header {
    alg: Alg,
    kid: Option<String>,
}

impl Header {
    fn read(segment: &str) -> Result<Header, JwtFault> {
        let mut fields = json::object(&decode(segment)?).ok_or(JwtFault::Malformed)?;
        if fields.contains_key("crit") {
            return Err(JwtFault::CriticalHeader);
        }
        check_type(fields.get("typ"))?;
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
        Ok(Header { alg, kid })
    }
}

/// `typ` may be missing; if there it says JWT or access token (RFC 7519 §5.1, RFC 9068 §2.1).
fn check_type(typ: Option<&Value>) -> Result<(), JwtFault> {
    const LONG: &str = "application/";
    let Some(typ) = typ else {
        return Ok(());
    };
    let typ = typ.as_str().ok_or(JwtFault::WrongType)?;
    let short = match typ.split_at_checked(LONG.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(LONG) => rest,
        _ => typ,
    };
    let known = ["JWT", "at+jwt"]
        .iter()
        .any(|known| short.eq_ignore_ascii_case(known));
    if known {
        Ok(())
    } else {
        Err(JwtFault::WrongType)
    }
}

fn check_signature(keys: &KeySet, header: &Header, parts: &Parts) -> Result<(), JwtFault> {
    let kid = header.kid.as_deref();
    let candidates = keys
        .candidates(header.alg, kid)
        .map_err(|none| match none {
            NoKey::Unknown => JwtFault::UnknownKey,
            NoKey::WrongAlg => JwtFault::AlgorithmNotAllowed,
        })?;
    for key in candidates {
        match key.verify(header.alg, parts.message.as_bytes(), parts.signature) {
            None => return Err(JwtFault::Malformed),
            Some(true) => return Ok(()),
            Some(false) => {}
        }
    }
    Err(JwtFault::BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    type Spoil = fn(&mut IssuerRules);

    fn rules() -> IssuerRules {
        IssuerRules {
            name: "corp".into(),
            issuer: "https://auth.example.com/".into(),
            audiences: vec!["api".into()],
            algorithms: vec![Alg::RS256],
            leeway: Duration::from_secs(30),
            claims: ClaimMap::default(),
        }
    }

    fn segment(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    #[test]
    fn rules_without_which_nothing_is_verified() {
        assert!(Issuer::new(rules()).is_ok());
        let faulty: [(Spoil, &str); 6] = [
            (|r| r.issuer.clear(), "issuer"),
            (|r| r.audiences.clear(), "audiences"),
            (|r| r.audiences.push(String::new()), "audiences"),
            (|r| r.algorithms.clear(), "algorithms"),
            (|r| r.algorithms.push(Alg::HS256), "mixed"),
            (|r| r.leeway = Duration::from_millis(60_001), "at most 60s"),
        ];
        for (spoil, word) in faulty {
            let mut bad = rules();
            spoil(&mut bad);
            let why = Issuer::new(bad).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        let (one, two) = (Issuer::new(rules()).unwrap(), Issuer::new(rules()).unwrap());
        assert_ne!(one.serial(), two.serial());
    }

    #[test]
    fn types() {
        for typ in [
            "JWT",
            "jwt",
            "at+jwt",
            "AT+JWT",
            "application/at+jwt",
            "Application/JWT",
        ] {
            assert_eq!(check_type(Some(&json!(typ))), Ok(()), "{typ}");
        }
        for typ in [
            json!("JOSE"),
            json!(""),
            json!("application/"),
            json!("dpop+jwt"),
            json!(1),
        ] {
            assert_eq!(check_type(Some(&typ)), Err(JwtFault::WrongType), "{typ}");
        }
        assert_eq!(check_type(None), Ok(()));
    }

    #[test]
    fn peeking() {
        let head = segment(&json!({"alg": "RS256", "kid": "k1"}));
        let token = |claims: Value| format!("{head}.{}.AAAA", segment(&claims));
        let named = token(json!({"x": {"iss": "no"}, "iss": "a\u{e9}\"b"}));
        assert_eq!(peek_issuer(&named).as_deref(), Some("a\u{e9}\"b"));
        assert_eq!(peek_kid(&named).as_deref(), Some("k1"));
        assert_eq!(peek_issuer(&token(json!({"iss": 1}))), None);
        assert_eq!(peek_issuer(&token(json!({}))), None);
        assert_eq!(peek_issuer("a.b"), None);
        assert_eq!(peek_issuer(&"a".repeat(MAX_TOKEN + 1)), None);
    }

    #[test]
    fn no_text_makes_it_panic() {
        for token in ["", ".", "..", "...", "é.é.é", "a.é.c", "\0.\0.\0", "a.b.c"] {
            assert_eq!(peek_issuer(token), None, "{token}");
            assert_eq!(peek_kid(token), None, "{token}");
        }
    }
}
