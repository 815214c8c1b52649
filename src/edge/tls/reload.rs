//! Files that change while they are served: seen within a second or two, or read at once when asked.
//! What cannot be used changes nothing.

use super::Tls;
use super::book::{Book, Digest};
use super::certificate::{Certificate, DAY_S};
use super::choose::{self, Ready, Table};
use super::client::Authorities;
use super::context;
use crate::config;
use crate::identity::rfc3339;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The listener.
    pub listener: Arc<str>,
    /// Certificates, and sets of client authorities, that are served anew.
    pub changed: usize,
    /// Those that are as they were.
    pub unchanged: usize,
    /// Those that could not be used: what they held before stays in use.
    pub failed: usize,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            listener,
            changed,
            unchanged,
            failed,
        } = self;
        write!(
            f,
            "listener {listener}: certificates: {changed} changed, {unchanged} as before, {failed} not usable"
        )
    }
}

/// Looks at the files of every listener once a second, until it is dropped.
pub async fn watch(all: Vec<Arc<Tls>>) {
    loop {
        tokio::time::sleep(EVERY).await;
        for tls in &all {
            let tls = tls.clone();
            // Files may be on a disk that is slow or gone.
            let _ = tokio::task::spawn_blocking(move || tls.poll()).await;
        }
    }
}

/// Which files are to be read.
struct Due {
    pairs: Vec<bool>,
    ca: bool,
    /// Somebody asked: whatever fails is told at once.
    asked: bool,
}

/// What was read and differs from what is served.
#[derive(Default)]
struct News {
    pairs: BTreeMap<usize, (Arc<Certificate>, Digest)>,
    ca: Option<(Authorities, Digest)>,
    failed: usize,
}

impl Tls {
    /// Reads every file and takes up what changed and can be used. Blocks while it reads.
    pub fn reload(&self) -> Reloaded {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let due = Due {
            pairs: vec![true; book.pairs.len()],
            ca: true,
            asked: true,
        };
        self.take_up(&mut book, &due)
    }

    /// Looks at the files and takes up what changed and can be used; warns once a day of what ends.
    /// Blocks while it reads.
    pub fn poll(&self) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = book.pairs.iter_mut();
        let pairs = pairs.map(|p| p.watch.due(&[&p.cert, &p.key])).collect();
        let ca = book.ca.as_mut();
        let ca = ca.is_some_and(|ca| ca.watch.due(&[&ca.file]));
        let due = Due {
            pairs,
            ca,
            asked: false,
        };
        if due.ca || due.pairs.contains(&true) {
            self.take_up(&mut book, &due);
        }
        self.warn_daily(&mut book);
    }

    fn take_up(&self, book: &mut Book, due: &Due) -> Reloaded {
        let mut news = self.read(book, due);
        self.drop_clashes(book, &mut news, due.asked);
        let mut changed = news.pairs.len() + usize::from(news.ca.is_some());
        if changed > 0 && !self.replace(book, &news.pairs, news.ca) {
            news.failed += std::mem::take(&mut changed);
        }
        let files = book.pairs.len() + usize::from(book.ca.is_some());
        Reloaded {
            listener: self.policy.listener.clone(),
            changed,
            unchanged: files.saturating_sub(changed + news.failed),
            failed: news.failed,
        }
    }

    fn read(&self, book: &mut Book, due: &Due) -> News {
        let mut news = News::default();
        if let Some(ca) = book.ca.as_mut().filter(|_| due.ca) {
            match ca.reread() {
                Ok(found) => {
                    ca.watch.succeeded();
                    news.ca = found;
                }
                Err(why) => {
                    news.failed += 1;
                    self.tell(ca.watch.failed(&why, due.asked), &why);
                }
            }
        }
        for (at, pair) in book.pairs.iter_mut().enumerate() {
            if !due.pairs.get(at).copied().unwrap_or_default() {
                continue;
            }
            match pair.reread() {
                Ok(found) => {
                    pair.watch.succeeded();
                    news.pairs.extend(found.map(|found| (at, found)));
                }
                Err(why) => {
                    news.failed += 1;
                    self.tell(pair.watch.failed(&why, due.asked), &why);
                }
            }
        }
        news
    }

    /// Leaves out new certificates that cannot stand beside the others.
    fn drop_clashes(&self, book: &mut Book, news: &mut News, asked: bool) {
        loop {
            let all = book.pairs.iter().enumerate();
            let all = all.map(|(at, pair)| match news.pairs.get(&at) {
                Some((certificate, _)) => &**certificate,
                None => &*pair.ready.certificate,
            });
            let Some(clash) = choose::clash(all) else {
                return;
            };
            // What is served is free of clashes: one of the two is new.
            let (first, second) = clash.places;
            let at = if news.pairs.remove(&second).is_some() {
                second
            } else {
                news.pairs.remove(&first);
                first
            };
            let pair = &mut book.pairs[at];
            let why = format!(
                "{}: now serves `{}`, as another with the same kind of key does",
                pair.cert.0.display(),
                clash.name
            );
            news.failed += 1;
            self.tell(pair.watch.failed(&why, asked), &why);
        }
    }

    /// Serves what is new, all of it or nothing; true if it does. Handshakes under way end with what
    /// they began with.
    fn replace(
        &self,
        book: &mut Book,
        pairs: &BTreeMap<usize, (Arc<Certificate>, Digest)>,
        ca: Option<(Authorities, Digest)>,
    ) -> bool {
        let all_anew = ca.is_some();
        let trusted = match (&ca, &book.ca) {
            (Some((new, _)), _) => Some(new),
            (None, old) => old.as_ref().map(|old| &old.trusted),
        };
        let mut made = Vec::new();
        for (at, pair) in book.pairs.iter().enumerate() {
            let new = pairs.get(&at);
            if new.is_none() && !all_anew {
                continue;
            }
            let certificate = new.map_or(&pair.ready.certificate, |(new, _)| new).clone();
            match context::serving(&self.policy, trusted, &certificate) {
                Ok(context) => {
                    let ready = Ready {
                        certificate,
                        context,
                    };
                    made.push((at, Arc::new(ready), new.map(|(_, digest)| *digest)));
                }
                Err(why) => {
                    self.tell(true, &format!("{}: {why}", pair.cert.0.display()));
                    return false;
                }
            }
        }
        for (at, ready, digest) in made {
            book.pairs[at].serve(ready, digest);
        }
        if let (Some((trusted, digest)), Some(old)) = (ca, &mut book.ca) {
            old.trust(trusted, digest);
            self.told(&old.file.0.display(), old.trusted.not_after);
        }
        let table = Table::new(&book.ready(), self.refuse_unknown);
        self.table.store(Arc::new(table));
        let now_s = self.clock.now().unix_s();
        for at in pairs.keys() {
            let pair = &book.pairs[*at];
            let certificate = &pair.ready.certificate;
            self.told(&pair.cert.0.display(), certificate.not_after);
            for warning in certificate.warnings(now_s) {
                log::warn!("{}", config::Fault::new(&pair.cert.place, warning));
            }
        }
        self.metrics.certificates(book.series());
        true
    }

    /// Tells of what was taken up.
    fn told(&self, what: &dyn fmt::Display, not_after: u64) {
        self.metrics.reloaded(true);
        let (listener, end) = (&self.policy.listener, rfc3339::format(not_after));
        log::info!("listener {listener}: {what} has changed and is in use now; it ends at {end}");
    }

    /// Tells of what could not be.
    fn tell(&self, tell: bool, why: &str) {
        if tell {
            self.metrics.reloaded(false);
            let listener = &self.policy.listener;
            log::error!("listener {listener}: {why}; what was in use before stays in use");
        }
    }

    fn warn_daily(&self, book: &mut Book) {
        let now = self.clock.now();
        if now.steady_ms < book.warned_ms.saturating_add(DAY_S * 1000) {
            return;
        }
        book.warned_ms = now.steady_ms;
        for warning in book.warnings(now) {
            log::warn!("{warning}");
        }
    }

    /// Shows in the metrics what is served.
    pub(super) fn show(&self) {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.certificates(book.series());
    }
}
