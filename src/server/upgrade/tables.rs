//! What is counted exactly, on its way to the process that goes on with it.

use super::CELLS;
use crate::filter::rate_limit::Counts;
use crate::limit::exact::{Cell, Store};
use crate::limit::heir::Heir;
use crate::limit::sliding_log::Logs;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// The limits that are handed over, in the order of the offer.
pub type Tables = Vec<(String, Exact)>;

/// The counts of one limit.
pub enum Exact {
    /// In a table of cells.
    Cells(Arc<Store>),
    /// The time of each request.
    Logs(Arc<Logs>),
}

/// What went over already.
pub enum Sent {
    /// Words, by their places.
    Cells(HashMap<u64, u128>),
    /// Everything from before this time, in steady milliseconds.
    Until(u64),
}

/// So much later than it was read a time may be written.
const LATE_MS: u64 = 1000;
/// Logs are sent in messages of about so many bytes.
const BYTES: usize = 1 << 20;

impl Exact {
    /// The counts that go over; an estimate does not.
    pub fn of(counts: &Counts) -> Option<Self> {
        match counts {
            Counts::Exact(store, _) => Some(Self::Cells(store.clone())),
            Counts::Log(logs, _) => Some(Self::Logs(logs.clone())),
            Counts::Estimate(_) => None,
        }
    }

    /// The size of a table that has to be of one size at both ends.
    pub fn buckets(&self) -> u64 {
        match self {
            Self::Cells(store) => store.buckets(),
            Self::Logs(_) => 0,
        }
    }

    /// From now on somebody else decides.
    pub fn give(&self, heir: Arc<dyn Heir>) {
        match self {
            Self::Cells(store) => store.give(heir),
            Self::Logs(logs) => logs.give(heir),
        }
    }

    /// Decides by itself again.
    pub fn take_back(&self) {
        match self {
            Self::Cells(store) => store.take_back(),
            Self::Logs(logs) => logs.take_back(),
        }
    }

    /// Hands out everything that is counted, message by message, or what of it is new since it was sent.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn send(
        &self,
        now_ms: u64,
        sent: Option<&Sent>,
        mut put: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Sent> {
        match self {
            Self::Cells(store) => {
                let mut cells = store.cells(now_ms);
                if let Some(Sent::Cells(sent)) = sent {
                    cells.retain(|cell| sent.get(&cell.place) != Some(&cell.word));
                }
                for some in cells.chunks(CELLS) {
                    let mut message = Vec::with_capacity(some.len() * Cell::BYTES);
                    for cell in some {
                        message.extend_from_slice(&cell.to_bytes());
                    }
                    put(&message)?;
                }
                let sent = cells.iter().map(|cell| (cell.place, cell.word));
                Ok(Sent::Cells(sent.collect()))
            }
            Self::Logs(logs) => {
                let since_ms = match sent {
                    Some(Sent::Until(ms)) => ms.saturating_sub(LATE_MS),
                    _ => 0,
                };
                let mut message = Vec::new();
                for record in logs.records(since_ms) {
                    message.extend_from_slice(&record);
                    if message.len() > BYTES {
                        put(&message)?;
                        message.clear();
                    }
                }
                put(&message)?;
                Ok(Sent::Until(now_ms))
            }
        }
    }
}
