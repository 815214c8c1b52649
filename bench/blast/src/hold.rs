//! `blast hold`: connections that have asked once and stay, so that what each one costs can be weighed.

use std::io::{Read, StdinLock};
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
    let over = until_input(|input| drop(input.read_to_end(&mut Vec::new())));
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
        let polled = poll.poll(&mut events, Some(Duration::from_millis(20)));
        polled.or_else(origin::interrupted)?;
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

/// Turns true when what is to be read of our input has been read.
pub fn until_input(read: impl FnOnce(&mut StdinLock<'static>) + Send + 'static) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    std::thread::spawn(move || {
        read(&mut std::io::stdin().lock());
        told.store(true, Ordering::Relaxed);
    });
    done
}
