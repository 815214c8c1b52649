//! What is counted for one route: requests by method and status, durations, tiers.

use super::{Series, define::Families};
use crate::observe::reason::Reason;
use arc_swap::ArcSwap;
use prometheus::{Histogram, IntCounter};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The methods told apart; every other one counts as `other`.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];

/// The statuses told apart: those registered with IANA, and 499 for a client that left. Others
/// count by class.
#[rustfmt::skip]
const KNOWN: [u16; 63] = [
    100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226,
    300, 301, 302, 303, 304, 305, 307, 308,
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417,
    421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499,
    500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
    // Nothing was sent.
    0,
];
/// What other statuses count as, by their first digit.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
const STATUSES: usize = KNOWN.len() + CLASSES.len();

/// Tiers told apart on one route; further ones count as `other`. Tiers are written in keys and
/// tokens, so their number is not ours to decide.
const MAX_TIERS: usize = 32;
const MAX_TIER_BYTES: usize = 64;

/// The handle of one route's metrics: resolved when the configuration is compiled, so that a
/// request only increments.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Box<str>,
    families: Arc<Families>,
    /// One counter for each method and status, made when first met.
    requests: Box<[OnceLock<IntCounter>]>,
    duration: Histogram,
    no_tier: Tier,
    tiers: ArcSwap<Vec<Arc<Tier>>>,
    other_tiers: OnceLock<Tier>,
    /// One counter for each reason, made when first met.
    would_refuse: OnceLock<Box<[OnceLock<IntCounter>]>>,
}

#[derive(Debug)]
struct Tier {
    name: Box<str>,
    requests: IntCounter,
    rejections: IntCounter,
}

impl RouteMetrics {
    pub(super) fn new(name: &str, families: &Arc<Families>) -> Self {
        Self {
            name: name.into(),
            families: Arc::clone(families),
            requests: (0..METHODS.len() * STATUSES)
                .map(|_| OnceLock::new())
                .collect(),
            duration: families.server_duration.with_label_values(&[name]),
            no_tier: Tier::new(families, name, "none"),
            tiers: ArcSwap::default(),
            other_tiers: OnceLock::new(),
            would_refuse: OnceLock::new(),
        }
    }

    /// Counts a request that is over: its method, the status sent (0 if none was), the client's
    /// tier, and how long it took from its first byte to the last of its answer.
    pub fn answered(&self, method: &str, status: u16, tier: Option<&str>, took: Duration) {
        let cell = method_index(method) * STATUSES + status_index(status);
        self.requests[cell]
            .get_or_init(|| {
                let labels = self.labels(cell);
                let labels = [&*self.name, labels.0, &labels.1];
                self.families.requests.with_label_values(&labels)
            })
            .inc();
        self.duration.observe(took.as_secs_f64());
        self.with_tier(tier, |tier| tier.requests.inc());
    }

    /// Counts a request refused by a limit.
    pub fn limited(&self, tier: Option<&str>) {
        self.with_tier(tier, |tier| tier.rejections.inc());
    }

    /// Counts a request that would have been refused, had its route not only tried that out.
    pub fn would_refuse(&self, reason: Reason) {
        let all = self.would_refuse.get_or_init(|| {
            let empty = || OnceLock::new();
            std::iter::repeat_with(empty).take(Reason::COUNT).collect()
        });
        let counter = all[reason.index()].get_or_init(|| {
            let labels = [&*self.name, reason.code()];
            self.families.would_refuse.with_label_values(&labels)
        });
        counter.inc();
    }

    /// The method and status that a cell of `requests` stands for.
    fn labels(&self, cell: usize) -> (&'static str, String) {
        debug_assert!(cell < self.requests.len());
        let (method, status) = (cell / STATUSES, cell % STATUSES);
        let status = match KNOWN.get(status) {
            Some(0) => "none".to_owned(),
            Some(known) => known.to_string(),
            None => CLASSES[status - KNOWN.len()].to_owned(),
        };
        (METHODS[method], status)
    }

    fn with_tier(&self, tier: Option<&str>, count: impl Fn(&Tier)) {
        let Some(name) = tier else {
            return count(&self.no_tier);
        };
        let known = self.tiers.load();
        if let Some(tier) = known.iter().find(|tier| *tier.name == *name) {
            return count(tier);
        }
        if known.len() < MAX_TIERS && name.len() <= MAX_TIER_BYTES {
            let new = Arc::new(Tier::new(&self.families, &self.name, name));
            count(&new);
            self.tiers.rcu(|known| {
                let mut known = Vec::clone(known);
                let met = known.iter().any(|tier| *tier.name == *name);
                if !met && known.len() < MAX_TIERS {
                    known.push(Arc::clone(&new));
                }
                known
            });
            return;
        }
        let other = || Tier::new(&self.families, &self.name, "other");
        count(self.other_tiers.get_or_init(other));
    }
}

impl Tier {
    fn new(families: &Families, route: &str, name: &str) -> Self {
        Self {
            name: name.into(),
            requests: families.tier_requests.with_label_values(&[route, name]),
            rejections: families.rejections.with_label_values(&[route, name]),
        }
    }

    fn forget(&self, families: &Families, route: &str) {
        let labels = [route, &*self.name];
        let _ = families.tier_requests.remove_label_values(&labels);
        let _ = families.rejections.remove_label_values(&labels);
    }
}

impl Series for RouteMetrics {
    fn forget(&self) {
        let (families, name) = (&self.families, &*self.name);
        let made = self.requests.iter().enumerate();
        for (cell, _) in made.filter(|(_, counter)| counter.get().is_some()) {
            let labels = self.labels(cell);
            let labels = [name, labels.0, &labels.1];
            let _ = families.requests.remove_label_values(&labels);
        }
        let _ = families.server_duration.remove_label_values(&[name]);
        self.no_tier.forget(families, name);
        for tier in self.tiers.load().iter() {
            tier.forget(families, name);
        }
        if let Some(other) = self.other_tiers.get() {
            other.forget(families, name);
        }
        let made = self
            .would_refuse
            .get()
            .into_iter()
            .flat_map(|all| all.iter());
        for (counter, reason) in made.zip(Reason::ALL) {
            if counter.get().is_some() {
                let labels = [name, reason.code()];
                let _ = families.would_refuse.remove_label_values(&labels);
            }
        }
    }
}

fn method_index(method: &str) -> usize {
    match method {
        "GET" => 0,
        "HEAD" => 1,
        "POST" => 2,
        "PUT" => 3,
        "PATCH" => 4,
        "DELETE" => 5,
        "OPTIONS" => 6,
        _ => METHODS.len() - 1,
    }
}

/// The place of a status among [`STATUSES`], by a table.
fn status_index(status: u16) -> usize {
    const PLACES: [u8; 600] = {
        let mut places = [KNOWN.len() as u8; 600];
        let mut status = 100;
        while status < 600 {
            places[status] = (KNOWN.len() + status / 100) as u8;
            status += 1;
        }
        let mut at = 0;
        while at < KNOWN.len() {
            places[KNOWN[at] as usize] = at as u8;
            at += 1;
        }
        places
    };
    let place = PLACES.get(usize::from(status)).copied();
    place.map_or(KNOWN.len(), usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Registry;

    fn route() -> RouteMetrics {
        let families = Arc::new(Families::new(&Registry::new()));
        RouteMetrics::new("users", &families)
    }

    #[test]
    fn every_method_and_status_has_its_labels() {
        let route = route();
        for (at, method) in METHODS.iter().enumerate() {
            assert_eq!(method_index(method), at);
        }
        assert_eq!(method_index("BREW"), METHODS.len() - 1);
        for (status, want) in [
            (200, "200"),
            (429, "429"),
            (511, "511"),
            (0, "none"),
            (299, "2xx"),
            (450, "4xx"),
            (599, "5xx"),
            (7, "other"),
            (600, "other"),
            (u16::MAX, "other"),
        ] {
            let cell = method_index("PUT") * STATUSES + status_index(status);
            assert_eq!(route.labels(cell), ("PUT", want.to_owned()));
        }
    }

    #[test]
    fn the_number_of_tiers_is_bounded() {
        let route = route();
        for n in 0..100 {
            let tier = format!("tier-{n}");
            for _ in 0..2 {
                route.answered("GET", 200, Some(&tier), Duration::ZERO);
            }
        }
        route.limited(Some(&"x".repeat(65)));
        assert_eq!(route.tiers.load().len(), MAX_TIERS);
        assert!(
            route
                .tiers
                .load()
                .iter()
                .all(|tier| tier.requests.get() == 2)
        );
        let other = route.other_tiers.get().expect("there were too many");
        assert_eq!(other.requests.get(), 2 * (100 - MAX_TIERS as u64));
        assert_eq!(other.rejections.get(), 1);
    }
}
