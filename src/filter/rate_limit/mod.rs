//! A route's rate limits: who is counted, how much they may, where it is counted, and what the client is
//! told.

pub mod rates;
pub mod whom;

use super::Verdict;
use crate::base::clock::Now;
use crate::exchange::Exchange;
use crate::exchange::limits::{LimitReport, Policy};
use crate::exchange::refusal::Refusal;
use crate::limit::estimate::Estimator;
use crate::limit::exact::Store;
use crate::limit::quota::Quota;
use crate::limit::rule::Rule;
use crate::limit::sliding_log::{Logs, SlidingLog};
use crate::limit::{Decision, Key};
use crate::observe::metrics::LimiterMetrics;
use crate::observe::reason::Reason;
use http::HeaderMap;
use rates::Rates;
use std::sync::Arc;
use whom::Whom;

/// Where the counts are, and how much each caller may.
#[derive(Clone)]
pub enum Counts {
    /// Exact, in a bounded table.
    Exact(Arc<Store>, Arc<Rates<Rule>>),
    /// Exact, the time of each request.
    Log(Arc<Logs>, Arc<Rates<SlidingLog>>),
    /// Estimated, for open key spaces; the same for all.
    Estimate(Arc<Estimator>),
}

impl Counts {
    /// Keys held, and keys given up for lack of room since it was made; of a sketch, none.
    pub fn held(&self, now_ms: u64) -> (u64, u64) {
        match self {
            Self::Exact(store, _) => (store.live_keys(now_ms), store.evictions()),
            Self::Log(logs, _) => (logs.keys(), logs.evictions()),
            Self::Estimate(_) => (0, 0),
        }
    }
}

/// One limit on one route.
#[derive(Clone)]
pub struct RateLimit {
    /// Tells the counts of one route from those of another; 0 where they share.
    pub id: u64,
    /// Whom it counts.
    pub whom: Arc<Whom>,
    /// Where.
    pub counts: Counts,
    /// Whether requests over it are only noted.
    pub dry_run: bool,
    /// Where refusals are counted.
    pub metrics: Arc<LimiterMetrics>,
}

/// The limits of a route. All of them pass a request, or none of them counts it.
pub struct RateLimits {
    /// Each of them.
    pub limits: Box<[RateLimit]>,
    /// What is told of each, in the same order.
    pub policies: Arc<[Policy]>,
    /// How much one request counts.
    pub cost: u32,
}

/// What a limit is asked to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Decide.
    Ask,
    /// Decide, and count what may pass.
    Count,
}

/// A request, as limits look at it.
struct Asked<'a> {
    exchange: &'a Exchange,
    headers: &'a HeaderMap,
    now: Now,
    cost: u32,
}

impl RateLimits {
    /// Judges one request, counts it if every limit allows it, and leaves in the exchange what the
    /// client is told.
    pub fn request(&self, headers: &HeaderMap, exchange: &mut Exchange, now: Now) -> Verdict {
        let asked = Asked {
            exchange,
            headers,
            now,
            cost: self.cost,
        };
        let mut reports = Vec::with_capacity(self.limits.len());
        // With one limit, deciding and counting are one step.
        let enforced = self.limits.iter().filter(|limit| !limit.dry_run).count();
        let mut refused = None;
        if enforced > 1 {
            refused = self.judge(&asked, Step::Ask, &mut reports);
        }
        if refused.is_none() {
            reports.clear();
            refused = self.judge(&asked, Step::Count, &mut reports);
        }
        // What is refused anyway would not have come to them.
        let step = refused.map_or(Step::Count, |_| Step::Ask);
        let would_refuse = self.tried(&asked, step);
        exchange.limits.tell(&self.policies, reports);
        if would_refuse {
            exchange.would_refuse = exchange.would_refuse.or(Some(Reason::RateLimited));
        }
        refused.map_or(Verdict::Pass, refusal)
    }

    /// Lets the limits that are enforced judge; the longest wait of those that refuse.
    fn judge(&self, asked: &Asked, step: Step, reports: &mut Vec<LimitReport>) -> Option<u64> {
        let mut refused: Option<u64> = None;
        for (place, limit) in self.limits.iter().enumerate().filter(|(_, l)| !l.dry_run) {
            let (quota, decision) = limit.decide(asked, step);
            reports.push(report(place, quota, decision));
            if !decision.allowed {
                limit.metrics.refused();
                // Earlier than the longest wait would be in vain.
                refused = refused.max(Some(decision.retry_after_ms));
                if step == Step::Count {
                    break;
                }
            }
        }
        refused
    }

    /// Lets those judge that are tried out; whether any of them would refuse.
    fn tried(&self, asked: &Asked, step: Step) -> bool {
        let mut would_refuse = false;
        for limit in self.limits.iter().filter(|limit| limit.dry_run) {
            let (_, decision) = limit.decide(asked, step);
            if !decision.allowed {
                limit.metrics.would_refuse();
                would_refuse = true;
            }
        }
        would_refuse
    }

    /// Leaves in the exchange what the client is told where something else refused it.
    pub fn report(&self, headers: &HeaderMap, exchange: &mut Exchange, now: Now) {
        let asked = Asked {
            exchange,
            headers,
            now,
            cost: 0,
        };
        let mut reports = Vec::with_capacity(self.limits.len());
        for (place, limit) in self.limits.iter().enumerate().filter(|(_, l)| !l.dry_run) {
            let (quota, decision) = limit.decide(&asked, Step::Ask);
            reports.push(report(place, quota, decision));
        }
        exchange.limits.tell(&self.policies, reports);
    }
}

fn report(place: usize, quota: Quota, decision: Decision) -> LimitReport {
    LimitReport {
        policy: place,
        quota: quota.size(),
        window_s: quota.window_s(),
        decision,
    }
}

fn refusal(wait_ms: u64) -> Verdict {
    let refusal = Refusal::new(Reason::RateLimited);
    // One that costs more than there ever is need not come back.
    Verdict::refuse(match wait_ms {
        Decision::NEVER => {
            refusal.because("a request of this route costs more than the limit allows at once")
        }
        wait_ms => refusal.retry_after_ms(wait_ms),
    })
}

impl RateLimit {
    fn decide(&self, asked: &Asked, step: Step) -> (Quota, Decision) {
        let key = self.key(asked);
        let (now_ms, cost) = (asked.now.steady_ms, asked.cost);
        let caller = asked.exchange.principal.as_deref();
        match &self.counts {
            Counts::Exact(store, rates) => {
                let rule = rates.of(caller);
                let decision = match step {
                    Step::Count => store.check(&rule, &key, now_ms, cost),
                    Step::Ask => store.peek(&rule, &key, now_ms, cost),
                };
                (Quota::Rule(rule), decision)
            }
            Counts::Log(logs, rates) => {
                let rule = rates.of(caller);
                let decision = match step {
                    Step::Count => logs.check(&rule, &key, now_ms, cost),
                    Step::Ask => logs.peek(&rule, &key, now_ms, cost),
                };
                (Quota::Log(rule), decision)
            }
            Counts::Estimate(estimator) => {
                let decision = match step {
                    Step::Count => estimator.check(&key, now_ms, cost),
                    Step::Ask => estimator.peek(&key, now_ms, cost),
                };
                (Quota::Rule((*estimator.rule()).into()), decision)
            }
        }
    }

    fn key(&self, asked: &Asked) -> Key {
        self.whom.key(self.id, asked.exchange, asked.headers)
    }
}
