//! How many credentials of one address are refused before its further ones are not looked at: guessing
//! is never free, and neither a signature nor a look-up is spent on it.

use crate::base::clock::Now;
use crate::base::net::client_prefix;
use crate::limit::Key;
use crate::limit::exact::Store;
use crate::limit::rule::Rule;
use std::net::IpAddr;
use std::sync::Arc;

/// A bound on refused credentials by client address (/32, or /64 of IPv6). Each one counts by itself;
/// of those that are judged at the same moment a few more may be.
#[derive(Clone)]
pub struct Failures {
    /// The counts.
    pub store: Arc<Store>,
    /// How many in which time.
    pub rule: Rule,
}

impl Failures {
    /// Milliseconds until a credential of this address is looked at again; none if one may be now.
    pub fn wait_ms(&self, client: IpAddr, now: Now) -> Option<u64> {
        let decision = self.store.peek(&self.rule, &key(client), now.steady_ms, 1);
        (!decision.allowed).then_some(decision.retry_after_ms)
    }

    /// Counts a refused credential.
    pub fn count(&self, client: IpAddr, now: Now) {
        self.store.check(&self.rule, &key(client), now.steady_ms, 1);
    }
}

fn key(client: IpAddr) -> Key {
    Key::new(u64::MAX - 1, &[&client_prefix(client)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::sliding_window::SlidingWindow;

    #[test]
    fn an_address_is_barred_for_as_long_as_it_has_failed_too_often() {
        let failures = Failures {
            store: Arc::new(Store::new(10).expect("a table")),
            rule: Rule::SlidingWindow(SlidingWindow::new(3, 60_000).expect("a rule")),
        };
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let now = Now::at_ms(600_000);
        for _ in 0..3 {
            assert_eq!(failures.wait_ms(one, now), None);
            failures.count(one, now);
        }
        let wait = failures.wait_ms(one, now).expect("barred");
        assert!((1..=120_000).contains(&wait), "{wait}");
        assert_eq!(failures.wait_ms(other, now), None, "another's affair");
        assert_eq!(failures.wait_ms(one, Now::at_ms(600_000 + wait)), None);
    }
}
