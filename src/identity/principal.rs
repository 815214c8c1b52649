//! What a verified caller is, however it proved itself.

use crate::base::units::Rate;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// How the caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A signed token (RFC 7519).
    Jwt,
    /// A token that its issuer was asked about (RFC 7662).
    Introspection,
    /// An API key.
    ApiKey,
    /// A client certificate (RFC 8446 §4.4.2).
    Certificate,
}

/// A verified caller. Made once, shared as `Arc<Principal>` for as long as the proof holds.
///
/// At least one of `client_id` and `user` is set. No text in it is empty; texts may hold any
/// character that the issuer signed, so whoever writes them into a header must check them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// How the caller proved who it is.
    pub method: Method,
    /// The name of the identity provider in our configuration that vouched for it.
    pub provider: Arc<str>,
    /// The calling application: the token's client claim or the API key's client.
    pub client_id: Option<String>,
    /// The person or account on whose behalf the call is made; never set by an API key.
    pub user: Option<String>,
    /// What the caller may do.
    pub scopes: Scopes,
    /// The caller's roles, in the order given.
    pub roles: Vec<String>,
    /// The caller's e-mail address, unchecked.
    pub email: Option<String>,
    /// The tenant the caller belongs to.
    pub tenant: Option<String>,
    /// The caller's service tier, for limits and metrics.
    pub tier: Option<String>,
    /// The id (not the secret) of the API key used; none for a token.
    pub key_id: Option<String>,
    /// How much the caller may call at all, as the key's record says.
    pub rate_limit: Option<Rate>,
    /// What the caller's token says under each path that the config asks for, in the config's order.
    pub claims: Box<[Option<Value>]>,
    /// The certificate (its SHA-256) that whoever presents the token must hold (RFC 8705 §3.1).
    pub bound: Option<[u8; 32]>,
    /// What a revocation may name it by.
    pub marks: Marks,
    /// Up to which state of the list of revocations it is known not to be revoked.
    pub unrevoked: Unrevoked,
    /// What services are told of it.
    pub told: Told,
}

/// What a revocation may name a token by, besides its user and an API key's id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The token's issuer, as its `iss` has it.
    pub issuer: Option<Arc<str>>,
    /// The token's id (RFC 7519 §4.1.7).
    pub jti: Option<Box<str>>,
    /// When it was issued, in Unix seconds (RFC 7519 §4.1.6).
    pub issued_s: Option<u64>,
    /// The id of the key that signed it (RFC 7515 §4.1.4).
    pub kid: Option<Box<str>>,
}

/// A state of the list of revocations. Two callers do not differ by it.
#[derive(Debug, Default)]
pub struct Unrevoked(AtomicU64);

impl Unrevoked {
    /// Whether it was compared with this state of the list; 0 is none.
    pub fn at(&self, state: u64) -> bool {
        self.0.load(Relaxed) == state
    }

    /// Notes that this state of the list does not name it.
    pub fn note(&self, state: u64) {
        self.0.store(state, Relaxed);
    }
}

impl Clone for Unrevoked {
    /// A copy is compared anew.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Unrevoked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Unrevoked {}

/// Header fields that are the same for every request of a caller: made for the first one. Two callers
/// do not differ by them.
#[derive(Clone, Debug, Default)]
pub struct Told(OnceLock<(u64, Box<[Field]>)>);

/// A name and its value.
type Field = (HeaderName, HeaderValue);

impl PartialEq for Told {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Told {}

impl Told {
    /// The fields, made by the rules with this mark, which no other rules have. A caller who outlives
    /// its rules has them made anew for each request.
    ///
    /// # Errors
    /// As `make`.
    pub fn put<E>(
        &self,
        mark: u64,
        make: impl FnOnce() -> Result<Vec<Field>, E>,
        mut put: impl FnMut(HeaderName, HeaderValue),
    ) -> Result<(), E> {
        let mut each = |fields: &[Field]| {
            let fields = fields.iter().cloned();
            fields.for_each(|(name, value)| put(name, value));
        };
        if let Some((by, fields)) = self.0.get() {
            if *by == mark {
                each(fields);
            } else {
                each(&make()?);
            }
            return Ok(());
        }
        let made = make()?;
        each(&made);
        // Another request of the same caller may have been quicker.
        let _ = self.0.set((mark, made.into_boxed_slice()));
        Ok(())
    }
}

impl Principal {
    /// A caller of whom nothing else is known.
    pub fn new(method: Method, provider: &Arc<str>) -> Self {
        Self {
            method,
            provider: provider.clone(),
            client_id: None,
            user: None,
            scopes: Scopes::default(),
            roles: Vec::new(),
            email: None,
            tenant: None,
            tier: None,
            key_id: None,
            rate_limit: None,
            claims: Box::default(),
            bound: None,
            marks: Marks::default(),
            unrevoked: Unrevoked::default(),
            told: Told::default(),
        }
    }

    /// Whether the caller has `role`; case counts.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }

    /// The caller's name for limits by client: the client if known, else the user.
    pub fn client(&self) -> &str {
        let name = self.client_id.as_deref().or(self.user.as_deref());
        name.unwrap_or_default()
    }
}

/// A sorted set of scope tokens (RFC 6749 §3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<String>);

impl Scopes {
    /// Whether `scope` is granted; case counts, nothing implies anything else.
    pub fn has(&self, scope: &str) -> bool {
        self.0
            .binary_search_by(|own| own.as_str().cmp(scope))
            .is_ok()
    }

    /// The first of `wanted` that is not granted.
    pub fn missing<'a>(&self, wanted: &'a [String]) -> Option<&'a str> {
        let lacking = wanted.iter().find(|scope| !self.has(scope));
        lacking.map(String::as_str)
    }

    /// The scopes in sorted order, each once.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Into<String>> FromIterator<S> for Scopes {
    /// Empty texts are left out, repeated ones kept once.
    fn from_iter<I: IntoIterator<Item = S>>(scopes: I) -> Self {
        let mut all: Vec<String> = scopes.into_iter().map(Into::into).collect();
        all.retain(|scope| !scope.is_empty());
        all.sort_unstable();
        all.dedup();
        Scopes(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_made_once_and_never_by_other_rules() {
        let told = Told::default();
        let ask = |mark: u64, value: Result<&'static str, ()>| {
            let mut seen = Vec::new();
            let make = || {
                Ok(vec![(
                    HeaderName::from_static("x"),
                    HeaderValue::from_static(value?),
                )])
            };
            let put = told.put(mark, make, |_, value| seen.push(value));
            put.map(|()| seen)
        };
        assert_eq!(ask(1, Err(())), Err(()), "a fault is not kept");
        assert_eq!(ask(1, Ok("a")).unwrap(), ["a"]);
        assert_eq!(ask(1, Err(())).unwrap(), ["a"], "not made again");
        assert_eq!(ask(2, Ok("b")).unwrap(), ["b"], "by other rules");
        assert_eq!(ask(1, Err(())).unwrap(), ["a"]);
    }

    #[test]
    fn scopes_are_a_set() {
        let scopes: Scopes = ["write:b", "read:a", "", "write:b"].into_iter().collect();
        assert_eq!(scopes.iter().collect::<Vec<_>>(), ["read:a", "write:b"]);
        assert!(scopes.has("read:a") && !scopes.has("read") && !scopes.has("READ:A"));
        let wanted = ["read:a".to_owned(), "admin".to_owned()];
        assert_eq!(scopes.missing(&wanted), Some("admin"));
        assert_eq!(scopes.missing(&wanted[..1]), None);
        assert!(Scopes::default().is_empty());
    }
}
