//! `tollgate run`: serves until told to stop, or until another process takes its place, then drains.

mod events;

use super::{USAGE, check};
use crate::admin::{Ask, Asked, Done, Told};
use crate::base::clock::Clock;
use crate::config::{self, Loaded};
use crate::server::upgrade::{Launch, Succession, launch};
use crate::server::{Inherited, Server, StartFault, notify, watchdog};
use clap::ValueEnum;
use events::{Event, Events};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How a process that takes another's place is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TakeOver {
    /// It starts the one that serves, and ends with it.
    Launch,
    /// It serves.
    Serve,
}

/// Runs the command.
pub fn run(path: &Path, take_over: Option<TakeOver>) -> ExitCode {
    super::messages::start();
    match take_over {
        None => start(path),
        Some(TakeOver::Launch) => match launch(&launched(path, "serve")) {
            Ok(code) => code.into(),
            Err(why) => fails(&format!("cannot start: {why}")),
        },
        Some(TakeOver::Serve) => match Succession::accept() {
            Ok((succession, inherited)) => succeed(path, succession, inherited),
            Err(why) => fails(&format!("cannot take over: {why}")),
        },
    }
}

fn fails(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}

/// This program once more. Its path is that of the file that was run: after an upgrade of the package
/// that is the new one.
fn launched(path: &Path, stage: &str) -> Launch {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tollgate"));
    // What the kernel says of a file that has been replaced.
    let program = match program.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
        Some(replaced) => PathBuf::from(replaced),
        None => program,
    };
    let arguments = ["run".as_ref(), "-c".as_ref(), path.as_os_str()];
    let arguments = arguments
        .into_iter()
        .chain(["--take-over".as_ref(), stage.as_ref()]);
    Launch {
        program,
        arguments: arguments.map(OsString::from).collect(),
    }
}

fn start(path: &Path) -> ExitCode {
    if cfg!(debug_assertions) {
        log::warn!("this is a debug build: several times slower than a release build");
    }
    let loaded = match check::load(path) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let (ask, asked) = mpsc::channel(8);
    let server = match Server::start(&loaded, Clock::system(), ask) {
        Ok(server) => server,
        Err(fault) => return cannot_start(&fault),
    };
    serve(&server, loaded, asked, path)
}

fn cannot_start(fault: &StartFault) -> ExitCode {
    eprintln!("{fault}");
    match fault {
        StartFault::Config(_) => USAGE.into(),
        _ => ExitCode::FAILURE,
    }
}

/// Takes a running process's place.
fn succeed(path: &Path, succession: Succession, inherited: Inherited) -> ExitCode {
    let clock = succession.clock();
    let env = |name: &str| std::env::var(name).ok();
    let loaded = match config::load(path, &env) {
        Ok(loaded) => loaded,
        Err(faults) => {
            succession.refuse(&faults.to_string());
            eprintln!("{faults}");
            return USAGE.into();
        }
    };
    let (ask, asked) = mpsc::channel(8);
    let made = Server::make(&loaded, clock, ask, &inherited);
    // Each of these would keep its listener open for as long as it is there.
    drop(inherited);
    let mut server = match made {
        Ok(server) => server,
        Err(fault) => {
            succession.refuse(&fault.to_string());
            return cannot_start(&fault);
        }
    };
    if let Err(why) = succession.take_over(&mut server) {
        return fails(&format!("cannot take over: {why}"));
    }
    serve(&server, loaded, asked, path)
}

/// Serves to the end.
fn serve(server: &Server, loaded: Loaded, asked: mpsc::Receiver<Ask>, path: &Path) -> ExitCode {
    let (upgrade, upgraded) = mpsc::unbounded_channel();
    // Heeded before anybody is told that it serves, so that no signal sent then is lost or fatal.
    let events = match Events::heed(asked, upgraded, path) {
        Ok(events) => events,
        Err(e) => return fails(&format!("cannot wait for signals: {e}")),
    };
    for listener in &loaded.conf.listeners {
        let name = &*listener.value.name.value;
        if let Some(address) = server.address(name) {
            log::info!("listener {name}: serving on {address}");
        }
    }
    drop(loaded);
    notify::tell("READY=1\nSTATUS=serving");
    let ending = AtomicBool::new(false);
    let life = Life {
        server,
        path,
        ending: &ending,
        upgrade,
    };
    thread::scope(|scope| {
        if let Some(every) = watchdog::every() {
            let ending = &ending;
            scope.spawn(move || watchdog::run(server, every, ending));
        }
        life.until_told(events, scope)
    })
}

/// A process that serves.
#[derive(Clone)]
struct Life<'a> {
    server: &'a Server,
    path: &'a Path,
    ending: &'a AtomicBool,
    upgrade: mpsc::UnboundedSender<Result<u32, String>>,
}

type Scope<'scope, 'env> = &'scope thread::Scope<'scope, 'env>;

impl<'a: 'scope, 'scope> Life<'a> {
    /// Serves until the first signal to end, or until another process serves, then drains.
    fn until_told(self, mut events: Events, scope: Scope<'scope, '_>) -> ExitCode {
        let log = self.server.shared().access_log.clone();
        // Whoever asked for the upgrade that is under way.
        let mut upgrading: Option<oneshot::Sender<Told>> = None;
        let new = loop {
            match events.next(self.server.watches_config()) {
                Event::End => break None,
                Event::Reopen => log.reopen(),
                Event::Reload | Event::Changed if upgrading.is_some() => {
                    log::error!("not reloaded: {UPGRADING}");
                }
                Event::Reload | Event::Changed => drop(self.reload_and_tell(&mut events)),
                Event::Asked(ask) => {
                    let Ask { what, reply } = ask;
                    let done = match what {
                        _ if upgrading.is_some() => Err(UPGRADING.to_owned()),
                        Asked::Upgrade(within) => {
                            upgrading = Some(reply);
                            self.begin_upgrade(within, scope);
                            continue;
                        }
                        Asked::Plan => self.reload(false),
                        Asked::Reload => self.reload_and_tell(&mut events),
                    };
                    self.reply(reply, done.map(Done::Changes));
                }
                Event::Upgraded(done) => {
                    let new = done.as_ref().ok().copied();
                    if let Some(reply) = upgrading.take() {
                        self.reply(reply, done.map(Done::Upgraded));
                    }
                    if new.is_some() {
                        break new;
                    }
                }
            }
        };
        self.ending.store(true, Relaxed);
        drop(upgrading);
        self.drain(events, new)
    }

    fn reply(&self, to: oneshot::Sender<Told>, done: Result<Done, String>) {
        let config = self.path.display().to_string();
        // Whoever asked may have gone.
        let _ = to.send(Told { config, done });
    }

    /// Drains. The second signal ends the process at once.
    fn drain(&self, mut events: Events, new: Option<u32>) -> ExitCode {
        if let Some(pid) = new {
            log::info!("process {pid} serves; draining");
        } else {
            notify::tell("STOPPING=1\nSTATUS=draining");
            log::info!("draining; a second signal ends at once");
        }
        let log = self.server.shared().access_log.clone();
        // It drains without having been told to: the first signal tells it nothing new.
        let mut patient = new.is_some();
        let watch = thread::Builder::new().name("signals".to_owned());
        let _ = watch.spawn(move || {
            loop {
                match events.next(false) {
                    Event::End if patient => patient = false,
                    Event::End => std::process::exit(1),
                    Event::Reopen => log.reopen(),
                    Event::Reload | Event::Changed => {
                        log::info!("draining, nothing is reloaded");
                    }
                    // Unanswered: the port says that nobody is there.
                    Event::Asked(_) | Event::Upgraded(_) => {}
                }
            }
        });
        if self.server.drain() {
            log::info!("drained, nothing was cut off");
        } else {
            log::warn!("`server.drain.max` has passed: what was still in flight is cut off");
        }
        ExitCode::SUCCESS
    }

    fn begin_upgrade(&self, within: Duration, scope: Scope<'scope, '_>) {
        let life = self.clone();
        scope.spawn(move || {
            log::info!("upgrade: starting the new process");
            let launch = launched(life.path, "launch");
            let done = life.server.upgrade(&launch, within, life.ending);
            let done = done.map_err(|fault| fault.to_string());
            if let Err(fault) = &done {
                log::error!("not upgraded, this process serves on: {fault}");
            }
            let _ = life.upgrade.send(done);
        });
    }

    /// Reads the config once more and has it taken up, or says what that would change.
    fn reload(&self, apply: bool) -> Result<Vec<String>, String> {
        let env = |name: &str| std::env::var(name).ok();
        let loaded = config::load(self.path, &env).map_err(|faults| {
            if apply {
                self.server.refused(&faults);
            }
            faults.to_string()
        })?;
        let warnings = loaded.warnings.iter().map(|w| format!("warning: {w}"));
        let warnings: Vec<_> = warnings.collect();
        let changed = if apply {
            self.server.reload(loaded)
        } else {
            self.server.plan(&loaded)
        };
        let changed = changed.map_err(|fault| fault.to_string())?;
        let changed = changed.iter().map(ToString::to_string);
        Ok(warnings.into_iter().chain(changed).collect())
    }

    /// Reloads and tells the log.
    fn reload_and_tell(&self, events: &mut Events) -> Result<Vec<String>, String> {
        // Before it is read: what is written meanwhile is another change.
        events.read();
        let done = self.reload(true);
        match &done {
            Ok(changes) => {
                for change in changes {
                    log::info!("reload: {change}");
                }
                let shown = self.path.display();
                log::info!("reloaded {shown}: {} changes", changes.len());
            }
            Err(fault) => log::error!("not reloaded, everything stays as it is: {fault}"),
        }
        done
    }
}

/// Why nothing else is done meanwhile.
const UPGRADING: &str = "an upgrade is under way";
