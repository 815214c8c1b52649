//! The breaker against a twin that keeps every event with its time and judges from the list.

use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tollgate::base::clock::Now;
use tollgate::breaker::{Breaker, BreakerRule, Permit, State};

/// The twin's idea of where it is; each state with all that has happened in it.
#[derive(Debug)]
enum Phase {
    Closed {
        results: Vec<(u64, bool)>,
    },
    Open {
        since: u64,
    },
    HalfOpen {
        asked: Vec<(usize, u64)>,
        over: Vec<usize>,
        good: u32,
    },
}

#[derive(Debug)]
struct Twin {
    rule: BreakerRule,
    phase: Phase,
    /// The phase that each permit was given in, by its number.
    given: Vec<u64>,
    phases: u64,
}

impl Twin {
    fn new(rule: BreakerRule) -> Self {
        let phase = Phase::Closed { results: vec![] };
        Self {
            rule,
            phase,
            given: vec![],
            phases: 0,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phases += 1;
    }

    /// The number of the permit, or the time to wait at most.
    fn ask(&mut self, now: u64) -> Result<usize, u64> {
        if let Phase::Open { since } = self.phase {
            let end = since + self.rule.open_for_ms;
            if now < end {
                return Err(end - now);
            }
            self.enter(Phase::HalfOpen {
                asked: vec![],
                over: vec![],
                good: 0,
            });
        }
        let number = self.given.len();
        if let Phase::HalfOpen { asked, over, .. } = &mut self.phase {
            let waiting =
                |(n, at): &&(usize, u64)| !over.contains(n) && now < at + self.rule.open_for_ms;
            if asked.iter().filter(waiting).count() >= self.rule.probes as usize {
                return Err(1000);
            }
            asked.push((number, now));
        }
        self.given.push(self.phases);
        Ok(number)
    }

    fn result(&mut self, number: usize, now: u64, failed: Option<bool>) {
        if self.given[number] != self.phases {
            return;
        }
        match (&mut self.phase, failed) {
            (Phase::Closed { results }, Some(failed)) => {
                results.push((now, failed));
                if failed && tripped(&self.rule, results, now) {
                    self.enter(Phase::Open { since: now });
                }
            }
            (Phase::HalfOpen { over, .. }, None) => over.push(number),
            (Phase::HalfOpen { .. }, Some(true)) => self.enter(Phase::Open { since: now }),
            (Phase::HalfOpen { over, good, .. }, Some(false)) => {
                over.push(number);
                *good += 1;
                if *good >= self.rule.probes {
                    self.enter(Phase::Closed { results: vec![] });
                }
            }
            _ => {}
        }
    }

    fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }
}

/// Whether these results, the last one just in, open a closed circuit.
fn tripped(rule: &BreakerRule, results: &[(u64, bool)], now: u64) -> bool {
    let slice = rule.window_ms / 10;
    let recent: Vec<_> = results
        .iter()
        .filter(|(at, _)| now / slice - at / slice < 10)
        .collect();
    let failures = recent.iter().filter(|(_, failed)| *failed).count();
    let share = failures as f64 / recent.len() as f64;
    let row = results
        .iter()
        .rev()
        .take_while(|(_, failed)| *failed)
        .count();
    let by_share = rule.failure_ratio > 0.0
        && recent.len() >= rule.min_requests as usize
        && share >= rule.failure_ratio;
    by_share || rule.consecutive_failures > 0 && row >= rule.consecutive_failures as usize
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    Success(prop::sample::Index),
    Failure(prop::sample::Index),
    Neutral(prop::sample::Index),
    Drop(prop::sample::Index),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        8 => Just(Step::Ask),
        4 => which().prop_map(Step::Success),
        4 => which().prop_map(Step::Failure),
        1 => which().prop_map(Step::Neutral),
        1 => which().prop_map(Step::Drop),
        4 => prop_oneof![0_u64..200, 0_u64..3000, Just(1_000_000)].prop_map(Step::Wait),
    ]
}

fn rule() -> impl Strategy<Value = BreakerRule> {
    let ratio = prop_oneof![Just(0.0), Just(0.1), Just(0.5), Just(1.0)];
    (ratio, 1_u32..8, 1_u64..5, 0_u32..5, 1_u64..3000, 1_u32..4).prop_map(
        |(failure_ratio, min_requests, seconds, consecutive_failures, open_for_ms, probes)| {
            let window_ms = seconds * 1000;
            BreakerRule {
                failure_ratio,
                min_requests,
                window_ms,
                consecutive_failures,
                open_for_ms,
                probes,
            }
        },
    )
}

/// The breaker and its twin, and the permits that have not come back.
struct Pair {
    breaker: Arc<Breaker>,
    twin: Twin,
    out: Vec<(usize, Permit)>,
    now: u64,
}

impl Pair {
    fn new(rule: BreakerRule) -> Self {
        let breaker = Arc::new(Breaker::new(rule));
        Self {
            breaker,
            twin: Twin::new(rule),
            out: vec![],
            now: 1_700_000_000_000,
        }
    }

    fn ask(&mut self) -> Result<(), TestCaseError> {
        let (got, wanted) = (
            self.breaker.permit(Now::at_ms(self.now)),
            self.twin.ask(self.now),
        );
        match (got, wanted) {
            (Ok(permit), Ok(number)) => {
                let turned = self.twin.state() == State::HalfOpen;
                prop_assert_eq!(permit.is_probe(), turned);
                self.out.push((number, permit));
            }
            (Err(open), Err(most)) => {
                prop_assert!(
                    (1..=most).contains(&open.retry_after_ms),
                    "{open:?}, {most}"
                );
                let exact = self.twin.state() == State::Open;
                prop_assert!(!exact || open.retry_after_ms == most);
            }
            (got, wanted) => prop_assert!(false, "got {got:?}, the twin {wanted:?}"),
        }
        Ok(())
    }

    /// Ends one of the permits that are out.
    fn end(&mut self, which: prop::sample::Index, failed: Option<bool>, dropped: bool) {
        if self.out.is_empty() {
            return;
        }
        let (number, permit) = self.out.swap_remove(which.index(self.out.len()));
        self.twin.result(number, self.now, failed);
        let now = Now::at_ms(self.now);
        let told = match failed {
            Some(true) => permit.failure(now),
            Some(false) => permit.success(now),
            None if dropped => {
                drop(permit);
                None
            }
            None => {
                permit.neutral();
                None
            }
        };
        if let Some(transition) = told {
            assert_eq!(transition.to(), self.breaker.state());
        }
    }

    fn run(&mut self, steps: Vec<Step>) -> Result<(), TestCaseError> {
        for step in steps {
            match step {
                Step::Ask => self.ask()?,
                Step::Success(which) => self.end(which, Some(false), false),
                Step::Failure(which) => self.end(which, Some(true), false),
                Step::Neutral(which) => self.end(which, None, false),
                Step::Drop(which) => self.end(which, None, true),
                Step::Wait(ms) => self.now += ms,
            }
            prop_assert_eq!(self.breaker.state(), self.twin.state());
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_breaker_does_as_the_twin(
        rule in rule(),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        Pair::new(rule).run(steps)?;
    }

    /// From wherever it got to, with any number of probes lost, it heals once requests succeed.
    #[test]
    fn it_always_heals(rule in rule(), steps in prop::collection::vec(step(), 1..200)) {
        let mut pair = Pair::new(rule);
        pair.run(steps)?;
        let now = Now::at_ms(pair.now + rule.open_for_ms);
        let healed = |now: Now| (0..rule.probes).all(|_| {
            pair.breaker.permit(now).is_ok_and(|permit| {
                permit.success(now);
                true
            })
        });
        let later = Now::at_ms(now.steady_ms + rule.open_for_ms);
        prop_assert!(healed(now) || healed(later), "still refuses");
        prop_assert_eq!(pair.breaker.state(), State::Closed);
    }
}

#[test]
fn threads_never_run_more_probes_than_allowed() {
    let rule = BreakerRule {
        failure_ratio: 0.0,
        min_requests: 1,
        window_ms: 10_000,
        consecutive_failures: 1,
        open_for_ms: 1000,
        probes: 3,
    };
    for round in 0..50 {
        let breaker = Arc::new(Breaker::new(rule));
        let failing = breaker.permit(Now::at_ms(0)).unwrap();
        assert!(failing.failure(Now::at_ms(0)).is_some());
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let probe = |thread: usize| {
            for n in 0..200 {
                let Ok(permit) = breaker.permit(Now::at_ms(1000)) else {
                    continue;
                };
                assert!(permit.is_probe());
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                // Neutral or dropped, so that it stays half-open throughout.
                if (n + thread).is_multiple_of(2) {
                    permit.neutral();
                }
            }
        };
        thread::scope(|scope| {
            for thread in 0..8 {
                let probe = &probe;
                scope.spawn(move || probe(thread));
            }
        });
        let most = most.into_inner();
        assert!(
            (1..=3).contains(&most),
            "{most} probes at once in round {round}"
        );
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}
