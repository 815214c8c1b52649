//! What runs beside the requests: name resolution, health checks, key sets, Redis, certificates.

use crate::edge::tls::{self, Tls};
use crate::identity::fetch::RemoteKeys;
use crate::identity::provider::KeySource;
use crate::redis::Redis;
use crate::snapshot::Snapshot;
use crate::upstream::pool::Pool;
use crate::upstream::{discovery, health};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long whoever begins to serve a config waits for its names, first health checks and first keys;
/// what is not there by then comes later.
const WARM_UP: Duration = Duration::from_secs(5);

/// A runtime of its own, ended by the drop.
pub(super) struct Background {
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Tasks>,
}

/// Tasks that do not end with what they serve.
#[derive(Default)]
struct Tasks {
    certificates: Option<JoinHandle<()>>,
    issuers: Vec<(Arc<RemoteKeys>, JoinHandle<()>)>,
    redis: Vec<(Arc<Redis>, JoinHandle<()>)>,
}

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // One may be busy with a file: what requests wait for of Redis goes through here.
            .worker_threads(2)
            .thread_name("background")
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
        })
    }

    /// Waits for something; not to be called by a task.
    pub(super) fn block_on<F: Future>(&self, future: F) -> Option<F::Output> {
        self.runtime
            .as_ref()
            .map(|runtime| runtime.block_on(future))
    }

    /// Begins to look after what a snapshot has and the one before had not. Returns once each of that
    /// had its first turn, or after [`WARM_UP`].
    pub(super) fn take_up(&self, snapshot: &Snapshot, before: Option<&Snapshot>) {
        let Some(runtime) = &self.runtime else {
            return;
        };
        let mut first = JoinSet::new();
        let old = before.map_or(&[][..], |before| &before.pools);
        for pool in &snapshot.pools {
            if !old.iter().any(|known| Arc::ptr_eq(known, pool)) {
                first.spawn_on(attend(pool.clone()), runtime.handle());
            }
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(redis) = &snapshot.redis
            && !tasks
                .redis
                .iter()
                .any(|(known, _)| Arc::ptr_eq(known, redis))
        {
            let run = runtime.spawn(redis.clone().run(self.stop.subscribe()));
            tasks.redis.push((redis.clone(), run));
            let redis = redis.clone();
            first.spawn_on(async move { redis.first().await }, runtime.handle());
        }
        for keys in remote(snapshot) {
            if tasks
                .issuers
                .iter()
                .any(|(known, _)| Arc::ptr_eq(known, keys))
            {
                continue;
            }
            let run = runtime.spawn(keys.clone().run(self.stop.subscribe()));
            tasks.issuers.push((keys.clone(), run));
            let keys = keys.clone();
            first.spawn_on(async move { keys.first().await }, runtime.handle());
        }
        runtime.block_on(async {
            let all = async { while first.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(WARM_UP, all).await;
            // Whoever is late goes on.
            first.detach_all();
        });
    }

    /// Ends what served parts that are gone, and watches these certificates, no others.
    pub(super) fn let_go(&self, snapshot: &Snapshot, certificates: Vec<Arc<Tls>>) {
        let Some(runtime) = &self.runtime else {
            return;
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.issuers.retain(|(keys, run)| {
            let stays = remote(snapshot).any(|known| Arc::ptr_eq(known, keys));
            if !stays {
                run.abort();
            }
            stays
        });
        tasks.redis.retain(|(redis, run)| {
            let used = snapshot.redis.as_ref();
            let stays = used.is_some_and(|known| Arc::ptr_eq(known, redis));
            if !stays {
                run.abort();
            }
            stays
        });
        let watch = runtime.spawn(tls::watch(certificates));
        if let Some(before) = tasks.certificates.replace(watch) {
            before.abort();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(100));
        }
    }
}

/// The key sets that are fetched.
fn remote(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<RemoteKeys>> {
    let sources = snapshot.providers.iter().map(|provider| provider.source());
    sources.filter_map(|source| match source {
        KeySource::Remote(keys) => Some(keys),
        KeySource::Fixed(_) => None,
    })
}

/// The first turn of a pool; further ones come until it is gone.
async fn attend(pool: Arc<Pool>) {
    discovery::resolve(&pool).await;
    health::first_round(&pool).await;
    tokio::spawn(discovery::run(Arc::downgrade(&pool)));
    tokio::spawn(health::run(Arc::downgrade(&pool)));
}
