//! The permit an admitted request holds until its outcome is known.

use super::Breaker;
use super::machine::{Outcome, Ticket, Transition};
use crate::base::clock::Now;
use std::sync::Arc;

/// Leave to send one request. Dropping it without a verdict is the same as [`Permit::neutral`], so no
/// way out of a request (timeout, cancellation, panic) can keep a probe's place.
#[must_use = "a permit dropped at once counts for nothing"]
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    ticket: Ticket,
    half_opened: bool,
    settled: bool,
}

impl Permit {
    pub(super) fn new(breaker: Arc<Breaker>, ticket: Ticket, half_opened: bool) -> Self {
        Self {
            breaker,
            ticket,
            half_opened,
            settled: false,
        }
    }

    /// [`Transition::HalfOpened`] if asking for this permit made the circuit half-open.
    pub fn transition(&self) -> Option<Transition> {
        self.half_opened.then_some(Transition::HalfOpened)
    }

    /// Whether this request probes a half-open circuit.
    pub fn is_probe(&self) -> bool {
        self.ticket.is_probe()
    }

    /// The upstream answered. A change of state this brought about is returned, to be logged.
    pub fn success(self, now: Now) -> Option<Transition> {
        self.settle(now, Outcome::Success)
    }

    /// The upstream failed. A change of state this brought about is returned, to be logged.
    pub fn failure(self, now: Now) -> Option<Transition> {
        self.settle(now, Outcome::Failure)
    }

    /// Nothing was learnt of the upstream; the place is given back.
    pub fn neutral(self) {}

    fn settle(mut self, now: Now, outcome: Outcome) -> Option<Transition> {
        self.settled = true;
        self.breaker.report(self.ticket, now, outcome)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            // A neutral report changes no state, so it needs no time.
            self.breaker
                .report(self.ticket, Now::default(), Outcome::Neutral);
        }
    }
}
