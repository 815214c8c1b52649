//! What the client is told of the limits that a request was judged by.

use crate::limit::Decision;
use std::sync::Arc;

/// What is told of one limit, as its config has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Box<str>,
    /// Which headers tell of it.
    pub headers: LimitHeaders,
    /// How the reset is written.
    pub reset: Reset,
    /// Whether it counts tokens.
    pub has_tokens: bool,
}

/// Which headers tell the client of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitHeaders {
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    pub x_ratelimit: bool,
    /// `RateLimit`, `RateLimit-Policy`.
    pub draft: bool,
}

/// How the end of a window is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Unix seconds.
    EpochS,
    /// Unix milliseconds.
    EpochMs,
    /// Seconds from now.
    Delta,
}

/// What one limit said.
#[derive(Clone, Copy, Debug)]
pub struct LimitReport {
    /// The limit's place among the policies.
    pub policy: usize,
    /// Requests that the caller may make in a window.
    pub quota: u64,
    /// The window, in seconds.
    pub window_s: u64,
    /// The decision.
    pub decision: Decision,
}

/// What all limits of a request said; nothing if it came to none.
#[derive(Debug, Default)]
pub struct Limits {
    policies: Option<Arc<[Policy]>>,
    reports: Vec<LimitReport>,
}

impl Limits {
    /// Keeps what the limits of a route said.
    pub fn tell(&mut self, policies: &Arc<[Policy]>, reports: Vec<LimitReport>) {
        self.policies = Some(policies.clone());
        self.reports = reports;
    }

    /// Each limit and what it said, in the order of the route.
    pub fn all(&self) -> impl Iterator<Item = (&Policy, &LimitReport)> {
        let policies = self.policies.as_deref().unwrap_or_default();
        let named = |report: &LimitReport| policies.get(report.policy);
        self.reports
            .iter()
            .filter_map(move |report| Some((named(report)?, report)))
    }

    /// The names of those that refused.
    pub fn violated(&self) -> impl Iterator<Item = &str> {
        let refused = self.all().filter(|(_, report)| !report.decision.allowed);
        refused.map(|(policy, _)| &*policy.name)
    }

    /// Of those that the older fields tell of the one to tell of: one that refused, the longest first,
    /// else the one with the smallest share left.
    pub fn nearest(&self) -> Option<(&Policy, &LimitReport)> {
        let mut nearest: Option<(&Policy, &LimitReport)> = None;
        for (policy, report) in self.all().filter(|(p, _)| p.headers.x_ratelimit) {
            if nearest.is_none_or(|(_, before)| is_nearer(&report.decision, &before.decision)) {
                nearest = Some((policy, report));
            }
        }
        nearest
    }
}

fn is_nearer(new: &Decision, old: &Decision) -> bool {
    match (new.allowed, old.allowed) {
        (false, true) => true,
        (true, false) => false,
        (false, false) => new.retry_after_ms > old.retry_after_ms,
        (true, true) => {
            let share = |a: &Decision, b: &Decision| u128::from(a.remaining) * u128::from(b.limit);
            share(new, old) < share(old, new)
        }
    }
}
