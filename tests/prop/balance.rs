//! The balancer's schedule against the step by step algorithm it is worked out from, and the laws
//! that every choice of a target keeps.

use proptest::prelude::*;
use tollgate::upstream::balance::{Schedule, Tried, least_loaded, p2c, splitmix64, usable_targets};
use tollgate::upstream::split::Split;

/// Smooth weighted round robin as it is usually run: state carried from pick to pick, no schedule.
struct Stepwise {
    weights: Vec<i64>,
    credit: Vec<i64>,
}

impl Stepwise {
    fn new(weights: &[u32], usable: &[bool]) -> Self {
        let pairs = weights.iter().zip(usable);
        let weights: Vec<i64> = pairs
            .map(|(&w, &u)| if u { i64::from(w) } else { 0 })
            .collect();
        let credit = vec![0; weights.len()];
        Self { weights, credit }
    }

    fn next(&mut self) -> Option<usize> {
        let mut best: Option<usize> = None;
        for at in 0..self.weights.len() {
            if self.weights[at] == 0 {
                continue;
            }
            self.credit[at] += self.weights[at];
            if best.is_none_or(|best| self.credit[at] > self.credit[best]) {
                best = Some(at);
            }
        }
        let best = best?;
        self.credit[best] -= self.weights.iter().sum::<i64>();
        Some(best)
    }
}

/// Up to twelve targets with weights from 0 up, some of them unusable.
fn targets() -> impl Strategy<Value = (Vec<u32>, Vec<bool>)> {
    let weight = prop_oneof![Just(0), Just(1), 1..=10_u32, 1..=1000_u32];
    prop::collection::vec((weight, prop::bool::weighted(0.8)), 0..12)
        .prop_map(|targets| targets.into_iter().unzip())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

proptest! {
    #[test]
    fn schedule_is_the_stepwise_order((weights, usable) in targets(), cycles in 1..3_u64) {
        let schedule = Schedule::new(&weights, &usable);
        let mut stepwise = Stepwise::new(&weights, &usable);
        for n in 0..(schedule.cycle_len() as u64 * cycles).max(3) {
            prop_assert_eq!(schedule.pick(n), stepwise.next(), "pick {}", n);
        }
    }

    #[test]
    fn a_cycle_gives_each_target_its_weight((weights, usable) in targets()) {
        let schedule = Schedule::new(&weights, &usable);
        let open = usable_targets(&weights, &usable);
        let divisor = open.iter().fold(0, |divisor, &at| gcd(divisor, weights[at])).max(1);
        let mut counts = vec![0_u32; weights.len()];
        let cycle = schedule.cycle_len() as u64;
        for n in 0..cycle {
            counts[schedule.pick(n).expect("the cycle is not empty")] += 1;
        }
        for at in 0..weights.len() {
            let want = if open.contains(&at) { weights[at] / divisor } else { 0 };
            prop_assert_eq!(counts[at], want);
        }
        prop_assert_eq!(cycle == 0, open.is_empty());
    }

    #[test]
    fn turns_are_spread((weights, usable) in targets()) {
        // At every point of the cycle a target has had its share of the turns so far, give or take
        // the most by which smooth weighted round robin may run ahead or behind with n targets.
        let schedule = Schedule::new(&weights, &usable);
        let open = usable_targets(&weights, &usable);
        let total: u64 = open.iter().map(|&at| u64::from(weights[at])).sum();
        let mut counts = vec![0_u64; weights.len()];
        for n in 0..schedule.cycle_len() as u64 {
            counts[schedule.pick(n).expect("the cycle is not empty")] += 1;
            for &at in &open {
                let share = (n + 1) as f64 * f64::from(weights[at]) / total as f64;
                let off = (counts[at] as f64 - share).abs();
                prop_assert!(off <= open.len() as f64 / 2.0 + 1.0, "target {} off by {}", at, off);
            }
        }
    }

    #[test]
    fn any_weights_stay_within_the_bound(
        weights in prop::collection::vec(any::<u32>(), 0..40), n in any::<u64>(),
    ) {
        let schedule = Schedule::new(&weights, &vec![true; weights.len()]);
        prop_assert!(schedule.cycle_len() <= 65_536);
        let open = weights.iter().any(|&weight| weight > 0);
        prop_assert_eq!(schedule.pick(n).is_some(), open);
        if let Some(at) = schedule.pick(n) {
            prop_assert!(weights[at] > 0);
        }
    }

    #[test]
    fn retries_visit_every_usable_target_once((weights, usable) in targets(), n in any::<u64>()) {
        let schedule = Schedule::new(&weights, &usable);
        let open = usable_targets(&weights, &usable);
        let mut tried = Tried::default();
        while tried.len() < Tried::MAX {
            let Some(at) = schedule.pick_excluding(n, &tried) else { break };
            prop_assert!(open.contains(&at) && !tried.contains(at));
            tried.add(at);
        }
        prop_assert_eq!(tried.len(), open.len().min(Tried::MAX));
        let first = schedule.pick_excluding(n, &Tried::default());
        prop_assert_eq!(first, schedule.pick(n), "nothing tried is a plain pick");
    }

    #[test]
    fn p2c_takes_the_less_loaded_of_two(
        (weights, usable) in targets(), loads in prop::collection::vec(0..50_u32, 12), seed in any::<u64>(),
    ) {
        let open = usable_targets(&weights, &usable);
        let relative = |at: usize| f64::from(loads[at]) / f64::from(weights[at]);
        let pick = p2c(|at| loads[at], &weights, &open, splitmix64(seed));
        prop_assert_eq!(pick.is_some(), !open.is_empty());
        let Some(pick) = pick else { return Ok(()) };
        prop_assert!(open.contains(&pick));
        // Of two, never the more loaded; of more, never the one that is more loaded than all.
        let others = || open.iter().filter(|&&at| at != pick);
        let worst = others().all(|&at| relative(at) < relative(pick) * 0.999_999);
        prop_assert!(open.len() == 1 || !worst);
    }

    #[test]
    fn least_loaded_is_the_least_of_the_untried(
        (weights, usable) in targets(), loads in prop::collection::vec(0..50_u32, 12),
        seen in prop::collection::vec(0..12_usize, 0..4), seed in any::<u64>(),
    ) {
        let open = usable_targets(&weights, &usable);
        let mut tried = Tried::default();
        for &at in &seen {
            tried.add(at);
        }
        let pick = least_loaded(|at| loads[at], &weights, &open, &tried, splitmix64(seed));
        let left: Vec<usize> = open.into_iter().filter(|at| !seen.contains(at)).collect();
        prop_assert_eq!(pick.is_some(), !left.is_empty());
        for at in left {
            let pick = pick.expect("one is left");
            let (mine, its) = (u64::from(loads[pick]), u64::from(loads[at]));
            prop_assert!(mine * u64::from(weights[at]) <= its * u64::from(weights[pick]));
        }
    }

    #[test]
    fn a_split_is_exact_over_any_cycle(
        weights in prop::collection::vec(0..=100_u32, 1..6), start in 0..1_000_000_u64,
    ) {
        let items: Vec<(usize, u32)> = weights.iter().copied().enumerate().collect();
        let Some(split) = Split::new(&items) else {
            prop_assert!(weights.iter().all(|&weight| weight == 0));
            return Ok(());
        };
        let divisor = weights.iter().copied().fold(0, gcd);
        let cycle = split.cycle_len() as u64;
        prop_assert_eq!(cycle, u64::from(weights.iter().sum::<u32>() / divisor));
        let mut counts = vec![0; weights.len()];
        for n in start..start + cycle {
            counts[*split.pick(n)] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            prop_assert_eq!(*count, weight / divisor);
        }
    }
}

#[test]
fn p2c_reaches_every_target_when_all_are_idle() {
    let weights = [1; 5];
    let open: Vec<usize> = (0..5).collect();
    let mut counts = [0; 5];
    for n in 0..5000 {
        let pick = p2c(|_| 0, &weights, &open, splitmix64(n));
        counts[pick.expect("all are usable")] += 1;
    }
    for count in counts {
        assert!(
            (850..1150).contains(&count),
            "{counts:?}, want about 1000 each"
        );
    }
}
