//! The connection that only listens: changes of keys by server-assisted client-side caching (`CLIENT
//! TRACKING` in its broadcasting mode), which sees plain deletions, expiry and eviction too and needs no
//! setting of the server, and messages by publish and subscribe.

use super::Redis;
use super::pace::Pace;
use super::watch::{Wanted, refused};
use ::redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use ::redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How often the listening connection is tried: nobody else would find out that it is dead.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long an answer on it may take, where no request waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// A server that refuses to be listened to is asked again so often.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// A connection that listens.
struct Ears {
    connection: MultiplexedConnection,
    /// What it was asked to listen to.
    wanted: Wanted,
    /// What it does listen to.
    heard: Wanted,
    gone: Arc<Notify>,
}

/// Passes on what the server says unasked. Called where the connection is read.
struct Passing {
    redis: Weak<Redis>,
    gone: Arc<Notify>,
}

impl AsyncPushSender for Passing {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        if push.kind == PushKind::Disconnection {
            self.gone.notify_one();
        } else if let Some(redis) = self.redis.upgrade() {
            redis.watched.hear(&push);
        }
        Ok(())
    }
}

/// Why the task that listens goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    /// There may be more to listen to.
    More,
    /// It is time to try again.
    Again,
    /// The connection is dead.
    Gone,
}

impl Redis {
    pub(super) async fn keep_listening(self: &Arc<Self>) {
        let mut ears: Option<Ears> = None;
        let mut pace = Pace::default();
        let mut told = String::new();
        let mut news = News::More;
        loop {
            let wanted = self.watched.wanted();
            let enough = |ears: &Ears| ears.wanted.covers(&wanted) && news != News::Again;
            let mut again = None;
            if wanted.is_empty() {
                ears = None;
            } else if !ears.as_ref().is_some_and(enough) {
                // The one before listens until this one does.
                let listens = self.listen(wanted).await;
                self.tell_listening(listens.as_ref().err(), &mut told);
                match listens {
                    Ok(new) => ears = Some(new),
                    Err(_) => again = Some(pace.next(self.clock.now())),
                }
            }
            self.metrics.listening(ears.is_some());
            if let Some(ears) = &ears {
                self.watched.watching(&ears.heard);
                again = again.or((ears.heard != ears.wanted).then_some(ASK_AGAIN));
            }
            news = self.news(ears.as_ref(), again).await;
            if news == News::Gone {
                ears = None;
                self.metrics.listening(false);
                self.watched.lost();
                log::warn!("redis {}: no longer listening", self.address);
                sleep(pace.next(self.clock.now())).await;
            } else if again.is_none() {
                pace.reset();
            }
        }
    }

    /// Once each: it is tried again and again.
    fn tell_listening(&self, fault: Option<&String>, told: &mut String) {
        let address = &self.address;
        match fault {
            Some(why) if why != told => {
                log::warn!("redis {address}: not listening: {why}");
                told.clone_from(why);
            }
            Some(_) => {}
            None => {
                log::info!("redis {address}: listening");
                told.clear();
            }
        }
    }

    async fn news(&self, ears: Option<&Ears>, again: Option<Duration>) -> News {
        let again = async {
            match again {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let dead = async {
            match ears {
                Some(ears) => ears.until_dead().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.watched.more.notified() => News::More,
            () = again => News::Again,
            () = dead => News::Gone,
        }
    }

    async fn listen(self: &Arc<Self>, wanted: Wanted) -> Result<Ears, String> {
        let gone = Arc::new(Notify::new());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.rules.connect_timeout))
            .set_response_timeout(Some(self.rules.connect_timeout.max(PATIENCE)))
            .set_push_sender(Passing {
                redis: Arc::downgrade(self),
                gone: gone.clone(),
            });
        let opened = self
            .ears
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        self.metrics.connected(opened.is_ok());
        let connection = opened.map_err(|fault| self.not_opened(&fault))?;
        let mut ears = Ears {
            connection,
            heard: Wanted::default(),
            wanted,
            gone,
        };
        self.ask(&mut ears).await?;
        Ok(ears)
    }

    /// Asks for all that is wanted. What the server refuses is told, the rest is listened to.
    async fn ask(&self, ears: &mut Ears) -> Result<(), String> {
        let Wanted { prefixes, channels } = ears.wanted.clone();
        let mut refusals = Vec::new();
        if !prefixes.is_empty() {
            match ears.track(&prefixes).await {
                Ok(()) => ears.heard.prefixes = prefixes,
                Err(fault) if fault.is_io_error() => return Err(self.not_opened(&fault)),
                Err(fault) => refusals.push(refused("to changes of keys", &fault)),
            }
        }
        if !channels.is_empty() {
            match ears.connection.subscribe(&channels).await {
                Ok(()) => ears.heard.channels = channels,
                Err(fault) if fault.is_io_error() => return Err(self.not_opened(&fault)),
                Err(fault) => refusals.push(refused("to messages", &fault)),
            }
        }
        if !refusals.is_empty() {
            let (address, why) = (&self.address, refusals.join("; "));
            log::warn!("redis {address}: not listening {why}; what changes there is seen late");
        }
        Ok(())
    }
}

impl Ears {
    async fn track(&mut self, prefixes: &[Box<[u8]>]) -> RedisResult<()> {
        let mut track = ::redis::cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in prefixes {
            track.arg("PREFIX").arg(&**prefix);
        }
        track.exec_async(&mut self.connection).await
    }

    async fn until_dead(&self) {
        loop {
            if timeout(PROBE_EVERY, self.gone.notified()).await.is_ok() {
                return;
            }
            let mut connection = self.connection.clone();
            let ping = ::redis::cmd("PING");
            match timeout(PATIENCE, ping.exec_async(&mut connection)).await {
                Ok(Err(fault)) if fault.is_io_error() => return,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
