//! What a load has come to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::histogram::Histogram;

/// Counts between two moments.
pub struct Tally {
    begun: Instant,
    cpu: Duration,
    statuses: Vec<u64>,
    slices: Vec<Histogram>,
    /// Connections that broke, and answers that were none.
    pub errors: u64,
    /// Connections that the gateway closed in good order.
    pub reconnects: u64,
}

impl Tally {
    /// From now on.
    pub fn begin() -> Tally {
        Tally {
            begun: Instant::now(),
            cpu: cpu_time(),
            statuses: vec![0; 1000],
            slices: Vec::new(),
            errors: 0,
            reconnects: 0,
        }
    }

    /// Counts an answer to what was due at a time.
    pub fn add(&mut self, status: u16, due: Instant) {
        self.statuses[usize::from(status) % 1000] += 1;
        let slice = due.saturating_duration_since(self.begun).as_secs() as usize;
        while self.slices.len() <= slice {
            self.slices.push(Histogram::new());
        }
        self.slices[slice].add(due.elapsed().as_nanos() as u64);
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.statuses.iter().sum()
    }

    /// All of it. Slices are whole seconds, by the time a request was due.
    pub fn told(&self) -> Value {
        let wall = self.begun.elapsed();
        let busy = cpu_time().saturating_sub(self.cpu).as_secs_f64() / wall.as_secs_f64();
        let mut all = Histogram::new();
        self.slices.iter().for_each(|slice| all.merge(slice));
        let whole = self.slices.iter().take(wall.as_secs() as usize);
        let slices: Vec<_> = whole.map(Histogram::told).collect();
        let statuses: BTreeMap<String, u64> = (0..)
            .zip(&self.statuses)
            .filter(|(_, count)| **count > 0)
            .map(|(status, count): (u16, _)| (status.to_string(), *count))
            .collect();
        json!({
            "requests": self.answers(), "statuses": statuses, "errors": self.errors,
            "reconnects": self.reconnects, "seconds": wall.as_secs_f64(), "busy": busy,
            "latency_us": all.told(), "slices_us": slices,
        })
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|n| n.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}
