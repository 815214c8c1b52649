//! The access log: one line a request, queued without waiting and written by a thread of its own.
//!
//! A request never waits for the disk or the pipe: when the writer falls behind by the whole
//! queue, further lines are dropped and counted.

mod record;
mod worker;

pub use record::Record;

use crate::base::clock::Clock;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::time::Duration;
use worker::{Message, Running, Shared};

/// How long a stop waits for the last lines.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to; made with mode 0640 if absent.
    File(PathBuf),
    /// Nowhere: lines need not even be made, see [`AccessLog::enabled`].
    Off,
}

/// A handle to the access log; clones feed the same writer.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: Option<SyncSender<Message>>,
    shared: Arc<Shared>,
}

/// Ends the writer: when dropped, what is queued is written first.
#[derive(Debug)]
pub struct Writer {
    log: AccessLog,
    running: Option<Running>,
}

impl AccessLog {
    /// Opens the target and starts the writer. `buffer_lines` (at least 1) are held when the
    /// writer is slow; the clock paces warnings. Fails if the file cannot be opened or the
    /// thread not started.
    pub fn start(
        target: Target,
        buffer_lines: usize,
        clock: Clock,
    ) -> io::Result<(AccessLog, Writer)> {
        let shared = Arc::new(Shared::default());
        let Some(file) = worker::open(&target)? else {
            let log = AccessLog {
                queue: None,
                shared,
            };
            let writer = Writer {
                log: log.clone(),
                running: None,
            };
            return Ok((log, writer));
        };
        let capacity = buffer_lines.max(1);
        let (queue, running) = worker::spawn(target, file, capacity, &shared, clock)?;
        let log = AccessLog {
            queue: Some(queue),
            shared,
        };
        let writer = Writer {
            log: log.clone(),
            running: Some(running),
        };
        Ok((log, writer))
    }

    /// Whether anything is written; if not, lines need not be made.
    pub fn enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues the line of `record`. Never waits. False if the line was dropped.
    pub fn record(&self, record: &Record<'_>) -> bool {
        if !self.enabled() {
            return true;
        }
        let mut line = Vec::new();
        record.write_json(&mut line);
        self.submit(line)
    }

    /// Queues a whole line, its line feed included. Never waits. False if the line was dropped,
    /// because the queue is full or the writer has ended.
    pub fn submit(&self, line: Vec<u8>) -> bool {
        let Some(queue) = &self.queue else {
            return true;
        };
        let queued = queue.try_send(Message::Line(line)).is_ok();
        if !queued {
            self.shared.dropped.fetch_add(1, Relaxed);
        }
        queued
    }

    /// Asks the writer to open its file anew, after the old one was moved away. Returns at once;
    /// if the file cannot be opened the old one stays in use.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
        self.wake();
    }

    /// Lines dropped so far because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Lines lost so far because writing failed.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Relaxed)
    }

    /// A full queue needs no wake-up: the writer looks at the flags before its next write.
    fn wake(&self) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Message::Wake);
        }
    }
}

impl Writer {
    /// Writes what is queued and ends the writer, waiting for at most five seconds; a writer that
    /// hangs in a write is then left behind. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        self.log.shared.stop.store(true, Relaxed);
        self.log.wake();
        // Nothing is ever sent: the channel closes when the thread lets go of its end.
        if running.finished.recv_timeout(STOP_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            log::warn!("access log: the last lines could not be written in time");
        } else if running.thread.join().is_err() {
            log::error!("access log: the writer ended by a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::thread;

    fn line(n: usize) -> Vec<u8> {
        format!("line {n}\n").into_bytes()
    }

    fn start(target: Target, lines: usize) -> (AccessLog, Writer) {
        AccessLog::start(target, lines, Clock::system()).expect("start")
    }

    #[test]
    fn all_lines_are_in_the_file_after_a_stop() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("access.log");
        fs::write(&path, "older\n").expect("write");
        let (log, writer) = start(Target::File(path.clone()), 4096);
        let threads: Vec<_> = (0..4)
            .map(|part| {
                let log = log.clone();
                thread::spawn(move || (0..500).all(|n| log.submit(line(part * 500 + n))))
            })
            .collect();
        for thread in threads {
            assert!(thread.join().expect("no panic"), "nothing dropped");
        }
        writer.stop();
        let text = fs::read_to_string(&path).expect("read");
        let mut got: Vec<_> = text.lines().map(str::to_owned).collect();
        got.sort_by_key(|line| {
            line.trim_start_matches("line ")
                .parse::<usize>()
                .unwrap_or(0)
        });
        assert_eq!(got.len(), 2001);
        assert!(got.contains(&"older".to_owned()) && got.contains(&"line 1999".to_owned()));
        assert!(!log.submit(line(0)), "the writer has ended");
        assert_eq!((log.dropped(), log.failed()), (1, 0));
    }

    #[test]
    fn a_full_queue_drops_and_counts_without_waiting() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("fifo");
        // Opened for both so that the writer can open it; read only at the end.
        let reader = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .expect("open");
        let (log, writer) = start(Target::File(path), 64);
        let long = || {
            vec![b'x'; 9_999]
                .into_iter()
                .chain([b'\n'])
                .collect::<Vec<u8>>()
        };
        let taken = (0..1000).filter(|_| log.submit(long())).count();
        // The pipe holds 64 KiB, the batch about as much, the queue 64 lines.
        assert!((64..200).contains(&taken), "{taken} taken");
        assert_eq!(log.dropped(), 1000 - taken as u64);
        let mut reader = reader;
        let drain = thread::spawn(move || {
            let mut chunk = vec![0; 65_536];
            let mut lines = 0;
            while lines < taken {
                let n = io::Read::read(&mut reader, &mut chunk).expect("read");
                lines += memchr::memchr_iter(b'\n', &chunk[..n]).count();
            }
        });
        writer.stop();
        drain.join().expect("every taken line came out");
    }

    #[test]
    fn a_moved_file_is_opened_anew() {
        let dir = tempfile::tempdir().expect("dir");
        let (path, old) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
        let (log, writer) = start(Target::File(path.clone()), 64);
        assert!(log.submit(line(1)));
        let text = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
        while text(&path).is_empty() {
            thread::yield_now();
        }
        fs::rename(&path, &old).expect("rename");
        log.reopen();
        assert!(log.submit(line(2)));
        writer.stop();
        assert_eq!(text(&old), "line 1\n");
        assert_eq!(text(&path), "line 2\n");
    }

    #[test]
    fn write_errors_are_survived_and_counted() {
        let (log, writer) = start(Target::File("/dev/full".into()), 64);
        for n in 0..10 {
            assert!(log.submit(line(n)));
        }
        writer.stop();
        assert_eq!((log.dropped(), log.failed()), (0, 10));
        assert!(
            AccessLog::start(
                Target::File("/no/such/dir/a.log".into()),
                64,
                Clock::system()
            )
            .is_err()
        );
    }

    #[test]
    fn off_takes_everything_and_keeps_nothing() {
        let (log, writer) = start(Target::Off, 64);
        assert!(!log.enabled());
        assert!(log.submit(line(1)));
        log.reopen();
        writer.stop();
        assert_eq!(log.dropped(), 0);
    }
}
