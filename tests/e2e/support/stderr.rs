//! Everything the process logs for its operator while tests run, kept for those that look for what
//! must not be in it.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::sync::{Mutex, Once};

struct Keeper;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Log for Keeper {
    /// What the program shows by default, and of our own what it shows when asked for more.
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        let most = match of.target().split(['_', ':']).next() {
            Some("pingora") => Level::Error,
            Some("tollgate") => Level::Trace,
            _ => Level::Info,
        };
        of.level() <= most
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        LINES.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// Begins to keep what is logged; the first call counts.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Keeper).expect("no other logger");
        log::set_max_level(LevelFilter::Trace);
    });
}

/// All lines so far, of every test in this process.
pub fn lines() -> Vec<String> {
    LINES.lock().unwrap().clone()
}
