//! `tollgate run`: serves until told to stop, then drains.

use super::{USAGE, check};
use crate::admin::{Ask, Told};
use crate::base::clock::Clock;
use crate::config;
use crate::server::{Server, StartFault};
use std::path::Path;
use std::process::ExitCode;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Runs the command.
pub fn run(path: &Path) -> ExitCode {
    super::start_messages();
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
        Err(StartFault::Config(faults)) => {
            eprintln!("{faults}");
            return USAGE.into();
        }
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::FAILURE;
        }
    };
    // Heeded before anybody is told that it serves, so that no signal sent then is lost or fatal.
    let signals = match Signals::heed(asked) {
        Ok(signals) => signals,
        Err(e) => {
            eprintln!("cannot wait for signals: {e}");
            return ExitCode::FAILURE;
        }
    };
    for listener in &loaded.conf.listeners {
        let name = &*listener.value.name.value;
        if let Some(address) = server.address(name) {
            log::info!("listener {name}: serving on {address}");
        }
    }
    drop(loaded);
    serve(&server, signals, path)
}

/// What ends the wait of a process that serves.
enum Event {
    End,
    Reopen,
    Reload,
    Asked(Ask),
}

/// The signals of this process, heeded from the moment this is made, and what its admin port asks.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
    hangup: Signal,
    asked: mpsc::Receiver<Ask>,
}

impl Signals {
    fn heed(asked: mpsc::Receiver<Ask>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let inside = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let reopen = signal(SignalKind::user_defined1())?;
        let hangup = signal(SignalKind::hangup())?;
        drop(inside);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            reopen,
            hangup,
            asked,
        })
    }

    /// Waits for the next: SIGTERM and SIGINT end, SIGUSR1 reopens the access log, SIGHUP reloads.
    fn next(&mut self) -> Event {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => Event::End,
                _ = self.interrupt.recv() => Event::End,
                _ = self.reopen.recv() => Event::Reopen,
                _ = self.hangup.recv() => Event::Reload,
                Some(ask) = self.asked.recv() => Event::Asked(ask),
            }
        })
    }
}

/// Reads the config once more and has it taken up, or says what that would change.
fn reload(server: &Server, path: &Path, apply: bool) -> Result<Vec<String>, String> {
    let env = |name: &str| std::env::var(name).ok();
    let loaded = config::load(path, &env).map_err(|faults| {
        if apply {
            server.shared().metrics.config_refused();
        }
        faults.to_string()
    })?;
    let warnings = loaded.warnings.iter().map(|w| format!("warning: {w}"));
    let warnings: Vec<_> = warnings.collect();
    let changed = if apply {
        server.reload(loaded)
    } else {
        server.plan(&loaded)
    };
    let changed = changed.map_err(|fault| fault.to_string())?;
    let changed = changed.iter().map(ToString::to_string);
    Ok(warnings.into_iter().chain(changed).collect())
}

/// Reloads and tells the log.
fn reload_and_tell(server: &Server, path: &Path) -> Result<Vec<String>, String> {
    let done = reload(server, path, true);
    match &done {
        Ok(changes) => {
            for change in changes {
                log::info!("reload: {change}");
            }
            log::info!("reloaded {}: {} changes", path.display(), changes.len());
        }
        Err(fault) => log::error!("not reloaded, everything stays as it is: {fault}"),
    }
    done
}

/// Serves until the first signal to end, then drains; the second ends the process at once.
fn serve(server: &Server, mut signals: Signals, path: &Path) -> ExitCode {
    let log = server.shared().access_log.clone();
    loop {
        match signals.next() {
            Event::End => break,
            Event::Reopen => log.reopen(),
            Event::Reload => drop(reload_and_tell(server, path)),
            Event::Asked(ask) => {
                let done = if ask.apply {
                    reload_and_tell(server, path)
                } else {
                    reload(server, path, false)
                };
                let told = Told {
                    config: path.display().to_string(),
                    done,
                };
                // Whoever asked may have gone.
                let _ = ask.reply.send(told);
            }
        }
    }
    log::info!("draining; a second signal ends at once");
    let watch = std::thread::Builder::new().name("signals".to_owned());
    let _ = watch.spawn(move || {
        loop {
            match signals.next() {
                Event::End => std::process::exit(1),
                Event::Reopen => log.reopen(),
                Event::Reload => log::info!("SIGHUP: draining, nothing is reloaded"),
                // Unanswered: the port says that nobody is there.
                Event::Asked(_) => {}
            }
        }
    });
    if server.drain() {
        log::info!("drained, nothing was cut off");
    } else {
        log::warn!("`server.drain.max` has passed: what was still in flight is cut off");
    }
    ExitCode::SUCCESS
}
