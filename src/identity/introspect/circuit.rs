//! Whether an issuer is asked at all: after several failures in a row only one query at a time, and
//! one in a second, finds out whether it is back. A dead issuer then costs one wait, not one a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

/// So many failures in a row.
const FAILURES: u32 = 5;
/// The least time between two probes, in milliseconds.
const PROBE_EVERY_MS: u64 = 1000;

/// How an issuer did lately.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: AtomicU32,
    probing: AtomicBool,
    next_probe_ms: AtomicU64,
}

/// How a query went, as far as the issuer's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered as it should.
    Good,
    /// It did not.
    Bad,
    /// It answered, with something that may be about this one token. Counted, anybody could have
    /// the issuer given up with tokens that it cannot cope with.
    Unclear,
}

/// What a query changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The issuer is given up.
    Opened,
    /// It is back.
    Closed,
}

/// Leave to ask. Gives way to the next probe when it is dropped, however the query ended.
#[derive(Debug)]
pub(super) struct Permit {
    circuit: Arc<Circuit>,
    probes: bool,
}

impl Circuit {
    /// Whether the issuer is given up.
    pub fn is_open(&self) -> bool {
        self.failures.load(SeqCst) >= FAILURES
    }

    /// Leave to ask at `now_ms` (steady).
    pub fn permit(self: &Arc<Self>, now_ms: u64) -> Option<Permit> {
        let probes = self.is_open();
        if probes {
            let early = now_ms < self.next_probe_ms.load(SeqCst);
            if early || self.probing.swap(true, SeqCst) {
                return None;
            }
        }
        Some(Permit {
            circuit: Arc::clone(self),
            probes,
        })
    }
}

impl Permit {
    /// Notes how the query went.
    pub fn settle(self, health: Health, now_ms: u64) -> Option<Change> {
        let circuit = &self.circuit;
        match health {
            Health::Good => {
                let failures = circuit.failures.swap(0, SeqCst);
                (failures >= FAILURES).then_some(Change::Closed)
            }
            Health::Bad => {
                let failures = circuit.failures.fetch_add(1, SeqCst).saturating_add(1);
                let next = now_ms.saturating_add(PROBE_EVERY_MS);
                circuit.next_probe_ms.store(next, SeqCst);
                (failures == FAILURES).then_some(Change::Opened)
            }
            Health::Unclear => {
                let next = now_ms.saturating_add(PROBE_EVERY_MS);
                circuit.next_probe_ms.store(next, SeqCst);
                None
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probes {
            self.circuit.probing.store(false, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(circuit: &Arc<Circuit>, now_ms: u64) -> Option<Change> {
        let permit = circuit.permit(now_ms).expect("leave to ask");
        permit.settle(Health::Bad, now_ms)
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let circuit = Arc::new(Circuit::default());
        for _ in 0..FAILURES - 1 {
            assert_eq!(fail(&circuit, 0), None);
        }
        let good = circuit.permit(0).expect("leave to ask");
        assert_eq!(good.settle(Health::Good, 0), None);
        for _ in 0..FAILURES - 1 {
            assert_eq!(fail(&circuit, 0), None);
        }
        let unclear = circuit.permit(0).expect("leave to ask");
        assert_eq!(unclear.settle(Health::Unclear, 0), None);
        assert!(!circuit.is_open());
        assert_eq!(fail(&circuit, 0), Some(Change::Opened));
        assert!(circuit.is_open() && circuit.permit(999).is_none());
        let probe = circuit.permit(1000).expect("a probe");
        assert!(circuit.permit(5000).is_none(), "one at a time");
        assert_eq!(probe.settle(Health::Bad, 5000), None);
        assert!(circuit.permit(5999).is_none(), "not at once");
        let probe = circuit.permit(6000).expect("the next");
        assert_eq!(probe.settle(Health::Good, 6000), Some(Change::Closed));
        assert!(circuit.permit(6000).is_some() && circuit.permit(6000).is_some());
    }

    #[test]
    fn a_probe_that_is_broken_off_gives_way() {
        let circuit = Arc::new(Circuit::default());
        let mut left: Vec<_> = (0..=FAILURES).filter_map(|_| circuit.permit(0)).collect();
        let late = left.pop().expect("one more");
        for permit in left {
            permit.settle(Health::Bad, 0);
        }
        drop(circuit.permit(1000).expect("a probe"));
        let probe = circuit.permit(1000).expect("another");
        drop(late);
        assert!(circuit.permit(1000).is_none(), "only a probe ends a probe");
        drop(probe);
        assert!(circuit.permit(1000).is_some());
    }
}
