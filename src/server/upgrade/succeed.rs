//! An upgrade as the new process sees it: what it is offered, what it says, and when it begins.

use super::asks;
use super::wire::{Kind, Line, PROTOCOL, Waiting};
use super::{Offer, Offered, Ready, Table};
use crate::base::clock::Clock;
use crate::edge::accept::Socket;
use crate::filter::rate_limit::Counts;
use crate::limit;
use crate::limit::exact::{Cell, FORMAT};
use crate::server::{Inherited, Server};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A process whose place is to be taken, at the other end of the standard input.
pub struct Succession {
    line: Line,
    answers: UnixStream,
    offer: Offer,
}

fn gone() -> io::Error {
    let why = "the process that was to be taken over is gone, or gave up";
    io::Error::new(io::ErrorKind::BrokenPipe, why)
}

impl Succession {
    /// Reads what is offered; with it the sockets.
    ///
    /// # Errors
    /// There is no process of this user at the other end, or it speaks otherwise.
    pub fn accept() -> io::Result<(Self, Inherited)> {
        let input = io::stdin();
        let stranger = |_| {
            io::Error::other("--take-over is for a running tollgate alone: see tollgate upgrade")
        };
        let peer = rustix::net::sockopt::socket_peercred(&input).map_err(stranger)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(io::Error::other(
                "the process to take over is another user's",
            ));
        }
        let line = UnixStream::from(input.as_fd().try_clone_to_owned()?);
        // Whatever else this process starts must not hold the line.
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        let line = Line::new(line)?;
        let (kind, body) = line.receive()?;
        if kind != Kind::Offer {
            return Err(io::Error::other("nothing was offered"));
        }
        let offer = Self::read(&line, &body)?;
        let mut sockets = line.receive_sockets(offer.sockets.len() + 1)?;
        let answers = sockets.pop().ok_or_else(gone)?;
        let sockets = offer.sockets.iter().cloned().zip(sockets);
        let sockets: io::Result<Vec<_>> = sockets.map(|(o, fd)| Ok((o, socket(fd)?))).collect();
        let succession = Self {
            line,
            answers: answers.into(),
            offer,
        };
        Ok((succession, Inherited(sockets?)))
    }

    fn read(line: &Line, body: &[u8]) -> io::Result<Offer> {
        // Read by itself: another protocol's offer may hold other things.
        let any: serde_json::Value = serde_json::from_slice(body)?;
        if any["protocol"] != PROTOCOL {
            let why = format!(
                "the running {} hands over by version {} of the protocol, this {} by {PROTOCOL}: \
                 restart instead",
                any["version"],
                any["protocol"],
                env!("CARGO_PKG_VERSION")
            );
            line.send(Kind::Refused, why.as_bytes())?;
            return Err(io::Error::other(why));
        }
        Ok(serde_json::from_value(any)?)
    }

    /// Goes on with the other process's time and its way to tell clients apart; to be called before
    /// anything is counted.
    pub fn clock(&self) -> Clock {
        if !limit::adopt(self.offer.secret) {
            log::warn!("upgrade: counts begin anew: this process has counted already");
        }
        Clock::after(self.offer.clock)
    }

    /// Says why this process cannot serve.
    pub fn refuse(&self, why: &str) {
        // Whoever is not there any more need not know.
        let _ = self.line.send(Kind::Refused, why.as_bytes());
    }

    /// Says that this process could serve, takes the counts over, and serves once the other process is
    /// done with them. The other one's questions are answered for as long as it lives.
    ///
    /// # Errors
    /// The other process is gone or gave up: it serves, or nobody does.
    pub fn take_over(self, server: &mut Server) -> io::Result<()> {
        let ready = Ready {
            pid: std::process::id(),
            admin: server.admin.as_ref().map(|admin| admin.wanted.clone()),
        };
        self.line.send(Kind::Ready, &serde_json::to_vec(&ready)?)?;
        let fits = self.offer.cells == FORMAT;
        if !fits {
            log::warn!("upgrade: counts begin anew: they are kept in another form now");
        }
        loop {
            if self.line.wait(1000)? == Waiting::Nothing {
                continue;
            }
            let (kind, body) = self.line.receive().map_err(|_| gone())?;
            match kind {
                Kind::Counts if fits => self.count(server, &body),
                Kind::Counts => {}
                Kind::Go => break,
                _ => return Err(io::Error::other("something else than counts came")),
            }
        }
        server.open()?;
        let names = self
            .offer
            .counts
            .into_iter()
            .map(|t| t.limit)
            .collect::<Vec<_>>();
        let (shared, answers) = (server.shared.clone(), self.answers);
        let answering = server.answering.clone();
        // Without an answer the other process decides by what it knows.
        if fits {
            let thread = std::thread::Builder::new().name("upgrade".to_owned());
            thread.spawn(move || asks::answer(answers, &names, &shared, &answering))?;
        }
        self.line.send(Kind::Serving, b"")?;
        log::info!("took over from process {}", self.offer.pid);
        // Nothing is lost if it does not come.
        let _ = self.line.receive();
        Ok(())
    }

    fn count(&self, server: &Server, body: &[u8]) {
        let Some((limit, cells)) = body.split_first_chunk::<4>() else {
            return;
        };
        let table = self.offer.counts.get(u32::from_le_bytes(*limit) as usize);
        let Some(Table { limit, buckets }) = table else {
            return;
        };
        let snapshot = server.shared.snapshot.load();
        let store = match snapshot.kept.counts.get(limit) {
            Some(Counts::Exact(store, _)) => store,
            Some(Counts::Log(logs, _)) if *buckets == 0 => return logs.put(cells),
            _ => return,
        };
        if store.buckets() != *buckets {
            log::warn!("upgrade: limit {limit}: counts begin anew: its max_keys is another now");
            return;
        }
        let (cells, _) = cells.as_chunks::<{ Cell::BYTES }>();
        for cell in cells {
            store.put(Cell::from_bytes(cell));
        }
    }
}

fn socket(fd: OwnedFd) -> io::Result<Socket> {
    let socket = socket2::Socket::from(fd);
    if socket.domain()? == socket2::Domain::UNIX {
        return Ok(Socket::Unix(OwnedFd::from(socket).into()));
    }
    Ok(Socket::Tcp(socket.into()))
}

impl Inherited {
    /// The socket of a listener, by its address; by its name too where the system chose the port.
    pub(in crate::server) fn listener(
        &self,
        name: &str,
        wanted: std::net::SocketAddr,
    ) -> Option<&Socket> {
        let address = wanted.to_string();
        self.find(|o| !o.admin && o.address == address && (wanted.port() != 0 || o.name == name))
    }

    /// The admin port's socket.
    pub(in crate::server) fn admin(&self, address: &str) -> Option<&Socket> {
        self.find(|o| o.admin && o.address == address)
    }

    fn find(&self, is: impl Fn(&Offered) -> bool) -> Option<&Socket> {
        let mut all = self.0.iter();
        all.find(|(offered, _)| is(offered))
            .map(|(_, socket)| socket)
    }
}
