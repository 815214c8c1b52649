//! The wiring: from a config to a running gateway, and back down in order.

mod background;
mod drain;
mod listeners;
mod reload;

use crate::admin::{Admin, Ask};
use crate::base::clock::Clock;
use crate::config::server::{AccessLog as LogTarget, AdminAddress, AdminConf, LogConf};
use crate::config::{Faults, FileConf, Loaded};
use crate::edge::accept::{Edge, Socket};
use crate::edge::connection::Counsel;
use crate::edge::open::Entrance;
use crate::edge::tls::{self, Reloaded};
use crate::exchange::admission::Caps;
use crate::exchange::listener::{Listener, Terms};
use crate::gateway::{Gateway, Shared, front};
use crate::observe::access_log::{AccessLog, Target, Writer};
use crate::observe::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Tools, compile};
use arc_swap::ArcSwap;
use background::Background;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf as PingoraConf;
use reload::Running;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

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

/// Connections kept for reuse by one worker.
const KEPT: usize = 512;

/// A running gateway.
pub struct Server {
    shared: Arc<Shared>,
    running: Mutex<Running>,
    admin: Option<(Arc<Listener>, Option<SocketAddr>, Option<PathBuf>)>,
    // In the order in which they end: workers, then the admin port, background tasks, the log.
    edge: Option<Edge>,
    control: Option<Edge>,
    background: Background,
    _log: Writer,
}

impl Server {
    /// Starts a gateway: compiles the config, binds every listener, warms up, then listens. `asks`: where
    /// its admin port asks for a reload.
    ///
    /// # Errors
    /// See [`StartFault`]; nothing is left running then.
    pub fn start(
        loaded: &Loaded,
        clock: Clock,
        asks: mpsc::Sender<Ask>,
    ) -> Result<Self, StartFault> {
        let conf = &loaded.conf;
        let now = clock.now();
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), now.unix_s()));
        let tools = Tools {
            clock: &clock,
            metrics: &metrics,
            before: None,
        };
        let (snapshot, tls) = prepare(conf, &tools).map_err(StartFault::Config)?;
        let (access_log, log) = open_log(&conf.log, &clock)?;
        let shared = share(snapshot, clock, metrics, access_log);
        // Bound before anything is started: a port that is taken must leave nothing behind.
        let doors = listeners::open(conf, &tls, &shared.metrics, None)?;
        let admin_socket = conf.admin.as_ref().map(listeners::bind_admin);
        let admin_socket = admin_socket.transpose()?;
        let background = Background::start()?;
        let snapshot = shared.snapshot.load_full();
        background.take_up(&snapshot, None);
        for warning in &tls.warnings {
            log::warn!("{warning}");
        }
        let certificates = tls.by_listener.iter().map(|(_, tls)| tls.clone());
        background.let_go(&snapshot, certificates.collect());
        let counsel = counsel(&shared);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = conf.server.workers.as_ref();
        let edge = start_workers(
            &shared,
            workers.map_or(cores, |w| w.value as usize),
            &counsel,
        )?;
        for door in &doors {
            edge.open(edge.share(&door.socket)?, &door.entrance, None);
        }
        let mut server = Self {
            shared: shared.clone(),
            running: Mutex::new(Running {
                conf: conf.clone(),
                doors,
                tls: tls.by_listener,
                leaving: Vec::new(),
            }),
            admin: None,
            edge: Some(edge),
            control: None,
            background,
            _log: log,
        };
        if let Some(socket) = admin_socket {
            server.open_admin(conf, &socket, &counsel, asks)?;
        }
        shared.ready.store(true, Relaxed);
        Ok(server)
    }

    fn open_admin(
        &mut self,
        conf: &FileConf,
        socket: &Socket,
        counsel: &Counsel,
        asks: mpsc::Sender<Ask>,
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
            asks,
        });
        let clock = &self.shared.clock;
        // Asked for what is no request; what is one goes to its own app.
        let counsel = Counsel {
            judge: None,
            ..counsel.clone()
        };
        let control = Edge::start("admin", 1, clock, &counsel, || app.clone())?;
        let entrance = Arc::new(Entrance::plain(listener.clone()));
        control.open(control.share(socket)?, &entrance, None);
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
        let running = self.running();
        let mut doors = running.doors.iter();
        let door = doors.find(|door| *door.entrance.listener.name == *name);
        door.and_then(|door| door.socket.address())
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
        let running = self.running();
        running.tls.iter().map(|(_, tls)| tls.reload()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.edge = None;
        self.control = None;
        if let Some((_, _, Some(path))) = &self.admin {
            let _ = std::fs::remove_file(path);
        }
    }
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
