//! The flood limit: a coarse bound by client address in front of routing and authentication, so
//! that guessing keys and tokens is never free.

use super::Verdict;
use crate::base::clock::Now;
use crate::base::net::client_prefix;
use crate::exchange::refusal::Refusal;
use crate::limit::Key;
use crate::limit::estimate::Estimator;
use crate::observe::reason::Reason;
use std::net::IpAddr;
use std::sync::Arc;

/// A bound by client address (/32, or /64 of IPv6), estimated: it may count too many within its
/// stated error, never too few.
#[derive(Clone)]
pub struct Flood {
    /// Counts.
    pub estimator: Arc<Estimator>,
}

impl Flood {
    /// Counts one request of the address.
    pub fn request(&self, client: IpAddr, now: Now) -> Verdict {
        let decision = self.estimator.check(
            &Key::new(u64::MAX, &[&client_prefix(client)]),
            now.steady_ms,
            1,
        );
        if decision.allowed {
            return Verdict::Pass;
        }
        let refusal = Refusal::new(Reason::FloodLimited).retry_after_ms(decision.retry_after_ms);
        Verdict::refuse(refusal)
    }
}
