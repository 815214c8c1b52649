//! The breaker's states as plain values: a time goes in, an answer and perhaps a change of state come out.

use std::fmt;
use std::num::NonZeroU64;

/// Where a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass and are counted.
    Closed = 0,
    /// Requests are refused.
    Open = 1,
    /// A few requests pass, to find out whether the upstream is well again.
    HalfOpen = 2,
}

/// What became of an admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered, and not with what counts as a failure.
    Success,
    /// A timeout, a reset, a refused connection or a failing answer.
    Failure,
    /// Nothing was learnt: the client went away, or the request never reached the upstream.
    Neutral,
}

/// The refusal of an open circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("circuit open")]
pub struct Open {
    /// Milliseconds until a request may become a probe, at least 1. While all probes are in flight: until
    /// the oldest one's deadline, but no more than a second, as any answer may end it sooner.
    pub retry_after_ms: u64,
}

/// A change of state, once to whoever brought it about. `Display` is the text for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The circuit opened; worth a warning.
    Opened(Why),
    /// The first probe is on its way.
    HalfOpened,
    /// The probes succeeded.
    Closed,
}

/// Why a circuit opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// So many of the window's requests failed.
    Ratio {
        /// Failed requests in the window.
        failures: u32,
        /// All requests in the window.
        total: u32,
    },
    /// So many failed in a row.
    Consecutive(u32),
    /// A probe failed.
    Probe,
}

impl Transition {
    /// The state that was entered.
    pub fn to(self) -> State {
        match self {
            Transition::Opened(_) => State::Open,
            Transition::HalfOpened => State::HalfOpen,
            Transition::Closed => State::Closed,
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transition::Opened(Why::Ratio { failures, total }) => {
                write!(f, "circuit open: {failures} of {total} requests failed")
            }
            Transition::Opened(Why::Consecutive(run)) => {
                write!(f, "circuit open: {run} requests failed in a row")
            }
            Transition::Opened(Why::Probe) => f.write_str("circuit open again: a probe failed"),
            Transition::HalfOpened => f.write_str("circuit half-open: probing"),
            Transition::Closed => f.write_str("circuit closed: the probes succeeded"),
        }
    }
}

/// The mark of an admitted request. Generations count the changes of state: a report from an earlier
/// one is late and says nothing about the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
    probe: Option<NonZeroU64>,
}

impl Ticket {
    /// A request of a closed circuit.
    pub fn counted(generation: u64) -> Self {
        Self {
            generation,
            probe: None,
        }
    }

    /// Whether the request is a probe.
    pub fn is_probe(self) -> bool {
        self.probe.is_some()
    }

    /// The generation it was admitted in.
    pub fn generation(self) -> u64 {
        self.generation
    }
}

#[derive(Debug)]
struct Probe {
    id: NonZeroU64,
    deadline_ms: u64,
}

/// The states and their changes. Times are steady milliseconds.
#[derive(Debug)]
pub struct Machine {
    open_for_ms: u64,
    probes: u32,
    state: State,
    generation: u64,
    /// While open.
    until_ms: u64,
    /// While half-open: probes whose outcome is awaited, and how many have succeeded.
    in_flight: Vec<Probe>,
    successes: u32,
    next_id: NonZeroU64,
}

impl Machine {
    /// A closed circuit that stays open for `open_for_ms` and lets `probes` probes run at once (each at
    /// least 1).
    pub fn new(open_for_ms: u64, probes: u32) -> Self {
        Self {
            open_for_ms: open_for_ms.max(1),
            probes: probes.max(1),
            state: State::Closed,
            generation: 0,
            until_ms: 0,
            in_flight: Vec::new(),
            successes: 0,
            next_id: NonZeroU64::MIN,
        }
    }

    /// The state it is in.
    pub fn state(&self) -> State {
        self.state
    }

    /// How often the state has changed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the open circuit may be probed; of the last time it was open if it is not.
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Answers a request that wants to pass.
    pub fn permit(&mut self, now_ms: u64) -> (Result<Ticket, Open>, Option<Transition>) {
        match self.state {
            State::Closed => (Ok(Ticket::counted(self.generation)), None),
            State::Open if now_ms < self.until_ms => (Err(wait(self.until_ms - now_ms)), None),
            State::Open => {
                self.enter(State::HalfOpen);
                (self.probe(now_ms), Some(Transition::HalfOpened))
            }
            State::HalfOpen => (self.probe(now_ms), None),
        }
    }

    /// Opens a closed circuit of this generation; does nothing if another was first.
    pub fn trip(&mut self, now_ms: u64, generation: u64, why: Why) -> Option<Transition> {
        let current = self.state == State::Closed && self.generation == generation;
        current.then(|| self.open(now_ms, why))
    }

    /// Takes in a probe's outcome. Its place is free again whatever it is, and whether it comes in
    /// time or after its deadline.
    pub fn report(&mut self, now_ms: u64, ticket: Ticket, outcome: Outcome) -> Option<Transition> {
        if self.state != State::HalfOpen || ticket.generation != self.generation {
            return None;
        }
        self.in_flight
            .retain(|probe| Some(probe.id) != ticket.probe);
        match outcome {
            Outcome::Neutral => None,
            Outcome::Failure => Some(self.open(now_ms, Why::Probe)),
            Outcome::Success => {
                self.successes += 1;
                (self.successes >= self.probes).then(|| {
                    self.enter(State::Closed);
                    Transition::Closed
                })
            }
        }
    }

    /// Admits a probe if fewer than allowed are in flight. One past its deadline is taken to be lost.
    fn probe(&mut self, now_ms: u64) -> Result<Ticket, Open> {
        self.in_flight.retain(|probe| now_ms < probe.deadline_ms);
        if self.in_flight.len() >= self.probes as usize {
            let first = self.in_flight.iter().map(|probe| probe.deadline_ms).min();
            return Err(wait(first.map_or(1, |ms| ms - now_ms).min(1000)));
        }
        let id = self.next_id;
        self.next_id = id.saturating_add(1);
        self.in_flight.push(Probe {
            id,
            deadline_ms: now_ms.saturating_add(self.open_for_ms),
        });
        Ok(Ticket {
            generation: self.generation,
            probe: Some(id),
        })
    }

    fn open(&mut self, now_ms: u64, why: Why) -> Transition {
        self.enter(State::Open);
        self.until_ms = now_ms.saturating_add(self.open_for_ms);
        Transition::Opened(why)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.in_flight.clear();
        self.successes = 0;
    }
}

fn wait(ms: u64) -> Open {
    Open { retry_after_ms: ms }
}
