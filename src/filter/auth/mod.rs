//! Authentication and authorisation of a route: which credentials it takes, and what their holder
//! must be allowed.
//!
//! A route has one or more gates, each of which a request must pass. A gate takes one credential: a
//! bearer token before a key, a key before a certificate. What is there and not good is refused,
//! whatever else is there.

pub mod credential;
pub mod demands;
pub mod failures;
pub mod gate;

use super::{Lookup, Verdict};
use crate::base::clock::Now;
use crate::exchange::Exchange;
use crate::exchange::refusal::{Challenge, Refusal};
use crate::identity::principal::{Method, Principal};
use crate::identity::revoke::Revocations;
use crate::identity::seen::Seen;
use crate::observe::metrics::Metrics;
use crate::observe::reason::Reason;
use demands::Demands;
use failures::Failures;
use gate::Gate;
use http::HeaderMap;
use std::sync::Arc;

/// What of a request a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// Its query, without the question mark.
    pub query: Option<&'a str>,
}

/// What a route asks of its callers.
pub struct Auth {
    /// All of which must be passed.
    pub gates: Box<[Gate]>,
    /// Whether those pass who show no credential at all.
    pub anonymous: bool,
    /// What a caller must be allowed.
    pub demands: Demands,
    /// What those are told who lack any of it.
    pub challenge: Arc<Challenge>,
    /// Whether those who may not pass are only noted.
    pub dry_run: bool,
    /// Tokens verified a moment ago.
    pub seen: Arc<Seen>,
    /// How many refused credentials are borne.
    pub failures: Option<Failures>,
    /// What was revoked.
    pub revocations: Option<Arc<Revocations>>,
    /// Where hits and misses are counted.
    pub metrics: Arc<Metrics>,
}

/// Why a gate does not open.
pub enum Stop {
    /// No credential that it takes came.
    Missing(Reason),
    /// The credential is not good.
    Failed(Reason),
    /// It is not known whether it is good, or it is not looked at now.
    Unable(Refusal),
    /// A lookup has to be made first.
    Ask(Lookup),
}

/// A request on its way through the gates.
pub struct Visit<'a> {
    /// The request.
    pub request: Request<'a>,
    /// What else is known of it.
    pub exchange: &'a mut Exchange,
    /// When it is judged.
    pub now: Now,
    /// Whether the lookups that were asked for have been made.
    pub asked: bool,
}

impl Auth {
    /// Verifies who calls and whether they may; leaves the caller in the exchange.
    pub fn request(
        &self,
        request: Request<'_>,
        exchange: &mut Exchange,
        now: Now,
        asked: bool,
    ) -> Verdict {
        let mut visit = Visit {
            request,
            exchange,
            now,
            asked,
        };
        let verdict = match self.authenticate(&mut visit) {
            Ok(Some(caller)) => {
                let unmet = self.demands.unmet(&caller);
                exchange.principal = Some(caller);
                unmet.map_or(Verdict::Pass, |reason| self.refuse(reason))
            }
            Ok(None) => Verdict::Pass,
            Err(verdict) => verdict,
        };
        match verdict {
            Verdict::Refuse(refusal) if self.dry_run => {
                exchange.would_refuse = Some(refusal.reason);
                Verdict::Pass
            }
            verdict => verdict,
        }
    }

    /// Who calls; nobody, where nobody in particular may pass.
    fn authenticate(&self, visit: &mut Visit<'_>) -> Result<Option<Arc<Principal>>, Verdict> {
        let mut caller: Option<Arc<Principal>> = None;
        let mut lookups = Vec::new();
        for gate in &self.gates {
            let known = gate.open(self, visit);
            match known.and_then(|known| self.unrevoked(known, visit.now)) {
                Ok(known) => {
                    let before = caller.take_if(|other| rank(&known) < rank(other)).is_some();
                    if before || caller.is_none() {
                        caller = Some(known);
                    }
                }
                // Whoever sends something else than a bearer token does show something.
                Err(Stop::Missing(reason))
                    if self.anonymous && reason != Reason::BearerRequired =>
                {
                    return Ok(None);
                }
                Err(Stop::Missing(reason)) => return Err(self.refuse(reason)),
                Err(Stop::Failed(reason)) => {
                    if let Some(failures) = &self.failures {
                        failures.count(visit.exchange.client, visit.now);
                    }
                    return Err(self.refuse(reason));
                }
                Err(Stop::Unable(refusal)) => return Err(Verdict::refuse(refusal)),
                Err(Stop::Ask(lookup)) => lookups.push(lookup),
            }
        }
        match Lookup::all(lookups) {
            Some(lookup) => Err(Verdict::Ask(lookup)),
            None => Ok(caller),
        }
    }

    /// The caller, unless what it came with was revoked.
    fn unrevoked(&self, caller: Arc<Principal>, now: Now) -> Result<Arc<Principal>, Stop> {
        let Some(revocations) = &self.revocations else {
            return Ok(caller);
        };
        if revocations.covers(&caller) {
            return Err(Stop::Failed(match caller.method {
                Method::ApiKey => Reason::ApiKeyRevoked,
                _ => Reason::TokenRevoked,
            }));
        }
        if revocations.is_stale(now) {
            return Err(gate::unable(Reason::RevocationsUnavailable));
        }
        Ok(caller)
    }

    fn refuse(&self, reason: Reason) -> Verdict {
        let mut refusal = Refusal::new(reason);
        refusal.challenge = Some(self.challenge.clone());
        Verdict::refuse(refusal)
    }
}

/// Of several proofs, whose word on who calls counts most.
fn rank(caller: &Principal) -> u8 {
    match caller.method {
        Method::Jwt | Method::Introspection => 0,
        Method::ApiKey => 1,
        Method::Certificate => 2,
    }
}
