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
    /// Tells the counts of one route from those of another; 0 where they share.
    pub id: u64,
    /// Whom it counts.
    pub whom: Whom,
    /// Where.
    pub counts: Counts,
    /// Which headers tell of it.
    pub headers: LimitHeaders,
    /// How the reset is written.
    pub reset: Reset,
}

/// The limits of a route. All of them pass a request, or none of them counts it.
pub struct RateLimits {
    /// Each of them.
    pub limits: Box<[RateLimit]>,
}

impl RateLimits {
    /// Judges one request, counts it if every limit allows it, and leaves in the exchange what the
    /// client is told.
    pub fn request(&self, exchange: &mut Exchange, now: Now) -> Verdict {
        // With one limit, deciding and counting are one step.
        let several = self.limits.len() > 1;
        let refused = several.then(|| {
            let all = self.limits.iter().map(|limit| limit.ask(exchange, now, 1));
            // The one that asks for the longest wait: earlier would be in vain.
            all.filter(|decision| !decision.allowed)
                .max_by_key(|decision| decision.retry_after_ms)
        });
        if let Some(decision) = refused.flatten() {
            return refusal(&decision);
        }
        exchange.limit = None;
        for limit in &self.limits {
            let decision = limit.count(exchange, now);
            if !decision.allowed {
                return refusal(&decision);
            }
        }
        Verdict::Pass
    }

    /// Leaves in the exchange what the client is told where something else refused it.
    pub fn report(&self, exchange: &mut Exchange, now: Now) {
        for limit in &self.limits {
            limit.ask(exchange, now, 0);
        }
    }
}

fn refusal(decision: &Decision) -> Verdict {
    let refusal = Refusal::new(Reason::RateLimited);
    Verdict::refuse(refusal.retry_after_ms(decision.retry_after_ms))
}

impl RateLimit {
    /// Decides and counts.
    fn count(&self, exchange: &mut Exchange, now: Now) -> Decision {
        let key = self.key(exchange);
        let decision = match &self.counts {
            Counts::Exact(store, rule) => store.check(rule, &key, now.steady_ms, 1),
            Counts::Estimate(estimator) => estimator.check(&key, now.steady_ms, 1),
        };
        self.tell(exchange, decision);
        decision
    }

    /// Decides without counting.
    fn ask(&self, exchange: &mut Exchange, now: Now, cost: u32) -> Decision {
        let key = self.key(exchange);
        let decision = match &self.counts {
            Counts::Exact(store, rule) => store.peek(rule, &key, now.steady_ms, cost),
            Counts::Estimate(estimator) => estimator.peek(&key, now.steady_ms, cost),
        };
        self.tell(exchange, decision);
        decision
    }

    fn tell(&self, exchange: &mut Exchange, decision: Decision) {
        exchange.report_limit(LimitReport {
            decision,
            headers: self.headers,
            reset: self.reset,
        });
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
