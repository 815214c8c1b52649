//! What a verified caller is, however it proved itself.

use std::sync::Arc;

/// How the caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A signed token (RFC 7519).
    Jwt,
    /// An API key from a key file.
    ApiKey,
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
}

impl Principal {
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
