//! The thread that writes the access log: gathers lines, writes them in batches, survives what a
//! disk or a pipe can do to it.

use super::Target;
use crate::base::clock::Clock;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The most bytes written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the writer lets lines gather before it takes them, at most. While it rests, queueing a
/// line costs no wake-up, and what gathered goes out in one write.
const LINGER: Duration = Duration::from_millis(5);
/// The rest per line of queue, so that a short queue does not fill during it.
const LINGER_PER_LINE: Duration = Duration::from_micros(2);
/// How long a full non-blocking pipe is waited for: this many times [`LINGER`].
const PATIENCE: u32 = 200;
/// At most one warning of a kind in this time.
const WARN_EVERY_NS: u64 = 60_000_000_000;

/// What is sent to the writer.
#[derive(Debug)]
pub(super) enum Message {
    /// A line to write, its line feed included.
    Line(Vec<u8>),
    /// Look at the flags.
    Wake,
}

/// What the writer and its handles tell each other besides lines.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) dropped: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) reopen: AtomicBool,
    pub(super) stop: AtomicBool,
}

/// A writing thread, and how its end is waited for.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) thread: JoinHandle<()>,
    /// Closed when the thread ends; nothing is ever sent.
    pub(super) finished: Receiver<()>,
}

/// Starts the writing thread. Fails if the system gives no thread.
pub(super) fn spawn(
    target: Target,
    file: File,
    capacity: usize,
    shared: &Arc<Shared>,
    clock: Clock,
) -> io::Result<(SyncSender<Message>, Running)> {
    let (queue, lines) = sync_channel(capacity);
    let (done, finished) = channel();
    let per_line = LINGER_PER_LINE.saturating_mul(u32::try_from(capacity).unwrap_or(u32::MAX));
    let worker = Worker {
        lines,
        capacity,
        linger: LINGER.min(per_line),
        shared: Arc::clone(shared),
        target,
        file,
        batch: Vec::with_capacity(BATCH_BYTES),
        torn: false,
        clock,
        drops_seen: 0,
        quiet_until_ns: [0; 2],
        _done: done,
    };
    let thread = thread::Builder::new().name("access-log".into());
    let thread = thread.spawn(move || worker.run())?;
    Ok((queue, Running { thread, finished }))
}

/// Opens the target; `None` for [`Target::Off`].
pub(super) fn open(target: &Target) -> io::Result<Option<File>> {
    match target {
        Target::Off => Ok(None),
        // A handle of our own to the same file: std's is locked and cuts batches at line ends.
        Target::Stdout => {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            Ok(Some(File::from(stdout)))
        }
        Target::File(path) => {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o640);
            options.open(path).map(Some)
        }
    }
}

/// What a warning is about; each kind is held back on its own.
#[derive(Clone, Copy)]
enum Trouble {
    File,
    Queue,
}

/// The writing thread's state.
struct Worker {
    lines: Receiver<Message>,
    capacity: usize,
    linger: Duration,
    shared: Arc<Shared>,
    target: Target,
    file: File,
    batch: Vec<u8>,
    /// The last line in the file is cut off, so a line feed goes before the next.
    torn: bool,
    clock: Clock,
    drops_seen: u64,
    quiet_until_ns: [u64; 2],
    _done: Sender<()>,
}

impl Worker {
    fn run(mut self) {
        while !self.shared.stop.load(Relaxed) {
            let Ok(first) = self.lines.recv() else { break };
            if let Message::Line(line) = first {
                self.add(&line);
                thread::sleep(self.linger);
            }
            self.drain();
            self.tell_drops();
        }
        self.drain();
    }

    /// Writes what is queued; at most one queue full, so that a stop is seen under any load.
    fn drain(&mut self) {
        for _ in 0..self.capacity {
            match self.lines.try_recv() {
                Ok(Message::Line(line)) => self.add(&line),
                Ok(Message::Wake) => {}
                Err(_) => break,
            }
        }
        self.flush();
    }

    fn add(&mut self, line: &[u8]) {
        if self.batch.len() + line.len() > BATCH_BYTES {
            self.flush();
        }
        self.batch.extend_from_slice(line);
    }

    fn flush(&mut self) {
        if self.shared.reopen.swap(false, Relaxed) {
            self.reopen();
        }
        if self.torn {
            self.batch.insert(0, b'\n');
        }
        let mut written = 0;
        let failure = write(&mut self.file, &self.batch, &mut written);
        if written > 0 {
            self.torn = self.batch[written - 1] != b'\n';
        }
        if let Err(why) = failure {
            let lost = memchr::memchr_iter(b'\n', &self.batch[written..]);
            // The line feed put before a cut off line ends no line of its own.
            let lost = lost.count() - usize::from(self.torn && written == 0);
            self.shared.failed.fetch_add(lost as u64, Relaxed);
            let text = format!("{lost} lines lost in writing: {why}");
            self.warn(Trouble::File, &text);
        }
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES);
    }

    fn reopen(&mut self) {
        match open(&self.target) {
            Ok(Some(file)) if matches!(self.target, Target::File(_)) => {
                self.file = file;
                self.torn = false;
            }
            Ok(_) => {}
            Err(why) => {
                let text = format!("not reopened, old file kept: {why}");
                self.warn(Trouble::File, &text);
            }
        }
    }

    fn tell_drops(&mut self) {
        let dropped = self.shared.dropped.load(Relaxed);
        let new = dropped - self.drops_seen;
        if new > 0 && self.warn(Trouble::Queue, &format!("queue full, {new} lines dropped")) {
            self.drops_seen = dropped;
        }
    }

    /// Warns, unless a warning of this kind was given in the last minute.
    fn warn(&mut self, trouble: Trouble, text: &str) -> bool {
        let now = self.clock.now().mono_ns;
        let quiet_until = &mut self.quiet_until_ns[trouble as usize];
        let speak = now >= *quiet_until;
        if speak {
            *quiet_until = now + WARN_EVERY_NS;
            log::warn!("access log: {text}");
        }
        speak
    }
}

/// Writes all of `bytes`, telling in `written` how far it came if it fails. A pipe that another
/// process made non-blocking is waited for, for about a second.
fn write(file: &mut impl Write, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    let mut patience = PATIENCE;
    while *written < bytes.len() {
        match file.write(&bytes[*written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => *written += n,
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) if why.kind() == ErrorKind::WouldBlock && patience > 0 => {
                patience -= 1;
                thread::sleep(LINGER);
            }
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_write_tells_how_far_it_came() {
        struct Stingy(usize);
        impl Write for Stingy {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let n = self.0.min(bytes.len()).min(3);
                self.0 -= n;
                Ok(n)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut written = 0;
        let result = write(&mut Stingy(7), b"one\ntwo\nthree\n", &mut written);
        assert_eq!(result.map_err(|why| why.kind()), Err(ErrorKind::WriteZero));
        assert_eq!(written, 7);
    }
}
