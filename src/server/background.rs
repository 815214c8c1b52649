//! What runs beside the requests: name resolution, health checks, key sets, questions about tokens,
//! Redis, revocations, certificates.

use crate::edge::tls::{self, Tls};
use crate::identity::fetch::RemoteKeys;
use crate::identity::provider::KeySource;
use crate::identity::revoke::Revocations;
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
    issuers: Serving<RemoteKeys>,
    redis: Serving<Redis>,
    revocations: Serving<Revocations>,
}

/// Tasks that serve one thing each.
struct Serving<T>(Vec<(Arc<T>, JoinHandle<()>)>);

impl<T> Default for Serving<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Serving<T> {
    /// Starts the task of a thing that has none; false if it has.
    fn begin<F>(&mut self, runtime: &Runtime, one: &Arc<T>, run: impl FnOnce(Arc<T>) -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let new = !self.0.iter().any(|(known, _)| Arc::ptr_eq(known, one));
        if new {
            self.0.push((one.clone(), runtime.spawn(run(one.clone()))));
        }
        new
    }

    /// Ends the tasks of all others.
    fn keep<'a, U>(&mut self, used: impl Fn() -> U)
    where
        T: 'a,
        U: Iterator<Item = &'a Arc<T>>,
    {
        self.0.retain(|(one, run)| {
            let stays = used().any(|known| Arc::ptr_eq(known, one));
            if !stays {
                run.abort();
            }
            stays
        });
    }
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
        let stop = || self.stop.subscribe();
        if let Some(redis) = &snapshot.redis
            && tasks.redis.begin(runtime, redis, |one| one.run(stop()))
        {
            let redis = redis.clone();
            first.spawn_on(async move { redis.first().await }, runtime.handle());
        }
        if let Some(revoked) = &snapshot.revocations
            && tasks
                .revocations
                .begin(runtime, revoked, |one| one.run(stop()))
        {
            let revoked = revoked.clone();
            first.spawn_on(async move { revoked.first().await }, runtime.handle());
        }
        for keys in remote(snapshot) {
            if tasks.issuers.begin(runtime, keys, |one| one.run(stop())) {
                let keys = keys.clone();
                first.spawn_on(async move { keys.first().await }, runtime.handle());
            }
        }
        for introspection in &snapshot.introspections {
            // It ends by itself, with the last snapshot that has it.
            if let Some(task) = introspection.task(self.stop.subscribe()) {
                runtime.spawn(task);
            }
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
        tasks.issuers.keep(|| remote(snapshot));
        tasks.redis.keep(|| snapshot.redis.iter());
        tasks.revocations.keep(|| snapshot.revocations.iter());
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
