//! The end in order: nothing new is taken, what is there finishes.

use super::Server;
use crate::base::clock::Now;
use crate::config::server::DrainConf;
use crate::exchange::listener::{Listener, Patience};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often it is looked whether something is left.
const EVERY: Duration = Duration::from_millis(10);
/// Milliseconds until the sweeps have told everybody whose time is over.
const TOLD_MS: u64 = 200;
/// Milliseconds that what ends by itself may take beyond the end: a WebSocket for the last frame, the
/// answer to its Close and the client's end.
const LAST_MS: u64 = 4000;

/// What the config grants, first of all to load balancers.
pub(super) fn granted(drain: &DrainConf) -> (Duration, Patience) {
    let DrainConf { notice, idle, max } = drain;
    let patience = Patience {
        idle_ms: idle.value.as_ms(),
        max_ms: max.value.as_ms(),
    };
    (notice.value.0, patience)
}

impl Server {
    /// Ends in order: readiness fails, the notice passes, listeners close, idle connections may send
    /// one more request, requests in flight finish, WebSockets are closed where they last too long.
    /// True if nothing was cut off.
    pub fn drain(&self) -> bool {
        self.shared.ready.store(false, Relaxed);
        // Whatever would be reloaded from here on is not.
        let mut running = self.running();
        let (notice, patience) = granted(&running.conf.server.drain);
        // Where another process took over, it answers balancers, and nothing is accepted here.
        if !running.handed_over {
            std::thread::sleep(notice);
        }
        // Each socket here keeps its listener open for as long as it is there.
        let doors = std::mem::take(&mut running.doors).into_iter();
        let mut all: Vec<_> = doors.map(|door| door.entrance.listener.clone()).collect();
        all.extend(running.leaving.iter().cloned());
        if running.handed_over {
            // Whoever asked for that there is still to be told.
            all.extend(self.admin.as_ref().map(|admin| admin.listener.clone()));
        }
        let begun = self.shared.clock.now();
        let left = async {
            self.close(&all, begun, patience).await;
            while !self.is_over(&all, begun, patience) {
                tokio::time::sleep(EVERY).await;
            }
        };
        self.background.block_on(left);
        all.iter().all(|l| l.active() == 0 && !l.has_cut_off())
    }

    /// Closes listeners that a config has no more; their connections end as in a drain.
    pub(super) fn leave(&self, gone: &[Arc<Listener>], drain: &DrainConf) {
        let now = self.shared.clock.now();
        let (_, patience) = granted(drain);
        self.background.block_on(self.close(gone, now, patience));
    }

    async fn close(&self, listeners: &[Arc<Listener>], now: Now, patience: Patience) {
        let Some(edge) = &self.edge else { return };
        for listener in listeners {
            edge.close(listener, now, patience).await;
        }
    }

    /// Whether there is nothing left that is worth a wait.
    fn is_over(&self, all: &[Arc<Listener>], begun: Now, patience: Patience) -> bool {
        // A process whose place this one took may still ask what limits allow.
        let asked = self.answering.is_asked();
        if !asked && all.iter().all(|listener| listener.open() == 0) {
            return true;
        }
        let passed_ms = self.shared.clock.now().since_ns(begun) / 1_000_000;
        let beyond_ms = passed_ms.checked_sub(patience.max_ms);
        let ending = all.iter().any(|listener| listener.has_ending());
        beyond_ms.is_some_and(|ms| ms >= if ending { LAST_MS } else { TOLD_MS })
    }
}
