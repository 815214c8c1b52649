//! Limits while two processes serve: the one that ends asks the one that took its place, so that a
//! client gets what its limit allows, not twice that.

use crate::filter::rate_limit::Counts;
use crate::gateway::Shared;
use crate::limit::heir::Heir;
use crate::limit::quota::{self, Quota};
use crate::limit::{Decision, Key};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// The longest that a request waits for an answer. The process that asks is about to end; when one
/// answer is late it asks no more.
const PATIENCE: Duration = Duration::from_millis(500);

/// A question: the limit's place in the list that was offered, the key, the cost, whether to count,
/// and the caller's quota.
const QUESTION: usize = 4 + 16 + 4 + 1 + quota::BYTES;
/// An answer: whether there is one, whether the request may pass, and the decision's five figures.
const ANSWER: usize = 1 + 1 + 5 * 8;

/// The line to the process that decides now.
#[derive(Debug)]
pub struct Asks {
    stream: Mutex<UnixStream>,
    lives: AtomicBool,
    within: Mutex<HashSet<ThreadId>>,
}

impl Asks {
    /// A line over a stream.
    ///
    /// # Errors
    /// The system's.
    pub fn new(stream: UnixStream) -> io::Result<Arc<Self>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Arc::new(Self {
            stream: Mutex::new(stream),
            lives: AtomicBool::new(true),
            within: Mutex::default(),
        }))
    }

    /// Whether a thread waits here: what it was at before is over.
    pub fn holds(&self, thread: ThreadId) -> bool {
        lock(&self.within).contains(&thread)
    }

    /// Who decides for the limit at this place of the list.
    pub fn heir(self: &Arc<Self>, limit: u32) -> Arc<dyn Heir> {
        Arc::new(Elsewhere {
            asks: self.clone(),
            limit,
        })
    }

    fn ask(&self, question: &[u8; QUESTION]) -> Option<[u8; ANSWER]> {
        let here = thread::current().id();
        lock(&self.within).insert(here);
        let answer = self.exchange(question);
        lock(&self.within).remove(&here);
        answer
    }

    fn exchange(&self, question: &[u8; QUESTION]) -> Option<[u8; ANSWER]> {
        let mut stream = lock(&self.stream);
        // Also for those that waited for one that failed.
        if !self.lives.load(Relaxed) {
            return None;
        }
        let mut answer = [0; ANSWER];
        let done = stream
            .write_all(question)
            .and_then(|()| stream.read_exact(&mut answer));
        if let Err(why) = done {
            self.lives.store(false, Relaxed);
            log::warn!(
                "upgrade: the new process does not say what limits allow ({why}); this one decides \
                 by what it knows"
            );
            return None;
        }
        Some(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads that answer processes whose place this one took, and whether they are at a decision.
#[derive(Debug, Default)]
pub struct Answering(Mutex<HashMap<ThreadId, bool>>);

impl Answering {
    /// Whether there is such a process.
    pub fn is_asked(&self) -> bool {
        !lock(&self.0).is_empty()
    }

    /// Whether a thread is at a decision of its own. It is not while it asks somebody else.
    pub fn decides(&self, asks: &Asks) -> bool {
        let all = lock(&self.0);
        let mut deciding = all.iter().filter(|(_, deciding)| **deciding);
        deciding.any(|(thread, _)| !asks.holds(*thread))
    }

    fn set(&self, deciding: bool) {
        lock(&self.0).insert(thread::current().id(), deciding);
    }

    fn end(&self) {
        lock(&self.0).remove(&thread::current().id());
    }
}

struct Elsewhere {
    asks: Arc<Asks>,
    limit: u32,
}

impl Heir for Elsewhere {
    fn decide(&self, quota: Quota, key: Key, cost: u32, count: bool) -> Option<Decision> {
        let mut question = [0; QUESTION];
        question[..4].copy_from_slice(&self.limit.to_le_bytes());
        question[4..20].copy_from_slice(&key.to_bytes());
        question[20..24].copy_from_slice(&cost.to_le_bytes());
        question[24] = u8::from(count);
        question[25..].copy_from_slice(&quota.to_bytes());
        read(&self.asks.ask(&question)?)
    }
}

fn read(answer: &[u8; ANSWER]) -> Option<Decision> {
    let figure = |n: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&answer[2 + 8 * n..10 + 8 * n]);
        u64::from_le_bytes(bytes)
    };
    (answer[0] == 1).then(|| Decision {
        allowed: answer[1] == 1,
        limit: figure(0),
        remaining: figure(1),
        reset_ms: figure(2),
        retry_after_ms: figure(3),
        delay_ms: figure(4),
    })
}

fn written(decision: Option<Decision>) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    if let Some(decision) = decision {
        let Decision {
            allowed,
            limit,
            remaining,
            reset_ms,
            retry_after_ms,
            delay_ms,
        } = decision;
        answer[..2].copy_from_slice(&[1, u8::from(allowed)]);
        let figures = [limit, remaining, reset_ms, retry_after_ms, delay_ms];
        for (place, figure) in answer[2..].chunks_exact_mut(8).zip(figures) {
            place.copy_from_slice(&figure.to_le_bytes());
        }
    }
    answer
}

/// Answers until the process that asks is gone. `names`: the limits that it has, in its order.
pub fn answer(mut stream: UnixStream, names: &[String], shared: &Shared, answering: &Answering) {
    answering.set(false);
    let mut question = [0; QUESTION];
    while stream.read_exact(&mut question).is_ok() {
        answering.set(true);
        let decision = decide(&question, names, shared);
        answering.set(false);
        if stream.write_all(&written(decision)).is_err() {
            break;
        }
    }
    answering.end();
}

fn decide(question: &[u8; QUESTION], names: &[String], shared: &Shared) -> Option<Decision> {
    let (mut limit, mut key, mut cost) = ([0; 4], [0; 16], [0; 4]);
    limit.copy_from_slice(&question[..4]);
    key.copy_from_slice(&question[4..20]);
    cost.copy_from_slice(&question[20..24]);
    let (key, cost) = (Key::from_bytes(key), u32::from_le_bytes(cost));
    let name = names.get(u32::from_le_bytes(limit) as usize)?;
    let snapshot = shared.snapshot.load();
    let now_ms = shared.clock.now().steady_ms;
    let quota = Quota::from_bytes(question.last_chunk()?)?;
    let count = question[24] == 1;
    match (snapshot.kept.counts.get(name)?, quota) {
        (Counts::Exact(store, _), Quota::Rule(rule)) => Some(if count {
            store.check(&rule, &key, now_ms, cost)
        } else {
            store.peek(&rule, &key, now_ms, cost)
        }),
        (Counts::Log(logs, _), Quota::Log(rule)) => Some(if count {
            logs.check(&rule, &key, now_ms, cost)
        } else {
            logs.peek(&rule, &key, now_ms, cost)
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::sliding_window::SlidingWindow;

    #[test]
    fn decisions_come_back_as_they_went() {
        let decision = Decision {
            allowed: true,
            limit: 100,
            remaining: 7,
            reset_ms: u64::MAX - 1,
            retry_after_ms: Decision::NEVER,
            delay_ms: 5,
        };
        assert_eq!(read(&written(Some(decision))), Some(decision));
        assert_eq!(read(&written(None)), None);
    }

    #[test]
    fn whoever_gets_no_answer_decides_alone_and_asks_no_more() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let asks = Asks::new(ours).expect("a line");
        let heir = asks.heir(0);
        drop(theirs);
        let rule = SlidingWindow::new(1, 1000).expect("a rule").into();
        assert_eq!(
            heir.decide(Quota::Rule(rule), Key::new(1, &[b"a"]), 1, true),
            None
        );
        assert!(!asks.lives.load(Relaxed));
    }
}
