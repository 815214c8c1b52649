//! From names to addresses, in the background: no request ever waits for a resolver.

use super::pool::{Pool, TargetSpec};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

/// Resolves the names of a pool until it is gone.
pub async fn run(pool: Weak<Pool>) {
    loop {
        let pause = match pool.upgrade() {
            Some(pool) if has_names(&pool) => pool.spec.dns_refresh,
            _ => return,
        };
        tokio::time::sleep(pause).await;
        if let Some(pool) = pool.upgrade() {
            resolve(&pool).await;
        }
    }
}

fn has_names(pool: &Pool) -> bool {
    pool.spec.targets.iter().any(|t| literal(t).is_none())
}

/// Resolves every name once. A name that does not resolve keeps the addresses it had.
pub async fn resolve(pool: &Arc<Pool>) {
    let mut all: Vec<(TargetSpec, SocketAddr)> = Vec::new();
    for target in &pool.spec.targets {
        match addresses(target).await {
            Ok(found) => all.extend(found.into_iter().map(|a| (target.clone(), a))),
            Err(why) => {
                let (name, address) = (&pool.spec.name, &target.address);
                log::warn!(
                    "upstream {name}: target {address} does not resolve, kept as it was: {why}"
                );
                let old = pool.endpoints();
                let kept = old.list.iter().filter(|e| e.target == target.address);
                all.extend(kept.map(|e| (target.clone(), e.address)));
            }
        }
    }
    let now = pool.endpoints();
    let before = now.list.iter().map(|e| (&e.target, e.address));
    if !before.eq(all.iter().map(|(t, a)| (&t.address, *a))) {
        pool.set(&all);
    }
}

fn literal(target: &TargetSpec) -> Option<SocketAddr> {
    target.address.parse().ok()
}

async fn addresses(target: &TargetSpec) -> std::io::Result<Vec<SocketAddr>> {
    if let Some(address) = literal(target) {
        return Ok(vec![address]);
    }
    let mut found: Vec<_> = tokio::net::lookup_host(&*target.address).await?.collect();
    // Resolvers rotate their answers; a stable order keeps the schedule and the health.
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        return Err(std::io::Error::other("no address"));
    }
    Ok(found)
}
