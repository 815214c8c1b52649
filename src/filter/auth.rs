//! Authentication and authorisation of a route: which credentials it takes, and what their holder
//! must be allowed.

use super::{Lookup, Verdict};
use crate::base::clock::Now;
use crate::exchange::Exchange;
use crate::exchange::refusal::{Challenge, Refusal};
use crate::identity::jwt::JwtFault;
use crate::identity::key_list::{KeyList, KeyVerdict};
use crate::identity::key_record::KeyFault;
use crate::identity::principal::Principal;
use crate::identity::provider::{self, Provider};
use crate::identity::seen::Seen;
use crate::observe::metrics::Metrics;
use crate::observe::reason::Reason;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use std::sync::Arc;

/// What a route asks of its callers.
pub struct Auth {
    /// Issuers whose bearer tokens are taken.
    pub tokens: Box<[Arc<Provider>]>,
    /// API keys that are taken.
    pub keys: Box<[Arc<KeyList>]>,
    /// Scopes that a caller must all have.
    pub scopes: Vec<String>,
    /// Roles that a caller must all have.
    pub roles: Vec<String>,
    /// What those are told who lack any of it.
    pub challenge: Arc<Challenge>,
    /// Tokens verified a moment ago.
    pub seen: Arc<Seen>,
    /// Where hits and misses are counted.
    pub metrics: Arc<Metrics>,
}

/// The credential that a request presents.
enum Presented<'a> {
    Token(&'a str),
    Key(&'a HeaderName, &'a [u8]),
}

impl Auth {
    /// Verifies who calls and whether they may; leaves the caller in the exchange.
    pub fn request(
        &self,
        headers: &HeaderMap,
        exchange: &mut Exchange,
        now: Now,
        asked: bool,
    ) -> Verdict {
        let principal = match self.authenticate(headers, now, asked) {
            Ok(principal) => principal,
            Err(verdict) => return verdict,
        };
        let verdict = self.authorise(&principal);
        exchange.principal = Some(principal);
        verdict
    }

    fn authenticate(
        &self,
        headers: &HeaderMap,
        now: Now,
        asked: bool,
    ) -> Result<Arc<Principal>, Verdict> {
        match self.presented(headers).map_err(|r| self.refuse(r))? {
            Presented::Token(token) => self.token(token, now, asked),
            Presented::Key(header, key) => {
                // Several lists may share a header.
                let lists = self.keys.iter().filter(|k| k.header == *header);
                let mut reason = Reason::ApiKeyUnknown;
                for list in lists {
                    match list.judge(key, now, asked) {
                        KeyVerdict::Found(principal) => return Ok(principal),
                        KeyVerdict::Refused(KeyFault::Unknown) => {}
                        KeyVerdict::Refused(fault) => reason = key_reason(fault),
                        KeyVerdict::Ask => {
                            return Err(Verdict::Ask(Lookup::ApiKey(list.clone(), key.into())));
                        }
                        KeyVerdict::Unavailable => reason = Reason::ApiKeysUnavailable,
                    }
                }
                Err(self.refuse(reason))
            }
        }
    }

    /// The one credential that decides. A bearer token goes before a key; what is there and not
    /// good is refused, whatever else is there.
    fn presented<'a>(&'a self, headers: &'a HeaderMap) -> Result<Presented<'a>, Reason> {
        let mut keys = self
            .keys
            .iter()
            .filter_map(|k| Some((k, headers.get(&k.header)?)));
        let key = keys.next();
        let repeated =
            |(k, _): (&Arc<KeyList>, _)| headers.get_all(&k.header).iter().nth(1).is_some();
        if key.is_some_and(repeated) {
            return Err(Reason::CredentialsRepeated);
        }
        let key = key.map(|(k, value)| Presented::Key(&k.header, value.as_bytes()));
        if self.tokens.is_empty() {
            return key.ok_or(Reason::ApiKeyRequired);
        }
        match bearer(headers) {
            Ok(token) => Ok(Presented::Token(token)),
            Err(why @ (Reason::CredentialsMalformed | Reason::CredentialsRepeated)) => Err(why),
            Err(why) => key.ok_or(why),
        }
    }

    fn token(&self, token: &str, now: Now, asked: bool) -> Result<Arc<Principal>, Verdict> {
        let verdict = provider::authenticate(&self.tokens, &self.seen, token, now.unix_ms, !asked);
        match verdict {
            provider::Verdict::Seen(principal) => {
                self.metrics.token_cache(true);
                Ok(principal)
            }
            provider::Verdict::Verified(principal) => {
                self.metrics.token_cache(false);
                Ok(principal)
            }
            provider::Verdict::Refused(fault) => Err(self.refuse(token_reason(fault))),
            provider::Verdict::NoKeys => {
                let refusal = Refusal::new(Reason::KeysUnavailable).retry_after_ms(10_000);
                Err(Verdict::refuse(refusal))
            }
            provider::Verdict::Ask(provider) => Err(Verdict::Ask(Lookup::Keys(provider))),
        }
    }

    fn authorise(&self, principal: &Principal) -> Verdict {
        if principal.scopes.missing(&self.scopes).is_some() {
            return self.refuse(Reason::ScopeInsufficient);
        }
        if self.roles.iter().any(|role| !principal.has_role(role)) {
            return self.refuse(Reason::RoleInsufficient);
        }
        Verdict::Pass
    }

    fn refuse(&self, reason: Reason) -> Verdict {
        let mut refusal = Refusal::new(reason);
        refusal.challenge = Some(self.challenge.clone());
        Verdict::refuse(refusal)
    }
}

/// The reason code of each fault of a key.
fn key_reason(fault: KeyFault) -> Reason {
    match fault {
        KeyFault::Malformed => Reason::ApiKeyMalformed,
        KeyFault::Unknown => Reason::ApiKeyUnknown,
        KeyFault::Expired => Reason::ApiKeyExpired,
        KeyFault::Disabled => Reason::ApiKeyDisabled,
    }
}

/// The reason code of each fault.
fn token_reason(fault: JwtFault) -> Reason {
    match fault {
        JwtFault::Malformed => Reason::TokenMalformed,
        JwtFault::TooLarge => Reason::TokenTooLarge,
        JwtFault::AlgorithmNotAllowed => Reason::TokenAlgorithm,
        JwtFault::UnknownKey => Reason::TokenKey,
        JwtFault::BadSignature => Reason::TokenSignature,
        JwtFault::Expired => Reason::TokenExpired,
        JwtFault::NotYetValid => Reason::TokenNotYetValid,
        JwtFault::WrongIssuer => Reason::TokenIssuer,
        JwtFault::WrongAudience => Reason::TokenAudience,
        JwtFault::MissingClaim(_) => Reason::TokenClaimMissing,
        JwtFault::BadClaim(_) => Reason::TokenClaim,
        JwtFault::CriticalHeader => Reason::TokenCritical,
        JwtFault::WrongType => Reason::TokenType,
    }
}

/// The bearer token of a request (RFC 6750 §2.1); the scheme's case does not count.
fn bearer(headers: &HeaderMap) -> Result<&str, Reason> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Reason::CredentialsMissing)?;
    if values.next().is_some() {
        return Err(Reason::CredentialsRepeated);
    }
    // As `to_str` has it, which looks at each byte by itself: tokens are long.
    let ascii = Some(value.as_bytes()).filter(|v| v.is_ascii());
    let text = ascii.and_then(|v| std::str::from_utf8(v).ok());
    let text = text.ok_or(Reason::CredentialsMalformed)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Reason::BearerRequired);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(values: &[&'static str]) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn a_bearer_token_and_what_is_none() {
        assert_eq!(of(&["Bearer abc"]), Ok("abc".into()));
        assert_eq!(of(&["bEARER  abc"]), Ok("abc".into()));
        assert_eq!(of(&[]), Err(Reason::CredentialsMissing));
        for other in ["Basic abc", "Bearer", "Bearer ", "Bearerabc", "abc", ""] {
            assert_eq!(of(&[other]), Err(Reason::BearerRequired), "{other:?}");
        }
        let twice = of(&["Bearer abc", "Bearer abc"]);
        assert_eq!(twice, Err(Reason::CredentialsRepeated));
    }
}
