//! The wiring: from a config to a running gateway, and back down in order.

mod listeners;

use crate::admin::Admin;
use crate::base::clock::Clock;
use crate::config::server::{
    AccessLog as LogTarget, AdminAddress, AdminConf, DrainConf, LogConf, ServerConf,
};
use crate::config::{Faults, FileConf, Loaded};
use crate::edge::accept::{Edge, Socket};
use crate::edge::connection::Counsel;
use crate::edge::open::Entrance;
use crate::edge::tls::{self, Reloaded, Tls};
use crate::exchange::admission::Caps;
use crate::exchange::listener::{Listener, Terms};
use crate::gateway::{Gateway, Shared, front};
use crate::identity::provider::KeySource;
use crate::observe::access_log::{AccessLog, Target, Writer};
use crate::observe::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Tools, compile};
use crate::upstream::{discovery, health};
use arc_swap::ArcSwap;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf as PingoraConf;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The config holds something that cannot be made to work.
    #[error("{0}")]
    Config(Faults),
    /// A listener could not be bound.
    #[error("listener {name}: cannot bind {address}: {why}")]
    Bind {
        /// Its name.
        name: String,
        /// Its address.
        address: String,
        /// The system's word.
        why: io::Error,
    },
    /// The access log could not be opened.
    #[error("log: cannot open the access log: {0}")]
    Log(io::Error),
    /// The system refused threads or a runtime.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// How long the start waits for names, first health checks and first keys; what is not there by
/// then comes in the background.
const WARM_UP: Duration = Duration::from_secs(5);
/// Connections kept for reuse by one worker.
const KEPT: usize = 512;

/// A running gateway.
pub struct Server {
    shared: Arc<Shared>,
    tls: Vec<Arc<Tls>>,
    listeners: Vec<(Arc<Listener>, Option<SocketAddr>)>,
    admin: Option<(Arc<Listener>, Option<SocketAddr>, Option<PathBuf>)>,
    delay: Duration,
    patience: Duration,
    stop: watch::Sender<bool>,
    // In the order in which they end: workers, then the admin port, background tasks, the log.
    edge: Option<Edge>,
    control: Option<Edge>,
    background: Option<Runtime>,
    _log: Writer,
}

impl Server {
    /// Starts a gateway: compiles the config, binds every listener, warms up, then listens.
    ///
    /// # Errors
    /// See [`StartFault`]; nothing is left running then.
    pub fn start(loaded: &Loaded, clock: Clock) -> Result<Self, StartFault> {
        let conf = &loaded.conf;
        let ServerConf {
            workers,
            errors: _,
            forwarded: _,
            via: _,
            drain: DrainConf { delay, timeout },
        } = &conf.server;
        let now = clock.now();
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), now.unix_s()));
        let tools = Tools {
            clock: &clock,
            metrics: &metrics,
        };
        let (snapshot, tls) = prepare(conf, &tools).map_err(StartFault::Config)?;
        let (access_log, log) = open_log(&conf.log, &clock)?;
        let shared = share(snapshot, clock, metrics, access_log);
        // Bound before anything is started: a port that is taken must leave nothing behind.
        let sockets = listeners::bind(conf, &tls, &shared.metrics)?;
        let admin_socket = conf.admin.as_ref().map(listeners::bind_admin);
        let admin_socket = admin_socket.transpose()?;
        let (stop, stopping) = watch::channel(false);
        let background = background(&shared.snapshot.load_full(), &shared, &stopping)?;
        let tls = attend(&background, tls);
        let counsel = counsel(&shared);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = workers.as_ref().map_or(cores, |w| w.value as usize);
        let edge = start_workers(&shared, count, &counsel)?;
        let mut server = Self {
            shared: shared.clone(),
            tls,
            listeners: Vec::new(),
            admin: None,
            delay: delay.value.0,
            patience: timeout.value.0,
            stop,
            edge: None,
            control: None,
            background: Some(background),
            _log: log,
        };
        if let Some(socket) = admin_socket {
            server.open_admin(conf, &socket, &counsel)?;
        }
        for (socket, entrance) in &sockets {
            edge.open(socket, entrance)?;
            let listener = entrance.listener.clone();
            server.listeners.push((listener, socket.address()));
        }
        server.edge = Some(edge);
        shared.ready.store(true, Relaxed);
        Ok(server)
    }

    fn open_admin(
        &mut self,
        conf: &FileConf,
        socket: &Socket,
        counsel: &Counsel,
    ) -> Result<(), StartFault> {
        let Some(AdminConf { address, token }) = &conf.admin else {
            return Ok(());
        };
        let metrics = self.shared.metrics.listener("admin");
        let (terms, caps) = (Terms::default(), Caps::default());
        let listener = Arc::new(Listener::new("admin", metrics, terms, caps));
        let app = Arc::new(Admin {
            shared: self.shared.clone(),
            token: token.as_ref().map(|t| t.value.clone()),
        });
        let clock = &self.shared.clock;
        // Asked for what is no request; what is one goes to its own app.
        let counsel = Counsel {
            judge: None,
            ..counsel.clone()
        };
        let control = Edge::start("admin", 1, clock, &counsel, || app.clone())?;
        control.open(socket, &Arc::new(Entrance::plain(listener.clone())))?;
        let path = match &address.value {
            AdminAddress::Unix(path) => Some(path.clone()),
            AdminAddress::Tcp(_) => None,
        };
        self.admin = Some((listener, socket.address(), path));
        self.control = Some(control);
        Ok(())
    }

    /// The address a listener is bound to.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        let found = self.listeners.iter().find(|(l, _)| *l.name == *name);
        found.and_then(|(_, address)| *address)
    }

    /// The address of the admin port; none without one or on a Unix socket.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|(_, address, _)| *address)
    }

    /// The clock that everything in it reads.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// What its workers share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads every certificate anew and takes up what changed and can be used; says what came of it
    /// for each listener that has TLS. Blocks while it reads.
    pub fn reload_certificates(&self) -> Vec<Reloaded> {
        self.tls.iter().map(|tls| tls.reload()).collect()
    }

    /// Ends in order: readiness fails, the delay passes, listeners close, requests in flight finish,
    /// each within the drain's timeout. True if none was left.
    pub fn drain(&self) -> bool {
        self.shared.ready.store(false, Relaxed);
        std::thread::sleep(self.delay);
        let Some(background) = &self.background else {
            return true;
        };
        background.block_on(async {
            let idle = async {
                if let Some(edge) = &self.edge {
                    for (listener, _) in &self.listeners {
                        edge.close(listener).await;
                    }
                }
                while self.listeners.iter().any(|(l, _)| l.active() > 0) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(self.patience, idle).await.is_ok()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.edge = None;
        self.control = None;
        if let Some(background) = self.background.take() {
            background.shutdown_timeout(Duration::from_millis(100));
        }
        if let Some((_, _, Some(path))) = &self.admin {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Begins to look after certificates: says what is to be known of them, and watches their files.
fn attend(background: &Runtime, loaded: tls::Loaded) -> Vec<Arc<Tls>> {
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    let all: Vec<_> = loaded.by_listener.into_iter().map(|(_, tls)| tls).collect();
    background.spawn(tls::watch(all.clone()));
    all
}

/// Makes of a config what can serve, up to binding.
///
/// # Errors
/// Everything in it, or in the files that it names, that cannot be made to work.
pub fn prepare(conf: &FileConf, tools: &Tools<'_>) -> Result<(Snapshot, tls::Loaded), Faults> {
    let compiled = compile(conf, tools);
    let loaded = tls::load(&conf.listeners, tools.clock, tools.metrics);
    match (compiled, loaded) {
        (Ok(snapshot), Ok(tls)) => Ok((snapshot, tls)),
        (compiled, loaded) => {
            let mut faults = compiled.err().unwrap_or_default().0;
            faults.extend(loaded.err().unwrap_or_default());
            Err(Faults::sorted(faults))
        }
    }
}

/// What all workers share, not yet ready.
fn share(
    snapshot: Snapshot,
    clock: Clock,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
) -> Arc<Shared> {
    metrics.watch_access_log(&access_log);
    metrics.config_loaded(clock.now().unix_s());
    Arc::new(Shared {
        snapshot: ArcSwap::from_pointee(snapshot),
        clock,
        metrics,
        access_log,
        ready: AtomicBool::new(false),
    })
}

fn start_workers(shared: &Arc<Shared>, count: usize, counsel: &Counsel) -> io::Result<Edge> {
    let conf = Arc::new(PingoraConf {
        threads: 1,
        upstream_keepalive_pool_size: KEPT,
        ..PingoraConf::default()
    });
    Edge::start("worker", count, &shared.clock, counsel, || {
        let shared = shared.clone();
        Arc::new(http_proxy(&conf, Gateway { shared }))
    })
}

fn open_log(conf: &LogConf, clock: &Clock) -> Result<(AccessLog, Writer), StartFault> {
    let LogConf { access, buffer } = conf;
    let target = match &access.value {
        LogTarget::Stdout => Target::Stdout,
        LogTarget::Off => Target::Off,
        LogTarget::File(path) => Target::File(path.clone()),
    };
    AccessLog::start(target, buffer.value as usize, clock.clone()).map_err(StartFault::Log)
}

/// What the edge asks the gateway.
fn counsel(shared: &Arc<Shared>) -> Counsel {
    let (asked, refused, told) = (shared.clone(), shared.clone(), shared.clone());
    Counsel {
        refuse: Arc::new(move |conn, header| {
            front::refuse(&refused, conn, header.reason, header.detail, header.header)
        }),
        tell: Arc::new(move |answered, written| front::tell(&told, answered, written)),
        judge: Some(Arc::new(move |conn, header, has_body, now| {
            front::judge(&asked, conn, header, has_body, now)
        })),
    }
}

/// Starts what runs beside the requests: name resolution, health checks, key sets. Returns once
/// each had a first turn, or after [`WARM_UP`].
fn background(
    snapshot: &Arc<Snapshot>,
    shared: &Arc<Shared>,
    stopping: &watch::Receiver<bool>,
) -> io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .enable_all()
        .build()?;
    let mut first = tokio::task::JoinSet::new();
    for pool in &snapshot.pools {
        let pool = pool.clone();
        first.spawn_on(
            async move {
                discovery::resolve(&pool).await;
                health::first_round(&pool).await;
                tokio::spawn(discovery::run(Arc::downgrade(&pool)));
                tokio::spawn(health::run(Arc::downgrade(&pool)));
            },
            runtime.handle(),
        );
    }
    for provider in &snapshot.providers {
        if let KeySource::Remote(keys) = provider.source() {
            runtime.spawn(keys.clone().run(stopping.clone()));
            let keys = keys.clone();
            first.spawn_on(async move { keys.first().await }, runtime.handle());
        }
    }
    let _ = shared;
    runtime.block_on(async {
        let all = async { while first.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(WARM_UP, all).await;
        // Whoever is late goes on.
        first.detach_all();
    });
    Ok(runtime)
}
