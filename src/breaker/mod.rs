//! Circuit breaker: stops asking an upstream that keeps failing, and finds out when it is well again.
//!
//! Closed, requests pass and their outcomes are counted ([`window`]); when they trip the rule the circuit
//! opens and refuses at once. After `open_for` the next request becomes a probe: half-open, a few probes at
//! a time pass; enough successes close the circuit, one failure opens it again ([`machine`]). Every
//! admitted request holds a [`Permit`] that gives its place back whatever becomes of it ([`permit`]).
//!
//! One [`Breaker`] is shared by all threads. While it is closed or open nothing is locked: a permit is one
//! atomic load, a report one compare-exchange on a slice of the window. The mutex around the
//! machine is taken to change state and while half-open, when at most a handful of requests pass.
//!
//! Which outcomes are failures is for the caller to say: timeouts, resets, refused connections and 5xx
//! answers are; 4xx answers are not; a client that went away is neutral. Only a failure opens the circuit.

mod machine;
mod permit;
mod window;

pub use machine::{Open, Outcome, State, Transition, Why};
pub use permit::Permit;

use crate::base::clock::Now;
use machine::{Machine, Ticket};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError};
use window::{Counts, Window};

/// When a circuit opens and how it closes. Both ways to trip may be on; with neither it never opens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerRule {
    /// Opens when this share of the window's requests failed, over 0 to 1; 0 is off.
    pub failure_ratio: f64,
    /// The ratio is not judged on fewer requests than this in the window; 0 reads as 1.
    pub min_requests: u32,
    /// Length of the rolling window in milliseconds; moves in tenths, at least 1 ms each.
    pub window_ms: u64,
    /// Opens after so many failures in a row; 0 is off.
    pub consecutive_failures: u32,
    /// Milliseconds from opening to the first probe, and how long a probe may take before its place is
    /// considered free; 0 reads as 1.
    pub open_for_ms: u64,
    /// Probes in flight at once, and successes that close the circuit; 0 reads as 1.
    pub probes: u32,
}

impl BreakerRule {
    fn trips(&self, counts: Option<Counts>, run: u32) -> Option<Why> {
        let Counts { total, failures } = counts?;
        if self.consecutive_failures > 0 && run >= self.consecutive_failures {
            return Some(Why::Consecutive(run));
        }
        let ratio = f64::from(failures) / f64::from(total);
        let judged = self.failure_ratio > 0.0 && total >= self.min_requests.max(1);
        (judged && ratio >= self.failure_ratio).then_some(Why::Ratio { failures, total })
    }
}

/// One circuit, shared by all threads.
#[derive(Debug)]
pub struct Breaker {
    rule: BreakerRule,
    /// What the machine last said: its generation times four, plus its state.
    word: AtomicU64,
    /// While open: when it ends, in steady milliseconds. Written before `word` says so.
    until_ms: AtomicU64,
    window: Window,
    machine: Mutex<Machine>,
}

impl Breaker {
    /// A closed circuit.
    pub fn new(rule: BreakerRule) -> Self {
        Self {
            rule,
            word: AtomicU64::new(pack(0, State::Closed)),
            until_ms: AtomicU64::new(0),
            window: Window::new(rule.window_ms),
            machine: Mutex::new(Machine::new(rule.open_for_ms, rule.probes)),
        }
    }

    /// Asks to send one request.
    ///
    /// # Errors
    /// [`Open`] if the circuit is open, or half-open with all probes in flight.
    pub fn permit(self: &Arc<Self>, now: Now) -> Result<Permit, Open> {
        let (generation, state) = unpack(self.word.load(Acquire));
        if state == State::Closed {
            let ticket = Ticket::counted(generation);
            return Ok(Permit::new(Arc::clone(self), ticket, false));
        }
        let wait_ms = self.until_ms.load(Acquire).saturating_sub(now.steady_ms);
        if state == State::Open && wait_ms > 0 {
            return Err(Open {
                retry_after_ms: wait_ms,
            });
        }
        let (ticket, half_opened) = self.change(|machine| {
            let (answer, transition) = machine.permit(now.steady_ms);
            let half_opened = transition.is_some();
            (answer.map(|ticket| (ticket, half_opened)), transition)
        })?;
        Ok(Permit::new(Arc::clone(self), ticket, half_opened))
    }

    /// The state, for a metric. Open stays so until a request asks after `open_for`.
    pub fn state(&self) -> State {
        unpack(self.word.load(Acquire)).1
    }

    /// Takes in what became of an admitted request.
    fn report(&self, ticket: Ticket, now: Now, outcome: Outcome) -> Option<Transition> {
        let now_ms = now.steady_ms;
        if ticket.is_probe() {
            return self.change(|machine| {
                let transition = machine.report(now_ms, ticket, outcome);
                (transition, transition)
            });
        }
        let failed = match outcome {
            Outcome::Neutral => return None,
            Outcome::Success => false,
            Outcome::Failure => true,
        };
        let generation = ticket.generation();
        if self.word.load(Acquire) != pack(generation, State::Closed) {
            return None;
        }
        let run = if self.rule.consecutive_failures > 0 {
            self.window.run(generation, failed)
        } else {
            0
        };
        let counts = self.window.record(generation, now_ms, failed);
        // An old failure's share grows as old successes leave the window; an upstream that just
        // answered well must not be given up for that.
        if !failed {
            return None;
        }
        let why = self.rule.trips(counts, run)?;
        self.change(|machine| {
            let transition = machine.trip(now_ms, generation, why);
            (transition, transition)
        })
    }

    /// Runs a step of the machine and, if it changed state, tells the lock-free side.
    fn change<T>(&self, step: impl FnOnce(&mut Machine) -> (T, Option<Transition>)) -> T {
        // A step that panicked half-way is not known; the machine is plain data and stays usable.
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, transition) = step(&mut machine);
        if transition.is_some() {
            self.until_ms.store(machine.until_ms(), Release);
            let word = pack(machine.generation(), machine.state());
            self.word.store(word, Release);
        }
        answer
    }
}

fn pack(generation: u64, state: State) -> u64 {
    generation << 2 | state as u64
}

fn unpack(word: u64) -> (u64, State) {
    let state = match word & 3 {
        0 => State::Closed,
        1 => State::Open,
        _ => State::HalfOpen,
    };
    (word >> 2, state)
}

#[cfg(test)]
mod tests;
