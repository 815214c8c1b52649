//! Filters: one file each. A filter is synchronous; it passes a request, refuses it, or asks for a
//! lookup that it cannot make itself.

pub mod auth;
pub mod body_limit;
pub mod chain;
pub mod flood;
pub mod rate_limit;

use crate::exchange::refusal::Refusal;
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
#[derive(Clone)]
pub enum Lookup {
    /// Fetch an issuer's keys: none were ever loaded, or the token names an unknown one.
    Keys(Arc<Provider>),
    /// Look this API key up in its list.
    ApiKey(Arc<KeyList>, Box<[u8]>),
}
