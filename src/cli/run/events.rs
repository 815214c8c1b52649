//! What a process that serves waits for: signals, what its admin port asks, changes of its config file.

use crate::admin::Ask;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// What ends the wait.
pub enum Event {
    /// SIGTERM or SIGINT.
    End,
    /// SIGUSR1.
    Reopen,
    /// SIGHUP.
    Reload,
    /// The config file is another than before, and has stayed so for a second.
    Changed,
    /// The admin port asks.
    Asked(Ask),
    /// The new process serves, or why it does not.
    Upgraded(Result<u32, String>),
}

/// The events of this process, heeded from the moment this is made.
pub struct Events {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
    hangup: Signal,
    asked: mpsc::Receiver<Ask>,
    upgraded: mpsc::UnboundedReceiver<Result<u32, String>>,
    tick: Interval,
    file: Watched,
}

/// How often the config file is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Events {
    /// Heeds them.
    ///
    /// # Errors
    /// The system's.
    pub fn heed(
        asked: mpsc::Receiver<Ask>,
        upgraded: mpsc::UnboundedReceiver<Result<u32, String>>,
        config: &Path,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let inside = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let reopen = signal(SignalKind::user_defined1())?;
        let hangup = signal(SignalKind::hangup())?;
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        drop(inside);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            reopen,
            hangup,
            asked,
            upgraded,
            tick,
            file: Watched::new(config),
        })
    }

    /// Waits for the next; `watched`: whether changes of the config file are one.
    pub fn next(&mut self, watched: bool) -> Event {
        loop {
            let event = self.runtime.block_on(async {
                tokio::select! {
                    _ = self.terminate.recv() => Some(Event::End),
                    _ = self.interrupt.recv() => Some(Event::End),
                    _ = self.reopen.recv() => Some(Event::Reopen),
                    _ = self.hangup.recv() => Some(Event::Reload),
                    Some(ask) = self.asked.recv() => Some(Event::Asked(ask)),
                    Some(done) = self.upgraded.recv() => Some(Event::Upgraded(done)),
                    _ = self.tick.tick(), if watched => None,
                }
            });
            match event {
                Some(event) => return event,
                None if self.file.changed() => return Event::Changed,
                None => {}
            }
        }
    }

    /// Takes the config file as it is now for the one in use.
    pub fn read(&mut self) {
        self.file.known = stamp(&self.file.path);
        self.file.seen = self.file.known;
    }
}

/// A file's number, length and time of change. Another file of the same name has another number.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let of = |m: Metadata| (m.ino(), m.len(), m.mtime(), m.mtime_nsec());
    std::fs::metadata(path).ok().map(of)
}

/// A file, and what was seen of it.
struct Watched {
    path: PathBuf,
    /// As it was read.
    known: Option<Stamp>,
    /// As it was at the last look.
    seen: Option<Stamp>,
}

impl Watched {
    fn new(path: &Path) -> Self {
        let known = stamp(path);
        Self {
            path: path.to_owned(),
            known,
            seen: known,
        }
    }

    /// Whether it is another than was read, and the same as at the last look: one that is being written
    /// is let alone, and so is one that is not there.
    fn changed(&mut self) -> bool {
        let now = stamp(&self.path);
        let still = now == self.seen;
        self.seen = now;
        let changed = still && now.is_some() && now != self.known;
        if changed {
            self.known = now;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_changed_once_it_stays_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, "one").expect("writes");
        let mut file = Watched::new(&path);
        assert!(!file.changed() && !file.changed());
        std::fs::write(&path, "one more").expect("writes");
        assert!(!file.changed(), "it may still be being written");
        std::fs::write(&path, "one more and another").expect("writes");
        assert!(!file.changed(), "it was");
        assert!(file.changed());
        assert!(!file.changed(), "once");
        std::fs::remove_file(&path).expect("removes");
        assert!(!file.changed() && !file.changed(), "nothing to be read");
        std::fs::write(&path, "one more and another").expect("writes");
        assert!(!file.changed());
        assert!(file.changed(), "another file");
    }
}
