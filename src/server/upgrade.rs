//! An upgrade as the process that serves sees it: it starts the new one, hands over sockets and counts,
//! and stops accepting once the new one accepts. Until then any fault leaves everything as it was.
//!
//! 1. The new process is started with one end of a nameless pair of sockets as its standard input, and
//!    is offered every listener's socket.
//! 2. It reads its config and gets ready up to accepting, or says what is wrong.
//! 3. It is sent the counts of all exact limits; this process then asks it instead of counting
//!    ([`asks`]), and sends what was counted meanwhile.
//! 4. It accepts, on the same sockets, and says so. This process stops, and ends once whatever it has is
//!    done.

mod asks;
mod child;
mod succeed;
mod tables;
mod wire;

pub use asks::Answering;
pub use child::{Launch, launch};
pub use succeed::Succession;

use super::Server;
use super::drain::granted;
use super::notify;
use crate::base::clock::Elsewhere;
use crate::edge::accept::Socket;
use crate::limit;
use crate::limit::exact::FORMAT;
use asks::Asks;
use child::Launched;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tables::{Exact, Sent, Tables};
use wire::{Kind, Line, PROTOCOL, Waiting};

/// How long the new process may take from the last counts to its first accept.
const LAST_STEP: Duration = Duration::from_secs(10);

/// How often whoever waits looks around.
const LOOK_MS: u64 = 50;

/// Cells in a message.
const CELLS: usize = 65_536;

/// What is offered to the new process.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    protocol: u32,
    version: String,
    pid: u32,
    clock: Elsewhere,
    secret: (u64, u64),
    cells: u32,
    /// In the order in which the sockets follow; behind them one for questions.
    sockets: Vec<Offered>,
    counts: Vec<Table>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The listener's name.
    pub name: String,
    /// Its address, as the config has it.
    pub address: String,
    /// Whether it is the admin port's.
    pub admin: bool,
}

/// An exact limit's counts.
#[derive(Debug, Serialize, Deserialize)]
struct Table {
    limit: String,
    buckets: u64,
}

/// What a process that is ready says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    pid: u32,
    /// Where its admin port is.
    admin: Option<String>,
}

/// Why the new process does not serve.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeFault {
    /// It could not be run at all.
    #[error("{program} cannot be run: {why}")]
    Run {
        /// Its path.
        program: String,
        /// The system's word.
        why: io::Error,
    },
    /// It said so, or how it ended.
    #[error("{0}")]
    New(String),
    /// It was neither ready nor gone when the time was over.
    #[error("the new process was not ready within {0:?} and was ended")]
    Hangs(Duration),
    /// This process is told to end.
    #[error("this process is ending")]
    Ending,
    /// Something between the two failed.
    #[error("the hand-over failed: {0}")]
    Line(#[from] io::Error),
}

impl Server {
    /// Has another process take this one's place; its number. `ending` tells it to give up. Nothing may
    /// be reloaded meanwhile. Behind it this process accepts nothing any more and is to be drained.
    ///
    /// # Errors
    /// See [`UpgradeFault`]; this process serves on, and nothing of the new one is left.
    pub fn upgrade(
        &self,
        launch: &Launch,
        patience: Duration,
        ending: &AtomicBool,
    ) -> Result<u32, UpgradeFault> {
        let (ours, theirs) = UnixStream::pair()?;
        let (asks, answers) = UnixStream::pair()?;
        let (line, asks) = (Line::new(ours)?, Asks::new(asks)?);
        let mut launched = Launched::start(launch, theirs).map_err(|why| UpgradeFault::Run {
            program: launch.program.display().to_string(),
            why,
        })?;
        let tables = self.tables();
        let gone = self.offer(&line, &answers, &tables);
        // Held here it would seem to live when the new process is gone.
        drop(answers);
        let ready = wait(&line, &mut launched, Kind::Ready, patience, ending);
        // What it said, or how it ended, tells more than that it is gone.
        let ready = ready.and_then(|body| gone.map_err(UpgradeFault::Line).map(|()| body))?;
        let ready: Ready = serde_json::from_slice(&ready).map_err(io::Error::from)?;
        let given = self.give(&line, &asks, &tables);
        let serves = given
            .map_err(UpgradeFault::Line)
            .and_then(|()| wait(&line, &mut launched, Kind::Serving, LAST_STEP, ending));
        if let Err(fault) = serves {
            for (_, counts) in &tables {
                counts.take_back();
            }
            return Err(fault);
        }
        // From here on it is the child of the service manager, which hears of its end.
        launched.keep();
        // While this is still the main process of the service.
        notify::tell(&format!("MAINPID={}", ready.pid));
        self.step_aside(ready.admin.as_deref());
        // It serves, whether it hears this or not.
        let _ = line.send(Kind::Yours, b"");
        Ok(ready.pid)
    }

    fn tables(&self) -> Tables {
        let snapshot = self.shared.snapshot.load();
        let counts = snapshot.kept.counts.iter();
        counts
            .filter_map(|(name, counts)| Some((name.clone(), Exact::of(counts)?)))
            .collect()
    }

    fn offer(&self, line: &Line, answers: &UnixStream, tables: &Tables) -> io::Result<()> {
        let running = self.running();
        let doors = running.doors.iter().map(|door| {
            let offered = Offered {
                name: door.entrance.listener.name.to_string(),
                address: door.wanted.to_string(),
                admin: false,
            };
            (offered, fd(&door.socket))
        });
        let admin = self.admin.as_ref().map(|admin| {
            let offered = Offered {
                name: "admin".to_owned(),
                address: admin.wanted.clone(),
                admin: true,
            };
            (offered, fd(&admin.socket))
        });
        let (sockets, mut fds): (Vec<_>, Vec<_>) = doors.chain(admin).unzip();
        fds.push(answers.as_fd());
        let counts = tables.iter().map(|(limit, counts)| Table {
            limit: limit.clone(),
            buckets: counts.buckets(),
        });
        let offer = Offer {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            clock: self.shared.clock.elsewhere(),
            secret: limit::secret(),
            cells: FORMAT,
            sockets,
            counts: counts.collect(),
        };
        line.send(Kind::Offer, &serde_json::to_vec(&offer)?)?;
        line.send_sockets(&fds)
    }

    /// Sends all counts, and from some moment between decides nothing any more.
    fn give(&self, line: &Line, asks: &Arc<Asks>, tables: &Tables) -> io::Result<()> {
        let mut before = Vec::new();
        for (n, (_, counts)) in (0..).zip(tables) {
            before.push(self.send(line, n, counts, None)?);
        }
        for (n, (_, counts)) in (0..).zip(tables) {
            counts.give(asks.heir(n));
        }
        self.settle(asks)?;
        for (n, ((_, counts), before)) in (0..).zip(tables.iter().zip(&before)) {
            self.send(line, n, counts, Some(before))?;
        }
        line.send(Kind::Go, b"")
    }

    fn send(
        &self,
        line: &Line,
        limit: u32,
        counts: &Exact,
        before: Option<&Sent>,
    ) -> io::Result<Sent> {
        let now_ms = self.shared.clock.now().steady_ms;
        counts.send(now_ms, before, |message| {
            line.send(Kind::Counts, &[&limit.to_le_bytes(), message].concat())
        })
    }

    /// Waits until nobody is at a decision that began before the tables were given away: it may have
    /// been counted there. Whoever asks already waits for this process's last word.
    fn settle(&self, asks: &Asks) -> io::Result<()> {
        let edge = self.edge.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        self.background
            .block_on(edge.settle(|thread| asks.holds(thread)));
        while self.answering.decides(asks) {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Accepts nothing any more; what waits to be accepted is the new process's. `admin`: where that has
    /// its admin port.
    fn step_aside(&self, admin: Option<&str>) {
        self.shared.ready.store(false, Relaxed);
        let mut running = self.running();
        let (_, patience) = granted(&running.conf.server.drain);
        let now = self.shared.clock.now();
        let doors = std::mem::take(&mut running.doors);
        running.leaving.retain(|listener| listener.active() > 0);
        let leaving = doors.iter().map(|door| door.entrance.listener.clone());
        running.leaving.extend(leaving);
        running.handed_over = true;
        drop(running);
        self.background.block_on(async {
            if let Some(edge) = &self.edge {
                for door in &doors {
                    edge.leave(&door.entrance.listener, now, patience).await;
                }
            }
            if let (Some(control), Some(own)) = (&self.control, &self.admin) {
                control.leave(&own.listener, now, patience).await;
            }
        });
        if let Some(own) = &self.admin
            && admin == Some(&*own.wanted)
        {
            own.path_is_anothers.store(true, Relaxed);
        }
    }
}

fn fd(socket: &Socket) -> BorrowedFd<'_> {
    match socket {
        Socket::Tcp(tcp) => tcp.as_fd(),
        Socket::Unix(unix) => unix.as_fd(),
    }
}

/// Waits for what the new process says next.
fn wait(
    line: &Line,
    launched: &mut Launched,
    want: Kind,
    patience: Duration,
    ending: &AtomicBool,
) -> Result<Vec<u8>, UpgradeFault> {
    let looks = patience.as_millis() / u128::from(LOOK_MS);
    for _ in 0..=looks {
        // Looked at first: what it said before it ended is still there afterwards.
        let ended = launched.ended();
        match line.wait(LOOK_MS)? {
            Waiting::Message => {}
            Waiting::Nothing if ended.is_none() && ending.load(Relaxed) => {
                return Err(UpgradeFault::Ending);
            }
            Waiting::Nothing if ended.is_none() => continue,
            Waiting::Nothing | Waiting::End => {
                let silent = || "the new process closed its end of the line".to_owned();
                let ended = ended.or_else(|| launched.soon_ended());
                return Err(UpgradeFault::New(ended.unwrap_or_else(silent)));
            }
        }
        let (kind, body) = line.receive()?;
        if kind == want {
            return Ok(body);
        }
        return Err(UpgradeFault::New(match kind {
            Kind::Refused => String::from_utf8_lossy(&body).into_owned(),
            other => format!("the new process said {other:?} where {want:?} was due"),
        }));
    }
    Err(UpgradeFault::Hangs(patience))
}
