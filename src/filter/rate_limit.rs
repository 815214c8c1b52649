//! A route's rate limits: who is counted, where, and what the client is told.

use super::Verdict;
use crate::base::clock::Now;
use crate::base::net::client_prefix;
use crate::exchange::refusal::Refusal;
use crate::exchange::{Exchange, LimitHeaders, LimitReport, Reset};
use crate::limit::estimate::Estimator;
use crate::limit::exact::Store;
use crate::limit::sliding_window::SlidingWindow;
use crate::limit::{Decision, Key};
use crate::observe::reason::Reason;
use std::sync::Arc;

/// Whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The verified caller: the user of a token, else its client, the client of an API key; the
    /// address of one who is nobody.
    Client,
    /// The user of a token; without one as [`Whom::Client`].
    User,
    /// The address, /32 or /64.
    Address,
    /// Everybody together.
    Route,
}

/// Where the counts are.
#[derive(Clone)]
pub enum Counts {
    /// Exact, in a bounded table.
    Exact(Arc<Store>, SlidingWindow),
    /// Estimated, for open key spaces.
    Estimate(Arc<Estimator>),
}

/// One limit on one route.
#[derive(Clone)]
pub struct RateLimit {
    /// Tells this limit's counts from others'; one for each route unless they share.
    pub id: u32,
    /// Whom it counts.
    pub whom: Whom,
    /// Where.
    pub counts: Counts,
    /// Which headers tell of it.
    pub headers: LimitHeaders,
    /// How the reset is written.
    pub reset: Reset,
}

impl RateLimit {
    /// Counts one request.
    pub fn request(&self, exchange: &mut Exchange, now: Now) -> Verdict {
        let key = self.key(exchange);
        let decision: Decision = match &self.counts {
            Counts::Exact(store, rule) => store.check(rule, &key, now.steady_ms, 1),
            Counts::Estimate(estimator) => estimator.check(&key, now.steady_ms, 1),
        };
        exchange.report_limit(LimitReport {
            decision,
            headers: self.headers,
            reset: self.reset,
        });
        if decision.allowed {
            return Verdict::Pass;
        }
        let refusal = Refusal::new(Reason::RateLimited).retry_after_ms(decision.retry_after_ms);
        Verdict::refuse(refusal)
    }

    /// The kinds are told apart by a first part, so that no address or user equals a client.
    fn key(&self, exchange: &Exchange) -> Key {
        let principal = exchange.principal.as_deref();
        match (self.whom, principal) {
            (Whom::Route, _) => Key::new(self.id, &[b"r"]),
            (Whom::Client | Whom::User, Some(p)) => match (&p.user, &p.client_id) {
                (Some(user), _) => {
                    Key::new(self.id, &[b"u", p.provider.as_bytes(), user.as_bytes()])
                }
                (None, client) => {
                    let client = client.as_deref().unwrap_or_default();
                    Key::new(self.id, &[b"c", p.provider.as_bytes(), client.as_bytes()])
                }
            },
            (Whom::Address, _) | (Whom::Client | Whom::User, None) => {
                Key::new(self.id, &[b"a", &client_prefix(exchange.client)])
            }
        }
    }
}
