//! From names to addresses, in the background: no request ever waits for a resolver.

use super::pool::{Pool, TargetSpec};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

/// Who knows the addresses of a name.
trait Resolver: Sync {
    /// The addresses of `name:port`.
    fn look_up(&self, name: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// The system's resolver.
struct System;

impl Resolver for System {
    async fn look_up(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host(name).await?.collect())
    }
}

/// Resolves the names of a pool until it is gone.
pub async fn run(pool: Weak<Pool>) {
    run_with(pool, &System).await;
}

async fn run_with(pool: Weak<Pool>, resolver: &impl Resolver) {
    loop {
        let pause = match pool.upgrade() {
            Some(pool) if has_names(&pool) => pool.spec.dns_refresh,
            _ => return,
        };
        tokio::time::sleep(pause).await;
        if let Some(pool) = pool.upgrade() {
            resolve_with(&pool, resolver).await;
        }
    }
}

fn has_names(pool: &Pool) -> bool {
    pool.spec.targets.iter().any(|t| literal(t).is_none())
}

/// Resolves every name once. A name that does not resolve keeps the addresses it had.
pub async fn resolve(pool: &Arc<Pool>) {
    resolve_with(pool, &System).await;
}

async fn resolve_with(pool: &Arc<Pool>, resolver: &impl Resolver) {
    let mut all: Vec<(TargetSpec, SocketAddr)> = Vec::new();
    for target in &pool.spec.targets {
        match addresses(target, resolver).await {
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

async fn addresses(target: &TargetSpec, resolver: &impl Resolver) -> io::Result<Vec<SocketAddr>> {
    if let Some(address) = literal(target) {
        return Ok(vec![address]);
    }
    let mut found = resolver.look_up(&target.address).await?;
    // Resolvers rotate their answers; a stable order keeps the schedule and the health.
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        return Err(io::Error::other("no address"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::balance::Tried;
    use super::super::pool::pool_for_tests;
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// Gives its answers in turn; with none left nothing resolves.
    struct Scripted(Mutex<VecDeque<Vec<SocketAddr>>>);

    impl Resolver for Scripted {
        async fn look_up(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
            let next = self.0.lock().map(|mut answers| answers.pop_front());
            next.ok().flatten().ok_or(io::ErrorKind::NotFound.into())
        }
    }

    fn scripted(answers: &[&[&str]]) -> Scripted {
        let parsed = |texts: &&[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        Scripted(Mutex::new(answers.iter().map(parsed).collect()))
    }

    fn listed(pool: &Pool) -> Vec<String> {
        let now = pool.endpoints();
        now.list.iter().map(|e| e.address.to_string()).collect()
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_name_that_fails_keeps_its_addresses() {
        let pool = pool_for_tests(&["users.invalid:80", "192.0.2.9:80"]);
        let resolver = scripted(&[&["192.0.2.2:80", "192.0.2.1:80", "192.0.2.2:80"], &[]]);
        let want = ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.9:80"];
        block_on(resolve_with(&pool, &resolver));
        assert_eq!(listed(&pool), want, "in order, each once");
        block_on(resolve_with(&pool, &resolver));
        assert_eq!(listed(&pool), want, "no address is no answer");
        block_on(resolve_with(&pool, &resolver));
        assert_eq!(listed(&pool), want, "a failure is none either");
    }

    #[test]
    fn the_same_addresses_in_another_order_change_nothing() {
        let pool = pool_for_tests(&["users.invalid:80"]);
        let resolver = scripted(&[
            &["192.0.2.1:80", "192.0.2.2:80"],
            &["192.0.2.2:80", "192.0.2.1:80"],
        ]);
        block_on(resolve_with(&pool, &resolver));
        let before = pool.endpoints().clone();
        block_on(resolve_with(&pool, &resolver));
        assert!(Arc::ptr_eq(&before, &pool.endpoints()));
    }

    #[test]
    fn names_are_resolved_again_while_the_pool_lives() {
        let pool = pool_for_tests(&["users.invalid:80"]);
        let resolver = scripted(&[&["192.0.2.1:80"], &["192.0.2.2:80"]]);
        block_on(async {
            resolve_with(&pool, &resolver).await;
            assert_eq!(listed(&pool), ["192.0.2.1:80"]);
            let moved = async {
                while listed(&pool) != ["192.0.2.2:80"] {
                    tokio::time::sleep(pool.spec.dns_refresh).await;
                }
            };
            tokio::select! {
                () = run_with(Arc::downgrade(&pool), &resolver) => panic!("ended"),
                moved = tokio::time::timeout(std::time::Duration::from_secs(15), moved) => {
                    moved.expect("resolved again, unasked");
                }
            }
            let chosen = pool.choose(&Tried::default()).unwrap();
            assert_eq!(chosen.endpoint.address.to_string(), "192.0.2.2:80");
            drop(chosen);
            let gone = Arc::downgrade(&pool);
            drop(pool);
            run_with(gone, &resolver).await;
        });
    }

    #[test]
    fn addresses_alone_are_not_resolved() {
        let pool = pool_for_tests(&["192.0.2.1:80"]);
        let resolver = scripted(&[]);
        block_on(run_with(Arc::downgrade(&pool), &resolver));
        assert_eq!(listed(&pool), ["192.0.2.1:80"]);
    }
}
