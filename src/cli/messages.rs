//! Messages for operators: on standard error; as a service of systemd straight to its journal, with their
//! severity and where they come from as fields. `RUST_LOG` changes how many.

use env_logger::{Builder, Env, Logger};
use log::{Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// Begins to tell.
pub fn start() {
    let env = Env::default().default_filter_or("info,pingora=error");
    let mut builder = Builder::from_env(env);
    if let Some(journal) = connected_to_journal().then(JournalLog::new)
        && let Ok(journal) = journal
    {
        let journal = journal.with_extra_fields([("VERSION", env!("CARGO_PKG_VERSION"))]);
        let wanted = builder.build();
        log::set_max_level(wanted.filter());
        if log::set_boxed_logger(Box::new(Journal { wanted, journal })).is_ok() {
            return;
        }
    }
    builder.format_timestamp_millis().init();
}

/// The journal, told what is wanted.
struct Journal {
    wanted: Logger,
    journal: JournalLog,
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wanted.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.wanted.matches(record) {
            self.journal.log(record);
        }
    }

    fn flush(&self) {}
}
