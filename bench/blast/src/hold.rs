//! `blast hold`: connections that have asked once and stay, so that what each one costs can be weighed.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Poll};

use crate::load::Requests;
use crate::options::Options;
use crate::origin::{self, Origin};
use crate::transport::{Link, Target};
use crate::{Result, say};

/// Connections that are opened at a time.
const AT_ONCE: usize = 64;

struct Hold {
    links: Vec<Link>,
    answered: usize,
    buffer: Vec<u8>,
}

impl Hold {
    /// What happened to a connection; it must not end.
    fn handle(&mut self, at: usize, readable: bool) -> Result<()> {
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        link.flush()?;
        if readable {
            let got = link.receive(&mut self.buffer);
            let status = got.map_err(|error| format!("connection {at} ended: {error}"))?;
            match status {
                Some(200) => self.answered += 1,
                Some(other) => return Err(format!("connection {at} is answered {other}").into()),
                None => (),
            }
        }
        Ok(())
    }
}

/// `blast hold`: says `ready` when all are open, and goes on until its input ends.
pub fn run(options: &Options) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut origin = Origin::listen(&poll, options.all("origin"), Duration::ZERO)?;
    let target = Target::new(options.need("to")?, options.has("tls"))?;
    let mut requests = Requests::read(&options.need::<String>("requests")?)?;
    let wanted: usize = options.need("connections")?;
    let hang = options.has("in-flight");
    let mut hold = Hold {
        links: Vec::new(),
        answered: 0,
        buffer: vec![0; 1 << 17],
    };
    let over = until_input_ends();
    let (mut events, mut ready) = (Events::with_capacity(1024), false);
    while !over.load(Ordering::Relaxed) {
        let there = if hang { origin.hanging } else { hold.answered };
        while hold.links.len() < wanted && hold.links.len() < there + AT_ONCE {
            let mut link = Link::open(&target, &poll, hold.links.len())?;
            link.send(requests.take())?;
            hold.links.push(link);
        }
        if there >= wanted && !ready {
            say("ready");
            ready = true;
        }
        match poll.poll(&mut events, Some(Duration::from_millis(20))) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(error.into());
            }
            _ => (),
        }
        for event in &events {
            if event.token().0 >= origin::FIRST {
                origin.handle(&poll, event)?;
            } else {
                hold.handle(event.token().0, event.is_readable())?;
            }
        }
    }
    Ok(())
}

/// Turns true when whoever started us closes our input.
fn until_input_ends() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    over
}
