//! How a table's counts go to the table of another process, and how that one then decides for both, so
//! that at any moment one table counts and no request is counted by none.

use super::{Bucket, SEGMENT_BUCKETS, Segment, Store, WAYS, Word, made, read};
use crate::limit::heir::Heir;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// The version of [`Cell`]; cells of another version mean something else.
pub const FORMAT: u32 = 2;

/// A client's counts and their place, as another table of as many buckets has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The bucket, and the cell in it.
    pub place: u64,
    /// The word in it.
    pub word: u128,
}

impl Cell {
    /// Bytes of a cell on its way.
    pub const BYTES: usize = 24;

    /// The cell as it travels.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.place.to_le_bytes());
        bytes[8..].copy_from_slice(&self.word.to_le_bytes());
        bytes
    }

    /// A cell that came.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (mut place, mut word) = ([0; 8], [0; 16]);
        place.copy_from_slice(&bytes[..8]);
        word.copy_from_slice(&bytes[8..]);
        Self {
            place: u64::from_le_bytes(place),
            word: u128::from_le_bytes(word),
        }
    }
}

impl Store {
    /// How many buckets it has. Cells fit a table that has as many, and no other.
    pub fn buckets(&self) -> u64 {
        self.buckets
    }

    /// From now on somebody else decides. A decision that another thread is at may still be counted
    /// here: cells are final once each of them has done something else.
    pub fn give(&self, heir: Arc<dyn Heir>) {
        self.given.set(Some(heir));
    }

    /// Decides by itself again.
    pub fn take_back(&self) {
        self.given.set(None);
    }

    /// The cells in use at `now_ms`, in the order of their places.
    pub fn cells(&self, now_ms: u64) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (at, segment) in self.segments.iter().enumerate() {
            let Some(buckets) = segment.get() else {
                continue;
            };
            let all = buckets.iter().flat_map(|bucket| &bucket.0).enumerate();
            let words = all.map(|(n, cell)| (n, read(cell)));
            let used = words.filter(|(_, w)| !w.is_claim() && !w.is_vacant(now_ms / 1000));
            let first = at * SEGMENT_BUCKETS * WAYS;
            cells.extend(used.map(|(n, word)| Cell {
                place: (first + n) as u64,
                word: word.0,
            }));
        }
        cells
    }

    /// Puts a cell where it was in the table that it comes from. False if it fits nowhere here. Only
    /// for a table that nobody else uses yet.
    pub fn put(&self, cell: Cell) -> bool {
        let (bucket, way) = (cell.place / WAYS as u64, cell.place as usize % WAYS);
        if bucket >= self.buckets || Word(cell.word).is_claim() {
            return false;
        }
        let segment: &Segment = &self.segments[bucket as usize / SEGMENT_BUCKETS];
        let buckets = segment.get_or_init(made);
        let Bucket(cells) = &buckets[bucket as usize % SEGMENT_BUCKETS];
        cells[way].store(cell.word, SeqCst);
        true
    }
}
