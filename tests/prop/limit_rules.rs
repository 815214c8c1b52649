//! Fixed window, token bucket, leaky bucket and sliding log, each in its store, against a twin that keeps
//! every request ever admitted and goes through all of them each time.

use proptest::prelude::*;
use std::collections::HashMap;
use tollgate::limit::bucket::Bucket;
use tollgate::limit::exact::Store;
use tollgate::limit::fixed_window::FixedWindow;
use tollgate::limit::rule::Rule;
use tollgate::limit::sliding_log::{Logs, SlidingLog};
use tollgate::limit::{Decision, Key};

const START: u64 = 1_700_000_000_000;

/// Steps of a trace: the client, how much later, its cost, and whether the step is a leap.
type Step = (u64, i64, u32, u64);

fn trace() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u64..5, -300_i64..3000, 0_u32..4, 0_u64..5), 1..400)
}

fn key(n: u64) -> Key {
    Key::new(1, &[b"client", &n.to_le_bytes()])
}

/// Times and costs of what each client was let through, oldest first, and when it last asked.
#[derive(Default)]
struct Admitted(HashMap<u64, Vec<(u64, u64)>>, HashMap<u64, u64>);

impl Admitted {
    fn of(&self, client: u64) -> &[(u64, u64)] {
        self.0.get(&client).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, client: u64, at: u64, cost: u64) {
        self.0.entry(client).or_default().push((at, cost));
    }

    /// No clock reads earlier than at its last request.
    fn asked(&self, client: u64, now: u64) -> u64 {
        now.max(self.1.get(&client).copied().unwrap_or(0))
    }

    /// No clock reads earlier than what it was last let through at.
    fn at(&self, client: u64, now: u64) -> u64 {
        now.max(self.of(client).last().map_or(0, |(at, _)| *at))
    }
}

/// Goes through a trace: the decision of the store and what the twin says must agree.
fn follow(
    steps: Vec<Step>,
    mut ours: impl FnMut(&Key, u64, u32) -> Decision,
    mut twin: impl FnMut(&Admitted, u64, u64, u64) -> (bool, u64),
) -> Result<(), TestCaseError> {
    let (mut now, mut admitted) = (START, Admitted::default());
    for (client, step, cost, leap) in steps {
        // Threads read the clock a moment before each other, not more.
        now = now.saturating_add_signed(if leap == 4 { step.abs() * 30 } else { step });
        let decision = ours(&key(client), now, cost);
        let (allowed, at) = twin(&admitted, client, now, cost.into());
        prop_assert_eq!(
            decision.allowed,
            allowed,
            "client {} at {} for {}",
            client,
            now,
            cost
        );
        if allowed && cost > 0 {
            admitted.add(client, at, cost.into());
        }
        let asked = admitted.asked(client, now);
        admitted.1.insert(client, asked);
    }
    Ok(())
}

/// Sums what was let through at times that are wanted.
fn sum(all: &[(u64, u64)], wanted: impl Fn(u64) -> bool) -> u64 {
    let counted = all.iter().filter(|(at, _)| wanted(*at));
    counted.map(|(_, cost)| cost).sum()
}

/// A bucket, as it is told to children: tokens drip in, in parts of a token so small that all is whole;
/// gone through from the beginning each time.
struct Dripping {
    limit: u64,
    window_ms: u64,
    capacity: u64,
    delay_ms: u64,
}

impl Dripping {
    /// What is in it at a time, in 1 / window tokens; below 0 with those that wait.
    fn level(&self, all: &[(u64, u64)], now: u64) -> i128 {
        let full = i128::from(self.capacity * self.window_ms);
        let (mut level, mut at) = (full, 0);
        let drip = |level: i128, from: u64, to: u64| {
            let came = i128::from(to) - i128::from(from);
            full.min(level + came * i128::from(self.limit))
        };
        for (time, cost) in all {
            level = drip(level, at, *time) - i128::from(cost * self.window_ms);
            at = *time;
        }
        // To a clock that reads earlier some of it has not dripped in yet.
        drip(level, at, now)
    }

    fn allows(&self, all: &[(u64, u64)], now: u64, cost: u64) -> bool {
        let debt = i128::from(self.delay_ms * self.limit);
        self.level(all, now) + debt >= i128::from(cost * self.window_ms)
    }
}

proptest! {
    #[test]
    fn a_fixed_window_lets_through_what_the_twin_does(
        limit in 1_u64..20,
        seconds in 1_u64..60,
        steps in trace(),
    ) {
        let window_ms = seconds * 1000;
        let rule = Rule::from(FixedWindow::new(limit, window_ms).unwrap());
        let store = Store::new(64).unwrap();
        follow(
            steps,
            |key, now, cost| store.check(&rule, key, now, cost),
            |admitted, client, now, cost| {
                let at = admitted.at(client, now);
                let used = sum(admitted.of(client), |t| t / window_ms == at / window_ms);
                (used + cost <= limit, at)
            },
        )?;
        prop_assert_eq!(store.evictions(), 0);
    }

    #[test]
    fn a_sliding_log_lets_through_what_the_twin_does(
        limit in 1_u64..20,
        window_ms in 1_u64..60_000,
        steps in trace(),
    ) {
        let rule = SlidingLog::new(limit, window_ms).unwrap();
        let logs = Logs::new(64).unwrap();
        follow(
            steps,
            |key, now, cost| logs.check(&rule, key, now, cost),
            |admitted, client, now, cost| {
                let at = admitted.asked(client, now);
                let used = sum(admitted.of(client), |t| t + window_ms > at);
                (used + cost <= limit, at)
            },
        )?;
        prop_assert_eq!(logs.evictions(), 0);
    }

    #[test]
    fn a_bucket_lets_through_what_the_twin_does(
        limit in 1_u64..3000,
        seconds in 1_u64..60,
        capacity in 1_u64..20,
        delay_ms in prop_oneof![Just(0), 1_u64..5000],
        steps in trace(),
    ) {
        let window_ms = seconds * 1000;
        let rule = Bucket::shaper(limit, window_ms, capacity, delay_ms).unwrap().into();
        let (store, twin) = (Store::new(64).unwrap(), Dripping { limit, window_ms, capacity, delay_ms });
        follow(
            steps,
            |key, now, cost| store.check(&rule, key, now, cost),
            |admitted, client, now, cost| (twin.allows(admitted.of(client), now, cost), now),
        )?;
        prop_assert_eq!(store.evictions(), 0);
    }

    #[test]
    fn what_is_told_is_what_then_happens(
        limit in 1_u64..500,
        seconds in 1_u64..100,
        capacity in 1_u64..50,
        spent in prop::collection::vec((0_u64..5000, 1_u32..5), 0..80),
        cost in 1_u32..6,
        which in 0..3,
    ) {
        let window_ms = seconds * 1000;
        let rule: Rule = match which {
            0 => FixedWindow::new(limit, window_ms).unwrap().into(),
            1 => Bucket::new(limit, window_ms, capacity).unwrap().into(),
            _ => Bucket::shaper(limit, window_ms, capacity, 700).unwrap().into(),
        };
        let store = Store::new(16).unwrap();
        let mut now = START;
        for (later, cost) in spent {
            now += later;
            store.check(&rule, &key(1), now, cost);
        }
        let asked = store.peek(&rule, &key(1), now, cost);
        prop_assert_eq!(asked, store.peek(&rule, &key(1), now, cost), "asking counts nothing");
        if asked.allowed {
            prop_assert_eq!(asked.retry_after_ms, 0);
        } else if asked.retry_after_ms != Decision::NEVER {
            let free = now + asked.retry_after_ms;
            prop_assert!(store.peek(&rule, &key(1), free, cost).allowed, "refused when told to return");
            prop_assert!(!store.peek(&rule, &key(1), free - 1, cost).allowed, "let through 1 ms before");
        } else {
            prop_assert!(!store.peek(&rule, &key(1), now + 500_000_000, cost).allowed);
        }
        let told = store.check(&rule, &key(1), now, 0);
        // What remains passes without a wait; one more would not.
        let rest = u32::try_from(told.remaining).unwrap();
        let all = store.peek(&rule, &key(1), now, rest);
        prop_assert!(rest == 0 || all.allowed && all.delay_ms == 0);
        let more = store.peek(&rule, &key(1), now, rest + 1);
        prop_assert!(!more.allowed || more.delay_ms > 0);
        // At the reset everything is there again.
        let anew = store.peek(&rule, &key(1), told.reset_ms, 0);
        prop_assert_eq!(anew.remaining, anew.limit);
    }

    #[test]
    fn what_a_log_tells_is_what_then_happens(
        limit in 1_u64..50,
        window_ms in 1_u64..30_000,
        spent in prop::collection::vec((0_u64..2000, 1_u32..5), 0..80),
        cost in 1_u32..6,
    ) {
        let rule = SlidingLog::new(limit, window_ms).unwrap();
        let logs = Logs::new(16).unwrap();
        let mut now = START;
        for (later, cost) in spent {
            now += later;
            logs.check(&rule, &key(1), now, cost);
        }
        let asked = logs.peek(&rule, &key(1), now, cost);
        if !asked.allowed && asked.retry_after_ms != Decision::NEVER {
            let free = now + asked.retry_after_ms;
            prop_assert!(!logs.peek(&rule, &key(1), free - 1, cost).allowed, "let through 1 ms before");
            prop_assert!(logs.peek(&rule, &key(1), free, cost).allowed, "refused when told to return");
        }
        let told = logs.peek(&rule, &key(1), now, 0);
        prop_assert!(logs.peek(&rule, &key(1), told.reset_ms, 0).remaining == limit);
    }

    /// Turns are given out one interval apart, in the order of the decisions.
    #[test]
    fn a_shaper_gives_out_turns_in_order(limit in 1_u64..2000, asks in prop::collection::vec(0_u64..40, 1..300)) {
        let rule = Bucket::shaper(limit, 1000, 1, 10_000).unwrap().into();
        let store = Store::new(16).unwrap();
        let (mut now, mut turns) = (START, Vec::new());
        for later in asks {
            now += later;
            let decision = store.check(&rule, &key(1), now, 1);
            if decision.allowed {
                turns.push(now + decision.delay_ms);
            }
        }
        prop_assert!(turns.is_sorted(), "{turns:?}");
        // Of any so many turns the last is that many intervals behind the first, but for rounding.
        for (n, first) in turns.iter().enumerate() {
            for (m, last) in turns.iter().enumerate().skip(n + 1) {
                let apart = (m - n) as u64 * 1000;
                prop_assert!((last - first + 1) * limit >= apart, "turns {n} and {m}: {first}, {last}");
            }
        }
    }

    #[test]
    fn a_rule_is_the_same_behind_its_bytes(
        limit in 1_u64..1_000_000,
        seconds in 1_u64..100_000,
        capacity in 1_u64..1000,
        delay in 0_u64..10_000,
    ) {
        for rule in [
            Rule::from(FixedWindow::new(limit, seconds * 1000).unwrap()),
            Bucket::shaper(limit, seconds * 1000, capacity, delay).unwrap().into(),
        ] {
            prop_assert_eq!(Rule::from_bytes(&rule.to_bytes()), Some(rule));
        }
    }
}

#[test]
fn a_table_of_logs_gives_up_those_that_ask_least() {
    let (logs, rule) = (
        Logs::new(1000).unwrap(),
        SlidingLog::new(10, 60_000).unwrap(),
    );
    for n in 0..100 {
        for _ in 0..10 {
            assert!(logs.check(&rule, &key(n), START, 1).allowed);
        }
    }
    for n in 1000..101_000 {
        assert!(logs.check(&rule, &key(n), START + 1, 1).allowed);
    }
    assert!(logs.keys() < 5000, "{} are kept", logs.keys());
    assert_eq!(
        logs.evictions(),
        100_100 - logs.keys(),
        "one vanished uncounted"
    );
    let held = (0..100).filter(|n| !logs.check(&rule, &key(*n), START + 2, 1).allowed);
    assert_eq!(held.count(), 100, "a flood pushed out those that are held");
    // What is idle goes as others come, and is not missed.
    let before = logs.evictions();
    for n in 200_000..201_000 {
        logs.check(&rule, &key(n), START + 120_000, 1);
    }
    assert_eq!(logs.evictions(), before);
}

#[test]
fn another_process_goes_on_with_the_times_of_each_request() {
    let rule = SlidingLog::new(5, 60_000).unwrap();
    let (old, new) = (Logs::new(100).unwrap(), Logs::new(10).unwrap());
    for n in 0..20 {
        for at in 0..=n % 5 {
            assert!(old.check(&rule, &key(n), START + at * 1000, 1).allowed);
        }
    }
    let sent = old.records(0);
    assert_eq!(sent.len(), 20);
    new.put(&sent.concat());
    // What is counted behind that goes over once more, in place of what went before.
    assert!(old.check(&rule, &key(0), START + 30_000, 2).allowed);
    let late = old.records(START + 29_000);
    assert_eq!(late.len(), 1);
    new.put(&late.concat());
    for n in 0..20 {
        for at in [
            START + 40_000,
            START + 60_000,
            START + 63_500,
            START + 90_000,
        ] {
            for cost in 0..6 {
                let (here, there) = (
                    old.peek(&rule, &key(n), at, cost),
                    new.peek(&rule, &key(n), at, cost),
                );
                assert_eq!(here, there, "client {n}");
            }
        }
    }
    // Half a record is none, and loses nothing that came before it.
    let whole = sent.concat();
    let other = Logs::new(10).unwrap();
    other.put(&whole[..whole.len() - 1]);
    assert_eq!(other.keys(), 19);
}

/// Callers of one limit may have windows of their own: one with a minute once swept out one with an hour.
#[test]
fn a_log_is_idle_by_its_own_window() {
    let hour = SlidingLog::new(2, 3_600_000).unwrap();
    let minute = SlidingLog::new(2, 60_000).unwrap();
    let logs = Logs::new(10_000).unwrap();
    for n in 0..500 {
        assert!(logs.check(&hour, &key(n), START, 2).allowed);
    }
    for n in 1000..9000 {
        logs.check(&minute, &key(n), START + 600_000, 1);
    }
    assert_eq!(logs.evictions(), 0);
    let forgotten = (0..500).filter(|n| logs.peek(&hour, &key(*n), START + 600_000, 1).allowed);
    assert_eq!(forgotten.count(), 0);
}
