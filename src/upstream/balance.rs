//! Which target of an upstream gets the next request: smooth weighted round robin, or the less
//! loaded of two. Pure: weights, health and loads come in, an index goes out.

/// The longest cycle of a [`Schedule`].
const MAX_CYCLE: u64 = 65_536;
/// The most work (cycle times targets) that building a [`Schedule`] may take.
const MAX_WORK: u64 = 1 << 24;

/// Smooth weighted round robin, worked out in advance.
///
/// In each cycle every usable target comes exactly as often as its weight says, its turns spread
/// as evenly as the weights allow: 5, 1, 1 gives a a b a c a a rather than a a a a a b c. The
/// cycle's length is the sum of the weights divided by their common divisor, at most 65,536
/// (less with more than 256 targets). Larger weights are scaled down in proportion, to no
/// less than 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The cycle, as target indexes.
    cycle: Box<[u32]>,
    /// The usable targets, each once.
    usable: Box<[u32]>,
}

impl Schedule {
    /// The schedule of the targets `i` that have `weights[i] > 0` and `usable[i]`. An index that
    /// either slice lacks is not usable.
    pub fn new(weights: &[u32], usable: &[bool]) -> Self {
        let usable = usable_targets(weights, usable);
        let shares = scaled(usable.iter().map(|&at| u64::from(weights[at])).collect());
        let cycle = smooth(&shares);
        Self {
            cycle: cycle.into_iter().map(|at| usable[at] as u32).collect(),
            usable: usable.iter().map(|&at| at as u32).collect(),
        }
    }

    /// The target of the `n`th request; `n` is a counter of the caller's and may wrap. `None` if
    /// no target is usable.
    pub fn pick(&self, n: u64) -> Option<usize> {
        let len = self.cycle.len() as u64;
        (len > 0).then(|| self.cycle[(n % len) as usize] as usize)
    }

    /// The target of the `n`th request among those not yet tried for it, `None` if there is no
    /// such target. Weights are kept to as far as a short look ahead in the cycle allows.
    pub fn pick_excluding(&self, n: u64, tried: &Tried) -> Option<usize> {
        let looks = 2 * self.usable.len() as u64;
        let ahead = (0..looks).filter_map(|step| self.pick(n.wrapping_add(step)));
        // A heavy target can fill the look ahead; then the others are asked in turn.
        let start = n.checked_rem(self.usable.len() as u64).unwrap_or(0) as usize;
        let (before, from) = self.usable.split_at(start);
        let in_turn = from.iter().chain(before).map(|&at| at as usize);
        ahead.chain(in_turn).find(|&at| !tried.contains(at))
    }

    /// How many requests until the order repeats; 0 if no target is usable.
    pub fn cycle_len(&self) -> usize {
        self.cycle.len()
    }
}

/// The targets already tried for one request: at most eight, which is more than the retries a
/// config may ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    targets: [u32; Tried::MAX],
    len: u8,
}

impl Tried {
    /// How many targets fit.
    pub const MAX: usize = 8;

    /// Remembers a target. Beyond [`Tried::MAX`] nothing is added.
    pub fn add(&mut self, target: usize) {
        if let Some(free) = self.targets.get_mut(usize::from(self.len)) {
            *free = target as u32;
            self.len += 1;
        }
    }

    /// Whether the target was added.
    pub fn contains(&self, target: usize) -> bool {
        self.targets[..self.len()].contains(&(target as u32))
    }

    /// How many targets were added, the same one twice if it was added twice.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The indexes of the targets with a weight above 0 that are usable, rising.
pub fn usable_targets(weights: &[u32], usable: &[bool]) -> Vec<usize> {
    let both = weights.iter().zip(usable).enumerate();
    both.filter(|(_, (weight, usable))| **weight > 0 && **usable)
        .map(|(at, _)| at)
        .collect()
}

/// The less loaded of two targets drawn at random from `usable`, comparing load to weight; equal
/// ones are chosen between by weight. Two draws keep the choice away from the most loaded without
/// sending everyone to the same least loaded one. `usable` holds distinct indexes of `weights`;
/// `loads` is asked only for those; `random` is any well-mixed number, such as [`splitmix64`] of
/// a counter. `None` if no target in `usable` has a weight above 0.
pub fn p2c(
    loads: impl Fn(usize) -> u32,
    weights: &[u32],
    usable: &[usize],
    random: u64,
) -> Option<usize> {
    let len = usable.len();
    if len < 2 {
        return usable.iter().copied().find(|&at| weights[at] > 0);
    }
    let first = below(random, len);
    let second = (first + 1 + below(splitmix64(random), len - 1)) % len;
    let (a, b) = (usable[first], usable[second]);
    match (weights[a], weights[b]) {
        (0, 0) => least_loaded(loads, weights, usable, &Tried::default(), random),
        (0, _) => Some(b),
        (_, 0) => Some(a),
        (weight_a, weight_b) => {
            // load / weight compared without dividing.
            let load_a = u64::from(loads(a)) * u64::from(weight_b);
            let load_b = u64::from(loads(b)) * u64::from(weight_a);
            let coin = below(
                splitmix64(!random),
                (u64::from(weight_a) + u64::from(weight_b)) as usize,
            );
            let takes_a = load_a < load_b || (load_a == load_b && coin < weight_a as usize);
            Some(if takes_a { a } else { b })
        }
    }
}

/// The least loaded target of `usable` that was not tried, comparing load to weight, the first
/// from a random place among equals; for a retry, where the choice is small and matters more.
/// Arguments as in [`p2c`]. `None` if all were tried or have no weight.
pub fn least_loaded(
    loads: impl Fn(usize) -> u32,
    weights: &[u32],
    usable: &[usize],
    tried: &Tried,
    random: u64,
) -> Option<usize> {
    let start = below(random, usable.len());
    let (before, from) = usable.split_at(start);
    let open = from.iter().chain(before).copied();
    let mut best: Option<(usize, u64)> = None;
    for at in open.filter(|&at| weights[at] > 0 && !tried.contains(at)) {
        let load = u64::from(loads(at));
        let less = |(best_at, best_load): (usize, u64)| {
            load * u64::from(weights[best_at]) < best_load * u64::from(weights[at])
        };
        if best.is_none_or(less) {
            best = Some((at, load));
        }
    }
    best.map(|(at, _)| at)
}

/// Mixes a number so that consecutive ones look random (the finaliser of `SplitMix64`). Cheap and
/// predictable: for spreading load, never for secrets.
pub const fn splitmix64(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below `bound` (0 if that is 0) from well-mixed bits, by multiplication: evener and
/// cheaper than the remainder.
fn below(random: u64, bound: usize) -> usize {
    ((u128::from(random) * bound as u128) >> 64) as usize
}

/// Divides weights by their common divisor and scales them to the bounds of [`Schedule`].
fn scaled(mut weights: Vec<u64>) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    for weight in &mut weights {
        *weight /= divisor;
    }
    let count = weights.len() as u64;
    let most = MAX_CYCLE.min(MAX_WORK / count.max(1)).max(count);
    let total: u64 = weights.iter().sum();
    if total > most {
        // Raising the smallest to 1 adds less than one each, for which room is kept.
        for weight in &mut weights {
            let share = u128::from(*weight) * u128::from(most - count) / u128::from(total);
            *weight = (share as u64).max(1);
        }
    }
    weights
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One cycle: at each step every target gains its weight, the richest (the first among equals)
/// is picked and pays the total.
fn smooth(weights: &[u64]) -> Vec<usize> {
    if weights.iter().all(|&weight| weight == 1) {
        return (0..weights.len()).collect();
    }
    let total: u64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let mut cycle = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best = 0;
        for at in 0..weights.len() {
            credit[at] += weights[at].cast_signed();
            if credit[at] > credit[best] {
                best = at;
            }
        }
        credit[best] -= total.cast_signed();
        cycle.push(best);
    }
    cycle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(schedule: &Schedule, count: u64) -> Vec<usize> {
        (0..count).filter_map(|n| schedule.pick(n)).collect()
    }

    #[test]
    fn weights_are_spread_smoothly() {
        let schedule = Schedule::new(&[5, 1, 1], &[true; 3]);
        assert_eq!(picks(&schedule, 7), [0, 0, 1, 0, 2, 0, 0]);
        let even = Schedule::new(&[300; 3], &[true; 3]);
        assert_eq!(picks(&even, 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn unusable_and_weightless_targets_never_come() {
        let schedule = Schedule::new(&[2, 0, 4, 2, 9], &[true, true, true, false]);
        assert_eq!(picks(&schedule, 6), [2, 0, 2, 2, 0, 2]);
        for none in [
            Schedule::new(&[], &[]),
            Schedule::new(&[0, 0], &[true, true]),
            Schedule::new(&[1, 1], &[false, false]),
        ] {
            assert_eq!(none.pick(3), None);
            assert_eq!(none.pick_excluding(3, &Tried::default()), None);
            assert_eq!(none.cycle_len(), 0);
        }
    }

    #[test]
    fn huge_weights_are_scaled_within_the_bound() {
        let schedule = Schedule::new(&[u32::MAX, u32::MAX - 1, 1], &[true; 3]);
        assert!(schedule.cycle_len() <= 65_536);
        let all = picks(&schedule, schedule.cycle_len() as u64);
        let count = |target| all.iter().filter(|&&at| at == target).count();
        assert_eq!(count(2), 1);
        assert!(count(0).abs_diff(count(1)) <= 1);
        let many = Schedule::new(&vec![7; 2000], &vec![true; 2000]);
        assert_eq!(many.cycle_len(), 2000);
        let mixed: Vec<u32> = (1..=1000).collect();
        assert!(Schedule::new(&mixed, &[true; 1000]).cycle_len() <= 16_777);
    }

    #[test]
    fn a_retry_goes_to_another_target_until_none_is_left() {
        let schedule = Schedule::new(&[1000, 1, 1], &[true; 3]);
        let mut tried = Tried::default();
        for left in (0..3).rev() {
            let target = schedule.pick_excluding(0, &tried).expect("one is left");
            assert!(!tried.contains(target));
            tried.add(target);
            assert_eq!(tried.len(), 3 - left);
        }
        assert_eq!(schedule.pick_excluding(0, &tried), None);
    }

    #[test]
    fn tried_is_bounded() {
        let mut tried = Tried::default();
        assert!(tried.is_empty());
        for at in 0..20 {
            tried.add(at);
        }
        assert_eq!(tried.len(), Tried::MAX);
        assert!(tried.contains(7) && !tried.contains(8));
    }

    #[test]
    fn p2c_weighs_loads_and_skips_the_weightless() {
        let loads = [10, 19, 0];
        let load = |at: usize| loads[at];
        for random in (0..1000).map(splitmix64) {
            assert_eq!(p2c(load, &[1, 2, 0], &[0, 1], random), Some(1));
            assert_eq!(p2c(load, &[1, 1, 0], &[0, 2], random), Some(0));
            assert_eq!(p2c(load, &[0, 0, 0], &[0, 1, 2], random), None);
            assert_eq!(p2c(load, &[1, 1, 1], &[], random), None);
            assert_eq!(p2c(load, &[1, 1, 1], &[1], random), Some(1));
        }
    }

    #[test]
    fn idle_targets_are_chosen_by_weight() {
        let heavy = (0..3000).map(splitmix64);
        let heavy = heavy.filter(|&r| p2c(|_| 0, &[2, 1], &[0, 1], r) == Some(0));
        let heavy = heavy.count();
        assert!((1850..2150).contains(&heavy), "{heavy} of 3000, want 2000");
    }

    #[test]
    fn least_loaded_skips_the_tried() {
        let loads = [5, 1, 3];
        let mut tried = Tried::default();
        let pick = |tried: &Tried| least_loaded(|at| loads[at], &[1; 3], &[0, 1, 2], tried, 7);
        for want in [Some(1), Some(2), Some(0), None] {
            assert_eq!(pick(&tried), want);
            if let Some(at) = want {
                tried.add(at);
            }
        }
    }
}
