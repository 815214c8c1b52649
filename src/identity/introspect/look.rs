//! One look-up: asks the issuer and keeps what it says.

use super::answer::{self, AnswerRules, OpaqueFault, Told};
use super::circuit::{Change, Circuit};
use super::known::{Digest, Fact, Known, Life};
use super::query::{Query, QueryFault};
use crate::base::clock::{Clock, Now};
use crate::observe::metrics::{Asked, IntrospectionMetrics};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// At most so often one thing is told to the log, in milliseconds.
const TOLD_EVERY_MS: u64 = 10_000;

/// What requests and look-ups of one issuer share.
pub(super) struct Core {
    pub rules: AnswerRules,
    pub query: Query,
    pub known: Known,
    pub circuit: Arc<Circuit>,
    pub clock: Clock,
    pub metrics: Arc<IntrospectionMetrics>,
    pub ttl_ms: u64,
    pub negative_ttl_ms: u64,
    pub answered: AtomicU64,
    pub failed: AtomicU64,
    pub told: Told10s,
}

/// When something was last told to the log; 0 for never.
#[derive(Default)]
pub(super) struct Told10s(AtomicU64);

impl Told10s {
    fn again(&self, now: Now) -> bool {
        let last = self.0.load(Relaxed);
        let due = last == 0 || now.steady_ms >= last + TOLD_EVERY_MS;
        if due {
            self.0.store(now.steady_ms, Relaxed);
        }
        due
    }
}

/// What came of a look-up.
pub(super) enum Landed {
    /// An answer to what was asked at this time (steady).
    Told(Told, u64),
    /// An answer that is none.
    NoAnswer,
    /// Nothing.
    Nothing,
}

impl Core {
    /// What is known of a token; `asked` by a request that waited for it. The leeway is for those: in
    /// the last seconds of a token its issuer is asked.
    pub fn holds(&self, digest: &Digest, now: Now, asked: bool) -> Option<Fact> {
        let known = self.known.get(digest, now.steady_ms, asked);
        known.filter(|fact| asked || !fact.has_ended(now.unix_ms))
    }

    /// Asks about a token.
    pub async fn look(&self, token: &str, _digest: &Digest) -> Landed {
        let asked = self.clock.now();
        let Some(permit) = self.circuit.permit(asked.steady_ms) else {
            self.metrics.skipped();
            return Landed::Nothing;
        };
        let answered = self.query.ask(token).await;
        let read = answered.and_then(|body| Ok(answer::read(&body, &self.rules)?));
        let now = self.clock.now();
        let took = Duration::from_nanos(now.since_ns(asked));
        let health = match &read {
            Ok(_) => super::circuit::Health::Good,
            Err(fault) => fault.health(),
        };
        if let Some(change) = permit.settle(health, now.steady_ms) {
            self.changed(change);
        }
        match read {
            Ok(told) => {
                self.answered.fetch_add(1, Relaxed);
                self.metrics.asked(kind(&told), took);
                Landed::Told(told, asked.steady_ms)
            }
            Err(fault) => self.failed(&fault, took, now),
        }
    }

    fn failed(&self, fault: &QueryFault, took: Duration, now: Now) -> Landed {
        self.failed.fetch_add(1, Relaxed);
        if self.told.again(now) {
            let name = &self.rules.provider;
            log::warn!("identity {name}: asking the issuer about a token failed: {fault}");
        }
        if fault.is_answered() {
            self.metrics.asked(Asked::Invalid, took);
            Landed::NoAnswer
        } else {
            self.metrics.asked(Asked::Unavailable, took);
            Landed::Nothing
        }
    }

    fn changed(&self, change: Change) {
        let name = &self.rules.provider;
        self.metrics.circuit(change == Change::Opened);
        match change {
            Change::Opened => log::warn!(
                "identity {name}: the issuer fails again and again and is asked once a second from \
                 now on; tokens that are not known get 503 meanwhile"
            ),
            Change::Closed => log::info!("identity {name}: the issuer answers again"),
        }
    }

    /// Keeps what came of a look-up.
    pub fn settle(&self, digest: Digest, landed: Landed) {
        let now = self.clock.now();
        let life = |from_ms: u64, ttl_ms: u64| Life {
            landed_ms: now.steady_ms,
            until_ms: from_ms.saturating_add(ttl_ms),
        };
        let (life, fact) = match landed {
            Landed::Nothing => return self.known.remove(&digest),
            Landed::NoAnswer => (life(now.steady_ms, 0), Fact::NoAnswer),
            Landed::Told(Told::Refused(fault), at) => {
                (life(at, self.negative_ttl_ms), Fact::Refused(fault))
            }
            Landed::Told(Told::Active(grant), at) => {
                // An issuer that calls a token good beyond its end is not asked each time.
                match grant.judge(now.unix_ms, self.rules.leeway_ms) {
                    Err(fault @ OpaqueFault::Expired) => {
                        (life(at, self.negative_ttl_ms), Fact::Refused(fault))
                    }
                    _ => (life(at, self.ttl_ms), Fact::Good(grant)),
                }
            }
        };
        self.known.put(digest, life, fact);
        self.metrics.evicted(self.known.evicted());
    }
}

fn kind(told: &Told) -> Asked {
    match told {
        Told::Active(_) => Asked::Active,
        Told::Refused(OpaqueFault::Inactive) => Asked::Inactive,
        Told::Refused(_) => Asked::Refused,
    }
}
