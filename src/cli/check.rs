//! `tollgate check`: the same way as `run`, up to binding.

use super::USAGE;
use crate::base::clock::Clock;
use crate::base::units::ByteSize;
use crate::config::limit::StoreConf;
use crate::config::{self, FileConf, Loaded};
use crate::limit::estimate::Estimator;
use crate::limit::exact::Store;
use crate::observe::metrics::Metrics;
use crate::server::prepare;
use crate::snapshot::compile::Tools;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Reads a config; prints what is wrong with it to standard error.
pub fn load(path: &Path) -> Result<Loaded, ExitCode> {
    let env = |name: &str| std::env::var(name).ok();
    match config::load(path, &env) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            Ok(loaded)
        }
        Err(faults) => {
            eprintln!("{faults}");
            Err(USAGE.into())
        }
    }
}

/// Runs the command.
pub fn run(path: &Path) -> ExitCode {
    super::messages::start();
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let clock = Clock::system();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), 0));
    let tools = Tools {
        clock: &clock,
        metrics: &metrics,
        before: None,
    };
    match prepare(&loaded.conf, &tools) {
        Ok((_, tls)) => {
            for warning in &tls.warnings {
                eprintln!("warning: {warning}");
            }
            summary(path, &loaded.conf);
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{faults}");
            USAGE.into()
        }
    }
}

/// What was found, and what its limits cost in memory.
fn summary(path: &Path, conf: &FileConf) {
    println!(
        "{}: ok ({} listeners, {} routes, {} upstreams, {} limits)",
        path.display(),
        conf.listeners.len(),
        conf.routes.len(),
        conf.upstreams.len(),
        conf.limits.len()
    );
    for limit in &conf.limits {
        let limit = &limit.value;
        let (bytes, kind) = match limit.store.value {
            StoreConf::Exact => (Store::memory_bytes(limit.max_keys.value), "exact, at most"),
            StoreConf::Estimate => (
                Estimator::memory_bytes(limit.expected_clients.value),
                "estimate,",
            ),
        };
        let (name, size) = (&limit.name.value, ByteSize(bytes.next_multiple_of(1024)));
        println!("  limit {name}: {kind} {size}");
    }
    if let Some(flood) = &conf.flood {
        let bytes = Estimator::memory_bytes(flood.expected_clients.value);
        let size = ByteSize(bytes.next_multiple_of(1024));
        println!("  flood limit: estimate, {size}");
    }
}
