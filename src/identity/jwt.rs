//! Tokens (RFC 7519) as RFC 8725 wants them verified: nothing optional, nothing taken on trust.
//!
//! The order is fixed: size and shape, header, issuer, type and algorithm, the key and whether it is
//! for the algorithm, signature, and only then what the token says. A token of another issuer is
//! refused before it costs a signature check, and is never tried with this one's keys.

use super::alg::{Alg, Algs, KeyKind};
use super::claims::{ClaimMap, ClaimPath, Claims, Wanted, is_one_of, numeric_date};
use super::key::Key;
use super::keyset::{KeySet, NoKey};
use super::principal::Principal;
use super::token::{Kind, MAX_TOKEN, Unverified};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use thiserror::Error;

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
    /// `nbf` has not come yet, or `iat` has not.
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
    /// A claim has none of the values that the issuer's tokens must have.
    #[error("with a claim whose value is not accepted")]
    RefusedClaim,
    /// The header marks something as critical (RFC 7515 §4.1.11); we know no such extension.
    #[error("with a critical header")]
    CriticalHeader,
    /// `typ` says that it is something other than what the issuer's tokens are.
    #[error("of another type")]
    WrongType,
}

/// Which rules of others a token has to follow besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// None: `typ` may be missing.
    #[default]
    Jwt,
    /// Those of RFC 9068.
    AccessToken,
}

/// A claim that a token must have.
#[derive(Clone, Debug)]
pub struct Required {
    /// Where it is.
    pub path: ClaimPath,
    /// What it may be; anything but null if nothing is listed. Of an array one item has to be
    /// among them. A number or a truth value counts as its text.
    pub values: Vec<String>,
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
    /// Which other rules hold.
    pub profile: Profile,
    /// The claims a token must have.
    pub require: Vec<Required>,
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
    profile: Profile,
    require: Vec<Required>,
    claims: ClaimMap,
}

/// A token that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who it speaks for.
    pub principal: Principal,
    /// Its `exp`, in Unix milliseconds, without leeway.
    pub exp_ms: u64,
    /// [`super::key::Key::serial`] of the key that it was verified with.
    pub key: u64,
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
            profile,
            require,
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
            profile,
            require,
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
        let token = Unverified::read(token)?;
        self.admit(&token)?;
        self.judge(keys, &token, now_unix_ms)
    }

    /// What can be said of a token before its key is looked for: whether it is one of this issuer's,
    /// of a type and with an algorithm that its tokens have.
    pub(super) fn admit(&self, token: &Unverified) -> Result<(), JwtFault> {
        if token.iss()? != self.iss {
            return Err(JwtFault::WrongIssuer);
        }
        let typed = match token.kind() {
            Kind::AccessToken => true,
            Kind::Jwt | Kind::Unsaid => self.profile == Profile::Jwt,
            Kind::Other => false,
        };
        if !typed {
            return Err(JwtFault::WrongType);
        }
        if !self.algorithms.contains(token.alg()) {
            return Err(JwtFault::AlgorithmNotAllowed);
        }
        Ok(())
    }

    /// Verifies a token that was admitted.
    pub(super) fn judge(
        &self,
        keys: &KeySet,
        token: &Unverified,
        now_unix_ms: u64,
    ) -> Result<Verified, JwtFault> {
        let key = check_signature(keys, token)?;
        let claims = token.claims();
        self.check_audience(claims)?;
        let exp_ms = self.check_times(claims, now_unix_ms)?;
        if self.profile == Profile::AccessToken {
            check_access_token(claims)?;
        }
        self.require.iter().try_for_each(|one| one.check(claims))?;
        let mut principal = self
            .claims
            .principal(claims, &self.name)
            .map_err(JwtFault::BadClaim)?;
        if principal.user.is_none() && principal.client_id.is_none() {
            // Without a name the upstream would be told of nobody in particular.
            return Err(JwtFault::MissingClaim("sub"));
        }
        // The key's own id: a token that names none must not escape the revocation of its key.
        principal.marks.kid = key.kid().map(Box::from);
        Ok(Verified {
            principal,
            exp_ms,
            key: key.serial(),
        })
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

    /// Checks `exp` (RFC 7519 §4.1.4), `nbf` (§4.1.5) and `iat` (§4.1.6); gives `exp` in Unix
    /// milliseconds. A token from the future is refused, although §4.1.6 does not ask for it: it would
    /// outlive a revocation of all that was issued before a time.
    fn check_times(&self, claims: &Claims, now_ms: u64) -> Result<u64, JwtFault> {
        let date = |name: &'static str| {
            let found = claims.get(name);
            let read = found.map(|at| numeric_date(at).ok_or(JwtFault::BadClaim(name)));
            read.transpose()
        };
        let exp_ms = date("exp")?.ok_or(JwtFault::MissingClaim("exp"))?;
        if now_ms >= exp_ms.saturating_add(self.leeway_ms) {
            return Err(JwtFault::Expired);
        }
        let from_ms = date("nbf")?.unwrap_or(0).max(date("iat")?.unwrap_or(0));
        // A clock that reads 0 has lost its time: nothing can be said to be valid.
        if now_ms == 0 || now_ms.saturating_add(self.leeway_ms) < from_ms {
            return Err(JwtFault::NotYetValid);
        }
        Ok(exp_ms)
    }
}

/// What RFC 9068 §2.2 asks of an access token besides `iss`, `aud` and `exp`.
fn check_access_token(claims: &Claims) -> Result<(), JwtFault> {
    for name in ["sub", "client_id", "jti"] {
        match claims.get(name) {
            None => return Err(JwtFault::MissingClaim(name)),
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => return Err(JwtFault::BadClaim(name)),
        }
    }
    if !claims.contains_key("iat") {
        return Err(JwtFault::MissingClaim("iat"));
    }
    // §2.2.3 has it as RFC 8693 §4.2 does: one text.
    match claims.get("scope") {
        None | Some(Value::String(_)) => Ok(()),
        Some(_) => Err(JwtFault::BadClaim("scope")),
    }
}

impl Required {
    fn check(&self, claims: &Claims) -> Result<(), JwtFault> {
        let found = self.path.find(claims).filter(|value| !value.is_null());
        let found = found.ok_or(JwtFault::MissingClaim("that is required"))?;
        if self.values.is_empty() || is_one_of(found, &self.values) {
            Ok(())
        } else {
            Err(JwtFault::RefusedClaim)
        }
    }
}

/// The key that has made the signature.
fn check_signature<'a>(keys: &'a KeySet, token: &Unverified) -> Result<&'a Key, JwtFault> {
    let candidates = keys
        .candidates(token.alg(), token.kid())
        .map_err(|none| match none {
            NoKey::Unknown => JwtFault::UnknownKey,
            NoKey::WrongAlg => JwtFault::AlgorithmNotAllowed,
        })?;
    for key in candidates {
        match key.verify(token.alg(), token.message(), token.signature()) {
            None => return Err(JwtFault::Malformed),
            Some(true) => return Ok(key),
            Some(false) => {}
        }
    }
    Err(JwtFault::BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::json;
    use serde_json::json;

    type Spoil = fn(&mut IssuerRules);

    fn rules() -> IssuerRules {
        IssuerRules {
            name: "corp".into(),
            issuer: "https://auth.example.com/".into(),
            audiences: vec!["api".into()],
            algorithms: vec![Alg::RS256],
            leeway: Duration::from_secs(30),
            profile: Profile::Jwt,
            require: Vec::new(),
            claims: ClaimMap::default(),
        }
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
    fn required_values() {
        let check = |path: &str, values: &[&str], claims: Value| {
            let required = Required {
                path: path.parse().unwrap(),
                values: values.iter().map(ToString::to_string).collect(),
            };
            required.check(&json::object(claims.to_string().as_bytes()).unwrap())
        };
        let missing = Err(JwtFault::MissingClaim("that is required"));
        let refused = Err(JwtFault::RefusedClaim);
        assert_eq!(check("a", &[], json!({"a": []})), Ok(()));
        assert_eq!(check("a", &[], json!({"a": null})), missing);
        assert_eq!(check("a", &["x"], json!({})), missing);
        assert_eq!(check("a.b", &["x", "y"], json!({"a": {"b": "y"}})), Ok(()));
        assert_eq!(check("a.b", &["x"], json!({"a": ["x"]})), missing);
        assert_eq!(check("a", &["x"], json!({"a": ["w", "x"]})), Ok(()));
        assert_eq!(check("a", &["true", "2"], json!({"a": true})), Ok(()));
        assert_eq!(check("a", &["true", "2"], json!({"a": 2})), Ok(()));
        for other in [
            json!("X"),
            json!("x "),
            json!(["w"]),
            json!([]),
            json!([["x"]]),
            json!({"x": 1}),
            json!(1),
        ] {
            assert_eq!(check("a", &["x"], json!({ "a": other })), refused);
        }
    }
}
