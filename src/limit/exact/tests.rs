//! The table by itself, and from many threads at once.

use super::*;
use crate::limit::heir::Heir;
use crate::limit::sliding_window::SlidingWindow;
use std::sync::{Arc, Barrier};

const NOW: u64 = 1_700_000_000_000;

fn key(n: u64) -> Key {
    Key::new(1, &[&n.to_le_bytes()])
}

fn rule(limit: u64, seconds: u64) -> Rule {
    SlidingWindow::new(limit, seconds * 1000).unwrap().into()
}

#[test]
fn a_peek_says_what_a_check_would_and_counts_nothing() {
    let (store, rule) = (Store::new(100).unwrap(), rule(2, 60));
    assert_eq!(store.peek(&rule, &key(1), NOW, 1).remaining, 1);
    assert_eq!(store.live_keys(NOW), 0);
    for left in [1, 0] {
        let peeked = store.peek(&rule, &key(1), NOW, 1);
        assert_eq!(peeked, store.check(&rule, &key(1), NOW, 1));
        assert_eq!(peeked.remaining, left);
    }
    assert_eq!(store.peek(&rule, &key(1), NOW, 0).remaining, 0);
    let refused = store.peek(&rule, &key(1), NOW, 1);
    assert!(!refused.allowed);
    assert_eq!(refused, store.check(&rule, &key(1), NOW, 1));
}

#[test]
fn counts_each_key_and_each_window_length_alone() {
    let store = Store::new(100).unwrap();
    for (rule, n) in [(rule(3, 60), 1), (rule(3, 60), 2), (rule(3, 10), 1)] {
        for left in [2, 1, 0] {
            let decision = store.check(&rule, &key(n), NOW, 1);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, left);
        }
        assert!(!store.check(&rule, &key(n), NOW, 1).allowed);
    }
    assert_eq!(store.live_keys(NOW), 3);
    assert_eq!(store.live_keys(NOW + 20_000), 2);
    assert_eq!(store.live_keys(NOW + 120_000), 0);
}

#[test]
fn a_changed_limit_takes_over_the_counts() {
    let store = Store::new(100).unwrap();
    for _ in 0..10 {
        assert!(store.check(&rule(10, 60), &key(1), NOW, 1).allowed);
    }
    assert!(!store.check(&rule(5, 60), &key(1), NOW, 1).allowed);
    let decision = store.check(&rule(20, 60), &key(1), NOW, 1);
    assert_eq!((decision.allowed, decision.remaining), (true, 9));
}

#[test]
fn a_request_that_can_never_pass_takes_no_cell() {
    let store = Store::new(100).unwrap();
    let decision = store.check(&rule(10, 60), &key(1), NOW, 11);
    assert_eq!(decision.retry_after_ms, Decision::NEVER);
    assert_eq!(store.live_keys(NOW), 0);
}

#[test]
fn a_full_table_lets_the_least_counted_go() {
    let store = Store::new(1).unwrap();
    assert_eq!(store.buckets, 2);
    let rule = rule(10, 60);
    for _ in 0..10 {
        store.check(&rule, &key(0), NOW, 1);
    }
    for n in 1..=1000 {
        assert!(store.check(&rule, &key(n), NOW, 1).allowed);
    }
    assert_eq!(store.evictions(), 1001 - 16);
    assert_eq!(store.live_keys(NOW), 16);
    assert!(
        !store.check(&rule, &key(0), NOW, 1).allowed,
        "the client that was being held got away"
    );
}

#[test]
fn idle_cells_are_taken_without_an_eviction() {
    let store = Store::new(1).unwrap();
    for round in 0..50 {
        for n in 0..16 {
            let now = NOW + round * 20_000;
            assert!(
                store
                    .check(&rule(1, 10), &key(round * 16 + n), now, 1)
                    .allowed
            );
        }
    }
    assert_eq!(store.evictions(), 0);
}

#[test]
fn holds_max_keys() {
    let store = Store::new(60_000).unwrap();
    for n in 0..60_000 {
        store.check(&rule(10, 60), &key(n), NOW, 1);
    }
    assert!(store.evictions() < 6, "{} evictions", store.evictions());
}

#[test]
fn memory_grows_with_use_and_is_bounded() {
    let store = Store::new(1_000_000).unwrap();
    assert!(store.memory_used() < 101_000);
    store.check(&rule(1, 60), &key(1), NOW, 1);
    assert!(store.memory_used() < 110_000);
    assert_eq!(size_of::<Bucket>(), 128);
    assert!(
        Store::memory_bytes(1_000_000) < 25 << 20,
        "more than 25 MiB"
    );
    assert_eq!(Store::new(0).err(), Some(Fault::MaxKeys(0)));
    assert!(Store::new(MAX_KEYS + 1).is_err());
}

/// Leftover claims, as a stalled thread would leave them, in every order: the key is counted once.
#[test]
fn stray_claims_are_brought_to_an_end() {
    for (a, b) in [(0, 5), (5, 0), (2, 12), (12, 2), (9, 15)] {
        let store = Store::new(1).unwrap();
        let rule = rule(3, 60);
        let lookup = store.lookup(&rule, &key(1), NOW, 1);
        for (serial, place) in [(100, a), (101, b)] {
            let cell = &store.both(&lookup)[place / WAYS][place % WAYS];
            cell.store(Word::claim(lookup.tag, serial).0, SeqCst);
        }
        let passed = (0..9).filter(|_| store.check(&rule, &key(1), NOW, 1).allowed);
        assert_eq!(passed.count(), 3);
        assert_eq!(store.live_keys(NOW), 1, "a claim was left behind");
    }
}

/// Counts and a claim at once: the claim goes.
#[test]
fn counts_void_a_claim() {
    for place in [0, 3, 15] {
        let store = Store::new(1).unwrap();
        let rule = rule(3, 60);
        let lookup = store.lookup(&rule, &key(1), NOW, 1);
        let cells = store.both(&lookup);
        let kept = Packed {
            expiry_s: (NOW - NOW % 60_000) / 1000 + 120,
            high: 0,
            low: 2,
        };
        cells[0][7].store(Word::kept(lookup.tag, kept).0, SeqCst);
        cells[place / WAYS][place % WAYS].store(Word::claim(lookup.tag, 1).0, SeqCst);
        let passed = (0..9).filter(|_| store.check(&rule, &key(1), NOW, 1).allowed);
        assert_eq!(passed.count(), 1, "claim at {place}");
    }
}

#[test]
fn threads_that_race_for_new_keys_admit_exactly_the_limit() {
    const THREADS: usize = 8;
    for round in 0..300 {
        let (store, rule) = (Store::new(1).unwrap(), rule(5, 60));
        // Half of the cells taken by idle clients, so that the place to claim is not always the first.
        for n in 0..round % 16 {
            store.check(&rule, &key(1_000_000 + n), NOW - 120_000, 1);
        }
        let barrier = Barrier::new(THREADS);
        let admit = |by: u64| {
            barrier.wait();
            (0..4 * 4)
                .filter(|i| store.check(&rule, &key((i + by) % 4), NOW, 1).allowed)
                .count()
        };
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u64)
                .map(|by| scope.spawn(move || admit(by)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(admitted, 4 * 5, "round {round}");
        assert_eq!(store.live_keys(NOW), 4, "round {round}");
    }
}

#[test]
fn cells_go_to_another_table_as_they_are() {
    let (old, new, rule) = (
        Store::new(500).unwrap(),
        Store::new(500).unwrap(),
        rule(5, 60),
    );
    for n in 0..300 {
        for _ in 0..=n % 5 {
            old.check(&rule, &key(n), NOW, 1);
        }
    }
    let cells = old.cells(NOW);
    assert_eq!(cells.len(), 300);
    for cell in &cells {
        assert_eq!(Cell::from_bytes(&cell.to_bytes()), *cell);
        assert!(new.put(*cell));
    }
    for n in 0..300 {
        let (was, is) = (
            old.peek(&rule, &key(n), NOW, 1),
            new.peek(&rule, &key(n), NOW, 1),
        );
        assert_eq!(was, is, "{n}");
    }
    assert_eq!(old.cells(NOW + 120_000), [], "nothing weighs any more");
    let small = Store::new(10).unwrap();
    let stray = cells.iter().filter(|cell| !small.put(**cell)).count();
    assert!(stray > 200, "what fits nowhere is told: {stray}");
}

/// One table counts, whichever is asked; where it gives no answer, each decides by itself.
#[test]
fn the_heir_decides_for_both() {
    struct There(Store, Rule, std::sync::atomic::AtomicBool);
    impl Heir for There {
        fn decide(&self, _: Quota, key: Key, cost: u32, count: bool) -> Option<Decision> {
            let Self(store, rule, lives) = self;
            lives.load(SeqCst).then(|| {
                if count {
                    store.check(rule, &key, NOW, cost)
                } else {
                    store.peek(rule, &key, NOW, cost)
                }
            })
        }
    }
    let (old, rule) = (Store::new(10).unwrap(), rule(4, 60));
    old.check(&rule, &key(1), NOW, 1);
    let there = There(Store::new(10).unwrap(), rule, true.into());
    for cell in old.cells(NOW) {
        assert!(there.0.put(cell));
    }
    let there = Arc::new(there);
    old.give(there.clone());
    assert_eq!(old.peek(&rule, &key(1), NOW, 0).remaining, 3);
    assert!(old.check(&rule, &key(1), NOW, 1).allowed);
    assert!(there.0.check(&rule, &key(1), NOW, 1).allowed);
    assert!(old.check(&rule, &key(1), NOW, 1).allowed);
    assert!(!old.check(&rule, &key(1), NOW, 1).allowed, "4 are all");
    assert!(!there.0.check(&rule, &key(1), NOW, 1).allowed);
    there.2.store(false, SeqCst);
    assert_eq!(old.check(&rule, &key(1), NOW, 1).remaining, 2, "its own");
    there.2.store(true, SeqCst);
    old.take_back();
    assert_eq!(old.check(&rule, &key(1), NOW, 1).remaining, 1, "its own");
}
