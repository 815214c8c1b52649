//! A refusal: why, and what the client needs to do better. How it is answered is decided in one
//! place, `gateway/answer`.

use crate::observe::reason::Reason;
use crate::route::method::MethodSet;
use std::sync::Arc;

/// Why a request is not served.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The reason code.
    pub reason: Reason,
    /// What is wrong exactly, from a fixed list; never anything the client sent.
    pub detail: Option<&'static str>,
    /// Seconds after which it is worth trying again.
    pub retry_after_s: Option<u64>,
    /// The challenges to answer with (RFC 9110 §11.6.1), prepared with the config.
    pub challenge: Option<Arc<Challenge>>,
    /// The methods the path has, for 405.
    pub allow: Option<MethodSet>,
    /// The upstream concerned.
    pub service: Option<Arc<str>>,
}

/// What a route asks of those who come without, or with the wrong, credentials.
#[derive(Debug)]
pub struct Challenge {
    /// Value of `WWW-Authenticate` where nothing was sent.
    pub missing: String,
    /// Where a token is not good; what is wrong with it comes behind (RFC 6750 §3). Nothing where no
    /// tokens are taken.
    pub invalid: Option<String>,
    /// What comes behind that: the challenges for other credentials.
    pub others: String,
    /// Where they do not suffice; names the scopes (RFC 6750 §3.1).
    pub insufficient: String,
    /// The scopes the route asks for, joined by spaces.
    pub scopes: String,
}

impl Refusal {
    /// A refusal that needs no more than its reason.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
            retry_after_s: None,
            challenge: None,
            allow: None,
            service: None,
        }
    }

    /// Says what exactly is wrong.
    #[must_use]
    pub fn because(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// Says when to come back: whole seconds, rounded up, at least 1 (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_s = Some(ms.div_ceil(1000).max(1));
        self
    }

    /// Says which service is concerned.
    #[must_use]
    pub fn of(mut self, service: &Arc<str>) -> Self {
        self.service = Some(service.clone());
        self
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}
