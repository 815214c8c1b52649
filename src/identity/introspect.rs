//! Tokens that only their issuer can read: it is asked about them (RFC 7662).
//!
//! A request asks [`Introspection::judge`], which only looks at what is known; where that is not
//! enough it waits for [`Introspection::look_up`], once and for a bounded time, and asks again. All
//! queries are made by one task per issuer ([`Introspection::task`]).
//!
//! What an issuer says counts for `ttl` from the moment it was asked, at most until the token's own
//! `exp`, which is compared at every request. What it cannot say is no refusal: the client may well
//! be right, so it is told to come back (503) and not that its token is bad.

pub mod answer;
mod circuit;
mod desk;
mod known;
mod look;
mod query;
mod shared;

pub use answer::OpaqueFault;
pub use query::ClientAuth;

use super::claims::ClaimMap;
use super::principal::Principal;
use crate::base::clock::{Clock, Now};
use crate::base::secret::{Secret, sha256};
use crate::observe::metrics::IntrospectionMetrics;
use crate::redis::Redis;
use answer::AnswerRules;
use circuit::Circuit;
use desk::{Order, Seats};
use known::{Fact, Known};
use look::Core;
use query::{Query, QueryRules};
use shared::{Seal, Shared};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;
/// The longest time an answer may count.
pub const MAX_TTL: Duration = Duration::from_secs(60);
/// The longest time a refusal may count: a token may be made good after it was first shown.
pub const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(10);
/// The most clock skew that may be configured.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);
/// What a request waits beyond the time of a query, for everything around it.
const SLACK: Duration = Duration::from_millis(500);

/// Who is asked about tokens and what is believed of the answers.
#[derive(Clone)]
pub struct IntrospectionRules {
    /// The provider's name in our configuration.
    pub name: String,
    /// Where; `https`, or `http` for a loopback host or with `insecure_http`.
    pub url: String,
    /// Whether `http` may be used for any host.
    pub insecure_http: bool,
    /// Our name at the issuer.
    pub client_id: String,
    /// What proves it.
    pub client_secret: Secret,
    /// Where the two stand in a query.
    pub client_auth: ClientAuth,
    /// The exact `iss` that an answer must have; none: any.
    pub issuer: Option<String>,
    /// The audiences of which an answer must name one; none: any.
    pub audiences: Option<Vec<String>>,
    /// How far the issuer's clock may be off, at most [`MAX_LEEWAY`].
    pub leeway: Duration,
    /// How long a query may take.
    pub timeout: Duration,
    /// How long an answer counts, at most [`MAX_TTL`].
    pub ttl: Duration,
    /// How long a refusal counts, at most [`MAX_NEGATIVE_TTL`].
    pub negative_ttl: Duration,
    /// So many good tokens are remembered, and a quarter as many refused ones.
    pub max_cached: usize,
    /// Which member gives what.
    pub claims: ClaimMap,
    /// Where answers are shared with other gateways.
    pub shared: Option<Arc<Redis>>,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// Whose it is.
    Known(Arc<Principal>),
    /// It is not to be believed.
    Refused(OpaqueFault),
    /// Await [`Introspection::look_up`] and judge again, having asked.
    Ask,
    /// The issuer could not be asked.
    Unavailable,
    /// The issuer was asked and did not answer as it should.
    Invalid,
}

/// How asking went so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntrospectionStatus {
    /// Queries that were answered.
    pub answered: u64,
    /// Queries that were not.
    pub failed: u64,
    /// Whether the issuer is asked once a second only.
    pub given_up: bool,
}

/// An issuer that is asked about its tokens.
pub struct Introspection {
    serial: u64,
    core: Arc<Core>,
    orders: mpsc::Sender<Order>,
    /// Until the task takes it.
    inbox: Mutex<Option<mpsc::Receiver<Order>>>,
    seats: Seats,
    patience: Duration,
}

impl Introspection {
    /// Prepares asking; nobody is asked before [`Introspection::task`] runs. The error says what is
    /// wrong with the rules.
    pub fn new(
        rules: IntrospectionRules,
        clock: Clock,
        metrics: Arc<IntrospectionMetrics>,
    ) -> Result<Self, String> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        bounded("leeway", rules.leeway, MAX_LEEWAY)?;
        bounded("ttl", rules.ttl, MAX_TTL)?;
        bounded("negative_ttl", rules.negative_ttl, MAX_NEGATIVE_TTL)?;
        if rules.audiences.as_ref().is_some_and(Vec::is_empty) {
            return Err("audiences: want at least one".to_owned());
        }
        let mut patience = rules.timeout + SLACK;
        let shared = match rules.shared {
            Some(redis) => {
                let seal = Seal::new(&rules.url, &rules.client_id, &rules.client_secret)?;
                patience += redis.rules().timeout;
                Some(Shared::new(redis, &rules.name, seal))
            }
            None => None,
        };
        let query = Query::new(&QueryRules {
            url: rules.url,
            insecure_http: rules.insecure_http,
            client_id: rules.client_id,
            client_secret: rules.client_secret,
            client_auth: rules.client_auth,
            timeout: rules.timeout,
        })?;
        let ms = |time: Duration| time.as_millis() as u64;
        let core = Core {
            rules: AnswerRules {
                provider: Arc::from(rules.name),
                issuer: rules.issuer,
                audiences: rules.audiences,
                leeway_ms: ms(rules.leeway),
                claims: rules.claims,
            },
            query,
            shared: shared.map(Arc::new),
            known: Known::new(rules.max_cached),
            circuit: Arc::new(Circuit::default()),
            clock,
            metrics,
            ttl_ms: ms(rules.ttl),
            negative_ttl_ms: ms(rules.negative_ttl),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            told: look::Told10s::default(),
        };
        let (orders, inbox) = mpsc::channel(desk::MAX_WAITING);
        Ok(Self {
            serial: SERIAL.fetch_add(1, Relaxed),
            core: Arc::new(core),
            orders,
            inbox: Mutex::new(Some(inbox)),
            seats: Seats::default(),
            patience,
        })
    }

    /// The provider's name in our configuration.
    pub fn name(&self) -> &str {
        &self.core.rules.provider
    }

    /// A number that nothing else of its kind in this process has.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Which member gives what.
    pub fn claims(&self) -> &ClaimMap {
        &self.core.rules.claims
    }

    /// The longest that [`Introspection::look_up`] takes.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether answers are shared through this server.
    pub fn shares_through(&self, redis: Option<&Arc<Redis>>) -> bool {
        match (&self.core.shared, redis) {
            (Some(shared), Some(redis)) => shared.is_through(redis),
            (shared, redis) => shared.is_none() && redis.is_none(),
        }
    }

    /// How asking went so far.
    pub fn status(&self) -> IntrospectionStatus {
        IntrospectionStatus {
            answered: self.core.answered.load(Relaxed),
            failed: self.core.failed.load(Relaxed),
            given_up: self.core.circuit.is_open(),
        }
    }

    /// The task that asks; only the first call gives one. It ends with the last request that could
    /// ask, or when `shutdown` holds true.
    pub fn task(
        &self,
        shutdown: watch::Receiver<bool>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let inbox = inbox.take()?;
        Some(desk::serve(self.core.clone(), inbox, shutdown))
    }

    /// What is known of a token. `asked` by a request that has waited for [`Introspection::look_up`]
    /// and has to be told something else than [`TokenVerdict::Ask`].
    pub fn judge(&self, token: &str, now: Now, asked: bool) -> TokenVerdict {
        if let Err(fault) = check_form(token) {
            return TokenVerdict::Refused(fault);
        }
        let digest = sha256(token.as_bytes());
        let known = self.core.holds(&digest, now, asked);
        if !asked {
            self.core.metrics.cache(known.is_some());
        }
        match known {
            Some(Fact::Good(grant)) => match grant.judge(now.unix_ms, self.core.rules.leeway_ms) {
                Ok(()) => TokenVerdict::Known(grant.principal),
                Err(fault) => TokenVerdict::Refused(fault),
            },
            Some(Fact::Refused(fault)) => TokenVerdict::Refused(fault),
            Some(Fact::NoAnswer) => TokenVerdict::Invalid,
            None if asked => TokenVerdict::Unavailable,
            None => TokenVerdict::Ask,
        }
    }

    /// Whether the token is known to be good, so that no failure limit needs to stand before it.
    pub fn is_cached(&self, token: &str, now: Now) -> bool {
        if check_form(token).is_err() {
            return false;
        }
        let known = self.core.holds(&sha256(token.as_bytes()), now, false);
        matches!(known, Some(Fact::Good(_)))
    }

    /// Has the issuer asked about a token and waits until what it says is known, or for
    /// [`Introspection::patience`]. Joins a query that is under way. Returns at once where too many
    /// wait already. A caller that goes away breaks nothing off.
    pub async fn look_up(&self, token: &str) {
        if check_form(token).is_err() {
            return;
        }
        let Some(_seat) = self.seats.take() else {
            return self.core.metrics.skipped();
        };
        let (waits, answered) = oneshot::channel();
        let order = Order {
            digest: sha256(token.as_bytes()),
            token: token.into(),
            waits,
        };
        if self.orders.try_send(order).is_err() {
            return self.core.metrics.skipped();
        }
        let _ = tokio::time::timeout(self.patience, answered).await;
    }
}

/// RFC 6750 §2.1: `b64token`, and not longer than any that is looked at.
fn check_form(token: &str) -> Result<(), OpaqueFault> {
    if token.len() > MAX_TOKEN {
        return Err(OpaqueFault::TooLarge);
    }
    let text = token.trim_end_matches('=');
    let usable = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    if text.is_empty() || !text.bytes().all(usable) {
        return Err(OpaqueFault::Malformed);
    }
    Ok(())
}

fn bounded(name: &str, found: Duration, most: Duration) -> Result<(), String> {
    if found <= most {
        return Ok(());
    }
    Err(format!("{name}: found {found:?}, want at most {most:?}"))
}
