//! A table that was given to another process: that one decides from then on, so that at any moment one table
//! counts and no request is counted by none.

use super::quota::Quota;
use super::{Decision, Key};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// Who decides in place of a table that was given away.
pub trait Heir: Send + Sync {
    /// What the table's `check` says there, or, where nothing is to be counted, its `peek`. `None` if there
    /// is no answer: the table then decides by what it knows.
    fn decide(&self, quota: Quota, key: Key, cost: u32, count: bool) -> Option<Decision>;
}

/// Whether a table was given away, and to whom. Costs a table that was not one load.
#[derive(Default)]
pub(super) struct Given {
    away: AtomicBool,
    heir: Mutex<Option<Arc<dyn Heir>>>,
}

impl Given {
    pub(super) fn decide(
        &self,
        quota: impl FnOnce() -> Quota,
        key: &Key,
        cost: u32,
        count: bool,
    ) -> Option<Decision> {
        if !self.away.load(SeqCst) {
            return None;
        }
        let held = self.heir.lock().unwrap_or_else(PoisonError::into_inner);
        let heir = held.clone();
        // Whoever waits for an answer keeps nobody else from asking.
        drop(held);
        heir?.decide(quota(), *key, cost, count)
    }

    pub(super) fn set(&self, heir: Option<Arc<dyn Heir>>) {
        let mut held = self.heir.lock().unwrap_or_else(PoisonError::into_inner);
        self.away.store(heir.is_some(), SeqCst);
        *held = heir;
    }
}
