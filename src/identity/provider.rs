//! The way in for tokens: which provider is to judge a token, with which keys, and whether it was
//! judged a moment ago.

use super::alg::{Algs, KeyKind};
use super::fetch::RemoteKeys;
use super::jwt::{Issuer, JwtFault, Verified};
use super::keyset::KeySet;
use super::principal::Principal;
use super::seen::{Seen, Stamp};
use super::token::Unverified;
use std::sync::Arc;

/// Where a provider's keys come from.
pub enum KeySource {
    /// Keys from the configuration; they change with a reload only.
    Fixed(Arc<KeySet>),
    /// Keys that the issuer publishes.
    Remote(Arc<RemoteKeys>),
}

impl KeySource {
    /// The keys to use now; none before the first fetch that worked.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        match self {
            KeySource::Fixed(keys) => Some(Arc::clone(keys)),
            KeySource::Remote(remote) => remote.current().clone(),
        }
    }

    fn holds(&self, key: u64) -> bool {
        match self {
            KeySource::Fixed(keys) => keys.holds(key),
            KeySource::Remote(remote) => {
                let current = remote.current();
                current.as_ref().is_some_and(|keys| keys.holds(key))
            }
        }
    }
}

/// An issuer and its keys.
pub struct Provider {
    issuer: Issuer,
    source: KeySource,
}

/// What became of a token.
pub enum Verdict {
    /// It was verified a moment ago and still holds.
    Seen(Arc<Principal>),
    /// It was verified now.
    Verified(Arc<Principal>),
    /// It does not hold.
    Refused(JwtFault),
    /// The provider has no keys at all yet; whether the token holds is not known.
    NoKeys,
    /// The provider's keys may be out of date: await [`Provider::refetch`], then judge again.
    Ask(Arc<Provider>),
}

/// Judges `token` for a route that accepts `providers`. With `may_ask` a token whose key is not
/// known, or whose provider has no keys yet, gives [`Verdict::Ask`] where asking can help; without
/// it (the second time) the answer is final.
pub fn authenticate(
    providers: &[Arc<Provider>],
    seen: &Seen,
    token: &str,
    now_unix_ms: u64,
    may_ask: bool,
) -> Verdict {
    match remembered(providers, seen, token.as_bytes(), now_unix_ms) {
        Some(principal) => Verdict::Seen(principal),
        None => judge(providers, seen, token, now_unix_ms, may_ask),
    }
}

/// Whom `token` was found to speak for a moment ago, by one of `providers`, if that still holds.
pub fn remembered(
    providers: &[Arc<Provider>],
    seen: &Seen,
    token: &[u8],
    now_unix_ms: u64,
) -> Option<Arc<Principal>> {
    let counts = |stamp: Stamp| {
        let mut accepted = providers.iter();
        let provider = accepted.find(|provider| provider.issuer.serial() == stamp.issuer);
        provider.is_some_and(|provider| provider.source.holds(stamp.key))
    };
    seen.get(token, now_unix_ms, counts)
}

/// Judges `token` as [`authenticate`] does, whether or not it is remembered.
pub fn judge(
    providers: &[Arc<Provider>],
    seen: &Seen,
    token: &str,
    now_unix_ms: u64,
    may_ask: bool,
) -> Verdict {
    let read = Unverified::read(token);
    let chosen = read.and_then(|read| Ok((choose(providers, &read)?, read)));
    match chosen {
        Ok((provider, read)) => match provider.judge(&read, now_unix_ms, may_ask) {
            Ok((verified, stamp)) => {
                let principal = Arc::new(verified.principal);
                let shared = Arc::clone(&principal);
                seen.put(
                    token.as_bytes(),
                    stamp,
                    verified.exp_ms,
                    now_unix_ms,
                    shared,
                );
                Verdict::Verified(principal)
            }
            Err(verdict) => verdict,
        },
        Err(fault) => Verdict::Refused(fault),
    }
}

/// The provider whose issuer the token claims to be from, whatever it is signed with. No two that a
/// route accepts are of one issuer; the check of the config sees to it.
pub fn choose<'a>(
    providers: &'a [Arc<Provider>],
    token: &Unverified,
) -> Result<&'a Arc<Provider>, JwtFault> {
    let issuer = token.iss()?;
    let meant = providers
        .iter()
        .find(|provider| provider.issuer.iss() == issuer);
    meant.ok_or(JwtFault::WrongIssuer)
}

impl Provider {
    /// Joins an issuer and its keys. The error says why they do not fit: shared secrets are never
    /// published, and one key at least must serve the issuer's algorithms.
    pub fn new(issuer: Issuer, source: KeySource) -> Result<Provider, String> {
        let secrets = Algs::of_kind(KeyKind::Secret).both(issuer.algorithms());
        match &source {
            KeySource::Remote(_) if !secrets.is_empty() => {
                Err("algorithms: an HS algorithm needs `keys` or a `jwks` file, not a url".into())
            }
            KeySource::Fixed(keys) if !serves(keys, issuer.algorithms()) => {
                Err("keys: none of them fits a configured algorithm".into())
            }
            _ => Ok(Provider { issuer, source }),
        }
    }

    /// The issuer's rules.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Where the keys come from.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// Asks for fresher keys on behalf of `token`, within the bounds of [`RemoteKeys::refetch`].
    pub async fn refetch(&self, token: &str) {
        if let KeySource::Remote(remote) = &self.source {
            let read = Unverified::read(token).ok();
            let kid = read.as_ref().and_then(Unverified::kid);
            remote.refetch(kid).await;
        }
    }

    fn judge(
        self: &Arc<Self>,
        token: &Unverified,
        now_unix_ms: u64,
        may_ask: bool,
    ) -> Result<(Verified, Stamp), Verdict> {
        self.issuer.admit(token).map_err(Verdict::Refused)?;
        let ask = may_ask && matches!(self.source, KeySource::Remote(_));
        let Some(keys) = self.source.current() else {
            return Err(if ask {
                Verdict::Ask(Arc::clone(self))
            } else {
                Verdict::NoKeys
            });
        };
        match self.issuer.judge(&keys, token, now_unix_ms) {
            Ok(verified) => {
                let stamp = Stamp {
                    issuer: self.issuer.serial(),
                    key: verified.key,
                };
                Ok((verified, stamp))
            }
            Err(JwtFault::UnknownKey) if ask => Err(Verdict::Ask(Arc::clone(self))),
            Err(fault) => Err(Verdict::Refused(fault)),
        }
    }
}

fn serves(keys: &KeySet, algorithms: Algs) -> bool {
    keys.keys()
        .iter()
        .any(|key| !key.algs().both(algorithms).is_empty())
}
