//! The wiring: from a config to a running gateway, and back down in order.

mod background;
mod drain;
mod listeners;
pub mod notify;
mod reload;
pub mod upgrade;
pub mod watchdog;

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
use crate::gateway::{Gateway, InUse, Shared, front};
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
use upgrade::{Answering, Offered};

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

/// Sockets that another process accepted on, and what for.
#[derive(Default)]
pub struct Inherited(Vec<(Offered, Socket)>);

/// The admin port.
struct AdminPort {
    listener: Arc<Listener>,
    entrance: Arc<Entrance>,
    /// Its address in the config.
    wanted: String,
    socket: Socket,
    /// The file to be removed at the end.
    path: Option<PathBuf>,
    /// Not by this process: another one serves there, or still does.
    path_is_anothers: AtomicBool,
}

/// A running gateway.
pub struct Server {
    shared: Arc<Shared>,
    running: Mutex<Running>,
    admin: Option<AdminPort>,
    // In the order in which they end: workers, then the admin port, background tasks, the log.
    edge: Option<Edge>,
    control: Option<Edge>,
    background: Background,
    /// Who answers processes whose place this one took.
    answering: Arc<Answering>,
    // Locked by nobody: it makes the whole one that threads may share.
    _log: Mutex<Writer>,
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
        let mut server = Self::make(loaded, clock, asks, &Inherited::default())?;
        server.open()?;
        Ok(server)
    }

    /// Does all that [`Server::start`] does but listen. Sockets that are inherited are not bound.
    ///
    /// # Errors
    /// See [`StartFault`]; nothing is left running then.
    pub fn make(
        loaded: &Loaded,
        clock: Clock,
        asks: mpsc::Sender<Ask>,
        inherited: &Inherited,
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
        let shared = share(snapshot, clock, metrics, access_log, &loaded.hash);
        // Bound before anything is started: a port that is taken must leave nothing behind.
        let doors = listeners::open(conf, &tls, &shared.metrics, None, inherited)?;
        let bound = conf.admin.as_ref().map(|admin| {
            let socket = listeners::bind_admin(admin, inherited)?;
            Ok::<_, StartFault>(admin_port(admin, socket, &shared.metrics, inherited))
        });
        let admin = bound.transpose()?;
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
        let workers = workers.map_or(cores, |w| w.value as usize);
        let edge = start_workers(&shared, workers, &counsel)?;
        let control = match &conf.admin {
            Some(admin) => Some(start_control(admin, &shared, &counsel, asks)?),
            None => None,
        };
        Ok(Self {
            shared,
            running: Mutex::new(Running {
                conf: conf.clone(),
                doors,
                tls: tls.by_listener,
                leaving: Vec::new(),
                handed_over: false,
            }),
            admin,
            edge: Some(edge),
            control,
            background,
            answering: Arc::default(),
            _log: Mutex::new(log),
        })
    }

    /// Begins to accept.
    ///
    /// # Errors
    /// There are no file descriptors left.
    pub fn open(&mut self) -> io::Result<()> {
        let running = self.running();
        if let Some(edge) = &self.edge {
            let shares = running.doors.iter().map(|door| edge.share(&door.socket));
            let shares: io::Result<Vec<_>> = shares.collect();
            for (door, shares) in running.doors.iter().zip(shares?) {
                edge.open(shares, &door.entrance, None);
            }
        }
        if let (Some(control), Some(admin)) = (&self.control, &self.admin) {
            control.open(control.share(&admin.socket)?, &admin.entrance, None);
            admin.path_is_anothers.store(false, Relaxed);
        }
        drop(running);
        self.shared.ready.store(true, Relaxed);
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
        self.admin.as_ref().and_then(|admin| admin.socket.address())
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
        if let Some(admin) = &self.admin
            && let Some(path) = &admin.path
            && !admin.path_is_anothers.load(Relaxed)
        {
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
    hash: &str,
) -> Arc<Shared> {
    metrics.watch_access_log(&access_log);
    metrics.config_loaded(clock.now().unix_s(), hash);
    let in_use = InUse {
        hash: hash.to_owned(),
        since_s: clock.now().unix_s(),
        fault: None,
    };
    Arc::new(Shared {
        in_use: ArcSwap::from_pointee(in_use),
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

fn admin_port(
    conf: &AdminConf,
    socket: Socket,
    metrics: &Metrics,
    inherited: &Inherited,
) -> AdminPort {
    let wanted = conf.address.value.to_string();
    let metrics = metrics.listener("admin");
    let (terms, caps) = (Terms::default(), Caps::default());
    let listener = Arc::new(Listener::new("admin", metrics, terms, caps));
    AdminPort {
        entrance: Arc::new(Entrance::plain(listener.clone())),
        listener,
        path_is_anothers: AtomicBool::new(inherited.admin(&wanted).is_some()),
        wanted,
        socket,
        path: match &conf.address.value {
            AdminAddress::Unix(path) => Some(path.clone()),
            AdminAddress::Tcp(_) => None,
        },
    }
}

fn start_control(
    conf: &AdminConf,
    shared: &Arc<Shared>,
    counsel: &Counsel,
    asks: mpsc::Sender<Ask>,
) -> io::Result<Edge> {
    let AdminConf { address: _, token } = conf;
    let app = Arc::new(Admin {
        shared: shared.clone(),
        token: token.as_ref().map(|t| t.value.clone()),
        asks,
    });
    // Asked for what is no request; what is one goes to its own app.
    let counsel = Counsel {
        judge: None,
        ..counsel.clone()
    };
    Edge::start("admin", 1, &shared.clock, &counsel, || app.clone())
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
