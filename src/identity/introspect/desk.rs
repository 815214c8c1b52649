//! Where requests leave their questions: one query a token at a time, whoever asks, and a bounded
//! number of queries and of requests that wait.
//!
//! One task per issuer takes the questions and runs the queries, so that a client that goes away
//! cannot break off a query that others wait for, and nothing here needs a lock. It ends with the
//! last request that could ask, once its queries are over.

use super::known::Digest;
use super::look::{Core, Landed};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinError, JoinSet};

/// Queries of one issuer under way; what would be one more is answered with 503.
pub const MAX_QUERIES: usize = 256;
/// Requests of one issuer that wait; likewise. They may all wait for one query.
pub const MAX_WAITING: usize = 4096;

/// A question.
pub(super) struct Order {
    /// Of the token.
    pub digest: Digest,
    /// The token.
    pub token: Box<str>,
    /// Dropped when the answer is there, or when there will be none.
    pub waits: oneshot::Sender<()>,
}

/// How many wait.
#[derive(Default)]
pub(super) struct Seats(AtomicUsize);

/// A seat to wait in, free again when it is dropped.
pub(super) struct Seat<'a>(&'a Seats);

impl Seats {
    /// A seat, if one is free.
    pub fn take(&self) -> Option<Seat<'_>> {
        let seat = Seat(self);
        (self.0.fetch_add(1, Relaxed) < MAX_WAITING).then_some(seat)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// The task: takes questions until nobody can ask any more or `shutdown` holds true.
pub(super) async fn serve(
    core: Arc<Core>,
    mut orders: mpsc::Receiver<Order>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut desk = Desk {
        core,
        queries: JoinSet::new(),
        waiting: HashMap::new(),
        tokens: HashMap::new(),
    };
    let mut open = true;
    while open || !desk.queries.is_empty() {
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => return,
            Some(landed) = desk.queries.join_next_with_id() => desk.land(landed),
            order = orders.recv(), if open => match order {
                Some(order) => desk.take(order),
                None => open = false,
            },
        }
    }
}

struct Desk {
    core: Arc<Core>,
    queries: JoinSet<Landed>,
    /// Who waits for which token.
    waiting: HashMap<Digest, Vec<oneshot::Sender<()>>>,
    /// Which query is about which token.
    tokens: HashMap<task::Id, Digest>,
}

impl Desk {
    fn take(&mut self, order: Order) {
        let Order {
            digest,
            token,
            waits,
        } = order;
        if let Some(waiting) = self.waiting.get_mut(&digest) {
            waiting.push(waits);
            return;
        }
        // It may have come since the request looked.
        let now = self.core.clock.now();
        if self.core.holds(&digest, now, false).is_some() {
            return;
        }
        if self.queries.len() >= MAX_QUERIES {
            self.core.metrics.skipped();
            return;
        }
        let core = self.core.clone();
        let query = async move { core.look(&token, &digest).await };
        let id = self.queries.spawn(query).id();
        self.tokens.insert(id, digest);
        self.waiting.insert(digest, vec![waits]);
        self.core.metrics.in_flight(self.queries.len());
    }

    fn land(&mut self, landed: Result<(task::Id, Landed), JoinError>) {
        let (id, landed) = match landed {
            Ok((id, landed)) => (id, Some(landed)),
            Err(broken) => (broken.id(), None),
        };
        let Some(digest) = self.tokens.remove(&id) else {
            return;
        };
        self.core.settle(digest, landed.unwrap_or(Landed::Nothing));
        self.core.metrics.in_flight(self.queries.len());
        // Those who waited look now.
        self.waiting.remove(&digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_and_come_back() {
        let seats = Seats::default();
        let mut taken: Vec<_> = (0..MAX_WAITING).map(|_| seats.take()).collect();
        assert!(taken.iter().all(Option::is_some) && seats.take().is_none());
        taken.pop();
        assert!(seats.take().is_some());
    }
}
