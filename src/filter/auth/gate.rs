//! One gate of a route: the identities of which one must know the client.

use super::credential::{bearer, key, text};
use super::{Auth, Stop, Visit};
use crate::exchange::refusal::Refusal;
use crate::exchange::tls::ClientCertificate;
use crate::filter::Lookup;
use crate::identity::certificate::{CertificateName, Certificates};
use crate::identity::introspect::{Introspection, OpaqueFault, TokenVerdict};
use crate::identity::jwt::JwtFault;
use crate::identity::key_list::{KeyList, KeyVerdict};
use crate::identity::key_record::KeyFault;
use crate::identity::principal::Principal;
use crate::identity::provider::{self, Provider};
use crate::identity::token::Unverified;
use crate::observe::reason::Reason;
use std::sync::Arc;

/// API keys and where they come in.
pub struct KeyPlace {
    /// Whether they may come in the query, where the list names a parameter for it.
    pub in_query: bool,
    /// The list, which knows the header and the parameter.
    pub list: Arc<KeyList>,
}

impl KeyPlace {
    /// The parameter of the query that they may come in.
    pub fn parameter(&self) -> Option<&str> {
        self.list.query.as_deref().filter(|_| self.in_query)
    }
}

/// Identities, one of which must know the client.
#[derive(Default)]
pub struct Gate {
    /// Issuers whose signed tokens are taken.
    pub tokens: Vec<Arc<Provider>>,
    /// Who is asked about tokens that are not signed by any of them.
    pub opaque: Option<Arc<Introspection>>,
    /// API keys that are taken.
    pub keys: Vec<KeyPlace>,
    /// Client certificates that are taken.
    pub certificates: Vec<Arc<Certificates>>,
}

/// After so long it is worth trying again where something could not be asked.
const RETRY_MS: u64 = 10_000;

impl Gate {
    /// Who the client is, by the one credential that decides.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn open(&self, auth: &Auth, visit: &mut Visit<'_>) -> Result<Arc<Principal>, Stop> {
        let missing = match self.token(auth, visit) {
            Err(Stop::Missing(reason)) => reason,
            judged => return judged,
        };
        let missing = match self.key(auth, visit) {
            Err(Stop::Missing(_)) if self.takes_tokens() => missing,
            Err(Stop::Missing(reason)) => reason,
            judged => return judged,
        };
        let is_first = !self.takes_tokens() && self.keys.is_empty();
        match self.certificate(visit) {
            Err(Stop::Missing(reason)) if is_first => Err(Stop::Missing(reason)),
            Err(Stop::Missing(_)) => Err(Stop::Missing(missing)),
            judged => judged,
        }
    }

    /// Whether it takes bearer tokens of any kind.
    pub fn takes_tokens(&self) -> bool {
        !self.tokens.is_empty() || self.opaque.is_some()
    }

    fn token(&self, auth: &Auth, visit: &mut Visit<'_>) -> Result<Arc<Principal>, Stop> {
        if !self.takes_tokens() {
            return Err(Stop::Missing(Reason::CredentialsMissing));
        }
        let token = bearer(visit.request.headers).map_err(|reason| match reason {
            Reason::CredentialsMissing | Reason::BearerRequired => Stop::Missing(reason),
            reason => Stop::Failed(reason),
        })?;
        let now_ms = visit.now.unix_ms;
        let remembered = provider::remembered(&self.tokens, &auth.seen, token, now_ms);
        let caller = if let Some(caller) = remembered {
            auth.metrics.token_cache(true);
            caller
        } else {
            self.judged(auth, text(token).map_err(Stop::Failed)?, visit)?
        };
        proved(&caller, visit)?;
        Ok(caller)
    }

    /// Who a token speaks for that was not verified here a moment ago.
    fn judged(&self, auth: &Auth, token: &str, visit: &Visit<'_>) -> Result<Arc<Principal>, Stop> {
        if let Some(issuer) = self.who_is_asked(token) {
            return introspected(issuer, auth, token, visit);
        }
        bar(auth, visit)?;
        self.verified(auth, token, visit)
    }

    /// Who is to be asked about a token: it names none of the issuers whose signatures are known here.
    fn who_is_asked(&self, token: &str) -> Option<&Arc<Introspection>> {
        let issuer = self.opaque.as_ref()?;
        let known = |read: Unverified| provider::choose(&self.tokens, &read).is_ok();
        let signed = !self.tokens.is_empty() && Unverified::read(token).is_ok_and(known);
        (!signed).then_some(issuer)
    }

    fn verified(
        &self,
        auth: &Auth,
        token: &str,
        visit: &Visit<'_>,
    ) -> Result<Arc<Principal>, Stop> {
        let (now_ms, may_ask) = (visit.now.unix_ms, !visit.asked);
        match provider::judge(&self.tokens, &auth.seen, token, now_ms, may_ask) {
            provider::Verdict::Seen(caller) | provider::Verdict::Verified(caller) => {
                auth.metrics.token_cache(false);
                Ok(caller)
            }
            provider::Verdict::Refused(fault) => Err(Stop::Failed(token_reason(fault))),
            provider::Verdict::NoKeys => Err(unable(Reason::KeysUnavailable)),
            provider::Verdict::Ask(provider) => {
                Err(Stop::Ask(Lookup::Keys(provider, token.into())))
            }
        }
    }

    fn key(&self, auth: &Auth, visit: &mut Visit<'_>) -> Result<Arc<Principal>, Stop> {
        let (mut fault, mut asks, mut unavailable) = (None, Vec::new(), false);
        let mut known = false;
        for place in &self.keys {
            let sent = key(&visit.request, &place.list.header, place.parameter());
            let Some(sent) = sent.map_err(Stop::Failed)? else {
                continue;
            };
            // Several lists may share a header; what none of them knows is refused.
            match place.list.judge(&sent, visit.now, visit.asked) {
                KeyVerdict::Found(caller) => return Ok(caller),
                KeyVerdict::Refused(found) => fault = fault.max(Some(found)),
                KeyVerdict::Ask => {
                    known |= place.list.is_cached(&sent, visit.now);
                    asks.push(Lookup::ApiKey(place.list.clone(), sent[..].into()));
                }
                KeyVerdict::Unavailable => unavailable = true,
            }
        }
        if fault.is_none() && asks.is_empty() && !unavailable {
            return Err(Stop::Missing(Reason::ApiKeyRequired));
        }
        // One that was good a moment ago and is only to be confirmed is no guess.
        if !known {
            bar(auth, visit)?;
        }
        match (Lookup::all(asks), fault) {
            (Some(ask), _) => Err(Stop::Ask(ask)),
            (None, _) if unavailable => Err(unable(Reason::ApiKeysUnavailable)),
            (None, fault) => Err(Stop::Failed(key_reason(fault))),
        }
    }

    fn certificate(&self, visit: &Visit<'_>) -> Result<Arc<Principal>, Stop> {
        let conn = &visit.exchange.conn;
        let Some(client) = presented(visit) else {
            return Err(Stop::Missing(Reason::CertificateRequired));
        };
        let mut reason = Reason::CertificateRequired;
        for list in &self.certificates {
            if !list.counts_on(&conn.listener.name) {
                continue;
            }
            let found = match list.from() {
                CertificateName::SanUri => list.find(client.uris.iter().map(String::as_str)),
                CertificateName::SanDns => list.find(client.dns.iter().map(String::as_str)),
                CertificateName::SanEmail => list.find(client.emails.iter().map(String::as_str)),
                CertificateName::CommonName => list.find(client.common_name.as_deref().into_iter()),
                CertificateName::Subject => list.find([client.subject.as_str()].into_iter()),
            };
            match found {
                Ok(caller) => return Ok(caller),
                Err(_) => reason = Reason::CertificateUnknown,
            }
        }
        match reason {
            Reason::CertificateUnknown => Err(Stop::Failed(reason)),
            reason => Err(Stop::Missing(reason)),
        }
    }
}

/// Who a token speaks for, by what its issuer says. One that is known to be good passes whatever
/// its address did.
fn introspected(
    issuer: &Arc<Introspection>,
    auth: &Auth,
    token: &str,
    visit: &Visit<'_>,
) -> Result<Arc<Principal>, Stop> {
    match issuer.judge(token, visit.now, visit.asked) {
        TokenVerdict::Known(caller) => Ok(caller),
        TokenVerdict::Refused(fault) => {
            bar(auth, visit)?;
            Err(Stop::Failed(opaque_reason(fault)))
        }
        TokenVerdict::Ask => {
            bar(auth, visit)?;
            Err(Stop::Ask(Lookup::Introspect(issuer.clone(), token.into())))
        }
        TokenVerdict::Unavailable => Err(unable(Reason::IntrospectionUnavailable)),
        TokenVerdict::Invalid => Err(unable(Reason::IntrospectionInvalid)),
    }
}

/// The certificate that the client's connection began with.
fn presented<'a>(visit: &'a Visit<'_>) -> Option<&'a ClientCertificate> {
    visit.exchange.conn.tls.as_ref()?.client.as_deref()
}

/// Whoever failed too often is not looked at, before anything is spent on it.
fn bar(auth: &Auth, visit: &Visit<'_>) -> Result<(), Stop> {
    let failures = auth.failures.as_ref().filter(|_| !visit.asked);
    match failures.and_then(|f| f.wait_ms(visit.exchange.client, visit.now)) {
        Some(wait_ms) => {
            let refusal = Refusal::new(Reason::AuthFailuresLimited);
            Err(Stop::Unable(refusal.retry_after_ms(wait_ms)))
        }
        None => Ok(()),
    }
}

/// RFC 8705 §3: a token that is bound to a certificate is good only from whoever holds that.
fn proved(caller: &Principal, visit: &Visit<'_>) -> Result<(), Stop> {
    let Some(bound) = caller.bound else {
        return Ok(());
    };
    let holds = presented(visit).is_some_and(|client| client.fingerprint == bound);
    if holds {
        Ok(())
    } else {
        Err(Stop::Failed(Reason::TokenUnproven))
    }
}

/// Something could not be asked that would have to be.
pub fn unable(reason: Reason) -> Stop {
    Stop::Unable(Refusal::new(reason).retry_after_ms(RETRY_MS))
}

/// The reason code of each fault of a token that its issuer is asked about.
fn opaque_reason(fault: OpaqueFault) -> Reason {
    match fault {
        OpaqueFault::Malformed => Reason::TokenMalformed,
        OpaqueFault::TooLarge => Reason::TokenTooLarge,
        OpaqueFault::Inactive => Reason::TokenInactive,
        OpaqueFault::Expired => Reason::TokenExpired,
        OpaqueFault::NotYetValid => Reason::TokenNotYetValid,
        OpaqueFault::WrongIssuer => Reason::TokenIssuer,
        OpaqueFault::WrongAudience => Reason::TokenAudience,
        OpaqueFault::WrongType => Reason::TokenType,
        OpaqueFault::BadClaim("cnf") => Reason::TokenUnproven,
        OpaqueFault::BadClaim("sub") => Reason::TokenClaimMissing,
        OpaqueFault::BadClaim(_) => Reason::TokenClaim,
    }
}

/// The reason code of each fault of a key.
fn key_reason(fault: Option<KeyFault>) -> Reason {
    match fault {
        Some(KeyFault::Malformed) => Reason::ApiKeyMalformed,
        Some(KeyFault::Unknown) | None => Reason::ApiKeyUnknown,
        Some(KeyFault::Expired) => Reason::ApiKeyExpired,
        Some(KeyFault::Disabled) => Reason::ApiKeyDisabled,
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
        JwtFault::BadClaim("cnf") => Reason::TokenUnproven,
        JwtFault::BadClaim(_) | JwtFault::RefusedClaim => Reason::TokenClaim,
        JwtFault::CriticalHeader => Reason::TokenCritical,
        JwtFault::WrongType => Reason::TokenType,
    }
}
