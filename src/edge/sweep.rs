//! The time limits of a worker's connections: one list a thread, looked at every 50 ms, instead
//! of a timer each.

use crate::base::clock::Clock;
use crate::exchange::connection::Connection;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often limits are looked at; a limit ends at most this late.
const EVERY: Duration = Duration::from_millis(50);

thread_local! {
    static OPEN: RefCell<Vec<Arc<Connection>>> = const { RefCell::new(Vec::new()) };
}

/// Puts a connection on this thread's list.
pub fn enlist(conn: &Arc<Connection>) {
    OPEN.with_borrow_mut(|open| {
        let slot = u32::try_from(open.len()).unwrap_or(u32::MAX);
        conn.slot.store(slot, Relaxed);
        open.push(conn.clone());
    });
}

/// Takes a connection off the list.
pub fn discharge(conn: &Connection) {
    // The list may be gone already when a thread ends with connections open.
    let _ = OPEN.try_with(|open| {
        let mut open = open.borrow_mut();
        let slot = conn.slot.load(Relaxed) as usize;
        if slot < open.len() {
            open.swap_remove(slot);
        }
        if let Some(moved) = open.get(slot) {
            moved.slot.store(conn.slot.load(Relaxed), Relaxed);
        }
    });
}

/// Sweeps this thread's connections for as long as the worker lives.
pub async fn run(clock: Clock) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        clock.follow();
        let now = clock.now();
        OPEN.with_borrow(|open| open.iter().for_each(|conn| conn.sweep(now)));
    }
}
