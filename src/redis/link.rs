//! The connection that commands go through: made, watched, given up and made again by one task.

use super::fault::{self, Meaning};
use super::pace::Pace;
use super::{Redis, listen};
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, RedisError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often a server that nobody asks is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// So soon after an answer that was late.
const PROBE_AGAIN: Duration = Duration::from_millis(100);
/// Late answers in a row that mean it is down.
const MOST_LATE: u32 = 3;
/// One that was up for so long is brought back soon.
const STEADY: Duration = Duration::from_secs(10);
/// A connection is replaced at most so often.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// A connection that requests share.
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    /// Answers in a row that did not come in time.
    late: AtomicU32,
}

impl Link {
    fn new(connection: MultiplexedConnection) -> Self {
        Self {
            connection,
            late: AtomicU32::new(0),
        }
    }

    /// An answer came in time.
    pub(super) fn in_time(&self) {
        // Most often it is 0: then nothing is written to what all threads read.
        if self.late.load(Relaxed) != 0 {
            self.late.store(0, Relaxed);
        }
    }
}

/// What came of asking whether it is there.
enum Heard {
    InTime,
    /// It is there, but too slow, or serves nobody yet.
    NotYet(String),
    /// The connection is of no use.
    Nothing(String),
}

impl Redis {
    /// An answer did not come in time.
    pub(super) fn late(&self, link: &Arc<Link>) {
        if link.late.fetch_add(1, Relaxed) + 1 >= MOST_LATE {
            let ms = self.rules.timeout.as_millis();
            let why = format!("{MOST_LATE} answers in a row took longer than {ms} ms");
            self.trip(link, &why);
        }
    }

    /// From now on it is down; told once, by whoever finds out first.
    pub(super) fn trip(&self, link: &Arc<Link>, why: &str) {
        let held = Some(link.clone());
        let before = self.link.compare_and_swap(&held, None);
        if before.as_ref().is_some_and(|b| Arc::ptr_eq(b, link)) {
            self.metrics.up(false);
            log::warn!("redis {}: down: {why}", self.address);
            self.wake.notify_one();
        }
    }

    fn put(&self, link: &Arc<Link>) {
        link.late.store(0, Relaxed);
        self.metrics.up(true);
        if self.link.swap(Some(link.clone())).is_none() {
            log::info!("redis {}: up", self.address);
        }
        self.tried.send_replace(true);
    }

    fn holds(&self, link: &Arc<Link>) -> bool {
        let current = self.link.load();
        current.as_ref().is_some_and(|held| Arc::ptr_eq(held, link))
    }

    pub(super) async fn keep_connected(&self) {
        let mut pace = Pace::default();
        let mut told = String::new();
        loop {
            match self.begin().await {
                Ok(link) => {
                    pace.reset();
                    told.clear();
                    self.stay(link).await;
                }
                // Once: it is tried every two seconds.
                Err(why) if why != told => {
                    log::warn!("redis {}: not connected: {why}", self.address);
                    told = why;
                }
                Err(_) => {}
            }
            self.tried.send_replace(true);
            sleep(pace.next(self.clock.now())).await;
        }
    }

    /// A connection that is in use.
    async fn begin(&self) -> Result<Arc<Link>, String> {
        let link = self.connect().await?;
        self.revive(&link).await?;
        Ok(link)
    }

    async fn connect(&self) -> Result<Arc<Link>, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.rules.connect_timeout))
            // Each command has its own.
            .set_response_timeout(None);
        let opened = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        self.metrics.connected(opened.is_ok());
        let opened = opened.map_err(|fault| self.not_opened(&fault))?;
        Ok(Arc::new(Link::new(opened)))
    }

    pub(super) fn not_opened(&self, fault: &RedisError) -> String {
        if fault.is_timeout() {
            let ms = self.rules.connect_timeout.as_millis();
            return format!("no connection within {ms} ms");
        }
        fault::in_words(fault)
    }

    /// Looks after the connection in use until it is of no use.
    async fn stay(&self, mut link: Arc<Link>) {
        let mut renewed = self.clock.now();
        let (mut up_since, mut pace) = (renewed, Pace::default());
        loop {
            let late = link.late.load(Relaxed) > 0;
            let rest = if late { PROBE_AGAIN } else { PROBE_EVERY };
            let _ = timeout(rest, self.wake.notified()).await;
            if !self.holds(&link) {
                let now = self.clock.now();
                if u128::from(now.since_ns(up_since)) >= STEADY.as_nanos() {
                    pace.reset();
                }
                // One that answers this and is late with all else would go up and down with every request.
                sleep(pace.next(now)).await;
                // Why it is down was told when it went.
                if self.revive(&link).await.is_err() {
                    return;
                }
                up_since = self.clock.now();
                continue;
            }
            let now = self.clock.now();
            let due = u128::from(now.since_ns(renewed)) >= RENEW_EVERY.as_nanos();
            if due && self.renew.swap(false, Relaxed) {
                renewed = now;
                // Until it is there the old one serves what it may.
                if let Ok(new) = self.connect().await {
                    self.put(&new);
                    link = new;
                }
            } else {
                self.probe(&link).await;
            }
        }
    }

    /// Finds out that a server is gone before a request does.
    async fn probe(&self, link: &Arc<Link>) {
        let mut connection = link.connection.clone();
        let ping = ::redis::cmd("PING");
        match timeout(self.rules.timeout, ping.exec_async(&mut connection)).await {
            Ok(Err(fault)) if fault::meaning(&fault) == Meaning::Lost => {
                self.trip(link, &fault::in_words(&fault));
            }
            Ok(_) => link.in_time(),
            Err(_) => self.late(link),
        }
    }

    /// Asks over a connection that is not in use whether the server is there, until it is, or the
    /// connection turns out to be of no use.
    async fn revive(&self, link: &Arc<Link>) -> Result<(), String> {
        let mut pace = Pace::default();
        let mut told = String::new();
        loop {
            match self.hear(link).await {
                Heard::InTime => {
                    self.put(link);
                    return Ok(());
                }
                Heard::Nothing(why) => return Err(why),
                Heard::NotYet(why) if why != told => {
                    log::warn!("redis {}: not in use: {why}", self.address);
                    told = why;
                }
                Heard::NotYet(_) => {}
            }
            self.tried.send_replace(true);
            sleep(pace.next(self.clock.now())).await;
        }
    }

    async fn hear(&self, link: &Arc<Link>) -> Heard {
        let mut connection = link.connection.clone();
        let (ping, began) = (::redis::cmd("PING"), self.clock.now());
        let patience = self.rules.connect_timeout.max(listen::PATIENCE);
        let fault = match timeout(patience, ping.exec_async(&mut connection)).await {
            Ok(Ok(())) => None,
            Ok(Err(fault)) if fault::is_alive(&fault) => None,
            Ok(Err(fault)) => Some(fault),
            Err(_) => {
                let ms = patience.as_millis();
                return Heard::Nothing(format!("no answer within {ms} ms"));
            }
        };
        let took = Duration::from_nanos(self.clock.now().since_ns(began));
        match fault {
            None if took <= self.rules.timeout => Heard::InTime,
            None => Heard::NotYet(format!("an answer took {} ms", took.as_millis())),
            Some(fault) => {
                let why = fault::in_words(&fault);
                let gone = fault.is_io_error() || fault.code() == Some("NOAUTH");
                if gone {
                    Heard::Nothing(why)
                } else {
                    Heard::NotYet(why)
                }
            }
        }
    }
}
