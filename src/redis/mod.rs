//! Redis as the store that several gateways share: one server, and what the rest of the gateway may
//! expect of it.
//!
//! A request never waits for a Redis that is known to be away: [`Redis::query`] has a budget of time, and
//! once the server has been late three times in a row, or its connection is broken, everybody is told
//! [`RedisFault::Down`] at once until a task in the background ([`Redis::run`]) has heard from it again.
//!
//! A second connection listens for what changes there ([`watch`]).

mod fault;
mod link;
mod listen;
mod once;
mod pace;
pub mod rules;
pub mod watch;

pub use once::{Asked, ask};
pub use rules::{RedisRules, TlsRules};
pub use watch::{Watch, Watcher};

/// One command, as the library has it.
pub use ::redis::{Cmd, FromRedisValue, Pipeline, Value, cmd, pipe};

use crate::base::clock::{Clock, Now};
use crate::observe::metrics::{RedisCall, RedisMetrics};
use ::redis::{Client, ProtocolVersion, RedisError, RedisResult};
use arc_swap::ArcSwapOption;
use fault::{Meaning, Rarely};
use link::Link;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, watch as channel};
use tokio::time::timeout;
use watch::Watched;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RedisFault {
    /// The server is known to be away, or has just gone; nobody waited for it.
    #[error("Redis is down")]
    Down,
    /// No answer came within the budget.
    #[error("Redis did not answer in time")]
    Late,
    /// It answered that it will not, or something that was not asked for. The log has told why.
    #[error("Redis refused")]
    Refused,
}

/// A Redis server. Shared, and kept across reloads for as long as its settings are the same.
pub struct Redis {
    rules: RedisRules,
    address: Box<str>,
    clock: Clock,
    metrics: Arc<RedisMetrics>,
    /// For commands.
    client: Client,
    /// For what is listened to.
    ears: Client,
    /// The connection in use; none while the server is down.
    link: ArcSwapOption<Link>,
    /// Wakes the task that looks after the connection.
    wake: Notify,
    /// Whether the connection is to be replaced by a new one.
    renew: AtomicBool,
    /// Whether the first attempt to connect is over.
    tried: channel::Sender<bool>,
    refusals: Rarely,
    watched: Watched,
}

impl Redis {
    /// Prepares it; nothing is connected before [`Redis::run`].
    ///
    /// # Errors
    /// What in the rules cannot be used.
    pub fn new(
        rules: RedisRules,
        clock: Clock,
        metrics: Arc<RedisMetrics>,
    ) -> Result<Self, String> {
        let told = |fault: RedisError| fault.to_string();
        Ok(Self {
            address: rules.address().into(),
            clock,
            metrics,
            // Whatever answers commands answers the older protocol, proxies too.
            client: rules.client(ProtocolVersion::RESP2).map_err(told)?,
            ears: rules.client(ProtocolVersion::RESP3).map_err(told)?,
            link: ArcSwapOption::empty(),
            wake: Notify::new(),
            renew: AtomicBool::new(false),
            tried: channel::Sender::new(false),
            rules,
            refusals: Rarely::default(),
            watched: Watched::default(),
        })
    }

    /// Keeps connected and listens until `shutdown` holds true or its sender is gone. To be run by one
    /// task, without which everything is [`RedisFault::Down`].
    pub async fn run(self: Arc<Self>, mut shutdown: channel::Receiver<bool>) {
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = self.keep_connected() => {}
            () = self.keep_listening() => {}
        }
    }

    /// Waits until the first attempt to connect is over, whatever came of it.
    pub async fn first(&self) {
        let _ = self.tried.subscribe().wait_for(|over| *over).await;
    }

    /// How it is reached.
    pub fn rules(&self) -> &RedisRules {
        &self.rules
    }

    /// Host and port, for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.link.load().is_some()
    }

    /// One command within the budget of time, through the breaker. Never waits when the server is known
    /// to be down.
    ///
    /// # Errors
    /// See [`RedisFault`].
    pub async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, RedisFault> {
        let Some(link) = self.link.load_full() else {
            self.metrics.called(RedisCall::Down);
            return Err(RedisFault::Down);
        };
        let began = self.clock.now();
        let mut connection = link.connection.clone();
        let answer = timeout(self.rules.timeout, cmd.query_async(&mut connection)).await;
        let judged = if let Ok(answer) = answer {
            self.judge(&link, cmd, answer)
        } else {
            self.late(&link);
            Err(RedisFault::Late)
        };
        self.count(judged.as_ref().err().copied(), began);
        judged
    }

    /// One command for which time is taken: for the work of background tasks. It says nothing about
    /// how well the server is, and is not tried while that is down.
    ///
    /// # Errors
    /// See [`RedisFault`].
    pub async fn query_within<T: FromRedisValue>(
        &self,
        cmd: &Cmd,
        within: Duration,
    ) -> Result<T, RedisFault> {
        let link = self.link.load_full().ok_or(RedisFault::Down)?;
        let mut connection = link.connection.clone();
        let answer = timeout(within, cmd.query_async(&mut connection)).await;
        self.judge(&link, cmd, answer.map_err(|_| RedisFault::Late)?)
    }

    /// Tells the watcher what happens, until it is gone: at first [`Watcher::watching`], once that is so.
    pub fn watch(&self, what: Watch, watcher: std::sync::Weak<dyn Watcher>) {
        self.watched.add(what, watcher);
    }

    fn judge<T: FromRedisValue>(
        &self,
        link: &Arc<Link>,
        cmd: &Cmd,
        answer: RedisResult<Value>,
    ) -> Result<T, RedisFault> {
        let fault = match answer.map(T::from_redis_value) {
            Ok(Ok(value)) => {
                link.in_time();
                return Ok(value);
            }
            // What somebody else wrote there is no fault of the connection.
            Ok(Err(_)) => (::redis::ErrorKind::UnexpectedReturnType, "").into(),
            Err(fault) => fault,
        };
        match fault::meaning(&fault) {
            Meaning::Lost => {
                self.trip(link, &fault::in_words(&fault));
                return Err(RedisFault::Down);
            }
            // Whoever logs in, or asks the name's new address, may be served.
            Meaning::Renew => {
                if !self.renew.swap(true, Relaxed) {
                    self.wake.notify_one();
                }
            }
            Meaning::Refused => {}
        }
        link.in_time();
        if self.refusals.now(self.clock.now()) {
            let (address, name) = (&self.address, fault::name(cmd));
            let why = fault::in_words(&fault);
            log::warn!("redis {address}: {name} was refused: {why}");
        }
        Err(RedisFault::Refused)
    }

    fn count(&self, fault: Option<RedisFault>, began: Now) {
        self.metrics.called(match fault {
            None => RedisCall::Ok,
            Some(RedisFault::Down) => RedisCall::Down,
            Some(RedisFault::Late) => RedisCall::Late,
            Some(RedisFault::Refused) => RedisCall::Refused,
        });
        let took = self.clock.now().since_ns(began);
        self.metrics.took(Duration::from_nanos(took));
    }
}
