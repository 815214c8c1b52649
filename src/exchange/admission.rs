//! How many connections a listener holds, in all and of one address. What is counted is counted
//! before anything is read, so that a flood of connections costs next to nothing.

use crate::base::net::{Networks, client_prefix};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections may be open.
#[derive(Clone, Debug)]
pub struct Caps {
    /// In all.
    pub all: usize,
    /// Of one address: an IPv4 address, or an IPv6 /64.
    pub each: u32,
    /// Who may have all of them: the balancers in front.
    pub exempt: Networks,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The listener holds as many as it may.
    All,
    /// Its address does.
    Address,
}

const SHARDS: usize = 16;

/// An IPv4 address, or the /64 of an IPv6 address.
type Prefix = [u8; 8];

/// The connections of one listener. An address has an entry while it has a connection: there are
/// never more entries than connections.
#[derive(Debug)]
pub struct Admission {
    caps: Caps,
    held: Arc<Held>,
}

/// Who is in. Stays when the caps become others.
#[derive(Debug)]
struct Held {
    open: AtomicUsize,
    hasher: RandomState,
    each: [Mutex<HashMap<Prefix, u32>>; SHARDS],
}

impl Admission {
    /// With nobody in.
    pub fn new(caps: Caps) -> Self {
        let held = Held {
            open: AtomicUsize::new(0),
            hasher: RandomState::new(),
            each: std::array::from_fn(|_| Mutex::default()),
        };
        let held = Arc::new(held);
        Self { caps, held }
    }

    /// Other caps for the same place: whoever is in counts.
    #[must_use]
    pub fn with_caps(&self, caps: Caps) -> Self {
        let held = self.held.clone();
        Self { caps, held }
    }

    /// How many may be in.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.held.open.load(Relaxed)
    }

    /// Lets a connection in, its address not yet known.
    ///
    /// # Errors
    /// There are as many as may be.
    pub fn enter(self: &Arc<Self>) -> Result<Pass, Full> {
        // Taken at once and given back if it was one too many, so that no two take the last place.
        let before = self.held.open.fetch_add(1, Relaxed);
        let pass = Pass {
            admission: self.clone(),
            address: None,
        };
        if before >= self.caps.all {
            return Err(Full::All);
        }
        Ok(pass)
    }
}

impl Held {
    fn shard(&self, address: Prefix) -> &Mutex<HashMap<Prefix, u32>> {
        let hash = self.hasher.hash_one(address);
        &self.each[hash as usize % SHARDS]
    }
}

/// A connection's place; given back by the drop.
#[derive(Debug)]
pub struct Pass {
    admission: Arc<Admission>,
    address: Option<Prefix>,
}

impl Pass {
    /// Counts the connection to its address.
    ///
    /// # Errors
    /// The address has as many as it may.
    pub fn of(mut self, address: IpAddr) -> Result<Self, Full> {
        if self.admission.caps.exempt.contains(address) {
            return Ok(self);
        }
        let key = client_prefix(address);
        let mut each = lock(self.admission.held.shard(key));
        let count = each.entry(key).or_insert(0);
        if *count >= self.admission.caps.each {
            return Err(Full::Address);
        }
        *count += 1;
        drop(each);
        self.address = Some(key);
        Ok(self)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.admission.held.open.fetch_sub(1, Relaxed);
        let Some(key) = self.address else { return };
        let mut each = lock(self.admission.held.shard(key));
        if let Some(count) = each.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                each.remove(&key);
            }
        }
    }
}

fn lock(shard: &Mutex<HashMap<Prefix, u32>>) -> std::sync::MutexGuard<'_, HashMap<Prefix, u32>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(all: usize, each: u32) -> Arc<Admission> {
        let network = "10.0.0.0/8".parse().expect("a network");
        let exempt = Networks(vec![network]);
        Arc::new(Admission::new(Caps { all, each, exempt }))
    }

    fn enter(admission: &Arc<Admission>, address: &str) -> Result<Pass, Full> {
        admission.enter()?.of(address.parse().expect("an address"))
    }

    #[test]
    fn all_places_are_taken_and_given_back() {
        let admission = admission(2, 2);
        let one = enter(&admission, "192.0.2.1").expect("a place");
        let _two = enter(&admission, "192.0.2.2").expect("a place");
        assert_eq!(enter(&admission, "192.0.2.3").err(), Some(Full::All));
        assert_eq!(admission.open(), 2, "a refused one holds no place");
        drop(one);
        assert!(enter(&admission, "192.0.2.3").is_ok());
    }

    #[test]
    fn an_address_has_its_share_and_balancers_have_all() {
        let admission = admission(100, 2);
        let held: Vec<_> = (0..2).map(|_| enter(&admission, "192.0.2.1")).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(enter(&admission, "192.0.2.1").err(), Some(Full::Address));
        assert_eq!(
            enter(&admission, "::ffff:192.0.2.1").err(),
            Some(Full::Address)
        );
        assert!(enter(&admission, "192.0.2.2").is_ok());
        let many: Vec<_> = (0..50).map(|_| enter(&admission, "10.1.1.1")).collect();
        assert!(many.iter().all(Result::is_ok));
        drop((held, many));
        assert_eq!(admission.open(), 0);
        let left: usize = admission
            .held
            .each
            .iter()
            .map(|shard| lock(shard).len())
            .sum();
        assert_eq!(left, 0, "an address without a connection is forgotten");
    }

    #[test]
    fn an_ipv6_customer_is_one_address() {
        let admission = admission(100, 1);
        let _held = enter(&admission, "2001:db8::1").expect("a place");
        assert_eq!(
            enter(&admission, "2001:db8::ffff").err(),
            Some(Full::Address)
        );
        assert!(enter(&admission, "2001:db8:0:1::1").is_ok());
    }
}
