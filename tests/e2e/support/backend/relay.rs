//! A way to a backend that can be made to swallow everything, as a broken network does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// The way. It ends with the process.
pub struct Relay {
    address: SocketAddr,
    /// Connections from this number on are carried; those before lead nowhere.
    first: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Relay {
    pub fn to(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("an address");
        let (first, accepted) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (from, count) = (first.clone(), accepted.clone());
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let number = count.fetch_add(1, SeqCst);
                let Ok(far) = TcpStream::connect(target) else {
                    continue;
                };
                let over = Arc::new(AtomicBool::new(false));
                for (here, there) in [(&near, &far), (&far, &near)] {
                    let (here, there) = (here.try_clone(), there.try_clone());
                    let (from, over) = (from.clone(), over.clone());
                    thread::spawn(move || {
                        if let (Ok(here), Ok(there)) = (here, there) {
                            carry(&here, &there, number, &from, &over);
                        }
                    });
                }
            }
        });
        Relay {
            address,
            first,
            accepted,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made.
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// From now on swallows what is sent on the connections that are open; new ones are carried.
    pub fn lose(&self) {
        self.first.store(self.accepted(), SeqCst);
    }
}

fn carry(
    mut here: &TcpStream,
    mut there: &TcpStream,
    number: usize,
    first: &AtomicUsize,
    over: &AtomicBool,
) {
    let _ = here.set_read_timeout(Some(Duration::from_millis(50)));
    let mut part = [0; 16 * 1024];
    while !over.load(SeqCst) {
        let read = here.read(&mut part);
        let lost = number < first.load(SeqCst);
        match read {
            Ok(n) if n > 0 => {
                if !lost && there.write_all(&part[..n]).is_err() {
                    break;
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
            _ if lost => return,
            _ => break,
        }
    }
    over.store(true, SeqCst);
    let _ = here.shutdown(Shutdown::Both);
    let _ = there.shutdown(Shutdown::Both);
}
