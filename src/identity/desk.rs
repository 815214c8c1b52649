//! The bounds on what requests may cost an issuer: one fetch asked for in ten seconds, a limited
//! number of requests waiting for it, and a short memory of key ids that are not to be found.

use super::budget::Budget;
use super::key::MAX_KID;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

/// The least time between two fetches that requests ask for; failed ones count too.
pub const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// How long a key id that a fresh key set did not hold is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// How many such key ids are remembered; more than can be asked for in that time.
const UNKNOWN_KIDS: usize = 16;
/// How many requests of one issuer may wait for a fetch; further ones are answered at once.
const MAX_WAITING: usize = 256;

/// Where requests ask for a fetch and wait for it.
pub(super) struct Desk {
    /// Set when the task that fetches has ended.
    closed: AtomicBool,
    /// Whether a fetch is under way or about to be; at first it is.
    busy: AtomicBool,
    /// Whether one was asked for that has not begun.
    wanted: AtomicBool,
    /// What the issuer can still be asked.
    pub budget: Budget,
    /// When a fetch was last asked for, in milliseconds plus one; 0 for never.
    last_ask: AtomicU64,
    waiting: AtomicUsize,
    unknown: Unknown,
}

/// What became of asking for a fetch.
pub(super) enum Ask {
    /// Not now: asked for a moment ago, or nobody fetches any more.
    Throttled,
    /// One is under way.
    Joined,
    /// One is to be started by whoever got this answer.
    Started,
}

impl Desk {
    /// A desk where the first fetch is awaited.
    pub fn new() -> Desk {
        Desk {
            closed: AtomicBool::new(false),
            busy: AtomicBool::new(true),
            wanted: AtomicBool::new(false),
            budget: Budget::default(),
            last_ask: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            unknown: Unknown::default(),
        }
    }

    /// Keeps the desk open until what it returns is dropped; from then on nobody fetches.
    pub fn open(&self) -> impl Drop {
        self.closed.store(false, SeqCst);
        Undo(|| self.closed.store(true, SeqCst))
    }

    /// A fetch begins: whatever was asked for until now, this is it.
    pub fn round_begins(&self) {
        self.busy.store(true, SeqCst);
        self.wanted.store(false, SeqCst);
    }

    /// Whether a fetch was asked for that has not begun.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(SeqCst)
    }

    /// The fetch is over.
    pub fn round_over(&self) {
        self.busy.store(false, SeqCst);
    }

    /// Asks at `now_ms` (monotonic milliseconds) for a fetch that takes so many requests. One more is
    /// left for what is fetched by the clock.
    pub fn ask(&self, now_ms: u64, requests: usize) -> Ask {
        if self.closed.load(SeqCst) {
            return Ask::Throttled;
        }
        if self.busy.load(SeqCst) {
            return Ask::Joined;
        }
        let last = self.last_ask.load(SeqCst);
        let due = last == 0 || now_ms + 1 >= last + ASK_INTERVAL.as_millis() as u64;
        let due = due && self.budget.room(now_ms) > requests;
        let won = due
            && self
                .last_ask
                .compare_exchange(last, now_ms + 1, SeqCst, SeqCst)
                .is_ok();
        if !won {
            // Whoever won a race has started a fetch: that one is as good.
            return if due { Ask::Joined } else { Ask::Throttled };
        }
        self.busy.store(true, SeqCst);
        self.wanted.store(true, SeqCst);
        Ask::Started
    }

    /// Whether a fresh key set was found not to hold `kid` a moment ago.
    pub fn known_unknown(&self, kid: &str, now_ms: u64) -> bool {
        self.unknown.holds(kid, now_ms)
    }

    /// Remembers that a fresh key set does not hold `kid`.
    pub fn remember_unknown(&self, kid: &str, now_ms: u64) {
        self.unknown.add(kid, now_ms);
    }

    /// A seat to wait in; none when all are taken.
    pub fn seat(&self) -> Option<impl Drop> {
        let seat = Undo(|| {
            self.waiting.fetch_sub(1, Relaxed);
        });
        (self.waiting.fetch_add(1, Relaxed) < MAX_WAITING).then_some(seat)
    }
}

/// Does something when it goes out of scope, also when the future that holds it is dropped.
struct Undo<F: Fn()>(F);

impl<F: Fn()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Key ids that a fresh key set did not hold. Compared whole; the oldest goes first.
#[derive(Default)]
struct Unknown {
    hand: AtomicU32,
    kids: [ArcSwapOption<(Box<str>, u64)>; UNKNOWN_KIDS],
}

impl Unknown {
    fn holds(&self, kid: &str, now_ms: u64) -> bool {
        self.kids.iter().any(|place| {
            let place = place.load();
            place
                .as_deref()
                .is_some_and(|(own, until)| **own == *kid && now_ms < *until)
        })
    }

    fn add(&self, kid: &str, now_ms: u64) {
        if kid.len() > MAX_KID {
            return;
        }
        let way = self.hand.fetch_add(1, Relaxed) as usize % UNKNOWN_KIDS;
        let until = now_ms + UNKNOWN_FOR.as_millis() as u64;
        self.kids[way].store(Some(Arc::new((Box::from(kid), until))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_desk_starts_one_fetch_in_ten_seconds() {
        let desk = Desk::new();
        let open = desk.open();
        assert!(
            matches!(desk.ask(0, 1), Ask::Joined),
            "the first fetch is under way"
        );
        let mut started = 0;
        for ms in 0..60_000 {
            desk.round_over();
            started += u32::from(matches!(desk.ask(ms, 1), Ask::Started));
        }
        assert_eq!(started, 6);
        for _ in 0..crate::identity::budget::MOST - 1 {
            desk.budget.take(90_000);
        }
        desk.round_over();
        assert!(matches!(desk.ask(90_000, 1), Ask::Throttled), "one is left");
        desk.round_begins();
        assert!(!desk.is_wanted());
        desk.round_over();
        assert!(matches!(desk.ask(200_000, 2), Ask::Started) && desk.is_wanted());
        drop(open);
        assert!(matches!(desk.ask(300_000, 1), Ask::Throttled));
    }

    #[test]
    fn seats_and_unknown_kids_are_bounded() {
        let desk = Desk::new();
        let mut seats: Vec<_> = (0..MAX_WAITING).map(|_| desk.seat().unwrap()).collect();
        assert!(desk.seat().is_none());
        seats.pop();
        assert!(desk.seat().is_some());
        for n in 0..=UNKNOWN_KIDS {
            desk.unknown.add(&n.to_string(), 0);
        }
        assert!(!desk.unknown.holds("0", 1) && desk.unknown.holds("1", 29_999));
        assert!(!desk.unknown.holds("1", 30_000));
    }
}
