//! One new HTTP/2 connection at a time: requests that find none with room wait for the one that is
//! being made, rather than make one each. Pingora's pool has a connection only once it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns are kept by worker, since connections are: so many, more workers share.
const LANES: usize = 16;

/// The turns of one endpoint.
#[derive(Debug)]
pub struct Turns(Box<[Lane; LANES]>);

#[derive(Debug)]
struct Lane {
    turn: Arc<Semaphore>,
    /// Whether the last attempt got no connection: then nobody waits for another's, which could take
    /// as long as each connection may.
    failing: AtomicBool,
}

/// Held while a connection is made or found; others wait for its end.
#[derive(Debug)]
pub struct Turn {
    _held: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Nobody is waiting.
    pub fn new() -> Self {
        Self(Box::new(std::array::from_fn(|_| Lane {
            turn: Arc::new(Semaphore::new(1)),
            failing: AtomicBool::new(false),
        })))
    }

    fn lane(&self) -> &Lane {
        &self.0[lane() % LANES]
    }

    /// Waits while a connection is being made, on the worker that this is called on.
    pub async fn wait(&self) -> Turn {
        let lane = self.lane();
        if lane.failing.load(Relaxed) {
            return Turn { _held: None };
        }
        let turn = lane.turn.clone().acquire_owned().await.ok();
        // Whoever waited for one that failed does not hold up the next either.
        Turn {
            _held: turn.filter(|_| !lane.failing.load(Relaxed)),
        }
    }

    /// Notes whether an attempt got its connection.
    pub fn connected(&self, well: bool) {
        let failing = &self.lane().failing;
        if failing.load(Relaxed) == well {
            failing.store(!well, Relaxed);
        }
    }
}

/// A number of the thread: each worker is one.
fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static LANE: usize = NEXT.fetch_add(1, Relaxed));
    LANE.with(|lane| *lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// Polls once.
    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn others_wait_for_the_connection_that_is_made() {
        let turns = Turns::new();
        let Poll::Ready(first) = poll(pin!(turns.wait())) else {
            panic!("nobody before it");
        };
        let mut second = pin!(turns.wait());
        assert!(poll(second.as_mut()).is_pending());
        turns.connected(true);
        drop(first);
        assert!(poll(second.as_mut()).is_ready());
    }

    #[test]
    fn nobody_waits_for_what_fails() {
        let turns = Turns::new();
        let Poll::Ready(first) = poll(pin!(turns.wait())) else {
            panic!("nobody before it");
        };
        let (mut second, mut third) = (pin!(turns.wait()), pin!(turns.wait()));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        turns.connected(false);
        drop(first);
        let two = poll(second.as_mut());
        assert!(two.is_ready());
        assert!(poll(third.as_mut()).is_ready(), "not after the second");
        let at_once = poll(pin!(turns.wait()));
        assert!(at_once.is_ready());
        drop((two, at_once));
        turns.connected(true);
        let Poll::Ready(_held) = poll(pin!(turns.wait())) else {
            panic!("nobody before it");
        };
        assert!(poll(pin!(turns.wait())).is_pending(), "well again");
    }
}
