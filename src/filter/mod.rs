//! Filters: one file each. A filter is synchronous; it passes a request, refuses it, or asks for a
//! lookup that it cannot make itself.

pub mod auth;
pub mod body_limit;
pub mod chain;
pub mod flood;
pub mod rate_limit;

use crate::exchange::refusal::Refusal;
use crate::identity::introspect::Introspection;
use crate::identity::key_list::KeyList;
use crate::identity::provider::Provider;
use std::sync::Arc;

/// What a filter says of a request.
pub enum Verdict {
    /// Go on.
    Pass,
    /// Not served, and why.
    Refuse(Box<Refusal>),
    /// Make this lookup, then ask again.
    Ask(Lookup),
}

impl Verdict {
    /// Refuses.
    pub fn refuse(refusal: impl Into<Refusal>) -> Self {
        Self::Refuse(Box::new(refusal.into()))
    }
}

/// A lookup that a route's policy asks for; only `gateway/screen` awaits one, within its budget.
pub enum Lookup {
    /// Fetch an issuer's keys: none were ever loaded, or this token names an unknown one.
    Keys(Arc<Provider>, Box<str>),
    /// Ask an issuer about this token.
    Introspect(Arc<Introspection>, Box<str>),
    /// Look this API key up in its list.
    ApiKey(Arc<KeyList>, Box<[u8]>),
    /// Make all of these.
    Several(Vec<Lookup>),
}

impl Lookup {
    /// All of these in one, if there are any.
    pub fn all(mut lookups: Vec<Lookup>) -> Option<Self> {
        match lookups.len() {
            0 | 1 => lookups.pop(),
            _ => Some(Self::Several(lookups)),
        }
    }

    /// Makes it. What came of it is where the filter that asked finds it.
    pub async fn make(self) {
        match self {
            Self::Keys(provider, token) => provider.refetch(&token).await,
            Self::Introspect(issuer, token) => issuer.look_up(&token).await,
            Self::ApiKey(list, key) => list.look_up(&key).await,
            Self::Several(lookups) => {
                // There are two at most, and each has its own bound.
                for lookup in lookups {
                    Box::pin(lookup.make()).await;
                }
            }
        }
    }
}
