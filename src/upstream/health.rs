//! Active health checks: asks every endpoint of a pool in turn whether it is well.

use super::pool::{Endpoint, Pool};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A TCP connection must be made.
    Tcp,
    /// A GET of `path` must be answered with `status`.
    Http {
        /// The path, query included.
        path: String,
        /// The status that counts as well.
        status: u16,
    },
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub ask: Ask,
    /// From the end of one round to the begin of the next.
    pub interval: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// Good answers in a row that bring an endpoint back.
    pub healthy: u32,
    /// Bad answers in a row that take an endpoint out.
    pub unhealthy: u32,
}

/// What the checks say of one endpoint. It begins as usable.
#[derive(Debug)]
pub struct Health {
    up: AtomicBool,
    streak: AtomicU32,
}

impl Health {
    /// Usable, nothing known.
    pub(super) fn new() -> Self {
        Self {
            up: AtomicBool::new(true),
            streak: AtomicU32::new(0),
        }
    }

    /// Whether requests may be sent there.
    pub fn usable(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Not usable any more, whatever was heard before.
    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.up.store(false, Relaxed);
    }

    /// Takes one answer; true if it changed the verdict. Called by one task at a time.
    fn heard(&self, well: bool, probe: &Probe) -> bool {
        if well == self.usable() {
            self.streak.store(0, Relaxed);
            return false;
        }
        let streak = self.streak.load(Relaxed) + 1;
        let needed = if well { probe.healthy } else { probe.unhealthy };
        let turned = streak >= needed;
        self.streak.store(if turned { 0 } else { streak }, Relaxed);
        if turned {
            self.up.store(well, Relaxed);
        }
        turned
    }
}

/// Asks until the pool is gone.
pub async fn run(pool: Weak<Pool>) {
    let Some(probe) = pool.upgrade().and_then(|p| p.spec.probe.clone()) else {
        return;
    };
    let mut checkers = Checkers::new();
    loop {
        match pool.upgrade() {
            Some(pool) => round(&pool, &probe, &mut checkers).await,
            None => return,
        }
        tokio::time::sleep(probe.interval).await;
    }
}

/// Asks every endpoint once, all at the same time.
pub async fn first_round(pool: &Arc<Pool>) {
    if let Some(probe) = &pool.spec.probe {
        // One bad answer is enough at the start: nothing good is known that it could contradict.
        let hasty = Probe {
            unhealthy: 1,
            ..probe.clone()
        };
        round(pool, &hasty, &mut Checkers::new()).await;
    }
}

type Checker = Arc<dyn HealthCheck + Send + Sync>;
/// One a target, since each names its target in `Host`.
type Checkers = HashMap<Arc<str>, Checker>;

async fn round(pool: &Arc<Pool>, probe: &Probe, checkers: &mut Checkers) {
    let mut asked = tokio::task::JoinSet::new();
    for endpoint in &pool.endpoints().list {
        let target = &endpoint.target;
        let check = checkers
            .entry(target.clone())
            .or_insert_with(|| checker(probe, target));
        let (endpoint, check, limit) = (endpoint.clone(), check.clone(), probe.timeout);
        asked.spawn(async move { (ask(&endpoint, &check, limit).await, endpoint) });
    }
    let mut changed = false;
    while let Some(Ok((answer, endpoint))) = asked.join_next().await {
        if endpoint.health.heard(answer.is_ok(), probe) {
            changed = true;
            report(pool, &endpoint, &answer);
        }
    }
    if changed {
        pool.refresh();
    }
}

async fn ask(endpoint: &Endpoint, check: &Checker, limit: Duration) -> Result<(), String> {
    let backend = Backend::new(&endpoint.address.to_string()).map_err(|e| e.to_string())?;
    match tokio::time::timeout(limit, check.check(&backend)).await {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

fn report(pool: &Pool, endpoint: &Endpoint, answer: &Result<(), String>) {
    let (name, target, address) = (&pool.spec.name, &endpoint.target, endpoint.address);
    match answer {
        Ok(()) => log::info!("upstream {name}: target {target} ({address}) is healthy again"),
        Err(why) => log::warn!("upstream {name}: target {target} ({address}) is unhealthy: {why}"),
    }
}

fn checker(probe: &Probe, target: &str) -> Checker {
    match &probe.ask {
        Ask::Tcp => {
            let mut tcp = TcpHealthCheck::new();
            tcp.peer_template.options.connection_timeout = Some(probe.timeout);
            Arc::from(tcp as Box<dyn HealthCheck + Send + Sync>)
        }
        Ask::Http { path, status } => Arc::new(http(target, path, *status, probe.timeout)),
    }
}

fn http(target: &str, path: &str, status: u16, timeout: Duration) -> HttpHealthCheck {
    let mut check = HttpHealthCheck::new(target, false);
    check.peer_template.options.connection_timeout = Some(timeout);
    check.peer_template.options.read_timeout = Some(timeout);
    // Both were checked with the config.
    let _ = check.req.set_raw_path(path.as_bytes());
    let _ = check
        .req
        .insert_header("User-Agent", "tollgate-health-check");
    check.validator = Some(Box::new(move |answer| {
        let code = answer.status.as_u16();
        if code == status {
            return Ok(());
        }
        pingora::Error::e_explain(
            pingora::ErrorType::CustomCode("unexpected status", code),
            "in a health check",
        )
    }));
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_turns_after_enough_answers_in_a_row() {
        let probe = Probe {
            ask: Ask::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        };
        let health = Health::new();
        let answers = [
            false, false, true, false, false, false, true, false, true, true,
        ];
        let turned: Vec<bool> = answers.iter().map(|a| health.heard(*a, &probe)).collect();
        assert_eq!(
            turned,
            [
                false, false, false, false, false, true, false, false, false, true
            ]
        );
        assert!(health.usable());
    }
}
