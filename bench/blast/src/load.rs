//! `blast load`: a closed loop over kept or new connections, or an open loop.
//!
//! Prints `begin` and `end` around what is measured, so that whoever reads along can look at the gateway then,
//! and last one line of JSON.

use std::io::BufRead;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use serde_json::json;

use crate::open::Schedule;
use crate::options::Options;
use crate::origin::{self, Origin};
use crate::tally::Tally;
use crate::transport::{Link, Target};
use crate::{Result, hold, http, say};

/// Broken connections in a row without an answer between, after which nothing good is to be expected.
const HOPELESS: u64 = 1000;

/// Requests, taken in turn.
pub struct Requests {
    all: Vec<Box<[u8]>>,
    next: usize,
    /// How often the first one was taken again.
    pub wrapped: u64,
}

impl Requests {
    /// Reads a file of requests, one after the other, none with a body.
    pub fn read(path: &str) -> Result<Requests> {
        let text = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let mut rest = text.as_slice();
        let mut all = Vec::new();
        while let Some(end) = http::head_end(rest) {
            all.push(rest[..end].into());
            rest = &rest[end..];
        }
        if all.is_empty() || !rest.is_empty() {
            return Err(format!("{path}: not requests, each with an empty line at its end").into());
        }
        Ok(Requests {
            all,
            next: 0,
            wrapped: 0,
        })
    }

    /// The next one.
    pub fn take(&mut self) -> &[u8] {
        if self.next == self.all.len() {
            self.next = 0;
            self.wrapped += 1;
        }
        self.next += 1;
        &self.all[self.next - 1]
    }
}

struct Slot {
    link: Link,
    /// Since when its request is due; none if it has none.
    due: Option<Instant>,
}

struct Load {
    poll: Poll,
    target: Target,
    requests: Requests,
    slots: Vec<Slot>,
    anew: bool,
    schedule: Option<Schedule>,
    /// Requests that may still be sent.
    left: u64,
    tally: Tally,
    hopeless: u64,
    buffer: Vec<u8>,
}

impl Load {
    /// The request of a connection is due; sends it.
    fn send(&mut self, at: usize, due: Instant) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let slot = &mut self.slots[at];
        slot.due = Some(due);
        if slot.link.send(self.requests.take()).is_err() {
            self.broken(at)?;
        }
        Ok(())
    }

    /// Something happened to a connection.
    fn handle(&mut self, at: usize, readable: bool, ended: bool) -> Result<()> {
        let slot = &mut self.slots[at];
        if slot.link.flush().is_err() {
            return self.broken(at);
        }
        if !readable {
            return Ok(());
        }
        match slot.link.receive(&mut self.buffer) {
            Ok(None) => Ok(()),
            Ok(Some(status)) => self.answered(at, status, ended),
            Err(_) => self.broken(at),
        }
    }

    fn answered(&mut self, at: usize, status: u16, ended: bool) -> Result<()> {
        let slot = &mut self.slots[at];
        if let Some(due) = slot.due.take() {
            self.tally.add(status, due);
            self.hopeless = 0;
        }
        let closes = ended || slot.link.closes();
        if closes || self.anew {
            self.tally.reconnects += u64::from(!self.anew);
            self.reopen(at)?;
        }
        self.go_on(at)
    }

    /// A connection has nothing to do.
    fn go_on(&mut self, at: usize) -> Result<()> {
        match &mut self.schedule {
            Some(schedule) => schedule.free(at),
            None => self.send(at, Instant::now())?,
        }
        Ok(())
    }

    fn reopen(&mut self, at: usize) -> Result<()> {
        let link = Link::open(&self.target, &self.poll, at)?;
        std::mem::replace(&mut self.slots[at].link, link).close();
        Ok(())
    }

    /// A connection broke: an error if it had a request.
    fn broken(&mut self, at: usize) -> Result<()> {
        let asked = self.slots[at].due.take().is_some();
        self.reopen(at)?;
        if !asked {
            self.tally.reconnects += 1;
            return Ok(());
        }
        self.tally.errors += 1;
        self.hopeless += 1;
        if self.hopeless > HOPELESS {
            return Err("connections break, all of them".into());
        }
        self.go_on(at)
    }

    /// Sends what is due in an open loop.
    fn due(&mut self) -> Result<()> {
        while let Some((at, due)) = self.schedule.as_mut().and_then(Schedule::take) {
            self.send(at, due)?;
        }
        Ok(())
    }
}

/// How long it goes on.
struct Term {
    warm_up: Option<Instant>,
    seconds: Option<Duration>,
    end: Option<Instant>,
    count: u64,
}

impl Term {
    /// Whether all is done; begins to measure when the time has come.
    fn over(&mut self, load: &mut Load) -> bool {
        let now = Instant::now();
        if self.warm_up.is_some_and(|until| now >= until) {
            self.warm_up = None;
            say("begin");
            load.tally = Tally::begin();
            self.end = self.seconds.map(|seconds| Instant::now() + seconds);
        }
        match self.end {
            Some(end) => now >= end,
            None => load.tally.answers() + load.tally.errors >= self.count,
        }
    }
}

/// `blast load`.
pub fn run(options: &Options) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut origin = Origin::listen(&poll, options.all("origin"), Duration::ZERO)?;
    let target = Target::new(options.need("to")?, options.has("tls"))?;
    if options.has("wait") {
        wait(&mut poll, &mut origin)?;
    }
    let mut slots = Vec::new();
    for at in 0..options.or("connections", 64)? {
        let link = Link::open(&target, &poll, at)?;
        slots.push(Slot { link, due: None });
    }
    let seconds: Option<f64> = options.maybe("seconds")?;
    let warm_up = Duration::from_secs_f64(options.or("warm-up", 0.0)?);
    let mut load = Load {
        poll,
        target,
        requests: Requests::read(&options.need::<String>("requests")?)?,
        slots,
        anew: options.has("new-connections"),
        schedule: options.maybe("rate")?.map(Schedule::new),
        left: u64::MAX,
        tally: Tally::begin(),
        hopeless: 0,
        buffer: vec![0; 1 << 18],
    };
    let mut term = Term {
        warm_up: Some(Instant::now() + warm_up),
        seconds: seconds.map(Duration::from_secs_f64),
        end: None,
        count: u64::MAX,
    };
    if seconds.is_none() {
        (load.left, term.count) = (options.need("count")?, options.need("count")?);
    }
    turn(&mut load, &mut origin, &mut term)?;
    say("end");
    let mut told = load.tally.told();
    told["wrapped"] = json!(load.requests.wrapped);
    say(&told.to_string());
    Ok(())
}

/// Says `listening` and is only the origin until a line comes in: by then the gateway is there.
fn wait(poll: &mut Poll, origin: &mut Origin) -> Result<()> {
    let go = hold::until_input(|input| drop(input.read_line(&mut String::new())));
    let mut events = Events::with_capacity(64);
    say("listening");
    while !go.load(Ordering::Relaxed) {
        let waited = poll.poll(&mut events, Some(Duration::from_millis(1)));
        waited.or_else(origin::interrupted)?;
        for event in &events {
            origin.handle(poll, event)?;
        }
    }
    Ok(())
}

/// The loop itself.
fn turn(load: &mut Load, origin: &mut Origin, term: &mut Term) -> Result<()> {
    let mut events = Events::with_capacity(1024);
    term.over(load);
    for at in 0..load.slots.len() {
        load.go_on(at)?;
    }
    while !term.over(load) {
        load.due()?;
        let polled = load.poll.poll(&mut events, Some(Duration::ZERO));
        polled.or_else(origin::interrupted)?;
        for event in &events {
            if event.token().0 >= origin::FIRST {
                origin.handle(&load.poll, event)?;
            } else {
                load.handle(event.token().0, event.is_readable(), event.is_read_closed())?;
            }
        }
    }
    Ok(())
}
