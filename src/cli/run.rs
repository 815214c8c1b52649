//! `tollgate run`: serves until told to stop, then drains.

use super::{USAGE, check};
use crate::base::clock::Clock;
use crate::server::{Server, StartFault};
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

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
    for listener in &loaded.conf.listeners {
        let name = &*listener.value.name.value;
        if let Some(address) = server.address(name) {
            log::info!("listener {name}: serving on {address}");
        }
    }
    match wait_for_end(&server) {
        Ok(()) => drain(&server),
        Err(e) => {
            eprintln!("cannot wait for signals: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Returns on the next SIGTERM or SIGINT.
fn end_signal() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

/// Returns on SIGTERM or SIGINT; SIGUSR1 reopens the access log on the way, SIGHUP does nothing.
fn wait_for_end(server: &Server) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut reopen = signal(SignalKind::user_defined1())?;
        // Unhandled it would end the process: whoever sends it expects a reload, not an outage.
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = reopen.recv() => server.shared().access_log.reopen(),
                _ = hangup.recv() => {
                    log::warn!("SIGHUP: a running gateway does not reload its config yet; restart it");
                }
            }
        }
    })
}

fn drain(server: &Server) -> ExitCode {
    log::info!("draining; a second signal ends at once");
    let watch = std::thread::Builder::new().name("signals".to_owned());
    let _ = watch.spawn(|| {
        if end_signal().is_ok() {
            std::process::exit(1);
        }
    });
    if server.drain() {
        log::info!("drained, nothing was cut off");
    } else {
        log::warn!("the drain's timeout passed: what was still in flight is cut off");
    }
    ExitCode::SUCCESS
}
