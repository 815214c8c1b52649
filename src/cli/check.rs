//! `tollgate check`: the same way as `run`, up to binding.

use super::USAGE;
use crate::base::clock::Clock;
use crate::base::units::ByteSize;
use crate::config::limit::{AlgorithmConf, LimitConf, StoreConf};
use crate::config::{self, FileConf, Loaded};
use crate::limit::estimate::Estimator;
use crate::limit::exact::Store;
use crate::limit::sliding_log::Logs;
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

/// The most that an exact limit takes.
fn exact_bytes(limit: &LimitConf) -> u64 {
    let keys = limit.keys_held();
    if limit.algorithm.value != AlgorithmConf::SlidingLog {
        return Store::memory_bytes(keys);
    }
    let tiers = limit.tiers.0.iter().map(|(_, tier)| &tier.rate);
    let own = limit.own_rate.iter().map(|own| &own.most);
    let most = tiers.chain(own).map(|rate| rate.value.count).max();
    Logs::memory_bytes(keys, most.unwrap_or(0).max(limit.rate.value.count))
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
            StoreConf::Exact => (exact_bytes(limit), "exact, at most"),
            StoreConf::Estimate => (
                Estimator::memory_bytes(limit.expected_clients.value),
                "estimate,",
            ),
        };
        let (name, size) = (&limit.name.value, ByteSize(bytes.next_multiple_of(1024)));
        println!("  limit {name}: {kind} {size}");
        if limit.store.value == StoreConf::Estimate {
            let (count, clients) = (limit.rate.value.count, limit.expected_clients.value);
            println!("    {}", Estimator::error_bound(count, clients));
        }
    }
    if let Some(flood) = &conf.flood {
        let bytes = Estimator::memory_bytes(flood.expected_clients.value);
        let size = ByteSize(bytes.next_multiple_of(1024));
        println!("  flood limit: estimate, {size}");
        let (count, clients) = (flood.rate.value.count, flood.expected_clients.value);
        println!("    {}", Estimator::error_bound(count, clients));
    }
}
