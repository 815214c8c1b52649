//! Who wants to hear of changes in Redis, and telling them.

use super::fault;
use ::redis::{PushInfo, PushKind, RedisError, Value};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Notify;

/// What is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Changes of the keys that begin so, whoever makes them, ourselves included.
    Keys(Box<[u8]>),
    /// Messages on the channel of this name. Channels are common to all databases of a server.
    Channel(Box<[u8]>),
}

/// Who hears of it. What it does must be quick: nothing else is heard meanwhile.
///
/// # Keeping no stale answers
/// A key may change while it is looked up: the answer may be older than the change and yet arrive after
/// [`Watcher::changed`]. So whoever remembers answers keeps a number for each bucket of keys, adds one to
/// it in `changed` (to all of them in `watching` and `lost`), notes the number before it asks, and
/// remembers the answer only if the number is still the same, looking at it and storing the answer in one
/// step that `changed` does not interrupt.
pub trait Watcher: Send + Sync {
    /// A key with the prefix was written or deleted, or has expired.
    fn changed(&self, key: &[u8]);

    /// There is a message on the channel.
    fn message(&self, payload: &[u8]);

    /// From now on nothing is missed. What was remembered from before may be out of date. Also told
    /// when a database is emptied, which may have changed any key.
    fn watching(&self);

    /// From now on changes may be missed: so it is too until `watching` is told for the first time.
    fn lost(&self);
}

/// A watcher and what it has been told.
struct Entry {
    what: Watch,
    watcher: Weak<dyn Watcher>,
    /// Whether it takes it that nothing is missed.
    told: bool,
}

/// All watchers. Locked for moments, by background tasks and while a config is taken up.
#[derive(Default)]
pub(super) struct Watched {
    entries: Mutex<Vec<Entry>>,
    /// Wakes the task that listens.
    pub(super) more: Notify,
}

/// What is asked of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// None of them begins with another: the server refuses that.
    pub(super) prefixes: Vec<Box<[u8]>>,
    pub(super) channels: Vec<Box<[u8]>>,
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.channels.is_empty()
    }

    /// Whether all of this is in it too.
    pub(super) fn covers(&self, other: &Wanted) -> bool {
        let known = |prefix: &[u8]| self.prefixes.iter().any(|own| prefix.starts_with(own));
        let prefixes = other.prefixes.iter().all(|prefix| known(prefix));
        prefixes && other.channels.iter().all(|c| self.channels.contains(c))
    }

    fn has(&self, what: &Watch) -> bool {
        match what {
            Watch::Keys(prefix) => self.prefixes.iter().any(|own| prefix.starts_with(own)),
            Watch::Channel(name) => self.channels.contains(name),
        }
    }
}

impl Watched {
    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, what: Watch, watcher: Weak<dyn Watcher>) {
        let told = false;
        self.entries().push(Entry {
            what,
            watcher,
            told,
        });
        self.more.notify_one();
    }

    /// What those who are still there want to hear of.
    pub(super) fn wanted(&self) -> Wanted {
        let mut entries = self.entries();
        entries.retain(|entry| entry.watcher.strong_count() > 0);
        let mut wanted = Wanted::default();
        for entry in &*entries {
            match &entry.what {
                Watch::Keys(prefix) => wanted.prefixes.push(prefix.clone()),
                Watch::Channel(name) => wanted.channels.push(name.clone()),
            }
        }
        wanted.channels.sort_unstable();
        wanted.channels.dedup();
        // Sorted, a prefix stands right before what begins with it.
        wanted.prefixes.sort_unstable();
        wanted
            .prefixes
            .dedup_by(|later, kept| later.starts_with(kept));
        wanted
    }

    /// All of this is listened to now: tells those who do not know it yet.
    pub(super) fn watching(&self, heard: &Wanted) {
        self.tell(|entry| {
            let news = !entry.told && heard.has(&entry.what);
            entry.told |= news;
            news
        })
        .for_each(|watcher| watcher.watching());
    }

    /// Nothing is listened to any more: tells those who do not know it yet.
    pub(super) fn lost(&self) {
        self.tell(|entry| std::mem::take(&mut entry.told))
            .for_each(|watcher| watcher.lost());
    }

    /// What the server says unasked.
    pub(super) fn hear(&self, push: &PushInfo) {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Invalidate, [Value::Array(keys)]) => keys.iter().for_each(|key| {
                if let Value::BulkString(key) = key {
                    self.changed(key);
                }
            }),
            // The whole database was emptied.
            (PushKind::Invalidate, _) => self
                .tell(|entry| entry.told && matches!(entry.what, Watch::Keys(_)))
                .for_each(|watcher| watcher.watching()),
            (PushKind::Message, [Value::BulkString(channel), Value::BulkString(payload)]) => self
                .tell(|entry| matches!(&entry.what, Watch::Channel(name) if **name == **channel))
                .for_each(|watcher| watcher.message(payload)),
            _ => {}
        }
    }

    fn changed(&self, key: &[u8]) {
        self.tell(|entry| matches!(&entry.what, Watch::Keys(prefix) if key.starts_with(prefix)))
            .for_each(|watcher| watcher.changed(key));
    }

    /// Those that are picked, with the lock let go: they may do what they like.
    fn tell(
        &self,
        mut pick: impl FnMut(&mut Entry) -> bool,
    ) -> std::vec::IntoIter<Arc<dyn Watcher>> {
        let mut entries = self.entries();
        let picked = entries.iter_mut().filter_map(|entry| {
            let picked = pick(entry);
            picked.then(|| entry.watcher.upgrade()).flatten()
        });
        picked.collect::<Vec<_>>().into_iter()
    }
}

/// Why something is not listened to, for the log.
pub(super) fn refused(what: &str, fault: &RedisError) -> String {
    format!("{what}: {}", fault::in_words(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down what it is told.
    #[derive(Default)]
    struct Diary(Mutex<Vec<String>>);

    impl Diary {
        fn note(&self, text: impl Into<String>) {
            self.0.lock().expect("one").push(text.into());
        }

        fn read(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().expect("one"))
        }
    }

    impl Watcher for Diary {
        fn changed(&self, key: &[u8]) {
            self.note(format!("changed {}", String::from_utf8_lossy(key)));
        }

        fn message(&self, payload: &[u8]) {
            self.note(format!("message {}", String::from_utf8_lossy(payload)));
        }

        fn watching(&self) {
            self.note("watching");
        }

        fn lost(&self) {
            self.note("lost");
        }
    }

    fn keys(prefix: &str) -> Watch {
        Watch::Keys(prefix.as_bytes().into())
    }

    fn add(watched: &Watched, what: Watch) -> Arc<Diary> {
        let diary = Arc::new(Diary::default());
        let weak: Weak<Diary> = Arc::downgrade(&diary);
        watched.add(what, weak);
        diary
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn push(kind: PushKind, data: Vec<Value>) -> PushInfo {
        PushInfo { kind, data }
    }

    #[test]
    fn prefixes_that_begin_with_another_are_asked_for_once() {
        let watched = Watched::default();
        let all: Vec<_> = ["b:", "a:x:", "a:", "a:x", "b:", "ab"]
            .map(|prefix| add(&watched, keys(prefix)))
            .into();
        let wanted = watched.wanted();
        let want: Vec<Box<[u8]>> = [b"a:" as &[u8], b"ab", b"b:"].map(Into::into).into();
        assert_eq!(wanted.prefixes, want);
        let smaller = Wanted {
            prefixes: vec![b"a:x" as &[u8]].into_iter().map(Into::into).collect(),
            channels: Vec::new(),
        };
        assert!(wanted.covers(&smaller) && !smaller.covers(&wanted));
        drop(all);
        assert!(
            watched.wanted().is_empty(),
            "those who are gone want nothing"
        );
    }

    #[test]
    fn each_hears_what_it_wants_and_nothing_twice() {
        let watched = Watched::default();
        let a = add(&watched, keys("a:"));
        let c = add(&watched, Watch::Channel(b"news".as_slice().into()));
        let heard = watched.wanted();
        watched.watching(&heard);
        watched.watching(&heard);
        // Who comes later, and whether it is listened to.
        let b = add(&watched, keys("b:"));
        watched.watching(&heard);
        assert_eq!((a.read(), b.read()), (vec!["watching".to_owned()], vec![]));
        watched.watching(&watched.wanted());
        assert_eq!((a.read(), b.read()), (vec![], vec!["watching".to_owned()]));
        assert_eq!(c.read(), ["watching"]);

        let invalid = Value::Array(vec![text("a:1"), text("x"), text("b:2"), Value::Nil]);
        watched.hear(&push(PushKind::Invalidate, vec![invalid]));
        let said = |channel, payload| push(PushKind::Message, vec![text(channel), text(payload)]);
        watched.hear(&said("news", "hello"));
        watched.hear(&said("other", "hello"));
        watched.hear(&push(
            PushKind::Subscribe,
            vec![text("news"), Value::Int(1)],
        ));
        assert_eq!(
            (a.read(), b.read()),
            (
                vec!["changed a:1".to_owned()],
                vec!["changed b:2".to_owned()]
            )
        );
        assert_eq!(c.read(), ["message hello"]);

        watched.hear(&push(PushKind::Invalidate, vec![Value::Nil]));
        assert_eq!((a.read(), c.read()), (vec!["watching".to_owned()], vec![]));
        watched.lost();
        watched.lost();
        assert_eq!(
            (a.read(), c.read()),
            (vec!["lost".to_owned()], vec!["lost".to_owned()])
        );
        watched.watching(&heard);
        assert_eq!(a.read(), ["watching"]);
    }
}
