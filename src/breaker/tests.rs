//! Each rule of the breaker on its own; sequences of them are in `tests/prop/breaker.rs`.

use super::*;

fn rule() -> BreakerRule {
    BreakerRule {
        failure_ratio: 0.5,
        min_requests: 5,
        window_ms: 10_000,
        consecutive_failures: 0,
        open_for_ms: 30_000,
        probes: 2,
    }
}

fn breaker(rule: BreakerRule) -> Arc<Breaker> {
    Arc::new(Breaker::new(rule))
}

fn at(ms: u64) -> Now {
    Now::at_ms(ms)
}

fn ask(breaker: &Arc<Breaker>, ms: u64) -> Permit {
    breaker.permit(at(ms)).expect("a permit")
}

fn succeed(breaker: &Arc<Breaker>, ms: u64) -> Option<Transition> {
    ask(breaker, ms).success(at(ms))
}

fn fail(breaker: &Arc<Breaker>, ms: u64) -> Option<Transition> {
    ask(breaker, ms).failure(at(ms))
}

/// A breaker that opened at 1000 ms.
fn opened() -> Arc<Breaker> {
    let breaker = breaker(rule());
    for _ in 0..4 {
        assert_eq!(fail(&breaker, 1000), None);
    }
    let why = Why::Ratio {
        failures: 5,
        total: 5,
    };
    assert_eq!(fail(&breaker, 1000), Some(Transition::Opened(why)));
    breaker
}

#[test]
fn opens_at_the_ratio_once_there_are_enough_requests() {
    let breaker = breaker(rule());
    for _ in 0..3 {
        succeed(&breaker, 0);
    }
    for _ in 0..2 {
        assert_eq!(fail(&breaker, 0), None);
    }
    assert_eq!(breaker.state(), State::Closed, "2 of 5 is under half");
    let opened = fail(&breaker, 0).expect("3 of 6 is half");
    assert_eq!(opened.to(), State::Open);
    assert_eq!(opened.to_string(), "circuit open: 3 of 6 requests failed");
    assert_eq!(breaker.state(), State::Open);
}

// Both targets of a pool were killed under load and brought back: the circuit stayed closed through
// the outage, since older successes outweighed it, and opened on the first good answers after it.
#[test]
fn a_success_never_opens() {
    let breaker = breaker(rule());
    for _ in 0..4 {
        fail(&breaker, 0);
    }
    for _ in 0..3 {
        assert_eq!(
            succeed(&breaker, 0),
            None,
            "4 of 5 failed, but this one did not"
        );
    }
    let why = Why::Ratio {
        failures: 5,
        total: 8,
    };
    assert_eq!(fail(&breaker, 0), Some(Transition::Opened(why)));
}

#[test]
fn failures_that_left_the_window_do_not_count() {
    let breaker = breaker(rule());
    for second in 0..100 {
        assert_eq!(fail(&breaker, second * 2500), None, "4 in any 10 s");
    }
}

#[test]
fn failures_in_a_row_open_and_a_success_breaks_the_row() {
    let breaker = breaker(BreakerRule {
        failure_ratio: 0.0,
        consecutive_failures: 3,
        ..rule()
    });
    for _ in 0..10 {
        fail(&breaker, 0);
        fail(&breaker, 0);
        succeed(&breaker, 0);
    }
    fail(&breaker, 0);
    ask(&breaker, 0).neutral();
    assert_eq!(fail(&breaker, 50_000), None);
    let opened = fail(&breaker, 90_000);
    assert_eq!(opened, Some(Transition::Opened(Why::Consecutive(3))));
}

#[test]
fn with_both_rules_off_it_never_opens() {
    let breaker = breaker(BreakerRule {
        failure_ratio: 0.0,
        ..rule()
    });
    for _ in 0..1000 {
        assert_eq!(fail(&breaker, 0), None);
    }
}

#[test]
fn an_open_circuit_refuses_until_its_time_is_over() {
    let breaker = opened();
    for ms in [1000, 15_000, 30_999] {
        let refused = breaker.permit(at(ms)).err();
        assert_eq!(refused.map(|open| open.retry_after_ms), Some(31_000 - ms));
    }
    let probe = ask(&breaker, 31_000);
    assert!(probe.is_probe());
    assert_eq!(probe.transition(), Some(Transition::HalfOpened));
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn half_open_lets_so_many_probes_run_and_closes_after_so_many_successes() {
    let breaker = opened();
    let first = ask(&breaker, 31_000);
    let second = ask(&breaker, 31_001);
    assert_eq!(second.transition(), None);
    assert_eq!(
        breaker.permit(at(31_002)).err(),
        Some(Open {
            retry_after_ms: 1000
        })
    );
    assert_eq!(first.success(at(31_003)), None);
    let third = ask(&breaker, 31_004);
    assert!(breaker.permit(at(31_004)).is_err());
    assert_eq!(second.success(at(31_005)), Some(Transition::Closed));
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(third.failure(at(31_006)), None, "a late result counts");
    for _ in 0..4 {
        assert_eq!(fail(&breaker, 31_007), None, "the window was not cleared");
    }
}

#[test]
fn one_failed_probe_opens_again() {
    let breaker = opened();
    let (first, second) = (ask(&breaker, 31_000), ask(&breaker, 31_000));
    let opened = first.failure(at(32_000));
    assert_eq!(opened, Some(Transition::Opened(Why::Probe)));
    assert_eq!(second.success(at(32_001)), None);
    let refused = breaker.permit(at(32_001)).err();
    assert_eq!(
        refused,
        Some(Open {
            retry_after_ms: 29_999
        })
    );
    assert!(ask(&breaker, 62_000).is_probe());
}

#[test]
fn a_dropped_or_neutral_probe_gives_its_place_back_and_changes_nothing() {
    let breaker = opened();
    for _ in 0..100 {
        drop(ask(&breaker, 31_000));
        ask(&breaker, 31_000).neutral();
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    assert_eq!(succeed(&breaker, 31_000), None);
    drop(ask(&breaker, 31_000));
    assert_eq!(succeed(&breaker, 31_000), Some(Transition::Closed));
}

#[test]
fn a_lost_probe_holds_its_place_no_longer_than_its_deadline() {
    let breaker = opened();
    let lost = [ask(&breaker, 31_000), ask(&breaker, 31_000)];
    let refused = breaker.permit(at(60_500)).err();
    assert_eq!(
        refused,
        Some(Open {
            retry_after_ms: 500
        })
    );
    let (a, b) = (ask(&breaker, 61_000), ask(&breaker, 61_000));
    assert!(breaker.permit(at(61_000)).is_err());
    assert_eq!(a.success(at(61_001)), None);
    assert_eq!(b.success(at(61_001)), Some(Transition::Closed));
    drop(lost);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_probe_that_fails_after_its_deadline_still_opens() {
    let breaker = opened();
    let slow = ask(&breaker, 31_000);
    let opened = slow.failure(at(70_000));
    assert_eq!(opened, Some(Transition::Opened(Why::Probe)));
}

#[test]
fn results_from_before_the_circuit_opened_are_ignored() {
    let breaker = breaker(rule());
    let late: Vec<_> = (0..20).map(|_| ask(&breaker, 0)).collect();
    for _ in 0..5 {
        fail(&breaker, 0);
    }
    let mut late = late.into_iter();
    assert_eq!(late.next().unwrap().success(at(1)), None);
    let probe = ask(&breaker, 30_000);
    assert_eq!(late.next().unwrap().failure(at(30_001)), None);
    assert_eq!(breaker.state(), State::HalfOpen, "a late failure opened it");
    probe.success(at(30_002));
    succeed(&breaker, 30_003);
    assert_eq!(breaker.state(), State::Closed);
    for permit in late {
        assert_eq!(
            permit.failure(at(30_004)),
            None,
            "late results were counted"
        );
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn zeros_in_the_rule_read_as_ones() {
    let breaker = breaker(BreakerRule {
        failure_ratio: 1.0,
        min_requests: 0,
        window_ms: 0,
        consecutive_failures: 0,
        open_for_ms: 0,
        probes: 0,
    });
    assert!(fail(&breaker, 5).is_some());
    assert!(breaker.permit(at(5)).is_err());
    assert_eq!(succeed(&breaker, 6), Some(Transition::Closed));
}

#[test]
fn of_threads_that_trip_it_at_once_one_says_so() {
    for _ in 0..100 {
        let breaker = breaker(rule());
        let permits: Vec<_> = (0..40).map(|_| ask(&breaker, 0)).collect();
        let shares = Mutex::new(permits);
        let told: usize = std::thread::scope(|scope| {
            let work = || {
                let next = || shares.lock().unwrap().pop();
                std::iter::from_fn(next)
                    .filter_map(|p| p.failure(at(1)))
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(told, 1);
        assert_eq!(breaker.state(), State::Open);
    }
}
