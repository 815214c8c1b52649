//! A pool: the targets of one upstream, their health and load, and the choice between them.

use super::balance::{self, Schedule, Tried};
use super::health::{Health, Probe};
use super::peer;
use super::tls::Secure;
use super::trouble::Told;
use super::turn::{Turn, Turns};
use crate::breaker::Breaker;
use crate::observe::metrics::UpstreamMetrics;
use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How a target is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Smooth weighted round robin.
    RoundRobin,
    /// The less loaded of two drawn at random, by requests in flight over weight.
    LeastLoaded,
}

/// What the targets of an upstream speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 and nothing else: agreed on over TLS (ALPN), without TLS by prior knowledge
    /// (RFC 9113 §3.2, §3.3).
    Http2,
    /// HTTP/2 where a target offers it over TLS, else HTTP/1.1.
    Auto,
}

/// The time limits of an upstream; none is ever absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to be made.
    pub connect: Duration,
    /// Between two reads of an answer, or two writes of a body; without one the total alone counts.
    pub read: Option<Duration>,
    /// From the request's arrival to the last byte of its answer.
    pub total: Duration,
    /// For an unused connection to be kept; below the service's own keep-alive.
    pub idle: Duration,
}

/// A target as the config has it: an address or a name with a port, and a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetSpec {
    /// `192.0.2.1:80`, `[2001:db8::1]:80` or `users.internal:80`.
    pub address: Arc<str>,
    /// Its share in the pool, 1..=1000.
    pub weight: u32,
    /// How it is spoken to over TLS; `None` for without. Each of its addresses has this name.
    pub secure: Option<Secure>,
}

/// What a pool is made from.
#[derive(Debug, PartialEq)]
pub struct Spec {
    /// The upstream's name.
    pub name: Arc<str>,
    /// Its targets.
    pub targets: Vec<TargetSpec>,
    /// What they speak.
    pub protocol: Protocol,
    /// How one is chosen.
    pub balance: Balance,
    /// Its time limits.
    pub timeouts: Timeouts,
    /// Further attempts after the first.
    pub retries: u32,
    /// The active health check, if any.
    pub probe: Option<Probe>,
    /// How often names are resolved again.
    pub dns_refresh: Duration,
}

/// One address that requests can be sent to.
#[derive(Debug)]
pub struct Endpoint {
    /// The resolved address.
    pub address: SocketAddr,
    /// The target it comes from, as written.
    pub target: Arc<str>,
    /// Its share in the pool.
    pub weight: u32,
    /// How it is spoken to over TLS, if it is.
    pub secure: Option<Secure>,
    /// What the health checks say.
    pub health: Health,
    /// When its trouble with TLS was told.
    pub(super) told: Told,
    /// Whose turn it is to make a connection that others will share.
    turns: Option<Turns>,
    /// Whether it asked for HTTP/1.1 where both may be spoken.
    http1: AtomicBool,
    in_flight: AtomicU32,
    peer: HttpPeer,
}

impl Endpoint {
    /// Requests it is serving now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Speaks HTTP/1.1 with it from now on; true the first time.
    pub fn prefer_http1(&self) -> bool {
        !self.http1.swap(true, Relaxed)
    }

    /// How to reach it.
    pub(super) fn peer(&self) -> &HttpPeer {
        &self.peer
    }
}

/// The endpoints of a moment, with the order in which they are used.
#[derive(Debug)]
pub struct Endpoints {
    /// All of them, usable or not.
    pub list: Box<[Arc<Endpoint>]>,
    weights: Box<[u32]>,
    usable: Box<[usize]>,
    schedule: Schedule,
}

impl Endpoints {
    fn new(list: Vec<Arc<Endpoint>>) -> Self {
        let weights: Vec<u32> = list.iter().map(|e| e.weight).collect();
        let usable: Vec<bool> = list.iter().map(|e| e.health.usable()).collect();
        Self {
            schedule: Schedule::new(&weights, &usable),
            usable: balance::usable_targets(&weights, &usable).into(),
            weights: weights.into(),
            list: list.into(),
        }
    }

    /// How many may be chosen.
    pub fn usable(&self) -> usize {
        self.usable.len()
    }
}

/// The targets of one upstream and all that is known of them.
#[derive(Debug)]
pub struct Pool {
    /// What it was made from.
    pub spec: Spec,
    /// Its circuit breaker, unless written off.
    pub breaker: Option<Arc<Breaker>>,
    /// Its metrics.
    pub metrics: Arc<UpstreamMetrics>,
    endpoints: ArcSwap<Endpoints>,
    turn: AtomicU64,
}

/// A chosen endpoint; counts as one request in flight until dropped.
#[derive(Debug)]
pub struct Chosen {
    /// Where to send the request.
    pub endpoint: Arc<Endpoint>,
    /// Its place in the list, for [`Tried`].
    pub index: usize,
    turn: Option<Turn>,
}

impl Chosen {
    fn new(endpoint: &Arc<Endpoint>, index: usize) -> Self {
        endpoint.in_flight.fetch_add(1, Relaxed);
        Self {
            endpoint: endpoint.clone(),
            index,
            turn: None,
        }
    }

    /// Waits while somebody else makes a connection that this request may share.
    pub async fn wait(&mut self) {
        if let Some(turns) = &self.endpoint.turns {
            self.turn = Some(turns.wait().await);
        }
    }

    /// Lets the next one go on, once there is a connection or none to be had.
    pub fn connected(&mut self, well: bool) {
        if let Some(turns) = &self.endpoint.turns {
            turns.connected(well);
            self.turn = None;
        }
    }

    /// How to reach it, with what is left of the request's time; `pause`: how long nothing may move,
    /// where that is what bounds it.
    pub fn peer(
        &self,
        timeouts: &Timeouts,
        left: Duration,
        pause: Option<Duration>,
    ) -> Box<HttpPeer> {
        let mut peer = peer::within(&self.endpoint.peer, timeouts, left, pause);
        if self.endpoint.http1.load(Relaxed) {
            peer.options.set_http_version(1, 1);
        }
        Box::new(peer)
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    /// A pool whose names are not resolved yet; [`super::discovery::resolve`] fills it. `before`: the
    /// pool whose place it takes. A target that stays has its addresses from there, and where it is
    /// spoken to as before, its health and its connections.
    pub fn new(
        spec: Spec,
        breaker: Option<Arc<Breaker>>,
        metrics: Arc<UpstreamMetrics>,
        before: Option<&Self>,
    ) -> Self {
        let known = before.map_or_else(Vec::new, |before| before.endpoints.load().list.to_vec());
        let as_before = before.is_some_and(|before| {
            (spec.protocol, spec.timeouts) == (before.spec.protocol, before.spec.timeouts)
        });
        let addresses = spec.targets.iter().flat_map(|target| {
            let literal: Option<SocketAddr> = target.address.parse().ok();
            let is_name = literal.is_none();
            let named = known
                .iter()
                .filter(move |e| is_name && e.target == target.address);
            let all = literal.into_iter().chain(named.map(|e| e.address));
            all.map(|address| (target.clone(), address))
        });
        let addresses: Vec<_> = addresses.collect();
        let begin = if as_before { known } else { Vec::new() };
        let pool = Self {
            spec,
            breaker,
            metrics,
            endpoints: ArcSwap::from_pointee(Endpoints::new(begin)),
            turn: AtomicU64::new(before.map_or(0, |before| before.turn.load(Relaxed))),
        };
        pool.set(&addresses);
        pool
    }

    /// The endpoints of this moment.
    pub fn endpoints(&self) -> arc_swap::Guard<Arc<Endpoints>> {
        self.endpoints.load()
    }

    /// Replaces the addresses; an address that stays keeps its health and its count.
    pub fn set(&self, addresses: &[(TargetSpec, SocketAddr)]) {
        let old = self.endpoints.load();
        let same = |target: &TargetSpec, address: &SocketAddr| {
            let known = old.list.iter().find(|e| {
                e.address == *address
                    && e.target == target.address
                    && e.weight == target.weight
                    && e.secure == target.secure
            });
            known.cloned()
        };
        let list = addresses.iter().map(|(target, address)| {
            same(target, address).unwrap_or_else(|| {
                Arc::new(Endpoint {
                    address: *address,
                    target: target.address.clone(),
                    weight: target.weight,
                    secure: target.secure.clone(),
                    health: Health::new(),
                    told: Told::default(),
                    turns: (self.spec.protocol != Protocol::Http1).then(Turns::new),
                    http1: AtomicBool::new(false),
                    in_flight: AtomicU32::new(0),
                    peer: peer::template(*address, &self.spec, target),
                })
            })
        });
        self.put(list.collect());
    }

    /// Plans anew after a change of health.
    pub fn refresh(&self) {
        self.put(self.endpoints.load().list.to_vec());
    }

    fn put(&self, list: Vec<Arc<Endpoint>>) {
        let endpoints = Endpoints::new(list);
        self.metrics
            .targets(endpoints.list.len(), endpoints.usable());
        self.endpoints.store(Arc::new(endpoints));
    }

    /// The next endpoint that was not tried yet; `None` if there is none left.
    pub fn choose(&self, tried: &Tried) -> Option<Chosen> {
        let now = self.endpoints.load();
        // A further attempt takes no turn: else, of two targets, every request would begin with
        // the same one.
        let turn = if tried.is_empty() {
            self.turn.fetch_add(1, Relaxed)
        } else {
            self.turn.load(Relaxed)
        };
        let index = match self.spec.balance {
            Balance::RoundRobin => now.schedule.pick_excluding(turn, tried),
            Balance::LeastLoaded => {
                let load = |at: usize| now.list[at].in_flight();
                let random = balance::splitmix64(turn);
                if tried.is_empty() {
                    balance::p2c(load, &now.weights, &now.usable, random)
                } else {
                    balance::least_loaded(load, &now.weights, &now.usable, tried, random)
                }
            }
        }?;
        Some(Chosen::new(&now.list[index], index))
    }
}

/// A pool of these targets that resolves its names every 10 ms.
#[cfg(test)]
pub(super) fn pool_for_tests(targets: &[&str]) -> Arc<Pool> {
    let target = |address: &&str| TargetSpec {
        address: Arc::from(*address),
        weight: 1,
        secure: None,
    };
    let second = Duration::from_secs(1);
    let spec = Spec {
        name: Arc::from("up"),
        targets: targets.iter().map(target).collect(),
        protocol: Protocol::Http1,
        balance: Balance::RoundRobin,
        timeouts: Timeouts {
            connect: second,
            read: None,
            total: second,
            idle: second,
        },
        retries: 0,
        probe: None,
        dns_refresh: Duration::from_millis(10),
    };
    let metrics = crate::observe::metrics::Metrics::new("0", 0).upstream("up");
    Arc::new(Pool::new(spec, None, metrics, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_stays_keeps_its_health_and_its_count() {
        let pool = pool_for_tests(&["users.invalid:80"]);
        let spec = pool.spec.targets[0].clone();
        let at = |address: &str| (spec.clone(), address.parse().unwrap());
        pool.set(&[at("192.0.2.1:80"), at("192.0.2.2:80")]);
        pool.endpoints().list[0].health.fail();
        pool.refresh();
        assert_eq!(pool.endpoints().usable(), 1);
        let busy = pool.choose(&Tried::default()).unwrap();
        assert_eq!(busy.endpoint.address.to_string(), "192.0.2.2:80");

        pool.set(&[at("192.0.2.3:80"), at("192.0.2.1:80"), at("192.0.2.2:80")]);
        let now = pool.endpoints();
        let seen: Vec<_> = now
            .list
            .iter()
            .map(|e| (e.health.usable(), e.in_flight()))
            .collect();
        assert_eq!(seen, [(true, 0), (false, 0), (true, 1)]);
        assert_eq!(now.usable(), 2);
        drop(busy);
        assert_eq!(now.list[2].in_flight(), 0, "counted where it was chosen");

        pool.set(&[at("192.0.2.2:80")]);
        pool.set(&[at("192.0.2.1:80")]);
        let back = &pool.endpoints().list[0].health;
        assert!(back.usable(), "who was away begins anew");
    }
}
