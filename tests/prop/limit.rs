//! Limits against a naive twin: a map of counts per client and window, and the formula as it is written.

use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;
use tollgate::limit::exact::Store;
use tollgate::limit::rule::Rule;
use tollgate::limit::sliding_window::{SlidingWindow, State};
use tollgate::limit::{Decision, Key};

const START: u64 = 1_700_000_000_000;

/// Everything ever admitted, never forgotten.
#[derive(Default)]
struct Twin {
    admitted: HashMap<(u64, u64), u64>,
    newest: HashMap<u64, u64>,
}

impl Twin {
    fn of(&self, key: u64, window: u64) -> u128 {
        self.admitted
            .get(&(key, window))
            .copied()
            .unwrap_or(0)
            .into()
    }

    /// Whether the client may pass at `now`, or at the start of the newest window it was admitted in.
    fn check(&mut self, (limit, window_ms): (u64, u64), key: u64, now: u64, cost: u64) -> bool {
        let newest = self.newest.get(&key).copied().unwrap_or(0);
        let now = now.max(newest * window_ms);
        let (window, elapsed) = (now / window_ms, now % window_ms);
        let scale = u128::from(window_ms);
        let before = if window == 0 {
            0
        } else {
            self.of(key, window - 1)
        };
        let estimate = before * (scale - u128::from(elapsed)) + self.of(key, window) * scale;
        // The last of `cost` single requests meets an estimate that has not reached the limit.
        let allowed = estimate + u128::from(cost) * scale < u128::from(limit + 1) * scale;
        if allowed && cost > 0 {
            *self.admitted.entry((key, window)).or_default() += cost;
            self.newest.insert(key, window);
        }
        allowed
    }
}

fn key(n: u64) -> Key {
    Key::new(1, &[b"client", &n.to_le_bytes()])
}

fn window(limit: u64, window_ms: u64) -> Rule {
    SlidingWindow::new(limit, window_ms).unwrap().into()
}

fn hundred_a_minute() -> Rule {
    window(100, 60_000)
}

/// Runs `work(thread number)` on so many threads at once and sums what they return.
fn together(threads: u64, work: impl Fn(u64) -> u64 + Sync) -> u64 {
    let barrier = Barrier::new(threads as usize);
    thread::scope(|scope| {
        let (barrier, work) = (&barrier, &work);
        let handles: Vec<_> = (0..threads)
            .map(|n| {
                scope.spawn(move || {
                    barrier.wait();
                    work(n)
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap()).sum()
    })
}

proptest! {
    #[test]
    fn the_store_decides_as_the_twin(
        limit in 1_u64..20,
        seconds in 1_u64..90,
        steps in prop::collection::vec((0_u64..6, -300_i64..4000, 0_u32..4, 1_u64..4), 1..400),
    ) {
        let rule = window(limit, seconds * 1000);
        let (store, mut twin) = (Store::new(64).unwrap(), Twin::default());
        let mut now = START;
        for (client, step, cost, leap) in steps {
            now = now.saturating_add_signed(step * if leap == 3 { 20 } else { 1 });
            let decision = store.check(&rule, &key(client), now, cost);
            let expected = twin.check((limit, seconds * 1000), client, now, cost.into());
            prop_assert_eq!(decision.allowed, expected, "client {} at {}", client, now);
            prop_assert_eq!(decision.limit, limit);
            prop_assert!(decision.remaining <= limit);
            prop_assert!(decision.reset_ms > now);
        }
        prop_assert_eq!(store.evictions(), 0);
    }

    #[test]
    fn a_refused_request_passes_exactly_when_it_was_told_to_return(
        limit in 1_u64..2000,
        seconds in 1_u64..100_000,
        (prev, curr) in (0_u32..2500, 0_u32..2500),
        elapsed in 0_u64..250_000_000,
        cost in 1_u32..50,
    ) {
        let rule = SlidingWindow::new(limit, seconds * 1000).unwrap();
        let start_ms = START - START % rule.window_ms();
        let now = start_ms + elapsed % (rule.window_ms() * 5 / 2);
        let state = State { start_ms, prev, curr };
        let (after, first) = rule.decide(state, now, cost);
        if first.allowed {
            prop_assert_eq!(first.retry_after_ms, 0);
            prop_assert_eq!(u64::from(after.curr) >= u64::from(cost), true);
        } else if u64::from(cost) > limit {
            prop_assert_eq!(first.retry_after_ms, Decision::NEVER);
        } else {
            let free = now + first.retry_after_ms;
            prop_assert!(free > now);
            prop_assert!(rule.decide(after, free, cost).1.allowed, "refused when told to return");
            prop_assert!(!rule.decide(after, free - 1, cost).1.allowed, "allowed 1 ms before");
        }
    }

    #[test]
    fn remaining_is_what_would_still_pass(
        limit in 1_u64..300,
        (prev, curr) in (0_u32..300, 0_u32..300),
        elapsed in 0_u64..60_000,
    ) {
        let rule = SlidingWindow::new(limit, 60_000).unwrap();
        let start_ms = START - START % 60_000;
        let (mut state, now) = (State { start_ms, prev, curr }, start_ms + elapsed);
        let (after, told) = rule.decide(state, now, 1);
        state = after;
        let mut passed = 0;
        loop {
            let (after, decision) = rule.decide(state, now, 1);
            if !decision.allowed {
                break;
            }
            passed += 1;
            state = after;
        }
        prop_assert_eq!(told.remaining, passed);
    }
}

#[test]
fn a_hundred_thousand_clients_at_half_their_limit_are_never_refused() {
    let (store, rule) = (Store::new(100_000).unwrap(), hundred_a_minute());
    for round in 0..50 {
        for n in 0..100_000 {
            let decision = store.check(&rule, &key(n), START + round * 500, 1);
            assert!(decision.allowed, "client {n}, request {round}");
        }
    }
    assert!(store.evictions() < 10, "{} evictions", store.evictions());
    assert!(store.live_keys(START + 25_000) > 99_900);
}

#[test]
fn ten_times_more_keys_than_room_take_no_more_memory() {
    let (store, rule) = (Store::new(10_000).unwrap(), hundred_a_minute());
    for n in 0..100_000 {
        assert!(store.check(&rule, &key(n), START, 1).allowed);
    }
    assert!(store.memory_used() <= Store::memory_bytes(10_000));
    assert!(Store::memory_bytes(10_000) < 300_000);
    let live = store.live_keys(START);
    assert_eq!(
        store.evictions(),
        100_000 - live,
        "a key vanished uncounted"
    );
    // Two windows later all of that room is free again.
    for n in 100_000..105_000 {
        store.check(&rule, &key(n), START + 120_000, 1);
    }
    assert_eq!(store.evictions(), 100_000 - live);
}

#[test]
fn refused_requests_are_not_counted() {
    let (store, rule) = (Store::new(10).unwrap(), hundred_a_minute());
    let start = START - START % 60_000;
    for n in 0..10_000 {
        assert_eq!(store.check(&rule, &key(1), start, 1).allowed, n < 100);
    }
    // Half of the 100 weigh in the middle of the next window, none of the 9,900.
    let decision = store.check(&rule, &key(1), start + 90_000, 1);
    assert_eq!((decision.allowed, decision.remaining), (true, 49));
}

#[test]
fn threads_admit_exactly_the_limit_of_each_fresh_key() {
    const KEYS: u64 = 2000;
    let (store, rule) = (Store::new(2 * KEYS).unwrap(), window(7, 60_000));
    let start = START - START % 60_000;
    let hammer = |now: u64| {
        together(8, |_| {
            let asked = (0..KEYS).flat_map(|n| (0..4).map(move |_| n));
            asked
                .filter(|n| store.check(&rule, &key(*n), now, 1).allowed)
                .count() as u64
        })
    };
    assert_eq!(hammer(start), 7 * KEYS);
    // In the middle of the next window 3.5 of the 7 still weigh: four more meet 3.5 to 6.5, below 7.
    assert_eq!(hammer(start + 90_000), 4 * KEYS);
    assert_eq!(hammer(start + 300_000), 7 * KEYS);
    assert_eq!(store.evictions(), 0);
    assert_eq!(store.live_keys(start + 300_000), KEYS);
}

#[test]
fn threads_that_cross_a_window_at_different_times_admit_one_limit() {
    let rule = window(1000, 60_000);
    let boundary = START - START % 60_000;
    for round in 0..200 {
        let store = Store::new(1).unwrap();
        // Half of the threads still have the reading of the clock from just before the boundary.
        let admitted = together(4, |n| {
            let now = if n % 2 == 0 { boundary } else { boundary - 1 };
            let passed = (0..600).filter(|_| store.check(&rule, &key(round), now, 1).allowed);
            passed.count() as u64
        });
        assert_eq!(admitted, 1000, "round {round}");
    }
}
