//! The open loop: when requests are due is fixed beforehand, however long answers take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests due at even distances, and the connections that wait for one.
pub struct Schedule {
    start: Instant,
    each: Duration,
    next: u32,
    idle: VecDeque<usize>,
}

impl Schedule {
    /// So many a second from now on.
    pub fn new(rate: f64) -> Schedule {
        Schedule {
            start: Instant::now(),
            each: Duration::from_secs_f64(1.0 / rate),
            next: 0,
            idle: VecDeque::new(),
        }
    }

    /// A connection has nothing to do.
    pub fn free(&mut self, connection: usize) {
        self.idle.push_back(connection);
    }

    /// A request that is due and a connection for it. What finds none stays due since its time.
    pub fn take(&mut self) -> Option<(usize, Instant)> {
        let due = self.start + self.each * self.next;
        if due > Instant::now() {
            return None;
        }
        let connection = self.idle.pop_front()?;
        self.next += 1;
        Some((connection, due))
    }
}
