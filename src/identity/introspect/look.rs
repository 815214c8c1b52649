//! One look-up: asks the issuer and keeps what it says.

use super::answer::{self, AnswerRules, Grant, OpaqueFault, Told};
use super::circuit::{Change, Circuit, Health};
use super::known::{Digest, Fact, Known, Life};
use super::query::{Query, QueryFault};
use super::shared::{self, Found};
use crate::base::clock::{Clock, Now};
use crate::observe::metrics::{Asked, IntrospectionMetrics, Shared};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// At most so often one thing is told to the log, in milliseconds.
const TOLD_EVERY_MS: u64 = 10_000;

/// What requests and look-ups of one issuer share.
pub(super) struct Core {
    pub rules: AnswerRules,
    pub query: Query,
    pub shared: Option<Arc<shared::Shared>>,
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

    /// Asks about a token: first the other gateways, then its issuer.
    pub async fn look(&self, token: &str, digest: &Digest) -> Landed {
        let asked = self.clock.now();
        if let Some(landed) = self.shared(digest, asked).await {
            return landed;
        }
        let Some(permit) = self.circuit.permit(asked.steady_ms) else {
            self.metrics.skipped();
            return Landed::Nothing;
        };
        let answered = self.query.ask(token).await;
        let read = answered.and_then(|body| Ok((answer::read(&body, &self.rules)?, body)));
        let now = self.clock.now();
        let took = Duration::from_nanos(now.since_ns(asked));
        let health = read
            .as_ref()
            .map_or_else(QueryFault::health, |_| Health::Good);
        if let Some(change) = permit.settle(health, now.steady_ms) {
            self.changed(change);
        }
        match read {
            Ok((told, body)) => {
                self.answered.fetch_add(1, Relaxed);
                self.metrics.asked(kind(&told), took);
                self.share(digest, asked, &told, body);
                Landed::Told(told, asked.steady_ms)
            }
            Err(fault) => self.failed(&fault, took, now),
        }
    }

    /// What another gateway was told of a token.
    async fn shared(&self, digest: &Digest, now: Now) -> Option<Landed> {
        let shared = self.shared.as_ref()?;
        match shared.get(digest, now, self.ttl_ms).await {
            Found::Answer(body, age_ms) => {
                // Judged by our own rules; whoever shared it may have others.
                let told = answer::read(&body, &self.rules).ok()?;
                let good = |grant: &Grant| grant.exp_ms.is_none_or(|exp| now.unix_ms < exp);
                let good = matches!(&told, Told::Active(grant) if good(grant));
                self.metrics
                    .shared(if good { Shared::Hit } else { Shared::Miss });
                let asked_ms = now.steady_ms.saturating_sub(age_ms);
                good.then_some(Landed::Told(told, asked_ms))
            }
            found => {
                self.metrics.shared(match found {
                    Found::Foreign => Shared::Foreign,
                    Found::Unasked => Shared::Failed,
                    Found::Nothing | Found::Answer(..) => Shared::Miss,
                });
                if matches!(found, Found::Foreign) && self.told.again(now) {
                    let name = &self.rules.provider;
                    log::warn!(
                        "identity {name}: Redis holds an answer about a token that no gateway with our \
                         client secret left there; it is not used"
                    );
                }
                None
            }
        }
    }

    /// Leaves what a good token's issuer says to other gateways.
    fn share(&self, digest: &Digest, asked: Now, told: &Told, body: Vec<u8>) {
        let (Some(shared), Told::Active(grant)) = (&self.shared, told) else {
            return;
        };
        let left_ms = grant.exp_ms.map(|exp| exp.saturating_sub(asked.unix_ms));
        let life_ms = left_ms.map_or(self.ttl_ms, |left| left.min(self.ttl_ms));
        let (shared, digest) = (shared.clone(), *digest);
        // Those who wait for the answer do not wait for this.
        tokio::spawn(async move { shared.put(&digest, asked.unix_ms, &body, life_ms).await });
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
