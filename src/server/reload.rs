//! Another config while it serves: all of it is taken up, or nothing.

use super::listeners::{self, Door};
use super::{Inherited, Server, StartFault, prepare};
use crate::config::diff::{Difference, diff};
use crate::config::value::Name;
use crate::config::{FileConf, Loaded, Spanned};
use crate::edge::tls::{Loaded as LoadedTls, Tls};
use crate::exchange::listener::Listener;
use crate::gateway::InUse;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::Tools;
use crate::snapshot::kept::Before;
use crate::snapshot::redis as snapshot_redis;
use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{Arc, MutexGuard, PoisonError};

/// What the config in use was made into, beside the snapshot.
pub(super) struct Running {
    /// The config.
    pub(super) conf: FileConf,
    /// Its listeners, in its order.
    pub(super) doors: Vec<Door>,
    /// Those that have TLS.
    pub(super) tls: Vec<(Arc<str>, Arc<Tls>)>,
    /// Listeners that were closed and may still have connections.
    pub(super) leaving: Vec<Arc<Listener>>,
    /// Whether another process accepts now.
    pub(super) handed_over: bool,
}

impl Running {
    /// The listeners in whose place no other comes.
    fn without(&self, planned: &[Door]) -> Vec<Arc<Listener>> {
        let goes_on = |old: &Door| {
            let name = Some(&old.entrance.listener.name);
            planned.iter().any(|new| new.replaces.as_ref() == name)
        };
        let gone = self.doors.iter().filter(|old| !goes_on(old));
        gone.map(|door| door.entrance.listener.clone()).collect()
    }

    /// What TLS serves a listener, if its config is the same.
    fn tls(&self, name: &str, conf: &FileConf) -> Option<&Arc<Tls>> {
        let of = |conf: &FileConf| {
            let mut all = conf.listeners.iter().map(|l| &l.value);
            all.find(|l| *l.name.value == *name)
                .and_then(|l| l.tls.clone())
        };
        let mut all = self.tls.iter().filter(|_| of(conf) == of(&self.conf));
        all.find(|(known, _)| **known == *name).map(|(_, tls)| tls)
    }
}

impl Server {
    pub(super) fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what [`Server::reload`] would change, and changes nothing.
    ///
    /// # Errors
    /// What would have it refused, but for addresses that cannot be bound.
    pub fn plan(&self, loaded: &Loaded) -> Result<Vec<Difference>, StartFault> {
        let running = self.running();
        let prepared = self.prepared(&running, &loaded.conf).map(drop);
        self.show_only(&running.conf);
        prepared.map(|()| diff(&running.conf, &loaded.conf))
    }

    /// Takes up another config; says what changed. Requests in flight end by the one that they began
    /// with, connections stay, and whatever counts, remembers or is connected goes on wherever the
    /// config still asks for it.
    ///
    /// # Errors
    /// See [`StartFault`]: everything is as it was.
    pub fn reload(&self, loaded: Loaded) -> Result<Vec<Difference>, StartFault> {
        let mut running = self.running();
        let hash = loaded.hash.clone();
        let taken_up = self.take_up(&mut running, loaded);
        // Whatever was made for a config that is refused shows in no metric.
        self.show_only(&running.conf);
        match &taken_up {
            Ok(_) => {
                let since_s = self.shared.clock.now().unix_s();
                self.shared.metrics.config_loaded(since_s, &hash);
                self.shared.in_use.store(Arc::new(InUse {
                    hash,
                    since_s,
                    fault: None,
                }));
            }
            Err(fault) => self.refused(fault),
        }
        taken_up
    }

    /// Notes why a config was not taken up; for one that is none, too.
    pub fn refused(&self, fault: &dyn Display) {
        self.shared.metrics.config_refused();
        let InUse { hash, since_s, .. } = &**self.shared.in_use.load();
        self.shared.in_use.store(Arc::new(InUse {
            hash: hash.clone(),
            since_s: *since_s,
            fault: Some(fault.to_string()),
        }));
    }

    /// Whether the config in use has its file watched.
    pub fn watches_config(&self) -> bool {
        self.running().conf.server.watch.value
    }

    fn prepared(
        &self,
        running: &Running,
        conf: &FileConf,
    ) -> Result<(Snapshot, LoadedTls), StartFault> {
        let before = self.shared.snapshot.load_full();
        let tools = Tools {
            clock: &self.shared.clock,
            metrics: &self.shared.metrics,
            before: Some(Before {
                conf: &running.conf,
                snapshot: &before,
            }),
        };
        prepare(conf, &tools).map_err(StartFault::Config)
    }

    fn take_up(
        &self,
        running: &mut Running,
        loaded: Loaded,
    ) -> Result<Vec<Difference>, StartFault> {
        let conf = &loaded.conf;
        let (snapshot, mut tls) = self.prepared(running, conf)?;
        let mut kept = Vec::new();
        for (name, made) in &mut tls.by_listener {
            if let Some(old) = running.tls(name, conf) {
                kept.push(old.clone());
                *made = old.clone();
            }
        }
        let metrics = &self.shared.metrics;
        let planned = listeners::open(conf, &tls, metrics, Some(running), &Inherited::default())?;
        let Some(edge) = &self.edge else {
            return Ok(Vec::new());
        };
        let shares: std::io::Result<Vec<_>> = planned
            .iter()
            .map(|door| edge.share(&door.socket))
            .collect();
        let shares = shares?;
        let before = self.shared.snapshot.load_full();
        let snapshot = Arc::new(snapshot);
        self.background.take_up(&snapshot, Some(&before));

        // From here on nothing can fail.
        let differences = diff(&running.conf, conf);
        self.shared.snapshot.store(snapshot.clone());
        for tls in kept {
            log::info!("{}", tls.reload());
        }
        for warning in &tls.warnings {
            log::warn!("{warning}");
        }
        for (door, shares) in planned.iter().zip(shares) {
            if door.fresh {
                edge.open(shares, &door.entrance, door.replaces.as_ref());
            }
        }
        let gone = running.without(&planned);
        // Before they are closed: a socket here would keep its listener open, and whoever connects
        // meanwhile would be reset.
        running.doors = planned;
        self.leave(&gone, &conf.server.drain);
        running.leaving.retain(|listener| listener.active() > 0);
        running.leaving.extend(gone);
        running.tls = tls.by_listener;
        let certificates = running.tls.iter().map(|(_, tls)| tls.clone()).collect();
        self.background.let_go(&snapshot, certificates);
        running.conf = loaded.conf;
        Ok(differences)
    }

    /// Shows the metrics of this config's parts, and of no others.
    fn show_only(&self, conf: &FileConf) {
        let metrics = &self.shared.metrics;
        let of = names(&conf.routes, |r| &r.name);
        metrics.retain_routes(|name| of.contains(name));
        let of = names(&conf.upstreams, |u| &u.name);
        metrics.retain_upstreams(|name| of.contains(name));
        let of = names(&conf.limits, |l| &l.name);
        metrics.retain_limiters(|name| of.contains(name));
        let of = names(&conf.identity.jwt, |i| &i.name);
        metrics.retain_issuers(|name| of.contains(name));
        let of = names(&conf.identity.api_keys, |k| &k.name);
        metrics.retain_key_lists(|name| of.contains(name));
        let of = conf.redis.as_ref().map(snapshot_redis::address);
        metrics.retain_redis(|address| of.as_deref() == Some(address));
        let of = conf
            .identity
            .revocation
            .as_ref()
            .map(|r| &r.value.key.value);
        metrics.retain_revocations(|key| of.is_some_and(|of| of == key));
        let of = names(&conf.identity.introspection, |i| &i.name);
        metrics.retain_introspections(|name| of.contains(name));
        let of = names(&conf.listeners, |l| &l.name);
        metrics.retain_listeners(|name| name == "admin" || of.contains(name));
    }
}

fn names<T>(all: &[Spanned<T>], name: impl Fn(&T) -> &Spanned<Name>) -> HashSet<&str> {
    all.iter().map(|item| &*name(&item.value).value).collect()
}
