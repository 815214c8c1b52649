//! A route's weighted split between upstreams, as for a canary or blue-green release.

use super::balance::Schedule;

/// A weighted choice between things, exact over a cycle.
///
/// The choice follows a counter, not chance: 90 to 10 sends exactly nine of each ten requests to
/// the first, evenly spread, also when only a hundred come in a minute. A canary's share is
/// thereby what was written, and its error rate comparable, from the first request on. The cycle
/// is as long as the weights' sum over their common divisor; weights whose cycle would be longer
/// than 65,536 are scaled down, to no less than 1 in the cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split<T> {
    items: Box<[(T, u32)]>,
    schedule: Schedule,
}

impl<T: Clone> Split<T> {
    /// A split by relative weights; they need not add up to 100. An item of weight 0 stays listed
    /// but gets nothing. `None` if no weight is above 0.
    pub fn new(items: &[(T, u32)]) -> Option<Self> {
        let weights: Vec<u32> = items.iter().map(|(_, weight)| *weight).collect();
        let schedule = Schedule::new(&weights, &vec![true; weights.len()]);
        schedule.pick(0)?;
        Some(Self {
            items: items.into(),
            schedule,
        })
    }
}

impl<T> Split<T> {
    /// The choice for the `n`th request; `n` is a counter of the caller's, raised once a request
    /// (not once an attempt), and may wrap.
    pub fn pick(&self, n: u64) -> &T {
        let at = self.schedule.pick(n).unwrap_or(0);
        &self.items[at].0
    }

    /// The items and their weights, as given.
    pub fn items(&self) -> &[(T, u32)] {
        &self.items
    }

    /// How many requests until the order repeats; at least 1.
    pub fn cycle_len(&self) -> usize {
        self.schedule.cycle_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_to_ten_is_exact_in_each_ten() {
        let split = Split::new(&[("v1", 90), ("canary", 10)]).expect("weights");
        assert_eq!(split.cycle_len(), 10);
        for start in 0..50 {
            let canary = (start..start + 10).filter(|&n| *split.pick(n) == "canary");
            assert_eq!(canary.count(), 1, "from {start}");
        }
    }

    #[test]
    fn nothing_goes_to_weight_zero() {
        let split = Split::new(&[("blue", 0), ("green", 7)]).expect("weights");
        assert!((0..20).all(|n| *split.pick(n) == "green"));
        assert_eq!(split.items().len(), 2);
        assert_eq!(Split::new(&[("blue", 0)]), None);
        assert_eq!(Split::<u8>::new(&[]), None);
    }
}
