//! `tollgate run`: serves until told to stop, then drains.

use super::{USAGE, check};
use crate::base::clock::Clock;
use crate::observe::access_log::AccessLog;
use crate::server::{Server, StartFault};
use std::path::Path;
use std::process::ExitCode;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let server = match Server::start(&loaded, Clock::system()) {
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
    let signals = match Signals::heed() {
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
    serve(&server, signals)
}

/// The signals of this process, heeded from the moment this is made.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
    hangup: Signal,
}

impl Signals {
    fn heed() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let inside = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let reopen = signal(SignalKind::user_defined1())?;
        // Unhandled it would end the process: whoever sends it expects a reload, not an outage.
        let hangup = signal(SignalKind::hangup())?;
        drop(inside);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            reopen,
            hangup,
        })
    }

    /// Returns on the next SIGTERM or SIGINT; SIGUSR1 reopens the access log on the way, SIGHUP calls
    /// `reload`.
    fn wait_for_end(&mut self, log: &AccessLog, reload: impl Fn()) {
        self.runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = self.terminate.recv() => return,
                    _ = self.interrupt.recv() => return,
                    _ = self.reopen.recv() => log.reopen(),
                    _ = self.hangup.recv() => reload(),
                }
            }
        });
    }
}

/// Reads the certificates anew; the only part of a config that a running gateway takes up.
fn reload(server: &Server) {
    let reloaded = server.reload_certificates();
    for listener in &reloaded {
        log::info!("SIGHUP: {listener}");
    }
    let what = if reloaded.is_empty() {
        "no listener has certificates, nothing was reloaded"
    } else {
        "certificates were reloaded"
    };
    log::info!("SIGHUP: {what}; anything else in the config needs a restart");
}

/// Serves until the first signal to end, then drains; the second ends the process at once.
fn serve(server: &Server, mut signals: Signals) -> ExitCode {
    let log = server.shared().access_log.clone();
    signals.wait_for_end(&log, || reload(server));
    log::info!("draining; a second signal ends at once");
    let watch = std::thread::Builder::new().name("signals".to_owned());
    let _ = watch.spawn(move || {
        signals.wait_for_end(&log, || log::info!("SIGHUP: draining, nothing is reloaded"));
        std::process::exit(1);
    });
    if server.drain() {
        log::info!("drained, nothing was cut off");
    } else {
        log::warn!("the drain's timeout passed: what was still in flight is cut off");
    }
    ExitCode::SUCCESS
}
