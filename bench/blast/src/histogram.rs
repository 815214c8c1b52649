//! Latencies in nanoseconds, in buckets at most 1 % wide.

/// Buckets to every power of two.
const FINE: usize = 128;
const BITS: u32 = FINE.trailing_zeros();

/// Counts of latencies.
pub struct Histogram {
    buckets: Vec<u32>,
    count: u64,
    most: u64,
}

impl Histogram {
    /// None yet.
    pub fn new() -> Histogram {
        Histogram {
            buckets: vec![0; FINE * (65 - BITS as usize)],
            count: 0,
            most: 0,
        }
    }

    /// Counts one.
    pub fn add(&mut self, nanoseconds: u64) {
        self.buckets[index(nanoseconds)] += 1;
        self.count += 1;
        self.most = self.most.max(nanoseconds);
    }

    /// The latency that this share of them does not exceed, in microseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return middle(at).min(self.most as f64) / 1000.0;
            }
        }
        0.0
    }

    /// The usual percentiles, in microseconds.
    pub fn told(&self) -> serde_json::Value {
        serde_json::json!({
            "count": self.count,
            "p50": self.percentile(0.5),
            "p90": self.percentile(0.9),
            "p99": self.percentile(0.99),
            "p999": self.percentile(0.999),
            "max": self.most as f64 / 1000.0,
        })
    }

    /// Counts those of another too.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.most = self.most.max(other.most);
    }
}

/// The bucket of a value: the value itself while it is small, then its leading bits.
fn index(value: u64) -> usize {
    let bits = 64 - value.leading_zeros();
    if bits <= BITS + 1 {
        return value as usize;
    }
    let shift = bits - BITS - 1;
    FINE * shift as usize + (value >> shift) as usize
}

/// The middle of a bucket.
fn middle(index: usize) -> f64 {
    if index < 2 * FINE {
        return index as f64;
    }
    let shift = index / FINE - 1;
    let low = ((index - FINE * shift) as u64) << shift;
    low as f64 + (1u64 << shift) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_value() {
        let mut value = 1_u64;
        while value < 1 << 60 {
            for near in [value - 1, value, value + 1] {
                let middle = middle(index(near));
                let off = (middle - near as f64).abs();
                assert!(off <= near as f64 / 100.0, "{near} is in {middle}");
            }
            value = value * 3 / 2 + 1;
        }
        assert!(index(u64::MAX) < Histogram::new().buckets.len());
    }

    #[test]
    fn percentiles_of_a_hundred() {
        let mut histogram = Histogram::new();
        (1..=100).for_each(|n| histogram.add(n * 1000));
        assert!((histogram.percentile(0.5) - 50.0).abs() < 0.5);
        assert!((histogram.percentile(0.99) - 99.0).abs() < 0.5);
        assert_eq!(histogram.count, 100);
    }
}
